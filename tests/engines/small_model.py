"""A model of two layers, and rows for it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

import dynq

ROWS = 400
RNG = np.random.default_rng(0)
X = RNG.standard_normal((ROWS, 16), np.float32)


def write(path: Path) -> Path:
    g = dynq.Graph()
    x = g.input("x", ("batch", 16))
    h = g.linear(x, RNG.standard_normal((64, 16), np.float32), activation="gelu")
    g.build({"y": g.linear(h, RNG.standard_normal((4, 64), np.float32))}).save(path)
    return path
