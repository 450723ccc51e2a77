"""``dynq.lstm``, ``gru`` and ``rnn`` on arrays: layers one after another to the bit, whatever names and layouts the
weights and the data have; wrong arguments are named. torch/test_recurrent.py compares them with PyTorch."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dynq
from tests.python.references import reference as rule
from tests.python.references.recurrent_reference import GATES, Array, Layer

WEIGHTS = {"LSTM": dynq.lstm_weights, "GRU": dynq.gru_weights, "RNN": dynq.rnn_weights}
# ONNX's gates by their places among PyTorch's, as the documentation of each has them.
TORCH_ORDER = {"LSTM": {"i": 0, "f": 1, "c": 2, "o": 3}, "GRU": {"r": 0, "z": 1, "h": 2}, "RNN": {"h": 0}}
ONNX_ORDER = {"LSTM": "iofc", "GRU": "zrh", "RNN": "h"}


def call(op: str, x: Any, weights: dynq.RecurrentWeights, state: Any = None, **options: Any) -> list[Array]:
    """y and the states, as a list."""
    if op == "LSTM":
        y, (h, c) = dynq.lstm(x, weights, state, **options)
        return [y, h, c]
    return list((dynq.gru if op == "GRU" else dynq.rnn)(x, weights, None if state is None else state[0], **options))


def torch_names(layer: Layer, number: int) -> dict[str, Array]:
    """The weights by PyTorch's names: ONNX's gates one by one to where PyTorch has them."""
    result = {}
    places = [TORCH_ORDER[layer.op][gate] for gate in ONNX_ORDER[layer.op]]
    for d in range(len(layer.w)):
        halves = np.split(layer.b[d], 2)
        kinds = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        for kind, array in zip(kinds, (layer.w[d], layer.r[d], *halves), strict=True):
            gates = np.split(array, len(places))
            moved = [gates[places.index(i)] for i in range(len(places))]
            result[f"{kind}_l{number}{'_reverse' if d else ''}"] = np.concatenate(moved)
    return result


def stack(op: str, direction: str, lengths: list[int] | None = None) -> tuple[list[Layer], list[Array]]:
    """Two layers, and what they give: y (T, B, D * H) and the last states."""
    rng = np.random.default_rng([*op.encode(), len(direction)])
    layers: list[Layer] = []
    states = []
    size = 7
    for _ in range(2):
        layer = Layer(op, rng, i=size, h=20, direction=direction, lengths=lengths, before=True)
        if layers:
            layer.x = y  # noqa: F821
        y, *last = layer.expected(True)
        y = y.transpose(0, 2, 1, 3).reshape(*y.shape[:1], y.shape[2], -1)
        size = y.shape[2]
        layers.append(layer)
        states.append(last)
    return layers, [y, *(np.concatenate(parts) for parts in zip(*states, strict=True))]


def state_of(layers: list[Layer]) -> list[Array]:
    parts = [[layer.h, layer.c] if layer.c is not None else [layer.h] for layer in layers]
    return [np.concatenate(part) for part in zip(*parts, strict=True)]


def same(got: list[Array], expected: list[Array]) -> None:
    for one, other in zip(got, expected, strict=True):
        assert one.shape == other.shape
        np.testing.assert_array_equal(rule.bits(one), rule.bits(other))


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("lengths", [None, [5, 0, 3]])
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("op", list(GATES))
def test_layers_follow_the_rule_to_the_bit(
    op: str, direction: str, lengths: list[int] | None, batch_first: bool
) -> None:
    layers, expected = stack(op, direction, lengths)
    weights = WEIGHTS[op](
        [(layer.w, layer.r, layer.b) for layer in layers],
        direction=direction,
        batch_first=batch_first,
        first_layer="int8",
    )
    x = layers[0].x
    y, *last = call(op, x.swapaxes(0, 1) if batch_first else x, weights, state_of(layers), lengths=lengths)
    same([y.swapaxes(0, 1) if batch_first else y, *last], expected)


@pytest.mark.parametrize("direction", ["forward", "bidirectional"])
@pytest.mark.parametrize("op", list(GATES))
def test_weights_by_the_names_of_pytorch_are_those_of_onnx(op: str, direction: str) -> None:
    layers, expected = stack(op, direction)
    named = {name: array for i, layer in enumerate(layers) for name, array in torch_names(layer, i).items()}
    model = {"linear.weight": np.ones((2, 2)), **{f"encoder.{name}": array for name, array in named.items()}}
    for weights in (
        WEIGHTS[op](named, first_layer="int8"),
        WEIGHTS[op](model, prefix="encoder.", first_layer="int8"),
    ):
        assert (weights.cell, weights.layers, weights.directions) == (op, 2, 1 + (direction == "bidirectional"))
        assert (weights.input_size, weights.hidden_size, weights.batch_first) == (7, 20, False)
        same(call(op, layers[0].x, weights, state_of(layers)), expected)


@pytest.mark.parametrize("options", [{"t": 4, "h": 40}, {"h": 64, "lengths": [5, 0, 2]}, {"h": 48, "peepholes": True},
                                     {"b": 70, "h": 33, "t": 2}, {"h": 8, "projection": 24}])  # fmt: skip
@pytest.mark.parametrize("direction", ["forward", "bidirectional"])
def test_a_projection_of_the_states_follows_the_rule_to_the_bit(
    direction: str, options: dict[str, Any], tmp_path: Path
) -> None:
    layer = Layer("LSTM", np.random.default_rng(12), direction=direction, **{"projection": 20, **options})
    graph = dynq.Graph()
    x = graph.input("x", ("t", "b", 7))
    y, h, c = graph.lstm(x, layer.w, layer.r, layer.b, initial_h=layer.h, initial_c=layer.c, peepholes=layer.p,
                         lengths=layer.lengths, direction=direction, projection=layer.projection, name="l")  # fmt: skip
    assert y.shape == ("t", len(layer.w), "b", layer.h.shape[2]) and c.shape == (len(layer.w), "b", options["h"])
    model = graph.build(y, h, c, first_layer="int8")
    assert [row.became for row in model.report().rows] == ["int8 linear", "int8 LSTM"]
    for isa in dynq.isa.supported():
        for threads in (1, 2):
            dynq.set_num_threads(threads)
            with dynq.isa.use(isa):
                same(model(layer.x), layer.expected(True))
    for one, other in zip(graph.build(y, h, c, quantize=False)(layer.x), layer.expected(False), strict=True):
        np.testing.assert_allclose(one, other, atol=2e-5)
    again = pickle.loads(pickle.dumps(model))
    same(again(layer.x), layer.expected(True))
    with pytest.raises(dynq.UnsupportedModelError, match="LSTM whose states are projected: 'l'"):
        dynq.export_onnx(model, tmp_path / "model.onnx")


def test_weights_of_a_projection_that_do_not_fit_are_named() -> None:
    layer = Layer("LSTM", np.random.default_rng(13), projection=12)
    graph = dynq.Graph()
    x = graph.input("x", ("t", "b", 7))
    for changed, text in (
        ({"projection": layer.projection[0]}, r"projection has shape \(12, 20\); expected a constant \(1, P, H\)"),
        ({"projection": layer.projection[:, :, 1:]}, r"w has shape \(1, 80, 7\); expected a constant \(1, 76, I\)"),
        ({"projection": layer.projection[:, 1:]}, r"r has shape \(1, 80, 12\); expected a constant \(1, 80, 11\)"),
        ({"b": layer.b[:, 1:]}, r"b has shape \(1, 159\); expected a constant \(1, 160\)"),
        ({"r": graph.input("r", (1, 80, 12))}, "r has shape .*; expected a constant"),
    ):
        given = {"w": layer.w, "r": layer.r, "b": layer.b, "projection": layer.projection, **changed}
        with pytest.raises(ValueError, match=text):
            graph.lstm(x, **given)
    named = {**torch_names(Layer("LSTM", np.random.default_rng(13)), 0), "weight_hr_l0": layer.projection[0]}
    with pytest.raises(ValueError, match=r"weight_hh_l0 has shape \(80, 20\); expected \(80, 12\)"):
        dynq.lstm_weights(named)
    with pytest.raises(ValueError, match="weights has weight_hr_l0; expected a projection in an LSTM alone"):
        dynq.gru_weights(named)


@pytest.mark.parametrize("op", list(GATES))
def test_a_cell_goes_one_step_and_frames_give_what_all_at_once_give(op: str) -> None:
    layer = Layer(op, np.random.default_rng(3), before=True)
    cell = WEIGHTS[op]({name.removesuffix("_l0"): array for name, array in torch_names(layer, 0).items()})
    whole, *_ = call(op, layer.x, cell, state_of([layer]))
    state = state_of([layer])
    for x, y in zip(layer.x, whole, strict=True):
        step, *state = call(op, x[None], cell, state)
        same([step[0], state[0][0]], [y, y])


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("op", list(GATES))
def test_one_sequence_needs_no_batch_and_states_are_zero_unless_given(op: str, batch_first: bool) -> None:
    layer = Layer(op, np.random.default_rng(4), b=1, direction="bidirectional")
    weights = WEIGHTS[op]((layer.w, layer.r, layer.b), batch_first=batch_first)
    x, state = layer.x[:, 0], state_of([layer])
    y, *last = call(op, layer.x.swapaxes(0, 1) if batch_first else layer.x, weights, state)
    same(call(op, x, weights, [part[:, 0] for part in state]), [y.reshape(5, -1), *(part[:, 0] for part in last)])
    zeros = [np.zeros_like(part[:, 0]) for part in state]
    same(call(op, x, weights), call(op, x, weights, zeros))
    if op == "LSTM":
        same(call(op, x, weights, (zeros[0], None)), call(op, x, weights))


def test_all_that_onnx_has_is_there() -> None:
    rng = np.random.default_rng(5)
    layer = Layer("LSTM", rng, peepholes=True, direction="bidirectional")
    weights = dynq.lstm_weights((layer.w, layer.r, layer.b, layer.p), first_layer="int8")
    expected = layer.expected(True)
    same(call("LSTM", layer.x, weights, state_of([layer]))[1:], expected[1:])
    arrays = (layer.w, layer.r, layer.b)
    plain = call("LSTM", layer.x, dynq.lstm_weights(arrays))
    for options in (
        {"clip": 0.1},
        {"input_forget": True},
        {"activations": ["Sigmoid", "Relu", "Tanh"]},
        {
            "activations": "Sigmoid,ScaledTanh,Tanh,Sigmoid,Tanh,Tanh",
            "activation_alpha": [2.0],
            "activation_beta": [0.5],
        },
    ):
        assert np.abs(call("LSTM", layer.x, dynq.lstm_weights(arrays, **options))[0] - plain[0]).max() > 1e-3
    relu = dynq.rnn_weights((layer.w[:, :20], layer.r[:, :20]), activations="Relu")
    assert dynq.rnn(layer.x, relu)[0].min() == 0
    gru = [dynq.gru_weights((layer.w[:, :60], layer.r[:, :60]), linear_before_reset=flag) for flag in (False, True)]
    assert (dynq.gru(layer.x, gru[0])[0] != dynq.gru(layer.x, gru[1])[0]).any()


def test_options_of_build_choose_what_stays_float() -> None:
    layer = Layer("GRU", np.random.default_rng(6), before=True)
    for options, became in (
        ({}, ["int8 linear", "int8 GRU"]),
        ({"quantize": False}, ["float linear", "float GRU"]),
        ({"keep_float": ["l0.projection"]}, ["float linear", "int8 GRU"]),
    ):
        weights = dynq.gru_weights((layer.w, layer.r, layer.b), **options)
        assert [row.became for row in weights.report().rows[:2]] == became
    floating = dynq.gru_weights((layer.w, layer.r, layer.b), quantize=False)
    y, h = dynq.gru(layer.x, floating, layer.h)
    for one, other in zip((y[:, None], h), layer.expected(False), strict=True):
        np.testing.assert_allclose(one, other, atol=2e-6)
    assert floating.nbytes > dynq.gru_weights((layer.w, layer.r, layer.b)).nbytes


def test_weights_pickle_and_are_not_copied() -> None:
    layer = Layer("LSTM", np.random.default_rng(7), direction="bidirectional")
    weights = dynq.lstm_weights((layer.w, layer.r, layer.b), batch_first=True)
    again = pickle.loads(pickle.dumps(weights))
    same(call("LSTM", layer.x, again), call("LSTM", layer.x, weights))
    assert copy.copy(weights) is weights and copy.deepcopy(weights) is weights
    assert repr(again) == repr(weights)
    assert repr(again).startswith("RecurrentWeights(LSTM, 7 -> 20, layers=1, bidirectional, ")
    with pytest.raises(TypeError, match=r"use dynq\.lstm_weights"):
        dynq.RecurrentWeights()


def test_threads_that_share_a_step_change_no_bit_with_lengths_of_all_steps() -> None:
    layer = Layer("LSTM", np.random.default_rng(8), t=4, b=2, h=1024)
    weights = dynq.lstm_weights((layer.w, layer.r, layer.b))
    results = []
    with dynq.isa.use("scalar"):  # slow: many threads are worth it
        for threads in (1, 3):
            dynq.set_num_threads(threads)
            for lengths in (None, [4, 4], [4, 3], [4, 4]):  # one session: what it needs must be there each time
                results.append(call("LSTM", layer.x, weights, lengths=lengths))
    for result in results[1:]:
        same([result[0][:, 0]], [results[0][0][:, 0]])


@pytest.mark.parametrize("shape", [(0, 2, 7), (3, 0, 7), (0, 0, 7)])
def test_no_steps_and_no_sequences_give_what_went_in(shape: tuple[int, ...]) -> None:
    layer = Layer("LSTM", np.random.default_rng(9))
    weights = dynq.lstm_weights((layer.w, layer.r, layer.b))
    h, c = np.full((1, shape[1], 20), 0.5, np.float32), np.full((1, shape[1], 20), -2, np.float32)
    same(call("LSTM", np.zeros(shape, np.float32), weights, (h, c)), [np.zeros((*shape[:2], 20), np.float32), h, c])


def test_a_nan_stays_in_its_sequence_and_raises_where_asked() -> None:
    layer = Layer("GRU", np.random.default_rng(10), before=True)
    weights = dynq.gru_weights((layer.w, layer.r, layer.b))
    clean = call("GRU", layer.x, weights)
    layer.x[2, 1, 0] = np.nan
    y = dynq.gru(layer.x, weights)[0]
    same([y[:, [0, 2]]], [clean[0][:, [0, 2]]])
    assert np.isnan(y[2:, 1]).all() and not np.isnan(y[:2]).any()
    with pytest.raises(dynq.NonFiniteError):
        dynq.gru(layer.x, weights, nonfinite="raise")


X = np.zeros((5, 3, 7), np.float32)
W, R, B = np.ones((1, 80, 7), np.float32), np.ones((1, 80, 20), np.float32), np.ones((1, 160), np.float32)
NAMED = {"weight_ih_l0": W[0], "weight_hh_l0": R[0], "bias_ih_l0": B[0, :80], "bias_hh_l0": B[0, :80]}


def test_whole_numbers_stand_for_floats_and_lists_for_texts_of_names() -> None:
    names = ["LeakyRelu", "Tanh", "Tanh"]
    x = np.ones((4, 2, 7), np.float32)
    y, _ = dynq.lstm(x, dynq.lstm_weights((W, R, B), clip=1, activations=names, activation_alpha=[1]))
    same, _ = dynq.lstm(x, dynq.lstm_weights((W, R, B), clip=1.0, activations=",".join(names), activation_alpha=[1.0]))
    assert np.array_equal(y, same)
    g = dynq.Graph()
    hidden = g.lstm(g.input("x", ("time", 2, 7)), W, R, B, clip=1, activations=names, activation_alpha=[1])[0]
    assert np.array_equal(g.build(g.squeeze(hidden, 1), first_layer="int8")(x), y)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"x": X[..., :6]}, r"x has shape \(5, 3, 6\); expected \(T, B, 7\) or \(T, 7\)"),
        ({"x": X[:, 0, :6]}, r"x has shape \(5, 6\); expected"),
        ({"x": X.astype(np.float64)}, "x has dtype float64"),
        ({"x": X[0, 0]}, r"x has shape \(7,\)"),
        ({"state": (np.zeros((1, 2, 20), np.float32), None)}, r"h has shape \(1, 2, 20\); expected \(1, 3, 20\)"),
        ({"state": (None, np.zeros((3, 20), np.float32))}, r"c has shape \(3, 20\); expected \(1, 3, 20\)"),
        ({"x": X[:, 0], "state": (X, None)}, r"h has shape \(5, 3, 7\); expected \(1, 20\)"),
        ({"state": np.zeros((1, 3, 20), np.float32)}, r"state is of type ndarray; expected two arrays \(h, c\)"),
        ({"lengths": [5, 6, 1]}, r"lengths\[1\] is 6; expected 0 to 5, the steps of x"),
        ({"lengths": [5, 1, -1]}, r"lengths\[2\] is -1"),
        ({"lengths": [5, 1]}, r"lengths has shape \(2,\); expected \(3,\)"),
        ({"lengths": [5.0, 1.0, 1.0]}, "lengths has dtype float64; expected integers"),
        ({"nonfinite": "ignore"}, "nonfinite is 'ignore'"),
        ({"weights": None}, r"weights is of type NoneType; expected those of dynq\.lstm_weights"),
        ({"weights": dynq.rnn_weights((W, np.ones((1, 80, 80), np.float32)))}, r"weights is of an RNN; expected"),
    ],
)
def test_a_wrong_argument_of_a_call_is_named(arguments: dict[str, Any], text: str) -> None:
    given = {"x": X, "weights": dynq.lstm_weights((W, R, B)), **arguments}
    with pytest.raises((ValueError, TypeError), match=text):
        dynq.lstm(**given)


@pytest.mark.parametrize(
    ("weights", "options", "text"),
    [
        (W, {}, r"weights is of type ndarray; expected arrays by name, or \(W, R, B\) of each layer"),
        ([], {}, "weights is of type list"),
        ((W,), {}, r"weights is of 1 arrays; expected \(W, R, B, P\) or fewer, W and R at least"),
        ([(W, R), W], {}, r"weights\[1\] is of type ndarray"),
        ((W, None), {}, "weights has no R"),
        ((W[0], R), {}, r"weights: W has shape \(80, 7\); expected \(D, 4 \* H, ...\), D 1 or 2"),
        ((W[:, :79], R), {}, r"weights: W has shape \(1, 79, 7\); expected \(1, 80, 7\)"),
        ((W, R[:, :79]), {}, r"weights: R has shape \(1, 79, 20\); expected \(1, 80, 20\)"),
        ((W, R, B[:, 1:]), {}, r"weights: B has shape \(1, 159\); expected \(1, 160\)"),
        ((W, R, B, B), {}, r"weights: P has shape \(1, 160\); expected \(1, 60\)"),
        ((W[:, :0], R[:, :0, :0]), {}, "expected a hidden size of at least 1"),
        ((W.astype(np.float64), R), {}, "weights: W has dtype float64"),
        ([(W, R), (W, R)], {}, "layer 1 takes inputs of size 7; layer 0 gives 20"),
        ((W, R), {"prefix": "lstm."}, "prefix is of names"),
        ((W, R), {"direction": "bidirectional"}, "direction is 'bidirectional'; expected 'forward' or 'reverse'"),
        ((W, R), {"activations": "Sigmoid,Tanh"}, "activations: 2 names; expected 3"),
        ((W, R), {"activations": "Sigmoid,Cosh,Tanh"}, "node 'l0'.*'Cosh'"),
        ((W, R), {"activations": 3}, "activations is 3; expected names"),
        ((W, R), {"activations": [1, 2, 3]}, r"activations is \[1, 2, 3\]; expected names"),
        ((W, R), {"activation_alpha": 0.1}, "activation_alpha is 0.1; expected a list of numbers"),
        ((W, R), {"clip": "5"}, "clip is '5'; expected a number"),
        ((W, R), {"clip": 0.0}, "node 'l0'.*clip is 0"),
        ((W, R), {"keep": 1}, "keep"),
        ({}, {}, "weights has no name such as weight_ih_l0"),
        (NAMED, {"prefix": "lstm."}, r"weights has no name such as lstm\.weight_ih_l0"),
        ({**NAMED, "weight_l0": W}, {}, "weights has 'weight_l0'; expected weight_ih_l0, weight_hh_l0 and their like"),
        ({**NAMED, "weight_ih": W}, {}, "weights has 'weight_ih' and the same"),
        ({"weight_ih_l0": W[0]}, {}, "weights has no weight_hh_l0"),
        ({**NAMED, "weight_ih_l2": W[0], "weight_hh_l2": R[0]}, {}, "weights has no weight_ih_l1"),
        ({**NAMED, "bias_ih_l0": B[0]}, {}, r"bias_ih_l0 has shape \(160,\); expected \(80,\)"),
        ({k: v for k, v in NAMED.items() if k != "bias_hh_l0"}, {}, "weights has bias_ih_l0 and no bias_hh_l0"),
        ({**NAMED, "weight_ih_l0": W[0, 1:]}, {}, r"weight_ih_l0 has shape \(79, 7\); expected \(80, 7\)"),
        ({**NAMED, "weight_hh_l0": R}, {}, r"weight_hh_l0 has shape \(1, 80, 20\); expected 2 dimensions"),
        ({**NAMED, 3: W}, {}, "weights has the name 3; expected str"),
    ],
)
def test_what_is_wrong_with_weights_is_named(weights: Any, options: dict[str, Any], text: str) -> None:
    with pytest.raises((ValueError, TypeError), match=text):
        dynq.lstm_weights(weights, **options)
