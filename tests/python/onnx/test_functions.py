"""Functions that a model defines itself: where they are called stands their body."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import AttributeProto, helper

import dynq
from tests.python.references.onnx_models import model, node, value

RNG = np.random.default_rng(0)
X = RNG.standard_normal((2, 3, 4), np.float32)


def function(
    name: str, nodes: list[onnx.NodeProto], inputs: str, outputs: str, opset: int = 21, **defaults: Any
) -> onnx.FunctionProto:
    imports = [helper.make_opsetid("", opset), helper.make_opsetid("own", 1)]
    protos = [helper.make_attribute(key, default) for key, default in defaults.items()]
    return helper.make_function("own", name, inputs.split(), outputs.split(), nodes, imports, [], protos)


def call(name: str, inputs: str, outputs: str, of: str = "", **attributes: Any) -> onnx.NodeProto:
    result = node(name, inputs, outputs, of, **attributes)
    result.domain = "own"
    return result


def refer(made: onnx.NodeProto, name: str, kind: int, to: str) -> onnx.NodeProto:
    """The node with an attribute that the function's caller gives."""
    made.attribute.append(AttributeProto(name=name, type=kind, ref_attr_name=to))
    return made


def whole(nodes: list[onnx.NodeProto], functions: list[onnx.FunctionProto], **inputs: Any) -> onnx.ModelProto:
    shapes = {name: (array.dtype.name, list(array.shape)) for name, array in inputs.items()}
    result = model(nodes, shapes, "y")
    result.functions.extend(functions)
    result.opset_import.append(helper.make_opsetid("own", 1))
    return result


def run(proto: onnx.ModelProto, **inputs: Any) -> Any:
    return dynq.from_onnx(proto, quantize=False).run(inputs)["y"]


LEAKY = function(
    "Leaky", [refer(node("LeakyRelu", "a", "b"), "alpha", AttributeProto.FLOAT, "slope")], "a", "b", slope=0.5
)
TURNED = function(
    "Turned", [refer(node("Transpose", "a", "b"), "perm", AttributeProto.INTS, "order")], "a", "b", order=[1, 0, 2]
)


def test_an_attribute_that_the_call_leaves_out_has_the_functions_default() -> None:
    leaky, turned = call("Leaky", "x", "t"), call("Turned", "t", "y")
    np.testing.assert_array_equal(
        run(whole([leaky, turned], [LEAKY, TURNED], x=X), x=X), np.where(X > 0, X, X / 2).transpose(1, 0, 2)
    )


def test_an_attribute_of_the_call_goes_before_the_default() -> None:
    np.testing.assert_array_equal(
        run(whole([call("Leaky", "x", "y", slope=2.0)], [LEAKY], x=X), x=X), np.where(X > 0, X, 2 * X)
    )


@pytest.mark.parametrize(("given", "slope"), [({}, 0.5), ({"s": 4.0}, 4.0)])
def test_defaults_go_through_functions_that_call_functions(given: dict[str, float], slope: float) -> None:
    """The outer one has no default: where its caller gives nothing, the inner one's holds."""
    outer = function("Outer", [refer(call("Leaky", "a", "b"), "slope", AttributeProto.FLOAT, "s")], "a", "b")
    got = run(whole([call("Outer", "x", "y", **given)], [outer, LEAKY], x=X), x=X)
    np.testing.assert_array_equal(got, np.where(X > 0, X, slope * X))


def test_defaults_reach_the_branches_of_a_function() -> None:
    branch = helper.make_graph(
        [refer(node("LeakyRelu", "a", "t"), "alpha", AttributeProto.FLOAT, "slope")],
        "branch",
        [],
        [value("t", None, None)],
    )
    condition = node("Constant", "", "c", value=helper.make_tensor("c", onnx.TensorProto.BOOL, [], [True]))
    body = [condition, node("If", "c", "b", then_branch=branch, else_branch=branch)]
    proto = whole([call("Branched", "x", "y")], [function("Branched", body, "a", "b", slope=0.25)], x=X)
    np.testing.assert_array_equal(run(proto, x=X), np.where(X > 0, X, X / 4))


def linear_twice() -> onnx.ModelProto:
    lin = function("Lin", [node("MatMul", "a w", "m", "mm"), node("Relu", "m", "b")], "a w", "b")
    block = function("Block", [call("Lin", "a w", "h", "inner"), call("Lin", "h w", "b")], "a w", "b")
    proto = whole([call("Block", "x v", "h", "layer1"), call("Lin", "h v", "y", "layer2")], [block, lin], x=X)
    proto.graph.initializer.append(onnx.numpy_helper.from_array(RNG.standard_normal((4, 4), np.float32), "v"))
    return proto


def test_names_tell_the_calls_that_a_node_comes_through() -> None:
    graph = dynq.from_onnx(linear_twice(), first_layer="int8").report()
    assert [row.node for row in graph.rows] == ["layer1/inner/mm", "layer1/Lin_1/mm", "layer2/mm"]


def test_keep_float_takes_the_path_of_a_call() -> None:
    report = dynq.from_onnx(linear_twice(), keep_float=["layer1/*"], first_layer="int8").report()
    assert [row.became.partition(" ")[0] for row in report.rows] == ["float", "float", "int8"]


def test_values_of_two_calls_with_one_name_stay_apart() -> None:
    twice = function("Twice", [node("Add", "a a", "m"), node("Mul", "m a", "b")], "a", "b")
    proto = whole([call("Twice", "x", "h", "n"), call("Twice", "h", "y", "n")], [twice], x=X)
    h = 2 * X * X
    np.testing.assert_allclose(run(proto, x=X), 2 * h * h, rtol=1e-6)


def test_an_input_that_is_an_output_and_one_that_is_left_out() -> None:
    clip = function("Clipped", [node("Clip", "a low high", "b")], "a low high", "b a")
    proto = whole([call("Clipped", "x - high", "t same"), node("Sub", "t same", "y")], [clip], x=X, high=np.float32(0))
    np.testing.assert_array_equal(run(proto, x=X, high=np.float32(0)), np.minimum(X, 0) - X)


def test_an_op_of_another_opset_goes_in_where_its_meaning_is_the_same() -> None:
    same = function("Same", [node("Relu", "a", "b")], "a", "b", opset=17)
    np.testing.assert_array_equal(run(whole([call("Same", "x", "y")], [same], x=X), x=X), np.maximum(X, 0))
    other = function("Other", [node("ReduceMean", "a", "b", axes=[0])], "a", "b", opset=13)
    with pytest.raises(dynq.InvalidModelError, match="'Other' cannot be inlined: its op ReduceMean is of opset 13"):
        run(whole([call("Other", "x", "y")], [other], x=X), x=X)


def test_functions_that_call_themselves_or_grow_without_bound_are_refused() -> None:
    around = function("Around", [call("Around", "a", "b")], "a", "b")
    with pytest.raises(dynq.InvalidModelError, match="'Around' cannot be inlined: it calls itself"):
        run(whole([call("Around", "x", "y")], [around], x=X), x=X)
    doubles = [function("F0", [node("Relu", "a", "b")], "a", "b")]
    for i in range(1, 40):
        doubles.append(function(f"F{i}", [call(f"F{i - 1}", "a", "m"), call(f"F{i - 1}", "m", "b")], "a", "b"))
    with pytest.raises(dynq.InvalidModelError, match="cannot be inlined: its calls become more than 100000 nodes"):
        run(whole([call("F39", "x", "y")], doubles, x=X), x=X)


def test_a_call_with_too_many_inputs_is_refused() -> None:
    with pytest.raises(dynq.InvalidModelError, match="'Leaky' cannot be inlined: node 'n' gives it 2 inputs; it has 1"):
        run(whole([call("Leaky", "x x", "y", "n")], [LEAKY], x=X), x=X)


@pytest.mark.parametrize("axes", ["none", "empty"])
@pytest.mark.parametrize(
    ("op", "expected"),
    [
        ("ReduceL1", np.abs),
        ("ReduceL2", np.abs),
        ("ReduceSumSquare", np.square),
        ("ReduceLogSum", np.log),
        ("ReduceLogSumExp", lambda x: x),
        ("ReduceSum", lambda x: x),
        ("ReduceMax", lambda x: x),
    ],
)
def test_a_reduction_over_no_axis_still_squares_or_takes_the_logarithm(op: str, expected: Any, axes: str) -> None:
    x = np.abs(X) + 0.5 if op == "ReduceLogSum" else X
    names = "x" if axes == "none" else "x axes"
    constants = {"axes": np.zeros(0, np.int64)} if axes == "empty" else {}
    proto = model([node(op, names, "y", noop_with_empty_axes=1)], {"x": ("float32", [2, 3, 4])}, "y", constants)
    np.testing.assert_allclose(run(proto, x=x), expected(x), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("noop", [0, 1])
def test_shapes_of_reductions_over_no_axis(noop: int) -> None:
    graph = dynq.Graph()
    axes = graph.constant(np.zeros(0, np.int64), "axes")
    y = graph.node("ReduceSum", [graph.input("x", (2, 3, 4)), axes], noop_with_empty_axes=noop)
    assert y.shape == ((2, 3, 4) if noop else (1, 1, 1))
