"""Tools that passes share: the readers of a value, scalars, one node in the place of several."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ..core.arguments import FLOAT32, Array
from ..ir.given import Attributes
from ..ir.graph import Graph
from ..ir.values import Node, Value

__all__ = [
    "Uses", "close", "constant_of", "is_op", "is_open", "other_input", "panel_rows", "panels", "put_after", "scalar",
]  # fmt: skip


class Uses:
    """The readers of each value of a graph, kept right while nodes are fused."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.readers = graph.users()
        self.outputs = {value for _, value in graph.outputs}

    def only_reader(self, value: Value | None) -> Node | None:
        """Return the node that alone reads ``value``, once; None if there is no such node or ``value`` is an output."""
        if value is None or value in self.outputs:
            return None
        readers = self.readers.get(value, [])
        return readers[0] if len(readers) == 1 else None

    def inside(self, value: Value, nodes: set[Node]) -> bool:
        """Return whether only ``nodes`` read ``value``."""
        return value not in self.outputs and all(node in nodes for node in self.readers.get(value, []))

    def addends(self, node: Node, op: str) -> Iterator[tuple[Node, Value, Value]]:
        """Yield each input of an Add that an ``op`` computes for it alone: that node, its value and the other input."""
        for value in node.inputs if node.op == "Add" else []:
            producer = is_op(value, op)
            if producer is None or value is None or self.only_reader(value) is not node:
                continue
            other = other_input(node, value)
            if other is not None:
                yield producer, value, other

    def set_inputs(self, node: Node, inputs: list[Value | None]) -> None:
        """Give ``node`` other inputs."""
        for value in node.inputs:
            if value is not None:
                self.readers[value].remove(node)
        while inputs and inputs[-1] is None:
            inputs.pop()
        node.inputs = inputs
        for value in inputs:
            if value is not None:
                self.readers.setdefault(value, []).append(node)

    def set_input(self, node: Node, name: str, value: Value | None) -> None:
        """Give ``node`` another value as the input that the table of ops calls ``name``."""
        index = node.position(name)
        inputs = [*node.inputs, *[None] * (index + 1 - len(node.inputs))]
        inputs[index] = value
        self.set_inputs(node, inputs)

    def take_over(self, node: Node, last: Node) -> None:
        """Make ``node`` compute what ``last`` did: its output keeps its name, and ``last`` is gone.

        Nodes between the two are left to dead_code.
        """
        output = last.outputs[0]
        assert output is not None
        self.remove(last)
        output.producer = node
        node.outputs = [output]

    def remove(self, node: Node) -> None:
        """Drop a node whose outputs nobody needs any more."""
        self.set_inputs(node, [])
        self.graph.nodes.remove(node)

    def replace(self, old: Value, new: Value) -> None:
        """Make the readers of ``old``, and the outputs of the graph, take ``new``."""
        for node in dict.fromkeys(self.readers.pop(old, [])):
            count = sum(value is old for value in node.inputs)
            node.inputs = [new if value is old else value for value in node.inputs]
            self.readers.setdefault(new, []).extend([node] * count)
        if old in self.outputs:
            self.graph.outputs = [(name, new if value is old else value) for name, value in self.graph.outputs]
            self.outputs.remove(old)
            self.outputs.add(new)


def is_op(value: Value | None, *ops: str) -> Node | None:
    """Return the node that computes ``value`` as its first output, if its op is one of ``ops``."""
    node = None if value is None else value.producer
    return node if node is not None and node.op in ops and node.outputs[0] is value else None


def constant_of(value: Value | None) -> Array | None:
    """Return the array of a constant; None for anything else."""
    return None if value is None else value.array


def scalar(value: Value | None) -> float | None:
    """Return the number of a constant with one element."""
    array = constant_of(value)
    return float(array.reshape(-1)[0]) if array is not None and array.size == 1 else None


def other_input(node: Node, value: Value) -> Value | None:
    """Return the other one of the two inputs of a commutative node."""
    if len(node.inputs) != 2:
        return None
    a, b = node.inputs
    return b if a is value else a


def is_open(node: Node) -> bool:
    """Return whether a dynq.Linear or dynq.Conv has neither an activation nor a clamp yet."""
    return node.attributes.get("activation", "none") == "none" and "min" not in node.attributes


def put_after(
    graph: Graph, node: Node, part: str, op: str, operands: list[Value], attributes: Attributes | None = None
) -> None:
    """Put an ``op`` behind ``node``, with ``operands`` as its other inputs.

    It takes over the output of ``node``; ``part`` names the value between.
    """
    output = node.outputs[0]
    assert output is not None
    inner = Value(graph, graph.unique_value(f"{node.name}.{part}"), output.dtype, output.shape, None, node)
    node.outputs = [inner]
    after = Node(op, graph.unique_node(f"{node.name}.{op.lower()}"), [inner, *operands], [output], attributes or {})
    output.producer = after
    graph.insert_after(node, after)


def close(a: float | None, b: float) -> bool:
    """Return whether a constant is ``b`` rounded to float32."""
    return a is not None and bool(np.isclose(a, b, rtol=1e-6, atol=0))


def panels(weights: Array) -> Array:
    """Return float weights (groups, outputs, K) as the kernels read them.

    The result is (groups, ceil(outputs / 16), K, 16), padded with zeros.
    """
    groups, outputs, k = weights.shape
    count = -(-outputs // 16)
    padded = np.zeros((groups, count * 16, k), FLOAT32)
    padded[:, :outputs] = weights
    return np.ascontiguousarray(padded.reshape(groups, count, 16, k).swapaxes(2, 3))


def panel_rows(array: Array, outputs: int) -> Array:
    """Return the (groups, outputs, K) that ``panels`` was given."""
    groups, count, k, width = array.shape
    return array.swapaxes(2, 3).reshape(groups, count * width, k)[:, :outputs]
