"""Handle captures, which are the values around a node that its bodies read.

They are the last inputs of the node and of each body. Constants are no captures, but part of the bodies, where
passes and quantization see them.
"""

from __future__ import annotations

from ..ir.values import Node
from .rewrite import Uses

__all__ = ["drop_captures", "pass_constants"]


def pass_constants(node: Node) -> None:
    """Put the captures of a node that are constants into its bodies."""
    for at in reversed(_captures(node)):
        value = node.inputs[at]
        if value is None or value.constant is None:
            continue
        for body in node.bodies.values():
            parameter = body.inputs[at - _shift(node)]
            constant = body.constant(value.constant, body.unique_value(parameter.name))
            Uses(body).replace(parameter, constant)
        _remove(node, at)


def drop_captures(node: Node) -> None:
    """Remove the captures of a node that none of its bodies reads."""
    for at in reversed(_captures(node)):
        parameters = [(body, body.inputs[at - _shift(node)]) for body in node.bodies.values()]
        if not any(p in body.users() or p in (v for _, v in body.outputs) for body, p in parameters):
            _remove(node, at)


def _shift(node: Node) -> int:
    """Return how many more inputs than its bodies a node has before those that both have."""
    return 1 if node.op == "dynq.If" else 0


def _captures(node: Node) -> range:
    if not node.bodies:
        return range(0)
    carried = node.attributes.get("carried", 0)
    assert isinstance(carried, int)
    return range(1 if node.op == "dynq.If" else 2 + carried, len(node.inputs))


def _remove(node: Node, at: int) -> None:
    del node.inputs[at]
    for body in node.bodies.values():
        del body.inputs[at - _shift(node)]
