"""Remove an Expand whose reader broadcasts anyway. Exported masks have one; its result would be as large as the
scores.
"""

from __future__ import annotations

from ..ir import ops
from ..ir.graph import Graph
from ..ir.shapes import broadcast
from ..ir.values import Node
from .rewrite import Uses, is_op

__all__ = ["drop_expands"]

_RULES = ("BROADCAST", "COMPARE", "CHOOSE")  # shape rules by which all inputs broadcast


def drop_expands(graph: Graph) -> None:
    uses = Uses(graph)
    for node in graph.nodes:
        op = ops.table().get(node.op)
        if op is not None and op.shape_rule in _RULES:
            for i in range(len(node.inputs)):
                _drop(uses, node, i)


def _drop(uses: Uses, node: Node, index: int) -> None:
    expand, output = is_op(node.inputs[index], "Expand"), node.outputs[0]
    if expand is None or output is None or output.shape is None or None in output.shape:
        return
    inputs = list(node.inputs)
    inputs[index] = expand.need("input")
    shapes = [None if value is None else value.shape for value in inputs]
    if None not in shapes and broadcast(*shapes) == output.shape:
        uses.set_inputs(node, inputs)
