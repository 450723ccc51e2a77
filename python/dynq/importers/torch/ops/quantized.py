"""The operators of dynq.torch: a module that quantize_dynamic converted keeps its own numbers."""

from __future__ import annotations

from typing import Any

import numpy as np

from ....conversion import Unsupported
from ....core.arguments import Array
from ....graph import Value
from ....ir.deferred import QuantizedRows
from ....plan.read import read_graph
from ....weights import QuantizedWeight, weight_of_bytes
from ..call import Call, Result, converter


@converter("dynq.linear")
def linear(call: Call) -> Result:
    """``x W^T + bias`` of a packed weight, of some of its channels."""
    x, bias = call.value("x"), call.optional("bias")
    n, first, count = (int(call.fixed(name)) for name in ("n", "first", "count"))
    whole = weight_of_bytes(_bytes(call, "packed"), n, int(call.fake("x").shape[-1]))
    end = n if count < 0 else first + count
    weight = whole
    if (first, end) != (0, n):
        weight = QuantizedWeight.from_integers(whole.integers()[first:end], whole.scale[first:end])
    value = call.graph.constant(weight, call.graph.unique_value(f"{call.name}.weight"))
    if bias is None or bias.array is not None:
        return call.emit("dynq.Linear", [x, value, bias])
    return call.emit("Add", [call.node("dynq.Linear", [x, value]), bias])


@converter("dynq.lstm")
def lstm(call: Call) -> Result:
    return _network(call, "x", "lengths", "h", "c")


@converter("dynq.gru dynq.rnn")
def gru(call: Call) -> Result:
    return _network(call, "x", "lengths", "h")


@converter("dynq.conv")
def conv(call: Call) -> Result:
    """Convolve with the integers of the image; what is beside it says the same as the image's node."""
    small = read_graph(_bytes(call, "image"))
    (node,) = small.nodes
    weight, bias = node.need("weight").constant, node.array("bias")
    assert isinstance(weight, QuantizedWeight)
    channels, kernel, strides, pads, dilations = (
        call.fixed(name) for name in ("channels", "kernel", "stride", "pads", "dilation")
    )
    integers = np.moveaxis(weight.integers().reshape(channels, *kernel, -1), -1, 1)
    inputs = [call.value("x"), call.constant(QuantizedRows(integers, weight.scale))]
    if bias is not None:
        inputs.append(call.constant(bias))
    attributes = {"strides": strides, "pads": pads, "dilations": dilations, "kernel_shape": kernel}
    return call.emit("Conv", inputs, **{name: [int(i) for i in value] for name, value in attributes.items()})


def _network(call: Call, *names: str) -> list[Value]:
    """Add the nodes of a small model, which the operator has as bytes. Its inputs are those of ``names`` that come."""
    if call.has("directions"):
        call.get("directions")  # as the image has them
    inputs = [value for name in names if (value := call.optional(name)) is not None]
    small = read_graph(_bytes(call, "image"))
    values: dict[Value, Value] = dict(zip(small.inputs, inputs, strict=True))

    def value_of(value: Value | None) -> Value | None:
        if value is None:
            return None
        if value.constant is not None and value not in values:
            values[value] = call.graph.constant(value.constant, call.graph.unique_value(f"{call.name}.{value.name}"))
        return values[value]

    for node in small.nodes:
        if node.bodies:
            raise Unsupported(f"{call.op} whose model has {node.op}")
        given = [value_of(value) for value in node.inputs]
        made = call.emit_several(node.op, given, len(node.outputs), **node.attributes)
        for old, new in zip(node.outputs, made, strict=True):
            if old is not None:
                values[old] = new
    return [values[value] for _, value in small.outputs]


def _bytes(call: Call, name: str) -> Array:
    tensor: Any = call.tensor(name)
    if tensor is None:
        raise Unsupported(f"{call.op} whose {name} is computed")
    image: Array = tensor.detach().contiguous().numpy()
    return image
