"""MatMul and Gemm with a constant weight become dynq.Linear, which takes in the bias after them."""

from __future__ import annotations

import numpy as np

from ..._arguments import FLOAT32, Array
from ..ir import Graph, Node, Value
from ._rewrite import Uses, constant_of, is_open, put_after

__all__ = ["fuse_bias", "make_linear"]


def make_linear(graph: Graph) -> None:
    uses = Uses(graph)
    views: dict[Value, Value] = {}  # a weight that several nodes share stays one
    for node in list(graph.nodes):
        if node.op == "MatMul":
            _from_matmul(uses, node, views)
        elif node.op == "Gemm":
            _from_gemm(uses, node, views)


def _from_matmul(uses: Uses, node: Node, views: dict[Value, Value]) -> None:
    x, w = node.inputs
    array = constant_of(w)
    if x is None or w is None or x.constant is not None or array is None or not _is_matrix(array):
        return
    if w not in views:
        views[w] = uses.graph.constant_for(array.T, w)
    uses.set_inputs(node, [x, views[w]])
    node.op = "dynq.Linear"


def _from_gemm(uses: Uses, node: Node, views: dict[Value, Value]) -> None:
    x, w, c = node.input(0), node.input(1), node.input(2)
    array = constant_of(w)
    if x is None or w is None or x.constant is not None or array is None or not _is_matrix(array):
        return
    transposed, alpha, beta = bool(node.attributes.get("transB")), _number(node, "alpha"), _number(node, "beta")
    if node.attributes.get("transA"):
        x = uses.graph.node("Transpose", [x], perm=[1, 0])
    if alpha != 1:
        w = uses.graph.constant_for((array if transposed else array.T) * alpha, w)
    elif not transposed:
        if w not in views:
            views[w] = uses.graph.constant_for(array.T, w)
        w = views[w]
    n = array.shape[0 if transposed else 1]
    given = constant_of(c)
    bias = None
    if c is not None and given is not None and given.ndim <= 2 and _is_vector(given, n):
        keep = given.shape == (n,) and beta == 1
        bias = c if keep else uses.graph.constant_for(_spread(given, n) * beta, c)
    uses.set_inputs(node, [x, w, bias])
    node.op, node.attributes = "dynq.Linear", {}
    if c is not None and bias is None:
        put_after(uses.graph, node, "product", "Add", [c if beta == 1 else uses.graph.node("Mul", [c, beta])])


def _number(node: Node, name: str) -> np.float32:
    return FLOAT32.type(node.attributes.get(name, 1.0))  # type: ignore[arg-type]


def fuse_bias(graph: Graph) -> None:
    """``Add`` of a constant vector after a dynq.Linear without a bias."""
    uses = Uses(graph)
    for node in list(graph.nodes):
        for linear, value, bias in uses.addends(node, "dynq.Linear"):
            array, weight = constant_of(bias), linear.inputs[1]
            if array is None or weight is None or weight.shape is None or not _plain(linear):
                continue
            n, rank = weight.shape[0], None if value.shape is None else len(value.shape)
            if not isinstance(n, int) or not _is_vector(array, n) or (array.ndim > 1 and array.ndim > (rank or 0)):
                continue
            if array.shape != (n,):
                bias = graph.constant_for(_spread(array, n), bias)
            uses.set_inputs(linear, [linear.inputs[0], weight, bias])
            uses.take_over(linear, node)
            break


def _plain(linear: Node) -> bool:
    """Whether nothing follows the product yet."""
    return (linear.input(2) or linear.input(3)) is None and is_open(linear)


def _is_matrix(array: Array) -> bool:
    return array.ndim == 2 and array.dtype == FLOAT32


def _is_vector(array: Array, n: int) -> bool:
    """Whether it is added to each row alike: (n,), (1, n), one number."""
    return array.dtype == FLOAT32 and (array.size == 1 or (array.shape[-1] == n and array.size == n))


def _spread(array: Array, n: int) -> Array:
    return np.broadcast_to(array.reshape(-1), (n,))
