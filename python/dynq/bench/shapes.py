"""Read the layers that are measured, from shapes.json, which is also compiled into dynq-bench."""

from __future__ import annotations

import json
import re
from importlib import resources
from typing import Any, NamedTuple

import numpy as np

from dynq import Error


class Shape(NamedTuple):
    """The sizes of a product: x (m, k) times a weight (n, k)."""

    m: int
    n: int
    k: int

    def __str__(self) -> str:
        return f"{self.m}x{self.n}x{self.k}"


def load() -> dict[Shape, str]:
    """Return every shape, with the layer and the model that it is from."""
    text = resources.files("dynq.bench").joinpath("shapes.json").read_text("utf-8")
    return {Shape(s["m"], s["n"], s["k"]): s["layer"] for s in json.loads(text)}


def parse(text: str) -> Shape:
    """Read a shape such as ``"128x768x768"``."""
    found = re.fullmatch(r"(\d+)x(\d+)x(\d+)", text)
    if found is None or 0 in (sizes := [int(size) for size in found.groups()]):
        raise Error(f"--shape is {text!r}; expected MxNxK, such as 128x768x768")
    return Shape(*sizes)


def draw(count: int, seed: int) -> list[Shape]:
    """Return ``count`` different shapes, the same for the same seed.

    Logarithms of sizes are uniform: of m from 1 to 512, of n and k from 32 to 4096. Products over 2^32 are drawn again.
    """
    rng = np.random.default_rng(seed)
    drawn: dict[Shape, None] = {}
    while len(drawn) < count:
        m, n, k = (int(size) for size in np.exp2(rng.uniform((0, 5, 5), (9, 12, 12))).round())
        if m * n * k <= 2**32:
            drawn[Shape(m, n, k)] = None
    return list(drawn)


def of(record: dict[str, Any]) -> Shape:
    return Shape(record["m"], record["n"], record["k"])
