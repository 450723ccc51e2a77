"""Layers whose int8 form would spoil the outputs are found without data, get another form, and the rest stays int8."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import dynq
from dynq.choice.synthetic import synthetic

RNG = np.random.default_rng(0)
F = np.float32


def weight(n: int, k: int) -> Any:
    return RNG.standard_normal((n, k), F) / F(np.sqrt(k))


def body(g: dynq.Graph, h: Any, layers: int = 8) -> Any:
    """Add layers that bear int8 well."""
    for i in range(layers):
        h = h + g.linear(g.relu(h), weight(64, 64) * F(0.3), name=f"body{i}")
    return h


def loud_channel() -> tuple[dynq.Graph, Any]:
    """One channel of an input is a thousand times the others, which tell the answer."""
    g = dynq.Graph()
    gains = np.ones((64, 1), F)
    gains[5] = 1000
    h = g.relu(g.linear(g.input("x", ("n", 64)), weight(64, 64) * gains, name="before"))
    return g, body(g, g.linear(h, weight(64, 64) / gains.T, name="culprit"))


def front_end() -> tuple[dynq.Graph, Any]:
    """The halves of a Fourier transform of sound, the power of each frequency, bands of these, their logarithm."""
    g = dynq.Graph()
    turns = np.outer(np.arange(129), np.arange(256)) / 256
    window = np.hanning(257)[:-1]
    x = g.unsqueeze(g.input("x", ("n", "time")), 1)
    parts = [
        g.conv(x, (f(2 * np.pi * turns) * window)[:, None].astype(F), strides=128, name=name)
        for name, f in (("real", np.cos), ("imaginary", np.sin))
    ]
    power = g.transpose(parts[0] * parts[0] + parts[1] * parts[1], (0, 2, 1))
    bands = np.maximum(0, 1 - np.abs(np.arange(129) - np.geomspace(3, 120, 20)[:, None]) / 4).astype(F)
    return g, g.node("Log", [g.linear(power, bands, name="culprit") + F(1e-6)])


def hard_swish_tail() -> tuple[dynq.Graph, Any]:
    """A hard swish leaves a few large numbers beside very many small ones."""
    g = dynq.Graph()
    bias = np.full(64, -2.5, F)
    bias[:2] = 300
    h = g.node("HardSwish", [g.linear(g.input("x", ("n", 64)), weight(64, 64) * F(0.5), bias, name="before")])
    w = weight(64, 64)
    w[:, :2] /= 1000
    return g, body(g, g.linear(h, w * F(8), name="culprit"))


def gain() -> tuple[dynq.Graph, Any]:
    """Numbers grow a thousandfold before a function that is steep around 0."""
    g = dynq.Graph()
    h = g.linear(g.input("x", ("n", 64)), weight(64, 64), name="culprit")
    h = g.node("Sin", [h * F(1000)])
    return g, body(g, h)


def loud_norm() -> tuple[dynq.Graph, Any]:
    """A norm behind an embedding makes one channel loud."""
    g = dynq.Graph()
    scale = np.ones(64, F)
    scale[7] = 2000
    h = g.embedding(weight(50, 64), g.input("ids", ("n", "time"), "int64"), name="table")
    h = g.layer_norm(h, scale, np.zeros(64, F))
    w = weight(64, 64)
    w[:, 7] = 0
    return g, body(g, g.linear(h, w, name="culprit"))


CULPRITS = [loud_channel, front_end, hard_swish_tail, gain, loud_norm]


def forms(model: dynq.Model) -> dict[str, str]:
    return {row.node: row.became for row in model.report().rows if row.choice is not None}


def ratio(got: Any, expected: Any) -> float:
    return float(10 * np.log10(np.square(expected).sum() / np.square(got - expected).sum()))


@pytest.mark.parametrize("network", CULPRITS, ids=lambda network: network.__name__)
def test_a_planted_culprit_is_found_and_the_rest_stays_int8(network: Callable[[], Any]) -> None:
    g, y = network()
    model = g.build(y)
    found = {
        name for name, became in forms(model).items() if became not in ("int8 linear", "int8 conv", "int8 embedding")
    }
    assert found == {"culprit"}, model.report()
    row = next(row for row in model.report().rows if row.node == "culprit")
    assert row.choice is not None and row.choice.output is not None and row.choice.output < 30
    assert row.choice.form in [form for form, *_ in row.choice.others] and str(row.choice) in row.why

    floating, int8 = g.build(y, quantize=False), g.build(y, default="int8")
    assert forms(int8) == {}
    samples = list(synthetic(floating, 1024 if network is front_end else 16))
    gained = [ratio(model.run(s)[n], e) - ratio(int8.run(s)[n], e) for s in samples for n, e in floating.run(s).items()]
    assert np.mean(gained) > 8


def test_a_network_that_bears_int8_stays_int8() -> None:
    g = dynq.Graph()
    y = body(g, g.input("x", ("n", 64)), 3)
    rows = g.build(y).report().rows
    assert {row.became for row in rows if row.layer} == {"int8 linear"}
    assert all(row.choice is not None and row.choice.own > 30 for row in rows if row.layer)
    assert g.build(y).report() == g.build(y).report()


def test_the_choice_is_the_same_for_every_instruction_set_and_thread_count() -> None:
    g, y = loud_channel()
    images, threads = [], dynq.get_num_threads()
    try:
        for name in dynq.isa.supported():
            for count in (1, 3):
                dynq.set_num_threads(count)
                with dynq.isa.use(name):
                    images.append(bytes(g.build(y)._image))
    finally:
        dynq.set_num_threads(threads)
    assert len(set(images)) == 1


def test_options_win() -> None:
    g, y = gain()
    assert forms(g.build(y, keep_float=["culprit"])).get("culprit") is None
    assert forms(g.build(y, first_layer="int8")).get("culprit") is None
    report = {row.node: row for row in g.build(y, int16=["culprit"]).report().rows}
    assert report["culprit"].became == "int8 linear, 16-bit activations" and report["culprit"].choice is None
    report = {row.node: row for row in g.build(y, first_layer="float").report().rows}
    assert "first_layer='float'" in report["culprit"].why
    for wrong in ({"first_layer": "none"}, {"default": "float"}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            g.build(y, **wrong)  # type: ignore[arg-type]


def test_samples_are_measured_in_place_of_made_up_inputs() -> None:
    """With an input that is 0 in all channels but one, nothing is wrong with the layer that a loud channel spoils."""
    g, y = loud_channel()
    x = np.zeros((4, 64), F)
    report = g.build(y, samples=x).report()
    assert {row.became for row in report.rows if row.layer} == {"int8 linear"}
    with pytest.raises(ValueError, match="sample 0"):
        g.build(y, samples=np.zeros((4, 63), F))


def test_layers_of_one_weight_have_one_form() -> None:
    g = dynq.Graph()
    w = g.constant(weight(64, 64))
    x = g.input("x", ("n", 64))
    h = [g.node("Sin", [g.linear(x * F(gain), w, name=f"twin{i}") * F(1000)]) for i, gain in enumerate((1, 2))]
    became = forms(g.build(body(g, h[0] + h[1], 16)))
    assert became["twin0"] == became["twin1"] != "int8 linear"


def test_a_model_that_no_made_up_input_goes_through_is_int8() -> None:
    g = dynq.Graph()
    x = g.reshape(g.input("x", ("n", "k")), (17, 64))  # sizes with another product are refused
    report = g.build(g.linear(x, weight(64, 64), name="layer")).report()
    assert [(row.became, row.choice) for row in report.rows if row.layer] == [("int8 linear", None)]


def test_an_input_too_large_to_make_up_costs_no_time() -> None:
    g = dynq.Graph()
    h = g.linear(g.input("x", (1 << 20, 64)), weight(64, 64), name="one")
    start = time.process_time()
    model = g.build(g.linear(h, weight(64, 64)))
    assert time.process_time() - start < 1.5
    assert all(row.choice is None and row.quantized for row in model.report().rows)


def test_an_output_that_is_a_constant_is_not_compared() -> None:
    g = dynq.Graph()
    y = g.linear(g.input("x", ("n", 64)), weight(64, 64), name="one")
    table = np.ones(3, F)
    model = g.build({"y": g.linear(y, weight(64, 64), name="two"), "table": g.constant(table, "table")})
    np.testing.assert_array_equal(model.run({"x": np.ones((2, 64), F)})["table"], table)


def test_a_choice_is_in_the_file(tmp_path: Any) -> None:
    g, y = loud_channel()
    model = g.build(y)
    model.save(tmp_path / "m.dynq")
    assert dynq.load(tmp_path / "m.dynq").report() == model.report()
