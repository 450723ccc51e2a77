"""Read WAV files with the standard library."""

from __future__ import annotations

import os
import wave

import numpy as np

from ..core.arguments import FLOAT32, Array
from ..errors import SoundFileError

__all__ = ["read_wav"]


def read_wav(path: str | os.PathLike[str]) -> tuple[Array, int]:
    """Read a WAV file of integer samples with 8, 16, 24 or 32 bits.

    Returns:
        The mean of its channels, float32 of -1 to 1 (samples,); and how many samples a second has.

    Raises:
        SoundFileError: it is damaged, or no WAV file of integers.
        OSError: it cannot be opened.
    """
    name = os.fspath(path)
    try:
        with wave.open(name, "rb") as file:
            channels, width, rate = file.getnchannels(), file.getsampwidth(), file.getframerate()
            data = file.readframes(file.getnframes())
    except (wave.Error, EOFError) as error:
        what = "it is no WAV file of integer samples, or damaged"
        raise SoundFileError(
            f"{name}: {what} ({error or 'it ends too early'}); make one: ffmpeg -i {name} -ac 1 -ar 16000 out.wav"
        ) from error
    if not 1 <= width <= 4 or channels < 1 or rate < 1:
        raise SoundFileError(f"{name}: {channels} channels of {8 * width} bits at {rate} Hz; expected 8 to 32 bits")
    count = len(data) // (width * channels)
    samples = _integers(np.frombuffer(data, np.uint8, count * width * channels).reshape(-1, width))
    return samples.reshape(count, channels).mean(1).astype(FLOAT32), rate


def _integers(data: Array) -> Array:
    """Return little-endian samples (count, bytes) as float64 of -1 to 1."""
    count, width = data.shape
    if width == 1:  # the one kind without a sign
        return np.asarray((data[:, 0].astype(np.float64) - 128) / 128)
    wide = np.zeros((count, 4), np.uint8)
    wide[:, 4 - width :] = data
    return np.asarray(wide.view("<i4")[:, 0] / 2.0**31)
