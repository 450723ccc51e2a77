"""Merge linear layers on one input, such as the Q, K and V of attention, or convolutions with the same windows on one
input, into one whose output is split.

The input is then quantized once, and the product is larger. Rows are quantized alike and channels do not mix, so the
bits stay the same.
"""

from __future__ import annotations

import numpy as np

from ..core.arguments import FLOAT32, Array
from ..ir.deferred import PackedLater
from ..ir.graph import Graph
from ..ir.values import Node, Value

__all__ = ["merge_siblings"]


_CHANNELS = {"dynq.Linear": -1, "dynq.Conv": 1}  # the axis of an output that its channels lie along


def merge_siblings(graph: Graph) -> list[tuple[Node, list[str]]]:
    """Merge siblings, and return the nodes that stay, each with the names of those that it is merged of."""
    groups: dict[tuple[object, ...], list[Node]] = {}
    users = graph.users()
    for node in graph.nodes:
        if node.op not in _CHANNELS or (node.op == "dynq.Linear" and node.input("residual") is not None):
            continue
        weight, bias = node.need("weight"), node.input("bias")
        if _is_own(weight, users) and (bias is None or bias.array is not None):
            attention = _attention(node, users)
            attributes = sorted(map(repr, node.attributes.items()))
            key = (node.op, node.need("x"), attention, weight.shape and weight.shape[1], *attributes)
            groups.setdefault(key, []).append(node)
    merged = []
    for nodes in groups.values():
        nodes.sort(key=lambda node: _place(node, users))
        if len(nodes) > 1 and _pays(nodes):
            merged.append((nodes[0], [node.name for node in nodes]))
            _merge(graph, nodes)
    graph.sort()
    return merged


def _pays(nodes: list[Node]) -> bool:
    """Return whether less is quantized than is copied when the output is split."""
    k = nodes[0].need("weight").shape
    assert k is not None and isinstance(k[1], int)
    return nodes[0].op == "dynq.Linear" or (len(nodes) - 1) * k[1] >= sum(_channels(node) for node in nodes)


def _attention(node: Node, users: dict[Value, list[Node]]) -> Node | None:
    """Return the dynq.Attention, if it alone reads the output."""
    readers = users.get(node.outputs[0], []) if node.outputs[0] is not None else []
    return readers[0] if len(readers) == 1 and readers[0].op == "dynq.Attention" else None


def _place(node: Node, users: dict[Value, list[Node]]) -> int:
    """Return the place of a node's output in its attention: 0 for q, 1 for k, 2 for v. Merged, they lie in this
    order.
    """
    attention = _attention(node, users)
    return 0 if attention is None else attention.inputs.index(node.outputs[0])


def _merge(graph: Graph, nodes: list[Node]) -> None:
    first = nodes[0]
    sizes = [_channels(node) for node in nodes]
    arrays = [array for node in nodes for array in _parts(node.need("weight")) or []]
    weight = graph.constant(PackedLater(first.name, arrays), graph.unique_value(f"{first.name}.merged"))
    bias = None
    if any(node.input("bias") is not None for node in nodes):
        parts = [_bias(node, n) for node, n in zip(nodes, sizes, strict=True)]
        bias = graph.constant(np.concatenate(parts), graph.unique_value(f"{first.name}.bias"))
    outputs = [node.outputs[0] for node in nodes]
    shape = None if outputs[0] is None or outputs[0].shape is None else list(outputs[0].shape)
    axis = _CHANNELS[first.op]
    if shape is not None:
        shape[axis] = sum(sizes)
    for node in nodes[1:]:
        graph.nodes.remove(node)
    whole = Value(graph, graph.unique_value(f"{first.name}.merged"), "float32", None, None, first)
    whole.shape = None if shape is None else tuple(shape)
    first.set_input("weight", weight)
    if bias is not None:
        first.set_input("bias", bias)
    first.outputs = [whole]
    split = Node(
        "Split",
        graph.unique_node(f"{first.name}.split"),
        [whole, graph.constant(np.array(sizes, np.int64), graph.unique_value("sizes"))],
        list(outputs),
        {"axis": axis},
    )
    for output in outputs:
        if output is not None:
            output.producer = split
    graph.insert_after(first, split)


def _is_own(weight: Value, users: dict[Value, list[Node]]) -> bool:
    """Return whether a weight is not packed yet and no other node reads it, which would need a copy of its own."""
    return _parts(weight) is not None and len(users[weight]) == 1


def _parts(weight: Value) -> list[Array] | None:
    """Return the float arrays of a weight that is not packed yet."""
    return weight.constant.parts if isinstance(weight.constant, PackedLater) else None


def _channels(node: Node) -> int:
    weight = node.need("weight")
    assert weight.shape is not None and isinstance(weight.shape[0], int)
    return weight.shape[0]


def _bias(node: Node, n: int) -> Array:
    bias = node.array("bias")
    return np.zeros(n, FLOAT32) if bias is None else bias
