"""Compute what Whisper hears of sound: logarithms of the power in mel bands.

The formula is in section 2.2 of "Robust speech recognition via large-scale weak supervision" (Radford and others,
2022) and in ``log_mel_spectrogram`` of the package openai-whisper. Frames of 25 ms, each 10 ms later, are under a Hann
window. The power of their Fourier transform goes through the mel filters of Slaney's "Auditory Toolbox" (1998).
Logarithms to base 10 that are over 8 below the largest are raised to that. Then x becomes (x + 4) / 4.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from ..core.arguments import FLOAT32, Array

__all__ = ["HOP", "RATE", "log_mel"]

RATE = 16000  # samples a second
HOP = 160  # samples from frame to frame
_SIZE = 400  # samples of a frame
_BLOCK = 3000  # frames that are transformed at once
_LEAST = 1e-10  # power


def log_mel(sound: Array, bins: int = 80, frames: int | None = None) -> Array:
    """Return the log-mel features of sound, float32 (bins, frames).

    Args:
        sound: samples from -1 to 1 at 16,000 Hz, (samples,).
        bins: mel bands, from 0 to 8,000 Hz: 80, or 128 in Whisper's version 3.
        frames: of 10 ms each. Sound that is longer is cut, and silence follows where it is shorter. None: as many as
            the sound has.

    Raises:
        ValueError: there is less than a frame, or the sound has another shape.
    """
    if sound.ndim != 1:
        raise ValueError(f"sound has shape {sound.shape}; expected (samples,)")
    frames = len(sound) // HOP if frames is None else frames
    if frames < 2 or bins < 1:
        raise ValueError(f"log_mel of {frames} frames and {bins} bins; expected 2 frames and a bin at least")
    used = np.zeros(frames * HOP)
    used[: min(len(sound), frames * HOP)] = sound[: frames * HOP]
    padded = np.pad(used, _SIZE // 2, mode="reflect")
    windows = sliding_window_view(padded, _SIZE)[::HOP]
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(_SIZE) / _SIZE)
    result = np.empty((frames, bins))
    for begin in range(0, frames, _BLOCK):
        rows = slice(begin, min(begin + _BLOCK, frames))
        spectrum = np.fft.rfft(windows[rows] * hann)
        result[rows] = (spectrum.real**2 + spectrum.imag**2) @ _filters(bins)
    logs = np.log10(np.maximum(result, _LEAST))
    logs = (np.maximum(logs, logs.max() - 8.0) + 4.0) / 4.0
    return np.ascontiguousarray(logs.T.astype(FLOAT32))


@lru_cache(maxsize=4)
def _filters(bins: int) -> Array:
    """Return Slaney's triangles, each of area 1 in Hz: (frequencies of a frame, bins)."""
    frequencies = np.arange(_SIZE // 2 + 1) * (RATE / _SIZE)
    mels = np.linspace(0.0, _mel(RATE / 2), bins + 2)
    corners = np.where(mels < 15, mels * (200 / 3), 1000 * np.exp((np.maximum(mels, 15) - 15) * (math.log(6.4) / 27)))
    left, middle, right = corners[:-2], corners[1:-1], corners[2:]
    rising = (frequencies[:, None] - left) / (middle - left)
    falling = (right - frequencies[:, None]) / (right - middle)
    return np.asarray(np.maximum(0.0, np.minimum(rising, falling)) * (2 / (right - left)))


def _mel(frequency: float) -> float:
    """Return the mel of a frequency of 1,000 Hz or more: linear below, logarithmic above."""
    return 15 + math.log(frequency / 1000) * (27 / math.log(6.4))
