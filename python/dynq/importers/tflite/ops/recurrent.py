"""LSTM and RNN over sequences. States that TensorFlow Lite keeps between runs are zeros at the begin of each run."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ....conversion import Unsupported
from ....core.arguments import FLOAT32, Array
from ....graph import Value
from ....ir.deferred import Rows, on_rows
from ..convert import Call, Result, converter
from ..hybrid_recurrent import HybridCell, hybrid_steps, is_hybrid_layer, stacked_weight

_ACTIVATIONS = {1: "Relu", 4: "Tanh"}
_GATES = (0, 3, 1, 2)  # ONNX's i o f c among TensorFlow Lite's i f c o


class _Direction(NamedTuple):
    """The places of the inputs of one direction of a layer."""

    weights: int  # four of the input, then four of the state
    peepholes: int
    biases: int
    projection: int
    state: int  # of the outputs, then of the cells

    def all_weights(self) -> list[int]:
        """Return the places of the weights that hybrid kernels multiply with."""
        return [*range(self.weights, self.weights + 8), self.projection]


@converter("UNIDIRECTIONAL_SEQUENCE_LSTM", "UnidirectionalSequenceLSTMOptions")
def lstm(call: Call) -> Result:
    call.refuse_option("DiagonalRecurrentTensors", False)
    if any(call.has(i) for i in range(20, 24)):
        raise Unsupported(f"{call.op} with layer norms")
    direction = _Direction(1, 9, 12, 16, 18)
    if is_hybrid_layer(call, direction.all_weights()):
        return _hybrid(call, [_hybrid_lstm(call, direction)], [[18, 19]])[0]
    y = _lstm(call, [direction])
    return call.node("Squeeze", [y, call.integers([_axis(call)])])


@converter("BIDIRECTIONAL_SEQUENCE_LSTM", "BidirectionalSequenceLSTMOptions")
def bidirectional_lstm(call: Call) -> Result:
    if any(call.has(i) for i in range(39, 48)):
        raise Unsupported(f"{call.op} with an auxiliary input")
    directions = [_Direction(1, 9, 12, 16, 35), _Direction(18, 26, 29, 33, 37)]
    if is_hybrid_layer(call, [i for direction in directions for i in direction.all_weights()]):
        cells = [_hybrid_lstm(call, direction) for direction in directions]
        return _beside(call, _hybrid(call, cells, [[35, 36], [37, 38]]))
    return _merged(call, _lstm(call, directions))


@converter("UNIDIRECTIONAL_SEQUENCE_RNN", "SequenceRNNOptions")
def rnn(call: Call) -> Result:
    if is_hybrid_layer(call, [1, 2]):
        return _hybrid(call, [_hybrid_rnn(call, 1)], [[4]])[0]
    y = _rnn(call, [1])
    return call.node("Squeeze", [y, call.integers([_axis(call)])])


@converter("BIDIRECTIONAL_SEQUENCE_RNN", "BidirectionalSequenceRNNOptions")
def bidirectional_rnn(call: Call) -> Result:
    if any(call.has(i) for i in range(9, 12)):
        raise Unsupported(f"{call.op} with an auxiliary input")
    if is_hybrid_layer(call, [1, 2, 5, 6]):
        return _beside(call, _hybrid(call, [_hybrid_rnn(call, at) for at in (1, 5)], [[4], [8]]))
    return _merged(call, _rnn(call, [1, 5]))


def _axis(call: Call) -> int:
    """Return which axis of the output has the directions."""
    return 1 if call.option("TimeMajor", False) else 2


def _merged(call: Call, y: Value) -> Result:
    """Return both directions side by side, or each in an output of its own."""
    parts = call.nodes("Split", [y, call.integers([1, 1])], 2, axis=_axis(call))
    return _beside(call, [call.node("Squeeze", [part, call.integers([_axis(call)])]) for part in parts])


def _beside(call: Call, both: list[Value]) -> Result:
    return call.node("Concat", both, axis=-1) if call.option("MergeOutputs", False) else both


def _weight(call: Call, index: int) -> Rows:
    constant = call.constant(index)
    if constant is None:
        raise Unsupported(f"{call.op} with weights that are computed")
    if len(constant.shape) != 2:
        raise ValueError(f"a weight of shape {constant.shape}")
    return constant.rows() or constant.array


def _vector(call: Call, index: int) -> Array:
    constant = call.constant(index)
    if constant is None:
        raise Unsupported(f"{call.op} with biases that are computed")
    return constant.array.reshape(-1)


def _rows(parts: list[Rows]) -> Rows:
    """Join the rows of gates."""
    return on_rows(lambda *arrays: np.concatenate(arrays), *parts)


def _stack(parts: list[Rows]) -> Rows:
    return on_rows(lambda *arrays: np.stack(arrays), *parts)


def _add(call: Call, op: str, inputs: list[Value | None], activations: str, directions: int, hidden: int) -> Value:
    (y, *_) = call.nodes(
        op, inputs, 1, hidden_size=hidden, direction="forward" if directions == 1 else "bidirectional",
        layout=0 if call.option("TimeMajor", False) else 1, activations=activations,
    )  # fmt: skip
    return y


def _state(call: Call, indices: list[int]) -> Value | None:
    """Return the states at the begin, of all directions; None if they are zeros."""
    tensors = [call.tensor(i) for i in indices]
    if all(tensor.is_variable and tensor.data is None for tensor in tensors):
        return None
    axis = 0 if call.option("TimeMajor", False) else 1
    parts = [call.node("Unsqueeze", [call.value(i), call.integers([axis])]) for i in indices]
    return parts[0] if len(parts) == 1 else call.node("Concat", parts, axis=axis)


def _lstm(call: Call, directions: list[_Direction]) -> Value:
    """Return the outputs of all steps and directions, as ONNX's LSTM has them."""
    activation = _lstm_activation(call)
    made = [_one_lstm(call, direction) for direction in directions]
    w, r = _stack([parts[0] for parts in made]), _stack([parts[1] for parts in made])
    bias, peepholes = np.stack([parts[2] for parts in made]), np.stack([parts[3] for parts in made])
    hidden = bias.shape[1] // 8
    inputs = [
        call.value(0), call.walk.constant(w, f"{call.name}/weight"), call.walk.constant(r, f"{call.name}/recurrent"),
        call.number(bias), None, _state(call, [direction.state for direction in directions]),
        _state(call, [direction.state + 1 for direction in directions]),
        call.number(peepholes) if peepholes.any() else None,
    ]  # fmt: skip
    projections = [call.has(direction.projection) for direction in directions]
    if any(projections):
        if not all(projections):
            raise Unsupported(f"{call.op} with a projection of one direction")
        if any(call.has(d.projection + 1) and _vector(call, d.projection + 1).any() for d in directions):
            raise Unsupported(f"{call.op} with a bias of its projection")
        weights = [_weight(call, direction.projection) for direction in directions]
        inputs.append(call.walk.constant(_stack(weights), f"{call.name}/projection"))
    names = ",".join(["Sigmoid", activation, activation] * len(directions))
    return _add(call, "LSTM", inputs, names, len(directions), hidden)


def _lstm_activation(call: Call) -> str:
    for name in ("CellClip", "ProjClip"):
        call.refuse_option(name, 0.0)
    return _activation(call, call.option("FusedActivationFunction", 4))


def _activation(call: Call, kind: int) -> str:
    if kind not in _ACTIVATIONS:
        raise Unsupported(f"{call.op} with activation {kind}")
    return _ACTIVATIONS[kind]


def _one_lstm(call: Call, at: _Direction) -> tuple[Rows, Rows, Array, Array]:
    """Return W, R, B and P of a direction. Without an input gate, that gate is 1 minus the forget gate."""
    coupled = not call.has(at.weights)
    sides = []
    for side in (0, 4):
        gates: list[Rows] = [_weight(call, at.weights + side + gate) for gate in range(1 if coupled else 0, 4)]
        if coupled:  # 1 - sigmoid(z) = sigmoid(-z)
            gates.insert(0, _negated(gates[0]))
        sides.append(_rows([gates[gate] for gate in _GATES]))
    hidden = sides[0].shape[0] // 4
    zeros = np.zeros(hidden, FLOAT32)
    biases = [_vector(call, at.biases + i) if call.has(at.biases + i) else zeros for i in range(4)]
    peepholes = [_vector(call, at.peepholes + i) if call.has(at.peepholes + i) else zeros for i in range(3)]  # i f o
    if coupled:
        biases[0], peepholes[0] = -biases[1], -peepholes[1]
    if any(vector.size != hidden for vector in (*biases, *peepholes)) or sides[1].shape[0] != 4 * hidden:
        raise ValueError(f"biases that do not fit weights for {hidden} states")
    bias = np.concatenate([*(biases[gate] for gate in _GATES), np.zeros(4 * hidden, FLOAT32)])
    return sides[0], sides[1], bias, np.concatenate([peepholes[i] for i in (0, 2, 1)])


def _negated(rows: Rows) -> Rows:
    if isinstance(rows, np.ndarray):
        return -rows
    return type(rows)(-rows.integers, rows.scale)


def _rnn(call: Call, begins: list[int]) -> Value:
    """Weights, recurrent weights, bias and state of each direction begin at ``begins``."""
    activation = _activation(call, call.option("FusedActivationFunction"))
    w, r = (_stack([_weight(call, at + i) for at in begins]) for i in (0, 1))
    biases = [_vector(call, at + 2) for at in begins]
    bias = np.stack([np.concatenate([vector, np.zeros_like(vector)]) for vector in biases])
    inputs = [
        call.value(0), call.walk.constant(w, f"{call.name}/weight"), call.walk.constant(r, f"{call.name}/recurrent"),
        call.number(bias), None, _state(call, [at + 3 for at in begins]),
    ]  # fmt: skip
    names = ",".join([activation] * len(begins))
    return _add(call, "RNN", inputs, names, len(begins), bias.shape[1] // 2)


def _hybrid(call: Call, cells: list[HybridCell], states: list[list[int]]) -> list[Value]:
    """Return what each direction gives, as hybrid kernels compute it. ``states`` has the places of its states."""
    time_major = call.option("TimeMajor", False)
    x = call.value(0) if time_major else call.make("Transpose", [call.value(0)], perm=[1, 0, 2])
    results = []
    for backward, (cell, places) in enumerate(zip(cells, states, strict=True)):
        given = [_held_state(call, i) for i in places]
        y = hybrid_steps(call, x, cell, given, bool(backward))
        results.append(y if time_major else call.node("Transpose", [y], perm=[1, 0, 2]))
    return results


def _held_state(call: Call, index: int) -> Value | None:
    tensor = call.tensor(index)
    return None if tensor.is_variable and tensor.data is None else call.value(index)


def _hybrid_lstm(call: Call, at: _Direction) -> HybridCell:
    gates = range(1 if not call.has(at.weights) else 0, 4)
    weight, recurrent = (stacked_weight(call, [at.weights + side + gate for gate in gates]) for side in (0, 4))
    hidden = len(weight.integers) // len(gates)
    zeros = np.zeros(hidden, FLOAT32)
    bias = [_vector(call, at.biases + gate) if call.has(at.biases + gate) else zeros for gate in gates]
    projected = call.has(at.projection)
    return HybridCell(
        weight, recurrent, np.concatenate(bias), _lstm_activation(call), _is_asymmetric(call), len(gates),
        [_vector(call, at.peepholes + i) if call.has(at.peepholes + i) else None for i in range(3)],
        stacked_weight(call, [at.projection]) if projected else None,
        _vector(call, at.projection + 1) if projected and call.has(at.projection + 1) else None,
    )  # fmt: skip


def _hybrid_rnn(call: Call, at: int) -> HybridCell:
    activation = _activation(call, call.option("FusedActivationFunction"))
    weight, recurrent = (stacked_weight(call, [at + i]) for i in (0, 1))
    return HybridCell(weight, recurrent, _vector(call, at + 2), activation, _is_asymmetric(call), 1)


def _is_asymmetric(call: Call) -> bool:
    return bool(call.option("AsymmetricQuantizeInputs", False))
