"""Linear layers on one input (the Q, K and V of attention) become one, whose output is split.

The input is quantized once and the product is larger. Rows are quantized alike and channels do not meet, so the bits
stay the same.
"""

from __future__ import annotations

import numpy as np

from ..._arguments import FLOAT32, Array
from ..deferred import PackedLater
from ..ir import Graph, Node, Value

__all__ = ["merge_siblings"]


def merge_siblings(graph: Graph) -> list[tuple[str, list[str]]]:
    """The names of nodes that were merged, by the name of the one that stays."""
    groups: dict[tuple[object, ...], list[Node]] = {}
    users = graph.users()
    for node in graph.nodes:
        weight = node.input(1)
        if node.op == "dynq.Linear" and node.input(3) is None and weight is not None and _is_own(weight, users):
            bias = node.input(2)
            if bias is None or bias.array is not None:
                attention = _attention(node, users)
                attributes = sorted(map(repr, node.attributes.items()))
                key = (node.inputs[0], attention, weight.shape and weight.shape[1], *attributes)
                groups.setdefault(key, []).append(node)
    merged = []
    for nodes in groups.values():
        nodes.sort(key=lambda node: _place(node, users))
        if len(nodes) > 1:
            merged.append((nodes[0].name, [node.name for node in nodes]))
            _merge(graph, nodes)
    graph.sort()
    return merged


def _attention(node: Node, users: dict[Value, list[Node]]) -> Node | None:
    """The dynq.Attention that alone reads the output."""
    readers = users.get(node.outputs[0], []) if node.outputs[0] is not None else []
    return readers[0] if len(readers) == 1 and readers[0].op == "dynq.Attention" else None


def _place(node: Node, users: dict[Value, list[Node]]) -> int:
    """0 for what is q of its attention, 1 for k, 2 for v: they come to lie in this order."""
    attention = _attention(node, users)
    return 0 if attention is None else attention.inputs.index(node.outputs[0])


def _merge(graph: Graph, nodes: list[Node]) -> None:
    first = nodes[0]
    sizes = [_channels(node) for node in nodes]
    arrays = [array for node in nodes for array in _parts(node.inputs[1]) or []]
    weight = graph.constant(PackedLater(first.name, arrays), graph.unique_value(f"{first.name}.merged"))
    bias = None
    if any(node.input(2) is not None for node in nodes):
        parts = [_bias(node, n) for node, n in zip(nodes, sizes, strict=True)]
        bias = graph.constant(np.concatenate(parts), graph.unique_value(f"{first.name}.bias"))
    outputs = [node.outputs[0] for node in nodes]
    shape = None if outputs[0] is None or outputs[0].shape is None else outputs[0].shape
    for node in nodes[1:]:
        graph.nodes.remove(node)
    whole = Value(graph, graph.unique_value(f"{first.name}.merged"), "float32", None, None, first)
    whole.shape = None if shape is None else (*shape[:-1], sum(sizes))
    first.inputs = [first.inputs[0], weight] if bias is None else [first.inputs[0], weight, bias]
    first.outputs = [whole]
    split = Node(
        "Split",
        graph.unique_node(f"{first.name}.split"),
        [whole, graph.constant(np.array(sizes, np.int64), graph.unique_value("sizes"))],
        list(outputs),
        {"axis": -1},
    )
    for output in outputs:
        if output is not None:
            output.producer = split
    graph.insert_after(first, split)


def _is_own(weight: Value, users: dict[Value, list[Node]]) -> bool:
    """Not packed yet, and no other node reads it, which would take a copy of its own."""
    return _parts(weight) is not None and len(users[weight]) == 1


def _parts(weight: Value | None) -> list[Array] | None:
    """The float arrays of a weight that is not packed yet."""
    return weight.constant.parts if weight is not None and isinstance(weight.constant, PackedLater) else None


def _channels(node: Node) -> int:
    weight = node.inputs[1]
    assert weight is not None and weight.shape is not None and isinstance(weight.shape[0], int)
    return weight.shape[0]


def _bias(node: Node, n: int) -> Array:
    bias = node.input(2)
    return np.zeros(n, FLOAT32) if bias is None or bias.array is None else bias.array
