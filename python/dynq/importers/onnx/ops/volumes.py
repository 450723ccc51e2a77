"""Convolutions and pooling over three and more axes: the first of them becomes part of the channels or of the batch."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ....conversion import Unsupported
from ....graph import Value
from ..convert import Call, Result
from .sizes import Dim, integers, known_size, reshaped, window_starts

__all__ = ["conv", "conv_transpose", "pool"]

_MOST_AXES = 5  # a convolution gathers one axis more, and tensors have up to eight


def _numbers(call: Call, name: str, count: int, otherwise: int) -> list[int]:
    """Return the ints of an attribute, of which there are ``count``."""
    values = list(call.attribute(name, [otherwise] * count))
    if len(values) != count:
        raise ValueError(f"attribute {name} has {len(values)} values; expected {count}")
    return values


class _Windows:
    """The attributes of the windows of a node, by axis."""

    def __init__(self, call: Call, kernel: list[int]) -> None:
        self.count = len(kernel)
        if self.count > _MOST_AXES:
            raise Unsupported(f"{call.op} over {self.count} axes; expected up to {_MOST_AXES}")
        if call.attribute("kernel_shape", kernel) != kernel:
            raise ValueError(f"kernel_shape is {call.attributes['kernel_shape']}, the weights have {kernel}")
        self.auto_pad = call.attribute("auto_pad", "NOTSET")
        self.kernel = kernel
        self.strides = _numbers(call, "strides", self.count, 1)
        self.dilations = _numbers(call, "dilations", self.count, 1)
        pads = _numbers(call, "pads", 2 * self.count, 0) if self.auto_pad == "NOTSET" else [0] * 2 * self.count
        self.before, self.after = pads[: self.count], pads[self.count :]
        if min(*self.strides, *self.dilations, *kernel) < 1 or min(pads) < 0:
            raise ValueError("strides, dilations and the kernel are 1 or more, pads 0 or more")

    def attributes(self, first: int, end: int, **others: Any) -> dict[str, Any]:
        """Return the attributes of the axes from ``first`` up to ``end``."""
        at = slice(first, end)
        result = {"kernel_shape": self.kernel[at], "strides": self.strides[at], "dilations": self.dilations[at]}
        if self.auto_pad == "NOTSET":
            return {**result, "pads": [*self.before[at], *self.after[at]], **others}
        return {**result, "auto_pad": self.auto_pad, **others}

    def width(self, axis: int) -> int:
        """Return how many places a window covers."""
        return (self.kernel[axis] - 1) * self.dilations[axis] + 1


def conv(call: Call) -> Result:
    """Emit a Conv of two axes over images that have the windows of the other axes as channels."""
    x, w, bias = call.need("X"), call.need("W"), call.input("B")
    if w.shape is None or not all(isinstance(size, int) for size in w.shape):
        raise Unsupported("Conv over three axes or more with weights whose sizes are not known")
    sizes = [int(size) for size in w.shape]  # type: ignore[arg-type]
    windows, group = _Windows(call, sizes[2:]), call.attribute("group", 1)
    array = call.array("W")
    folded, channels = x, sizes[1]
    outer: list[Value] = []  # the tensors whose first two axes are the batch and the axis that went into it
    for axis in range(windows.count - 2):
        gathered = _windows_of(call, folded, windows, axis)  # batch, channels, kernel, places, the rest
        rest = range(4, 4 + windows.count - axis - 1)
        gathered = call.node("Transpose", [gathered], perm=[0, 3, 1, 2, *rest])
        outer.append(gathered)
        channels *= windows.kernel[axis]
        folded = reshaped(call, gathered, [-1, channels * group, *(Dim(gathered, i) for i in rest)])
    shape = [sizes[0], channels, *sizes[-2:]]
    weight = (
        call.node("Reshape", [w, integers(call, *shape)])
        if array is None
        else call.constant(np.ascontiguousarray(array.reshape(shape)), "weight")
    )
    attributes = windows.attributes(windows.count - 2, windows.count, group=group)
    y = call.core("Conv", [folded, weight, bias], **attributes)
    for i, before in enumerate(reversed(outer)):
        rest = range(2, 4 + i)
        y = reshaped(call, y, [Dim(before, 0), Dim(before, 1), sizes[0], *(Dim(y, axis) for axis in rest)])
        make = call.last if i == len(outer) - 1 else call.node
        y = make("Transpose", [y], perm=[0, 2, 1, *range(3, 3 + len(rest))])
    return y


def _windows_of(call: Call, x: Value, windows: _Windows, axis: int) -> Value:
    """Return what the windows see along axis 2 of ``x``: (batch, channels, kernel, places, the rest)."""
    size, stride, width = Dim(x, 2), windows.strides[axis], windows.width(axis)
    before, after = windows.before[axis], windows.after[axis]
    if windows.auto_pad.startswith("SAME"):
        length = known_size(call, x, 2)
        pads = max((math.ceil(length / stride) - 1) * stride + width - length, 0)
        before, after = (pads // 2, pads - pads // 2)[:: 1 if windows.auto_pad == "SAME_UPPER" else -1]
    if before or after:
        pads_of = integers(call, before, after, name="pads")
        x = call.node("Pad", [x, pads_of, None, integers(call, 2, name="axes")])
    offsets = np.arange(windows.kernel[axis], dtype=np.int64)[:, None] * windows.dilations[axis]
    room = before + after - width + 1
    if size.number is not None and size.number + room < 1:
        raise ValueError(f"a window of {width} places does not fit into {size.number + before + after}, pads included")
    begins = window_starts(call, size, room, stride)
    if isinstance(begins, Value):
        indices = call.node("Add", [call.constant(offsets), begins])
    else:
        indices = call.constant(offsets + begins, "places")
    return call.node("Gather", [x, indices], axis=2)


def conv_transpose(call: Call) -> Result:
    """Emit a ConvTranspose over the last axes, and one over the first that puts the planes of its outputs together."""
    x, w, rank = call.need("X"), call.need("W"), call.rank("X")
    if rank > 5:
        raise Unsupported(f"ConvTranspose over {rank - 2} axes; expected up to 3")
    if w.shape is None or not all(isinstance(size, int) for size in w.shape):
        raise Unsupported("ConvTranspose over three axes with weights whose sizes are not known")
    inputs, outputs, *kernel = (int(size) for size in w.shape)  # type: ignore[arg-type]
    windows, group = _Windows(call, kernel), call.attribute("group", 1)
    paddings = _numbers(call, "output_padding", 3, 0)
    sizes = call.attribute("output_shape", None)
    sizes = None if sizes is None else list(sizes)[-3:]

    def of_axes(first: int, end: int) -> dict[str, Any]:
        result = windows.attributes(first, end, output_padding=paddings[first:end])
        return result if sizes is None else {**result, "output_shape": sizes[first:end]}

    weight = call.node("Reshape", [w, integers(call, inputs, outputs * kernel[0], *kernel[1:])])
    planes = call.node("Transpose", [x], perm=[0, 2, 1, 3, 4])
    planes = reshaped(call, planes, [-1, inputs, Dim(x, 3), Dim(x, 4)])
    y = call.core("ConvTranspose", [planes, weight], group=group, **of_axes(1, 3))
    channels = outputs * group
    rows, columns = Dim(y, 2), Dim(y, 3)
    batch, depth = Dim(x, 0), Dim(x, 2)
    y = reshaped(call, y, [batch, depth, channels, kernel[0], -1])  # of rows and columns
    y = call.node("Transpose", [y], perm=[0, 2, 3, 1, 4])
    y = reshaped(call, y, [-1, kernel[0], depth, Dim(y, 4)])
    one = call.constant(np.eye(kernel[0], dtype=np.float32).reshape(kernel[0], 1, kernel[0], 1), "planes")
    deep = of_axes(0, 1)
    for name, plain in (("kernel_shape", 1), ("strides", 1), ("dilations", 1), ("output_padding", 0)):
        deep[name] = [*deep[name], plain]
    if "pads" in deep:
        deep["pads"] = [deep["pads"][0], 0, deep["pads"][1], 0]
    if sizes is not None:
        deep["output_shape"] = [*deep["output_shape"], sizes[1] * sizes[2]]
    y = call.node("ConvTranspose", [y, one], **deep)
    bias = call.input("B")
    parts: list[int | Dim] = [batch, channels, Dim(y, 2), rows, columns]
    if bias is None:
        return reshaped(call, y, parts, last=True)
    y = reshaped(call, y, parts)
    return call.last("Add", [y, call.node("Reshape", [bias, integers(call, channels, 1, 1, 1)])])


def pool(call: Call, op: str, x: Value, **others: Any) -> Value:
    """Pool over the last two axes, and over the others one after another: the windows are boxes."""
    rank = call.rank("X")
    kernel = call.attribute("kernel_shape", None)
    if kernel is None or len(kernel) != rank - 2:
        raise ValueError(f"kernel_shape is {kernel} of {rank - 2} axes")
    if call.output_read(1):
        raise Unsupported(f"Indices of {call.op} over {rank - 2} axes")
    windows = _Windows(call, list(kernel))
    batch, outer = [Dim(x, 0), Dim(x, 1)], [Dim(x, axis) for axis in range(2, rank - 2)]
    y = reshaped(call, x, [Dim(x, 0), -1, Dim(x, rank - 2), Dim(x, rank - 1)])
    y = call.core(op, [y], **windows.attributes(windows.count - 2, windows.count, **others))
    inner: list[int | Dim] = [Dim(y, 2), Dim(y, 3)]
    for axis in reversed(range(windows.count - 2)):
        before: list[int | Dim] = [*batch, *outer[:axis]]
        attributes = windows.attributes(axis, axis + 1, **others)
        for name in ("kernel_shape", "strides", "dilations"):
            attributes[name] = [*attributes[name], 1]
        if "pads" in attributes:
            attributes["pads"] = [attributes["pads"][0], 0, attributes["pads"][1], 0]
        plane = reshaped(call, y, [*before, outer[axis], -1])
        plane = reshaped(call, plane, [-1, 1, outer[axis], Dim(plane, axis + 3)])
        y = call.node(op, [plane], **attributes)
        inner = [Dim(y, 2), *inner]
        y = reshaped(call, y, [*before, *inner])
    return y
