"""Remove the Reshapes around a dynq.Linear: one to a matrix before it and one back after it. It takes the rows as they
are.

torch's addmm is exported so, and with it the layers of GPT-2: (B, S, K) to (B * S, K), Gemm, (B * S, N) to (B, S, N).
"""

from __future__ import annotations

from ..ir.graph import Graph
from .rewrite import Uses, is_op

__all__ = ["lift_linear"]


def lift_linear(graph: Graph) -> None:
    uses = Uses(graph)
    for node in list(graph.nodes):
        linear = is_op(node.need("data"), "dynq.Linear") if node.op == "Reshape" else None
        flat = None if linear is None else is_op(linear.need("x"), "Reshape")
        if linear is None or flat is None or linear.input("residual") is not None:
            continue
        if uses.only_reader(linear.outputs[0]) is not node:
            continue
        x, weight, rows, result = flat.need("data"), linear.need("weight"), flat.outputs[0], node.outputs[0]
        if rows is None or result is None or weight.shape is None:
            continue
        if x.shape is None or rows.shape is None or result.shape is None or not x.shape or None in x.shape:
            continue
        n, k = weight.shape
        if x.shape[-1] == k and rows.shape[-1] == k and result.shape == (*x.shape[:-1], n):
            uses.set_input(linear, "x", x)
            uses.take_over(linear, node)
