"""Linear layers with 16-bit inputs, scales of groups and fixed ranges: the bits of an independent NumPy reference."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import dynq
from tests.python.references.one_op import one_op
from tests.python.references.reference import F, bits, one_nan

Array = np.ndarray[Any, Any]
RNG = np.random.default_rng(0)
SHAPES = [(1, 1, 1), (1, 40, 33), (3, 17, 100), (7, 64, 256), (33, 150, 257), (130, 20, 384), (2, 600, 70), (2, 3, 0)]


def qparams(lo: np.float32, hi: np.float32, scheme: str, steps: int) -> tuple[np.float32, int]:
    """Scale, and zero-point from 0 on, of 2**8 - 1 or 2**16 - 1 steps."""
    if scheme == "symmetric":
        scale = F(max(-lo, hi)) / F(steps // 2)
        return (scale if scale != 0 else F(1)), steps // 2 + 1
    width = hi - lo
    scale = width / F(steps) if np.isfinite(width) else hi / F(steps) - lo / F(steps)
    scale = scale if scale != 0 else F(1)
    return scale, int(np.clip(np.rint(-lo / scale), 0, steps))


def linear(x: Array, qw: dynq.QuantizedWeight, bias: Array | None = None, **how: Any) -> Array:
    """float32 (M, N), written from docs/numerics.md."""
    scheme, steps = how.get("scheme", "asymmetric"), 2 ** how.get("bits", 8) - 1
    w, w_scale = qw.integers().astype(np.int64), qw.scale.astype(F)
    m, k = x.shape
    group = how.get("group") or max(k, 1)
    y = np.empty((m, len(w)), F)
    with np.errstate(all="ignore"):
        for i in range(m):
            row = None
            for begin in range(0, max(k, 1), group):
                part = x[i, begin : begin + group]
                seen = x if how.get("granularity") == "tensor" else part
                lo, hi = how.get("lo", F(min(0, seen.min(initial=0)))), how.get("hi", F(max(0, seen.max(initial=0))))
                if not np.isfinite(seen).all():
                    product = np.full(len(w), np.nan, F)
                else:
                    scale, zero = qparams(F(lo), F(hi), scheme, steps)
                    q = np.clip(np.rint(part / scale) + zero, 1 if scheme == "symmetric" else 0, steps)
                    acc = (q.astype(np.int64) - zero) @ w[:, begin : begin + group].T
                    product = acc.astype(F) * (scale * w_scale)
                row = product if row is None else row + product
            y[i] = row
        return one_nan(y if bias is None else y + bias)


def ours(x: Array, qw: dynq.QuantizedWeight, bias: Array | None = None, **how: Any) -> Array:
    return one_op("dynq.Linear", x, qw, bias, constants=(2,), **how)(x)


def data(m: int, n: int, k: int) -> tuple[Array, dynq.QuantizedWeight, Array]:
    x = RNG.standard_normal((m, k), F) * F(10) ** RNG.integers(-2, 3, (m, k)).astype(F)
    return x, dynq.quantize_weight(RNG.standard_normal((n, k), F)), RNG.standard_normal(n, F)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("scheme", ["asymmetric", "symmetric"])
@pytest.mark.parametrize(
    "how",
    [
        {"bits": 16}, {"bits": 16, "granularity": "tensor"}, {"group": 32}, {"group": 64}, {"group": 256},
        {"group": 32, "bits": 16}, {"lo": -3.0, "hi": 20.0}, {"lo": -0.5, "hi": 2.0, "bits": 16},
        {"lo": 0.0, "hi": 0.0},
    ],
    ids=str,
)  # fmt: skip
def test_bits_of_the_reference(shape: tuple[int, int, int], scheme: str, how: dict[str, Any]) -> None:
    x, qw, bias = data(*shape)
    expected = linear(x, qw, bias, scheme=scheme, **how)
    for threads in (1, 2):
        for isa in dynq.isa.supported():
            with dynq.isa.use(isa):
                before = dynq.get_num_threads()
                dynq.set_num_threads(threads)
                got = ours(x, qw, bias, scheme=scheme, **how)
                dynq.set_num_threads(before)
            np.testing.assert_array_equal(bits(got), bits(expected), f"{isa}, {threads} threads")


@pytest.mark.parametrize("how", [{"bits": 16}, {"group": 32}, {"lo": -4.0, "hi": 4.0}], ids=str)
def test_extremes(how: dict[str, Any]) -> None:
    """Ends of float32, denormals, zeros, halves; what lies outside a fixed range is clamped."""
    x = RNG.standard_normal((9, 96), F)
    x[0] *= F(3e38) / np.abs(x[0]).max()
    x[1] *= F(1e-40)
    x[2] = 0
    x[3] = np.arange(96, dtype=F) + F(0.5)
    x[4, 5], x[5, 7], x[6, 70] = F(3.4e38), F(-3.4e38), F(1e30)
    qw = dynq.quantize_weight(RNG.standard_normal((20, 96), F))
    np.testing.assert_array_equal(bits(ours(x, qw, **how)), bits(linear(x, qw, **how)))


@pytest.mark.parametrize("how", [{"bits": 16}, {"group": 32}, {"lo": -4.0, "hi": 4.0}], ids=str)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_row_that_is_not_finite_is_nan_and_reported(how: dict[str, Any], value: float) -> None:
    x, qw, _ = data(20, 70, 100)
    x[3, 99] = value
    model = one_op("dynq.Linear", x, qw, **how)
    y = model(x)
    assert np.isnan(y[3]).all() and np.isfinite(np.delete(y, 3, 0)).all()
    with pytest.raises(dynq.NonFiniteError):
        model.run({model.inputs[0].name: x}, nonfinite="raise")


def test_a_group_that_holds_the_whole_row_and_a_range_that_is_the_row_s_own_change_nothing() -> None:
    x, qw, bias = data(1, 40, 90)
    plain = ours(x, qw, bias)
    lo, hi = (float(end[0]) for end in dynq.minmax(x))
    np.testing.assert_array_equal(plain, ours(x, qw, bias, group=96))
    np.testing.assert_array_equal(plain, ours(x, qw, bias, lo=lo, hi=hi))


@pytest.mark.parametrize("how", [{"bits": 16}, {"group": 64}, {"lo": -9.0, "hi": 9.0}], ids=str)
def test_a_row_does_not_depend_on_its_batch(how: dict[str, Any]) -> None:
    x, qw, _ = data(70, 90, 300)
    together = ours(x, qw, **how)
    for i in (0, 33, 69):
        np.testing.assert_array_equal(ours(x[i : i + 1], qw, **how)[0], together[i])


def test_a_k_beyond_int32_is_exact_in_16_bits() -> None:
    k = 70000
    x = np.ones((2, k), F)
    x[1] = -1
    qw = dynq.quantize_weight(np.ones((17, k), F))
    np.testing.assert_array_equal(bits(ours(x, qw, bits=16)), bits(linear(x, qw, bits=16)))


def test_16_bits_and_groups_gain_where_a_channel_is_an_outlier() -> None:
    x = RNG.standard_normal((50, 256), F)
    x[:, 9] *= 100
    w = RNG.standard_normal((64, 256), F) / F(16)
    w[:, 9] /= 100
    qw = dynq.quantize_weight(w)
    exact = x.astype(np.float64) @ qw.dequantize().astype(np.float64).T

    def snr(**how: Any) -> float:
        return float(10 * np.log10((exact**2).mean() / ((ours(x, qw, **how) - exact) ** 2).mean()))

    assert snr(group=32) > snr(group=64) + 1 > snr() + 5
    assert snr(bits=16) > snr() + 40


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"bits": 12}, "bits is 12"), ({"group": 48}, "group is 48"), ({"group": 512}, "group is 512"),
        ({"group": -32}, "group is -32"), ({"group": 32, "granularity": "tensor"}, "granularity tensor"),
        ({"group": 32, "lo": 0.0, "hi": 1.0}, "lo and hi"), ({"lo": 1.0, "hi": 2.0}, "lo is 1"),
        ({"lo": -1.0}, "both or neither"), ({"lo": -float("inf"), "hi": 1.0}, "lo is -inf"),
        ({"lo": float("nan"), "hi": 1.0}, "lo is nan"),
    ],
)  # fmt: skip
def test_wrong_attributes_are_refused(how: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        ours(*data(2, 3, 40), **how)


def test_weights_with_zero_points_take_8_bits_and_one_scale() -> None:
    qw = dynq.QuantizedWeight.from_integers(np.ones((3, 40), np.int8), np.ones(3, F), np.full(3, 5, np.int32))
    x = np.ones((2, 40), F)
    assert ours(x, qw, lo=0.0, hi=1.0).shape == (2, 3)
    for how in ({"bits": 16}, {"group": 32}):
        with pytest.raises(ValueError, match="zero-points"):
            ours(x, qw, **how)


@pytest.mark.parametrize("scheme", ["asymmetric", "symmetric"])
@pytest.mark.parametrize("granularity", ["row", "image"])
def test_a_convolution_with_a_fixed_range_is_a_linear_layer_with_it(scheme: str, granularity: str) -> None:
    x, w, bias = RNG.standard_normal((2, 12, 30), F), RNG.standard_normal((40, 12, 3), F), RNG.standard_normal(40, F)
    qw = dynq.quantize_weight(w.transpose(0, 2, 1).reshape(40, 36))  # the kernel's places, at each the channels
    how: dict[str, Any] = {"scheme": scheme, "lo": -1.0, "hi": 2.5}
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1)))
    positions = np.stack([padded[:, :, t : t + 30] for t in range(3)], 2).transpose(0, 3, 2, 1).reshape(60, 36)
    expected = linear(positions, qw, bias, **how).reshape(2, 30, 40).transpose(0, 2, 1)
    model = one_op(
        "dynq.Conv", x, qw, bias, constants=(2,), kernel_shape=[3], pads=[1, 1], granularity=granularity, **how
    )
    np.testing.assert_array_equal(bits(model(x)), bits(expected))
    x[1, 3, 7] = np.nan
    assert np.array_equal(np.isnan(model(x)).any((0, 1)), np.isin(np.arange(30), [6, 7, 8]))


# ---- Graph.build ----


def network() -> tuple[dynq.Graph, Any, Array]:
    """x (n, 64) -> hidden -> out, and a first layer that stays float."""
    g = dynq.Graph("network")
    x = g.input("x", ("n", 8))
    h = g.node("Erf", [g.linear(x, RNG.standard_normal((64, 8), F), name="first")], name="Erf")
    h = g.linear(h, RNG.standard_normal((96, 64), F), activation="relu", name="block.hidden")
    return g, g.linear(h, RNG.standard_normal((10, 96), F), name="block.out"), RNG.standard_normal((5, 8), F)


def attributes(model: dynq.Model) -> dict[str, dict[str, Any]]:
    kept = ("bits", "group", "lo", "hi")
    return {n.name: {k: v for k, v in n.attributes.items() if k in kept} for n in model.graph().nodes}


def became(model: dynq.Model) -> dict[str, str]:
    return {row.node: row.became for row in model.report().rows}


def test_build_sets_what_it_is_told_and_the_report_says_it() -> None:
    g, y, x = network()
    model = g.build(y, int16=["block.o*"], group_size={"block.hidden": 32})
    assert attributes(model) == {"first": {}, "Erf": {}, "block.hidden": {"group": 32}, "block.out": {"bits": 16}}
    assert became(model)["block.out"] == "int8 linear, 16-bit activations"
    assert became(model)["block.hidden"] == "int8 linear, scales of 32"
    fixed = g.build(y, ranges={"block.*": (0.5, 3)})
    assert became(fixed)["block.out"] == "int8 linear, fixed range 0 to 3"
    assert attributes(fixed)["block.out"] == {"lo": 0.0, "hi": 3.0}
    assert model(x).shape == fixed(x).shape == (5, 10)


def test_group_size_is_of_all_layers_and_16_bits_go_with_it() -> None:
    g, y, _ = network()
    found = attributes(g.build(y, group_size=64, int16="block.out"))
    assert found["block.hidden"] == {"group": 64} and found["block.out"] == {"bits": 16, "group": 64}


def test_a_name_overrules_first_layer_and_a_pattern_does_not() -> None:
    g, y, _ = network()
    assert became(g.build(y, int16=["*"], first_layer="float"))["first"] == "float linear"
    assert became(g.build(y, int16=["first"], first_layer="float"))["first"] == "int8 linear, 16-bit activations"
    assert became(g.build(y, int16=["first"], keep_float=["first"]))["first"] == "float linear"


def test_the_name_of_a_recurrent_layer_names_its_projection() -> None:
    g = dynq.Graph()
    w, r = (RNG.standard_normal((1, 4 * 32, k), F) for k in (16, 32))
    h, _, _ = g.lstm(g.input("x", ("time", 1, 16)), w, r, name="lstm")
    model = g.build(h, int16=["lstm"])
    assert became(model)["lstm.projection"] == "int8 linear, 16-bit activations"
    assert became(model)["lstm"] == "int8 LSTM"


def test_a_convolution_takes_a_fixed_range_alone() -> None:
    g = dynq.Graph()
    x = g.node("Erf", [g.input("x", ("n", 16, 50))])
    y = g.conv(x, RNG.standard_normal((32, 16, 3), F), name="conv")
    model = g.build(y, ranges={"conv": (-1, 1)})
    assert became(model)["conv"] == "int8 conv, fixed range -1 to 1"
    assert attributes(model)["conv"] == {"lo": -1.0, "hi": 1.0}
    assert "lo" not in attributes(g.build(y, ranges={"conv": (-1, 1)}, keep_float=["conv"]))["conv"]
    for options in ({"int16": ["conv"]}, {"group_size": {"conv": 32}}):
        with pytest.raises(ValueError, match="'conv', a node of the kind Conv; expected linear layers"):
            g.build(y, **options)  # type: ignore[arg-type]


def test_siblings_with_different_options_stay_apart() -> None:
    g = dynq.Graph()
    x = g.node("Tanh", [g.input("x", ("n", 64))])
    a, b, c = (g.linear(x, RNG.standard_normal((16, 64), F), name=name) for name in "abc")
    model = g.build({"a": a, "b": b, "c": c}, int16=["b"])
    assert became(model)["b"] == "int8 linear, 16-bit activations"
    assert "one product for a, c" in next(row.why for row in model.report().rows if row.node == "a")


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"int16": ["nobody"]}, ValueError, "int16 has 'nobody'"),
        ({"int16": ["Erf"]}, ValueError, "int16 has 'Erf', a node of the kind Erf"),
        ({"int16": [3]}, TypeError, "int16 has 3"),
        ({"group_size": 48}, ValueError, "group_size is 48"),
        ({"group_size": 512}, ValueError, "group_size is 512"),
        ({"group_size": True}, TypeError, "group_size is True"),
        ({"group_size": {"block.out": 1.5}}, TypeError, "group_size.'block.out'. is 1.5"),
        ({"group_size": {"nobody": 32}}, ValueError, "group_size has 'nobody'"),
        ({"group_size": 32, "granularity": "tensor"}, ValueError, "groups are parts of a row"),
        ({"group_size": 32, "ranges": {"block.out": (0, 1)}}, ValueError, "'block.out'.*choose one"),
        ({"ranges": {"nobody": (0, 1)}}, ValueError, "ranges has 'nobody'"),
        ({"ranges": {"block.out": (2, 1)}}, ValueError, "ranges.'block.out'. is .2, 1."),
        ({"ranges": {"block.out": (0, float("nan"))}}, ValueError, "finite"),
        ({"ranges": {"block.out": (0, 1e300)}}, ValueError, "finite"),
        ({"ranges": {"block.out": 3}}, TypeError, "two numbers"),
        ({"ranges": {"block.out": ("a", "b")}}, TypeError, "two numbers"),
        ({"ranges": [1]}, TypeError, "ranges is of type list"),
    ],
)
def test_wrong_arguments_are_named(options: dict[str, Any], error: type[Exception], words: str) -> None:
    g, y, _ = network()
    with pytest.raises(error, match=words):
        g.build(y, **options)
