"""Turn the parts of a stack that is cut from the last axis into parts of that axis.

torch.nn.MultiheadAttention projects q, k and v at once, (T, B, 3 * E), and brings the 3 to the front to pick from them.
"""

from __future__ import annotations

import numpy as np

from ..ir.graph import Graph
from ..ir.values import Node, Value
from .axes import Axes, before
from .rewrite import Uses

__all__ = ["split_stacks"]

_DEEPEST = 6  # the most nodes that are followed


def split_stacks(graph: Graph) -> None:
    uses = Uses(graph)
    found: dict[tuple[Value, int, int], dict[int, list[Node]]] = {}
    for node in graph.nodes:
        stack = _stack(node) if node.op == "Gather" else None
        if stack is not None:
            base, count, width, index = stack
            found.setdefault((base, count, width), {}).setdefault(index, []).append(node)
    for (base, count, width), parts in found.items():
        if len(parts) < 2:
            continue
        name = graph.unique_node(f"{base.name}.parts")
        sizes = graph.constant(np.full(count, width, np.int64), graph.unique_value(f"{name}.sizes"))
        outputs: list[Value | None] = [None] * count
        split = Node("Split", name, [base, sizes], outputs, {"axis": -1})
        for index, nodes in parts.items():
            first = nodes[0].outputs[0]
            assert first is not None and base.shape is not None
            part = Value(
                graph, graph.unique_value(f"{name}.{index}"), base.dtype, (*base.shape[:-1], width), None, split
            )
            split.outputs[index] = part
            for node in nodes:
                if node.outputs[0] is not None:
                    uses.replace(node.outputs[0], part)
                uses.remove(node)
        graph.append(split)
    if found:
        graph.sort()


def _stack(node: Node) -> tuple[Value, int, int, int] | None:
    """Return, for a part of a stack, the value whose last axis has the stack, how many parts it has, their width, and
    which part it is.
    """
    data, index = node.need("data"), node.array("indices")
    if data.shape is None or index is None or index.ndim != 0 or data.constant is not None:
        return None
    rank = len(data.shape)
    axis = int(node.attributes.get("axis", 0)) % rank  # type: ignore[arg-type]
    count, width = data.shape[axis], data.shape[-1]
    if axis == rank - 1 or not isinstance(count, int) or not isinstance(width, int) or count == 0 or width == 0:
        return None
    axes = [[str(i)] for i in range(rank)]
    sizes = {str(i): dim for i, dim in enumerate(data.shape)}
    wanted = [axes[i] for i in range(rank - 1) if i != axis] + [[str(axis), str(rank - 1)]]

    def wide(axes: Axes) -> Axes:
        return [[part for part in axis if sizes[part] != 1] for axis in axes]

    value = data
    for _ in range(_DEEPEST):
        step = before(value, axes, sizes)
        if step is None:
            return None
        value, axes = step
        if wide(axes) == wide(wanted):
            return value, count, width, int(index) % count
    return None
