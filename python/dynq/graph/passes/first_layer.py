"""Which layers read an input of the model, and are so small beside the others that they stay float.

Numbers that come from outside may have any range: mel power spans eight decades in one row, and 255 steps of its
largest value leave nothing of the rest. Behind the first layer, values have the range that training gave them. So a
layer that is alone in reading an input can cost more accuracy than all others, and a small one is cheap in float.
"""

from __future__ import annotations

from ..ir import Graph, Node, Value

__all__ = ["first_layers"]

_SHARE = 8  # those that stay float have under 1/8 of the weights of all layers
_LAYERS = ("dynq.Linear", "dynq.Conv", "Conv", "ConvTranspose")
# What stands between an input and its first layer: it moves numbers, or computes each from few others.
_MOVING = """
    Reshape Transpose Squeeze Unsqueeze Flatten Identity Cast Slice Split Pad Concat Expand Tile Gather
    Add Sub Mul Div Neg Abs Log Exp Sqrt Pow Clip Relu Max Min BatchNormalization
"""
_BETWEEN = frozenset(_MOVING.split())


def first_layers(graph: Graph) -> dict[str, str]:
    """The names of layers that stay float, each with the reason."""
    found: dict[str, str] = {}
    weights = 0
    for given in graph.inputs:
        if given.dtype != "float32":
            continue
        readers = _readers(graph, given)
        if len(readers) == 1 and readers[0].name not in found:
            found[readers[0].name] = given.name
            weights += _elements(readers[0].inputs[1])
    share = weights / max(_all_weights(graph), 1)
    if share * _SHARE >= 1:
        return {}
    why = f"it has {share:.1%} of the weights, and numbers from outside may have any range"
    return {name: f"first_layer='float': reads the input {given!r}; {why}" for name, given in found.items()}


def _readers(graph: Graph, value: Value) -> list[Node]:
    """The layers that a value reaches without passing another layer, a norm or a softmax."""
    reached, layers = {value}, []
    for node in graph.nodes:  # in an order in which they can run
        if not any(given in reached for given in node.inputs if given is not None):
            continue
        if node.op in _LAYERS:
            if node.inputs[0] in reached:
                layers.append(node)
        elif node.op in _BETWEEN:
            reached.update(output for output in node.outputs if output is not None)
    return layers


def _all_weights(graph: Graph) -> int:
    """Elements of the matrices and filters of all layers; tables of embeddings are none."""
    values = {
        value
        for node in graph.nodes
        for at, value in enumerate(node.inputs)
        if value is not None and value.constant is not None and not (node.op == "Gather" and at == 0)
    }
    return sum(_elements(value) for value in values if value.shape is not None and len(value.shape) >= 2)


def _elements(value: Value | None) -> int:
    result = 1
    for dim in (None if value is None else value.shape) or ():
        result *= dim if isinstance(dim, int) else 1
    return result
