"""Convolutions and pooling."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import sympy

from ....graph import Value
from ...errors import Unsupported
from ..convert import Call, Result, converter


@converter("conv1d conv2d conv_transpose1d conv_transpose2d convolution")
def convolution(call: Call) -> Result:
    weight, bias = call.value("weight"), call.optional("bias")
    spatial = call.rank("weight") - 2
    transposed = "conv_transpose" in call.op or bool(call.has("transposed") and call.fixed("transposed"))
    if spatial not in (1, 2):
        raise Unsupported(f"{call.op} with {spatial} spatial axes; expected 1 or 2")
    x, batched = _batched(call, "input", spatial)
    attributes: dict[str, Any] = {
        "strides": _each(call.fixed("stride", 1), spatial),
        "dilations": _each(call.fixed("dilation", 1), spatial),
        "group": int(call.fixed("groups", 1)),
    }
    padding = call.fixed("padding", 0)
    if padding == "same":
        reach = [(int(k) - 1) * d for k, d in zip(call.fake("weight").shape[2:], attributes["dilations"], strict=True)]
        attributes["pads"] = [size // 2 for size in reach] + [size - size // 2 for size in reach]
    else:
        attributes["pads"] = 2 * _each(0 if padding == "valid" else padding, spatial)
    extra = _each(call.fixed("output_padding", 0), spatial)
    if transposed:
        attributes["output_padding"] = extra
    y = call.emit("ConvTranspose" if transposed else "Conv", [x, weight, bias], **attributes)
    return y if batched else call.node("Squeeze", [y, call.axes([0])])


def _each(value: Any, spatial: int) -> list[int]:
    numbers = list(value) if isinstance(value, (list, tuple)) else [value]
    return [int(number) for number in (numbers * spatial if len(numbers) == 1 else numbers)]


def _batched(call: Call, name: str, spatial: int) -> tuple[Value, bool]:
    """The input with a batch dimension, and whether it had one."""
    x = call.value(name)
    batched = call.rank(name) == spatial + 2
    return (x if batched else call.unsqueeze(x, 0)), batched


@converter("max_pool1d max_pool2d max_pool2d_with_indices avg_pool1d avg_pool2d")
def pool(call: Call) -> Result:
    spatial = 1 if "1d" in call.op else 2
    x, batched = _batched(call, "self", spatial)
    kernel = _each(call.fixed("kernel_size"), spatial)
    strides = call.fixed("stride")
    attributes: dict[str, Any] = {
        "kernel_shape": kernel,
        "strides": _each(strides, spatial) if strides else kernel,
        "pads": 2 * _each(call.fixed("padding"), spatial),
        "ceil_mode": int(call.fixed("ceil_mode")),
    }
    if "max" in call.op:
        attributes["dilations"] = _each(call.fixed("dilation"), spatial)
    else:
        attributes["count_include_pad"] = int(call.fixed("count_include_pad"))
        if call.has("divisor_override"):
            call.only("divisor_override", None)
    y = call.emit("MaxPool" if "max" in call.op else "AveragePool", [x], **attributes)
    y = y if batched else call.node("Squeeze", [y, call.axes([0])])
    return [y, None] if call.op.endswith("with_indices") else y


@converter("adaptive_avg_pool1d adaptive_avg_pool2d _adaptive_avg_pool2d adaptive_max_pool1d adaptive_max_pool2d")
def adaptive_pool(call: Call) -> Result:
    """To one place, or to sizes that divide those of the input."""
    spatial, largest = 1 if "1d" in call.op else 2, "max" in call.op
    x, batched = _batched(call, "self", spatial)
    target = _each(call.fixed("output_size"), spatial)
    sizes: Sequence[Any] = call.fake("self").shape[-spatial:]
    if all(size == 1 for size in target):
        y = call.emit("GlobalMaxPool" if largest else "GlobalAveragePool", [x])
    else:
        if not all(isinstance(size, int) and size % to == 0 for size, to in zip(sizes, target, strict=True)):
            raise Unsupported(f"{call.op} from {tuple(sizes)} to {tuple(target)}; expected sizes that divide")
        kernel = [int(size) // to for size, to in zip(sizes, target, strict=True)]
        y = call.emit("MaxPool" if largest else "AveragePool", [x], kernel_shape=kernel, strides=kernel)
    y = y if batched else call.node("Squeeze", [y, call.axes([0])])
    return [y, None] if largest else y


@converter("upsample_nearest1d upsample_nearest2d upsample_linear1d upsample_bilinear2d")
def upsample(call: Call) -> Result:
    """To whole multiples of the sizes, where all rules for rounding agree."""
    rank = call.rank("input" if call.has("input") else "self")
    x = call.value("input" if call.has("input") else "self")
    sizes, target = call.fake("input" if call.has("input") else "self").shape, call.result.shape
    for name in ("output_size", "scale_factors", "scales", "scales_h", "scales_w"):
        call.get(name)
    factors = []
    for size, to in zip(sizes[2:], target[2:], strict=True):
        factor = sympy.cancel(sympy.sympify(to) / sympy.sympify(size))  # of open sizes, too
        if not factor.is_Integer:
            raise Unsupported(f"{call.op} from {tuple(sizes)} to {tuple(target)}; expected whole multiples")
        factors.append(float(factor))
    nearest = "nearest" in call.op
    corners = not nearest and bool(call.fixed("align_corners"))
    attributes = {
        "mode": "nearest" if nearest else "linear",
        "coordinate_transformation_mode": "asymmetric" if nearest else "align_corners" if corners else "half_pixel",
        "nearest_mode": "floor",
    }
    scales = call.constant(np.array([1.0] * (rank - len(factors)) + factors, np.float32))
    return call.emit("Resize", [x, None, scales], **attributes)
