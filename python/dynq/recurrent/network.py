"""Write the graph of an LSTM, a GRU or an RNN of one or more layers: for arrays, PyTorch's modules and its programs
alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..graph import Graph
from ..ir.given import activation_names
from ..ir.recurrent import CELLS
from ..ir.values import Value
from .weights import Layer

__all__ = ["add_network", "network_graph"]


def network_graph(
    cell: str, layers: Sequence[Layer], *, batch_first: bool = False, lengths: bool = True, **attributes: Any
) -> Graph:
    """Return the graph of a network alone. From x, lengths, h and c it computes y, last_h and, in an LSTM, last_c.

    Args:
        lengths: whether the graph takes the steps of each sequence, int32 (B,).
        attributes: those of add_network.
    """
    graph, first = Graph(cell), layers[0]
    x = graph.input("x", (*(("batch", "time") if batch_first else ("time", "batch")), first.w.shape[2]))
    steps = graph.input("lengths", ("batch",), "int32") if lengths else None
    count = len(layers) * first.directions
    states = [
        graph.input(name, (count, "batch", size))
        for name, size in zip(CELLS[cell].states, (first.state, first.hidden), strict=False)
    ]
    y, last = add_network(graph, cell, layers, x, states, batch_first=batch_first, lengths=steps, **attributes)
    graph.output(y, "y")
    for name, state in zip(CELLS[cell].states, last, strict=True):
        graph.output(state, f"last_{name}")
    return graph


def add_network(
    graph: Graph,
    cell: str,
    layers: Sequence[Layer],
    x: Value,
    states: Sequence[Value | None],
    *,
    name: str | None = None,
    batch_first: bool = False,
    activations: Any = None,
    **attributes: Any,
) -> tuple[Value, list[Value]]:
    """Add the layers of a network in PyTorch's form to a graph.

    Args:
        x: float32 (T, B, I), or (B, T, I) if ``batch_first``.
        states: h and, in an LSTM, c, each (L * D, B, H); None: zeros.
        name: begins the names of the nodes; the layers are l0, l1, ..., after a dot.
        activations: for one direction or for all, as ONNX has them.
        attributes: those of Graph.lstm, gru or rnn, the same for each layer.

    Returns:
        y (T, B, D * H), or (B, T, D * H) if ``batch_first``, and the last states, shaped as ``states``.
    """
    directions, axis = layers[0].directions, 1 if batch_first else 0
    if directions == 2:
        attributes["direction"] = "bidirectional"
    if activations is not None:
        names = activation_names(activations)
        attributes["activations"] = names * (directions if len(names) == CELLS[cell].functions else 1)

    def within(part: str) -> str | None:
        return None if name is None else graph.unique_node(f"{name}/{part}")

    def swap(state: Value) -> Value:
        return graph.transpose(state, (1, 0, 2), name=within("transpose")) if batch_first else state

    parts = [
        [state] * len(layers)
        if state is None or len(layers) == 1
        else graph.split(state, [directions] * len(layers), axis, name=within("split"))
        for state in [None if state is None else swap(state) for state in states]
    ]
    add = getattr(graph, cell.lower())
    last: list[list[Value]] = []
    for i, layer in enumerate(layers):
        given = {f"initial_{kind}": part[i] for kind, part in zip(CELLS[cell].states, parts, strict=True)}
        given |= {key: part for key in ("peepholes", "projection") if (part := getattr(layer, key)) is not None}
        own = graph.unique_node(f"l{i}" if name is None else f"{name}.l{i}")
        x, *ends = add(x, layer.w, layer.r, layer.b, name=own, batch_first=batch_first, **given, **attributes)
        last.append(ends)
        if directions == 1:
            x = graph.squeeze(x, 2 if batch_first else 1, name=within("squeeze"))
            continue
        if not batch_first:
            x = graph.transpose(x, (0, 2, 1, 3), name=within("transpose"))
        x = graph.reshape(x, (0, 0, directions * layer.state), name=within("reshape"))
    joined = zip(*last, strict=True)
    return x, [swap(one[0] if len(one) == 1 else graph.concat(one, axis, name=within("concat"))) for one in joined]
