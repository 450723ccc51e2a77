"""Convolutions and pooling over three axes and more, against ONNX Runtime, in float32 and in int8."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import dynq
from tests.python.references.onnx_models import model, node
from tests.python.references.onnx_runtime import agrees

SHAPES = {"fixed": [2, 4, 5, 6, 7], "open": ["n", 4, "d", "h", "w"]}
CONVOLUTIONS: list[tuple[int, dict[str, Any]]] = [
    (1, {"pads": [1, 1, 1, 1, 0, 1]}),
    (2, {"strides": [2, 1, 2], "dilations": [1, 2, 1]}),
    (1, {"auto_pad": "SAME_UPPER", "strides": [2, 2, 2]}),
    (1, {"auto_pad": "SAME_LOWER"}),
    (1, {"auto_pad": "VALID"}),
]
TRANSPOSED: list[tuple[int, dict[str, Any]]] = [
    (1, {}),
    (1, {"pads": [1, 0, 1, 0, 1, 1], "strides": [2, 2, 1], "output_padding": [1, 0, 0]}),
    (2, {"strides": [1, 2, 3], "dilations": [2, 1, 1]}),
    (1, {"output_shape": [10, 12, 14], "strides": [2, 2, 2]}),
]
WINDOWS: list[dict[str, Any]] = [
    {"kernel_shape": [2, 2, 2]},
    {"kernel_shape": [3, 2, 3], "strides": [2, 1, 2], "pads": [1, 0, 1, 1, 1, 1]},
    {"kernel_shape": [3, 3, 3], "strides": [2, 2, 2], "ceil_mode": 1},
    {"kernel_shape": [2, 3, 2], "auto_pad": "SAME_UPPER", "strides": [2, 2, 2]},
]


def normal(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).standard_normal(shape, np.float32)


def volume(op: str, inputs: str, shape: str, tensors: dict[str, Any], **attributes: Any) -> Any:
    return model([node(op, inputs, "y", "node", **attributes)], {"x": ("float32", SHAPES[shape])}, "y", tensors)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("group", "attributes"), CONVOLUTIONS)
def test_a_convolution_over_three_axes_is_one_over_two(group: int, attributes: dict[str, Any], shape: str) -> None:
    if shape == "open" and str(attributes.get("auto_pad", "")).startswith("SAME"):
        with pytest.raises(dynq.UnsupportedModelError, match=r"--input-shape x=nx4xdxhxw"):
            dynq.from_onnx(volume("Conv", "x w", shape, {"w": normal(20, 4, 3, 2, 3)}, group=group, **attributes))
        return
    tensors = {"w": normal(20, 4 // group, 3, 2, 3), "b": normal(20)}
    built = agrees(volume("Conv", "x w b", shape, tensors, group=group, **attributes), {"x": normal(2, 4, 5, 6, 7)})
    assert "node" in str(built.report())  # the layer keeps its name
    assert ("int8" in str(built.report())) == (group == 1)


def test_a_convolution_over_four_axes_loads() -> None:
    w, x = normal(3, 2, 2, 2, 1, 2), normal(1, 2, 4, 3, 3, 4)
    proto = model([node("Conv", "x w", "y")], {"x": ("float32", x.shape)}, "y", {"w": w})
    got = dynq.from_onnx(proto, quantize=False)(x)
    expected = np.zeros((1, 3, 3, 2, 3, 3), np.float32)
    for place in np.ndindex(3, 2, 3, 3):
        a, b, c, d = place
        expected[(0, slice(None), *place)] = np.tensordot(w, x[0, :, a : a + 2, b : b + 2, c : c + 1, d : d + 2], 5)
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("group", "attributes"), TRANSPOSED)
def test_a_transposed_convolution_over_three_axes(group: int, attributes: dict[str, Any], shape: str) -> None:
    tensors = {"w": normal(4, 3, 3, 2, 3), "b": normal(3 * group)}
    proto = volume("ConvTranspose", "x w b", shape, tensors, group=group, **attributes)
    agrees(proto, {"x": normal(2, 4, 5, 6, 7)})


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("op", ["MaxPool", "AveragePool"])
@pytest.mark.parametrize("attributes", WINDOWS)
def test_windows_over_three_axes(op: str, attributes: dict[str, Any], shape: str) -> None:
    if shape == "fixed" or "auto_pad" not in attributes:
        agrees(volume(op, "x", shape, {}, **attributes), {"x": normal(2, 4, 5, 6, 7)})
    if op == "AveragePool" and "pads" in attributes:
        agrees(volume(op, "x", shape, {}, **attributes, count_include_pad=1), {"x": normal(2, 4, 5, 6, 7)})


@pytest.mark.parametrize("op", ["GlobalMaxPool", "GlobalAveragePool", "GlobalLpPool"])
def test_whole_volumes(op: str) -> None:
    agrees(volume(op, "x", "open", {}), {"x": normal(2, 4, 5, 6, 7)})


@pytest.mark.parametrize("p", [1, 2, 3])
@pytest.mark.parametrize("rank", [3, 4, 5])
def test_norms_of_windows(p: int, rank: int) -> None:
    shape, kernel = (2, 4, 5, 6, 7)[:rank], [2, 3, 2][: rank - 2]
    pads = [1] * (rank - 2) + [0] * (rank - 2)
    nodes = [node("LpPool", "x", "y", kernel_shape=kernel, p=p, pads=pads)]
    agrees(model(nodes, {"x": ("float32", shape)}, "y", opset=17), {"x": normal(*shape)})


def test_places_of_the_largest_of_a_volume_are_refused() -> None:
    nodes = [node("MaxPool", "x", "y i", "pool", kernel_shape=[2, 2, 2])]
    proto = model(nodes, {"x": ("float32", SHAPES["fixed"])}, "y i")
    with pytest.raises(dynq.UnsupportedModelError, match="Indices of MaxPool over 3 axes: 'pool'"):
        dynq.from_onnx(proto)
