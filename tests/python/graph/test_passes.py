"""Passes: what each brings a graph to, what it leaves alone, and that results stay the same."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from dynq.graph import Graph, Value
from dynq.ir.ops import find
from dynq.passes.axes import before
from dynq.passes.fold import _FUNCTIONS
from tests.python.references.passes import normal, ops, optimized

# ---- Dead code, identities, folding ----


def test_what_nobody_reads_goes() -> None:
    g = Graph()
    x = g.input("x", ("batch", 4))
    g.relu(g.tanh(x))
    a, b = g.split(x, [1, 3])
    g.relu(b)
    after = optimized(g, a)
    assert ops(after) == ["Split"] and len(after.nodes[0].outputs) == 1


def test_nodes_that_change_nothing_go() -> None:
    g = Graph()
    x = g.input("x", ("batch", 4))
    y = g.node("Dropout", [g.node("Identity", [x])])
    y = g.transpose(g.cast(y, "float32"), [0, 1])
    y = g.node("Concat", [(y * 1.0) + 0.0], axis=0)
    after = optimized(g, y, g.relu(y))
    assert ops(after) == ["Relu"] and after.outputs[0][1] is after.inputs[0]


def test_a_cast_to_another_dtype_and_a_broadcast_stay() -> None:
    g = Graph()
    x = g.input("x", (4,))
    after = optimized(g, g.cast(x, "int64"), x * np.ones((1, 1), np.float32))
    assert ops(after) == ["Cast", "Mul"]


def test_sizes_are_folded() -> None:
    g = Graph()
    x = g.input("x", ("batch", 6))
    n = g.gather(g.node("Shape", [x]), 1)
    target = g.concat([g.constant([-1]), g.unsqueeze(n / 3, [0]), g.unsqueeze(g.constant(3), [0])], 0)
    after = optimized(g, g.reshape(x, target))
    assert ops(after) == ["Reshape"]
    assert after.nodes[0].inputs[1].array.tolist() == [-1, 2, 3]  # type: ignore[union-attr]


@pytest.mark.parametrize(("op", "more"), [("Reshape", [[-1]]), ("Identity", []), ("Dropout", [])])
def test_sizes_are_known_behind_a_view_of_them(op: str, more: list[Any]) -> None:
    g = Graph()
    x = g.input("x", ("batch", 3, 4))
    sizes = g.node(op, [g.node("Shape", [x]), *more])
    assert g.reshape(x, sizes).shape == ("batch", 3, 4)


@pytest.mark.parametrize(("op", "more"), [("Reshape", [[6, 4]]), ("Flatten", [])])
def test_axes_are_followed_through_views(op: str, more: list[Any]) -> None:
    g = Graph()
    x = g.input("x", (2, 3, 4))
    y = g.node(op, [x, *more], axis=2 if op == "Flatten" else None)
    y.shape = (6, 4)
    assert before(y, [["b", "s"], ["d"]], {"b": 2, "s": 3, "d": 4}) == (x, [["b"], ["s"], ["d"]])


def test_a_size_that_a_run_decides_is_not_folded() -> None:
    g = Graph()
    x = g.input("x", ("batch", 6))
    after = optimized(g, g.node("Shape", [x]))
    assert ops(after) == ["Shape"]


def test_a_large_expand_is_not_folded() -> None:
    g = Graph()
    x = g.input("x", (1, 1000, 1000))
    ones = g.node("Expand", [np.ones((1, 1, 1), np.float32), [1, 1000, 1000]])
    after = optimized(g, g.concat([x, ones], 0))
    assert "Expand" in ops(after)


def test_an_expand_goes_where_its_reader_broadcasts_anyway() -> None:
    g = Graph()
    x = g.input("x", ("batch", "time", 4))
    m = g.input("m", ("batch", 1, 4))
    wide = g.node("Expand", [m, g.node("Shape", [x])])
    assert ops(optimized(g, x * wide)) == ["Mul"]


@pytest.mark.parametrize("op", ["Sum", "Mean", "Mod", "LessOrEqual"])
def test_an_expand_goes_before_any_op_that_the_table_says_broadcasts(op: str) -> None:
    g = Graph()
    x = g.input("x", ("batch", "time", 4), "int32" if op == "Mod" else "float32")
    m = g.constant((np.arange(4) + 2).reshape(1, 4).astype(x.dtype))
    y = g.node(op, [x, g.node("Expand", [m, g.node("Shape", [x])])])
    assert ops(optimized(g, y)) == [op]


def test_an_expand_that_makes_the_result_larger_stays() -> None:
    g = Graph()
    x = g.input("x", ("batch", "time", 4))
    m = g.input("m", ("batch", 1, 4))
    wide = g.node("Expand", [m, g.node("Shape", [x])])
    after = optimized(g, m * wide, wide)
    assert ops(after).count("Expand") == 1 and "Mul" in ops(after)


@pytest.mark.parametrize(
    ("a", "b", "expected"), [(7, 2, 3), (-7, 2, -3), (7, -2, -3), (-8, -2, 4), (-(2**63), 1, -(2**63))]
)
def test_a_quotient_of_integer_constants_is_folded_towards_zero(a: int, b: int, expected: int) -> None:
    g = Graph()
    x = g.input("x", (1,), "int64")
    y = g.node("Add", [x, g.node("Div", [np.array([a]), np.array([b])])])
    assert g.build(y)(np.zeros(1, np.int64)).tolist() == [expected]


def test_an_integer_division_of_constants_by_zero_raises_as_it_does_in_a_run() -> None:
    g = Graph()
    x = g.input("x", (2,), "int64")
    y = g.node("Add", [x, g.node("Div", [np.array([4, 6]), np.array([2, 0])], name="halves")])
    with pytest.raises(ValueError, match=r"halves.*by zero"):
        g.build(y)(np.zeros(2, np.int64))


def test_a_power_of_two_numbers_is_folded() -> None:
    g = Graph()
    x = g.input("x", ("batch", 4))
    after = optimized(g, x / g.node("Pow", [8.0, 0.5]))
    assert ops(after) == ["Div"] and after.nodes[0].inputs[1].array == np.float32(math.sqrt(8))  # type: ignore[union-attr]


INEXACT = {
    "Pow",  # of two numbers alone, whose power is computed in float64
    "Range",  # of integers alone
}


@pytest.mark.parametrize("op", sorted(_FUNCTIONS))
def test_what_is_folded_is_exact(op: str) -> None:
    """``find`` raises KeyError if the table of ops does not have the op."""
    assert find(op).is_exact == (op not in INEXACT)


def test_a_transposed_weight_is_folded_without_a_copy() -> None:
    g = Graph()
    w = normal(8, 4)
    x = g.input("x", ("batch", 4))
    after = optimized(g, x @ g.transpose(g.constant(w), [1, 0]))
    assert ops(after) == ["dynq.Linear"]
    assert np.shares_memory(after.nodes[0].inputs[1].array, w)  # type: ignore[union-attr,arg-type]


def test_equal_constants_are_kept_once() -> None:
    g = Graph()
    w = normal(4, 4)
    x = g.input("x", ("batch", 4))
    y = g.linear(g.linear(x, w), w.copy())
    other = w.copy()
    other[3, 3] = np.nextafter(other[3, 3], np.float32(9))
    after = optimized(g, g.linear(y, other))
    weights = [node.inputs[1] for node in after.nodes]
    assert weights[0] is weights[1] and weights[1] is not weights[2]


def test_equal_nodes_are_computed_once() -> None:
    g = Graph()
    x = g.input("x", ("batch", 4))
    y = g.relu(g.tanh(x)) + g.softmax(g.relu(g.tanh(x)), 1) + g.softmax(x, 1) + g.softmax(x, 0)
    assert sorted(ops(optimized(g, y))) == ["Add", "Add", "Add", "Relu", "Softmax", "Softmax", "Softmax", "Tanh"]


def test_sizes_are_read_from_the_input_that_has_them() -> None:
    g = Graph()
    x = g.input("x", ("batch", 4))
    y = g.relu(g.tanh(x))
    size = g.gather(g.node("Shape", [y]), 0)
    after = optimized(g, size)
    assert ops(after) == ["Shape", "Gather"] and after.nodes[0].inputs == after.inputs


def write_positions(g: Graph, ids: Value) -> Value:
    """As transformers exports the positions of BERT: a slice of 0, 1, 2, ... expanded to the shape of the input."""
    shape = g.node("Shape", [ids])
    batch, time = (g.unsqueeze(g.gather(shape, i), [0]) for i in (0, 1))
    positions = g.node("Slice", [np.arange(8).reshape(1, 8), [0], time, [1], [1]])
    wanted = g.concat([batch, time], 0)
    target = g.where(g.node("Equal", [wanted, [-1, -1]]), [1, 1], wanted)
    return g.node("Expand", [positions, target])


def test_a_residual_with_the_shape_of_expanded_positions_is_found() -> None:
    g = Graph()
    ids = g.input("ids", ("batch", "time"), "int64")
    x = g.gather(normal(9, 4), g.node("Abs", [ids])) + g.gather(normal(8, 4), write_positions(g, ids))
    assert x.shape == ("batch", "time", 4)
    after = optimized(g, g.linear(x, normal(4, 4)) + x)
    assert after.nodes[-1].op == "dynq.Linear" and after.nodes[-1].inputs[3] is not None


def test_a_slice_up_to_an_open_size_may_be_shorter_than_that() -> None:
    g = Graph()
    ids = g.input("ids", ("time",), "int64")
    positions = g.node("Slice", [np.arange(8), [0], g.node("Shape", [ids])])
    assert positions.shape == ("min(time, 8)",)
    assert (positions + ids).shape == ("time",)


# ---- Linear and its epilogue ----


def test_matmul_bias_and_activation_are_one_linear() -> None:
    g = Graph()
    x = g.input("x", ("batch", "time", 4))
    y = g.relu(g.add(normal(8), g.matmul(x, normal(4, 8), name="m")), name="r")
    after = optimized(g, y)
    (node,) = after.nodes
    assert (node.op, node.name, node.attributes) == ("dynq.Linear", "m", {"activation": "relu"})
    assert node.outputs[0].name == "r"  # type: ignore[union-attr]


@pytest.mark.parametrize("transposed", [0, 1])
@pytest.mark.parametrize("c", [(8,), (1, 8), (1,), (), None])
def test_gemm_is_a_linear(transposed: int, c: tuple[int, ...] | None) -> None:
    g = Graph()
    x = g.input("x", ("batch", 4))
    w = normal(8, 4) if transposed else normal(4, 8)
    after = optimized(g, g.node("Gemm", [x, w, None if c is None else normal(*c)], transB=transposed, beta=0.5))
    assert ops(after) == ["dynq.Linear"] and after.nodes[0].attributes == {}


@pytest.mark.parametrize("transposed", [0, 1])
def test_a_gemm_of_a_transposed_input_and_with_factors_is_a_linear(transposed: int) -> None:
    g = Graph()
    x = g.input("x", (4, 3))
    w = normal(8, 4) if transposed else normal(4, 8)
    y = g.node("Gemm", [x, w, normal(8)], transA=1, transB=transposed, alpha=0.5, beta=2.0)
    assert ops(optimized(g, y)) == ["Transpose", "dynq.Linear"]


@pytest.mark.parametrize("beta", [1.0, 0.5])
def test_what_a_gemm_adds_that_is_no_bias_becomes_a_residual(beta: float) -> None:
    g = Graph()
    x, c = g.input("x", (3, 4)), g.input("c", (3, 8))
    after = optimized(g, g.node("Gemm", [x, normal(4, 8), c], beta=beta))
    assert ops(after) == ["dynq.Linear"] if beta == 1 else ["Mul", "dynq.Linear"]
    assert after.nodes[-1].input(3) is not None


def test_a_gemm_of_two_inputs_stays() -> None:
    g = Graph()
    x, w = g.input("x", (3, 4)), g.input("w", (4, 8))
    assert ops(optimized(g, g.node("Gemm", [x, w]))) == ["Gemm"]


@pytest.mark.parametrize("shape", [(8,), (1, 8), (1, 1, 8), (1,), ()])
def test_a_bias_may_have_ones_before_it(shape: tuple[int, ...]) -> None:
    g = Graph()
    x = g.input("x", ("batch", "time", 4))
    assert ops(optimized(g, g.matmul(x, normal(4, 8)) + np.asarray(normal(*shape)))) == ["dynq.Linear"]


@pytest.mark.parametrize("shape", [(2, 8), (1, 1, 8), (2, 1)])
def test_what_is_no_bias_stays_an_add(shape: tuple[int, ...]) -> None:
    g = Graph()
    x = g.input("x", ("batch", 4))
    assert ops(optimized(g, g.matmul(x, normal(4, 8)) + normal(*shape))) == ["dynq.Linear", "Add"]


def test_a_product_that_is_read_twice_keeps_its_value() -> None:
    g = Graph()
    x = g.input("x", ("batch", 4))
    y = g.matmul(x, normal(4, 8))
    assert ops(optimized(g, g.relu(y), y)) == ["dynq.Linear", "Relu"]


@pytest.mark.parametrize(
    ("activation", "write"),
    [
        ("sigmoid", lambda g, y: g.sigmoid(y)),
        ("tanh", lambda g, y: g.tanh(y)),
        ("gelu", lambda g, y: g.gelu(y)),
        ("gelu_tanh", lambda g, y: g.gelu(y, approximate="tanh")),
        ("silu", lambda g, y: g.silu(y)),
    ],
)
def test_activations_go_into_the_linear(activation: str, write: Callable[[Graph, Value], Value]) -> None:
    g = Graph()
    x = g.input("x", ("batch", 4))
    after = optimized(g, write(g, g.linear(x, normal(8, 4))))
    assert ops(after) == ["dynq.Linear"] and after.nodes[0].attributes == {"activation": activation}


def test_a_residual_goes_into_the_linear() -> None:
    g = Graph()
    x = g.input("x", ("batch", "time", 4))
    h = g.tanh(x)
    after = optimized(g, g.relu(h + (g.matmul(x, normal(4, 4)) + normal(4))))
    assert ops(after) == ["Tanh", "dynq.Linear"]
    node = after.nodes[1]
    assert node.inputs[3] is after.nodes[0].outputs[0] and node.attributes == {"activation": "relu"}


def test_a_residual_that_is_computed_later_still_comes_first() -> None:
    g = Graph()
    x = g.input("x", ("batch", 4))
    y = g.linear(x, normal(4, 4))
    assert ops(optimized(g, y + g.tanh(x))) == ["Tanh", "dynq.Linear"]


def test_one_of_two_linears_takes_the_other() -> None:
    g = Graph()
    x = g.input("x", ("batch", 4))
    after = optimized(g, g.linear(x, normal(4, 4)) + g.linear(x, normal(4, 4)))
    assert ops(after) == ["dynq.Linear", "dynq.Linear"]


@pytest.mark.parametrize("shape", [("batch", 1, 4), (1, "time", 4), (4,), ("time", "batch", 4)])
def test_an_add_that_broadcasts_is_no_residual(shape: tuple[Any, ...]) -> None:
    g = Graph()
    x = g.input("x", ("batch", "time", 4))
    if shape == ("time", "batch", 4):
        shape = (2, 5, 4)  # it may be equal, but is not known to be
    r = g.input("r", shape)
    assert ops(optimized(g, g.linear(x, normal(4, 4)) + r)) == ["dynq.Linear", "Add"]


def test_a_linear_between_reshapes_takes_the_rows_as_they_are() -> None:
    g = Graph()
    x = g.input("x", ("batch", "time", 4))
    time = g.node("Shape", [x], start=1, end=2)
    y = g.node("Gemm", [g.reshape(x, [-1, 4]), normal(4, 4), normal(4)])
    y = g.reshape(y, g.concat([g.constant([-1]), time, g.constant([4])], 0))
    after = optimized(g, y + x)
    assert ops(after) == ["dynq.Linear"] and after.nodes[0].input("residual") is after.inputs[0]


def test_a_linear_between_reshapes_of_other_rows_stays_there() -> None:
    g = Graph()
    x = g.input("x", ("batch", 6, 4))
    y = g.reshape(g.matmul(g.reshape(x, [-1, 8]), normal(8, 8)), [-1, 6, 4])
    z = g.reshape(g.matmul(g.reshape(x, [-1, 4]), normal(4, 4)), [-1, 3, 8])
    assert ops(optimized(g, y, z)).count("Reshape") == 4


@pytest.mark.parametrize("op", ["Relu", "Erf", "Floor"])
def test_a_transpose_meets_its_opposite_before_an_op_on_each_element(op: str) -> None:
    g = Graph()
    x = g.input("x", ("batch", "time", 4))
    y = g.node(op, [g.transpose(x, [1, 0, 2])])
    assert ops(optimized(g, g.transpose(y, [1, 0, 2]))) == [op]


def test_a_constant_operand_is_transposed_where_that_spares_two_transposes() -> None:
    g = Graph()
    x = g.input("x", ("batch", "time", 4))
    y = g.node("PRelu", [g.transpose(x, [1, 0, 2]), normal(2, 4)])
    assert ops(optimized(g, g.transpose(y, [1, 0, 2]))) == ["PRelu"]


def test_an_activation_before_a_residual_is_no_epilogue() -> None:
    g = Graph()
    x = g.input("x", ("batch", 4))
    assert ops(optimized(g, g.relu(g.linear(x, normal(4, 4))) + x)) == ["dynq.Linear", "Add"]


@pytest.mark.parametrize(("low", "fused"), [(0.0, True), (1.0, False)])
def test_a_clip_goes_into_the_linear(low: float, fused: bool) -> None:
    g = Graph()
    x = g.input("x", ("batch", 4))
    y = g.node("Clip", [g.tanh(g.linear(x, normal(4, 4))), np.float32(low), np.float32(0.5 if fused else 1.0)])
    after = optimized(g, y)
    assert ops(after) == ["dynq.Linear"] + ([] if fused else ["Clip"])
    assert after.nodes[0].attributes == {"activation": "tanh"} | ({"min": 0.0, "max": 0.5} if fused else {})


def test_batch_norm_goes_into_the_weights() -> None:
    g = Graph()
    x = g.input("x", ("batch", 4))
    parameters = [normal(8), normal(8), normal(8), np.abs(normal(8)) + 0.1]
    y = g.node("BatchNormalization", [g.linear(x, normal(8, 4), normal(8)), *parameters], epsilon=1e-3)
    assert ops(optimized(g, y)) == ["dynq.Linear"]


def test_batch_norm_goes_into_a_convolution() -> None:
    g = Graph()
    x = g.input("x", ("batch", 4, 3, 3))
    parameters = [normal(8), normal(8), normal(8), np.abs(normal(8)) + 0.1]
    y = g.node("BatchNormalization", [g.node("Conv", [x, normal(8, 4, 1, 1)]), *parameters])
    assert ops(optimized(g, y)) == ["dynq.Conv"]


def test_batch_norm_over_another_dimension_stays() -> None:
    g = Graph()
    x = g.input("x", ("batch", 8, 4))  # channels are dimension 1, the linear's are dimension 2
    parameters = [normal(8), normal(8), normal(8), np.abs(normal(8)) + 0.1]
    y = g.node("BatchNormalization", [g.linear(x, normal(8, 4)), *parameters])
    assert ops(optimized(g, y)) == ["dynq.Linear", "BatchNormalization"]


@pytest.mark.parametrize("shape", [("k", 6), (3, 40, "n"), (2, 3, 40, 5)])
def test_a_weight_on_the_left_is_a_linear_layer_between_transposes(shape: tuple[int | str, ...]) -> None:
    sizes = tuple(dim if isinstance(dim, int) else {"k": 40, "n": 7}[dim] for dim in shape)
    w, x = normal(32, 40), normal(*sizes)
    g = Graph()
    model = g.build(g.node("MatMul", [w, g.input("x", shape)], name="mix"), first_layer="int8")
    (row,) = (row for row in model.report().rows if row.layer)
    assert row.node == "mix" and row.kind == "linear" and row.quantized and row.bytes_before == 4 * 32 * 40
    np.testing.assert_allclose(model(x), w @ x, atol=0.03 * np.abs(w @ x).max())


def test_a_small_constant_on_the_left_stays_a_product() -> None:
    g = Graph()
    after = optimized(g, g.node("MatMul", [normal(3, 3), g.input("x", ("batch", 3, 4))]))
    assert [node.op for node in after.nodes] == ["MatMul"]
