"""Convolutions and pooling."""

from __future__ import annotations

import math

import numpy as np

from ....conversion import Unsupported
from ....graph import Value
from ..attributes import INT, INTS, one_of
from ..convert import Call, Result, converter
from . import volumes
from .pointwise import one
from .sizes import Dim, integers, known_size, known_values, reshaped

_pads = one_of("NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID")
_window = {"auto_pad": _pads, "kernel_shape": INTS, "pads": INTS, "strides": INTS}
_average = {**_window, "ceil_mode": one_of(0, 1), "count_include_pad": one_of(0, 1)}


@converter("Conv", also=_window, dilations=INTS, group=INT)
@converter("ConvTranspose", also=_window, dilations=INTS, group=INT, output_padding=INTS, output_shape=INTS)
@converter("AveragePool", also=_average)
@converter("AveragePool", since=19, also=_average, dilations=INTS)
@converter("MaxPool", also=_window, ceil_mode=one_of(0, 1), dilations=INTS, storage_order=one_of(0, 1))
def windows(call: Call) -> Result:
    rank = call.rank("X")
    if rank < 3:
        raise Unsupported(f"{call.op} of {rank} dimensions")
    if rank <= 4:
        return call.emit()
    if call.op in ("Conv", "ConvTranspose"):
        return (volumes.conv if call.op == "Conv" else volumes.conv_transpose)(call)
    others = {name: call.attributes[name] for name in ("ceil_mode", "count_include_pad") if name in call.attributes}
    return call.last("Identity", [volumes.pool(call, call.op, call.need("X"), **others)])


@converter("LpPool", also=_window, p=INT)
@converter("LpPool", since=18, also=_window, p=INT, ceil_mode=one_of(0, 1), dilations=INTS)
def lp_pool(call: Call) -> Result:
    """Emit ``(sum |x|^p)^(1/p)`` over windows: the mean times the number of places, zeros around the input."""
    kernel, p = call.attribute("kernel_shape", None), call.attributes.pop("p", 2)
    if kernel is None or p < 1:
        raise ValueError(f"kernel_shape is {kernel} and p is {p}; expected a kernel and 1 or more")
    if call.attribute("ceil_mode", 0):
        raise Unsupported("attribute LpPool.ceil_mode = 1; expected 0")
    powers = _power(call, call.need("X"), p)
    if call.rank("X") > 4:
        mean = volumes.pool(call, "AveragePool", powers, count_include_pad=1)
    else:
        mean = call.core("AveragePool", [powers], **call.attributes, count_include_pad=1)
    return _root(call, call.node("Mul", [mean, one(call, math.prod(kernel))]), p)


@converter("GlobalLpPool", p=INT)
def global_lp_pool(call: Call) -> Result:
    """Emit ``(sum |x|^p)^(1/p)`` over all axes but the first two."""
    p = call.attribute("p", 2)
    if p < 1:
        raise ValueError(f"p is {p}; expected 1 or more")
    spatial = integers(call, *range(2, call.rank("X")), name="axes")
    return _root(call, call.node("ReduceSum", [_power(call, call.need("X"), p), spatial], keepdims=1), p)


def _power(call: Call, x: Value, p: int) -> Value:
    if p == 2:
        return call.node("Mul", [x, x])
    size = call.node("Abs", [x])
    return size if p == 1 else call.node("Pow", [size, one(call, p)])


def _root(call: Call, x: Value, p: int) -> Value:
    if p == 1:
        return call.last("Identity", [x])
    return call.last("Sqrt", [x]) if p == 2 else call.last("Pow", [x, one(call, 1 / p)])


@converter("Col2Im", dilations=INTS, pads=INTS, strides=INTS)
def column_to_image(call: Call) -> Result:
    """Emit a ConvTranspose, whose weights put each element of a column in its place of a block."""
    x, sizes, kernel = call.need("input"), known_values(call, "image_shape"), known_values(call, "block_shape")
    rank, places = len(sizes), math.prod(kernel)
    if rank > 2 or len(kernel) != rank:
        raise Unsupported(f"Col2Im of {rank} axes with blocks of {len(kernel)}; expected 1 or 2")
    strides, dilations = call.attribute("strides", [1] * rank), call.attribute("dilations", [1] * rank)
    pads = call.attribute("pads", [0] * 2 * rank)
    counts = [
        (sizes[i] + pads[i] + pads[rank + i] - dilations[i] * (kernel[i] - 1) - 1) // strides[i] + 1
        for i in range(rank)
    ]
    planes = reshaped(call, x, [-1, places, *counts])
    weight = np.ascontiguousarray(np.eye(places, dtype=np.float32).reshape(places, 1, *kernel))
    y = call.core(
        "ConvTranspose",
        [planes, call.constant(weight, "blocks")],
        kernel_shape=kernel,
        strides=strides,
        dilations=dilations,
        pads=pads,
        output_padding=[
            sizes[i] + pads[i] + pads[rank + i] - (counts[i] - 1) * strides[i] - dilations[i] * (kernel[i] - 1) - 1
            for i in range(rank)
        ],
    )
    return reshaped(call, y, [Dim(x, 0), -1, *sizes], last=True)


@converter("MaxUnpool", kernel_shape=INTS, pads=INTS, strides=INTS)
def max_unpool(call: Call) -> Result:
    """Emit zeros with each element at its index."""
    x, rank = call.need("X"), call.rank("X")
    sizes = [known_size(call, x, axis) for axis in range(rank)]
    given = None if call.input("output_shape") is None else known_values(call, "output_shape")
    kernel, count = call.attribute("kernel_shape", []), rank - 2
    strides, pads = call.attribute("strides", [1] * count), call.attribute("pads", [0] * 2 * count)
    if not len(kernel) == len(strides) == len(pads) // 2 == count:
        raise ValueError(f"kernel_shape, strides and pads are {kernel}, {strides} and {pads} of {count} axes")
    whole = [(sizes[2 + i] - 1) * strides[i] - pads[i] - pads[count + i] + kernel[i] for i in range(count)]
    shape = [*sizes[:2], *whole]
    zeros = call.node("Expand", [one(call, 0.0), integers(call, math.prod(shape))])
    flat = [call.node("Reshape", [value, integers(call, -1)]) for value in (call.need("I"), x)]
    y = call.core("ScatterElements", [zeros, *flat])
    wanted = shape if given is None else given
    behind = [n - m for n, m in zip(wanted, shape, strict=True)]
    if not any(behind):
        return call.last("Reshape", [y, integers(call, *shape)])
    y = call.node("Reshape", [y, integers(call, *shape)])
    return call.last("Pad", [y, integers(call, *[0] * rank, *behind)])
