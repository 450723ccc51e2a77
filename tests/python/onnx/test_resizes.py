"""Resize and Upsample in their forms, against ONNX Runtime."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx.reference import ReferenceEvaluator

import dynq
from tests.python.references.onnx_models import model, node
from tests.python.references.onnx_runtime import agrees, by_runtime, error

X = np.random.default_rng(0).standard_normal((1, 2, 7, 9), np.float32)
PLACES = ["half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric", "half_pixel_symmetric"]
CUBIC: list[dict[str, Any]] = [
    {"mode": "linear"},
    {"mode": "cubic"},
    {"mode": "cubic", "cubic_coeff_a": -0.5, "exclude_outside": 1},
    {"mode": "linear", "antialias": 1},
    {"mode": "cubic", "antialias": 1},
]


def resize(opset: int, tensors: dict[str, Any], x: np.ndarray = X, **attributes: Any) -> Any:
    names = ("scales",) if opset == 10 else ("roi", "scales", "sizes")
    inputs = " ".join(["x", *(name if name in tensors else "-" for name in names)]).rstrip(" -")
    return model([node("Resize", inputs, "y", **attributes)], {"x": (x.dtype.name, x.shape)}, "y", tensors, opset=opset)


@pytest.mark.parametrize("attributes", CUBIC, ids=str)
@pytest.mark.parametrize("places", PLACES)
def test_any_size_and_any_scales(attributes: dict[str, Any], places: str) -> None:
    for name, numbers in (("scales", [1, 1, 2, 3]), ("scales", [1, 1, 1.7, 0.55]), ("sizes", [1, 2, 5, 13])):
        tensors = {name: np.array(numbers, np.float32 if name == "scales" else np.int64)}
        agrees(resize(19, tensors, coordinate_transformation_mode=places, **attributes), {"x": X})


@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
@pytest.mark.parametrize("opset", [11, 13, 18])
def test_a_crop(mode: str, opset: int) -> None:
    roi = np.array([0, 0, 0.21, -0.3, 1, 1, 0.83, 0.9], np.float32)
    for name, numbers in (("scales", [1, 1, 2, 0.7]), ("sizes", [1, 2, 5, 6])):
        tensors = {"roi": roi, name: np.array(numbers, np.float32 if name == "scales" else np.int64)}
        if opset < 18 and name == "sizes":
            tensors["scales"] = np.zeros(0, np.float32)
        attributes = {"coordinate_transformation_mode": "tf_crop_and_resize", "extrapolation_value": 5.0}
        proto = resize(opset, tensors, mode=mode, **attributes)
        agrees(proto, {"x": X})


def test_a_nearest_resize_of_opset_10_may_enlarge_one_axis_and_shrink_another() -> None:
    agrees(resize(10, {"scales": np.array([1, 1, 0.6, 2], np.float32)}, mode="nearest"), {"x": X})


def test_the_places_of_tensorflow_for_nearest() -> None:
    tensors = {"roi": np.zeros(0, np.float32), "scales": np.array([1, 1, 0.6, 2.4], np.float32)}
    attributes = {"mode": "nearest", "coordinate_transformation_mode": "tf_half_pixel_for_nn"}
    agrees(resize(11, tensors, nearest_mode="floor", **attributes), {"x": X})
    with pytest.raises(dynq.UnsupportedModelError, match="tf_half_pixel_for_nn of another mode"):
        dynq.from_onnx(resize(11, tensors, nearest_mode="ceil", **attributes))


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int32"])
@pytest.mark.parametrize("mode", ["linear", "cubic"])
def test_integers_are_rounded_as_by_the_reference(dtype: str, mode: str) -> None:
    x = np.random.default_rng(1).integers(0, 100, (1, 1, 5, 6)).astype(dtype)
    proto = resize(19, {"scales": np.array([1, 1, 2.2, 1.3], np.float32)}, x, mode=mode)
    got, want = dynq.from_onnx(proto)(x), np.asarray(ReferenceEvaluator(proto).run(None, {"x": x})[0])
    assert error(got, want) == 0


def test_nearest_of_integers_moves_them() -> None:
    x = np.random.default_rng(2).integers(0, 100, (1, 1, 5, 6)).astype(np.int32)
    proto = resize(19, {"sizes": np.array([1, 1, 8, 3])}, x, mode="nearest")
    assert error(dynq.from_onnx(proto)(x), by_runtime(proto, {"x": x})[0]) == 0
