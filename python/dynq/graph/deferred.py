"""Constants that are made when the file is written, piece by piece, so that no second copy of one is in memory."""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from .._arguments import Array
from ..errors import NonFiniteError
from ..weights import QuantizedWeight, quantize_weight

__all__ = ["ArrayLater", "PackedLater", "drop_pages", "nonfinite"]


_ELEMENTS_AT_ONCE = 1 << 20
_PIECES = 8  # at most: where channels are columns, each piece reads every page of its weight
_PANEL = 16  # channels that are packed together


class PackedLater:
    """A weight (N, K) that is yet to be quantized; ``parts`` lie one below the other."""

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
    """Rows [begin, end) of what lies one below the other."""
    result = []
    for part in parts:
        if begin < part.shape[0] and end > 0:
            result.append(part[max(begin, 0) : end])
        begin, end = begin - part.shape[0], end - part.shape[0]
    return result or parts[:1]


class ArrayLater:
    """An array that is yet to be computed, by a function that gives it in pieces of rows."""

    def __init__(self, shape: tuple[int, ...], dtype: str, function: Callable[[], Iterator[Array]]) -> None:
        self.shape = shape
        self.dtype: str | None = dtype
        self._function = function

    def pieces(self) -> Iterator[Array]:
        return self._function()


def drop_pages(array: Array) -> None:
    """Tell the system that the pages of a mapped file behind ``array`` are not needed soon: they count as this
    process's memory until then. They come back when they are read; only maps that cannot be written to are touched.
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
    """What to say of the weight of ``node``."""
    text = f"node {node!r}: its weight holds a NaN or an infinity; keep_float=[{node!r}] leaves it float"
    return NonFiniteError(text)
