"""What the fuzzers of imports share: values that are often wrong, and damage of any bytes."""

from __future__ import annotations

import random

LARGEST = 1 << 18  # bytes of a mutated model
INTEGERS = [0, 1, -1, 2, 3, 4, 7, 8, 255, 256, 65536, 1 << 20, 1 << 31, (1 << 31) - 1, 1 << 40, 1 << 62]
INTEGERS += [(1 << 63) - 1, -(1 << 31), -(1 << 63), -2, 10_000_019]
FLOATS = [0.0, -0.0, 1.0, -1.0, 1e-40, 1e38, float("inf"), float("-inf"), float("nan"), 0.5]
TEXTS = ["", "x", "y", "-", "\x1b[1m", "a" * 300, "ü\0", "ai.onnx", "com.microsoft", "SAME_UPPER", "linear", "nearest"]


def damaged(rng: random.Random, model: bytes, others: list[bytes]) -> bytes:
    """Return ``model`` with some bits, bytes or runs of bytes changed, dropped, added or taken from another model."""
    data = bytearray(model)
    for _ in range(rng.choice([1, 1, 2, 4, 16])):
        at = rng.randrange(len(data) + 1)
        kind = rng.randrange(5)
        if kind == 0 and at < len(data):
            data[at] ^= 1 << rng.randrange(8)
        elif kind == 1 and at < len(data):
            data[at] = rng.randrange(256)
        elif kind == 2:
            del data[at : at + rng.choice([1, 2, 8, 64])]
        elif kind == 3:
            data[at:at] = rng.randbytes(rng.choice([1, 2, 8, 64]))
        else:
            other = rng.choice(others)
            start = rng.randrange(len(other))
            data[at : at + 16] = other[start : start + rng.choice([4, 16, 64, 256])]
    return bytes(data[:LARGEST])
