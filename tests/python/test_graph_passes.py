"""Passes: what each brings a graph to, what it leaves alone, and that results stay the same."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from evaluate import evaluate

from dynq.graph import Graph, Value
from dynq.graph.passes import optimize
from dynq.graph.passes._rewrite import Uses
from dynq.graph.passes.attention import _Mask, _mask

RNG = np.random.default_rng(7)


def normal(*shape: int) -> np.ndarray[Any, Any]:
    return RNG.standard_normal(shape, np.float32)


def optimized(g: Graph, *outputs: Value) -> Graph:
    """The graph after all passes; its results are those from before."""
    for i, value in enumerate(outputs):
        g.output(value, f"out_{i}")
    sizes = {"batch": 2, "time": 5}
    inputs = {}
    for value in g.inputs:
        shape = [sizes[dim] if isinstance(dim, str) else dim for dim in value.shape or ()]
        inputs[value.name] = RNG.standard_normal(shape).astype(value.dtype)  # type: ignore[arg-type]
    after = g.copy()
    optimize(after)
    after.validate()
    expected, result = evaluate(g, inputs), evaluate(after, inputs)
    for name, array in expected.items():
        np.testing.assert_allclose(result[name], array, rtol=1e-5, atol=2e-6)
    return after


def ops(g: Graph) -> list[str]:
    return [node.op for node in g.nodes]


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


def test_an_expand_that_makes_the_result_larger_stays() -> None:
    g = Graph()
    x = g.input("x", ("batch", "time", 4))
    m = g.input("m", ("batch", 1, 4))
    wide = g.node("Expand", [m, g.node("Shape", [x])])
    after = optimized(g, m * wide, wide)
    assert ops(after).count("Expand") == 1 and "Mul" in ops(after)


def test_a_power_of_two_numbers_is_folded() -> None:
    g = Graph()
    x = g.input("x", ("batch", 4))
    after = optimized(g, x / g.node("Pow", [8.0, 0.5]))
    assert ops(after) == ["Div"] and after.nodes[0].inputs[1].array == np.float32(math.sqrt(8))  # type: ignore[union-attr]


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
    assert ops(after) == ["dynq.Linear"] and after.nodes[0].inputs[3] is after.inputs[0]


def test_a_linear_between_reshapes_of_other_rows_stays_there() -> None:
    g = Graph()
    x = g.input("x", ("batch", 6, 4))
    y = g.reshape(g.matmul(g.reshape(x, [-1, 8]), normal(8, 8)), [-1, 6, 4])
    z = g.reshape(g.matmul(g.reshape(x, [-1, 4]), normal(4, 4)), [-1, 3, 8])
    assert ops(optimized(g, y, z)).count("Reshape") == 4


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


# ---- Gelu, layer norm, softmax ----

GELUS: dict[str, tuple[str, Callable[[Graph, Value], Value]]] = {
    "torch": ("none", lambda g, x: x * (g.node("Erf", [x / math.sqrt(2)]) + 1.0) * 0.5),
    "half first": ("none", lambda g, x: (x * 0.5) * (1.0 + g.node("Erf", [x * (1 / math.sqrt(2))]))),
    "half last": ("none", lambda g, x: 0.5 * (x * (1.0 + g.node("Erf", [x / np.float32(1.4142135381698608)])))),
    "half inside": ("none", lambda g, x: x * (0.5 * (1.0 + g.node("Erf", [x / math.sqrt(2)])))),
    "tanh pow": (
        "tanh",
        lambda g, x: (x * 0.5) * (g.tanh((x + g.node("Pow", [x, 3.0]) * 0.044715) * math.sqrt(2 / math.pi)) + 1.0),
    ),
    "tanh products": (
        "tanh",
        lambda g, x: 0.5 * x * (1.0 + g.tanh(x * 0.7978845608 * (1.0 + 0.044715 * x * x))),
    ),
}


@pytest.mark.parametrize("name", GELUS)
def test_gelu_is_found(name: str) -> None:
    kind, write = GELUS[name]
    g = Graph()
    x = g.input("x", ("batch", 4))
    after = optimized(g, write(g, g.sigmoid(x)))
    assert ops(after) == ["Sigmoid", "Gelu"] and after.nodes[1].attributes == {"approximate": kind}


def test_gelu_is_found_in_a_linear_s_epilogue() -> None:
    g = Graph()
    x = g.input("x", ("batch", 4))
    y = GELUS["torch"][1](g, g.matmul(x, normal(4, 8)) + normal(8))
    after = optimized(g, y)
    assert ops(after) == ["dynq.Linear"] and after.nodes[0].attributes == {"activation": "gelu"}


@pytest.mark.parametrize(
    "write",
    [
        lambda g, x: x * (g.node("Erf", [x / 1.5]) + 1.0) * 0.5,
        lambda g, x: x * (g.node("Erf", [x / math.sqrt(2)]) + 1.0),
        lambda g, x: x * (g.node("Erf", [x / math.sqrt(2)]) + 1.0) * np.float32([0.5, 0.5, 0.5, 0.4]),
        lambda g, x: (x * 0.5) * (g.tanh((x + g.node("Pow", [x, 3.0]) * 0.045) * math.sqrt(2 / math.pi)) + 1.0),
    ],
)
def test_what_only_looks_like_gelu_stays(write: Callable[[Graph, Value], Value]) -> None:
    g = Graph()
    x = g.input("x", ("batch", 4))
    assert "Gelu" not in ops(optimized(g, write(g, x)))


def test_gelu_of_which_an_inner_value_is_read_stays() -> None:
    g = Graph()
    x = g.input("x", ("batch", 4))
    e = g.node("Erf", [x / math.sqrt(2)])
    assert "Gelu" not in ops(optimized(g, x * (e + 1.0) * 0.5, e))


def write_layer_norm(g: Graph, x: Value, power: bool = True, twice: bool = False, axis: int = -1) -> Value:
    d = x - g.reduce_mean(x, [axis])
    e = x - g.reduce_mean(x, [axis]) if twice else d
    square = g.node("Pow", [e, 2.0]) if power else e * e
    return d / g.node("Sqrt", [g.reduce_mean(square, [axis]) + 1e-6])


@pytest.mark.parametrize("power", [True, False])
@pytest.mark.parametrize("twice", [True, False])
@pytest.mark.parametrize("axis", [-1, 2])
def test_layer_norm_is_found(power: bool, twice: bool, axis: int) -> None:
    g = Graph()
    x = g.input("x", ("batch", "time", 6))
    after = optimized(g, write_layer_norm(g, x, power, twice, axis) * normal(6) + normal(6))
    assert ops(after) == ["LayerNormalization"]
    assert after.nodes[0].attributes["epsilon"] == pytest.approx(1e-6)


def test_layer_norm_without_a_bias_and_with_a_reciprocal_is_found() -> None:
    g = Graph()
    x = g.input("x", ("batch", "time", 6))
    d = x - g.reduce_mean(x, [-1])
    r = g.node("Reciprocal", [g.node("Sqrt", [g.reduce_mean(d * d, [-1]) + 1e-5])])
    assert ops(optimized(g, normal(6) * (d * r))) == ["LayerNormalization"]


def test_a_norm_over_another_dimension_or_with_another_scale_stays() -> None:
    g = Graph()
    x = g.input("x", ("batch", 6, 6))
    after = optimized(
        g, write_layer_norm(g, x, axis=1) * normal(6), write_layer_norm(g, x) * normal(6, 6), write_layer_norm(g, x)
    )
    assert "LayerNormalization" not in ops(after)


def test_softmax_is_found() -> None:
    g = Graph()
    x = g.input("x", ("batch", 6))
    e = g.node("Exp", [x - g.reduce_max(x, [-1])])
    after = optimized(g, e / g.reduce_sum(e, [-1]))
    assert ops(after) == ["Softmax"] and after.nodes[0].attributes == {"axis": -1}


def test_a_sum_over_another_dimension_is_no_softmax() -> None:
    g = Graph()
    x = g.input("x", ("batch", 6))
    e = g.node("Exp", [x - g.reduce_max(x, [-1])])
    assert "Softmax" not in ops(optimized(g, e / g.reduce_sum(e, [0])))


# ---- Attention ----

HEADS, SIZE = 3, 4


def write_attention(
    g: Graph,
    x: Value,
    *,
    dynamic: bool = False,
    scale: str = "div",
    mask: Value | None = None,
    fill: tuple[Value, Any, bool] | None = None,
    twice: bool = False,
    flat: bool = False,
    guard: bool = False,
    reshape_to: tuple[int, ...] = (0, -1, HEADS, SIZE),
) -> Value:
    """As transformers exports BERT."""
    width = HEADS * SIZE

    def project() -> Value:
        return g.matmul(x, normal(width, width)) + normal(width)

    def target(sizes: tuple[int, ...], y: Value) -> Any:
        if not dynamic:
            return list(sizes)
        shape = g.node("Shape", [y])
        batch, time = (g.unsqueeze(g.gather(shape, i), [0]) for i in (0, 1))
        return g.concat([batch, time, g.constant(list(sizes[2:]))], 0)

    def split(y: Value, perm: list[int]) -> Value:
        return g.transpose(g.reshape(y, target(reshape_to, y)), perm)

    q = split(project(), [0, 2, 1, 3])
    k = project()
    k = g.transpose(split(k, [0, 2, 1, 3]), [0, 1, 3, 2]) if twice else split(k, [0, 2, 3, 1])
    if flat:  # as torch's newer exporter transposes
        k = split(project(), [0, 2, 1, 3])
        batch, time = (g.node("Shape", [x], start=i, end=i + 1) for i in (0, 1))
        k = g.transpose(g.reshape(k, g.concat([g.constant([-1]), time, g.constant([SIZE])], 0)), [0, 2, 1])
        k = g.reshape(k, g.concat([batch, g.constant([HEADS, SIZE]), time], 0))
    v = split(project(), [0, 2, 1, 3])
    root = math.sqrt(math.sqrt(SIZE))
    scores = (q / root) @ (k * (1 / root)) if scale == "sides" else q @ k
    if scale == "div":
        scores = scores / math.sqrt(SIZE)
    elif scale == "mul":
        scores = scores * 0.25
    if fill is not None:
        condition, low, other_side = fill
        scores = g.where(condition, *((scores, low) if other_side else (low, scores)))
    if mask is not None:
        scores = scores + mask
    p = g.softmax(scores)
    if guard:
        p = g.where(g.node("IsNaN", [p]), np.float32(0), p)
    y = g.transpose(p @ v, [0, 2, 1, 3])
    return g.reshape(y, target((0, -1, width), x))


@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize("scale", ["div", "mul", "sides", "none"])
@pytest.mark.parametrize("masked", [False, True])
def test_attention_is_found(dynamic: bool, scale: str, masked: bool) -> None:
    g = Graph()
    x = g.input("x", ("batch", "time", HEADS * SIZE))
    mask = g.input("mask", ("batch", 1, 1, "time")) if masked else None
    after = optimized(g, write_attention(g, x, dynamic=dynamic, scale=scale, mask=mask, twice=dynamic))
    assert ops(after) == ["dynq.Linear"] * 3 + ["dynq.Attention"]
    node = after.nodes[3]
    assert node.attributes["heads"] == HEADS
    factor = {"div": None, "sides": None, "mul": 0.25, "none": 1.0}[scale]
    assert node.attributes.get("scale") == (None if factor is None else pytest.approx(factor))
    assert len(node.inputs) == (4 if masked else 3)


@pytest.mark.parametrize("low", [np.float32(-np.inf), np.finfo(np.float32).min])
@pytest.mark.parametrize("other_side", [False, True])
@pytest.mark.parametrize("masked", [False, True])
def test_attention_with_scores_that_are_filled_in_is_found(low: Any, other_side: bool, masked: bool) -> None:
    g = Graph()
    x = g.input("x", ("batch", 5, HEADS * SIZE))
    flags = np.tri(5, dtype=bool)  # as GPT-2 looks back, as DistilBERT leaves tokens out
    condition = g.constant((flags if other_side else ~flags)[None, None])
    mask = g.input("mask", ("batch", 1, 1, 5)) if masked else None
    after = optimized(g, write_attention(g, x, mask=mask, fill=(condition, low, other_side)))
    assert ops(after)[-1] == "dynq.Attention" and "Softmax" not in ops(after)


@pytest.mark.parametrize("fill", [False, True])
@pytest.mark.parametrize("hides", [False, True])
@pytest.mark.parametrize("known", [False, True])
def test_attention_whose_bool_mask_may_leave_no_key_is_found(fill: bool, hides: bool, known: bool) -> None:
    """As torch exports scaled_dot_product_attention; here the first query looks at nothing."""
    g = Graph()
    x = g.input("x", ("batch", 5, HEADS * SIZE))
    flags = np.tri(5, k=-1, dtype=bool)
    condition = g.constant(~flags if hides else flags)
    if not known:  # all of it is looked at
        condition = g.node("Greater" if hides else "Less", [g.input("mask", ("batch", 1, 1, 5)), np.float32(99)])
    sides = (np.float32(-np.inf), np.float32(0))
    if fill:
        y = write_attention(g, x, guard=True, fill=(condition, np.float32(-np.inf), not hides))
    else:
        y = write_attention(g, x, guard=True, mask=g.where(condition, *(sides if hides else sides[::-1])))
    after = optimized(g, y)
    assert ops(after)[-1] == "dynq.Attention" and "Softmax" not in ops(after)
    assert after.nodes[-1].inputs[3].dtype == "bool"  # type: ignore[union-attr]


@pytest.mark.parametrize("known", [False, True])
def test_zeros_for_nan_beside_a_mask_of_low_numbers_have_no_effect(known: bool) -> None:
    """As torch's newer exporter writes it."""
    g = Graph()
    x = g.input("x", ("batch", 5, HEADS * SIZE))
    hidden = g.constant(np.tri(5, k=-1, dtype=bool)) if known else g.node("Less", [g.input("m", (5, 5)), np.float32(0)])
    y = write_attention(g, x, guard=True, mask=g.where(hidden, np.finfo(np.float32).min, np.float32(0)))
    after = optimized(g, y)
    assert ops(after)[-1] == "dynq.Attention" and "Softmax" not in ops(after)
    assert after.nodes[-1].inputs[3].dtype == "float32"  # type: ignore[union-attr]


def test_zeros_for_nan_with_a_mask_of_floats_stay() -> None:
    g = Graph()
    x = g.input("x", ("batch", 5, HEADS * SIZE))
    y = write_attention(g, x, guard=True, mask=g.input("mask", (5, 5)))
    assert "dynq.Attention" not in ops(optimized(g, y))


def test_a_mask_that_fills_twice_fills_once() -> None:
    """The lowest number twice would be -infinity, and a row of that NaN."""
    lowest = np.finfo(np.float32).min
    masks = [np.tri(5, k=k, dtype=bool) for k in (-1, 0)]
    graph = Graph()
    values = [_Mask(graph.constant(mask), (0.0, float(lowest))) for mask in masks]
    total = _mask(Uses(graph), values)
    assert total is not None
    assert np.array_equal(graph.build(total)(), np.where(masks[0] & masks[1], np.float32(0), lowest))


def test_a_filler_that_is_not_so_low_stays() -> None:
    g = Graph()
    x = g.input("x", ("batch", 5, HEADS * SIZE))
    condition = g.constant(~np.tri(5, dtype=bool))
    y = write_attention(g, x, fill=(condition, np.float32(-10), False))
    assert "dynq.Attention" not in ops(optimized(g, y))


def test_attention_with_a_flat_transpose_is_found() -> None:
    g = Graph()
    x = g.input("x", ("batch", "time", HEADS * SIZE))
    assert ops(optimized(g, write_attention(g, x, dynamic=True, flat=True))) == ["dynq.Linear"] * 3 + ["dynq.Attention"]


def test_the_residual_after_attention_is_found() -> None:
    g = Graph()
    x = g.input("x", ("batch", "time", HEADS * SIZE))
    y = g.matmul(write_attention(g, x, dynamic=True), normal(12, 12)) + normal(12) + x
    after = optimized(g, y)
    assert ops(after) == ["dynq.Linear"] * 3 + ["dynq.Attention", "dynq.Linear"]
    assert after.nodes[4].inputs[3] is after.inputs[0]


def test_heads_that_are_not_cut_from_the_last_dimension_stay() -> None:
    g = Graph()
    x = g.input("x", (2, 6, HEADS * SIZE))
    y = write_attention(g, x, reshape_to=(2, 6, SIZE, HEADS))  # 4 heads of 3
    after = optimized(g, y)
    assert after.nodes[-1].attributes["heads"] == SIZE
    g = Graph()
    x = g.input("x", (3, 2, HEADS * SIZE))
    y = write_attention(g, x, reshape_to=(2, 3, HEADS, SIZE))  # batch and time are mixed
    assert "dynq.Attention" not in ops(optimized(g, g.reshape(y, (3, 2, 12))))


def test_attention_of_which_the_weights_are_read_stays() -> None:
    g = Graph()
    x = g.input("x", ("batch", "time", HEADS * SIZE))
    y = write_attention(g, x)
    softmax = next(node for node in g.nodes if node.op == "Softmax")
    assert softmax.outputs[0] is not None
    assert "dynq.Attention" not in ops(optimized(g, y, softmax.outputs[0]))


def test_a_long_chain_of_doublings_before_a_softmax_is_walked_once() -> None:
    g = Graph()
    h = g.input("x", (2, 3))
    for _ in range(40):
        h = h + h
    assert ops(optimized(g, g.softmax(h))) == ["Add"] * 40 + ["Softmax"]
