"""A transpose of the last two dimensions that is written on three becomes one on four.

torch's newer exporter swaps them for any rank: Reshape to (-1, T, D), Transpose, Reshape to (B, H, D, T).
"""

from __future__ import annotations

from ..ir import Graph
from ._rewrite import Uses, is_op

__all__ = ["join_transposes"]


def join_transposes(graph: Graph) -> None:
    uses = Uses(graph)
    for node in graph.nodes:
        swap = is_op(node.input(0), "Transpose") if node.op == "Reshape" else None
        flat = None if swap is None or swap.attributes.get("perm") != [0, 2, 1] else is_op(swap.input(0), "Reshape")
        if flat is None or flat.inputs[0] is None or flat.outputs[0] is None or node.outputs[0] is None:
            continue
        x, three, result = flat.inputs[0].shape, flat.outputs[0].shape, node.outputs[0].shape
        if x is None or three is None or result is None or len(x) != 4 or len(result) != 4 or None in x:
            continue
        if three[1:] == x[2:] and result == (x[0], x[1], x[3], x[2]):
            uses.set_inputs(node, [flat.inputs[0]])
            node.op, node.attributes = "Transpose", {"perm": [0, 1, 3, 2]}
