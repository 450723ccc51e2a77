"""Graphs after all passes, whose results are those from before."""

from collections.abc import Callable
from typing import Any

import numpy as np

from dynq.graph import Graph, Value
from dynq.passes import optimize
from tests.python.references.evaluate import evaluate

RNG = np.random.default_rng(7)


def normal(*shape: int) -> np.ndarray[Any, Any]:
    return RNG.standard_normal(shape, np.float32)


def optimized(g: Graph, *outputs: Value, inputs_of: Callable[[Any], Any] = lambda array: array) -> Graph:
    """The graph after all passes; its results are those from before. ``inputs_of`` changes the random inputs."""
    for i, value in enumerate(outputs):
        g.output(value, f"out_{i}")
    sizes = {"batch": 2, "time": 5}
    inputs = {}
    for value in g.inputs:
        shape = [sizes[dim] if isinstance(dim, str) else dim for dim in value.shape or ()]
        inputs[value.name] = inputs_of(RNG.standard_normal(shape)).astype(value.dtype)  # type: ignore[arg-type]
    after = g.copy()
    optimize(after)
    after.validate()
    expected, result = evaluate(g, inputs), evaluate(after, inputs)
    for name, array in expected.items():
        np.testing.assert_allclose(result[name], array, rtol=1e-5, atol=2e-6)
    return after


def ops(g: Graph) -> list[str]:
    return [node.op for node in g.nodes]
