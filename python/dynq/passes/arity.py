"""Check that every node has the inputs that the table of ops asks for, so that passes may rely on them."""

from __future__ import annotations

from ..ir import ops
from ..ir.graph import Graph
from ..ir.recurrent import STATE_PROJECTION

__all__ = ["check_arity"]


def check_arity(graph: Graph) -> None:
    """Check the number of inputs and outputs of each node.

    Raises:
        ValueError: an input is missing or there is one too many; the error names the node.
    """
    table = ops.table()
    for node in graph.nodes:
        op = table.get(node.op)  # an op that dynq lacks is refused once all are known
        if op is None:
            continue
        given, least = len(node.inputs), op.required
        most = STATE_PROJECTION + 1 if node.op == "LSTM" else op.most
        if given < least or None in node.inputs[:least] or (most is not None and given > most):
            missing = [i for i, value in enumerate(node.inputs[:least]) if value is None]
            came = f"lacks input {missing[0]}" if missing else f"has {given} inputs"
            to = "" if op.most == least else " or more" if op.most is None else f" to {op.most}"
            raise ValueError(f"node {node.name!r} ({node.op}) {came}; expected {least}{to}")
        if not node.outputs:
            raise ValueError(f"node {node.name!r} ({node.op}) has no outputs")
