"""MatMul and Gemm with a constant weight become dynq.Linear, which takes in the bias after them."""

from __future__ import annotations

import numpy as np

from ..._arguments import FLOAT32, Array
from ..ir import Graph, Node, Value
from ._rewrite import Uses, constant_of, is_op, other_input

__all__ = ["fuse_bias", "make_linear"]


def make_linear(graph: Graph) -> None:
    uses = Uses(graph)
    views: dict[Value, Value] = {}  # a weight that several nodes share stays one
    for node in graph.nodes:
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
    if node.attributes.get("transA") or node.attributes.get("alpha", 1.0) != 1.0:
        return
    transposed = bool(node.attributes.get("transB"))
    n = array.shape[0 if transposed else 1]
    bias = None
    if c is not None:
        given = constant_of(c)
        if given is None or not _is_vector(given, n) or given.ndim > 2:
            return
        beta = FLOAT32.type(node.attributes.get("beta", 1.0))  # type: ignore[arg-type]
        keep = given.shape == (n,) and beta == 1
        bias = c if keep else uses.graph.constant_for(_spread(given, n) * beta, c)
    if not transposed and w not in views:
        views[w] = uses.graph.constant_for(array.T, w)
    uses.set_inputs(node, [x, w if transposed else views[w], bias])
    node.op, node.attributes = "dynq.Linear", {}


def fuse_bias(graph: Graph) -> None:
    """``Add`` of a constant vector after a dynq.Linear without a bias."""
    uses = Uses(graph)
    for node in list(graph.nodes):
        if node.op != "Add":
            continue
        for value in node.inputs:
            linear = is_op(value, "dynq.Linear")
            if linear is None or value is None or uses.only_reader(value) is not node:
                continue
            bias = other_input(node, value)
            array = constant_of(bias)
            weight = linear.inputs[1]
            if array is None or bias is None or weight is None or weight.shape is None or not _plain(linear):
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
    after = linear.input(2) or linear.input(3)
    return after is None and linear.attributes.get("activation", "none") == "none" and "min" not in linear.attributes


def _is_matrix(array: Array) -> bool:
    return array.ndim == 2 and array.dtype == FLOAT32


def _is_vector(array: Array, n: int) -> bool:
    """Whether it is added to each row alike: (n,), (1, n), one number."""
    return array.dtype == FLOAT32 and (array.size == 1 or (array.shape[-1] == n and array.size == n))


def _spread(array: Array, n: int) -> Array:
    return np.broadcast_to(array.reshape(-1), (n,))
