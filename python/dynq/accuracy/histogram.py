"""Count how often values occur, in one pass over samples of any size and range."""

from __future__ import annotations

import numpy as np

from ..core.arguments import Array

__all__ = ["Histogram"]

_HALF = 4096  # bins on either side of 0


class Histogram:
    """Counts of values in equally wide bins on either side of 0. Zeros are apart; the smallest and the largest are
    exact.

    If a value lies beyond the bins, they become twice as wide, as often as needed. So a bin is at most 1 / 2048 of the
    value that is farthest from 0.
    """

    def __init__(self) -> None:
        self.lo = self.hi = 0.0  # every range holds 0
        self.zeros = 0
        self.counts = np.zeros(2 * _HALF, np.int64)
        self._limit = 0.0  # the end of the bins

    @property
    def edges(self) -> Array:
        return np.linspace(-self._limit, self._limit, 2 * _HALF + 1)

    @property
    def centers(self) -> Array:
        edges = self.edges
        return (edges[:-1] + edges[1:]) / 2

    def add(self, values: Array) -> None:
        """Count finite ``values``."""
        x = values[values != 0].astype(np.float64)
        self.zeros += values.size - x.size
        if x.size == 0:
            return
        self.lo, self.hi = min(self.lo, float(x.min())), max(self.hi, float(x.max()))
        farthest = max(-self.lo, self.hi)
        if self._limit == 0:
            self._limit = 2.0 ** float(np.ceil(np.log2(farthest)))
        while self._limit < farthest:
            self._widen()
        self.counts += np.histogram(x, 2 * _HALF, (-self._limit, self._limit))[0]

    def _widen(self) -> None:
        pairs = self.counts.reshape(-1, 2).sum(1)
        self.counts = np.zeros_like(self.counts)
        self.counts[_HALF // 2 : _HALF // 2 + _HALF] = pairs
        self._limit *= 2
