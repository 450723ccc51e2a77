"""Remove nodes that change nothing: Identity, Dropout, a Cast to the same dtype, a Transpose that moves nothing, x
* 1.
"""

from __future__ import annotations

from ..ir.given import ONNX_NAMES
from ..ir.graph import Graph
from ..ir.values import Node, Value
from .rewrite import Uses

__all__ = ["remove_identities"]


def remove_identities(graph: Graph) -> None:
    uses = Uses(graph)
    for node in list(graph.nodes):
        same = _same(node)
        if same is None or node.outputs[0] is None or any(value in uses.readers for value in node.outputs[1:]):
            continue
        if any(value in uses.outputs for value in node.outputs[1:]):
            continue
        uses.replace(node.outputs[0], same)
        uses.remove(node)


def _same(node: Node) -> Value | None:
    """Return the input that the output equals."""
    x = node.first
    if node.op == "Identity" or (node.op == "Dropout" and node.input("training_mode") is None):
        return x
    if node.op == "Cast" and x is not None and x.dtype is not None and ONNX_NAMES.get(_int(node, "to")) == x.dtype:
        return x
    if node.op == "Transpose":
        perm = node.attributes.get("perm")
        return x if isinstance(perm, list) and perm == list(range(len(perm))) else None
    if node.op == "Concat" and len(node.inputs) == 1:
        return x
    if node.op in ("Mul", "Div", "Add", "Sub"):
        neutral = 1 if node.op in ("Mul", "Div") else 0
        number = node.array("B")
        # -0 + 0 is 0: an Add of 0 changes the bits, but no value.
        if number is not None and number.ndim == 0 and number == neutral:
            return x
    return None


def _int(node: Node, name: str) -> int:
    value = node.attributes.get(name, 0)
    return value if isinstance(value, int) else 0
