"""LSTM, GRU and RNN with constant weights: the projection of the inputs becomes a dynq.Linear for all steps and both
directions, and what is left of the node takes what it gives."""

from __future__ import annotations

from ..._arguments import FLOAT32, Array
from ..ir import Graph, Node, Value
from ._rewrite import constant_of

__all__ = ["GATES", "PROJECTION", "STATE_PROJECTION", "is_recurrent", "split_recurrent"]

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
PROJECTION = ".projection"  # ends the name of the dynq.Linear of a layer
STATE_PROJECTION = 9  # the first of the inputs of a dynq.LSTM that project its states: packed ones, then panels


def is_recurrent(node: Node) -> bool:
    """Whether it is the recurrent part of a layer: its input is projected."""
    return node.op.startswith("dynq.") and node.op[5:] in GATES


def split_recurrent(graph: Graph) -> None:
    for node in list(graph.nodes):
        if node.op in GATES:
            _split(graph, node)


def _split(graph: Graph, node: Node) -> None:
    x, *_ = node.inputs
    w, r, b = (constant_of(node.input(i)) for i in (1, 2, 3))
    if x is None or w is None or r is None or (b is None and node.input(3) is not None):
        return
    gates = GATES[node.op]
    directions = 2 if node.attributes.get("direction") == "bidirectional" else 1
    of_states = node.input(8)  # a projection, which Graph.lstm has checked
    state = r.shape[-1]
    hidden = state if of_states is None else w.shape[1] // gates
    width = gates * hidden
    if not _fit(node, x, w, r, b, directions, width, hidden, state):
        return  # the runtime says what is wrong
    inputs = {i: value for i, value in enumerate(node.inputs[4:8], 5) if value is not None}
    bias, recurrent_bias = _biases(node, b, directions, width)
    source_w, source_r, source_b = node.inputs[1], node.inputs[2], node.input(3)
    assert source_w is not None and source_r is not None
    weight = graph.constant_for(w.reshape(directions * width, w.shape[-1]), source_w)
    projection = Node("dynq.Linear", graph.unique_node(f"{node.name}{PROJECTION}"), [x, weight], [], {})
    if bias is not None:
        assert source_b is not None
        projection.inputs.append(graph.constant_for(bias, source_b))
    projected = Value(graph, graph.unique_value(projection.name), "float32", None, None, projection)
    projection.outputs.append(projected)
    graph.append(projection)
    graph.nodes.insert(graph.nodes.index(node), graph.nodes.pop())
    if recurrent_bias is not None:
        assert source_b is not None
        inputs[4] = graph.constant_for(recurrent_bias, source_b, ".recurrent")
    # R stays one float constant, (directions, width, hidden), in the place of the panels until quantize_graph packs it.
    inputs.update({0: projected, 3: source_r})
    if of_states is not None:
        inputs[STATE_PROJECTION + 2] = of_states
    node.op, node.attributes["hidden_size"] = f"dynq.{node.op}", hidden
    node.inputs = [inputs.get(i) for i in range(max(inputs) + 1)]


def _fit(
    node: Node, x: Value, w: Array, r: Array, b: Array | None, directions: int, width: int, hidden: int, state: int
) -> bool:
    arrays = [w, r] if b is None else [w, r, b]
    return (
        all(array.dtype == FLOAT32 for array in arrays)
        and w.ndim == 3
        and w.shape[:2] == (directions, width)
        and r.shape == (directions, width, state)
        and (b is None or b.shape == (directions, 2 * width))
        and node.attributes.get("hidden_size", hidden) == hidden
        and hidden > 0
        and x.constant is None
        and (x.shape is None or (len(x.shape) == 3 and x.shape[2] in (w.shape[2], None)))
    )


def _biases(node: Node, b: Array | None, directions: int, width: int) -> tuple[Array | None, Array | None]:
    """What is added to the projection, and what to the product with the state, (directions, width)."""
    if b is None:
        return None, None
    of_input, of_state = b[:, :width].copy(), b[:, width:].copy()
    apart = width  # columns from here on stay apart
    if node.op == "GRU" and node.attributes.get("linear_before_reset"):
        apart = 2 * width // 3
    of_input[:, :apart] += of_state[:, :apart]
    of_state[:, :apart] = 0
    return of_input.reshape(-1), of_state if apart < width else None
