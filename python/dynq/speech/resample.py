"""Change the rate of sound with a windowed sinc, one dot product for each new sample."""

from __future__ import annotations

import math

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from ..core.arguments import FLOAT32, Array

__all__ = ["resample"]

_ZEROS = 10  # of the sinc on each side
_BETA = 5.0  # of Kaiser's window


def resample(sound: Array, rate: int, new_rate: int) -> Array:
    """Return sound (samples,) at another rate, float32.

    The low-pass filter is a sinc with ten zeros on each side below a Kaiser window of 5, as in
    ``scipy.signal.resample_poly``. Both rates are in Hz.

    Raises:
        ValueError: a rate is not over 0.
    """
    if rate < 1 or new_rate < 1:
        raise ValueError(f"the rates are {rate} and {new_rate} Hz; expected numbers over 0")
    common = math.gcd(rate, new_rate)
    up, down = new_rate // common, rate // common
    if up == down or not len(sound):
        return sound.astype(FLOAT32)
    widest = max(up, down)
    half = _ZEROS * widest
    taps = np.sinc(np.arange(-half, half + 1) / widest) * np.kaiser(2 * half + 1, _BETA)
    taps *= up / taps.sum()
    # New sample m sums sound[k] * taps[half + m * down - k * up] over k, so m, m + up, m + 2 * up, ... share taps.
    each = -(-len(taps) // up)
    count = -(-len(sound) * up // down)
    padded = np.pad(sound.astype(np.float64), (each, each + down))
    result = np.zeros(count)
    for first in range(min(up, count)):
        last, r = divmod(half + first * down, up)  # the last old sample that counts for it, and the first of its taps
        own = taps[r::up][::-1]
        rows = len(range(first, count, up))
        begin = last - len(own) + 1 + each
        ends = begin + (rows - 1) * down + len(own)
        part = padded if ends <= len(padded) else np.pad(padded, (0, ends - len(padded)))
        result[first::up] = sliding_window_view(part, len(own))[begin::down][:rows] @ own
    return result.astype(FLOAT32)
