"""A dynq.Linear between a Reshape to a matrix and one back takes the rows as they are.

torch's addmm, and so the layers of GPT-2, is exported so: (B, S, K) to (B * S, K), Gemm, (B * S, N) to (B, S, N).
"""

from __future__ import annotations

from ..ir import Graph
from ._rewrite import Uses, is_op

__all__ = ["lift_linear"]


def lift_linear(graph: Graph) -> None:
    uses = Uses(graph)
    for node in list(graph.nodes):
        linear = is_op(node.input(0), "dynq.Linear") if node.op == "Reshape" else None
        flat = None if linear is None else is_op(linear.inputs[0], "Reshape")
        if (
            linear is None
            or flat is None
            or linear.input(3) is not None
            or uses.only_reader(node.inputs[0]) is not node
        ):
            continue
        x, rows, result = flat.inputs[0], flat.outputs[0], node.outputs[0]
        weight = linear.inputs[1]
        if x is None or rows is None or result is None or weight is None or weight.shape is None:
            continue
        if x.shape is None or rows.shape is None or result.shape is None or not x.shape or None in x.shape:
            continue
        n, k = weight.shape
        if x.shape[-1] == k and rows.shape[-1] == k and result.shape == (*x.shape[:-1], n):
            uses.set_inputs(linear, [x, *linear.inputs[1:]])
            uses.take_over(linear, node)
