"""Constants that are made when the file is written."""

from __future__ import annotations

import mmap
from collections.abc import Callable
from typing import Any

import numpy as np

from .._arguments import Array
from ..errors import NonFiniteError
from ..weights import QuantizedWeight, quantize_weight

__all__ = ["ArrayLater", "PackedLater", "drop_pages", "nonfinite"]


class PackedLater:
    """A weight (N, K) that is yet to be quantized; ``parts`` lie one below the other."""

    dtype: str | None = None

    def __init__(self, node: str, parts: list[Array]) -> None:
        self.node = node
        self.parts = parts
        self.shape: tuple[int, ...] = (sum(part.shape[0] for part in parts), parts[0].shape[1])

    def make(self) -> Array | QuantizedWeight:
        w = self.parts[0] if len(self.parts) == 1 else np.concatenate(self.parts)
        try:
            return quantize_weight(w)
        except NonFiniteError as error:
            raise nonfinite(self.node) from error
        finally:
            for part in self.parts:
                drop_pages(part)


class ArrayLater:
    """An array that is yet to be computed."""

    def __init__(self, shape: tuple[int, ...], dtype: str, function: Callable[[], Array]) -> None:
        self.shape = shape
        self.dtype: str | None = dtype
        self._function = function

    def make(self) -> Array | QuantizedWeight:
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
