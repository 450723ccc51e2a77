"""Forms of ops that older opsets have, and normalizations that are written in pieces, against ONNX Runtime."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper
from onnx.reference import ReferenceEvaluator

import dynq


def small_model(
    op: str, opset: int, shape: list[Any], constants: dict[str, Any], outputs: int, **attributes: Any
) -> Any:
    names = [f"y{i}" for i in range(outputs)]
    node = helper.make_node(op, ["x", *constants], names, "node", **attributes)
    values = [helper.make_tensor_value_info(name, 0, None) for name in names]
    for value in values:
        value.ClearField("type")
    x = helper.make_tensor_value_info("x", 1, shape)
    tensors = [onnx.numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()]
    graph = helper.make_graph([node], "small", [x], values, tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=4)


def compare(model: Any, x: np.ndarray, rtol: float = 1e-5) -> None:
    inferred = onnx.shape_inference.infer_shapes(model)
    session = onnxruntime.InferenceSession(inferred.SerializeToString(), providers=["CPUExecutionProvider"])
    expected = session.run(None, {"x": x})
    got = dynq.from_onnx(model, quantize=False).run({"x": x})
    for have, want in zip(got.values(), expected, strict=True):
        assert have.dtype == want.dtype and have.shape == want.shape
        np.testing.assert_allclose(have, want, rtol=rtol, atol=1e-5)


LAST = 2**63 - 1
OLD: list[tuple[str, int, dict[str, Any], dict[str, Any], int]] = [
    ("Slice", 7, {}, {"starts": [1, -4], "ends": [LAST, -1], "axes": [2, 3]}, 1),
    ("Slice", 9, {}, {"starts": [0, 1], "ends": [1, 3]}, 1),
    ("Pad", 7, {}, {"pads": [0, 0, 1, 1, 0, 0, 1, 2], "mode": "reflect"}, 1),
    ("Pad", 10, {}, {"pads": [0, 1, 0, 2, 0, 0, 0, 0], "value": -1.5}, 1),
    ("Pad", 9, {}, {"pads": [0, 0, 0, 2, 0, 0, 1, 0], "mode": "edge"}, 1),
    ("TopK", 7, {}, {"k": 2, "axis": 1}, 2),
    ("TopK", 10, {"k": np.array([3], np.int64)}, {"axis": 3}, 2),
    ("Upsample", 7, {}, {"scales": [1.0, 1.0, 2.0, 3.0], "mode": "nearest"}, 1),
    ("Upsample", 7, {}, {"scales": [1.0, 1.0, 2.0, 2.0], "mode": "linear"}, 1),
    ("Upsample", 9, {"scales": np.array([1, 1, 1.5, 2], np.float32)}, {"mode": "nearest"}, 1),
    ("Upsample", 9, {"scales": np.array([1, 1, 2, 2], np.float32)}, {"mode": "linear"}, 1),
    ("Resize", 10, {"scales": np.array([1, 1, 2, 1.5], np.float32)}, {"mode": "nearest"}, 1),
    ("Resize", 10, {"scales": np.array([1, 1, 0.6, 0.6], np.float32)}, {"mode": "nearest"}, 1),
    ("Resize", 10, {"scales": np.array([1, 1, 0.6, 2.5], np.float32)}, {"mode": "linear"}, 1),
]


@pytest.mark.parametrize(("op", "opset", "constants", "attributes", "outputs"), OLD)
def test_an_old_form_means_what_it_did(
    op: str, opset: int, constants: dict[str, Any], attributes: dict[str, Any], outputs: int
) -> None:
    x = np.random.default_rng(1).standard_normal((2, 3, 5, 6), np.float32)
    compare(small_model(op, opset, [2, 3, 5, 6], constants, outputs, **attributes), x)


def test_a_scatter_of_opset_9_is_one_of_elements() -> None:
    indices, updates = np.array([[2, 0, 1]], np.int64), np.ones((1, 3), np.float32)
    x = np.random.default_rng(2).standard_normal((3, 3), np.float32)
    compare(small_model("Scatter", 9, [3, 3], {"i": indices, "u": updates}, 1, axis=0), x)


SCALE = {"scale": np.array([0.5, -2, 1.5], np.float32), "b": np.array([1, 0, -1], np.float32)}
PIECES: list[tuple[str, int, dict[str, Any], dict[str, Any]]] = [
    ("InstanceNormalization", 17, SCALE, {}),
    ("InstanceNormalization", 7, SCALE, {"epsilon": 0.1}),
    ("LRN", 13, {}, {"size": 3}),
    ("LRN", 13, {}, {"size": 5, "alpha": 0.5, "beta": 0.5, "bias": 2.0}),
    ("LRN", 7, {}, {"size": 1, "alpha": 1.0, "beta": 1.25}),
    ("LpNormalization", 17, {}, {"axis": 1, "p": 1}),
    ("LpNormalization", 17, {}, {}),
    ("Hardmax", 13, {}, {"axis": 1}),
    ("Hardmax", 11, {}, {"axis": 2}),
    ("Hardmax", 11, {}, {}),
]


@pytest.mark.parametrize("sizes", [[2, 3, 5, 6], ["n", 3, "h", "w"]])
@pytest.mark.parametrize(("op", "opset", "constants", "attributes"), PIECES)
def test_what_is_written_in_pieces_is_what_the_op_is(
    op: str, opset: int, constants: dict[str, Any], attributes: dict[str, Any], sizes: list[Any]
) -> None:
    x = np.random.default_rng(3).standard_normal((2, 3, 5, 6), np.float32)
    compare(small_model(op, opset, sizes, constants, 1, **attributes), x, rtol=1e-4)


def test_a_vector_of_norm_0_stays_0() -> None:
    model = dynq.from_onnx(small_model("LpNormalization", 17, [2, 3], {}, 1, axis=1), quantize=False)
    got = model(np.array([[0, 0, 0], [3, 0, 4]], np.float32))
    np.testing.assert_allclose(got, [[0, 0, 0], [0.6, 0, 0.8]], rtol=1e-6)


@pytest.mark.parametrize(("opset", "count"), [(18, 3), (21, 6)])
def test_group_normalization_has_a_scale_for_each_group_and_later_for_each_channel(opset: int, count: int) -> None:
    rng = np.random.default_rng(4)
    constants = {"scale": rng.standard_normal(count, np.float32), "b": rng.standard_normal(count, np.float32)}
    x = rng.standard_normal((2, 6, 4, 5), np.float32)
    model = small_model("GroupNormalization", opset, [2, 6, "h", "w"], constants, 1, num_groups=3)
    model.ir_version = 10
    (got,) = dynq.from_onnx(model, quantize=False).run({"x": x}).values()
    (expected,) = ReferenceEvaluator(model).run(None, {"x": x})
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)
