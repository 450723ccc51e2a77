"""Read a size that a run decides from the input that has it, in one place, and compute equal nodes once.

Exporters ask for the shape of whatever is at hand, which would keep it alive, and ask again each time.
"""

from __future__ import annotations

import numpy as np

from ..ir.elements import elements
from ..ir.graph import Graph
from ..ir.values import Value
from .rewrite import Uses

__all__ = ["read_sizes_from_inputs", "share_nodes"]


def read_sizes_from_inputs(graph: Graph) -> None:
    """Make ``Gather(Shape(x), i)`` of an open size read the shape of an input."""
    uses = Uses(graph)
    places: dict[str, tuple[Value, int]] = {}
    for value in graph.inputs:
        for axis, dim in enumerate(value.shape or ()):
            if isinstance(dim, str):
                places.setdefault(dim, (value, axis))
    sizes: dict[str, Value] = {}
    for node in list(graph.nodes):
        output = node.outputs[0] if node.outputs else None
        if node.op != "Gather" or output is None or output.dtype != "int64" or output.shape != ():
            continue
        numbers = elements(output)
        name = numbers[0] if numbers is not None else None
        if not isinstance(name, str) or name not in places:
            continue
        if name not in sizes:
            value, axis = places[name]
            sizes[name] = graph.node("Gather", [graph.node("Shape", [value]), np.int64(axis)], axis=0)
        uses.replace(output, sizes[name])


def share_nodes(graph: Graph) -> None:
    """Merge nodes that have the same op and equal inputs and attributes."""
    uses = Uses(graph)
    seen: dict[tuple[object, ...], list[Value | None]] = {}
    for node in [node for node in graph.nodes if not node.bodies]:
        attributes = sorted((name, repr(value)) for name, value in node.attributes.items())
        key = (node.op, tuple(node.inputs), tuple(attributes), len(node.outputs))
        same = seen.setdefault(key, node.outputs)
        if same is node.outputs or any(a is None and b is not None for a, b in zip(same, node.outputs, strict=True)):
            continue
        for mine, other in zip(node.outputs, same, strict=True):
            if mine is not None and other is not None:
                uses.replace(mine, other)
        uses.remove(node)
