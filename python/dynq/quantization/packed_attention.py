"""Let dynq.Attention read q, k and v side by side, where one linear layer has put them, without the Split."""

from __future__ import annotations

from ..ir.graph import Graph
from ..ir.values import Node
from ..passes.rewrite import is_op

__all__ = ["read_side_by_side"]


def read_side_by_side(graph: Graph) -> None:
    for node in graph.nodes:
        if node.op == "dynq.Attention" and node.input("v") is not None and (split := _split(node)) is not None:
            for name, value in (("q", split.need("input")), ("k", None), ("v", None)):
                node.set_input(name, value)


def _split(node: Node) -> Node | None:
    """Return the Split whose three outputs, of one width, are q, k and v in this order."""
    q, k, v = node.need("q"), node.input("k"), node.input("v")
    split = is_op(q, "Split")
    if split is None or split.outputs != [q, k, v] or q.shape is None or len(q.shape) != 3:
        return None
    widths = {None if value is None or value.shape is None else value.shape[-1] for value in split.outputs}
    last = split.attributes.get("axis", 0) in (-1, 2)
    return split if last and len(widths) == 1 and isinstance(widths.pop(), int) else None
