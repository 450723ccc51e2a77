"""Constants that are made when the file is written."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .._arguments import Array
from ..errors import NonFiniteError
from ..weights import QuantizedWeight, quantize_weight

__all__ = ["ArrayLater", "PackedLater", "nonfinite"]


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


class ArrayLater:
    """An array that is yet to be computed."""

    def __init__(self, shape: tuple[int, ...], dtype: str, function: Callable[[], Array]) -> None:
        self.shape = shape
        self.dtype: str | None = dtype
        self._function = function

    def make(self) -> Array | QuantizedWeight:
        return self._function()


def nonfinite(node: str) -> NonFiniteError:
    """What to say of the weight of ``node``."""
    text = f"node {node!r}: its weight holds a NaN or an infinity; keep_float=[{node!r}] leaves it float"
    return NonFiniteError(text)
