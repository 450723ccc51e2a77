"""Find the layers that read an input of the model, for the option first_layer."""

from __future__ import annotations

from ..ir import ops
from ..ir.graph import Graph

__all__ = ["first_layers"]

_LAYERS = ("dynq.Linear", "dynq.Conv", "Conv", "ConvTranspose")
# The ops that may stand between an input and its first layer, besides those that only move numbers.
# Not every elementwise op is here, since a Sigmoid or a comparison gives its numbers a range.
_OPS = "Cast Add Sub Mul Div Neg Abs Log Exp Sqrt Pow Clip Relu Max Min BatchNormalization"
_COMPUTING = frozenset(_OPS.split())


def first_layers(graph: Graph) -> frozenset[str]:
    """Return the names of layers that a float input reaches without passing another layer, a norm or a softmax."""
    reached, layers = {value for value in graph.inputs if value.dtype == "float32"}, []
    for node in graph.nodes:  # in an order in which they can run
        if not any(given in reached for given in node.inputs if given is not None):
            continue
        if node.op in _LAYERS:
            if node.first in reached:
                layers.append(node.name)
        elif node.op in _COMPUTING or ((op := ops.table().get(node.op)) is not None and op.moves):
            reached.update(output for output in node.outputs if output is not None)
    return frozenset(layers)
