"""Prepare the inputs that a model is analyzed on: a few runs, given or random.

Wrong ones are refused before any work is done.
"""

from __future__ import annotations

import functools
import os
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .core.arguments import FLOAT32, Array
from .errors import Error
from .ir.graph import Graph
from .model import Model
from .values import ModelValue, as_dtype, in_order

__all__ = ["Sample", "as_samples", "random_input", "random_sample", "read_npz", "table_rows"]

Sample = dict[str, Array]  # the inputs of a run, by name

_BATCH, _SIZE = 4, 32  # the sizes that a model leaves open, in random inputs: the first size of an input, and others


def as_samples(model: Model, samples: Any) -> list[Sample]:
    """Return ``samples`` as a list of what ``model.run`` takes, in the dtypes of its inputs.

    Args:
        samples: a dict of arrays by name is one run. An array is one run of a model with one input. Anything else is
            iterated over: dicts, arrays, or tuples of arrays in the order of ``model.inputs``.

    Raises:
        ValueError, TypeError: there are none, or one does not fit the inputs or holds a NaN or an infinity; the error
            names the sample and the input.
    """
    if isinstance(samples, (Mapping, np.ndarray)):
        samples = [samples]
    if isinstance(samples, (str, bytes, os.PathLike)) or not isinstance(samples, Iterable):
        raise TypeError(
            f"samples is of type {type(samples).__name__}; expected dicts of arrays by name, or arrays; "
            "numpy.load reads them from a file"
        )
    result = [_sample(model, f"sample {i}", sample) for i, sample in enumerate(samples)]
    if not result:
        raise ValueError("samples is empty; expected the inputs of at least one run")
    return result


def _sample(model: Model, where: str, given: Any) -> Sample:
    names = [value.name for value in model.inputs]
    if isinstance(given, np.ndarray):
        given = (given,)
    if isinstance(given, (tuple, list)):
        if len(given) != len(names):
            raise ValueError(f"{where} has {len(given)} arrays; expected {len(names)}: {', '.join(names)}")
        given = dict(zip(names, given, strict=True))
    if not isinstance(given, Mapping):
        raise TypeError(f"{where} is of type {type(given).__name__}; expected a dict of arrays by name, or arrays")
    try:
        arrays = in_order(model.inputs, given)
        sample = {
            v.name: as_dtype(v.name, array, np.dtype(v.dtype)) for v, array in zip(model.inputs, arrays, strict=True)
        }
    except (ValueError, TypeError) as error:
        raise type(error)(f"{where}: {error}") from error
    sizes: dict[str, tuple[str, int]] = {}
    for value in model.inputs:
        _check_shape(where, value, sample[value.name], sizes)
        array = sample[value.name]
        if array.dtype == FLOAT32 and not np.isfinite(array).all():
            count = int((~np.isfinite(array)).sum())
            raise ValueError(
                f"{where}: input {value.name!r} holds a NaN or an infinity, {count} of {array.size} numbers"
            )
    return sample


def _check_shape(where: str, value: ModelValue, array: Array, sizes: dict[str, tuple[str, int]]) -> None:
    """Check a shape against the model's. ``sizes`` has the named sizes so far, each with the input that it came
    from.
    """
    expected = value.shape or ()
    fits = len(expected) == array.ndim and all(
        not isinstance(dim, int) or dim == size for dim, size in zip(expected, array.shape, strict=True)
    )
    if not fits:
        dims = ", ".join("any" if dim is None else str(dim) for dim in expected)
        raise ValueError(f"{where}: input {value.name!r} has shape {array.shape}; expected ({dims})")
    for dim, size in zip(expected, array.shape, strict=True):
        if isinstance(dim, str):
            first, known = sizes.setdefault(dim, (value.name, size))
            if known != size:
                raise ValueError(
                    f"{where}: {dim!r} is {size} in input {value.name!r} of shape {array.shape}, {known} in {first!r}"
                )


def random_sample(model: Model, shapes: Mapping[str, Sequence[int]] | None = None, seed: int = 0) -> Sample:
    """Return one run of random inputs.

    Floats are normally distributed. Integers are numbers of rows of the table that they index, from 1 on, or 1 if there
    is no table.

    Args:
        shapes: the shapes of inputs, by name. Sizes that are still open then are 4 if they are an input's first one,
            else 32.
    """
    shapes = shapes or {}
    names = [value.name for value in model.inputs]
    if unknown := [name for name in shapes if name not in names]:
        raise ValueError(f"shapes has {', '.join(map(repr, unknown))}; the inputs are {', '.join(names)}")
    sizes: dict[str, int] = {}
    for value in model.inputs:
        wanted = shapes.get(value.name)
        if wanted is not None and len(wanted) != len(value.shape or ()):
            raise ValueError(f"shapes has {tuple(wanted)} for input {value.name!r}, whose shape is {value.shape}")
        sizes.update((d, n) for d, n in zip(value.shape or (), wanted or (), strict=False) if isinstance(d, str))
    rng, graph = np.random.default_rng(seed), functools.cache(model.graph)
    sample = {}
    for value in model.inputs:
        dims: list[int] = []
        for at, dim in enumerate(value.shape or ()):
            wanted = shapes.get(value.name)
            size = int(wanted[at]) if wanted is not None else dim
            if isinstance(size, str):
                size = sizes.setdefault(size, _SIZE if at else _BATCH)
            dims.append((_SIZE if at else _BATCH) if size is None else size)
        sample[value.name] = random_input(graph, value, tuple(dims), rng)
    return sample


def random_input(
    graph: Callable[[], Graph], value: ModelValue, shape: tuple[int, ...], rng: np.random.Generator
) -> Array:
    """Return a random input. Floats are normally distributed; integers are rows of the table that they index, or 1."""
    try:
        if value.dtype == "float32":
            return rng.standard_normal(shape, np.float32)
        if value.dtype == "bool":
            return np.ones(shape, np.bool_)
        return rng.integers(1, table_rows(graph(), value.name) + 1, shape).astype(value.dtype)
    except (MemoryError, ValueError) as error:
        raise Error(f"a random input of shape {shape} cannot be made: {error}") from error


def table_rows(graph: Graph, name: str) -> int:
    """Return the highest row of the table that an input indexes; 1 if it indexes none."""
    for node in graph.nodes:
        rows_of = {"dynq.Embedding": "rows", "Gather": "data"}.get(node.op)
        if rows_of is None:
            continue
        index, table = node.need("indices"), node.need(rows_of)
        if index.name == name and table.constant is not None:
            rows = table.shape[0] if table.shape else 1
            return max(int(rows) - 1, 1) if isinstance(rows, int) else 1
    return 1


def read_npz(path: str | os.PathLike[str], model: Model) -> list[Sample]:
    """Return the samples of an ``.npz`` file with an array for each input.

    If each array has one axis more than its input, the first axis counts runs.
    """
    path = Path(path)
    try:
        file = np.load(path, allow_pickle=False)
        if isinstance(file, np.ndarray):
            raise Error(f"{path} is one array; expected an .npz file with an array for each input")
        with file:
            arrays = {name: file[name] for name in file.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise Error(f"{path} is not an .npz file that can be read: {error}") from error
    ranks = {value.name: len(value.shape or ()) for value in model.inputs}
    if arrays and all(name in ranks and array.ndim == ranks[name] + 1 for name, array in arrays.items()):
        counts = {name: len(array) for name, array in arrays.items()}
        if len(set(counts.values())) > 1:
            raise Error(f"{path}: the inputs have different numbers of runs: {counts}")
        arrays_of = [{name: array[i] for name, array in arrays.items()} for i in range(next(iter(counts.values())))]
    else:
        arrays_of = [arrays]
    try:
        return as_samples(model, arrays_of)
    except (ValueError, TypeError) as error:
        raise Error(f"{path}: {error}") from error
