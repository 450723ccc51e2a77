"""The layers that are measured: shapes.json, which dynq-bench has compiled in, too."""

from __future__ import annotations

import json
import re
from importlib import resources
from typing import Any, NamedTuple

from dynq import Error


class Shape(NamedTuple):
    """x (m, k) times a weight (n, k)."""

    m: int
    n: int
    k: int

    def __str__(self) -> str:
        return f"{self.m}x{self.n}x{self.k}"


def load() -> dict[Shape, str]:
    """Every shape, and which layer of which model it is."""
    text = resources.files("dynq.bench").joinpath("shapes.json").read_text("utf-8")
    return {Shape(s["m"], s["n"], s["k"]): s["layer"] for s in json.loads(text)}


def parse(text: str) -> Shape:
    """``"128x768x768"``."""
    found = re.fullmatch(r"(\d+)x(\d+)x(\d+)", text)
    if found is None or 0 in (sizes := [int(size) for size in found.groups()]):
        raise Error(f"--shape is {text!r}; expected MxNxK, such as 128x768x768")
    return Shape(*sizes)


def of(record: dict[str, Any]) -> Shape:
    return Shape(record["m"], record["n"], record["k"])
