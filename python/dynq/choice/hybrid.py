"""Build models from parts of others.

One has every quantized layer alone, on what the float model computes. The other is the float model with one layer
quantized.
"""

from __future__ import annotations

from collections.abc import Mapping

from ..core.arguments import Array
from ..ir.graph import Graph
from ..ir.values import Node, Value
from ..model import Model, open_image
from ..plan.write import write_image
from ..weights import QuantizedWeight
from .layers import RECURRENT, Layer

__all__ = ["OWN", "one_quantized", "side_by_side"]

OWN = "{}.own {}"  # the outputs of side_by_side: the layer's node and the output's number


def side_by_side(layers: list[Layer], known: Mapping[str, Array]) -> Model:
    """Return a model of the quantized layers, each of which reads what the float model computes, as an input of that
    name.

    ``known`` has tensors of the float model. If it lacks a value, the nodes between that value and the layer come
    along.
    """
    parts = _Parts("layers", known)
    nodes: dict[Node, None] = {}
    for layer in layers:
        if layer.quantized and layer.node not in nodes:
            nodes[layer.node] = None
            for i, value in enumerate(parts.copy(layer.node, every_step=True)):
                if value is not None:
                    parts.graph.output(value, OWN.format(layer.node.name, i))
    return parts.model()


def one_quantized(floating: Graph, layer: Layer, outputs: list[str | None], known: Mapping[str, Array]) -> Model | None:
    """Return the float model from a layer on, with that layer quantized. What comes before is an input, by its name.

    ``outputs`` are the layer's, by their names in the float model. The result is None if no output of the model depends
    on the layer.
    """
    changed = {name for name in outputs if name is not None}
    for node in floating.nodes:
        if any(value is not None and value.name in changed for value in node.inputs):
            changed |= {value.name for value in node.outputs if value is not None}
    parts = _Parts("one quantized", {name: array for name, array in known.items() if name not in changed})
    made = parts.copy(layer.node)
    if layer.part is not None:
        _cut(parts.graph, layer, made[0])
    parts.instead = {name: value for name, value in zip(outputs, made, strict=True) if name and value is not None}
    for name, value in floating.outputs:
        if value.name in changed:
            parts.graph.output(parts.read(value), name)
    return parts.model() if parts.graph.outputs else None


def _cut(graph: Graph, layer: Layer, output: Value | None) -> None:
    """Reduce a node that is several layers to one. Its channels have scales of their own, so the bits stay."""
    assert output is not None and output.producer is not None and layer.part is not None
    node = output.producer
    for at, value in enumerate(node.inputs):
        if value is not None and isinstance(value.constant, QuantizedWeight):
            weight, part = value.constant, layer.part
            zero = None if weight.zero_point is None else weight.zero_point[part]
            cut = QuantizedWeight.from_integers(weight.integers()[part], weight.scale[part], zero)
            node.inputs[at] = graph.constant(cut, graph.unique_value("part"))
        elif at == 2 and value is not None and value.array is not None:
            node.inputs[at] = graph.constant(value.array[layer.part].copy(), graph.unique_value("part"))


class _Parts:
    """A graph that is copied together backwards, from the wanted values to the known ones."""

    def __init__(self, name: str, known: Mapping[str, Array]) -> None:
        self.graph = Graph(name)
        self.instead: dict[str, Value] = {}  # what replaces the values of these names
        self._known = known
        self._inputs: dict[str, Value] = {}
        self._made: dict[Value, Value] = {}

    def model(self) -> Model:
        return open_image(write_image(self.graph, {"name": self.graph.name}))

    def copy(self, node: Node, every_step: bool = False) -> list[Value | None]:
        """Return the outputs of a copy of ``node``. With ``every_step``, those of a recurrent one include the states of
        all steps.
        """
        inputs = [None if value is None else self.read(value) for value in node.inputs]
        bodies = {name: self.graph.adopt(body) for name, body in node.bodies.items()}
        new = Node(node.op, self.graph.unique_node(node.name), inputs, [], dict(node.attributes), bodies)
        for i, value in enumerate(node.outputs):
            wanted = value is not None or (i == 0 and every_step and node.op in RECURRENT)
            name = self.graph.unique_value(f"{node.name} {i}")
            new.outputs.append(Value(self.graph, name, producer=new) if wanted else None)
        self.graph.append(new)
        return list(new.outputs)

    def read(self, value: Value) -> Value:
        if value.name in self.instead:
            return self.instead[value.name]
        if value in self._made:
            return self._made[value]
        if value.constant is not None:
            new = self.graph.constant(value.constant, self.graph.unique_value(f"{value.name} constant"))
        elif value.name in self._known:
            new = self._input(value.name)
        else:
            assert value.producer is not None
            new = self._copy_above(value)
        self._made[value] = new
        return new

    def _copy_above(self, value: Value) -> Value:
        """Return the copy of ``value``. Its node, and what it needs, are copied first, in a loop, since a model may be
        deep.
        """
        stack = [value]
        while stack:
            node = stack[-1].producer
            assert node is not None
            missing = [v for v in node.inputs if v is not None and self._is_missing(v)]
            if missing:
                stack += missing
                continue
            stack.pop()
            if all(value is None or value in self._made for value in node.outputs):
                continue  # it was wanted twice
            for old, new in zip(node.outputs, self.copy(node), strict=True):
                if old is not None and new is not None:
                    self._made[old] = new
        return self._made[value]

    def _is_missing(self, value: Value) -> bool:
        """Return whether a node has to be copied before ``value`` is there."""
        known = value.constant is not None or value.name in self.instead or value.name in self._known
        return not known and value not in self._made

    def _input(self, name: str) -> Value:
        if name not in self._inputs:
            array = self._known[name]
            dims = [f"{name} {i}" for i in range(array.ndim)]
            self._inputs[name] = self.graph.input(name, dims, array.dtype)
        return self._inputs[name]
