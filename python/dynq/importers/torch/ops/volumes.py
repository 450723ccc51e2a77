"""Convolutions and pooling over three axes, by those over two: the windows of the first axis become channels."""

from __future__ import annotations

from typing import Any

import numpy as np

from ....conversion import Unsupported
from ....graph import Value
from ..call import Call

__all__ = ["convolve_volumes", "pool_volumes"]


def convolve_volumes(
    call: Call, op: str, x: Value, weight: Value, bias: Value | None, of_axes: dict[str, Any]
) -> Value:
    """Return a Conv or a ConvTranspose of x (batch, channels, depth, height, width).

    For each plane of the output, the planes of x that it reads are gathered beside each other as channels. Where one
    of the kernel reads nothing, there is a plane of zeros.
    """
    outputs, depth = call.result.shape[-4], call.result.shape[-3]
    batch = x.shape[0] if x.shape else None
    channels, planes, rows, columns = call.fake("input").shape[-4:]
    if not isinstance(planes, int) or not isinstance(depth, int):
        raise Unsupported(f"{call.op} of a depth that is open")
    kernel = [int(size) for size in call.fake("weight").shape[2:]]
    table = np.full((kernel[0], depth), planes, np.int64)  # the plane behind the last one holds zeros
    stride, dilation, pad = of_axes["strides"][0], of_axes["dilations"][0], of_axes["pads"][0]
    for k in range(kernel[0]):
        for to in range(depth):
            if op == "Conv":
                at, there = to * stride - pad + k * dilation, True
            else:
                at, there = divmod(to + pad - k * dilation, stride)[0], (to + pad - k * dilation) % stride == 0
            if there and 0 <= at < planes:
                table[k, to] = at
    if (table == planes).any():
        x = call.node("Pad", [x, call.axes([0, 1]), None, call.axes([2])])
    windows = call.node("Gather", [x, call.constant(table)], axis=2)  # batch, channels, kernel, depth, height, width
    windows = call.transpose(windows, (0, 3, 1, 2, 4, 5))
    stacked = call.node("Reshape", [windows, call.shape([-1, channels * kernel[0], rows, columns])])
    if op == "Conv":
        flat = [outputs, int(call.fake("weight").shape[1]) * kernel[0], *kernel[1:]]
    else:
        weight = call.transpose(weight, (0, 2, 1, 3, 4))
        flat = [channels * kernel[0], int(call.fake("weight").shape[1]), *kernel[1:]]
    weight = call.node("Reshape", [weight, call.axes(flat)])
    attributes = {name: values if name == "group" else values[1:] for name, values in of_axes.items()}
    attributes["pads"] = [*of_axes["pads"][1:3], *of_axes["pads"][4:]]
    y = call.emit(op, [stacked, weight, bias], **attributes)
    y = call.node("Reshape", [y, call.shape([-1, depth, outputs, *call.result.shape[-2:]])])
    y = call.node("Transpose", [y], perm=[0, 2, 1, 3, 4])
    y.shape = (batch, *call.dims(call.result.shape[-4:]))
    return y


def pool_volumes(call: Call, op: str, x: Value, of_axes: dict[str, Any]) -> Value:
    """Return a MaxPool or an AveragePool of x (batch, channels, depth, height, width): over two axes, then over one.

    The number of places in a window is the product of those along each axis, so means of means are means.
    """
    channels, planes, rows, columns = call.fake("self").shape[-4:]
    height, width = call.result_of_first().shape[-2:]

    def part(first: int, end: int) -> dict[str, Any]:
        result = dict(of_axes)
        for name in ("kernel_shape", "strides", "dilations"):
            if name in of_axes:
                result[name] = [*of_axes[name][first:end], *[1] * (2 - end + first)]
        pads = [*of_axes["pads"][first:end], *[0] * (2 - end + first)]
        return {**result, "pads": [*pads, *pads]}

    flat = call.node("Reshape", [x, call.shape([-1, channels * planes, rows, columns])])
    y = call.node(op, [flat], **part(1, 3))
    y = call.node("Reshape", [y, call.shape([-1, channels, planes, height * width])])
    y = call.node(op, [y], **part(0, 1))
    return call.node("Reshape", [y, call.shape([-1, *call.result_of_first().shape[-4:]])])
