"""With numerics="tflite", layers with int8 weights and float inputs give the bits of LiteRT's reference kernels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import example, given, settings
from hypothesis import strategies as st

import dynq
from dynq.cli import cli
from tests.python.references.one_op import run_op
from tests.python.references.tflite_models import Graph, Op, T, constant, litert, one_op, write

pytest.importorskip("tflite")
F = np.float32


def integers(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.integers(-127, 128, shape).astype(np.int8)


def numbers(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Return floats of rows that differ in their ranges."""
    sizes = np.exp(rng.standard_normal((shape[0], *[1] * (len(shape) - 1))))
    return ((rng.standard_normal(shape) + rng.uniform(-1, 1)) * sizes).astype(F)


def run(model: bytes, x: np.ndarray, **options: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return the output of dynq and that of LiteRT."""
    pytest.importorskip("ai_edge_litert")
    built = dynq.from_tflite(model, numerics="tflite", **options)
    return built(x), litert(model, [x])[0]


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2**32), st.booleans(), st.booleans(), st.integers(1, 4), st.integers(1, 80))
def test_fully_connected(seed: int, asymmetric: bool, per_channel: bool, batch: int, k: int) -> None:
    rng = np.random.default_rng(seed)
    scale = rng.uniform(0.001, 0.01, 24 if per_channel else 1).astype(F)
    inputs = {"x": T((batch, k)), "w": constant(integers(rng, 24, k), scale=scale), "b": numbers(rng, 24)}
    fields = {"AsymmetricQuantizeInputs": asymmetric, "FusedActivationFunction": int(rng.integers(0, 2))}
    model = one_op("FULLY_CONNECTED", inputs, T(()), "FullyConnectedOptions", **fields)
    np.testing.assert_array_equal(*run(model, numbers(rng, batch, k)))
    np.testing.assert_array_equal(*run(model, np.zeros((batch, k), F)))


def test_fully_connected_keeps_the_dimensions() -> None:
    rng = np.random.default_rng(0)
    inputs = {"x": T((2, 3, 10)), "w": constant(integers(rng, 5, 10), scale=[0.01]), "b": None}
    model = one_op("FULLY_CONNECTED", inputs, T(()), "FullyConnectedOptions", KeepNumDims=True)
    got, want = run(model, numbers(rng, 2, 3, 10))
    assert got.shape == (2, 3, 5)
    np.testing.assert_array_equal(got, want)


@settings(deadline=None, max_examples=25)
@given(
    st.integers(0, 2**32), st.booleans(), st.booleans(), st.integers(0, 1), st.integers(1, 2), st.integers(1, 2)
)  # fmt: skip
def test_convolutions(seed: int, depthwise: bool, per_channel: bool, padding: int, stride: int, dilation: int) -> None:
    """One scale for all channels takes symmetric inputs, and scales that differ take asymmetric ones."""
    rng = np.random.default_rng(seed)
    c, m = 6, 24
    per_channel = per_channel or depthwise
    scale = rng.uniform(0.001, 0.01, m if per_channel else 1).astype(F)
    weight = integers(rng, *((1, 3, 2, m) if depthwise else (m, 3, 2, c)))
    inputs = {
        "x": T((2, 7, 8, c)),
        "w": constant(weight, scale=scale, axis=3 if depthwise else 0),
        "b": numbers(rng, m),
    }
    op, options = ("DEPTHWISE_CONV_2D", "DepthwiseConv2DOptions") if depthwise else ("CONV_2D", "Conv2DOptions")
    more = {"DepthMultiplier": 4} if depthwise else {}
    model = one_op(
        op, inputs, T(()), options, Padding=padding, StrideH=stride, StrideW=stride, DilationHFactor=dilation,
        DilationWFactor=dilation, FusedActivationFunction=int(rng.integers(0, 2)), **more,
    )  # fmt: skip
    x = numbers(rng, 2, 7, 8, c)
    for more in ({"default": "int8", "first_layer": "int8"}, {"quantize": False}):
        np.testing.assert_array_equal(*run(model, x, **more))


def test_halves_are_rounded_as_in_litert() -> None:
    """All products are whole numbers and halves: a range from -16 to 239 has steps of 1."""
    x = np.arange(-32, 478, dtype=F).reshape(1, 1, 510, 1) / 2
    x[0, 0, -1] = 239
    weight = constant(np.array([1, 2, -3, 100], np.int8).reshape(4, 1, 1, 1), scale=np.array([1, 0.5, 2, 4], F))
    inputs = {"x": T(x.shape), "w": weight, "b": np.zeros(4, F)}
    model = one_op("CONV_2D", inputs, T(()), "Conv2DOptions", StrideH=1, StrideW=1)
    np.testing.assert_array_equal(*run(model, x))


def test_scales_that_are_equal_count_as_one() -> None:
    """The kernel for one scale, with symmetric inputs, is taken then."""
    rng = np.random.default_rng(0)
    weight = constant(integers(rng, 4, 1, 1, 3), scale=np.full(4, 0.01, F))
    inputs = {"x": T((2, 5, 5, 3)), "w": weight, "b": numbers(rng, 4)}
    model = one_op("CONV_2D", inputs, T(()), "Conv2DOptions", StrideH=1, StrideW=1)
    np.testing.assert_array_equal(*run(model, numbers(rng, 2, 5, 5, 3)))


def test_rows_of_embeddings() -> None:
    rng = np.random.default_rng(0)
    table = constant(integers(rng, 9, 5), scale=[0.013])
    model = one_op("EMBEDDING_LOOKUP", {"x": T((4,), "int32"), "t": table}, T(()))
    np.testing.assert_array_equal(*run(model, np.array([8, 0, 3, 3], np.int32)))


# ---- Layers over sequences: their sigmoid and tanh are approximations, so that bits are not promised

WIDTH, H, B, S = 7, 12, 2, 5


def lstm(rng: np.random.Generator, coupled: bool, peepholes: bool, projection: int | None) -> list[T | None]:
    """Return the inputs of one direction up to the projection's bias."""

    def weight(*shape: int) -> T:
        return constant(integers(rng, *shape), scale=[float(rng.uniform(0.002, 0.008))])

    width = projection or H
    gates: list[T | None] = [weight(H, WIDTH) for _ in range(4)] + [weight(H, width) for _ in range(4)]
    holes: list[T | None] = [weight(H) if peepholes else None for _ in range(3)]
    biases: list[T | None] = [constant(numbers(rng, H)) for _ in range(4)]
    if coupled:
        gates[0] = gates[4] = holes[0] = biases[0] = None
    return [*gates, *holes, *biases, weight(projection, H) if projection else None, None]


def check_steps(op: str, inputs: list[T | None], options: str, outputs: int = 1, **fields: Any) -> None:
    pytest.importorskip("ai_edge_litert")
    x = numbers(np.random.default_rng(3), *((S, B, WIDTH) if fields["TimeMajor"] else (B, S, WIDTH)))
    names: dict[str, Any] = {"x": T(x.shape), **{f"i{i}": tensor for i, tensor in enumerate(inputs)}}
    output: Any = [T(()) for _ in range(outputs)] if outputs > 1 else T(())
    model = one_op(op, names, output, options, **fields)
    built = dynq.from_tflite(model, numerics="tflite")
    for got, want in zip(built.run({"x": x}).values(), litert(model, [x]), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("asymmetric", [False, True])
@pytest.mark.parametrize(
    ("coupled", "peepholes", "projection"),
    [(False, False, None), (True, False, None), (False, True, None), (True, True, None), (False, False, 5)],
)
def test_lstm(coupled: bool, peepholes: bool, projection: int | None, asymmetric: bool) -> None:
    states = [T((B, projection or H), variable=True), T((B, H), variable=True)]
    inputs = [*lstm(np.random.default_rng(0), coupled, peepholes, projection), *states, None, None, None, None]
    fields = {"FusedActivationFunction": 4, "AsymmetricQuantizeInputs": asymmetric, "TimeMajor": asymmetric}
    check_steps("UNIDIRECTIONAL_SEQUENCE_LSTM", inputs, "UnidirectionalSequenceLSTMOptions", **fields)


def test_lstm_in_two_directions() -> None:
    rng = np.random.default_rng(0)
    both = [*lstm(rng, False, False, None), *lstm(rng, False, False, None)]
    inputs = [*both, *(T((B, H), variable=True) for _ in range(4)), *[None] * 9]
    fields = {"FusedActivationFunction": 4, "TimeMajor": False}
    check_steps("BIDIRECTIONAL_SEQUENCE_LSTM", inputs, "BidirectionalSequenceLSTMOptions", 2, **fields)


def test_rnn() -> None:
    rng = np.random.default_rng(0)
    weights = [constant(integers(rng, H, width), scale=[0.01]) for width in (WIDTH, H)]
    inputs = [*weights, constant(numbers(rng, H)), T((B, H), variable=True)]
    check_steps(
        "UNIDIRECTIONAL_SEQUENCE_RNN", inputs, "SequenceRNNOptions", FusedActivationFunction=1, TimeMajor=False,
        AsymmetricQuantizeInputs=True,
    )  # fmt: skip


# ---- The op for inputs


def by_the_rule(x: np.ndarray, symmetric: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return what docs/numerics.md says of dynq.QuantizeRows."""
    lo, hi = np.minimum(0, x.min(-1)), np.maximum(0, x.max(-1))
    if symmetric:
        most = np.maximum(-lo, hi)
        scale, inverse, zero = most / F(127), F(127) / most, np.zeros_like(lo)
    else:
        scale = (hi - lo) / F(255)
        a, b, inverse = lo / scale, hi / scale, F(1) / scale
        zero = np.where(F(128) + abs(a) < F(127) + abs(b), F(-128) - a, F(127) - b)
        zero = np.clip(np.trunc(zero.astype(float) + np.copysign(0.5, zero)), -128, 127).astype(F)
    value = (x * inverse[..., None]).astype(float)
    q = np.clip(np.trunc(value + np.copysign(0.5, value)) + zero[..., None], -127 if symmetric else -128, 127)
    return q.astype(np.int8), scale, zero.astype(np.int8)


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 2**32), st.booleans(), st.integers(1, 70))
@example(0, True, 2)
def test_rows_become_int8_by_the_rule(seed: int, symmetric: bool, k: int) -> None:
    x = numbers(np.random.default_rng(seed), 3, 4, k)
    scheme = "symmetric" if symmetric else "asymmetric"
    for got, want in zip(
        run_op("dynq.QuantizeRows", x, outputs=3, scheme=scheme), by_the_rule(x, symmetric), strict=True
    ):
        assert got.dtype == want.dtype
        np.testing.assert_array_equal(got, want)


def test_rows_of_nothing_take_no_time() -> None:
    g = dynq.Graph()
    q, *_ = g.node("dynq.QuantizeRows", [g.input("x", ("n", 0))], ["q"])
    g.output(q, "q")
    assert g.build()(np.zeros((1 << 40, 0), F)).shape == (1 << 40, 0)


def test_halves_go_away_from_zero_and_rows_of_zeros_have_the_scale_1() -> None:
    x = np.array([[127, 0.5, -0.5, 1.5, np.nextafter(F(0.5), F(0))], [0, 0, 0, 0, 0]], F)
    q, scale, zero_point = run_op("dynq.QuantizeRows", x, outputs=3, scheme="symmetric")
    assert q.tolist() == [[127, 1, -1, 2, 0], [0] * 5] and scale.tolist() == [1, 1] and not zero_point.any()
    row = np.array([-16, 239, 12.5, -0.5], F)  # its steps are 1: the zero-point is added behind the rounding
    q, scale, zero_point = run_op("dynq.QuantizeRows", row, outputs=3)
    assert q.tolist() == [-128, 127, -99, -113] and scale == 1 and zero_point == -112


def test_a_row_that_is_not_finite_gives_nan() -> None:
    rng = np.random.default_rng(0)
    x = numbers(rng, 2, 10)
    x[1, 3] = np.inf
    inputs = {"x": T((2, 10)), "w": constant(integers(rng, 5, 10), scale=[0.01]), "b": None}
    model = dynq.from_tflite(one_op("FULLY_CONNECTED", inputs, T(()), "FullyConnectedOptions"), numerics="tflite")
    y = model(x)
    assert np.isfinite(y[0]).all() and np.isnan(y[1]).all()


# ---- What is refused, and dynq's own numerics


def test_dynq_computes_by_its_own_numerics_unless_it_is_asked() -> None:
    rng = np.random.default_rng(0)
    inputs = {"x": T((2, 10)), "w": constant(integers(rng, 5, 10), scale=[0.01]), "b": None}
    model = one_op("FULLY_CONNECTED", inputs, T(()), "FullyConnectedOptions")
    (row,) = dynq.from_tflite(model).report().rows
    assert row.why == "its weight is int8"
    assert [op for _, op in dynq.from_tflite(model).nodes] == ["dynq.Linear"]
    with pytest.raises(ValueError, match="numerics is 'lite'; expected 'dynq' or 'tflite'"):
        dynq.from_tflite(model, numerics="lite")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("op", "weight", "text"),
    [
        ("FULLY_CONNECTED", constant(np.ones((5, 10), np.uint8), scale=[0.01], zero_point=[128]), "with UINT8 weights"),
        ("FULLY_CONNECTED", constant(np.ones((5, 10), np.int8), scale=[0.01], zero_point=[3]), "that has zero-points"),
        ("DEPTHWISE_CONV_2D", constant(np.ones((1, 2, 2, 10), np.int8), scale=[0.01], axis=3), "with one scale"),
        ("CONV_2D", constant(np.ones((4, 2, 2, 5), np.int8), scale=[0.01]), "CONV_2D in groups with one scale"),
        ("BATCH_MATMUL", constant(np.ones((10, 4), np.int8), scale=[0.01]), "BATCH_MATMUL of int8 weights"),
    ],
)
def test_what_the_kernels_do_not_define_is_refused(op: str, weight: T, text: str) -> None:
    options = {
        "FULLY_CONNECTED": ("FullyConnectedOptions", {}),
        "BATCH_MATMUL": ("BatchMatMulOptions", {}),
        "CONV_2D": ("Conv2DOptions", {"StrideH": 1, "StrideW": 1}),
        "DEPTHWISE_CONV_2D": ("DepthwiseConv2DOptions", {"StrideH": 1, "StrideW": 1, "DepthMultiplier": 1}),
    }
    kind, fields = options[op]
    x = T((1, 4, 4, 10)) if "CONV" in op else T((2, 10))
    model = one_op(op, {"x": x, "w": weight, "b": None}, T(()), kind, **fields)
    with pytest.raises(dynq.UnsupportedModelError, match=text):
        dynq.from_tflite(model, numerics="tflite")


def test_the_command_takes_the_option(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    tensors = {"x": T((2, 10)), "w": constant(integers(rng, 5, 10), scale=[0.01]), "y": T(())}
    model = write(Graph(tensors, [Op("FULLY_CONNECTED", "x w -", "y", "FullyConnectedOptions")], "x", "y"))
    (tmp_path / "m.tflite").write_bytes(model)
    arguments = ["quantize", str(tmp_path / "m.tflite"), "-o", str(tmp_path / "m.dynq"), "--numerics", "tflite"]
    done = CliRunner().invoke(cli, arguments)
    assert done.exit_code == 0, done.output
    x = numbers(rng, 2, 10)
    assert np.array_equal(dynq.load(tmp_path / "m.dynq")(x), dynq.from_tflite(model, numerics="tflite")(x))
    (tmp_path / "m.onnx").write_bytes(b"")
    arguments[1] = str(tmp_path / "m.onnx")
    assert "--numerics tflite is for .tflite files" in CliRunner().invoke(cli, arguments).output
