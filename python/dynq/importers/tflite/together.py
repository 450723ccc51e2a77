"""Bring the operands of an elementwise op into one form: as the file has them, or with their channels first."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...graph import Value
from .convert import Call
from .layout import Planes, planes_perm

__all__ = ["like", "together"]


def together(call: Call, indices: Sequence[int]) -> tuple[list[Value], bool]:
    """Return the operands, and whether their channels are first: so if one is held like that and all can be."""
    ranks = [call.rank(i) for i in indices]
    rank = max(ranks, default=0)
    computed = [(i, r) for i, r in zip(indices, ranks, strict=True) if call.constant(i) is None]
    if rank < 3 or not any(call.in_planes(i) for i in indices) or any(r != rank for _, r in computed):
        return [call.value(i) for i in indices], False
    return [_in_planes(call, i, rank) for i in indices], True


def _in_planes(call: Call, index: int, rank: int) -> Value:
    constant = call.constant(index)
    if constant is None or len(constant.shape) == rank:
        return call.planes(index)
    array = constant.array
    if array.ndim == 0:
        return call.value(index)
    wide = array.reshape((1,) * (rank - array.ndim) + array.shape)
    return call.number(np.transpose(wide, planes_perm(rank)), array.dtype)


def like(value: Value, planes: bool) -> Value | Planes:
    """Return a result in the form of its operands."""
    return Planes(value) if planes else value
