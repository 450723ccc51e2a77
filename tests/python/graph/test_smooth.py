"""SmoothQuant and scales of groups: layers whose inputs have outliers gain, and the report says what was done."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import dynq

Array = np.ndarray[Any, Any]
WIDTH = 64


def weight(rng: np.random.Generator, n: int, k: int, quiet: Array | None = None) -> Array:
    """``quiet`` columns are small: a model that was trained with outliers there."""
    w = rng.standard_normal((n, k), np.float32) / np.float32(np.sqrt(k))
    if quiet is not None:
        w[:, quiet] /= 50
    return w


def block(norm_first: bool = True, outliers: bool = True) -> tuple[dynq.Graph, Any, list[Array]]:
    """A transformer block whose layer norm has three channels of 50 times the others' size; samples for it."""
    rng = np.random.default_rng(0)
    g = dynq.Graph("block")
    x: Any = g.input("x", ("batch", "time", WIDTH))
    loud = rng.permutation(WIDTH)[:3] if outliers else np.zeros(0, np.int64)
    scale, bias = np.ones(WIDTH, np.float32), np.zeros(WIDTH, np.float32)
    scale[loud] = 50
    quiet = loud if outliers else None
    h = g.layer_norm(x, scale, bias, name="norm")
    q, k = (g.linear(h, weight(rng, WIDTH, WIDTH, quiet), name=n) for n in "qk")
    v = g.linear(h, weight(rng, WIDTH, WIDTH, quiet), rng.standard_normal(WIDTH, np.float32), name="v")
    attended = g.attention(q, k, v, heads=4)
    y = g.linear(attended, weight(rng, WIDTH, WIDTH), residual=x if norm_first else h, name="o")
    m = g.linear(
        g.layer_norm(y, scale, bias, name="norm2"), weight(rng, 256, WIDTH, quiet), activation="relu", name="up"
    )
    out = g.linear(m, weight(rng, WIDTH, 256), residual=y, name="down")
    return g, out, [rng.standard_normal((2, 20, WIDTH), np.float32) for _ in range(3)]


def sqnr(model: dynq.Model, g: dynq.Graph, out: Any, x: Array) -> float:
    expected = g.build(out, quantize=False)(x).astype(np.float64)
    return float(10 * np.log10((expected**2).mean() / ((model(x) - expected) ** 2).mean()))


def why(model: dynq.Model) -> dict[str, str]:
    return {row.node: row.why.partition("; smoothed")[2] for row in model.report().rows}


def fresh() -> Array:
    return np.random.default_rng(7).standard_normal((4, 30, WIDTH), np.float32)


def test_layers_behind_a_norm_with_outliers_gain_and_nothing_is_added() -> None:
    g, out, samples = block()
    plain, smooth = g.build(out), g.build(out, smooth=samples)
    assert sqnr(smooth, g, out, fresh()) > sqnr(plain, g, out, fresh()) + 10
    said = why(smooth)
    assert said["q"].endswith("in norm; one product for q, k, v") and said["up"].endswith("in norm2")
    assert smooth.nodes == plain.nodes


def test_groups_gain_too() -> None:
    g, out, _ = block()
    assert sqnr(g.build(out, group_size=32), g, out, fresh()) > sqnr(g.build(out), g, out, fresh()) + 1.5


def test_where_the_norm_has_other_readers_a_mul_is_added_and_said() -> None:
    g, out, samples = block(norm_first=False)
    plain, smooth = g.build(out), g.build(out, smooth=samples)
    assert sqnr(smooth, g, out, fresh()) > sqnr(plain, g, out, fresh()) + 10
    assert "by a Mul before it" in why(smooth)["q"]
    assert [op for _, op in smooth.nodes].count("Mul") == 1


def test_without_outliers_nothing_happens() -> None:
    g, out, samples = block(outliers=False)
    smooth = g.build(out, smooth=samples)
    assert set(why(smooth).values()) == {""}
    x = fresh()
    np.testing.assert_array_equal(smooth(x), g.build(out)(x))


@pytest.mark.parametrize("activation", [None, "relu"])
def test_linear_layers_and_values_of_attention_take_the_division_in(activation: str | None) -> None:
    """The float model stays the same but for rounding: the weights that are quantized are those of a smoothed one."""
    rng = np.random.default_rng(3)
    g = dynq.Graph()
    loud = weight(rng, 96, 32) * np.where(np.arange(96) % 32 == 5, 100, 1).astype(np.float32)[:, None]
    quiet = weight(rng, 40, 96) / np.where(np.arange(96) % 32 == 5, 100, 1).astype(np.float32)
    h = g.linear(g.input("x", ("n", 32)), loud, np.ones(96, np.float32), activation=activation, name="first")
    y = g.linear(h, quiet, name="second")
    samples = [rng.standard_normal((50, 32), np.float32)]
    model = g.build(y, smooth=samples, default="int8")
    assert why(model)["second"].endswith("in first") and len(model.nodes) == 2
    assert sqnr(model, g, y, samples[0]) > sqnr(g.build(y, default="int8"), g, y, samples[0]) + 5

    g = dynq.Graph()
    x = g.input("x", (1, "n", 32))
    q, k = (g.linear(x, weight(rng, 96, 32), name=n) for n in "qk")
    attended = g.attention(q, k, g.linear(x, loud, name="v"), heads=3)
    y = g.linear(attended, quiet, name="o")
    samples = [rng.standard_normal((1, 50, 32), np.float32)]
    model = g.build(y, smooth=samples, default="int8")
    assert why(model)["o"].endswith("in v")
    assert sqnr(model, g, y, samples[0]) > sqnr(g.build(y, default="int8"), g, y, samples[0]) + 5


def test_a_float_layer_is_left_alone_and_quantize_false_means_no_smoothing() -> None:
    g, out, samples = block()
    assert why(g.build(out, smooth=samples, keep_float=["up"]))["up"] == ""
    x = fresh()
    np.testing.assert_array_equal(g.build(out, quantize=False, smooth=samples)(x), g.build(out, quantize=False)(x))


def test_a_given_alpha_is_taken() -> None:
    g, out, samples = block()
    assert "alpha 0.65" in why(g.build(out, smooth=samples, smooth_alpha=0.65))["up"]


def test_weights_that_layers_share_are_not_changed_for_the_others() -> None:
    rng = np.random.default_rng(5)
    g = dynq.Graph()
    x = g.input("x", ("n", WIDTH))
    scale = np.ones(WIDTH, np.float32)
    scale[7] = 50
    w = g.constant(weight(rng, WIDTH, WIDTH, np.array([7])), "shared")
    a = g.linear(g.layer_norm(x, scale, np.zeros(WIDTH, np.float32), name="norm"), w, name="a")
    b = g.linear(x, w, name="b")
    samples = [rng.standard_normal((40, WIDTH), np.float32)]
    model = g.build({"a": a, "b": b}, smooth=samples, default="int8")
    assert why(model)["a"] and not why(model)["b"]
    floats = g.build({"a": a, "b": b}, quantize=False)(samples[0])
    for got, expected in zip(model(samples[0]), floats, strict=True):
        assert np.abs(got - expected).max() < 0.05 * np.abs(expected).max()


def test_wrong_arguments_are_refused() -> None:
    g, out, samples = block()
    with pytest.raises(ValueError, match="samples is empty"):
        g.build(out, smooth=[])
    with pytest.raises(ValueError, match="smooth_alpha is 2"):
        g.build(out, smooth=samples, smooth_alpha=2)
    with pytest.raises(ValueError, match="shape"):
        g.build(out, smooth=[np.zeros((2, 3, 5), np.float32)])
    with pytest.raises(ValueError, match="smooth: samples have no values in tensor"):
        g.build(out, smooth=[samples[0][:0]])
