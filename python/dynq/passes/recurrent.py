"""Split LSTM, GRU and RNN with constant weights in two nodes.

The projection of the inputs becomes a dynq.Linear for all steps and both directions. The recurrent node reads what it
computes.
"""

from __future__ import annotations

from operator import itemgetter

import numpy as np

from ..core.arguments import FLOAT32, Array
from ..ir import ops
from ..ir.deferred import QuantizedRows, Rows, on_rows
from ..ir.graph import Graph
from ..ir.recurrent import CELLS, STATE_PROJECTION
from ..ir.values import Node, Value

__all__ = ["PROJECTION", "is_recurrent", "split_recurrent"]

PROJECTION = ".projection"  # the name of a layer's dynq.Linear ends so


def is_recurrent(node: Node) -> bool:
    """Return whether ``node`` is the recurrent part of a layer: its input is projected."""
    return node.op.startswith("dynq.") and node.op[5:] in CELLS


def split_recurrent(graph: Graph) -> None:
    """Split each layer whose weights are constant, float32 or QuantizedRows."""
    for node in list(graph.nodes):
        if node.op in CELLS:
            _split(graph, node)


def _split(graph: Graph, node: Node) -> None:
    x, w, r, b, projection = (node.input(name) for name in ("X", "W", "R", "B", STATE_PROJECTION))
    if x is None or w is None or r is None or (b is not None and b.array is None):
        return
    of_input, of_state = _constant(w), _constant(r)
    bias = None if b is None else b.array
    if of_input is None or of_state is None or not _fit(node, x, of_input, of_state, bias, projection is not None):
        return  # computed weights stay; sizes that do not fit are an error that the runtime reports
    weight = graph.constant_for(on_rows(lambda rows: rows.reshape(-1, *rows.shape[2:]), of_input), w)
    linear = Node("dynq.Linear", graph.unique_node(f"{node.name}{PROJECTION}"), [x, weight], [], {})
    apart = None
    if b is not None and bias is not None:
        joined, own = _split_bias(node, bias)
        linear.inputs.append(graph.constant_for(joined, b))
        apart = None if own is None else graph.constant_for(own, b, ".recurrent")
    projected = Value(graph, graph.unique_value(linear.name), "float32", None, None, linear)
    linear.outputs.append(projected)
    graph.append(linear)
    graph.nodes.insert(graph.nodes.index(node), graph.nodes.pop())
    node.attributes["hidden_size"] = of_input.shape[1] // len(CELLS[node.op].gates)
    given = dict(zip((operand.name for operand in ops.find(node.op).inputs), node.inputs, strict=False))
    given |= {"projected": projected, "bias": apart}
    for name, value in (("R", r), ("projection", projection)):
        if value is None or not isinstance(rows := value.constant, QuantizedRows):
            given[f"{name}_panels"] = value  # one float constant until quantize_graph packs it
            continue
        for direction, end in zip(range(rows.shape[0]), ("forward", "backward"), strict=False):
            given[f"{name}_{end}"] = graph.constant_for(on_rows(itemgetter(direction), rows), value)
    node.op = f"dynq.{node.op}"
    node.inputs = [given.get(operand.name) for operand in ops.find(node.op).inputs]
    while node.inputs[-1] is None:
        node.inputs.pop()


def _constant(value: Value) -> Rows | None:
    return value.constant if isinstance(value.constant, QuantizedRows) else value.array


def _fit(node: Node, x: Value, w: Rows, r: Rows, b: Array | None, projects: bool) -> bool:
    gates, directions = len(CELLS[node.op].gates), 2 if node.attributes.get("direction") == "bidirectional" else 1
    if len(w.shape) != 3 or len(r.shape) != 3:
        return False
    hidden = w.shape[1] // gates if projects else r.shape[2]  # Graph.lstm has checked a projection
    width = gates * hidden
    return (
        all(array.dtype == FLOAT32 for array in (w, r, b) if isinstance(array, np.ndarray))
        and w.shape[:2] == (directions, width)
        and r.shape[:2] == (directions, width)
        and (b is None or b.shape == (directions, 2 * width))
        and node.attributes.get("hidden_size", hidden) == hidden
        and hidden > 0
        and x.constant is None
        and (x.shape is None or (len(x.shape) == 3 and x.shape[2] in (w.shape[2], None)))
    )


def _split_bias(node: Node, b: Array) -> tuple[Array, Array | None]:
    """Return what is added to the projection, and what to the product with the state, (directions, width).

    The two biases are added up, except for the candidate of a GRU that is linear before its reset. The reset gate
    multiplies its recurrent bias, which therefore stays apart.
    """
    width = b.shape[1] // 2
    of_input, of_state = b[:, :width].copy(), b[:, width:].copy()
    apart = width  # columns from here on keep two biases
    if node.op == "GRU" and node.attributes.get("linear_before_reset"):
        apart = 2 * width // 3
    of_input[:, :apart] += of_state[:, :apart]
    of_state[:, :apart] = 0
    return of_input.reshape(-1), of_state if apart < width else None
