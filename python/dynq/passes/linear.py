"""Replace MatMul and Gemm with a constant weight by dynq.Linear."""

from __future__ import annotations

import math

import numpy as np

from ..core.arguments import FLOAT32, Array
from ..ir.graph import Graph
from ..ir.values import Node, Value
from .integers import integers_of
from .rewrite import Uses, constant_of, put_after

__all__ = ["LEAST_WEIGHT", "make_linear"]

LEAST_WEIGHT = 1024  # elements from which on a constant on the left is worth two transposes


def make_linear(graph: Graph) -> None:
    weights = _Weights(Uses(graph))
    for node in list(graph.nodes):
        if node.op == "MatMul":
            _from_matmul(weights, node)
        elif node.op == "Gemm":
            _from_gemm(weights, node)


class _Weights:
    """The weights (N, K) of linear layers, made of matrices of floats or of scaled integers."""

    def __init__(self, uses: Uses) -> None:
        self.uses = uses
        self._made: dict[tuple[Value, bool, float], Value | None] = {}  # what several nodes share stays one constant

    def of(self, matrix: Value, transposed: bool, factor: float = 1.0) -> Value | None:
        """Return the weight that a matrix (N, K) is, or (K, N) if it is to be transposed; None if it is none."""
        key = matrix, transposed, factor
        if key not in self._made:
            self._made[key] = self._make(*key)
        return self._made[key]

    def _make(self, matrix: Value, transposed: bool, factor: float) -> Value | None:
        array, graph = constant_of(matrix), self.uses.graph
        if array is not None:
            if not _is_matrix(array):
                return None
            if not transposed and factor == 1:
                return matrix
            turned = array.T if transposed else array
            return graph.constant_for(turned if factor == 1 else turned * FLOAT32.type(factor), matrix)
        found = integers_of(matrix)
        if found is None or found.q.ndim != 2:
            return None
        found = found.transposed([1, 0]) if transposed else found
        if factor != 1:
            found = found.times(np.full((1, 1), factor, FLOAT32))
        weight = found.weight()
        return graph.constant_for(found.floats() if weight is None else weight, matrix)


def _from_matmul(weights: _Weights, node: Node) -> None:
    x, w = node.need("A"), node.need("B")
    weight = None if x.constant is not None else weights.of(w, True)
    if weight is None:
        _from_weight_on_the_left(weights, node, x, w)
        return
    weights.uses.set_inputs(node, [x, weight])
    node.op = "dynq.Linear"


def _from_weight_on_the_left(weights: _Weights, node: Node, w: Value, x: Value) -> None:
    """Turn ``W x`` into ``(x^T W^T)^T``: a linear layer between two transposes, if W has the size of a weight."""
    rank, size = 0 if x.shape is None else len(x.shape), _elements(w)
    if x.constant is not None or rank < 2 or size < LEAST_WEIGHT:
        return
    weight = weights.of(w, False)
    if weight is None:
        return
    perm = [*range(rank - 2), rank - 1, rank - 2]
    weights.uses.set_inputs(node, [weights.uses.graph.node("Transpose", [x], perm=perm), weight])
    node.op = "dynq.Linear"
    put_after(weights.uses.graph, node, "product", "Transpose", [], {"perm": list(perm)})


def _elements(value: Value) -> int:
    sizes = [dim for dim in value.shape or () if isinstance(dim, int)]
    return math.prod(sizes) if len(sizes) == 2 == len(value.shape or ()) else 0


def _from_gemm(weights: _Weights, node: Node) -> None:
    graph, uses = weights.uses.graph, weights.uses
    x, w, c = node.need("A"), node.need("B"), node.input("C")
    sides = bool(node.attributes.get("transA")), bool(node.attributes.get("transB"))
    alpha, beta = _number(node, "alpha"), _number(node, "beta")
    on_the_left = x.constant is not None or (w.constant is None and integers_of(x) is not None)
    if on_the_left:  # alpha A B is (B^T (alpha A)^T)^T
        if w.constant is not None or _elements(x) < LEAST_WEIGHT:
            return
        x, w, sides = w, x, (not sides[1], not sides[0])
    weight = weights.of(w, not sides[1], float(alpha))
    if weight is None or x.constant is not None or weight.shape is None:
        return
    if sides[0]:
        x = graph.node("Transpose", [x], perm=[1, 0])
    n = weight.shape[0]
    assert isinstance(n, int)
    given, bias = constant_of(c), None
    if c is not None and given is not None and not on_the_left and given.ndim <= 2 and _is_vector(given, n):
        keep = given.shape == (n,) and beta == 1
        bias = c if keep else graph.constant_for(_spread(given, n) * beta, c)
    uses.set_inputs(node, [x, weight, bias])
    node.op, node.attributes = "dynq.Linear", {}
    if c is not None and bias is None:
        put_after(graph, node, "product", "Add", [c if beta == 1 else graph.node("Mul", [c, beta])])
    if on_the_left:
        put_after(graph, node, "turned", "Transpose", [], {"perm": [1, 0]})


def _number(node: Node, name: str) -> np.float32:
    return FLOAT32.type(node.attributes.get(name, 1.0))  # type: ignore[arg-type]


def _is_matrix(array: Array) -> bool:
    return array.ndim == 2 and array.dtype == FLOAT32


def _is_vector(array: Array, n: int) -> bool:
    """Return whether the array adds the same to each row: it is (n,), (1, n) or one number."""
    return array.dtype == FLOAT32 and (array.size == 1 or (array.shape[-1] == n and array.size == n))


def _spread(array: Array, n: int) -> Array:
    return np.broadcast_to(array.reshape(-1), (n,))
