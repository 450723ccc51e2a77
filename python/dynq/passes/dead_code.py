"""Remove nodes whose outputs nobody reads. A single output that nobody reads is not computed."""

from __future__ import annotations

from ..ir.graph import Graph
from ..ir.values import Node

__all__ = ["dead_code"]


def dead_code(graph: Graph) -> None:
    alive: set[Node] = set()
    stack = [value.producer for _, value in graph.outputs]
    while stack:
        node = stack.pop()
        if node is not None and node not in alive:
            alive.add(node)
            stack += [value.producer for value in node.inputs if value is not None]
    graph.nodes = [node for node in graph.nodes if node in alive]
    read = set(graph.users()) | {value for _, value in graph.outputs}
    for node in graph.nodes:
        node.outputs = [value if value in read else None for value in node.outputs]
        while node.outputs and node.outputs[-1] is None:
            node.outputs.pop()
    graph.sort()
