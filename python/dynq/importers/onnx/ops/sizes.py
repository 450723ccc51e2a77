"""Sizes of tensors on their way through a conversion: numbers where they are known, else computed from shapes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ....conversion import Unsupported
from ....core.arguments import Array
from ....graph import Value
from ..convert import Call

__all__ = ["Dim", "dim_of", "integers", "known_size", "known_values", "reshaped", "window_starts"]


@dataclass(frozen=True)
class Dim:
    """The size of an axis of a tensor."""

    of: Value
    axis: int

    @property
    def number(self) -> int | None:
        """Return the size if it is known before any run."""
        shape = self.of.shape
        size = shape[self.axis] if shape is not None and self.axis < len(shape) else None
        return size if isinstance(size, int) else None


def integers(call: Call, *values: int, name: str = "constant") -> Value:
    """Return a constant of int64 numbers."""
    return call.constant(np.array(values, np.int64), name)


def dim_of(call: Call, dim: Dim) -> Value:
    """Return a size as a tensor of one number."""
    return call.node("Shape", [dim.of], start=dim.axis, end=dim.axis + 1)


def reshaped(call: Call, x: Value, sizes: list[int | Dim], last: bool = False) -> Value:
    """Reshape to sizes, one of which may be -1."""
    make = call.last if last else call.node
    numbers = [size.number if isinstance(size, Dim) else size for size in sizes]
    if sum(number is None for number in numbers) == 1 and -1 not in numbers and 0 not in numbers:
        numbers = [-1 if number is None else number for number in numbers]
    if None not in numbers and 0 not in numbers:
        return make("Reshape", [x, integers(call, *(n for n in numbers if n is not None), name="shape")])
    parts = [
        dim_of(call, size) if isinstance(size, Dim) and number is None else integers(call, number or 0)
        for size, number in zip(sizes, numbers, strict=True)
    ]
    return make("Reshape", [x, call.node("Concat", parts, axis=0)], allowzero=int(0 in numbers))


def window_starts(call: Call, length: Dim, room: int, step: int) -> Array | Value:
    """Return the first place of each window along an axis; as numbers if its size is known.

    Args:
        room: what is added to the size of the axis: the padding, less the width of a window, plus 1.
    """
    if length.number is not None:
        return np.arange(0, length.number + room, step, dtype=np.int64)
    end = call.node("Add", [dim_of(call, length), integers(call, room)])
    zero, by = (call.constant(np.array(number, np.int64)) for number in (0, step))
    return call.node("Range", [zero, call.node("Squeeze", [end, integers(call, 0)]), by])


def known_size(call: Call, x: Value, axis: int) -> int:
    """Return the size of an axis, which the conversion needs as a number.

    Raises:
        Unsupported: it is not known before the run.
    """
    size = Dim(x, axis).number
    if size is None:
        hint = call.how_to_fix(call.node("Shape", [x]))
        raise Unsupported(f"size of axis {axis} of {call.op} that is not known before the run; {hint}")
    return size


def known_values(call: Call, name: str | int) -> list[int]:
    """Return the numbers of an input, which the conversion needs.

    Raises:
        Unsupported: they are not known before the run.
    """
    array, value = call.array(name), call.need(name)
    if array is None:
        raise Unsupported(f"{name} of {call.op} that is not known before the run; {call.how_to_fix(value)}")
    return [int(number) for number in array.reshape(-1)]
