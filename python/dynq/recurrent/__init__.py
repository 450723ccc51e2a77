"""LSTM, GRU and RNN on NumPy arrays: weights are quantized once, by ``lstm_weights`` and its like, and used many times.

Underneath is a model of one or more layers, which goes through all steps in one call of the C library.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..core import arguments as arguments
from ..core.arguments import FLOAT32, INT32, Array, Direction, NonFinite
from ..ir.recurrent import CELLS
from ..model import Model
from ..report import Report
from .network import network_graph
from .weights import read_layers

__all__ = ["RecurrentWeights", "gru", "gru_weights", "lstm", "lstm_weights", "rnn", "rnn_weights"]

State = tuple[Array, Array]


class RecurrentWeights:
    """The packed weights of an LSTM, a GRU or an RNN of one or more layers. Immutable; threads can share it.

    It is made by lstm_weights, gru_weights or rnn_weights, and it pickles.

    Attributes:
        cell: "LSTM", "GRU" or "RNN".
        layers, directions: how many layers, each in one direction or in two.
        input_size, hidden_size: I and H.
        proj_size: P if the states of an LSTM are projected, else 0, as in PyTorch.
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
        """The bytes of the packed weights and what belongs to them."""
        return self._model.nbytes

    def report(self) -> Report:
        """Return what became of each layer, ``l0``, ``l1``, ..., and of its projection of the inputs,
        ``l0.projection``.
        """
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

    def _run(self, x: Any, states: Sequence[Any], lengths: Any, nonfinite: NonFinite) -> list[Array]:
        """Return y and the last states. ``states`` has as many as the cell; each may be None."""
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
        given = {"x": x, "lengths": _lengths(lengths, batch, steps)}
        sizes = self.proj_size or self.hidden_size, self.hidden_size
        for name, state, size in zip(CELLS[self.cell].states, states, sizes, strict=False):
            shape = (self.layers * self.directions, batch, size)
            given[name] = np.zeros(shape, FLOAT32) if state is None else _state(name, state, shape, single)
        y, *last = self._model.run(given, nonfinite=nonfinite).values()
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
    direction: Direction | None = None,
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
        weights: float32, float16 or bfloat16, in PyTorch's form or in ONNX's; both are below.
        prefix: the beginning of the names, such as "encoder.lstm."; others of the mapping are not looked at.
        direction: "forward", "reverse" or "bidirectional"; None: as many directions as the weights have.
        batch_first: if True, x and y are (B, T, ...), not (T, B, ...). The states keep their shapes.
        activations: ONNX's names for f, g and h, such as "Sigmoid,Tanh,Tanh", for one direction or for both.
        activation_alpha, activation_beta, clip, input_forget: as ONNX has them.
        options: those of Graph.build. ``quantize=False`` keeps all in float32, ``keep_float=["l0.projection"]`` the
            product of the first layer's inputs, and so on. As there, a small product of inputs stays float by default.

    PyTorch's form is a mapping, such as a state_dict, with the names of torch.nn.LSTM and LSTMCell: ``weight_ih_l0``,
    ``weight_hh_l0``, ``bias_ih_l0``, ``bias_hh_l0``, ``weight_ih_l0_reverse`` and so on. The gates are in the order i f
    g o. ``weight_hr_l0`` (P, H) projects the states, like ``proj_size`` of PyTorch; ``weight_hh_l0`` is then (4 * H,
    P).

    ONNX's form is the arrays of its LSTM: (W, R), (W, R, B) or (W, R, B, P). W is (D, 4 * H, I), R (D, 4 * H, H), B (D,
    8 * H), and the peepholes P are (D, 3 * H). D is the number of directions. The gates are in the order i o f c. If
    there are several layers, give a list of these.

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
    direction: Direction | None = None,
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
        weights: by the names of torch.nn.GRU, with gates in the order r z n, or in ONNX's form, with gates z r h.
        linear_before_reset: if True, the reset gate multiplies the product of the state and its weight, as in PyTorch;
            if False, the state itself.
    """
    return _weights("GRU", weights, prefix, direction, batch_first, options, activations=activations,
                    activation_alpha=activation_alpha, activation_beta=activation_beta, clip=clip,
                    linear_before_reset=int(linear_before_reset))  # fmt: skip


def rnn_weights(
    weights: Any,
    *,
    prefix: str = "",
    direction: Direction | None = None,
    batch_first: bool = False,
    activations: str | Sequence[str] | None = None,
    activation_alpha: Sequence[float] | None = None,
    activation_beta: Sequence[float] | None = None,
    clip: float | None = None,
    **options: Any,
) -> RecurrentWeights:
    """Quantize the weights of an RNN, for ``rnn``. The rest is as in lstm_weights.

    The activation is tanh, or the one that ``activations`` names, such as "Relu".
    """
    return _weights("RNN", weights, prefix, direction, batch_first, options, activations=activations,
                    activation_alpha=activation_alpha, activation_beta=activation_beta, clip=clip)  # fmt: skip


def _weights(
    cell: str,
    weights: Any,
    prefix: str,
    direction: Direction | None,
    batch_first: bool,
    options: Any,
    **attributes: Any,
) -> RecurrentWeights:
    layers = read_layers(cell, weights, prefix)
    first = layers[0]
    choices = {1: ("forward", "reverse"), 2: ("bidirectional",)}[first.directions]
    if direction is not None and direction not in choices:
        expected = " or ".join(map(repr, choices))
        raise ValueError(f"direction is {direction!r}; expected {expected}: weights has {first.directions} of them")
    attributes["direction"] = direction or choices[0]
    graph = network_graph(cell, layers, batch_first=batch_first, **attributes)
    self = _restore(graph.build(**options), bool(batch_first), cell, first.directions, first.hidden,
                    first.w.shape[2], len(layers), 0 if first.projection is None else first.state)  # fmt: skip
    self._run(np.zeros((1, 1, self.input_size), FLOAT32), [None, None], None, "propagate")  # checks the attributes
    return self


# ---- Runs


def lstm(
    x: Any, weights: RecurrentWeights, state: Any = None, *, lengths: Any = None, nonfinite: NonFinite = "propagate"
) -> tuple[Array, State]:
    """Run all steps of an LSTM in one call. Inputs and states are quantized to 8 bits on the fly.

    Args:
        x: float32 (T, B, I), (B, T, I) if the weights are ``batch_first``, or (T, I), one sequence; float16 and
            bfloat16 are converted. T may be 1: one step, as of a cell.
        weights: those of lstm_weights, with L layers and D directions.
        state: (h, c), each float32 (L * D, B, H), or (L * D, H) for one sequence. None, for both or for one of them,
            stands for zeros. In an LSTM with a projection, h and y have P columns in place of H.
        lengths: integers (B,), steps of each sequence, 0 to T; None: all of them. Behind its end y is zero. The reverse
            direction starts at the end, as with a packed sequence of PyTorch.
        nonfinite: "propagate": what depends on a NaN or an infinity is NaN; "raise": it is an error.

    Returns:
        ``y, (h, c)``. y has the states of the last layer in all steps, (T, B, D * H), (B, T, D * H) or (T, D * H). h
        and c are shaped as in ``state``, and the next call may go on from them.

    Raises:
        NonFiniteError: ``nonfinite="raise"`` and a NaN or an infinity is met.
    """
    h, c = _pair(state)
    y, h, c = _checked(weights, "LSTM")._run(x, (h, c), lengths, nonfinite)
    return y, (h, c)


def gru(
    x: Any, weights: RecurrentWeights, h: Any = None, *, lengths: Any = None, nonfinite: NonFinite = "propagate"
) -> tuple[Array, Array]:
    """Run all steps of a GRU in one call and return ``y, h``. It is like ``lstm``, with one state, (L * D, B, H)."""
    y, h = _checked(weights, "GRU")._run(x, (h,), lengths, nonfinite)
    return y, h


def rnn(
    x: Any, weights: RecurrentWeights, h: Any = None, *, lengths: Any = None, nonfinite: NonFinite = "propagate"
) -> tuple[Array, Array]:
    """Run all steps of an RNN in one call and return ``y, h``. It is like ``lstm``, with one state, (L * D, B, H)."""
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
