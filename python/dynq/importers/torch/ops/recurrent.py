"""LSTM, GRU and RNN, which stay whole while a module is exported."""

from __future__ import annotations

from typing import Any

from ....conversion import Unsupported
from ....recurrent.network import add_network
from ....recurrent.weights import TORCH_KINDS, Layer, from_torch_order
from ..call import Call, Result, converter
from ..whole import KINDS, NAMESPACE


@converter(*[f"{NAMESPACE}.{kind}" for kind in KINDS])
def recurrent(call: Call) -> Result:
    kind = call.op.partition(".")[2]
    cell = "RNN" if kind.startswith("rnn") else kind.upper()
    call.get("dropout")
    call.only("train", False)
    count, both, biases, first = (
        call.fixed(name) for name in ("num_layers", "bidirectional", "has_biases", "batch_first")
    )
    x, parameters = call.value("input"), call.get("params")
    if call.rank("input") != 3:
        raise Unsupported(f"{cell} of a sequence without a batch dimension")
    kinds = [name for name in TORCH_KINDS if biases or not name.startswith("bias")]
    per_layer = 2 if both else 1
    each = len(parameters) // (count * per_layer)  # without weight_hr where nothing projects the states
    directions = [dict(zip(kinds, parameters[i : i + each], strict=False)) for i in range(0, len(parameters), each)]
    layers = [_layer(call, cell, directions[i * per_layer : (i + 1) * per_layer]) for i in range(count)]
    states = call.get("hx")
    initial = [
        None if call.is_zero(state) else call.of(state) for state in (states if isinstance(states, list) else [states])
    ]
    y, last = add_network(
        call.graph, cell, layers, x, initial, name=call.name, batch_first=first,
        activations="Relu" if kind == "rnn_relu" else None,
    )  # fmt: skip
    return [y, *last]


def _layer(call: Call, cell: str, directions: list[dict[str, Any]]) -> Layer:
    """Return one layer, whose weights keep the names that those of its forward direction have."""
    values = [{kind: call.of(node) for kind, node in of_one.items()} for of_one in directions]
    if any(value.array is None for of_one in values for value in of_one.values()):
        raise Unsupported(f"{cell} whose weights are computed")
    layer = from_torch_order(cell, [{kind: value.array for kind, value in of_one.items()} for of_one in values])
    names = zip(layer, ("weight_ih", "weight_hh", "bias_ih", "", "weight_hr"), strict=True)
    return Layer(*(None if array is None else call.graph.constant_for(array, values[0][kind]) for array, kind in names))
