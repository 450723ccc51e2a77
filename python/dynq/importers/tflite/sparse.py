"""Sparse constants: the levels of a tree whose leaves are the numbers that are stored, and what they expand to."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import tflite

from ...core.arguments import Array

__all__ = ["Sparsity", "expand", "read_sparsity"]

_DENSE, _COMPRESSED = 0, 1
_DENSEST = 1000  # elements that a stored value may stand for: no bomb of zeros
_VECTORS = {1: "Int32Vector", 2: "Uint16Vector", 3: "Uint8Vector"}


@dataclass(frozen=True)
class Level:
    """A dimension in the order of traversal: its size, or where each parent's part begins and the indices there are."""

    size: int
    segments: Array | None
    indices: Array | None


@dataclass(frozen=True)
class Sparsity:
    order: list[int]  # of the dimensions and, behind them, of their blocks
    blocks: list[int]  # which dimension each block divides
    levels: list[Level]


def read_sparsity(
    sparsity: Any,
    numbers: Callable[..., list[Any]],
    each: Callable[[Callable[[int], Any], int], Iterator[Any]],
    shape: list[int],
) -> Sparsity:
    order, blocks = numbers(sparsity, "TraversalOrder", 16), numbers(sparsity, "BlockMap", 8)
    levels = []
    for meta in each(sparsity.DimMetadata, sparsity.DimMetadataLength()):
        if meta.Format() == _DENSE:
            levels.append(Level(meta.DenseSize(), None, None))
        elif meta.Format() == _COMPRESSED:
            segments = _vector(meta.ArraySegmentsType(), meta.ArraySegments())
            levels.append(Level(0, segments, _vector(meta.ArrayIndicesType(), meta.ArrayIndices())))
        else:
            raise ValueError(f"a sparse dimension of format {meta.Format()}")
    if sorted(order) != list(range(len(shape) + len(blocks))) or len(levels) != len(order):
        raise ValueError(f"a sparse tensor of shape {shape} with the order {order} and {len(levels)} levels")
    if any(not 0 <= dim < len(shape) for dim in blocks):
        raise ValueError(f"blocks of the dimensions {blocks} of shape {shape}")
    return Sparsity(order, blocks, levels)


def _vector(kind: int, table: Any) -> Array:
    if kind not in _VECTORS or table is None:
        raise ValueError(f"sparse indices of type {kind}")
    vector = getattr(tflite, _VECTORS[kind])()
    vector.Init(table.Bytes, table.Pos)
    if vector.ValuesLength() == 0:
        return np.empty(0, np.int64)
    values: Array = vector.ValuesAsNumpy()
    return values


def expand(sparsity: Sparsity, shape: tuple[int, ...], values: Array) -> Array:
    """Return the dense array of ``values``, which are stored in the order of traversal."""
    rank = len(shape)
    if math.prod(shape) > _DENSEST * (values.size + 1):
        raise ValueError(f"a sparse tensor of shape {shape} with {values.size} values")
    sizes = dict.fromkeys(range(rank + len(sparsity.blocks)), 1)
    for at, level in zip(sparsity.order, sparsity.levels, strict=True):
        if at >= rank:
            if level.segments is not None or level.size < 1:
                raise ValueError("a block of a sparse tensor that is not dense")
            sizes[at] = level.size
    block = [1] * rank
    for i, dim in enumerate(sparsity.blocks):
        if block[dim] != 1:
            raise ValueError(f"two blocks of dimension {dim}")
        block[dim] = sizes[rank + i]
    if any(size % of for size, of in zip(shape, block, strict=True)):
        raise ValueError(f"blocks {block} do not fit into shape {shape}")
    for i in range(rank):
        sizes[i] = shape[i] // block[i]
    places = np.zeros((1, rank), np.int64)  # of each node of the level so far: its place in the tensor
    for at, level in zip(sparsity.order, sparsity.levels, strict=True):
        dim, scale = (at, block[at]) if at < rank else (sparsity.blocks[at - rank], 1)
        places = _descend(places, level, sizes[at], dim, scale, math.prod(shape))
    if len(places) != values.size:
        raise ValueError(f"a sparse tensor with {values.size} values; its indices have {len(places)}")
    result = np.zeros(shape, values.dtype)
    result[tuple(places.T)] = values
    return result


def _descend(places: Array, level: Level, size: int, dim: int, scale: int, most: int) -> Array:
    """Return the places of the nodes below: one for each index of each parent."""
    if level.segments is None or level.indices is None:
        if level.size != size:
            raise ValueError(f"a dense dimension of {level.size}; expected {size}")
        parents, indices = np.repeat(places, size, 0), np.tile(np.arange(size), len(places))
    else:
        segments = level.segments.astype(np.int64)
        counts = np.diff(segments)
        if segments.size != len(places) + 1 or segments[0] != 0 or (counts < 0).any():
            raise ValueError(f"{segments.size} segments of {len(places)} parts")
        if segments[-1] != level.indices.size or segments[-1] > most:
            raise ValueError(f"{level.indices.size} indices; its segments have {segments[-1]}")
        indices = level.indices.astype(np.int64)
        if ((indices < 0) | (indices >= size)).any():
            raise ValueError(f"an index beyond {size}")
        parents = np.repeat(places, counts, 0)
    result = parents.copy()
    result[:, dim] += indices * scale
    return result
