"""The model of a recurrent module, from weights and biases as torch.nn keeps them, and the weights from the model."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..graph import Graph
from ..ir import graph as ir
from ..ir.deferred import QuantizedRows, Rows
from ..ir.recurrent import CELLS
from ..ir.values import Node
from ..passes.recurrent import is_recurrent, split_recurrent
from ..passes.rewrite import panel_rows
from ..quantization.lower import quantize_graph
from ..quantization.options import Options
from ..recurrent.network import network_graph
from ..recurrent.weights import TORCH_KINDS, Layer, from_torch_order, to_torch_order
from ..weights import QuantizedWeight

__all__ = ["Layout", "recurrent_graph", "weights_of"]


@dataclasses.dataclass(frozen=True)
class Layout:
    """Describe what a recurrent module computes."""

    cell: str  # LSTM, GRU, RNN
    input: int
    hidden: int
    layers: int
    directions: int
    batch_first: bool
    activation: str | None = None  # of an RNN: Relu; None is Tanh
    single: bool = False  # a cell: its weights have no numbers
    projection: int = 0  # columns of h and y if the states of an LSTM are projected

    @property
    def width(self) -> int:
        """Return the rows of a weight of one direction."""
        return len(CELLS[self.cell].gates) * self.hidden

    @property
    def state(self) -> int:
        """Return the columns of h and y."""
        return self.projection or self.hidden

    def name(self, kind: str, layer: int, direction: int) -> str:
        """Return torch.nn's name of a weight or a bias; ``kind`` is one of TORCH_KINDS."""
        return kind if self.single else f"{kind}_l{layer}{'_reverse' if direction else ''}"

    def names(self, kind: str, layer: int) -> list[str]:
        """Return the names of all directions."""
        return [self.name(kind, layer, direction) for direction in range(self.directions)]

    def weights(self) -> dict[str, tuple[int, int]]:
        """Return shapes by name."""
        result = {}
        for layer in range(self.layers):
            k = self.directions * self.state if layer else self.input
            shapes = {"weight_ih": (self.width, k), "weight_hh": (self.width, self.state)}
            shapes |= {"weight_hr": (self.projection, self.hidden)} if self.projection else {}
            for direction in range(self.directions):
                result.update({self.name(kind, layer, direction): shape for kind, shape in shapes.items()})
        return result

    def biases(self) -> list[str]:
        """Return the names of the biases that a module has if it has any."""
        kinds = ("bias_ih", "bias_hh")
        return [name for layer in range(self.layers) for kind in kinds for name in self.names(kind, layer)]

    def layer(self, found: Mapping[str, Rows], number: int) -> Layer:
        """Return a layer of weights and biases by torch's names."""
        names = [
            {kind: self.name(kind, number, direction) for kind in TORCH_KINDS} for direction in range(self.directions)
        ]
        directions = [{kind: found[name] for kind, name in one.items() if name in found} for one in names]
        return from_torch_order(self.cell, directions)


def recurrent_graph(layout: Layout, found: Mapping[str, Rows], lengths: bool) -> Graph:
    """Return the graph of ``network_graph`` in dynq's own ops.

    Args:
        found: weights and, if the module has them, biases by torch's names. Both directions of a weight are
            QuantizedRows, or both are float32; so are the weights that a state goes through.
        lengths: take the steps of each sequence.
    """
    layers = [layout.layer(found, i) for i in range(layout.layers)]
    attributes: dict[str, Any] = {"batch_first": layout.batch_first, "activations": layout.activation}
    graph = network_graph(layout.cell, layers, lengths=lengths, **attributes)
    split_recurrent(graph)
    quantize_graph(graph, Options(quantize=False, as_given=True))
    return graph


def weights_of(layout: Layout, graph: ir.Graph) -> dict[str, Rows]:
    """Return the weights of ``recurrent_graph`` by torch's names."""
    result = {}
    for i, node in enumerate(node for node in graph.nodes if is_recurrent(node)):
        for direction, parts in enumerate(to_torch_order(layout.cell, _layer(layout, node))):
            result.update({layout.name(kind, i, direction): rows for kind, rows in parts.items()})
    return result


def _layer(layout: Layout, node: Node) -> Layer:
    """Return the weights of a layer in ONNX's form."""
    projected = node.need("projected")
    assert projected.producer is not None
    weight = projected.producer.inputs[1]
    assert weight is not None
    shape = layout.directions, layout.width
    if isinstance(weight.constant, QuantizedWeight):
        w: Rows = QuantizedRows(weight.constant.integers().reshape(*shape, -1), weight.constant.scale.reshape(shape))
    else:
        assert weight.array is not None
        w = weight.array.T.reshape(*shape, -1)
    r = _states(node, "R", layout.width)
    return Layer(w, r, projection=_states(node, "projection", layout.projection) if layout.projection else None)


def _states(node: Node, name: str, rows: int) -> Rows:
    """Return a weight of states in all directions, (D, rows, K)."""
    panels = node.input(f"{name}_panels")
    if panels is not None and panels.array is not None:
        return panel_rows(panels.array, rows)
    values = (node.input(f"{name}_{end}") for end in ("forward", "backward"))
    packed = [value.constant for value in values if value and isinstance(value.constant, QuantizedWeight)]
    return QuantizedRows(np.stack([one.integers() for one in packed]), np.stack([one.scale for one in packed]))
