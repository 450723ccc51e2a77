"""LSTM and RNN over sequences give what LiteRT gives, from states of zeros."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import dynq
from tests.python.references.tflite_models import T, constant, litert, one_op

pytest.importorskip("tflite")
F = np.float32
WIDTH, H, B, S = 3, 4, 2, 5
_seed = iter(range(10**6))


def weights(*shape: int) -> T:
    return constant(np.random.default_rng(next(_seed)).standard_normal(shape, F) * F(0.5))


def state(width: int = H) -> T:
    return T((B, width), variable=True)


def check(op: str, inputs: list[T | None], options: str, outputs: int = 1, **fields: Any) -> None:
    pytest.importorskip("ai_edge_litert")
    x = np.random.default_rng(0).standard_normal((S, B, WIDTH), F)
    x = x if fields["TimeMajor"] else np.ascontiguousarray(x.swapaxes(0, 1))
    names: dict[str, Any] = {"x": T(x.shape), **{f"i{i}": tensor for i, tensor in enumerate(inputs)}}
    output: Any = [T(()) for _ in range(outputs)] if outputs > 1 else T(())
    model = one_op(op, names, output, options, **fields)
    got = list(dynq.from_tflite(model, quantize=False).run({"x": x}).values())
    for have, want in zip(got, litert(model, [x]), strict=True):
        np.testing.assert_allclose(have, want, rtol=1e-4, atol=1e-5)


def lstm(coupled: bool, peepholes: bool, projection: int | None) -> list[T | None]:
    """Return the inputs of one direction up to the projection's bias."""
    width = projection or H
    gates: list[T | None] = [weights(H, WIDTH) for _ in range(4)] + [weights(H, width) for _ in range(4)]
    holes: list[T | None] = [weights(H) if peepholes else None for _ in range(3)]
    biases: list[T | None] = [weights(H) for _ in range(4)]
    if coupled:
        gates[0] = gates[4] = holes[0] = biases[0] = None
    return [*gates, *holes, *biases, weights(projection, H) if projection else None, None]


@pytest.mark.parametrize("time_major", [False, True])
@pytest.mark.parametrize(
    ("coupled", "peepholes", "projection"),
    [(False, False, None), (True, False, None), (False, True, None), (True, True, None), (False, False, 3)],
)
def test_lstm(time_major: bool, coupled: bool, peepholes: bool, projection: int | None) -> None:
    inputs = [*lstm(coupled, peepholes, projection), state(projection or H), state(), None, None, None, None]
    check(
        "UNIDIRECTIONAL_SEQUENCE_LSTM",
        inputs,
        "UnidirectionalSequenceLSTMOptions",
        FusedActivationFunction=4,
        TimeMajor=time_major,
    )


def test_lstm_in_two_directions() -> None:
    """Merged, both are side by side. LiteRT's own merged kernel gives other numbers for all sequences but the first."""
    pytest.importorskip("ai_edge_litert")
    none: list[T | None] = [None] * 9
    inputs = [*lstm(False, False, None), *lstm(False, False, None), *(state() for _ in range(4)), *none]
    x = np.random.default_rng(0).standard_normal((B, S, WIDTH), F)
    names: dict[str, Any] = {"x": T(x.shape), **{f"i{i}": tensor for i, tensor in enumerate(inputs)}}
    op, options = "BIDIRECTIONAL_SEQUENCE_LSTM", "BidirectionalSequenceLSTMOptions"
    apart = one_op(op, names, [T(()), T(())], options, FusedActivationFunction=4, TimeMajor=False)
    want = litert(apart, [x])
    got = list(dynq.from_tflite(apart, quantize=False).run({"x": x}).values())
    for have, expected in zip(got, want, strict=True):
        np.testing.assert_allclose(have, expected, rtol=1e-4, atol=1e-5)
    merged = one_op(op, names, T(()), options, FusedActivationFunction=4, TimeMajor=False, MergeOutputs=True)
    y = dynq.from_tflite(merged, quantize=False).run({"x": x})["y"]
    np.testing.assert_allclose(y, np.concatenate(want, -1), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("activation", [1, 4])
def test_rnn(activation: int) -> None:
    one = [weights(H, WIDTH), weights(H, H), weights(H), state()]
    check("UNIDIRECTIONAL_SEQUENCE_RNN", one, "SequenceRNNOptions", FusedActivationFunction=activation, TimeMajor=True)
    both = [*one, weights(H, WIDTH), weights(H, H), weights(H), state(), None, None, None]
    check(
        "BIDIRECTIONAL_SEQUENCE_RNN",
        both,
        "BidirectionalSequenceRNNOptions",
        FusedActivationFunction=activation,
        TimeMajor=True,
        MergeOutputs=True,
    )


def test_int8_weights_keep_their_integers() -> None:
    """Each gate has a scale of its own, and its rows are those of the file."""
    rng = np.random.default_rng(1)
    integers = [rng.integers(-100, 101, (H, WIDTH if i < 4 else H)).astype(np.int8) for i in range(8)]
    gates = [constant(q, scale=[0.01 * (i + 1)]) for i, q in enumerate(integers)]
    inputs = [*gates, None, None, None, *(weights(H) for _ in range(4)), None, None, state(), state()]
    names = {"x": T((B, S, WIDTH)), **{f"i{i}": tensor for i, tensor in enumerate(inputs)}}
    options = "UnidirectionalSequenceLSTMOptions"
    model = one_op("UNIDIRECTIONAL_SEQUENCE_LSTM", names, T(()), options, FusedActivationFunction=4, TimeMajor=False)
    report = {row.kind: row for row in dynq.from_tflite(model).report().rows}
    assert report["LSTM"].quantized and report["LSTM"].why == "its weights are int8"


@pytest.mark.parametrize(
    ("fields", "text"),
    [({"CellClip": 1.0}, "CellClip = 1.0"), ({"FusedActivationFunction": 0}, "activation 0")],
)
def test_forms_that_are_not_implemented_are_refused(fields: dict[str, Any], text: str) -> None:
    inputs = [*lstm(False, False, None), state(), state()]
    names = {"x": T((B, S, WIDTH)), **{f"i{i}": tensor for i, tensor in enumerate(inputs)}}
    given = {"FusedActivationFunction": 4, **fields}
    model = one_op("UNIDIRECTIONAL_SEQUENCE_LSTM", names, T(()), "UnidirectionalSequenceLSTMOptions", **given)
    with pytest.raises(dynq.UnsupportedModelError, match=text):
        dynq.from_tflite(model)
