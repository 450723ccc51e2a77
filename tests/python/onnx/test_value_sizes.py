"""Sizes that depend on values: the runtime plans up to the first of them, and goes on with what came."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import dynq
from tests.python.references.onnx_runtime import agrees, by_runtime

onnx = pytest.importorskip("onnx")
from onnx import TensorProto, helper  # noqa: E402

F = np.float32
KINDS = {np.dtype(F): TensorProto.FLOAT, np.dtype(np.int64): TensorProto.INT64, np.dtype(bool): TensorProto.BOOL}
KINDS |= {np.dtype(np.int32): TensorProto.INT32, np.dtype(np.uint8): TensorProto.UINT8}


def proto(
    nodes: list[Any], feeds: dict[str, Any], outputs: dict[str, int], opset: int = 17, initializers: Any = ()
) -> Any:
    """The model of these nodes; every size of an input is open."""
    inputs = [
        helper.make_tensor_value_info(name, KINDS[a.dtype], [f"{name}{i}" for i in range(a.ndim)])
        for name, a in feeds.items()
    ]
    results = [helper.make_tensor_value_info(name, kind, None) for name, kind in outputs.items()]
    graph = helper.make_graph(nodes, "g", inputs, results, list(initializers))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def same(model: Any, *all_feeds: dict[str, Any]) -> dynq.Model:
    """Assert that one session gives for each input what ONNX Runtime gives, to the bit."""
    built = dynq.from_onnx(model, quantize=False)
    for feeds in all_feeds:
        for got, want in zip(built.run(feeds).values(), by_runtime(model, feeds), strict=True):
            assert got.dtype == want.dtype and got.shape == want.shape
            assert np.array_equal(got, want)
    return built


def sparse(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return np.where(rng.random(shape) < 0.5, 0, rng.standard_normal(shape)).astype(F)


@pytest.mark.parametrize("dtype", [F, np.int64, np.int32, np.uint8, bool])
def test_nonzero_of_other_values_has_another_size(dtype: Any) -> None:
    rng = np.random.default_rng(0)
    nodes = [helper.make_node("NonZero", ["x"], ["y"])]
    feeds = [{"x": (10 * sparse(rng, 3, 4, 5)).astype(dtype)} for _ in range(4)]
    feeds += [{"x": np.zeros((3, 4, 5), dtype)}, {"x": np.zeros((2, 0, 5), dtype)}]
    built = same(proto(nodes, feeds[0], {"y": TensorProto.INT64}), *feeds)
    assert built.outputs[0].shape == (3, None)


def test_a_scalar_has_no_coordinates_and_a_nan_is_not_zero() -> None:
    nodes = [helper.make_node("NonZero", ["x"], ["y"])]
    built = dynq.from_onnx(proto(nodes, {"x": np.array(F(1))}, {"y": TensorProto.INT64}))
    assert built(np.array(F(2))).shape == (0, 1)  # as ONNX's text says
    built = dynq.from_onnx(proto(nodes, {"x": np.zeros(3, F)}, {"y": TensorProto.INT64}))
    assert built(np.array([0, np.nan, -0.0], F)).tolist() == [[1]]


def test_what_follows_is_planned_with_what_came() -> None:
    """Gather what is not zero, and send it through layers whose number of rows only the run knows."""
    rng = np.random.default_rng(1)
    w = onnx.numpy_helper.from_array(rng.standard_normal((16, 8)).astype(F), "w")
    nodes = [
        helper.make_node("ReduceSum", ["x", "axes"], ["s"], keepdims=0),
        helper.make_node("Greater", ["s", "zero"], ["g"]),
        helper.make_node("NonZero", ["g"], ["i"]),
        helper.make_node("Squeeze", ["i", "axis0"], ["rows"]),
        helper.make_node("Gather", ["x", "rows"], ["chosen"]),
        helper.make_node("MatMul", ["chosen", "w"], ["m"], "expert"),
        helper.make_node("Relu", ["m"], ["r"]),
        helper.make_node("Shape", ["r"], ["n"]),
        helper.make_node("ConstantOfShape", ["n"], ["zeros"]),
        helper.make_node("Concat", ["r", "zeros"], ["y"], axis=0),
    ]
    small = [
        onnx.numpy_helper.from_array(np.array(v, t), n)
        for n, v, t in [("axes", [1], np.int64), ("axis0", [0], np.int64), ("zero", 0, F)]
    ]
    model = proto(nodes, {"x": np.zeros((1, 1), F)}, {"y": TensorProto.FLOAT}, initializers=[w, *small])
    for rows in (1, 7, 0, 40, 7):
        built = agrees(model, {"x": rng.standard_normal((rows, 16)).astype(F)})
    assert [row.node for row in built.report().rows if row.quantized] == ["expert"]


@pytest.mark.parametrize("axis", [None, 0, 1, -1])
def test_compress(axis: int | None) -> None:
    rng = np.random.default_rng(2)
    attributes = {} if axis is None else {"axis": axis}
    nodes = [helper.make_node("Compress", ["x", "c"], ["y"], **attributes)]
    feeds = [{"x": sparse(rng, 3, 4, 5), "c": rng.random(n) < 0.5} for n in (3, 3, 2, 0)]
    built = same(proto(nodes, feeds[0], {"y": TensorProto.FLOAT}), *feeds)
    with pytest.raises(ValueError, match="the condition chooses element"):
        built.run({"x": feeds[0]["x"], "c": np.ones(61, bool)})


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_unique(data: st.DataObject) -> None:
    shape = data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=3))
    axis = data.draw(st.sampled_from([None, *range(-len(shape), len(shape))]))
    ordered = data.draw(st.integers(0, 1))
    dtype = data.draw(st.sampled_from([F, np.int64]))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**20)))
    attributes = {"sorted": ordered} if axis is None else {"sorted": ordered, "axis": axis}
    outputs = dict.fromkeys("yijk", TensorProto.INT64) | {"y": KINDS[np.dtype(dtype)]}
    nodes = [helper.make_node("Unique", ["x"], list("yijk"), **attributes)]
    feeds = [{"x": rng.integers(0, 3, shape).astype(dtype)} for _ in range(2)]
    same(proto(nodes, feeds[0], outputs), *feeds)


def test_unique_takes_one_nan_the_last() -> None:
    nodes = [helper.make_node("Unique", ["x"], ["y", "", "", "n"])]
    x = np.array([np.nan, 1, -np.inf, np.nan, 0, -0.0], F)
    built = dynq.from_onnx(proto(nodes, {"x": x}, {"y": TensorProto.FLOAT, "n": TensorProto.INT64}))
    y, n = built(x)
    assert np.array_equal(y, np.array([-np.inf, 0, 1, np.nan], F), equal_nan=True) and n.tolist() == [1, 2, 1, 2]


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_non_max_suppression(data: st.DataObject) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 2**20)))
    images, classes, boxes = (data.draw(st.integers(1, high)) for high in (2, 3, 20))
    center = data.draw(st.integers(0, 1))
    feeds = {
        "boxes": rng.random((images, boxes, 4)).astype(F),
        "scores": np.round(rng.random((images, classes, boxes)), data.draw(st.sampled_from([1, 6]))).astype(F),
        "most": np.array([data.draw(st.sampled_from([0, 1, 3, 2**40]))]),
        "overlap": np.array([data.draw(st.sampled_from([0.0, 0.2, 0.5, 1.0]))], F),
    }
    if data.draw(st.booleans()):
        feeds["least"] = np.array([0.3], F)
    nodes = [helper.make_node("NonMaxSuppression", list(feeds), ["y"], center_point_box=center)]
    same(proto(nodes, feeds, {"y": TensorProto.INT64}), feeds)


LIMITS = {
    "Range": (["a", "b", "one"], {}),
    "Slice": (["x", "a1", "b1"], {}),
    "Expand": (["column", "pair"], {}),
    "Tile": (["x", "pair"], {}),
    "ConstantOfShape": (["pair"], {}),
    "Reshape": (["x", "flat"], {}),
    "Pad": (["x", "four"], {}),
    "TopK": (["x", "a1"], {}),
    "Unsqueeze": (["x", "a1"], {}),
    "ReduceSum": (["x", "a1"], {}),
    "OneHot": (["pair", "b", "x01"], {}),
}


@pytest.mark.parametrize("op", LIMITS)
def test_numbers_that_are_computed_from_data(op: str) -> None:
    """Each would be a constant in most models."""
    inputs, attributes = LIMITS[op]
    known = {
        "one": np.array(1), "minus": np.array([-1]), "zeros": np.array([0, 0]), "zero1": np.array([0]),
        "x01": np.array([0, 1], F), "column": np.ones((1, 1), F),
    }  # fmt: skip
    nodes = [
        helper.make_node("Cast", ["v"], ["i"], to=TensorProto.INT64),
        helper.make_node("ReduceMin", ["i"], ["a"], keepdims=0),
        helper.make_node("ReduceMax", ["i"], ["b"], keepdims=0),
        helper.make_node("Unsqueeze", ["a", "zero1"], ["a1"]),
        helper.make_node("Unsqueeze", ["b", "zero1"], ["b1"]),
        helper.make_node("Concat", ["a1", "b1"], ["pair"], axis=0),
        helper.make_node("Concat", ["pair", "zeros"], ["four"], axis=0),
        helper.make_node("Mul", ["minus", "a1"], ["flat"]),
        helper.make_node(op, inputs, ["y", "z"] if op == "TopK" else ["y"], **attributes),
    ]
    constants = [onnx.numpy_helper.from_array(a, name) for name, a in known.items()]
    x = np.arange(12, dtype=F).reshape(3, 4)
    feeds = [{"v": np.array(v, F), "x": x} for v in ([1, 3, 1], [1, 2, 2], [1, 5, 1])]
    if op == "Unsqueeze":
        feeds = feeds[:1]
    kind = TensorProto.INT64 if op == "Range" else TensorProto.FLOAT
    model = proto(nodes, feeds[0], {"y": kind}, initializers=constants)
    built = dynq.from_onnx(model, quantize=False)
    for each in feeds:
        assert np.array_equal(built.run(each)["y"], by_runtime(model, each)[0])


def test_sizes_are_bounded_by_max_bytes() -> None:
    nodes = [helper.make_node("ConstantOfShape", ["n"], ["z"]), helper.make_node("ReduceSum", ["z"], ["y"])]
    built = dynq.from_onnx(proto(nodes, {"n": np.array([1])}, {"y": TensorProto.FLOAT}))
    built.max_bytes = 1 << 20
    assert built(np.array([1000])).shape == (1,)
    with pytest.raises(dynq.OutOfMemoryError, match=r"node 'ConstantOfShape_0'.*limit is 1048576"):
        built(np.array([2**40]))
    with pytest.raises(ValueError, match="address space"):
        built(np.array([2**62]))
    assert built(np.array([2000])).shape == (1,)  # the session goes on


def test_threads_and_instruction_sets_give_the_same_bits() -> None:
    rng = np.random.default_rng(5)
    w = onnx.numpy_helper.from_array(rng.standard_normal((64, 48)).astype(F), "w")
    nodes = [
        helper.make_node("Compress", ["x", "c"], ["s"], axis=0),
        helper.make_node("MatMul", ["s", "w"], ["m"]),
        helper.make_node("Softmax", ["m"], ["y"]),
    ]
    feeds = {"x": rng.standard_normal((300, 64)).astype(F), "c": rng.random(300) < 0.7}
    built = dynq.from_onnx(proto(nodes, feeds, {"y": TensorProto.FLOAT}, initializers=[w]), first_layer="int8")
    threads, results = dynq.get_num_threads(), []
    try:
        for isa in dynq.isa.supported():
            for count in (1, 3):
                dynq.set_num_threads(count)
                with dynq.isa.use(isa):
                    results.append(built.run(feeds)["y"])
    finally:
        dynq.set_num_threads(threads)
    assert all(np.array_equal(result, results[0]) for result in results)
    few = {"x": feeds["x"][:5], "c": np.ones(5, bool)}
    assert np.array_equal(built.run(few)["y"][feeds["c"][:5]], results[0][: feeds["c"][:5].sum()])


def test_all_tensors_can_be_asked_for() -> None:
    rng = np.random.default_rng(6)
    nodes = [helper.make_node("NonZero", ["x"], ["i"]), helper.make_node("Cast", ["i"], ["f"], to=1)]
    nodes.append(helper.make_node("Exp", ["f"], ["y"]))
    built = dynq.from_onnx(proto(nodes, {"x": np.zeros(1, F)}, {"y": TensorProto.FLOAT}))
    x = sparse(rng, 20)
    tensors = built.tensors({"x": x})
    assert np.array_equal(tensors["i"][0], np.flatnonzero(x)) and np.array_equal(tensors["f"], tensors["i"].astype(F))
