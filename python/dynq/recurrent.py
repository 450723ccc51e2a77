"""LSTM, GRU and RNN on NumPy arrays: weights are quantized once, by ``lstm_weights`` and its like, and used many times.

Underneath is a model of one or more layers, which goes through all steps in one call of the C library.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from . import _arguments as arguments
from ._arguments import FLOAT32, INT32, NONFINITE, Array
from ._recurrent_layers import CELLS, Layer, read_layers
from .graph import Graph
from .graph.given import activation_names
from .graph.ir import Value
from .model import Model
from .report import Report

__all__ = ["RecurrentWeights", "gru", "gru_weights", "lstm", "lstm_weights", "rnn", "rnn_weights"]

State = tuple[Array, Array]


class RecurrentWeights:
    """The weights of an LSTM, a GRU or an RNN of one or more layers, packed. Immutable; share it between threads.

    Made by lstm_weights, gru_weights and rnn_weights; pickles.

    Attributes:
        cell: "LSTM", "GRU" or "RNN".
        layers, directions: how many layers, each in one direction or in two.
        input_size, hidden_size: I and H.
        proj_size: P, where the states of an LSTM are projected, else 0, as PyTorch has it.
        batch_first: whether x is (B, T, I), not (T, B, I).
    """

    __slots__ = ("_model", "batch_first", "cell", "directions", "hidden_size", "input_size", "layers", "proj_size")

    _model: Model
    cell: str
    layers: int
    directions: int
    input_size: int
    hidden_size: int
    proj_size: int
    batch_first: bool

    def __init__(self) -> None:
        raise TypeError("use dynq.lstm_weights, dynq.gru_weights or dynq.rnn_weights")

    @property
    def nbytes(self) -> int:
        """Bytes of the packed weights and what belongs to them."""
        return self._model.nbytes

    def report(self) -> Report:
        """What became of each layer, ``l0``, ``l1``, ..., and of its projection of the inputs, ``l0.projection``."""
        return self._model.report()

    def __repr__(self) -> str:
        both = ", bidirectional" if self.directions == 2 else ""
        sizes = f"{self.input_size} -> {self.hidden_size}" + (f" -> {self.proj_size}" if self.proj_size else "")
        return f"RecurrentWeights({self.cell}, {sizes}, layers={self.layers}{both}, {self.nbytes} bytes)"

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (self._model, *(getattr(self, name) for name in self.__slots__[1:]))

    def __copy__(self) -> RecurrentWeights:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> RecurrentWeights:
        return self  # it is immutable

    def _run(self, x: Any, states: Sequence[Any], lengths: Any, nonfinite: str) -> list[Array]:
        """y and the last states. ``states``: as many as the cell has; each may be None."""
        raises = nonfinite != "propagate" and arguments.choice("nonfinite", nonfinite, NONFINITE)
        x = arguments.floats("x", x)
        single = x.ndim == 2  # one sequence
        if single:
            x = x[None] if self.batch_first else x[:, None]
        if x.ndim != 3 or x.shape[2] != self.input_size:
            order = "B, T" if self.batch_first else "T, B"
            shape = x.shape[-2:] if single and self.batch_first else x.shape[::2] if single else x.shape
            raise ValueError(f"x has shape {shape}; expected ({order}, {self.input_size}) or (T, {self.input_size})")
        steps, batch, _ = x.shape
        if self.batch_first:
            steps, batch = batch, steps
        given = [x, _lengths(lengths, batch, steps)]
        count = self.layers * self.directions
        for name, state, size in zip(
            "hc", states, (self.proj_size or self.hidden_size, self.hidden_size), strict=False
        ):
            shape = (count, batch, size)
            given.append(np.zeros(shape, FLOAT32) if state is None else _state(name, state, shape, single))
        y, *last = self._model._run(given, raises)
        if single:
            return [y[0] if self.batch_first else y[:, 0], *(state[:, 0] for state in last)]
        return [y, *last]


def _restore(model: Model, *values: Any) -> RecurrentWeights:
    self = object.__new__(RecurrentWeights)
    for name, value in zip(RecurrentWeights.__slots__, (model, *values), strict=True):
        setattr(self, name, value)
    return self


def _lengths(lengths: Any, batch: int, steps: int) -> Array:
    if lengths is None:
        return np.full(batch, steps, INT32)
    given = arguments.array("lengths", lengths)
    if given.dtype.kind not in "iu" and given.size:
        raise TypeError(f"lengths has dtype {given.dtype}; expected integers")
    if given.shape != (batch,):
        raise ValueError(f"lengths has shape {given.shape}; expected ({batch},)")
    wrong = np.flatnonzero((given < 0) | (given > steps))
    if wrong.size:
        raise ValueError(f"lengths[{wrong[0]}] is {given[wrong[0]]}; expected 0 to {steps}, the steps of x")
    return given.astype(INT32)


def _state(name: str, state: Any, shape: tuple[int, int, int], single: bool) -> Array:
    given = arguments.floats(name, state)
    expected = (shape[0], shape[2]) if single else shape
    if given.shape != expected:
        raise ValueError(f"{name} has shape {given.shape}; expected {expected}")
    return given[:, None] if single else given


# ---- Weights


def lstm_weights(
    weights: Any,
    *,
    prefix: str = "",
    direction: str | None = None,
    batch_first: bool = False,
    activations: str | Sequence[str] | None = None,
    activation_alpha: Sequence[float] | None = None,
    activation_beta: Sequence[float] | None = None,
    clip: float | None = None,
    input_forget: bool = False,
    **options: Any,
) -> RecurrentWeights:
    """Quantize the weights of an LSTM, for ``lstm``.

    Args:
        weights: either arrays by the names that torch.nn.LSTM and LSTMCell have, ``weight_ih_l0``, ``weight_hh_l0``,
            ``bias_ih_l0``, ``bias_hh_l0``, ``weight_ih_l0_reverse`` and so on, with gates in the order i f g o, such
            as a state_dict. Or the arrays of ONNX's LSTM, (W, R), (W, R, B) or (W, R, B, P): W (D, 4 * H, I),
            R (D, 4 * H, H), B (D, 8 * H), peepholes P (D, 3 * H), gates in the order i o f c; a list of them, where
            there are several layers. D is the number of directions. float32, float16 or bfloat16. ``weight_hr_l0``
            (P, H) projects the states, as PyTorch's ``proj_size`` has it; ``weight_hh_l0`` is then (4 * H, P).
        prefix: what the names begin with, such as "encoder.lstm."; others of the mapping are not looked at.
        direction: "forward", "reverse" or "bidirectional"; None: as many as the weights have.
        batch_first: x and y are (B, T, ...), not (T, B, ...); states are not changed by that.
        activations: ONNX's names for f, g and h, such as "Sigmoid,Tanh,Tanh", of one direction or of both.
        activation_alpha, activation_beta, clip, input_forget: as ONNX has them.
        options: of Graph.build: ``quantize=False`` keeps float32, ``keep_float=["l0.projection"]`` the product of
            the first layer's inputs, and so on. As there, a small product of inputs stays float by default.

    Raises:
        ValueError: a name is missing or unknown, or a shape does not fit.
    """
    return _weights("LSTM", weights, prefix, direction, batch_first, options, activations=activations,
                    activation_alpha=activation_alpha, activation_beta=activation_beta, clip=clip,
                    input_forget=int(input_forget))  # fmt: skip


def gru_weights(
    weights: Any,
    *,
    prefix: str = "",
    direction: str | None = None,
    batch_first: bool = False,
    activations: str | Sequence[str] | None = None,
    activation_alpha: Sequence[float] | None = None,
    activation_beta: Sequence[float] | None = None,
    clip: float | None = None,
    linear_before_reset: bool = True,
    **options: Any,
) -> RecurrentWeights:
    """Quantize the weights of a GRU, for ``gru``. The rest is as in lstm_weights.

    Args:
        weights: gates in the order r z n by the names of torch.nn.GRU, z r h as ONNX has them.
        linear_before_reset: the reset gate multiplies what comes of the state, as PyTorch has it; False: the state.
    """
    return _weights("GRU", weights, prefix, direction, batch_first, options, activations=activations,
                    activation_alpha=activation_alpha, activation_beta=activation_beta, clip=clip,
                    linear_before_reset=int(linear_before_reset))  # fmt: skip


def rnn_weights(
    weights: Any,
    *,
    prefix: str = "",
    direction: str | None = None,
    batch_first: bool = False,
    activations: str | Sequence[str] | None = None,
    activation_alpha: Sequence[float] | None = None,
    activation_beta: Sequence[float] | None = None,
    clip: float | None = None,
    **options: Any,
) -> RecurrentWeights:
    """Quantize the weights of an RNN, for ``rnn``: tanh, or as ``activations`` says ("Relu"). As in lstm_weights."""
    return _weights("RNN", weights, prefix, direction, batch_first, options, activations=activations,
                    activation_alpha=activation_alpha, activation_beta=activation_beta, clip=clip)  # fmt: skip


def _weights(
    cell: str,
    weights: Any,
    prefix: str,
    direction: str | None,
    batch_first: bool,
    options: Mapping[str, Any],
    *,
    activations: str | Sequence[str] | None,
    **attributes: Any,
) -> RecurrentWeights:
    layers = read_layers(cell, weights, prefix)
    directions, hidden, of_h = len(layers[0].w), layers[0].w.shape[1] // len(CELLS[cell].gates), layers[0].state
    choices = {1: ("forward", "reverse"), 2: ("bidirectional",)}[directions]
    if direction is not None and direction not in choices:
        expected = " or ".join(map(repr, choices))
        raise ValueError(f"direction is {direction!r}; expected {expected}: weights has {directions} of them")
    if activations is not None:
        names = activation_names(activations)
        attributes["activations"] = ",".join(names * (directions if len(names) == CELLS[cell].functions else 1))
    graph = Graph(cell)
    states = "hc" if cell == "LSTM" else "h"
    sizes = ("batch", "time") if batch_first else ("time", "batch")
    value = graph.input("x", (*sizes, layers[0].w.shape[2]))
    attributes["lengths"] = graph.input("lengths", ("batch",), "int32")
    given = [
        graph.input(name, (len(layers) * directions, "batch", size))
        for name, size in zip(states, (of_h, hidden), strict=False)
    ]
    parts = [[state] if len(layers) == 1 else graph.split(state, [directions] * len(layers), 0) for state in given]
    last: list[list[Value]] = [[] for _ in states]
    for i, layer in enumerate(layers):
        initial = {f"initial_{name}": part[i] for name, part in zip(states, parts, strict=True)}
        attributes["direction"] = direction or choices[0]
        value, ends = _add_layer(graph, cell, f"l{i}", layer, value, initial, batch_first, attributes)
        for state, end in zip(last, ends, strict=True):
            state.append(end)
    outputs = {"y": value}
    for name, state in zip(states, last, strict=True):
        outputs[f"last_{name}"] = graph.concat(state, 0) if len(layers) > 1 else state[0]
    proj_size = 0 if layers[0].projection is None else of_h
    self = _restore(graph.build(outputs, **options), bool(batch_first), cell, directions, hidden,
                    layers[0].w.shape[2], len(layers), proj_size)  # fmt: skip
    self._run(np.zeros((1, 1, self.input_size), FLOAT32), [None] * len(states), None, "propagate")  # checks attributes
    return self


def _add_layer(
    graph: Graph,
    cell: str,
    name: str,
    layer: Layer,
    x: Value,
    initial: dict[str, Value],
    batch_first: bool,
    attributes: dict[str, Any],
) -> tuple[Value, list[Value]]:
    """y (T, B, D * H) or (B, T, D * H), and the last states (D, B, H). ONNX's layouts have D elsewhere."""
    for key, array in (("peepholes", layer.p), ("projection", layer.projection)):
        if array is not None:
            attributes = {**attributes, key: array}
    if batch_first:
        initial = {key: graph.transpose(state, (1, 0, 2)) for key, state in initial.items()}
    add = getattr(graph, cell.lower())
    y, *last = add(x, layer.w, layer.r, layer.b, name=name, batch_first=batch_first, **initial, **attributes)
    if batch_first:
        last = [graph.transpose(state, (1, 0, 2)) for state in last]
    elif len(layer.w) == 2:
        y = graph.transpose(y, (0, 2, 1, 3))
    else:
        return graph.squeeze(y, 1), last
    return graph.reshape(y, (0, 0, len(layer.w) * layer.state)), last


# ---- Runs


def lstm(
    x: Any, weights: RecurrentWeights, state: Any = None, *, lengths: Any = None, nonfinite: str = "propagate"
) -> tuple[Array, State]:
    """All steps of an LSTM in one call, with inputs and states quantized to 8 bits as they come.

    Args:
        x: float32 (T, B, I), (B, T, I) if the weights are ``batch_first``, or (T, I), one sequence; float16 and
            bfloat16 are converted. T may be 1: one step, as of a cell.
        weights: of lstm_weights; L layers, D directions.
        state: (h, c), each float32 (L * D, B, H), or (L * D, H) of one sequence; zeros where it or one of it is None.
            Of an LSTM with a projection, h has P columns in the place of H, and so has y.
        lengths: integers (B,), steps of each sequence, 0 to T; None: all of them. Behind its end y is zero, and the
            reverse direction starts at it, as with a packed sequence of PyTorch.
        nonfinite: "propagate": what depends on a NaN or an infinity is NaN; "raise": it is an error.

    Returns:
        ``y, (h, c)``: y (T, B, D * H), the last layer's states of all steps, (B, T, D * H) or (T, D * H); h and c as
        ``state``, which the next call may go on from.

    Raises:
        NonFiniteError: ``nonfinite="raise"`` and a NaN or an infinity is met.
    """
    h, c = _pair(state)
    y, h, c = _checked(weights, "LSTM")._run(x, (h, c), lengths, nonfinite)
    return y, (h, c)


def gru(
    x: Any, weights: RecurrentWeights, h: Any = None, *, lengths: Any = None, nonfinite: str = "propagate"
) -> tuple[Array, Array]:
    """All steps of a GRU in one call: ``y, h``. As ``lstm``, with one state, (L * D, B, H)."""
    y, h = _checked(weights, "GRU")._run(x, (h,), lengths, nonfinite)
    return y, h


def rnn(
    x: Any, weights: RecurrentWeights, h: Any = None, *, lengths: Any = None, nonfinite: str = "propagate"
) -> tuple[Array, Array]:
    """All steps of an RNN in one call: ``y, h``. As ``lstm``, with one state, (L * D, B, H)."""
    y, h = _checked(weights, "RNN")._run(x, (h,), lengths, nonfinite)
    return y, h


def _pair(state: Any) -> tuple[Any, Any]:
    if state is None:
        return None, None
    if not isinstance(state, (tuple, list)) or len(state) != 2:
        raise TypeError(f"state is of type {type(state).__name__}; expected two arrays (h, c)")
    return state[0], state[1]


def _checked(weights: Any, cell: str) -> RecurrentWeights:
    if not isinstance(weights, RecurrentWeights):
        kind = cell.lower()
        raise TypeError(f"weights is of type {type(weights).__name__}; expected those of dynq.{kind}_weights")
    if weights.cell != cell:
        raise TypeError(f"weights is of an {weights.cell}; expected those of dynq.{cell.lower()}_weights")
    return weights
