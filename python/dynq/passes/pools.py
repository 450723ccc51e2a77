"""Make global pools of windows that hold a whole image: their kernels take long rows, not one window at a time."""

from __future__ import annotations

from ..ir.graph import Graph
from ..ir.values import Node
from .rewrite import Uses

__all__ = ["find_global_pools"]

_GLOBAL = {"AveragePool": "GlobalAveragePool", "MaxPool": "GlobalMaxPool"}


def find_global_pools(graph: Graph) -> None:
    uses = Uses(graph)
    for node in graph.nodes:
        read = [value for value in node.outputs[1:] if value in uses.readers or value in uses.outputs]
        if node.op in _GLOBAL and not read and _is_whole(node):
            node.op, node.attributes, node.outputs = _GLOBAL[node.op], {}, node.outputs[:1]


def _is_whole(node: Node) -> bool:
    """Return whether the one window of a float image is all of it."""
    x, attributes = node.first, node.attributes
    if x is None or x.shape is None or x.dtype != "float32" or attributes.get("auto_pad", "NOTSET") == "SAME_LOWER":
        return False
    plain = all(set(attributes.get(name, ())) <= {least} for name, least in (("pads", 0), ("dilations", 1)))  # type: ignore[arg-type]
    return plain and list(x.shape[2:]) == attributes.get("kernel_shape") and _is_one(node)


def _is_one(node: Node) -> bool:
    y = node.outputs[0]
    return y is not None and y.shape is not None and set(y.shape[2:]) == {1}
