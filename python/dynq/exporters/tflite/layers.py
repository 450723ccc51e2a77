"""Write layers with weights: products, convolutions and their transposes, embeddings."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...conversion import Unsupported
from ...core.arguments import Array
from ...ir.conv_panels import conv_float_rows
from ...ir.values import Value
from ...weights import QuantizedWeight
from ..site import weight_of
from .draft import OPEN, Edge, Place, Quantized, last_dims
from .expand import fused
from .windows import Window, padded

__all__ = ["conv", "conv_float", "conv_transpose", "embedding", "linear", "matmul", "plain_conv"]

# The versions of operators that take int8 weights with a scale for each channel beside float inputs.
_FULLY_CONNECTED, _CONV_2D, _EMBEDDING_LOOKUP, _DEQUANTIZE = 12, 5, 4, 5
_CONV_2D_IN_GROUPS, _TRANSPOSE_CONV_BIAS = 6, 3
_SAME, _VALID = 0, 1


def linear(place: Place) -> None:
    """Write FULLY_CONNECTED. Its hybrid kernel finds a range for each row of its input.

    A layer whose inputs are finer than 8 bits takes floats, and its weight is int8 behind DEQUANTIZE.
    """
    node, value = place.node, place.value("weight")
    packed = weight_of(value)
    if node.op == "dynq.LinearFloat":
        weight = _turned(place, value)
    elif packed is None:  # a graph that is not built: float (N, K)
        weight = place.draft.plain(value)
    else:
        weight = _integers(place, value, packed, packed.shape)
    hybrid = packed is not None
    if hybrid and (place.integer("bits", 8) != 8 or place.integer("group", 0)):  # finer inputs than the kernel's
        hybrid = False
        weight = place.op("DEQUANTIZE", [weight], weight.dims, "float32", _DEQUANTIZE, "DequantizeOptions")
    y = place.op(
        "FULLY_CONNECTED", [place.plain("x"), weight, place.maybe("bias")], place.out_dims(),
        version=_FULLY_CONNECTED if hybrid else 5, options="FullyConnectedOptions", KeepNumDims=True,
        FusedActivationFunction=fused(place) or 0, AsymmetricQuantizeInputs=hybrid and _asymmetric(place),
    )  # fmt: skip
    place.gives(y)


def _asymmetric(place: Place) -> bool:
    return place.text("scheme", "asymmetric") == "asymmetric"


def _turned(place: Place, value: Value) -> Edge:
    """Return a weight (K, N) as (N, K)."""
    array = value.array
    if array is None:
        raise Unsupported("a weight that is not constant")
    return place.draft.constant((value, "turned"), value.name, "float32", array.shape[::-1], lambda: array.T)


def _integers(place: Place, value: Value, packed: QuantizedWeight, dims: tuple[int, ...]) -> Edge:
    """Return int8 weights with a scale for each index of the first axis."""
    if packed.zero_point is not None:
        raise Unsupported("a weight with zero-points")
    scales = Quantized(np.array(packed.scale))
    return place.draft.constant(
        (value, dims), value.name, "int8", dims, lambda: packed.integers().reshape(dims), scales
    )


def matmul(place: Place) -> None:
    """Write BATCH_MATMUL, which takes no vectors."""
    a, b = place.plain("A"), place.plain("B")
    if a.dtype != "float32" or min(len(a.dims), len(b.dims)) < 2:
        raise Unsupported("MatMul of a vector" if a.dtype == "float32" else f"MatMul of {a.dtype}")
    place.gives(place.op("BATCH_MATMUL", [a, b], place.out_dims(), options="BatchMatMulOptions"))


def embedding(place: Place) -> None:
    """Write dynq.Embedding as EMBEDDING_LOOKUP of int8 rows, each with its scale. It takes a vector of int32."""
    rows, scale = place.value("rows"), place.known("scale", "scales")
    array = rows.array
    if array is None:
        raise Unsupported("dynq.Embedding whose rows are not constant")
    table = place.draft.constant(
        (rows, "table"), rows.name, "int8", array.shape, lambda: array, Quantized(np.array(scale))
    )
    indices, dims = place.cast(place.plain("indices"), "int32"), place.out_dims()
    shape = place.out().shape
    assert shape is not None
    count = int(np.prod(dims[:-1])) if OPEN not in dims[:-1] else OPEN
    flat = place.reshaped(indices, (count,))
    y = place.op("EMBEDDING_LOOKUP", [flat, table], (count, dims[-1]), "float32", version=_EMBEDDING_LOOKUP)
    several = dims.count(OPEN) > 1
    place.gives(place.reshaped(y, dims, place.draft.sizes(shape, "sizes") if several else None))


def conv(place: Place) -> None:
    """Write dynq.Conv as CONV_2D. Its weight is packed, or float (M, C, ...) if the graph is not built."""
    value = place.value("weight")
    packed = weight_of(value)
    if packed is None:
        _float_conv(place, value)
        return
    kernel = place.numbers("kernel_shape", [])
    m, k = packed.shape
    dims = (m, *([1] * (2 - len(kernel))), *kernel, k // max(int(np.prod(kernel)), 1))
    weight = _integers(place, value, packed, dims)
    _write(place, weight, "CONV_2D", _CONV_2D)


def conv_float(place: Place) -> None:
    """Write dynq.ConvFloat, whose weight is in panels of outputs of a group."""
    value, rows = place.value("weight"), conv_float_rows(place.node)
    kernel = place.numbers("kernel_shape", [])
    if rows is None or not kernel:
        raise Unsupported("dynq.ConvFloat whose weight is not constant, or without kernel_shape")
    wide = [*([1] * (2 - len(kernel))), *kernel]
    _grouped(place, value, rows.reshape(len(rows), *wide, -1))


def plain_conv(place: Place) -> None:
    """Write Conv, whose weight is float (M, C, ...)."""
    _float_conv(place, place.value("W"))


def _float_conv(place: Place, value: Value) -> None:
    array = value.array
    if array is None:
        raise Unsupported("a weight that is not constant")
    rows = np.moveaxis(array, 1, -1)
    _grouped(place, value, rows[:, None] if array.ndim == 3 else rows)


def _grouped(place: Place, value: Value, rows: Array) -> None:
    """Write a float convolution with a weight (M, H, W, C of a group)."""
    group, key = place.integer("group", 1), (value, "float")
    if group > 1 and rows.shape[3] == 1:
        turned = np.moveaxis(rows, 3, 0)  # (1, H, W, M)
        turned = np.moveaxis(turned, 1, 3)
        weight = place.draft.constant(key, value.name, "float32", turned.shape, lambda: turned)
        _write(place, weight, "DEPTHWISE_CONV_2D", 2, len(rows) // group)
    else:
        weight = place.draft.constant(key, value.name, "float32", rows.shape, lambda: rows)
        _write(place, weight, "CONV_2D", 1 if group == 1 else _CONV_2D_IN_GROUPS)


def _write(place: Place, weight: Edge, op: str, version: int, multiplier: int = 0) -> None:
    """Write a convolution of an image, or of a row: that gets a height of 1."""
    window = Window.of(place, place.value(0))
    x, same = padded(place, window, place.last(0), 0.0)
    dims = window.wide(last_dims(place.out_dims()))
    more: dict[str, Any] = {"options": "Conv2DOptions"}
    if op == "DEPTHWISE_CONV_2D":
        more = {"options": "DepthwiseConv2DOptions", "DepthMultiplier": multiplier}
    bias = place.maybe(2)
    if bias is None:
        count = dims[-1]
        bias = place.draft.array(np.zeros(count, np.float32), f"{place.node.name}/bias")
    y = place.op(
        op, [x, weight, bias], dims, version=version,
        Padding=_SAME if same else _VALID, StrideH=window.strides[0], StrideW=window.strides[1],
        DilationHFactor=window.dilations[0], DilationWFactor=window.dilations[1],
        FusedActivationFunction=fused(place) or 0, **more,
    )  # fmt: skip
    place.gives(window.back(y), last=True)


def conv_transpose(place: Place) -> None:
    """Write TRANSPOSE_CONV. What the padding takes off an end that it cannot say is cut off behind it."""
    array = place.known("W", "weights")
    if place.integer("group", 1) != 1 or set(place.numbers("dilations", [1])) != {1}:
        raise Unsupported("ConvTranspose in groups or with dilations")
    if array.ndim != 4:
        raise Unsupported("ConvTranspose of rows")
    dims, of_x = last_dims(place.out_dims()), place.last("X").dims
    if OPEN in dims or OPEN in of_x:
        raise Unsupported("ConvTranspose of sizes that are open")
    strides, extents = place.numbers("strides", [1, 1]), array.shape[2:]
    begins = _begins(place, of_x, dims, strides, extents)
    same = all(
        -(-want // step) == have and begin == max((have - 1) * step + extent - want, 0) // 2
        for have, want, step, extent, begin in zip(of_x[1:3], dims[1:3], strides, extents, begins, strict=True)
    )
    full = tuple((have - 1) * step + extent for have, step, extent in zip(of_x[1:3], strides, extents, strict=True))
    if not same and any(begin + want > size for begin, want, size in zip(begins, dims[1:3], full, strict=True)):
        raise Unsupported("ConvTranspose that is padded behind its end")
    made = dims if same else (dims[0], *full, dims[3])
    weight = place.draft.constant(
        (place.value("W"), "transposed"), place.value("W").name, "float32",
        (array.shape[1], *extents, array.shape[0]), lambda: np.transpose(array, [1, 2, 3, 0]),
    )  # fmt: skip
    bias = place.maybe("B")
    y = place.op(
        "TRANSPOSE_CONV", [place.ints(made), weight, place.last("X"), *([] if bias is None else [bias])], made,
        "float32", version=1 if bias is None else _TRANSPOSE_CONV_BIAS, options="TransposeConvOptions",
        Padding=_SAME if same else _VALID, StrideH=strides[0], StrideW=strides[1],
    )  # fmt: skip
    if made != dims:
        y = place.op("SLICE", [y, place.ints([0, *begins, 0]), place.ints(dims)], dims, options="SliceOptions")
    place.gives(y, last=True)


def _begins(
    place: Place, of_x: tuple[int, ...], dims: tuple[int, ...], strides: list[int], extents: tuple[int, ...]
) -> list[int]:
    """Return what is taken off before the first row and column."""
    auto = place.text("auto_pad", "NOTSET")
    if auto == "NOTSET" and "output_shape" not in place.node.attributes:
        return place.numbers("pads", [0, 0, 0, 0])[:2]
    total = [
        max(step * (have - 1) + extent - want, 0)
        for have, want, step, extent in zip(of_x[1:3], dims[1:3], strides, extents, strict=True)
    ]
    return [part - part // 2 if auto == "SAME_LOWER" else part // 2 for part in total]
