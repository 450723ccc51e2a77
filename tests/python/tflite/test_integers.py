"""Models of integers throughout give what LiteRT's reference kernels give, within a step of rounding."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import dynq
from dynq.importers.tflite import to_graph
from tests.python.references.tflite_models import Graph, Op, T, constant, litert, one_op, write

pytest.importorskip("tflite")
pytest.importorskip("ai_edge_litert")
F = np.float32
STEP, ZERO = 0.05, 7


def given(rng: np.random.Generator, *shape: int, dtype: str = "int8") -> np.ndarray:
    least = np.iinfo(dtype).min
    return rng.integers(least, least + 256, shape).astype(dtype)


def on_grid(*shape: int, scale: float = STEP, zero_point: int = ZERO, dtype: str = "int8") -> T:
    return T(shape, dtype, scale=[scale], zero_point=[zero_point])


def check(model: bytes, *inputs: np.ndarray, quanta: int = 1, **options: Any) -> None:
    built = dynq.from_tflite(model, **options)
    got = list(built.run(dict(zip((value.name for value in built.inputs), inputs, strict=True))).values())
    for have, want in zip(got, litert(model, inputs), strict=True):
        assert have.dtype == want.dtype and have.shape == want.shape
        assert np.abs(have.astype(int) - want.astype(int)).max() <= quanta
        assert np.unique(want).size > 2  # not all of it lies outside of the range


X = on_grid(2, 6, 7, 8)
SAME = {"StrideH": 2, "StrideW": 1, "DilationHFactor": 1, "DilationWFactor": 1}
POOL = {"StrideH": 2, "StrideW": 2, "FilterHeight": 2, "FilterWidth": 3}


@pytest.mark.parametrize(
    ("op", "more", "output", "options", "fields"),
    [
        ("ADD", [on_grid(8, scale=0.02, zero_point=-5)], on_grid(scale=0.08), "AddOptions", {}),
        ("SUB", [X], on_grid(scale=0.08), "SubOptions", {}),
        ("MUL", [on_grid(2, 6, 7, 1)], on_grid(scale=0.3), "MulOptions", {"FusedActivationFunction": 1}),
        ("MAXIMUM", [X], X, "MaximumMinimumOptions", {}),
        ("RELU", [], X, None, {}),
        ("LEAKY_RELU", [], on_grid(scale=0.06, zero_point=-40), "LeakyReluOptions", {"Alpha": 0.2}),
        ("LOGISTIC", [], on_grid(scale=1 / 256, zero_point=-128), None, {}),
        ("TANH", [], on_grid(scale=1 / 128, zero_point=0), None, {}),
        ("HARD_SWISH", [], on_grid(scale=0.04, zero_point=-100), None, {}),
        ("SOFTMAX", [], on_grid(scale=1 / 256, zero_point=-128), "SoftmaxOptions", {"Beta": 1.0}),
        ("QUANTIZE", [], on_grid(scale=0.07, zero_point=3), "QuantizeOptions", {}),
        ("AVERAGE_POOL_2D", [], X, "Pool2DOptions", POOL),
        ("MAX_POOL_2D", [], X, "Pool2DOptions", {**POOL, "Padding": 1}),
        ("MEAN", [np.array([1, 2], np.int32)], on_grid(scale=0.03), "ReducerOptions", {}),
        ("RESHAPE", [np.array([12, 56], np.int32)], X, "ReshapeOptions", {}),
        ("PAD", [np.array([[0, 0], [1, 2], [0, 1], [0, 0]], np.int32)], X, "PadOptions", {}),
        ("RESIZE_BILINEAR", [np.array([12, 10], np.int32)], X, "ResizeBilinearOptions", {"HalfPixelCenters": True}),
        ("CONCATENATION", [X], X, "ConcatenationOptions", {"Axis": 3}),
    ],
    ids=lambda value: value if isinstance(value, str) and value.isupper() else "",
)
def test_each_op_rounds_to_the_steps_of_its_result(
    op: str, more: list[Any], output: T, options: str | None, fields: dict[str, Any]
) -> None:
    rng = np.random.default_rng(0)
    tensors = [X, *more]
    model = one_op(op, {f"i{i}": value for i, value in enumerate(tensors)}, output, options, **fields)
    inputs = [given(rng, *value.shape) for value in tensors if isinstance(value, T)]
    check(model, *inputs)
    check(model, *inputs, quantize=False)


def layer(rng: np.random.Generator, op: str) -> bytes:
    """Return a layer with weights of a scale for each channel; a fully connected one has one scale."""
    count = 24 if op != "DEPTHWISE_CONV_2D" else 8
    steps = rng.uniform(0.002, 0.01, count).astype(F)
    shape, axis, scale = {
        "CONV_2D": ((24, 3, 3, 8), 0, steps),
        "DEPTHWISE_CONV_2D": ((1, 3, 3, 8), 3, steps),
        "FULLY_CONNECTED": ((24, 48), 0, steps[:1]),
    }[op]
    zeros = np.zeros(scale.size)
    tensors = {
        "x": on_grid(3, 48) if op == "FULLY_CONNECTED" else X,
        "w": constant(rng.integers(-127, 128, shape).astype(np.int8), scale=scale, zero_point=zeros, axis=axis),
        "b": constant(rng.integers(-2000, 2000, count).astype(np.int32), scale=scale * F(STEP), zero_point=zeros),
        "y": on_grid(scale=0.2, zero_point=-100),
    }
    windows = {"DepthMultiplier": 1, **SAME} if op == "DEPTHWISE_CONV_2D" else SAME if op == "CONV_2D" else {}
    options = {"CONV_2D": "Conv2DOptions", "DEPTHWISE_CONV_2D": "DepthwiseConv2DOptions"}
    fields = {**windows, "FusedActivationFunction": 1}
    operator = Op(op, "x w b", "y", options.get(op, "FullyConnectedOptions"), fields)
    return write(Graph(tensors, [operator], "x", "y"))


@pytest.mark.parametrize("op", ["CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"])
def test_layers_have_exact_inputs(op: str) -> None:
    """The steps of an input are the fixed range of a layer, so that its integers are those of the file."""
    rng = np.random.default_rng(0)
    model = layer(rng, op)
    x = given(rng, 3, 48) if op == "FULLY_CONNECTED" else given(rng, 2, 6, 7, 8)
    check(model, x, first_layer="int8")
    check(model, x, quantize=False)
    (row,) = (row for row in dynq.from_tflite(model, first_layer="int8").report().rows if row.layer)
    assert op == "DEPTHWISE_CONV_2D" or row.fixed_range == pytest.approx(((-128 - ZERO) * STEP, (127 - ZERO) * STEP))


def test_uint8_is_read_too() -> None:
    rng = np.random.default_rng(0)
    output = on_grid(scale=0.08, zero_point=140, dtype="uint8")
    x = on_grid(3, 4, zero_point=128, dtype="uint8")
    check(
        one_op("ADD", {"x": x, "z": x}, output, "AddOptions"),
        given(rng, 3, 4, dtype="uint8"),
        given(rng, 3, 4, dtype="uint8"),
    )


def test_floats_go_in_and_out() -> None:
    rng = np.random.default_rng(0)
    tensors = {"x": T((3, 4)), "q": on_grid(3, 4), "r": on_grid(3, 4), "y": T((3, 4))}
    ops = [Op("QUANTIZE", "x", "q"), Op("RELU", "q", "r"), Op("DEQUANTIZE", "r", "y")]
    model, x = write(Graph(tensors, ops, "x", "y")), rng.standard_normal((3, 4), F)
    got = dynq.from_tflite(model)(x)
    np.testing.assert_allclose(got, litert(model, [x])[0], atol=1e-6)


def test_what_only_moves_is_not_rounded_again() -> None:
    shape = np.array([12, 56], np.int32)
    model = one_op("RESHAPE", {"x": X, "s": shape}, X, "ReshapeOptions")
    assert [op for _, op in dynq.from_tflite(model).nodes].count("QuantizeLinear") == 1


@pytest.mark.parametrize(
    ("output", "text"),
    [
        (T((2,), "int16", scale=[0.1]), "dtype INT16"),
        (T((2,), "int32", scale=[0.1]), "INT32 values with a fixed scale"),
        (T((2,), "int8", scale=[0.1, 0.2], zero_point=[0, 0]), "a fixed scale for each channel"),
    ],
)
def test_other_integers_are_refused(output: T, text: str) -> None:
    with pytest.raises(dynq.UnsupportedModelError, match=text):
        to_graph(one_op("ABS", {"x": T((2,), "int8", scale=[0.1])}, output))


def test_codes_of_operators_may_stand_in_the_newer_field_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    import tflite

    add = tflite.OperatorCodeAddDeprecatedBuiltinCode
    monkeypatch.setattr(tflite, "OperatorCodeAddDeprecatedBuiltinCode", lambda builder, number: add(builder, 0))
    model = one_op("RELU", {"x": T((3,))}, T(()))
    np.testing.assert_array_equal(dynq.from_tflite(model)(np.array([-1, 0, 2], F)), [0, 0, 2])


def on_steps(*shape: int, dtype: str = "int8", **more: Any) -> T:
    return T(shape, dtype, scale=[0.01], zero_point=[0], **more)


def test_recurrent_layers_of_integers_are_refused_by_name() -> None:
    """LSTM of int8 values with int16 cells, and SVDF of int8: their kernels have steps of their own inside."""
    rng = np.random.default_rng(0)
    weights = [constant(given(rng, 4, 3 if i < 4 else 4), scale=[0.01], zero_point=[0]) for i in range(8)]
    biases = [constant(np.zeros(4, np.int32), scale=[0.0001], zero_point=[0]) for _ in range(4)]
    states = [on_steps(2, 4, variable=True), on_steps(2, 4, dtype="int16", variable=True)]
    inputs = [*weights, None, None, None, *biases, None, None, *states]
    model = one_op(
        "UNIDIRECTIONAL_SEQUENCE_LSTM", {"x": on_steps(2, 5, 3), **{f"i{i}": t for i, t in enumerate(inputs)}},
        on_steps(2, 5, 4), "UnidirectionalSequenceLSTMOptions", FusedActivationFunction=4,
    )  # fmt: skip
    with pytest.raises(
        dynq.UnsupportedModelError, match="UNIDIRECTIONAL_SEQUENCE_LSTM of integers with fixed scales: 'y'"
    ):
        dynq.from_tflite(model)
    parts = {
        "f": constant(given(rng, 8, 3), scale=[0.01], zero_point=[0]),
        "t": constant(rng.integers(-99, 99, (8, 5)).astype(np.int16), scale=[0.01], zero_point=[0]),
        "b": constant(np.zeros(4, np.int32), scale=[0.0001], zero_point=[0]),
        "s": on_steps(2, 40, dtype="int16", variable=True),
    }
    model = one_op("SVDF", {"x": on_steps(2, 3), **parts}, on_steps(2, 4), "SVDFOptions", Rank=2)
    with pytest.raises(dynq.UnsupportedModelError, match="op SVDF: 'y'"):
        dynq.from_tflite(model)
