"""Compute LSTM and RNN with int8 weights step by step, as TensorFlow Lite's hybrid kernels do.

The product with the inputs is one multiply for all steps. A loop has the rest: the state becomes int8 anew before each
step, and its product is added to that of the input.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ...conversion import Unsupported
from ...core.arguments import DTYPE_NUMBERS, FLOAT32, Array
from ...graph import Graph, Value
from .convert import Call
from .hybrid import HybridWeight, Maker, hybrid_weight, multiply, quantized_rows

__all__ = ["HybridCell", "hybrid_steps", "is_hybrid_layer", "stacked_weight"]


class HybridCell(NamedTuple):
    """A direction of a layer. The gates of an LSTM are i f c o, or f c o if it has no input gate; an RNN has one."""

    weight: HybridWeight  # (gates * hidden, inputs)
    recurrent: HybridWeight  # (gates * hidden, outputs)
    bias: Array  # float32 (gates * hidden,)
    activation: str  # the op
    asymmetric: bool
    gates: int
    peepholes: Sequence[Array | None] = ()  # of i f o, float32 (hidden,)
    projection: HybridWeight | None = None  # (outputs, hidden)
    projection_bias: Array | None = None  # float32 (outputs,)

    @property
    def hidden(self) -> int:
        return len(self.bias) // self.gates

    @property
    def outputs(self) -> int:
        return int(self.recurrent.integers.shape[1])


def is_hybrid_layer(call: Call, weights: Sequence[int]) -> bool:
    """Return whether hybrid kernels compute a layer with these weights, as far as they are there."""
    found = {hybrid_weight(call, index) is not None for index in weights if call.has(index)}
    if len(found) > 1:
        raise Unsupported(f"{call.op} by TensorFlow Lite's numerics with weights of floats beside int8")
    return found == {True}


def stacked_weight(call: Call, indices: Sequence[int]) -> HybridWeight:
    """Return the weights of gates, one below the other. Each has one scale."""
    parts = []
    for index in indices:
        part = hybrid_weight(call, index)
        if part is None or part.integers.ndim != 2:
            raise ValueError(f"input {index} is no weight of integers with two dimensions")
        if part.scale.size != 1:
            raise Unsupported(f"{call.op} by TensorFlow Lite's numerics with a scale for each row of a weight")
        parts.append(part)
    scales = [np.full(len(part.integers), part.scale[0], FLOAT32) for part in parts]
    return HybridWeight(np.concatenate([part.integers for part in parts]), np.concatenate(scales))


def hybrid_steps(call: Call, x: Value, cell: HybridCell, states: Sequence[Value | None], backward: bool) -> Value:
    """Return what a direction gives at all steps, (steps, batch, outputs).

    Args:
        x: float32 (steps, batch, inputs).
        states: those at the begin: the output (batch, outputs) and, of an LSTM, the cells (batch, hidden); None: zeros.
    """
    rows, width = len(cell.bias), cell.weight.integers.shape[1]
    _check(cell)
    sizes = call.make("Slice", [call.make("Shape", [x]), np.array([0]), np.array([2])])
    x = _reversed(call, x) if backward else x
    flat = quantized_rows(call.make, call.make("Reshape", [x, np.array([-1, width])]), cell.asymmetric)
    products = multiply(call.make, flat, cell.weight, cell.asymmetric, call.number(cell.bias))
    products = call.make("Reshape", [products, call.make("Concat", [sizes, np.array([rows])], axis=0)])
    batch = call.make("Slice", [sizes, np.array([1]), np.array([2])])
    initial = [
        call.make("Expand", [np.zeros((1, 1), FLOAT32), call.make("Concat", [batch, np.array([wide])], axis=0)])
        if state is None else state
        for state, wide in zip(states, (cell.outputs, cell.hidden), strict=False)
    ]  # fmt: skip
    dim = x.shape[1] if x.shape is not None else None
    body = _body(call, cell, products, dim if isinstance(dim, int) else None, len(states))
    trips = call.make("Gather", [sizes, np.array(0)], axis=0)
    types = [DTYPE_NUMBERS["float32"], 2, dim if isinstance(dim, int) else -1, cell.outputs]
    made = call.make(
        "dynq.Loop", [trips, None, *initial, products], len(states) + 1, bodies={"body": body}, carried=len(states),
        scan_types=types,
    )  # fmt: skip
    y: Value = made[-1]
    return _reversed(call, y) if backward else y


def _check(cell: HybridCell) -> None:
    given = [hole for hole in cell.peepholes if hole is not None]
    projected = cell.projection.integers.shape if cell.projection is not None else (cell.hidden, cell.hidden)
    rows = {len(cell.bias), len(cell.weight.integers), len(cell.recurrent.integers)}
    if len(rows) > 1 or projected != (cell.outputs, cell.hidden) or any(hole.size != cell.hidden for hole in given):
        raise ValueError(f"weights and biases that do not fit {cell.hidden} states and {cell.outputs} outputs")


def _reversed(call: Call, value: Value) -> Value:
    last, least = np.array([-1]), np.array([np.iinfo(np.int64).min])
    made: Value = call.make("Slice", [value, last, least, np.array([0]), last])
    return made


def _body(call: Call, cell: HybridCell, products: Value, batch: int | None, states: int) -> Graph:
    """Return the loop's body: of the iteration, the condition, the states and what the inputs give, all steps of it."""
    graph = call.walk.graph.new_body(f"{call.name}/body")

    def fresh(name: str) -> str:
        return call.walk.fresh(f"{call.name}/step/{name}")

    def node(op: str, inputs: Sequence[Any], outputs: int = 1, **attributes: Any) -> Any:
        given = [v if v is None or isinstance(v, Value) else graph.constant(v, fresh("constant")) for v in inputs]
        name = fresh(op.rpartition(".")[2].lower())
        names = [name if i == 0 else fresh(f"{name}.{i}") for i in range(outputs)]
        made = graph.node(op, given, names, graph.unique_node(name), **attributes)
        return made[0] if outputs == 1 else made

    iteration = graph.parameter(fresh("iteration"), "int64", ())
    condition = graph.parameter(fresh("condition"), "bool", ())
    wide = (cell.outputs, cell.hidden)
    before = [graph.parameter(fresh(f"state_{i}"), "float32", (batch, wide[i])) for i in range(states)]
    given = graph.parameter(fresh("products"), "float32", products.shape)
    rows = quantized_rows(node, before[0], cell.asymmetric)
    z = multiply(node, rows, cell.recurrent, cell.asymmetric, node("Gather", [given, iteration], axis=0))
    after = [node(cell.activation, [z])] if states == 1 else _lstm_step(node, cell, z, before[1])
    again = node("Identity", [after[0]])  # an output of its own, which the loop keeps
    graph.outputs = [("condition", condition), *((str(i), value) for i, value in enumerate(after)), ("steps", again)]
    return graph


def _lstm_step(node: Maker, cell: HybridCell, z: Value, c: Value) -> list[Value]:
    """Return the output and the cells after a step. The output gate sees the new cells."""
    parts = list(node("Split", [z, np.full(cell.gates, cell.hidden)], cell.gates, axis=1))
    gates = dict(zip("ifco" if cell.gates == 4 else "fco", parts, strict=True))
    holes = dict(zip("ifo", cell.peepholes, strict=True))

    def gate(name: str, cells: Value) -> Value:
        hole, value = holes[name], gates[name]
        if hole is not None:
            value = node("Add", [value, node("Mul", [cells, hole])])
        made: Value = node("Sigmoid", [value])
        return made

    forget = gate("f", c)
    enter = gate("i", c) if "i" in gates else node("Sub", [np.ones((), FLOAT32), forget])
    new = node("Mul", [node(cell.activation, [gates["c"]]), enter])
    c = node("Add", [node("Mul", [forget, c]), new])
    y = node("Mul", [gate("o", c), node(cell.activation, [c])])
    if cell.projection is not None:
        bias = np.zeros(cell.outputs, FLOAT32) if cell.projection_bias is None else cell.projection_bias
        zeros = node("Expand", [bias, np.array([1, cell.outputs])])
        y = multiply(node, quantized_rows(node, y, cell.asymmetric), cell.projection, cell.asymmetric, zeros)
    return [y, c]
