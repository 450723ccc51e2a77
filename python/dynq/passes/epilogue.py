"""Move the nodes behind a dynq.Linear or a dynq.Conv into it: an activation, a Clip. A dynq.Linear takes in the Add of
a residual too.
"""

from __future__ import annotations

import math

from ..ir.given import Attributes
from ..ir.graph import Graph
from ..ir.values import Node, Value
from .rewrite import Uses, is_op, is_open, scalar

__all__ = ["fuse_activation", "fuse_clip", "fuse_residual"]

_ACTIVATIONS = {"Relu": "relu", "Sigmoid": "sigmoid", "Tanh": "tanh", "HardSwish": "hard_swish", "Mish": "mish"}


def fuse_activation(graph: Graph) -> None:
    uses = Uses(graph)
    for node in list(graph.nodes):
        layer = is_op(node.first, "dynq.Linear", "dynq.Conv")
        if layer is None or not is_open(layer) or uses.only_reader(layer.outputs[0]) is not node:
            continue
        attributes = _activation(node)
        if attributes is not None:
            layer.attributes |= attributes
            uses.take_over(layer, node)


def _activation(node: Node) -> Attributes | None:
    """Return the attributes of a layer that give it what a node computes; None if none do."""
    if node.op in _ACTIVATIONS:
        return {"activation": _ACTIVATIONS[node.op]}
    if node.op == "Gelu":
        return {"activation": "gelu_tanh" if node.attributes.get("approximate", "none") == "tanh" else "gelu"}
    if node.op == "Swish" and node.attributes.get("alpha", 1.0) == 1:
        return {"activation": "silu"}
    if node.op == "LeakyRelu":
        return {"activation": "leaky_relu", "alpha": node.attributes.get("alpha", 0.01)}
    if node.op == "HardSigmoid":
        alpha, beta = node.attributes.get("alpha", 0.2), node.attributes.get("beta", 0.5)
        return {"activation": "hard_sigmoid", "alpha": alpha, "beta": beta}
    return None


def _bounds(node: Node) -> tuple[float, float] | None:
    """Return the numbers between which a Clip keeps its input; None if they are not known, or not in order."""
    if node.op != "Clip":
        return None
    sides = (node.input("min"), -math.inf), (node.input("max"), math.inf)
    low, high = (otherwise if value is None else scalar(value) for value, otherwise in sides)
    return None if low is None or high is None or not low < high else (low, high)


def fuse_clip(graph: Graph) -> None:
    """Move a ``Clip`` to two numbers into the layer before it."""
    uses = Uses(graph)
    for node in list(graph.nodes):
        bounds, layer = _bounds(node), is_op(node.first, "dynq.Linear", "dynq.Conv")
        if layer is None or bounds is None or "min" in layer.attributes:
            continue
        if uses.only_reader(layer.outputs[0]) is node:
            layer.attributes |= {"min": bounds[0], "max": bounds[1]}
            uses.take_over(layer, node)


def fuse_residual(graph: Graph) -> None:
    """Move an ``Add`` of a float32 value of the same shape into the layer. infer_all has to run before, for the
    shapes.
    """
    uses = Uses(graph)
    for node in list(graph.nodes):
        for linear, value, residual in uses.addends(node, "dynq.Linear"):
            if linear.input("residual") is not None or not is_open(linear) or not _same_shape(value, residual):
                continue
            uses.set_input(linear, "residual", residual)
            uses.take_over(linear, node)
            break
    graph.sort()


def _same_shape(a: Value, b: Value) -> bool:
    known = a.shape is not None and None not in a.shape
    return known and a.shape == b.shape and b.dtype == "float32" and b.constant is None
