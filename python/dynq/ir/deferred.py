"""Constants that are made piece by piece when the file is written, so that memory never holds a second copy of one."""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import numpy as np

from ..core.arguments import Array
from ..errors import NonFiniteError
from ..weights import QuantizedWeight, quantize_weight

__all__ = ["ArrayLater", "PackedLater", "QuantizedRows", "Rows", "drop_pages", "nonfinite", "on_rows", "place_of"]


_ELEMENTS_AT_ONCE = 1 << 20
_PIECES = 8  # at most: if channels are columns, each piece reads every page of its weight
_PANEL = 16  # channels that are packed together


class PackedLater:
    """A weight (N, K) that is quantized later; its rows are those of the first of ``parts``, then the second, and so
    on.
    """

    dtype: str | None = None

    def __init__(self, node: str, parts: list[Array]) -> None:
        self.node = node
        self.parts = parts
        self.shape: tuple[int, ...] = (sum(part.shape[0] for part in parts), parts[0].shape[1])

    def pieces(self) -> Iterator[QuantizedWeight]:
        n, k = self.shape
        step = max(_ELEMENTS_AT_ONCE // max(k, 1), -(-n // _PIECES), 1)
        step = -(-step // _PANEL) * _PANEL
        for begin in range(0, max(n, 1), step):
            rows = _rows(self.parts, begin, begin + step)
            try:
                yield quantize_weight(rows[0] if len(rows) == 1 else np.concatenate(rows))
            except NonFiniteError as error:
                raise nonfinite(self.node) from error
            finally:
                for part in rows:
                    drop_pages(part)


def _rows(parts: list[Array], begin: int, end: int) -> list[Array]:
    """Return rows [begin, end) of the arrays ``parts``, stacked one below the other."""
    result = []
    for part in parts:
        if begin < part.shape[0] and end > 0:
            result.append(part[max(begin, 0) : end])
        begin, end = begin - part.shape[0], end - part.shape[0]
    return result or parts[:1]


class ArrayLater:
    """An array that is computed later, by a function that yields it in pieces of rows."""

    def __init__(self, shape: tuple[int, ...], dtype: str, function: Callable[[], Iterator[Array]]) -> None:
        self.shape = shape
        self.dtype: str | None = dtype
        self._function = function

    def pieces(self) -> Iterator[Array]:
        return self._function()


class QuantizedRows:
    """Weights (..., N, K) that are already quantized and are packed when the file is written.

    Attributes:
        integers: int8 (..., N, K), or of a convolution (N, C, ...).
        scale: float32 (..., N), or of a convolution (N,).
    """

    dtype: str | None = None

    def __init__(self, integers: Array, scale: Array) -> None:
        self.integers = integers
        self.scale = scale
        self.shape: tuple[int, ...] = integers.shape

    def pieces(self) -> Iterator[QuantizedWeight]:
        yield QuantizedWeight.from_integers(self.integers, self.scale)

    def floats(self) -> Array:
        """Return the numbers that they stand for, float32 (..., N, K)."""
        scale = self.scale.reshape(self.scale.shape + (1,) * (self.integers.ndim - self.scale.ndim))
        result: Array = self.integers * scale
        return result


def place_of(constant: object) -> tuple[object, ...]:
    """Return where a constant lies. Two that look at the same memory in the same way have one place.

    It is good as long as the constant lives.
    """
    if isinstance(constant, QuantizedRows):  # the same integers may stand for other numbers here and there
        return *place_of(constant.integers), *place_of(constant.scale)
    if isinstance(constant, np.ndarray) and constant.size:
        return constant.ctypes.data, constant.shape, constant.strides, constant.dtype.str
    return (id(constant),)


Rows: TypeAlias = Array | QuantizedRows


def on_rows(function: Callable[..., Array], *weights: Rows) -> Rows:
    """Return ``function`` of arrays. For QuantizedRows, apply it to their integers and to their scales.

    If some weights are arrays, the others count as the numbers that they stand for.
    """
    quantized = [weight for weight in weights if isinstance(weight, QuantizedRows)]
    if len(quantized) < len(weights):
        return function(*(w.floats() if isinstance(w, QuantizedRows) else w for w in weights))
    return QuantizedRows(function(*(w.integers for w in quantized)), function(*(w.scale for w in quantized)))


def drop_pages(array: Array) -> None:
    """Tell the system that the pages of a mapped file behind ``array`` are not needed soon.

    Until then they count as this process's memory. They come back when they are read. Maps that can be written to are
    left alone.
    """
    base: Any = array
    while isinstance(base, np.ndarray):
        if base.flags.writeable:
            return
        base = base.base
    if not isinstance(base, mmap.mmap) or array.size == 0 or min(array.strides, default=0) < 0:
        return
    first = array.ctypes.data - np.frombuffer(base, np.uint8).ctypes.data
    last = first + array.itemsize + sum((n - 1) * step for n, step in zip(array.shape, array.strides, strict=True))
    begin, end = -(-first // mmap.PAGESIZE) * mmap.PAGESIZE, last // mmap.PAGESIZE * mmap.PAGESIZE
    if end > begin:
        base.madvise(mmap.MADV_DONTNEED, begin, end - begin)


def nonfinite(node: str) -> NonFiniteError:
    """Return the error for a weight of ``node`` that is not finite."""
    text = f"node {node!r}: its weight holds a NaN or an infinity; keep_float=[{node!r}] leaves it float"
    return NonFiniteError(text)
