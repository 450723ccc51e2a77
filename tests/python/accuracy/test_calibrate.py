"""Static quantization: fixed ranges found in samples, by four methods, through the same kernels."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest

import dynq
from dynq.accuracy.histogram import Histogram

Array = np.ndarray[Any, Any]
RNG = np.random.default_rng(0)
METHODS = ["minmax", "percentile", "entropy", "mse"]


def weight(n: int, k: int) -> Array:
    return RNG.standard_normal((n, k), np.float32) / np.float32(np.sqrt(k))


HIDDEN, OUT = weight(96, 64), weight(80, 96)


def network(**options: Any) -> dynq.Model:
    """x (n, 64) -> hidden (relu) -> out."""
    g = dynq.Graph("network")
    h = g.linear(g.input("x", ("n", 64)), HIDDEN, activation="relu", name="hidden")
    return g.build({"y": g.linear(h, OUT, name="out")}, first_layer="int8", **options)


def ranges(model: dynq.Model) -> dict[str, tuple[float, float]]:
    found = {n.name: (n.attributes.get("lo"), n.attributes.get("hi")) for n in model.graph().nodes}
    return {name: ends for name, ends in found.items() if ends[0] is not None}  # type: ignore[misc]


def samples(count: int = 4, scale: float = 1.0) -> list[Array]:
    return [RNG.standard_normal((50, 64), np.float32) * np.float32(scale) for _ in range(count)]


def error(model: dynq.Model, expected: dynq.Model, x: Array) -> float:
    """Squared, relative."""
    y = expected(x).astype(np.float64)
    return float(((model(x) - y) ** 2).mean() / (y**2).mean())


def test_minmax_is_the_range_of_all_samples_and_0() -> None:
    model, given = network(), samples()
    fixed = dynq.calibrate(model, given)
    x = np.concatenate(given)
    assert ranges(fixed)["hidden"] == (float(x.min()), float(x.max()))
    hidden = np.concatenate([model.tensors({"x": part}, ["hidden"])["hidden"] for part in given])
    assert ranges(fixed)["out"] == (0.0, float(hidden.max()))
    assert ranges(model) == {}  # it stays as it is


def test_the_result_is_what_build_makes_of_these_ranges() -> None:
    g = dynq.Graph()
    h = g.linear(g.input("x", ("n", 64)), weight(96, 64), name="a")
    y = g.linear(h, weight(16, 96), name="b")
    given = samples()
    fixed = dynq.calibrate(g.build(y, first_layer="int8"), given)
    again = g.build(y, ranges=ranges(fixed))
    np.testing.assert_array_equal(fixed(given[0]), again(given[0]))
    assert [row.became for row in fixed.report().rows] == [row.became for row in again.report().rows]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "options", [{}, {"scheme": "symmetric"}, {"int16": ["out"]}, {"granularity": "tensor"}], ids=str
)
def test_a_calibrated_model_is_near_the_float_one_on_such_data_and_not_far_from_it(
    method: str, options: dict[str, Any]
) -> None:
    model, floating = network(**options), network(quantize=False)
    fixed = dynq.calibrate(model, samples(), method)
    (x,), (far,) = samples(1), samples(1, 100.0)
    assert error(fixed, floating, x) < 0.01
    assert error(fixed, floating, far) > 0.5 > 0.01 > error(model, floating, far)


def test_outliers_are_left_out_by_percentile_and_entropy() -> None:
    model, given = network(), samples(20)
    given[0][0, 0] = 1000
    found = {method: ranges(dynq.calibrate(model, given, method))["hidden"] for method in METHODS}
    assert found["minmax"][1] == 1000
    assert found["percentile"][1] < 10 and found["entropy"][1] < 100
    cut = ranges(dynq.calibrate(model, given, "percentile", percentile=99.0))["hidden"]
    x = np.concatenate(given)
    np.testing.assert_allclose(cut, np.quantile(x, [0.005, 0.995]), atol=0.3)
    assert ranges(dynq.calibrate(model, given, "percentile", percentile=100))["hidden"] == found["minmax"]


def test_mse_is_the_least_error_of_clamping_and_rounding() -> None:
    """Against a search on the values themselves."""
    x = RNG.laplace(size=100000).astype(np.float32)
    g = dynq.Graph()
    model = g.build(g.linear(g.input("x", ("n", 40)), weight(8, 40), name="layer"), first_layer="int8")

    def cost(lo: float, hi: float) -> float:
        scale = (hi - lo) / 255
        return float(((np.clip(np.rint(x / scale), np.rint(lo / scale), np.rint(hi / scale)) * scale - x) ** 2).mean())

    best = min(cost(a * x.min(), b * x.max()) for a in np.linspace(0.5, 1, 20) for b in np.linspace(0.5, 1, 20))
    lo, hi = ranges(dynq.calibrate(model, [x.reshape(-1, 40)], "mse"))["layer"]
    assert cost(lo, hi) < 1.02 * best < cost(float(x.min()), float(x.max()))


def test_a_histogram_counts_what_comes_whatever_its_size() -> None:
    h = Histogram()
    parts = [RNG.standard_normal(1000) * scale for scale in (1e-3, 1e3, 1.0)] + [np.zeros(7)]
    for part in parts:
        h.add(part.astype(np.float32))
    x = np.concatenate(parts).astype(np.float32)
    assert (h.lo, h.hi, h.zeros) == (float(x.min()), float(x.max()), 7)
    assert h.counts.sum() == 3000
    np.testing.assert_array_equal(h.counts, np.histogram(x[x != 0].astype(np.float64), h.edges)[0])


def test_convolutions_and_projections_are_calibrated_and_the_rest_stays_dynamic() -> None:
    g = dynq.Graph()
    h = g.relu(g.conv(g.input("x", (1, 16, 20)), RNG.standard_normal((32, 16, 3), np.float32), name="conv"))
    w, r = (RNG.standard_normal((1, 4 * 32, k), np.float32) for k in (32, 32))
    y, _, _ = g.lstm(g.node("Transpose", [h], perm=[2, 0, 1]), w, r, name="lstm")
    fixed = dynq.calibrate(g.build(y, first_layer="int8"), [RNG.standard_normal((1, 16, 20), np.float32)])
    became = {row.node: row.became for row in fixed.report().rows}
    assert became["conv"].startswith("int8 conv, fixed range -") and ranges(fixed).keys() == {"conv", "lstm.projection"}
    assert became["lstm.projection"].startswith("int8 linear, fixed range 0 to ") and became["lstm"] == "int8 LSTM"


def test_layers_with_scales_of_groups_stay_as_they_are() -> None:
    fixed = dynq.calibrate(network(group_size={"out": 32}), samples())
    assert ranges(fixed).keys() == {"hidden"}


def test_a_calibrated_model_is_a_model(tmp_path: Any) -> None:
    model, given = network(), samples()
    fixed = dynq.calibrate(model, ({"x": x} for x in given), "mse")
    expected = fixed(given[0])
    assert not np.array_equal(expected, model(given[0]))
    fixed.save(tmp_path / "fixed.dynq")
    for other in (dynq.load(tmp_path / "fixed.dynq"), pickle.loads(pickle.dumps(fixed))):
        np.testing.assert_array_equal(other(given[0]), expected)
    assert fixed.outputs == model.outputs and fixed.inputs == model.inputs
    twice = dynq.calibrate(fixed, given)
    assert [row.became.count("fixed range") for row in twice.report().rows] == [1, 1]


def test_wrong_arguments_are_refused() -> None:
    model = network()
    with pytest.raises(ValueError, match="samples is empty"):
        dynq.calibrate(model, [])
    with pytest.raises(ValueError, match="method is 'best'; expected one of 'minmax', 'percentile', 'entropy', 'mse'"):
        dynq.calibrate(model, samples(), "best")
    with pytest.raises(ValueError, match="percentile is 20"):
        dynq.calibrate(model, samples(), "percentile", percentile=20)
    with pytest.raises(TypeError, match="model is of type str; expected"):
        dynq.calibrate("model.onnx", samples())  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="no int8 linear layer"):
        dynq.calibrate(network(quantize=False), samples())
    with pytest.raises(ValueError, match="samples have no values in tensor"):
        dynq.calibrate(model, [samples(1)[0][:0]])
    with pytest.raises(ValueError, match="sample 1"):
        dynq.calibrate(model, [*samples(1), np.zeros((3, 63), np.float32)])
    with pytest.raises(ValueError, match="NaN"):
        dynq.calibrate(model, [np.full((3, 64), np.nan, np.float32)])
