"""Layers with weights: products, convolutions and their transposes."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np

from ....conversion import Unsupported
from ....core.arguments import Array
from ....graph import Value
from ....ir.deferred import on_rows
from ....weights import QuantizedWeight
from ..convert import Call, Result, converter
from ..hybrid import HybridWeight, convolve, hybrid_weight, multiply, quantized_rows
from ..layout import Planes

_SAME = 0  # Padding's number
_CUSTOM_SAME, _CUSTOM_VALID = 1, 2  # those of TfLitePadding, which custom ops have in their options


@converter("FULLY_CONNECTED", "FullyConnectedOptions")
def fully_connected(call: Call) -> Result:
    """x, weight (N, K), bias?: the rows of x are flattened unless keep_num_dims is set."""
    call.refuse_option("WeightsFormat")
    x, constant = call.value(0), call.constant(1)
    k = _size(call, call.tensor(1).shape if constant is not None else call.value(1).shape, 1)
    flat = x.shape is not None and len(x.shape) == 2 and x.shape[1] == k
    if not call.option("KeepNumDims", False) and not flat:
        x = call.node("Reshape", [x, call.integers([-1, k])])
    bias = _bias(call, 2)
    weight = hybrid_weight(call, 1)
    if weight is not None:
        return call.activated(_hybrid_product(call, x, k, weight, bias))
    if constant is None or x.constant is not None:
        y = call.node("MatMul", [x, call.node("Transpose", [call.value(1)], perm=[1, 0])])
        return call.activated(y if bias is None else call.node("Add", [y, bias]))
    rows = constant.rows()
    if rows is None and not call.is_float(1):
        raise Unsupported(f"{call.op} with a weight of integers without scales")
    if rows is None:
        rows_of_weight = call.value(1)
    else:
        rows_of_weight = call.walk.shared(
            constant, "packed", f"{call.name}/weight", lambda: QuantizedWeight.from_integers(rows.integers, rows.scale)
        )
    return call.activated(call.node("dynq.Linear", [x, rows_of_weight, bias]))


def _hybrid_product(call: Call, x: Value, k: int, weight: HybridWeight, bias: Value | None) -> Value:
    asymmetric = bool(call.option("AsymmetricQuantizeInputs", False))
    flat = call.make("Reshape", [x, np.array([-1, k])])
    y: Value = multiply(call.make, quantized_rows(call.make, flat, asymmetric), weight, asymmetric, bias)
    if x.shape is not None and len(x.shape) == 2:
        return y
    dims = call.make("Slice", [call.make("Shape", [x]), np.array([0]), np.array([-1])])
    shape = call.make("Concat", [dims, np.array([len(weight.integers)])], axis=0)
    return call.node("Reshape", [y, shape])


def _bias(call: Call, index: int) -> Value | None:
    return call.value(index) if call.has(index) else None


def _size(call: Call, shape: Any, axis: int) -> int:
    size = shape[axis] if shape is not None and len(shape) > axis else None
    if not isinstance(size, int):
        raise Unsupported(f"{call.op} with a weight whose sizes are not known")
    return size


@converter("BATCH_MATMUL", "BatchMatMulOptions")
def batch_matmul(call: Call) -> Result:
    if hybrid_weight(call, 1) is not None:
        raise Unsupported("BATCH_MATMUL of int8 weights by TensorFlow Lite's numerics")
    operands = []
    for index, name in enumerate(("AdjX", "AdjY")):
        value = call.value(index)
        if call.option(name, False):
            rank = call.rank(index)
            perm = [*range(rank - 2), rank - 1, rank - 2]
            array = value.array
            value = call.node("Transpose", [value], perm=perm) if array is None else call.number(array.transpose(perm))
        operands.append(value)
    return call.node("MatMul", operands)


@converter("CONV_2D", "Conv2DOptions")
def conv_2d(call: Call) -> Result:
    """x, weight (O, H, W, I), bias?: with fewer input channels in the weight, the channels are in groups."""
    x = call.planes(0)
    weight, shape = _weight(call, [0, 3, 1, 2])
    channels = x.shape[1] if x.shape is not None else None
    groups = 1
    if isinstance(channels, int) and channels != shape[3]:
        if shape[3] == 0 or channels % shape[3]:
            raise ValueError(f"a weight of shape {shape} for {channels} channels")
        groups = channels // shape[3]
    attributes = {**_window(call, x, list(shape[1:3])), "group": groups}
    hybrid = hybrid_weight(call, 1)
    if hybrid is not None:
        if groups > 1 and not hybrid.is_per_channel:
            raise Unsupported("CONV_2D in groups with one scale by TensorFlow Lite's numerics")
        return Planes(call.activated(convolve(call.make, x, hybrid, _bias(call, 2), attributes)))
    y = call.node("Conv", [x, weight, _bias(call, 2)], **attributes)
    return Planes(call.activated(y))


@converter("DEPTHWISE_CONV_2D", "DepthwiseConv2DOptions")
def depthwise_conv_2d(call: Call) -> Result:
    """x, weight (1, H, W, C * multiplier), bias?"""
    x = call.planes(0)
    weight, shape = _weight(call, [3, 0, 1, 2])
    channels = _size(call, x.shape, 1)
    if shape[0] != 1 or channels < 1 or shape[3] % channels:
        raise ValueError(f"a depthwise weight of shape {shape} for {channels} channels")
    attributes = {**_window(call, x, list(shape[1:3])), "group": channels}
    hybrid = hybrid_weight(call, 1, axis=3)
    if hybrid is not None:
        if hybrid.scale.size != shape[3]:
            raise Unsupported("DEPTHWISE_CONV_2D with one scale by TensorFlow Lite's numerics")
        return Planes(call.activated(convolve(call.make, x, hybrid, _bias(call, 2), attributes, depthwise=True)))
    y = call.node("Conv", [x, weight, _bias(call, 2)], **attributes)
    return Planes(call.activated(y))


def _weight(call: Call, perm: list[int], index: int = 1) -> tuple[Value, tuple[int, ...]]:
    """Return a weight with its axes in another order, and the shape that the file has."""
    constant = call.constant(index)
    if constant is None:
        value = call.value(index)
        shape = tuple(call.sizes(value))
        _four(shape)
        return call.node("Transpose", [value], perm=perm), shape
    _four(constant.shape)
    rows = constant.rows() if perm[0] == 0 else None
    if rows is not None:
        turned: Any = on_rows(lambda part: part.transpose(perm) if part.ndim == 4 else part, rows)
    else:
        turned = constant.array.transpose(perm)
    return call.walk.shared(constant, str(perm), f"{call.name}/weight", lambda: turned), constant.shape


def _four(shape: tuple[int, ...]) -> None:
    if len(shape) != 4:
        raise ValueError(f"a weight of shape {shape}; expected four dimensions")


def _window(call: Call, x: Value, kernel: list[int]) -> dict[str, Any]:
    """Return the attributes of a window over planes."""
    strides = [call.option("StrideH"), call.option("StrideW")]
    dilations = [call.option("DilationHFactor", 1), call.option("DilationWFactor", 1)]
    return window_attributes(x, kernel, strides, dilations, call.option("Padding", _SAME) == _SAME)


def window_attributes(
    x: Value, kernel: list[int], strides: list[int], dilations: list[int], same: bool
) -> dict[str, Any]:
    """Return ONNX's attributes. If the sizes of x are known, paddings are numbers."""
    if min(*strides, *dilations, *kernel) < 1:
        raise ValueError(f"a window {kernel} with strides {strides} and dilations {dilations}")
    attributes: dict[str, Any] = {"kernel_shape": kernel, "strides": strides}
    if max(dilations) > 1:
        attributes["dilations"] = dilations
    if not same:
        return attributes
    begin, end = [], []
    sizes = [None, None] if x.shape is None else x.shape[2:]
    for size, extent, stride, dilation in zip(sizes, kernel, strides, dilations, strict=True):
        reach = (extent - 1) * dilation + 1
        if stride == 1:
            total = reach - 1
        elif isinstance(size, int):
            total = max((-(-size // stride) - 1) * stride + reach - size, 0)
        else:
            return {**attributes, "auto_pad": "SAME_UPPER"}
        begin.append(total // 2)
        end.append(total - total // 2)
    return {**attributes, "pads": begin + end} if max(begin + end) else attributes


@converter("TRANSPOSE_CONV", "TransposeConvOptions")
def transpose_conv(call: Call) -> Result:
    """sizes, weight (O, H, W, I), x, bias?"""
    x = call.planes(2)
    wanted = call.dims(0)
    sizes = [size for size in wanted[1:3] if isinstance(size, int)]
    if len(wanted) != 4 or len(sizes) != 2:
        raise Unsupported("TRANSPOSE_CONV to sizes that are computed")
    strides = [call.option("StrideH"), call.option("StrideW")]
    same = call.option("Padding", _SAME) == _SAME
    y = _transposed(call, x, 1, _bias(call, 3), strides, same, sizes)
    return Planes(call.activated(y))


@converter("CUSTOM:Convolution2DTransposeBias")
def transpose_conv_bias(call: Call) -> Result:
    """x, weight (O, H, W, I), bias: MediaPipe's op, whose options are the three numbers of a C struct."""
    options = call.operator.custom_options
    if len(options) < 12:
        raise Unsupported("CUSTOM:Convolution2DTransposeBias without its 12 bytes of options")
    padding, stride_w, stride_h = struct.unpack("<iii", options[:12])
    if padding not in (_CUSTOM_SAME, _CUSTOM_VALID) or any(options[12:]):
        raise Unsupported(f"CUSTOM:Convolution2DTransposeBias with options {options.hex()}")
    x = call.planes(0)
    kernel, same = call.tensor(1).shape[1:3], padding == _CUSTOM_SAME
    if x.shape is None or not all(isinstance(size, int) for size in x.shape[2:]):
        raise Unsupported("CUSTOM:Convolution2DTransposeBias of a tensor whose sizes are open")
    sizes = [
        int(size or 0) * stride + (0 if same else max(extent - stride, 0))
        for size, stride, extent in zip(x.shape[2:], (stride_h, stride_w), kernel, strict=True)
    ]
    return Planes(_transposed(call, x, 1, _bias(call, 2), [stride_h, stride_w], same, sizes))


def _transposed(
    call: Call, x: Value, index: int, bias: Value | None, strides: list[int], same: bool, sizes: list[int]
) -> Value:
    """Return the transpose of a convolution that makes ``sizes`` by a window of ``strides`` to those of x."""
    constant = call.constant(index)
    if constant is None:
        raise Unsupported(f"{call.op} with a weight that is computed")
    _four(constant.shape)
    if min(strides) < 1 or min(sizes) < 1 or x.shape is None:
        raise ValueError(f"strides {strides} to {sizes}")
    begin, end, more = [], [], []
    for have, want, extent, stride in zip(x.shape[2:], sizes, constant.shape[1:3], strides, strict=True):
        if not isinstance(have, int):
            raise Unsupported(f"{call.op} of a tensor whose sizes are open")
        steps = -(-want // stride) if same else (want + stride - extent) // stride
        first = max((steps - 1) * stride + extent - want, 0) // 2
        last = stride * (have - 1) + extent - first - want
        begin.append(first)
        end.append(max(last, 0))
        more.append(max(-last, 0))
    weight: Array = np.transpose(constant.array, [3, 0, 1, 2])
    attributes: dict[str, Any] = {"kernel_shape": list(weight.shape[2:]), "strides": strides}
    if max(begin + end):
        attributes["pads"] = begin + end
    if max(more):
        attributes["output_padding"] = more
    return call.node("ConvTranspose", [x, call.walk.constant(weight, f"{call.name}/weight"), bias], **attributes)


@converter("EMBEDDING_LOOKUP")
def embedding_lookup(call: Call) -> Result:
    """indices, table: one of int8 keeps its integers."""
    constant = call.constant(1)
    rows = None if constant is None or len(constant.shape) != 2 else constant.rows()
    if rows is not None:
        table = [call.walk.constant(part, f"{call.name}/{name}") for part, name in
                 ((rows.integers, "rows"), (rows.scale, "scale"))]  # fmt: skip
        return call.node("dynq.Embedding", [*table, call.value(0)])
    return call.node("Gather", [call.value(1), call.value(0)], axis=0)
