"""Write dynq.LSTM, dynq.GRU and dynq.RNN as a loop over their steps.

TensorFlow Lite's own LSTM takes one scale for a whole weight, and it has no GRU. In a loop, the product with the state
is a linear layer, so that the integers and the scales of each channel stay.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ...conversion import Unsupported
from ...core.arguments import DTYPE_NUMBERS, FLOAT32, Array
from ...ir.graph import Graph
from ...ir.recurrent import CELLS
from ...ir.values import Value
from ...passes.rewrite import panel_rows
from ...weights import QuantizedWeight
from ..site import Site, weight_of
from .expand import Parts

__all__ = ["recurrent"]

_ACTIVATIONS = {"LSTM": ("Sigmoid", "Tanh", "Tanh"), "GRU": ("Sigmoid", "Tanh"), "RNN": ("Tanh",)}
_KNOWN = ("Sigmoid", "Tanh", "Relu")


def recurrent(site: Parts) -> list[Value | None]:
    """Return Y, Y_h and, of an LSTM, Y_c as ONNX has them."""
    node, kind = site.node, site.node.op.removeprefix("dynq.")
    if site.node.input("sequence_lens") is not None:
        raise Unsupported(f"op {node.op} with lengths of sequences")
    for name in ("clip", "activation_alpha", "activation_beta", "input_forget"):
        if node.attributes.get(name):
            raise Unsupported(f"op {node.op} with {name}")
    direction, layout = site.text("direction", "forward"), site.integer("layout", 0)
    backwards = {"forward": [False], "reverse": [True], "bidirectional": [False, True]}[direction]
    x = site.need("projected")
    if x.shape is None or len(x.shape) != 3:
        raise Unsupported(f"op {node.op} of a tensor whose rank is not known")
    if layout:
        x = site.op("Transpose", x, perm=[1, 0, 2])
    made = [_direction(site, kind, x, i, backward, len(backwards)) for i, backward in enumerate(backwards)]
    results: list[Value | None] = []
    for i, values in enumerate(zip(*made, strict=True)):
        axis = 1 if i == 0 else 0  # of the directions
        y = _beside(site, values, axis)
        perm = [2, 0, 1, 3] if i == 0 else [1, 0, 2]
        results.append(site.op("Transpose", y, perm=perm) if layout else y)
    return results


def _beside(site: Parts, values: Sequence[Value], axis: int) -> Value:
    wide = [site.op("Unsqueeze", value, site.array([axis])) for value in values]
    return wide[0] if len(wide) == 1 else site.ops("Concat", wide, 1, axis=axis)[0]


def _direction(site: Parts, kind: str, x: Value, at: int, backward: bool, directions: int) -> list[Value]:
    """Return the outputs of all steps (steps, batch, outputs), and the states behind the last one."""
    hidden, gates = site.integer("hidden_size", 0), len(CELLS[kind].gates)
    if directions > 1:
        sizes = site.array([gates * hidden] * directions)
        x = site.ops("Split", [x, sizes], directions, axis=2)[at]
    x = _reversed(site, x) if backward else x
    assert x.shape is not None
    projection = _projection(site, kind, at)
    width = hidden if projection is None else projection.shape[0]
    states = [
        _initial(site, x, name, size, at) for name, size in zip(CELLS[kind].states, (width, hidden), strict=False)
    ]
    body = _Body(site, kind, at, x, states, projection)
    steps, batch = x.shape[:2]
    trips = (
        site.array(np.array(steps, np.int64))
        if isinstance(steps, int)
        else site.op("Gather", site.op("Shape", x), site.array(np.array(0)), axis=0)
    )
    types = [DTYPE_NUMBERS["float32"], 2, batch if isinstance(batch, int) else -1, width]
    graph = site.graph
    name = graph.unique_node(f"{site.node.name}/loop")
    outputs = [graph.unique_value(f"{name}.{i}") for i in range(len(states) + 1)]
    *last, y = graph.node(
        "dynq.Loop", [trips, None, *states, x], outputs, name, bodies={"body": body.graph}, carried=len(states),
        scan_types=types,
    )  # fmt: skip
    for value, size in zip((*last, y), (*(width, hidden)[: len(states)], width), strict=True):
        value.dtype, value.shape = "float32", (batch, size)
    y.shape = (steps, batch, width)
    return [_reversed(site, y) if backward else y, *last]


def _reversed(site: Parts, x: Value) -> Value:
    end = site.array([np.iinfo(np.int64).min + 1])
    return site.op("Slice", x, site.array([-1]), end, site.array([0]), site.array([-1]))


def _initial(site: Parts, x: Value, name: str, width: int, at: int) -> Value:
    """Return a state at the begin, (batch, width)."""
    given = site.input(f"initial_{name}")
    if given is None:
        assert x.shape is not None
        zeros = site.array(np.zeros((1, width), FLOAT32))
        if isinstance(x.shape[1], int):
            return site.array(np.zeros((x.shape[1], width), FLOAT32))
        size = site.op("Slice", site.op("Shape", x), site.array([1]), site.array([2]))
        made = site.op("Expand", zeros, site.op("Concat", size, site.array([width]), axis=0))
        made.shape = (x.shape[1], width)
        return made
    axis = 1 if site.integer("layout", 0) else 0
    return site.op("Gather", given, site.array(np.array(at)), axis=axis)


def _projection(site: Parts, kind: str, at: int) -> QuantizedWeight | Array | None:
    """Return the weight (outputs, hidden) that an LSTM may have behind each step."""
    if "projection" not in CELLS[kind].weights:
        return None
    weight = _weight(site, "R", at, len(CELLS[kind].gates) * site.integer("hidden_size", 0))
    return None if weight is None else _weight(site, "projection", at, weight.shape[1])


def _weight(site: Site[Value], name: str, at: int, rows: int) -> QuantizedWeight | Array | None:
    """Return a weight of the states, of one direction: packed, or that many float rows; None if there is none."""
    node = site.node
    panels = node.input(f"{name}_panels")
    if panels is not None:
        if panels.array is None:
            raise Unsupported(f"op {node.op} with weights that are computed")
        built = panels.array.ndim == 4  # else the rows are not in panels yet
        of_all: Array = panel_rows(panels.array, rows) if built else panels.array
        return np.asarray(of_all[at])
    value = node.input(f"{name}_{('forward', 'backward')[at]}")
    packed = None if value is None else weight_of(value)
    if value is not None and packed is None:
        raise Unsupported(f"op {node.op} with weights that are computed")
    return packed


class _Body(Site[Value]):
    """The body of the loop: one step."""

    def __init__(
        self, site: Parts, kind: str, at: int, x: Value, states: Sequence[Value],
        projection: QuantizedWeight | Array | None,
    ) -> None:  # fmt: skip
        self.node = site.node
        self.graph: Graph = site.graph.new_body(f"{site.node.name}/body")
        self._around = site
        self._at = at
        given = [
            self._parameter(name, *kind) for name, kind in (("iteration", ("int64", ())), ("condition", ("bool", ())))
        ]
        before = [self._parameter(f"state_{i}", "float32", value.shape) for i, value in enumerate(states)]
        all_steps = self._parameter("projected", "float32", x.shape)
        z = self.op("Gather", all_steps, given[0], axis=0)
        after = {"LSTM": self._lstm, "GRU": self._gru, "RNN": self._rnn}[kind](z, before)
        if projection is not None:
            after[0] = self._product(after[0], projection, None)
        again = self.op("Identity", after[0])
        self.graph.outputs = [("condition", given[1]), *((str(i), v) for i, v in enumerate(after)), ("rows", again)]

    def _parameter(self, name: str, dtype: str, shape: object) -> Value:
        return self.graph.parameter(self.graph.unique_value(f"{self.node.name}/{name}"), dtype, shape)  # type: ignore[arg-type]

    # ---- As a site ----

    def input(self, name: str | int) -> Value | None:
        raise AssertionError("a step reads the inputs of its loop alone")

    def ops(self, op: str, inputs: Sequence[Value | None], outputs: int, **attributes: Any) -> list[Value]:
        name = self.graph.unique_node(f"{self.node.name}/step/{op.rpartition('.')[2].lower()}")
        names = [self.graph.unique_value(f"{name}.{i}") for i in range(outputs)]
        return list(self.graph.node(op, inputs, names, name, **attributes))

    def array(self, array: object, name: str = "constant") -> Value:
        return self.graph.constant(array, self.graph.unique_value(f"{self.node.name}/step/{name}"))

    # ---- The cells ----

    def _function(self, index: int) -> str:
        kind = self.node.op.removeprefix("dynq.")
        names = self.text("activations", "")
        count = len(_ACTIVATIONS[kind])
        name = names.split(",")[self._at * count + index] if names else _ACTIVATIONS[kind][index]
        if name not in _KNOWN:
            raise Unsupported(f"op {self.node.op} with the activation {name}")
        return name

    def _recurrent(self, gates: int) -> tuple[QuantizedWeight | Array, Array | None]:
        """Return R (gates * hidden, outputs) and its bias."""
        rows = gates * self.integer("hidden_size", 0)
        weight = _weight(self._around, "R", self._at, rows)
        value = self.node.input("bias")
        if weight is None or (value is not None and value.array is None):
            raise Unsupported(f"op {self.node.op} without weights of its states, or with a bias that is computed")
        bias = None if value is None or value.array is None else value.array.reshape(-1, rows)[self._at]
        return weight, bias

    def _product(self, x: Value, weight: QuantizedWeight | Array, bias: Array | None) -> Value:
        """Return a linear layer of weights in rows. Its int8 form has the scheme of the recurrent layer."""
        of = None if bias is None else self.array(bias, "bias")
        if isinstance(weight, QuantizedWeight):
            attributes = {"scheme": self.text("scheme", "asymmetric"), "granularity": "row"}
            return self.op("dynq.Linear", x, self.array(weight, "weight"), of, **attributes)
        return self.op("dynq.LinearFloat", x, self.array(np.ascontiguousarray(weight.T), "weight"), of)

    def _split(self, z: Value, gates: int) -> list[Value]:
        return self.ops("Split", [z, self.array([self.integer("hidden_size", 0)] * gates)], gates, axis=1)

    def _lstm(self, z: Value, states: Sequence[Value]) -> list[Value]:
        h, c = states
        i, o, f, g = self._split(self.op("Add", z, self._product(h, *self._recurrent(4))), 4)
        value = self.node.input("P")
        if value is not None:
            if value.array is None:
                raise Unsupported(f"op {self.node.op} with peepholes that are computed")
            of_i, of_o, of_f = value.array.reshape(-1, 3, self.integer("hidden_size", 0))[self._at]
            i = self.op("Add", i, self.op("Mul", c, self.array(of_i, "peephole")))
            f = self.op("Add", f, self.op("Mul", c, self.array(of_f, "peephole")))
        enter = self.op("Mul", self.op(self._function(0), i), self.op(self._function(1), g))
        c = self.op("Add", self.op("Mul", self.op(self._function(0), f), c), enter)
        if value is not None:
            o = self.op("Add", o, self.op("Mul", c, self.array(of_o, "peephole")))
        return [self.op("Mul", self.op(self._function(0), o), self.op(self._function(2), c)), c]

    def _gru(self, z: Value, states: Sequence[Value]) -> list[Value]:
        (h,), hidden = states, self.integer("hidden_size", 0)
        weight, bias = self._recurrent(3)
        of_update, of_reset, of_new = self._split(z, 3)
        if self.integer("linear_before_reset", 0):
            update, reset, new = self._split(self._product(h, weight, bias), 3)
            reset = self.op(self._function(0), self.op("Add", of_reset, reset))
            new = self.op("Mul", reset, new)
        else:
            of_both, of_last = (None, None) if bias is None else np.split(bias, [2 * hidden])
            both = self._product(h, _rows(weight, 0, 2 * hidden), of_both)
            update, reset = self._split(both, 2)
            reset = self.op(self._function(0), self.op("Add", of_reset, reset))
            new = self._product(self.op("Mul", reset, h), _rows(weight, 2 * hidden, 3 * hidden), of_last)
        update = self.op(self._function(0), self.op("Add", of_update, update))
        new = self.op(self._function(1), self.op("Add", of_new, new))
        kept = self.op("Mul", update, h)
        rest = self.op("Sub", self.array(np.ones((), FLOAT32)), update)
        return [self.op("Add", self.op("Mul", rest, new), kept)]

    def _rnn(self, z: Value, states: Sequence[Value]) -> list[Value]:
        weight, bias = self._recurrent(1)
        return [self.op(self._function(0), self.op("Add", z, self._product(states[0], weight, bias)))]


def _rows(weight: QuantizedWeight | Array, begin: int, end: int) -> QuantizedWeight | Array:
    """Return rows [begin, end) of a weight."""
    if not isinstance(weight, QuantizedWeight):
        return weight[begin:end]
    if weight.zero_point is not None:
        raise Unsupported("a weight with zero-points")
    return QuantizedWeight.from_integers(weight.integers()[begin:end], weight.scale[begin:end])
