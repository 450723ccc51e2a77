"""Convolutions in the layout of one CPU, which ONNX Runtime writes with all optimizations (com.microsoft.nchwc).

Channels lie in blocks of 8 or 16, as the CPU has them; the file does not say which. Where the sizes of weights leave no
doubt the weights are put back in order. All values are (batch, channels, height, width) then, with filling at the end
of the channels. Where there is doubt the model is refused.
"""

from __future__ import annotations

from functools import partial

import numpy as np
from onnx import NodeProto

from ....conversion import Unsupported
from ....core.arguments import Array
from ..attributes import FLOATS, INT, INTS, TEXT, one_of, unused
from ..convert import Call, Result
from ..convert import converter as any_converter
from ..source import Source
from .dequantized import constant_of
from .fused import activated_conv

_DOMAIN = "com.microsoft.nchwc"
converter = partial(any_converter, domain=_DOMAIN)
_window = {"auto_pad": TEXT, "dilations": INTS, "kernel_shape": INTS, "pads": INTS, "strides": INTS}


def _block(call: Call) -> int:
    sizes = _sizes(call.source)
    if len(sizes) != 1:
        raise Unsupported(
            f"{call.op} in the layout of one CPU: have ONNX Runtime write the model with ORT_ENABLE_EXTENDED, not _ALL"
        )
    return sizes.pop()


def _sizes(source: Source) -> set[int]:
    """Return the sizes of blocks that convolutions and outputs show."""
    nodes = list(source.graph.node)
    makers = {output: node for node in nodes for output in node.output}
    inputs = {value.name for value in source.graph.input}
    result: set[int] = set()
    for node in nodes:
        if node.domain == _DOMAIN and node.op_type == "Conv" and node.input[1] in source.tensors:
            maker = makers.get(node.input[0])
            inside = maker is not None and maker.domain == _DOMAIN and maker.op_type != "ReorderOutput"
            outside = maker.op_type == "ReorderOutput" if maker is not None else node.input[0] in inputs
            shape = source.tensors[node.input[1]].shape
            result |= _size_of_conv(shape, _integer(node, "group", 1), outside, inside)
        if node.domain == _DOMAIN and node.op_type == "ReorderOutput" and node.input[0] in makers:
            maker, channels = makers[node.input[0]], _integer(node, "channels", 0)
            if maker.domain == _DOMAIN and maker.op_type == "Conv" and maker.input[1] in source.tensors:
                made = source.tensors[maker.input[1]].shape[0]
                result |= {16} if made != -(-channels // 8) * 8 else set()
    return result


def _size_of_conv(shape: tuple[int, ...], group: int, outside: bool, inside: bool) -> set[int]:
    """Return the size of a block if one convolution shows it.

    Outputs, and inputs that are in blocks, are filled up to whole ones. Inputs fewer than a block lie as usual.
    """
    outputs, inputs = shape[:2]
    found = {8} if outputs // group % 16 == 8 or outputs % 16 == 8 else set()
    if group > 1:
        return found | ({8} if inputs % 16 == 8 else set())
    if inputs == 8:
        return found | ({16} if outside else {8} if inside else set())
    if inputs > 8 and inputs % 8:
        return found | {16}
    return found | ({8} if inputs % 16 == 8 else set())


def _integer(node: NodeProto, name: str, otherwise: int) -> int:
    return next((int(attribute.i) for attribute in node.attribute if attribute.name == name), otherwise)


@converter("Conv", also=_window, activation=TEXT, activation_params=FLOATS, group=INT)
def conv(call: Call) -> Result:
    """x, w, b?, sum?"""
    weight = _in_order(constant_of(call, 1, "weights"), call.attribute("group", 1), _block(call))
    return activated_conv(call, call.constant(weight, "weight"))


def _in_order(weight: Array, group: int, block: int) -> Array:
    """Return (outputs, inputs, height, width) of weights in blocks of outputs, or of both."""
    outputs, inputs, *kernel = weight.shape
    if outputs % block:
        raise ValueError(f"weights have {outputs} outputs; expected a multiple of {block}")
    if (group > 1 and inputs == 1) or (group == 1 and inputs < block):
        return np.moveaxis(weight.reshape(outputs // block, inputs, *kernel, block), -1, 1).reshape(weight.shape)
    if inputs % block:
        raise ValueError(f"weights have {inputs} inputs; expected a multiple of {block}")
    parts = weight.reshape(outputs // block, inputs // block, *kernel, block, block)
    return np.moveaxis(parts, (-1, -2), (1, 3)).reshape(weight.shape)


@converter("MaxPool", also=_window, ceil_mode=INT, storage_order=unused())
@converter("AveragePool", also=_window, ceil_mode=INT, count_include_pad=INT)
@converter("GlobalMaxPool", "GlobalAveragePool", also=_window)
def pool(call: Call) -> Result:
    if call.op.startswith("Global"):
        return call.emit(call.op, [call.need(0)])
    return call.emit(call.op, [call.need(0)], **call.attributes)


@converter("Upsample", coordinate_transformation_mode=TEXT, mode=one_of("nearest", "linear"), scales=INTS)
def upsample(call: Call) -> Result:
    scales = call.constant(np.array(call.attribute("scales", [1, 1, 1, 1]), np.float32), "scales")
    how = call.attribute("coordinate_transformation_mode", "asymmetric")
    mode = call.attribute("mode", "nearest")
    inputs = [call.need(0), None, scales]
    return call.emit("Resize", inputs, mode=mode, coordinate_transformation_mode=how, nearest_mode="floor")


@converter("ReorderInput", channels_last=one_of(0, 1))
def reorder_input(call: Call) -> Result:
    """Fill the channels up to whole blocks."""
    block, x = _block(call), call.need(0)
    if call.attribute("channels_last", 0):
        x = call.node("Transpose", [x], perm=[0, 3, 1, 2])
    channels = x.shape[1] if x.shape else None
    if not isinstance(channels, int):
        raise Unsupported("ReorderInput of channels that are not known before the run")
    if channels % block == 0:
        return call.last("Identity", [x])
    pads = np.array([0, 0, 0, 0, 0, -channels % block, 0, 0], np.int64)
    return call.last("Pad", [x, call.constant(pads, "pads")])


@converter("ReorderOutput", channels=INT, channels_last=one_of(0, 1))
def reorder_output(call: Call) -> Result:
    """Keep the channels that are no filling."""
    x, channels = call.need(0), call.attribute("channels", 0)
    if not (x.shape and x.shape[1] == channels):
        begin, end, axis = (call.constant(np.array([i], np.int64)) for i in (0, channels, 1))
        x = call.node("Slice", [x, begin, end, axis])
    if call.attribute("channels_last", 0):
        return call.last("Transpose", [x], perm=[0, 2, 3, 1])
    return call.last("Identity", [x])
