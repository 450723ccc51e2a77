"""Matrices of discrete Fourier transforms, which an importer multiplies by in float32."""

from __future__ import annotations

import numpy as np

from ..conversion import Unsupported
from ..core.arguments import FLOAT32, Array

__all__ = ["LARGEST", "matrices"]

LARGEST = 1 << 25  # numbers of a matrix: 128 MiB


def matrices(op: str, n: int, inverse: bool, onesided: bool) -> tuple[Array, Array]:
    """Return the cosines and the sines (outputs, inputs) of a transform of ``n`` points.

    A one-sided transform has the first half of the frequencies, one more than n // 2: as outputs, or as inputs if it is
    inverse. Its other half is the conjugate of that. Inverse transforms are divided by n.

    Raises:
        Unsupported: the matrix would be very large; the text names ``op``.
    """
    half = n // 2 + 1
    rows, columns = (n, half) if inverse and onesided else (half if onesided else n, n)
    if rows * columns > LARGEST:
        raise Unsupported(f"{op} of {n} points, whose matrix has over {LARGEST} numbers")
    turns = np.outer(np.arange(rows, dtype=np.int64), np.arange(columns, dtype=np.int64)) % n
    angles = turns * (2 * np.pi / n)
    cosines, sines = np.cos(angles), np.sin(angles) * (1 if inverse else -1)
    scale = np.full(columns, 1 / n if inverse else 1.0)
    if inverse and onesided:  # the half that is left out is the conjugate
        scale[1 : (n + 1) // 2] *= 2
    return (cosines * scale).astype(FLOAT32), (sines * scale).astype(FLOAT32)
