"""Speech at 16 kHz, noise, frames' energy."""

from __future__ import annotations

import wave
from pathlib import Path
from typing import Any

import numpy as np
from scipy.signal import resample_poly

__all__ = ["RATE", "Array", "decibels", "pink_noise", "read"]

Array = np.ndarray[Any, Any]
RATE = 16000


def read(path: Path) -> Array:
    """A recording of 8 kHz as float32 at 16 kHz, in -1 to 1."""
    with wave.open(str(path)) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (8000, 1, 2), path
        samples = np.frombuffer(file.readframes(file.getnframes()), "<i2")
    return np.asarray(resample_poly(samples / 32768.0, 2, 1), np.float32)


def pink_noise(count: int, rng: np.random.Generator) -> Array:
    """Power falls with frequency; mean power 1."""
    spectrum = np.fft.rfft(rng.standard_normal(count))
    spectrum[1:] /= np.sqrt(np.arange(1, len(spectrum)))
    spectrum[0] = 0
    noise = np.fft.irfft(spectrum, count)
    return noise / np.sqrt((noise**2).mean())


def decibels(audio: Array, frame: int) -> Array:
    """Mean power of each whole frame; full scale is 0."""
    frames = audio[: len(audio) // frame * frame].reshape(-1, frame).astype(np.float64)
    return 10 * np.log10((frames**2).mean(axis=1) + 1e-10)
