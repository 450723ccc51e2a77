"""Make one mask of those of attention, in the shape in which dynq.Attention takes it."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np

from ..ir.dims import product
from ..ir.values import Dim, Shape, Value
from .heads import new_node, reshaped
from .rewrite import Uses, is_op, scalar
from .scores import Mask

__all__ = ["mask_of", "placed"]


def placed(uses: Uses, mask: Mask, q: Value, batch: Dim, heads: int) -> Mask | None:
    """Return a mask in the shape in which the op takes it: broadcast to (B, H, S, T). ``q``: the queries there."""
    value, here = mask.value, mask.shape
    shape = value.shape or ()
    shape = shape[next((i for i, dim in enumerate(shape) if dim != 1), max(len(shape) - 1, 0)) :]  # without leading 1s
    if len(shape) <= 2 or (len(here) == 4 and here[0] == batch and here[1] == heads):
        if not _fits(shape, here):
            return None
        if len(value.shape or ()) > 4:
            made = reshaped(uses, value, shape)
            return None if made is None else dataclasses.replace(mask, value=made)
        return mask
    full = (1,) * (len(here) - len(shape)) + shape
    if None in full or not _fits(full, here):
        return None
    lead = full[:-2]
    if len(here) == 3 and heads == 1:
        target: Shape = (lead[0], 1, *full[-2:])
    elif len(here) == 3:
        target = (batch, heads, *full[-2:])
    elif here[-3] == heads:
        outer = [dim for dim in lead[:-1] if dim != 1]
        if not outer:
            target = (1, *full[-3:])
        else:
            wanted = (*here[:-3], *full[-3:])
            wide = _expanded(uses, value, full, wanted) or _tiled(uses, value, full, wanted, q, batch)
            if wide is None:
                return None
            value, target = wide, (batch, *full[-3:])
    else:
        return None
    made = reshaped(uses, value, target)
    return None if made is None else dataclasses.replace(mask, value=made)


def _fits(shape: Shape, scores: Shape) -> bool:
    """Return whether a mask does not make the scores larger, as far as sizes are known."""
    pairs = zip(shape[::-1], scores[::-1], strict=False)
    return all(
        a == 1 or a == b or a is None or (b is not None and not (isinstance(a, int) and isinstance(b, int)))
        for a, b in pairs
    )


def _expanded(uses: Uses, value: Value, full: Shape, wanted: Shape) -> Value | None:
    if full == wanted:
        return value
    if not all(isinstance(dim, int) for dim in wanted):
        return None
    result = new_node(uses, "Expand", [value, np.array(wanted, np.int64)], "mask", wanted)
    result.dtype = value.dtype
    return result


def _tiled(uses: Uses, value: Value, full: Shape, wanted: Shape, q: Value, batch: Dim) -> Value | None:
    """Repeat a mask of windows, one behind the other, for each image of a batch that the run decides."""
    first = next(i for i, dim in enumerate(full) if dim != 1)
    count = product(full[first:-3])
    if full[first:] != wanted[first:] or not isinstance(count, int) or q.shape is None or q.shape[0] != batch:
        return None
    flat = reshaped(uses, value, (count, *full[-3:]))
    if flat is None:
        return None
    windows = new_node(uses, "Gather", [new_node(uses, "Shape", [q], "shape"), np.zeros(1, np.int64)], "windows")
    images = new_node(uses, "Div", [windows, np.array([count], np.int64)], "images")
    repeats = new_node(uses, "Concat", [images, np.ones(3, np.int64)], "repeats", axis=0)
    result = new_node(uses, "Tile", [flat, repeats], "mask", (batch, *full[-3:]))
    result.dtype = value.dtype
    return result


def mask_of(uses: Uses, masks: list[Mask], guarded: bool) -> tuple[bool, Value | None]:
    """Return whether masks can be one value, and that value."""
    if guarded:
        return _without_nan(uses, masks)
    return True, _sum(uses, masks)


def _sum(uses: Uses, masks: list[Mask]) -> Value | None:
    """Return all masks as one value to add. A mask that fills in a number replaces what was added before."""
    result: Value | None = None
    for mask in masks:
        if mask.sides is not None:
            before: Any = np.float32(0) if result is None else result
            sides = [np.float32(side * mask.factor) if side else before for side in mask.sides]
            result = new_node(uses, "Where", [mask.value, *sides], "mask")
        else:
            value = mask.value
            if mask.factor != 1:
                value = new_node(uses, "Mul", [value, np.float32(mask.factor)], "mask")
            result = value if result is None else new_node(uses, "Add", [result, value], "mask")
        if mask.floor is not None:
            result = new_node(uses, "Max", [result, np.float32(mask.floor)], "mask")
    return result


def _without_nan(uses: Uses, masks: list[Mask]) -> tuple[bool, Value | None]:
    """Return whether a mask can do what _zeros_for_nan does, and that mask.

    A mask of finite numbers leads to no NaN. A bool mask leads to zeros, if it stands for 0 where it is true and
    -infinity elsewhere.
    """
    if len(masks) != 1 or masks[0].factor != 1 or masks[0].floor is not None:
        return not masks, None
    value, numbers = masks[0].value, masks[0].sides
    where = is_op(value, "Where") if numbers is None else None
    if value.array is not None and numbers is None:
        if np.isfinite(value.array).all():
            return True, value
        return bool(np.isin(value.array, (0, -np.inf)).all()), uses.graph.constant(value.array == 0)
    if where is not None:
        sides = scalar(where.need("X")), scalar(where.need("Y"))
        numbers = None if sides[0] is None or sides[1] is None else (sides[0], sides[1])
        value = where.need("condition")
    if numbers is None or value.dtype != "bool" or value.shape is None or len(value.shape) > 4:
        return False, None
    if np.isfinite(numbers).all():
        return True, _sum(uses, masks)
    if numbers not in ((0, -math.inf), (-math.inf, 0)):
        return False, None
    return True, value if numbers[0] == 0 else new_node(uses, "Not", [value], "mask")
