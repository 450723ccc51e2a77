"""dynq.Attention reads q, k and v where one linear layer has put them, side by side, without the Split."""

from __future__ import annotations

from ..ir import Graph, Node
from ._rewrite import is_op

__all__ = ["read_side_by_side"]


def read_side_by_side(graph: Graph) -> None:
    for node in graph.nodes:
        if node.op == "dynq.Attention" and len(node.inputs) > 2 and (split := _split(node)) is not None:
            node.inputs[:3] = [split.inputs[0], None, None]
            while node.inputs[-1] is None:
                node.inputs.pop()


def _split(node: Node) -> Node | None:
    """The Split whose three outputs, of one width, are q, k and v in this order."""
    q = node.inputs[0]
    split = is_op(q, "Split")
    if split is None or split.outputs != node.inputs[:3] or q is None or q.shape is None or len(q.shape) != 3:
        return None
    widths = {None if value is None or value.shape is None else value.shape[-1] for value in split.outputs}
    last = split.attributes.get("axis", 0) in (-1, 2)
    return split if last and len(widths) == 1 and isinstance(widths.pop(), int) else None
