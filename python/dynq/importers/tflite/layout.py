"""Channels first and channels last: the two forms that a tensor of an image has."""

from __future__ import annotations

from dataclasses import dataclass

from ...conversion import Unsupported
from ...graph import Value

__all__ = ["Planes", "last_perm", "planes_axis", "planes_perm"]


@dataclass(frozen=True)
class Planes:
    """A result with its channels first: (N, C, H, W) where the file has (N, H, W, C)."""

    value: Value


def planes_perm(rank: int) -> list[int]:
    """Return the axes of a tensor in the order that has its channels first."""
    if rank < 3:
        raise Unsupported(f"an image of {rank} dimensions")
    return [0, rank - 1, *range(1, rank - 1)]


def last_perm(planes: Value) -> list[int]:
    """Return the axes of planes in the order that has the channels last."""
    assert planes.shape is not None
    return [0, *range(2, len(planes.shape)), 1]


def planes_axis(axis: int, rank: int) -> int:
    """Return which axis of the planes an axis of the file is."""
    return planes_perm(rank).index(axis)
