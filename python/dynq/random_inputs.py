"""Random inputs of a model, for those who have none of their own."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from ._arguments import Array
from .errors import Error
from .model import ModelValue

if TYPE_CHECKING:
    from .graph import Graph

__all__ = ["random_input"]


def random_input(
    graph: Callable[[], Graph], value: ModelValue, shape: tuple[int, ...], rng: np.random.Generator
) -> Array:
    """Floats are normal; integers are rows of the table that they index, or 1."""
    try:
        if value.dtype == "float32":
            return rng.standard_normal(shape, np.float32)
        if value.dtype == "bool":
            return np.ones(shape, np.bool_)
        return rng.integers(1, _rows(graph(), value.name) + 1, shape).astype(value.dtype)
    except (MemoryError, ValueError) as error:
        raise Error(f"a random input of shape {shape} cannot be made: {error}") from error


def _rows(graph: Graph, name: str) -> int:
    """The highest row of the table that an input indexes; 1 where it does not."""
    for node in graph.nodes:
        at = {"dynq.Embedding": 2, "Gather": 1}.get(node.op)
        index = None if at is None else node.input(at)
        table = node.input(0)
        if index is not None and index.name == name and table is not None and table.constant is not None:
            rows = table.shape[0] if table.shape else 1
            return max(int(rows) - 1, 1) if isinstance(rows, int) else 1
    return 1
