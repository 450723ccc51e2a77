"""Ops that passes take apart have the inputs that they need; the runtime checks the others when it opens a model."""

from __future__ import annotations

from ..ir import Graph

__all__ = ["check_arity"]

_LEAST = {
    1: "Cast Clip Concat Dropout Erf Exp Gelu Identity Neg Reciprocal ReduceMax ReduceMean ReduceSum Relu Shape "
    "Sigmoid Softmax Split Sqrt Squeeze Tanh Transpose",
    2: "Add Conv Div Equal Expand Gather Gemm LayerNormalization MatMul Mul Pow Reshape Sub Unsqueeze dynq.Linear",
    3: "Slice Where dynq.Embedding",
    5: "BatchNormalization",
}
_NO_MORE = "Add Cast Div Equal Erf Exp Expand Gather Gelu MatMul Mul Neg Pow Relu Sigmoid Sub Tanh Where"
_EXACT = frozenset(_NO_MORE.split())
_INPUTS = {op: count for count, ops in _LEAST.items() for op in ops.split()}


def check_arity(graph: Graph) -> None:
    for node in graph.nodes:
        least = _INPUTS.get(node.op, 0)
        given = len(node.inputs)
        if given < least or None in node.inputs[:least] or (given > least and node.op in _EXACT):
            missing = [i for i, value in enumerate(node.inputs[:least]) if value is None]
            came = f"lacks input {missing[0]}" if missing else f"has {given} inputs"
            raise ValueError(f"node {node.name!r} ({node.op}) {came}; expected {least}")
        if not node.outputs:
            raise ValueError(f"node {node.name!r} ({node.op}) has no outputs")
