"""What follows a dynq.Linear goes into it: the Add of a residual, an activation, a Clip; into a dynq.Conv the
activation."""

from __future__ import annotations

from ..ir import Graph, Node, Value
from ._rewrite import Uses, is_op, is_open, other_input, scalar

__all__ = ["fuse_activation", "fuse_clip", "fuse_residual"]

_ACTIVATIONS = {"Relu": "relu", "Sigmoid": "sigmoid", "Tanh": "tanh"}


def fuse_activation(graph: Graph) -> None:
    uses = Uses(graph)
    for node in list(graph.nodes):
        linear = is_op(node.input(0), "dynq.Linear", "dynq.Conv")
        if linear is None or not is_open(linear):
            continue
        activation = _ACTIVATIONS.get(node.op)
        if node.op == "Gelu":
            activation = "gelu_tanh" if node.attributes.get("approximate", "none") == "tanh" else "gelu"
        if activation is not None and uses.only_reader(linear.outputs[0]) is node:
            linear.attributes["activation"] = activation
            uses.take_over(linear, node)
        elif node.op == "Sigmoid":
            _fuse_silu(uses, linear, node)


def _fuse_silu(uses: Uses, linear: Node, sigmoid: Node) -> None:
    """``y * sigmoid(y)``."""
    y, gate = linear.outputs[0], sigmoid.outputs[0]
    product = uses.only_reader(gate)
    if y is None or gate is None or product is None or product.op != "Mul" or other_input(product, gate) is not y:
        return
    if uses.inside(y, {sigmoid, product}):
        linear.attributes["activation"] = "silu"
        uses.take_over(linear, product)
        uses.remove(sigmoid)


def fuse_clip(graph: Graph) -> None:
    """``Clip`` to two numbers."""
    uses = Uses(graph)
    for node in list(graph.nodes):
        linear = is_op(node.input(0), "dynq.Linear") if node.op == "Clip" else None
        low, high = scalar(node.input(1)), scalar(node.input(2))
        if linear is None or low is None or high is None or not low < high or "min" in linear.attributes:
            continue
        if uses.only_reader(linear.outputs[0]) is node:
            linear.attributes |= {"min": low, "max": high}
            uses.take_over(linear, node)


def fuse_residual(graph: Graph) -> None:
    """``Add`` of a float32 value of the same shape; infer_all has told the shapes."""
    uses = Uses(graph)
    for node in list(graph.nodes):
        for linear, value, residual in uses.addends(node, "dynq.Linear"):
            if linear.input(3) is not None or not is_open(linear) or not _same_shape(value, residual):
                continue
            uses.set_inputs(linear, [linear.inputs[0], linear.inputs[1], linear.input(2), residual])
            uses.take_over(linear, node)
            break
    graph.sort()


def _same_shape(a: Value, b: Value) -> bool:
    known = a.shape is not None and None not in a.shape
    return known and a.shape == b.shape and b.dtype == "float32" and b.constant is None
