"""An Expand whose reader broadcasts anyway goes: masks are written so, which would be as large as the scores."""

from __future__ import annotations

from ..ir import Graph, Node
from ..shapes import broadcast
from ._rewrite import Uses, is_op

__all__ = ["drop_expands"]

_OPS = "Add Sub Mul Div Pow Min Max Where Equal Less LessOrEqual Greater GreaterOrEqual And Or Xor"
_BROADCASTING = frozenset(_OPS.split())


def drop_expands(graph: Graph) -> None:
    uses = Uses(graph)
    for node in graph.nodes:
        if node.op in _BROADCASTING:
            for i in range(len(node.inputs)):
                _drop(uses, node, i)


def _drop(uses: Uses, node: Node, index: int) -> None:
    expand, output = is_op(node.inputs[index], "Expand"), node.outputs[0]
    if expand is None or output is None or output.shape is None or None in output.shape:
        return
    inputs = list(node.inputs)
    inputs[index] = expand.inputs[0]
    shapes = [None if value is None else value.shape for value in inputs]
    if None not in shapes and broadcast(*shapes) == output.shape:
        uses.set_inputs(node, inputs)
