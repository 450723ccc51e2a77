"""Operands of dynq.Attention in graphs, for tests of what writes it."""

from __future__ import annotations

from typing import Any

import numpy as np

import dynq


def attention_inputs(rng: np.random.Generator, packed: bool, mask: str) -> tuple[dynq.Graph, list[Any], dict[str, Any]]:
    """Return a graph with the operands of attention of three heads, those operands, and arrays for its inputs.

    Args:
        packed: one operand holds q, k and v side by side, or there are three.
        mask: "none", "bool" or "float"; of one of two sequences, nothing is seen.
    """
    g = dynq.Graph()
    shape = ("b", "s", 3 * 24 if packed else 24)
    operands: list[Any] = [g.input(name, shape) for name in ("q" if packed else "qkv")]
    operands += [None] * (3 - len(operands))
    feed = {v.name: rng.standard_normal((2, 5, shape[2]), np.float32) for v in operands if v is not None}
    if mask != "none":
        operands.append(g.input("mask", ("b", 1, 1, "s"), mask if mask == "bool" else "float32"))
        seen = np.array([[1, 1, 1, 0, 0], [0, 0, 0, 0, 0]], bool)[:, None, None]
        feed["mask"] = seen if mask == "bool" else np.where(seen, np.float32(0), np.float32(-1e4))
    return g, operands, feed
