"""Convolutions and pooling."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import sympy

from ....conversion import Unsupported
from ....graph import Value
from ..call import Call, Result, converter
from .volumes import convolve_volumes, pool_volumes


@converter("conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d convolution")
def convolution(call: Call) -> Result:
    weight, bias = call.value("weight"), call.optional("bias")
    spatial = call.rank("weight") - 2
    transposed = "conv_transpose" in call.op or bool(call.has("transposed") and call.fixed("transposed"))
    if spatial not in (1, 2, 3):
        raise Unsupported(f"{call.op} with {spatial} spatial axes; expected 1 to 3")
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
    op = "ConvTranspose" if transposed else "Conv"
    if spatial == 3:
        y = convolve_volumes(call, op, x, weight, bias, attributes)
    else:
        y = call.emit(op, [x, weight, bias], **attributes)
    return y if batched else call.node("Squeeze", [y, call.axes([0])])


def _each(value: Any, spatial: int) -> list[int]:
    numbers = list(value) if isinstance(value, (list, tuple)) else [value]
    return [int(number) for number in (numbers * spatial if len(numbers) == 1 else numbers)]


def _batched(call: Call, name: str, spatial: int) -> tuple[Value, bool]:
    """The input with a batch dimension, and whether it had one."""
    x = call.value(name)
    batched = call.rank(name) == spatial + 2
    return (x if batched else call.unsqueeze(x, 0)), batched


@converter("max_pool1d max_pool2d max_pool3d max_pool2d_with_indices max_pool3d_with_indices")
@converter("avg_pool1d avg_pool2d avg_pool3d")
def pool(call: Call) -> Result:
    spatial = int(call.op.split("_pool")[1][0])
    x, batched = _batched(call, "self", spatial)
    kernel = _each(call.fixed("kernel_size"), spatial)
    strides = call.fixed("stride")
    padding = _each(call.fixed("padding"), spatial)
    attributes: dict[str, Any] = {
        "kernel_shape": kernel,
        "strides": _each(strides, spatial) if strides else list(kernel),
        "pads": 2 * padding,
        "ceil_mode": int(call.fixed("ceil_mode")),
    }
    if "max" in call.op:
        attributes["dilations"] = _each(call.fixed("dilation"), spatial)
    else:
        attributes["count_include_pad"] = int(call.fixed("count_include_pad"))
        if call.has("divisor_override"):
            call.only("divisor_override", None)
    for i, (size, pad) in enumerate(zip(call.fake("self").shape[-spatial:], padding, strict=True)):
        dilation = attributes.get("dilations", [1] * spatial)[i]
        if isinstance(size, int) and dilation == 1 and attributes["ceil_mode"]:
            kernel[i] = min(kernel[i], size + 2 * pad)  # one window, which is cut at the ends
    op = "MaxPool" if "max" in call.op else "AveragePool"
    if spatial == 3:
        results: list[Value | None] = [pool_volumes(call, op, x, attributes), None]
    elif call.reads_output(1):
        y, places = call.emit_several(op, [x], 2, **attributes)
        plane = call.scalar(math.prod(call.fake("self").shape[-spatial:]))  # torch counts within one
        results = [y, call.node("Mod", [places, plane])]
    else:
        results = [call.emit(op, [x], **attributes), None]
    if not batched:
        results = [None if y is None else call.node("Squeeze", [y, call.axes([0])]) for y in results]
    return results if call.op.endswith("with_indices") or results[0] is None else results[0]


@converter("adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d _adaptive_avg_pool2d _adaptive_avg_pool3d")
@converter("adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d")
def adaptive_pool(call: Call) -> Result:
    """Window i of an axis is from floor(i size / count) up to ceil((i + 1) size / count)."""
    spatial, largest = int(call.op.split("_pool")[1][0]), "max" in call.op
    x, batched = _batched(call, "self", spatial)
    sizes: Sequence[Any] = call.fake("self").shape[-spatial:]
    target = [size if to is None else to for size, to in zip(sizes, _wanted(call, spatial), strict=True)]
    if all(size == 1 for size in target):
        y = call.emit("GlobalMaxPool" if largest else "GlobalAveragePool", [x])
    elif spatial < 3 and all(isinstance(size, int) and size % to == 0 for size, to in zip(sizes, target, strict=True)):
        kernel = [int(size) // to for size, to in zip(sizes, target, strict=True)]
        y = call.emit("MaxPool" if largest else "AveragePool", [x], kernel_shape=kernel, strides=kernel)
    else:
        y = x
        for axis, (size, to) in enumerate(zip(sizes, target, strict=True), 2):
            if not (size is to or (isinstance(size, int) and size == to)):
                y = _adapted(call, y, axis, size, to, largest)
    y = y if batched else call.node("Squeeze", [y, call.axes([0])])
    return [y, None] if largest else y


def _wanted(call: Call, spatial: int) -> list[int | None]:
    given = call.fixed("output_size")
    numbers = list(given) if isinstance(given, (list, tuple)) else [given]
    return numbers * spatial if len(numbers) == 1 else numbers


def _adapted(call: Call, x: Value, axis: int, size: Any, to: Any, largest: bool) -> Value:
    """Pool one axis into windows of which some are larger than others."""
    if not isinstance(size, int) or not isinstance(to, int):
        raise Unsupported(f"{call.op} from {size} to {to} places; expected sizes that are known")
    begins = [i * size // to for i in range(to)]
    widths = [-(-(i + 1) * size // to) - begin for i, begin in enumerate(begins)]
    if largest:
        return call.node("ReduceMax", [_windows(call, x, axis, begins, widths), call.axes([axis + 1])], keepdims=0)
    return _weighted(call, x, axis, begins, [[1 / width] * width for width in widths])


def _windows(call: Call, x: Value, axis: int, begins: list[int], widths: list[int]) -> Value:
    """Return the windows of an axis, an axis of their places behind it. Smaller ones have their last place again."""
    most = max(widths)
    places = [[begin + min(i, width - 1) for i in range(most)] for begin, width in zip(begins, widths, strict=True)]
    return call.node("Gather", [x, call.constant(np.array(places, np.int64))], axis=axis)


def _weighted(call: Call, x: Value, axis: int, begins: list[int], weights: list[list[float]]) -> Value:
    """Return sums of the windows of an axis, times weights."""
    windows = _windows(call, x, axis, begins, [len(row) for row in weights])
    table = np.zeros((len(weights), max(map(len, weights))), np.float32)
    for to, row in zip(table, weights, strict=True):
        to[: len(row)] = row
    behind = len(x.shape or ()) - axis - 1
    weighted = call.node("Mul", [windows, call.constant(table.reshape(*table.shape, *[1] * behind))])
    return call.node("ReduceSum", [weighted, call.axes([axis + 1])], keepdims=0)


@converter("_upsample_bilinear2d_aa _upsample_bicubic2d_aa")
def upsample_without_aliases(call: Call) -> Result:
    """Resize with a filter that is as wide as a pixel of the smaller image (aten's UpSampleKernel)."""
    if call.fixed("align_corners"):
        raise Unsupported(f"{call.op} with align_corners")
    x, reach = call.value("input"), 1 if "linear" in call.op else 2
    pairs = zip(call.fake("input").shape[2:], call.result.shape[2:], _factors(call, 2), strict=True)
    for axis, (size, to, factor) in enumerate(pairs, 2):
        if not isinstance(size, int) or not isinstance(to, int):
            raise Unsupported(f"{call.op} of open sizes")
        step = 1 / factor if factor else size / to
        width = max(step, 1.0)
        begins, weights = [], []
        for i in range(to):
            centre = step * (i + 0.5)
            begin = max(int(centre - reach * width + 0.5), 0)
            end = min(int(centre + reach * width + 0.5), size)
            row = [_filter((j - centre + 0.5) / width, reach) for j in range(begin, end)]
            begins.append(begin)
            weights.append([weight / sum(row) for weight in row])
        x = _weighted(call, x, axis, begins, weights)
    return x


def _filter(distance: float, reach: int) -> float:
    """Return the weight of a pixel: a triangle, or Keys' cubic with a = -1/2."""
    d = abs(distance)
    if d >= reach:
        return 0.0
    if reach == 1:
        return 1 - d
    return (1.5 * d - 2.5) * d * d + 1 if d < 1 else ((-0.5 * d + 2.5) * d - 4) * d + 2


@converter(
    "upsample_nearest1d upsample_nearest2d upsample_linear1d upsample_bilinear2d _upsample_nearest_exact1d "
    "_upsample_nearest_exact2d"
)
def upsample(call: Call) -> Result:
    """Resize to any sizes that are known, and to whole multiples of open ones, where all rules for rounding agree."""
    name = "input" if call.has("input") else "self"
    x, spatial = call.value(name), call.rank(name) - 2
    sizes, target = call.fake(name).shape[2:], call.result.shape[2:]
    factors = _factors(call, spatial)
    if "nearest" in call.op:
        exact = "exact" in call.op
        tables = [_nearest_places(*each, exact) for each in zip(sizes, target, factors, strict=True)]
        attributes: dict[str, Any] = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric"}
        attributes["nearest_mode"] = "floor"
        if exact:
            attributes.update(coordinate_transformation_mode="half_pixel", nearest_mode="round_prefer_ceil")
        scales = [_scale(call, *each, not exact) for each in zip(sizes, target, factors, strict=True)]
        pairs = zip(tables, scales, sizes, strict=True)
        if any(table is not None and not _gives(table, scale, size, exact) for table, scale, size in pairs):
            return _picked(call, x, tables)
    else:
        corners = bool(call.fixed("align_corners"))
        attributes = {"mode": "linear", "coordinate_transformation_mode": "align_corners" if corners else "half_pixel"}
        scales = [_scale(call, *each) for each in zip(sizes, target, factors, strict=True)]
    return call.emit("Resize", [x, None, call.constant(np.array([1.0, 1.0, *scales], np.float32))], **attributes)


def _factors(call: Call, spatial: int) -> list[float | None]:
    """Return the factors that torch computes places with; None: the ratio of the sizes."""
    call.get("output_size")
    given = call.get("scale_factors") or [
        call.get(name) for name in (("scales",) if spatial == 1 else ("scales_h", "scales_w"))
    ]
    factors = [float(factor) if factor else None for factor in given]
    return factors if len(factors) == spatial else [None] * spatial


def _scale(call: Call, size: Any, to: Any, factor: float | None, copies: bool = True) -> np.float32:
    """Return the scale with which Resize gives ``to`` places of ``size``, and computes them by torch's factor."""
    if not isinstance(size, int) or not isinstance(to, int):
        ratio = sympy.cancel(sympy.sympify(to) / sympy.sympify(size))
        if not ratio.is_Integer:
            raise Unsupported(f"{call.op} from {size} to {to}; expected whole multiples of sizes that are open")
        return np.float32(int(ratio))
    if copies and size == to:  # whatever the factor
        return np.float32(1)
    agrees = factor is not None and abs(int(factor * size) - to) <= 1
    result = np.float32(factor if agrees else to / max(size, 1))
    while int(float(result) * size) != to:  # float32 has rounded it past a whole size
        result = np.nextafter(result, np.float32(np.inf if int(float(result) * size) < to else 0))
    return result


def _nearest_places(size: Any, to: Any, factor: float | None, exact: bool) -> Any:
    """Return the places that torch picks; None if the sizes are open.

    ``nearest`` is computed in float32, as torch does: with its rounding some places differ from those of exact
    arithmetic. How torch rounds in ``nearest-exact`` is its compiler's affair.
    Half a step of float32 is added there, which is right where the place is a whole number.
    """
    if not isinstance(size, int) or not isinstance(to, int):
        return None
    at = np.arange(to)
    step = np.float32(1 / factor) if factor else np.float32(size) / np.float32(max(to, 1))
    if exact:
        places = np.floor((at + 0.5) * float(step) * (1 + 2.0**-24)).astype(np.int64)
    elif size == to:
        places = at
    else:
        places = np.floor(at.astype(np.float32) * step).astype(np.int64)
    return np.minimum(places, size - 1)


def _gives(table: Any, scale: np.float32, size: int, exact: bool) -> bool:
    """Tell whether Resize picks the same places with that scale."""
    at = np.arange(len(table), dtype=np.float64)
    places = (at + 0.5) / float(scale) - 0.5 if exact else at / float(scale)
    low = np.floor(places)
    picked = low + (exact & (places - low >= 0.5))
    return bool(np.array_equal(np.clip(picked, 0, size - 1), table))


def _picked(call: Call, x: Value, tables: list[Any]) -> Value:
    for axis, table in enumerate(tables, 2):
        if table is None:
            raise Unsupported(f"{call.op} of sizes of which some are open, by a factor that rounding tells apart")
        gather = call.emit if axis == 1 + len(tables) else call.node
        x = gather("Gather", [x, call.constant(table)], axis=axis)
    return x


@converter("grid_sampler grid_sampler_2d grid_sampler_3d")
def grid_sample(call: Call) -> Result:
    """Read an image or a volume at places between its pixels."""
    return call.emit(
        "GridSample",
        [call.value("input"), call.value("grid")],
        mode=("linear", "nearest", "cubic")[call.fixed("interpolation_mode")],
        padding_mode=("zeros", "border", "reflection")[call.fixed("padding_mode")],
        align_corners=int(call.fixed("align_corners")),
    )
