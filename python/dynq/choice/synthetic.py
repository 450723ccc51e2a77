"""Make inputs for a model of which nothing but the inputs' types and shapes is known.

They stand for what people give to models: numbers of normal distribution, images, sounds, powers over many decades,
tokens. The same bits come out on every machine: there are integers and single roundings, and no function of libm.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from ..core.arguments import FLOAT32, Array
from ..ir.graph import Graph
from ..model import Model, ModelValue
from ..runs import Sample, table_rows

__all__ = ["sizes_to_try", "synthetic"]

_FEW = 8  # an axis of at most so many is one of channels, not of places or times
_ROWS = 16  # the batch of rows of features; that of anything else is 1
_IMAGE_SIZES = (64, 48, 32, 96, 160, 224, 512)
_SIZES = (32, 64, 128, 512, 2048, 16000)
_MOST = 2**22  # numbers of an input; a second's work


def _bits(count: int, seed: int) -> Any:
    """Return so many hashes of 64 bits: the finalizer of splitmix64."""
    with np.errstate(over="ignore"):
        x = (np.arange(count, dtype=np.uint64) + np.uint64(seed * 2654435769 + 1)) * np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return x ^ (x >> np.uint64(31))


def _uniform(shape: tuple[int, ...], seed: int) -> Any:
    """Return numbers from 0 to 1."""
    return ((_bits(int(np.prod(shape, dtype=np.int64)), seed) >> np.uint64(40)).astype(np.float64) / 2**24).reshape(
        shape
    )


def _normal(shape: tuple[int, ...], seed: int) -> Any:
    """Return sums of twelve uniform numbers, which are close to a normal distribution with mean 0 and variance 1."""
    bits = [_bits(int(np.prod(shape, dtype=np.int64)), seed + i) for i in range(3)]
    pieces = [((b >> np.uint64(16 * i)) & np.uint64(0xFFFF)).astype(np.float64) for b in bits for i in range(4)]
    return (sum(pieces) / 2.0**16 - 6).reshape(shape)


def _patches(shape: tuple[int, ...], side: int, seed: int) -> Any:
    """Return numbers from 0 to 1 that are alike in patches."""
    result = _uniform(tuple(-(-size // side) if size > _FEW else size for size in shape), seed)
    for axis, size in enumerate(shape):
        if size > _FEW:
            result = np.repeat(result, side, axis).take(range(size), axis)
    return result


def _image(shape: tuple[int, ...], seed: int) -> Any:
    """Return numbers from 0 to 1: patches of two sizes, with edges between, and a little noise."""
    return 0.6 * _patches(shape, 16, seed) + 0.3 * _patches(shape, 3, seed + 1) + 0.1 * _uniform(shape, seed + 2)


def _page(shape: tuple[int, ...], seed: int) -> Any:
    """Return what is like print: dark dots of two places on bright ground, -1 and 1, the same in all channels."""
    gray = tuple(size if size > _FEW else 1 for size in shape)
    dark = (_patches(gray, 16, seed) > 0.4) & (_patches(gray, 2, seed + 1) < 0.4)
    return np.broadcast_to(np.where(dark, -1.0, 1.0), shape)


def _arc(turns: Any) -> Any:
    """Return about sin(2 pi turns): parabolas, bent so that harmonics are 60 dB below."""
    t = 2 * (turns - np.rint(turns))
    p = 4 * t * (1 - np.abs(t))
    return p * (0.775 + 0.225 * np.abs(p))


def _tones(shape: tuple[int, ...], seed: int) -> Any:
    """Return tones with harmonics along the longest axis, by turns loud and 36 dB quieter, and noise 60 dB below."""
    axis = max(range(len(shape)), key=lambda i: shape[i], default=0)
    length = shape[axis] if shape else 1
    rows = _uniform((6, *[1 if i == axis else size for i, size in enumerate(shape)]), seed)
    time = np.arange(length, dtype=np.float64).reshape([-1 if i == axis else 1 for i in range(len(shape))])
    base = 0.005 + 0.03 * rows[0]
    wave = sum(_arc(base * k * time + rows[k]) / k for k in (1, 2, 3, 5))
    loud = np.where(np.floor(time / max(length / 4, 1)) % 2 == 0, 1.0, 2.0**-6)
    return 0.5 * wave * loud + 2.0**-10 * _normal(shape, seed + 7)


def _powers(shape: tuple[int, ...], seed: int) -> Any:
    """Return positive numbers over six decades, each decade as frequent as the others."""
    whole = np.floor(20 * _uniform(shape, seed)).astype(np.int32) - 10
    return np.ldexp(1 + _uniform(shape, seed + 1), whole)


_Make = Callable[[tuple[int, ...], int], Any]
_Kinds = tuple[tuple[_Make, float], ...]  # functions and gains
_OF_IMAGES: _Kinds = ((_image, 1.0), (_page, 2.0), (_normal, 1.0))
_OF_ROWS: _Kinds = ((_normal, 1.0), (_tones, 2.0**-4), (_powers, 1.0), (_image, 1.0), (_tones, 2.0**13))


def synthetic(model: Model, size: int) -> Iterator[Sample]:
    """Yield a run of each kind. ``size`` stands for sizes that the model leaves open, besides the batch.

    Without a float input there is one.

    Raises:
        ValueError: an input has more than 2**22 numbers.
    """
    floats = [value for value in model.inputs if value.dtype == "float32"]
    kinds = _OF_IMAGES if any(len(value.shape or ()) >= 4 for value in floats) else _OF_ROWS
    graph = model.graph()
    for number, (make, gain) in enumerate(kinds if floats else kinds[:1]):
        sizes: dict[str, int] = {}
        sample = {}
        for i, value in enumerate(model.inputs):
            shape = _shape(value, size, sizes)
            if math.prod(shape) > _MOST:
                raise ValueError(f"input {value.name!r} has shape {shape}, too large to make up")
            sample[value.name] = _array(graph, value, shape, make, gain, 1000 * number + 20 * i)
        yield sample


def sizes_to_try(model: Model) -> tuple[int, ...]:
    """Return what open sizes may be, the first that goes through the model first."""
    if all(isinstance(dim, int) for value in model.inputs for dim in (value.shape or ())[1:]):
        return (1,)
    return _IMAGE_SIZES if any(len(value.shape or ()) >= 4 for value in model.inputs) else _SIZES


def _shape(value: ModelValue, size: int, sizes: dict[str, int]) -> tuple[int, ...]:
    dims, given = [], value.shape or ()
    batch = _ROWS if len(given) == 2 and isinstance(given[1], int) else 1
    for at, dim in enumerate(given):
        if isinstance(dim, str):
            dim = sizes.setdefault(dim, size if at else batch)
        dims.append((size if at else batch) if dim is None else dim)
    return tuple(dims)


def _array(graph: Graph, value: ModelValue, shape: tuple[int, ...], make: _Make, gain: float, seed: int) -> Array:
    if value.dtype == "float32":
        return np.asarray(gain * make(shape, seed), FLOAT32)
    if value.dtype == "bool":
        return np.ones(shape, np.bool_)
    if value.dtype == "uint8":
        return np.asarray(np.floor(255.99 * make(shape, seed).clip(0, 1)), np.uint8)
    return np.asarray(1 + np.floor(table_rows(graph, value.name) * _uniform(shape, seed)), value.dtype)
