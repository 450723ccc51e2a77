"""The graph of a recurrent module, in dynq's ops, from weights and biases as torch.nn keeps them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from .._arguments import Array
from ..graph import Graph
from ..graph.ir import Value
from ..graph.passes._rewrite import panels
from ..weights import QuantizedWeight

__all__ = ["CELLS", "Layout", "Parts", "recurrent_graph", "weights_of"]

# The op, and where its gates (ONNX's order) stand among torch's: i o f c of i f g o, z r h of r z n.
CELLS: dict[str, tuple[int, ...]] = {"LSTM": (0, 3, 1, 2), "GRU": (1, 0, 2), "RNN": (0,)}

Parts = tuple[Array, Array | None]
"""A weight of one direction, (gates * hidden, K): int8 and its scales, or float32 and None."""


@dataclasses.dataclass(frozen=True)
class Layout:
    """What a recurrent module computes."""

    cell: str  # LSTM, GRU, RNN
    input: int
    hidden: int
    layers: int
    directions: int
    batch_first: bool
    activation: str | None = None  # of an RNN: Relu; None is Tanh
    single: bool = False  # a cell: its weights have no numbers

    @property
    def width(self) -> int:
        """Rows of a weight of one direction."""
        return len(CELLS[self.cell]) * self.hidden

    def name(self, kind: str, layer: int, direction: int) -> str:
        """torch.nn's name: ``kind`` is weight_ih, weight_hh, bias_ih or bias_hh."""
        return kind if self.single else f"{kind}_l{layer}{'_reverse' if direction else ''}"

    def names(self, kind: str, layer: int) -> list[str]:
        return [self.name(kind, layer, direction) for direction in range(self.directions)]

    def weights(self) -> dict[str, tuple[int, int]]:
        """Shapes by name."""
        result = {}
        for layer in range(self.layers):
            k = self.directions * self.hidden if layer else self.input
            for direction in range(self.directions):
                result[self.name("weight_ih", layer, direction)] = (self.width, k)
                result[self.name("weight_hh", layer, direction)] = (self.width, self.hidden)
        return result

    def rows(self) -> Array:
        """Which row of torch's weight each row of ONNX's is."""
        return np.concatenate([np.arange(self.hidden) + gate * self.hidden for gate in CELLS[self.cell]])


def join(parts: list[Parts]) -> Array | QuantizedWeight:
    """One below the other: packed, or float32."""
    arrays, scales = zip(*parts, strict=True)
    if scales[0] is None:
        return np.concatenate(arrays)
    return QuantizedWeight.from_integers(np.concatenate(arrays), np.concatenate(scales))


def recurrent_graph(
    layout: Layout, weights: Mapping[str, Parts], biases: Mapping[str, Array], lengths: bool
) -> tuple[Graph, dict[str, Value]]:
    """The graph and its outputs y, h and of an LSTM c.

    Inputs: x (T, B, I), or (B, T, I) where batch_first; h and of an LSTM c, (layers * directions, B, H); with
    ``lengths`` also int32 (B,), the steps of each sequence.

    Args:
        weights: by torch's names; both directions of one are int8, or both are float32. Constants of the graph have the
            name of the forward direction and, where each has its own, ".reverse".
        biases: float32, by torch's names; none where the module has none.
    """
    graph, rows = Graph(layout.cell.lower()), layout.rows()
    batch_first = int(layout.batch_first)
    dims = ("batch", "time") if batch_first else ("time", "batch")
    x = graph.input("x", (*dims, layout.input))
    count, total = layout.directions, layout.layers * layout.directions
    kinds = ("h", "c") if layout.cell == "LSTM" else ("h",)
    inputs = {kind: graph.input(kind, (total, "batch", layout.hidden)) for kind in kinds}
    steps = graph.input("lengths", ("batch",), "int32") if lengths else None
    first: dict[str, list[Value]] = {kind: _split(graph, layout, value) for kind, value in inputs.items()}
    last: dict[str, list[Value]] = {kind: [] for kind in kinds}
    attributes: dict[str, object] = {
        "direction": "bidirectional" if count == 2 else "forward", "hidden_size": layout.hidden, "layout": batch_first
    }  # fmt: skip
    if layout.cell == "GRU":
        attributes["linear_before_reset"] = 1
    if layout.activation is not None:
        attributes["activations"] = ",".join([layout.activation] * count)
    for layer in range(layout.layers):
        of_input, of_state = _biases(layout, biases, layer, rows)
        projected = _linear(graph, layout, weights, layer, rows, x, of_input)
        recurrent = [_ordered(weights[name], rows) for name in layout.names("weight_hh", layer)]
        name = layout.names("weight_hh", layer)[0]
        taken: list[object] = [None, None, None]
        if recurrent[0][1] is None:
            taken[2] = graph.constant(panels(np.stack([part[0] for part in recurrent])), name)
        else:
            attributes["scheme"] = "asymmetric"
            for direction, part in enumerate(recurrent):
                taken[direction] = graph.constant(join([part]), name + (".reverse" if direction else ""))
        states = [first[kind][layer] for kind in kinds]
        bias = None if of_state is None else graph.constant(of_state)
        values = [projected, *taken, bias, steps, *states]
        y, *ends = graph.node(f"dynq.{layout.cell}", values, 1 + len(kinds), f"layer.{layer}", **attributes)
        attributes.pop("scheme", None)
        for kind, end in zip(kinds, ends, strict=True):
            last[kind].append(end)
        if count == 2 and not batch_first:
            y = graph.transpose(y, (0, 2, 1, 3))
        x = graph.squeeze(y, [2 if batch_first else 1]) if count == 1 else graph.reshape(y, (0, 0, 2 * layout.hidden))
    outputs = {"y": x}
    for kind in kinds:
        outputs[f"last_{kind}"] = _concat(graph, layout, last[kind])
    return graph, outputs


def _linear(
    graph: Graph,
    layout: Layout,
    weights: Mapping[str, Parts],
    layer: int,
    rows: Array,
    x: Value,
    bias: Array | None,
) -> Value:
    """The projection of the inputs of all steps, for both directions."""
    names = layout.names("weight_ih", layer)
    weight = join([_ordered(weights[name], rows) for name in names])
    if isinstance(weight, QuantizedWeight):
        options = {"scheme": "asymmetric", "granularity": "row"}
        inputs = [x, graph.constant(weight, names[0]), bias]
        return graph.node("dynq.Linear", inputs, 1, f"projection.{layer}", **options)
    inputs = [x, graph.constant(np.ascontiguousarray(weight.T), names[0]), bias]
    return graph.node("dynq.LinearFloat", inputs, 1, f"projection.{layer}")


def _ordered(part: Parts, rows: Array) -> Parts:
    return part[0][rows], None if part[1] is None else part[1][rows]


def _biases(layout: Layout, biases: Mapping[str, Array], layer: int, rows: Array) -> tuple[Array | None, Array | None]:
    """What is added to the projection (directions * width,), and of a GRU what to the product with the state."""
    if not biases:
        return None, None
    of_input = np.stack([biases[name][rows] for name in layout.names("bias_ih", layer)])
    of_state = np.stack([biases[name][rows] for name in layout.names("bias_hh", layer)])
    apart = 2 * layout.hidden if layout.cell == "GRU" else layout.width
    of_input[:, :apart] += of_state[:, :apart]
    of_state[:, :apart] = 0
    return of_input.reshape(-1), of_state if apart < layout.width else None


def _split(graph: Graph, layout: Layout, states: Value) -> list[Value]:
    """Of each layer (directions, B, H), or (B, directions, H) where batch_first."""
    if layout.batch_first:
        states = graph.transpose(states, (1, 0, 2))
    if layout.layers == 1:
        return [states]
    return list(graph.split(states, [layout.directions] * layout.layers, 1 if layout.batch_first else 0))


def _concat(graph: Graph, layout: Layout, states: list[Value]) -> Value:
    value = states[0] if len(states) == 1 else graph.concat(states, 1 if layout.batch_first else 0)
    return graph.transpose(value, (1, 0, 2)) if layout.batch_first else value


def weights_of(layout: Layout, found: Mapping[str, Array | QuantizedWeight]) -> dict[str, Parts]:
    """``recurrent_graph``'s weights, from the constants of its graph."""
    result: dict[str, Parts] = {}
    back = np.argsort(layout.rows())
    for layer in range(layout.layers):
        for kind in ("weight_ih", "weight_hh"):
            names = layout.names(kind, layer)
            for name, part in zip(names, _directions(layout, kind, names, found), strict=True):
                result[name] = _ordered(part, back)
    return result


def _directions(
    layout: Layout, kind: str, names: list[str], found: Mapping[str, Array | QuantizedWeight]
) -> list[Parts]:
    """Rows in ONNX's order."""
    constant, count, width = found[names[0]], len(names), layout.width
    if isinstance(constant, QuantizedWeight) and kind == "weight_ih":
        integers, scale = constant.integers(), constant.scale
        return [(integers[i * width :][:width], scale[i * width :][:width]) for i in range(count)]
    if isinstance(constant, QuantizedWeight):
        weights = [found[names[0] + end] for end in ("", ".reverse")[:count]]
        return [(w.integers(), w.scale) for w in weights if isinstance(w, QuantizedWeight)]
    if kind == "weight_ih":
        return [(part, None) for part in constant.T.reshape(count, width, -1)]
    directions, number, k, lanes = constant.shape  # panels
    return [(part, None) for part in constant.swapaxes(2, 3).reshape(directions, number * lanes, k)[:, :width]]
