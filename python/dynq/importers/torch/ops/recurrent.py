"""LSTM, GRU and RNN, which stay whole while a module is exported."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...._arguments import Array
from ....graph import Value
from ...errors import Unsupported
from ..convert import Call, Result, converter
from ..whole import KINDS, NAMESPACE

_ORDER = {"LSTM": (0, 3, 1, 2), "GRU": (1, 0, 2), "RNN": (0,)}  # torch's gates in ONNX's order: i o f c, z r h


@converter(*[f"{NAMESPACE}.{kind}" for kind in KINDS])
def recurrent(call: Call) -> Result:
    kind = call.op.partition(".")[2]
    op = "RNN" if kind.startswith("rnn") else kind.upper()
    call.get("dropout")
    call.only("train", False)
    layers, both, biases, first = (
        call.fixed(name) for name in ("num_layers", "bidirectional", "has_biases", "batch_first")
    )
    directions = 2 if both else 1
    parameters = call.get("params")
    each = len(parameters) // (layers * directions)
    projects = each == (5 if biases else 3)  # proj_size
    x, rank = call.value("input"), call.rank("input")
    if rank != 3:
        raise Unsupported(f"{op} of a sequence without a batch dimension")
    states = call.get("hx")
    states = states if isinstance(states, list) else [states]
    attributes: dict[str, Any] = {"direction": "bidirectional" if both else "forward", "layout": int(first)}
    if op == "GRU":
        attributes["linear_before_reset"] = 1
    if kind == "rnn_relu":
        attributes["activations"] = ",".join(["Relu"] * directions)
    finals: list[list[Value]] = [[] for _ in states]
    for layer in range(layers):
        begin = layer * directions * each
        *weights, projection = _weights(call, op, parameters[begin : begin + directions * each], each, projects)
        initial = [_initial(call, state, layer, layers, directions, first) for state in states]
        name = f"{call.name}.l{layer}"
        inputs = [x, *weights, None, *initial, *([None, projection] if projects else [])]
        results: Any = call.graph.node(
            op,
            inputs,
            1 + len(states),
            call.graph.unique_node(name),
            hidden_size=_hidden(call, states[-1]),
            **attributes,
        )
        y, *last = results
        x = _side_by_side(call, y, directions, first, states[0])
        for i, value in enumerate(last):
            finals[i].append(call.transpose(value, [1, 0, 2]) if first else value)
    return [x, *(values[0] if layers == 1 else call.node("Concat", values, axis=0) for values in finals)]


def _hidden(call: Call, state: Any) -> int:
    return int(state.meta["val"].shape[-1])


def _weights(call: Call, op: str, nodes: list[Any], each: int, projects: bool) -> list[Value | None]:
    """w, r, b and the projection of one layer: (D, G * H, I), (D, G * H, H), (D, 2 * G * H); (D, P, H), r then with P
    columns."""
    arrays: list[Array] = []
    for i, node in enumerate(nodes):
        array = call.of(node).array
        if array is None:
            raise Unsupported(f"{op} whose weights are computed")
        arrays.append(array if projects and i % each == each - 1 else _in_order(op, array))
    directions = [arrays[i : i + each] for i in range(0, len(arrays), each)]
    w, r = (np.stack([parts[i] for parts in directions]) for i in range(2))
    b = None if each < 4 else np.stack([np.concatenate(parts[2:4]) for parts in directions])
    projection = np.stack([parts[-1] for parts in directions]) if projects else None
    names = (call.of(nodes[min(i, each - 1)]).name for i in (0, 1, 2, each))
    return [
        None if array is None else call.graph.constant(array, call.graph.unique_value(name))
        for array, name in zip((w, r, b, projection), names, strict=True)
    ]


def _in_order(op: str, array: Array) -> Array:
    order = _ORDER[op]
    if len(order) == 1:
        return array
    gates = array.reshape(len(order), array.shape[0] // len(order), *array.shape[1:])
    return gates[list(order)].reshape(array.shape)


def _initial(call: Call, state: Any, layer: int, layers: int, directions: int, first: bool) -> Value | None:
    """(D, B, H) of one layer, (B, D, H) where the batch comes first; None: zeros."""
    if call.is_zero(state):
        return None
    value = call.of(state)
    if layers > 1:
        limits = [call.axes([number]) for number in (layer * directions, (layer + 1) * directions, 0, 1)]
        value = call.node("Slice", [value, *limits])
    return call.transpose(value, [1, 0, 2]) if first else value


def _side_by_side(call: Call, y: Value, directions: int, first: bool, state: Any) -> Value:
    """(T, B, D * H) of y (T, D, B, H), or (B, T, D * H) of (B, T, D, H)."""
    sizes = list(call.fake("input").shape[:2])
    if directions == 1:
        return call.node("Squeeze", [y, call.axes([2 if first else 1])])
    if not first:
        y = call.transpose(y, [0, 2, 1, 3])
    return call.reshape(y, [*sizes, directions * state.meta["val"].shape[-1]])
