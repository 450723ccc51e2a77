"""Slices, of ranges that are known or computed."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from ....conversion import Unsupported
from ....graph import Value
from ..convert import Call, Result, converter
from ..layout import planes_axis
from ..together import like, together

_TO_END, _TO_BEGIN = 2**63 - 1, -(2**63) + 1


@converter("SLICE")
def slice_(call: Call) -> Result:
    """x, begins, sizes: -1 takes all that is left."""
    begins, sizes, rank = call.array(1), call.array(2), call.rank(0)
    if begins is None or sizes is None:
        begin, size = call.long(1), call.long(2)
        rest = call.node("Equal", [size, call.number(-1, np.int64)])
        end = call.node("Where", [rest, call.number(_TO_END, np.int64), call.node("Add", [begin, size])])
        return call.node("Slice", [call.value(0), begin, end, call.integers(list(range(rank)))])
    if begins.size != rank or sizes.size != rank:
        raise ValueError(f"{begins.size} begins and {sizes.size} sizes for {rank} dimensions")
    (x,), planes = together(call, [0])
    first = [int(begin) for begin in begins.reshape(-1)]
    ends = [_TO_END if size == -1 else begin + int(size) for begin, size in zip(first, sizes.reshape(-1), strict=True)]
    axes = [planes_axis(axis, rank) if planes else axis for axis in range(rank)]
    return like(call.node("Slice", [x, *(call.integers(part) for part in (first, ends, axes))]), planes)


@dataclass
class _Ranges:
    """The ranges that a strided slice takes of axes, and the axes that go and come."""

    starts: list[int] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)
    steps: list[int] = field(default_factory=list)
    axes: list[int] = field(default_factory=list)
    dropped: list[int] = field(default_factory=list)
    added: list[int] = field(default_factory=list)  # among the axes of the result


@converter("STRIDED_SLICE", "StridedSliceOptions")
def strided_slice(call: Call) -> Result:
    """x, begins, ends, strides"""
    call.refuse_option("Offset", False)
    begins, ends, steps, rank = call.array(1), call.array(2), call.numbers(3, "strides"), call.rank(0)
    if 0 in steps:
        raise ValueError("a stride of 0")
    if begins is None or ends is None:
        return _computed(call, steps)
    ranges = _ranges(call, begins.reshape(-1).tolist(), ends.reshape(-1).tolist(), steps, rank)
    (x,), planes = together(call, [0])
    if planes and (ranges.dropped or ranges.added):
        x, planes = call.value(0), False
    axes = [planes_axis(axis, rank) if planes else axis for axis in ranges.axes]
    parts = [call.integers(part) for part in (ranges.starts, ranges.ends, axes, ranges.steps)]
    y = call.node("Slice", [x, *parts]) if axes else x
    if ranges.dropped:
        y = call.node("Squeeze", [y, call.integers(ranges.dropped)])
    if ranges.added:
        y = call.node("Unsqueeze", [y, call.integers(ranges.added)])
    return like(call.node("Identity", [y]) if y is x else y, planes)


def _ranges(call: Call, begins: list[int], ends: list[int], steps: list[int], rank: int) -> _Ranges:
    count = len(steps)
    if len(begins) != count or len(ends) != count:
        raise ValueError(f"{len(begins)} begins, {len(ends)} ends and {count} strides")
    masks = {name: call.option(f"{name}Mask") for name in ("Begin", "End", "Ellipsis", "NewAxis", "ShrinkAxis")}
    is_in = {name: [bool(mask >> i & 1) for i in range(count)] for name, mask in masks.items()}
    ellipsis = is_in["Ellipsis"].index(True) if True in is_in["Ellipsis"] else None
    if sum(is_in["Ellipsis"]) > 1:
        raise ValueError("two ellipses")
    named = sum(not is_in["NewAxis"][i] for i in range(count) if i != ellipsis)
    result, axis, place = _Ranges(), 0, 0
    for i in range(count):
        if i == ellipsis:
            axis, place = axis + rank - named, place + rank - named
        elif is_in["NewAxis"][i]:
            result.added.append(place)
            place += 1
        else:
            if axis >= rank:
                raise ValueError(f"{named} ranges for {rank} dimensions")
            step, begin, end = steps[i], begins[i], ends[i]
            if is_in["ShrinkAxis"][i]:
                step, end = 1, _TO_END if begin == -1 else begin + 1
                result.dropped.append(axis)
            else:
                begin = (_TO_BEGIN if step > 0 else _TO_END) if is_in["Begin"][i] else begin
                end = (_TO_END if step > 0 else _TO_BEGIN) if is_in["End"][i] else end
                place += 1
            if (begin, end, step) != (_TO_BEGIN, _TO_END, 1):
                result.starts.append(begin)
                result.ends.append(end)
                result.steps.append(step)
                result.axes.append(axis)
            axis += 1
    return result


def _computed(call: Call, steps: list[int]) -> Value:
    """Slice by begins and ends that only a run has: each range has its own axis."""
    if call.option("EllipsisMask") or call.option("NewAxisMask"):
        raise Unsupported("STRIDED_SLICE with new axes by ranges that are computed")
    count = len(steps)
    masks = {name: call.option(f"{name}Mask") for name in ("Begin", "End", "ShrinkAxis")}
    is_in = {name: np.array([bool(mask >> i & 1) for i in range(count)]) for name, mask in masks.items()}
    shrink, forward = is_in["ShrinkAxis"], np.array(steps) > 0
    begin, end = call.long(1), call.long(2)
    if (is_in["Begin"] & ~shrink).any():
        whole = np.where(forward, _TO_BEGIN, _TO_END)
        begin = call.node("Where", [call.number(is_in["Begin"] & ~shrink, bool), call.number(whole, np.int64), begin])
    if (is_in["End"] & ~shrink).any():
        whole = np.where(forward, _TO_END, _TO_BEGIN)
        end = call.node("Where", [call.number(is_in["End"] & ~shrink, bool), call.number(whole, np.int64), end])
    if shrink.any():
        after = call.node("Add", [begin, call.number(1, np.int64)])
        last = call.node("Equal", [begin, call.number(-1, np.int64)])
        after = call.node("Where", [last, call.number(_TO_END, np.int64), after])
        end = call.node("Where", [call.number(shrink, bool), after, end])
    steps = [1 if one else step for one, step in zip(shrink, steps, strict=True)]
    y = call.node("Slice", [call.value(0), begin, end, call.integers(list(range(count))), call.integers(steps)])
    return call.node("Squeeze", [y, call.integers(np.flatnonzero(shrink).tolist())]) if shrink.any() else y
