"""LSTM, GRU and RNN: float ones against ONNX's definition in float64, quantized ones to the bit against the rule of
docs/numerics.md in NumPy; the same bits on every instruction set, thread count and batch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import dynq
from dynq.bench import process
from dynq.bench import recurrent as bench
from tests.python.references import reference as rule
from tests.python.references.one_op import run_op
from tests.python.references.onnx_runtime import saturates
from tests.python.references.recurrent_reference import GATES, Layer

Array = np.ndarray[Any, Any]
F = np.float32
ISAS = dynq.isa.supported()


LAYERS: list[tuple[str, dict[str, Any]]] = [
    ("LSTM", {}),
    ("LSTM", {"direction": "reverse", "h": 1, "b": 1}),
    ("LSTM", {"direction": "bidirectional", "h": 32, "peepholes": True}),
    ("LSTM", {"direction": "bidirectional", "lengths": [5, 2, 0], "h": 17}),
    ("GRU", {}),
    ("GRU", {"direction": "reverse", "h": 8, "before": True}),
    ("GRU", {"direction": "bidirectional", "h": 19, "lengths": [1, 5, 3]}),
    ("GRU", {"direction": "bidirectional", "h": 32, "before": True, "lengths": [0, 4, 4]}),
    ("LSTM", {"t": 3, "b": 2, "h": 1024}),
    ("RNN", {"b": 70, "h": 5}),
    ("RNN", {"direction": "bidirectional", "lengths": [3, 3, 5]}),
]


def build(layer: Layer, **options: Any) -> dynq.Model:
    """Quantized as a whole: by default a small first layer's projection stays float."""
    g = dynq.Graph()
    x = g.input("x", ("t", "b", layer.x.shape[2]))
    states = [None if s is None else g.input(name, (s.shape[0], "b", s.shape[2])) for name, s in
              (("h", layer.h), ("c", layer.c))]  # fmt: skip
    lengths = None if layer.lengths is None else g.input("lengths", ("b",), "int32")
    inputs = [x, layer.w, layer.r, layer.b, lengths, *states, layer.p]
    made = g.node(layer.op, inputs[: len(layer.inputs())], layer.outputs, "layer", **layer.attributes)
    return g.build(dict(zip("yhc", made, strict=False)), first_layer="int8", **options)


def run(model: dynq.Model, layer: Layer, rows: slice = slice(None)) -> list[Array]:
    given = {"x": layer.x[:, rows], "h": layer.h[:, rows]}
    if layer.c is not None:
        given["c"] = layer.c[:, rows]
    if layer.lengths is not None:
        given["lengths"] = layer.lengths[rows]
    return list(model.run(given).values())


@pytest.mark.parametrize(("op", "options"), LAYERS)
def test_float_layers_compute_what_onnx_says(op: str, options: dict[str, Any]) -> None:
    layer = Layer(op, np.random.default_rng(1), **options)
    results = [
        run_op(op, *layer.inputs(), outputs=layer.outputs, **layer.attributes),
        run(build(layer, quantize=False), layer),
    ]
    for got in results:
        for one, other in zip(got, layer.expected(False), strict=True):
            np.testing.assert_allclose(one, other, rtol=0, atol=2e-6 if layer.h.shape[2] < 100 else 5e-5)


@pytest.mark.parametrize(("op", "options"), LAYERS)
def test_quantized_layers_follow_the_rule_to_the_bit(op: str, options: dict[str, Any]) -> None:
    layer = Layer(op, np.random.default_rng(2), **options)
    model = build(layer)
    expected = layer.expected(True)
    for isa in ISAS:
        for threads in (1, 2):
            dynq.set_num_threads(threads)
            with dynq.isa.use(isa):
                for one, other in zip(run(model, layer), expected, strict=True):
                    np.testing.assert_array_equal(rule.bits(one), rule.bits(other), err_msg=isa)


@pytest.mark.parametrize("quantize", [False, True])
@pytest.mark.parametrize("op", ["LSTM", "GRU", "RNN"])
def test_threads_that_share_a_step_change_no_bit(op: str, quantize: bool) -> None:
    layer = Layer(op, np.random.default_rng(11), t=6, b=2, h=1024, direction="bidirectional", before=True)
    model = build(layer, quantize=quantize)
    with dynq.isa.use("scalar" if quantize else dynq.isa.selected()):  # slow: many threads are worth it
        results = []
        for threads in (1, 2, 3, 6, 8):
            dynq.set_num_threads(threads)
            results.append(run(model, layer))
    for other in results[1:]:
        for one, two in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(rule.bits(one), rule.bits(two))


@pytest.mark.parametrize("quantize", [False, True])
@pytest.mark.parametrize("op", ["LSTM", "GRU", "RNN"])
def test_a_sequence_does_not_depend_on_its_batch(op: str, quantize: bool) -> None:
    layer = Layer(op, np.random.default_rng(3), b=70, h=48, direction="bidirectional")
    model = build(layer, quantize=quantize)
    whole = run(model, layer)
    for rows in (slice(0, 1), slice(5, 38), slice(69, 70)):
        for one, all_rows in zip(run(model, layer, rows), whole, strict=True):
            np.testing.assert_array_equal(rule.bits(one), rule.bits(all_rows[..., rows, :]))


@pytest.mark.parametrize("op", ["LSTM", "GRU", "RNN"])
def test_frames_one_by_one_give_what_all_at_once_give(op: str) -> None:
    layer = Layer(op, np.random.default_rng(4), t=9)
    model = build(layer)
    whole = run(model, layer)
    given = {"h": layer.h} | ({} if layer.c is None else {"c": layer.c})
    for t in range(9):
        step = model.run({"x": layer.x[t : t + 1], **given})
        np.testing.assert_array_equal(rule.bits(step["y"][0]), rule.bits(whole[0][t]))
        given = {name: step[name] for name in given}


def test_layout_1_is_layout_0_with_the_batch_first() -> None:
    layer = Layer("LSTM", np.random.default_rng(5), direction="bidirectional", lengths=[5, 1, 4])
    x, w, r, b, lengths, h, c, _ = layer.inputs()
    assert x is not None and h is not None and c is not None
    y, last, cell = run_op("LSTM", x, w, r, b, lengths, h, c, outputs=3, **layer.attributes)
    swapped = [value.swapaxes(0, 1).copy() for value in (x, h, c)]
    first = run_op(
        "LSTM", swapped[0], w, r, b, lengths, swapped[1], swapped[2], outputs=3, layout=1, **layer.attributes
    )
    for got, expected in zip(first, (y.transpose(2, 0, 1, 3), last.swapaxes(0, 1), cell.swapaxes(0, 1)), strict=True):
        np.testing.assert_array_equal(got, expected)


def test_a_layer_can_stay_float_as_a_whole_or_its_projection_alone() -> None:
    layer = Layer("LSTM", np.random.default_rng(6))
    became = {
        keep: [row.became for row in build(layer, keep_float=[keep] if keep else []).report().rows]
        for keep in ("", "layer", "layer.projection")
    }
    assert became == {
        "": ["int8 linear", "int8 LSTM"],
        "layer": ["float linear", "float LSTM"],
        "layer.projection": ["float linear", "int8 LSTM"],
    }


def test_the_sugar_gives_the_outputs_of_the_op() -> None:
    rng = np.random.default_rng(7)
    for op in GATES:
        layer = Layer(op, rng, before=True)
        g = dynq.Graph()
        x = g.input("x", layer.x.shape)
        states = {"initial_h": layer.h} | ({"initial_c": layer.c} if op == "LSTM" else {})
        outputs = getattr(g, op.lower())(x, layer.w, layer.r, layer.b, name="layer", **states)
        model = g.build(*outputs, first_layer="int8")
        for got, expected in zip(model.run({"x": layer.x}).values(), layer.expected(True), strict=True):
            np.testing.assert_array_equal(rule.bits(got), rule.bits(expected))


def test_a_nan_stays_in_its_sequence() -> None:
    layer = Layer("GRU", np.random.default_rng(8), direction="bidirectional")
    model = build(layer)
    clean = run(model, layer)
    layer.x[2, 1, 0] = np.nan
    for one, other in zip(run(model, layer), clean, strict=True):
        np.testing.assert_array_equal(one[..., [0, 2], :], other[..., [0, 2], :])
        assert (rule.bits(one[np.isnan(one)]) == rule.NAN_BITS).all()
    y = run(model, layer)[0]
    assert np.isnan(y[2:, 0, 1]).all() and np.isnan(y[:3, 1, 1]).all()
    assert not np.isnan(y[:2, 0, 1]).any() and not np.isnan(y[3:, 1, 1]).any()


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"hidden_size": 3}, "hidden_size"),
        ({"activations": "Sigmoid,Tanh"}, "activations: 2 names; expected 3"),
        ({"activations": "Sigmoid,Tanh,Cosh"}, "'Cosh'"),
        ({"activation_alpha": [1.0]}, "activation_alpha has 1"),
        ({"direction": "both"}, "direction"),
        ({"clip": -1.0}, "clip"),
        ({"layout": 2}, "layout"),
        ({"input_forget": 2}, "input_forget"),
    ],
)
def test_what_an_attribute_gets_wrong_is_told(change: dict[str, Any], text: str) -> None:
    layer = Layer("LSTM", np.random.default_rng(9))
    with pytest.raises((ValueError, dynq.Error), match=text):
        run_op("LSTM", *layer.inputs(), outputs=3, **{**layer.attributes, **change})


def test_what_a_length_or_a_shape_gets_wrong_is_told() -> None:
    layer = Layer("LSTM", np.random.default_rng(10), lengths=[5, 6, 1])
    with pytest.raises((ValueError, dynq.Error), match=r"sequence_lens\[1\] is 6; expected 0 to 5"):
        run(build(layer), layer)
    layer.lengths = np.array([1, 2, -1], np.int32)
    with pytest.raises((ValueError, dynq.Error), match=r"sequence_lens\[2\] is -1"):
        run(build(layer), layer)
    layer.lengths = None
    layer.h = layer.h[:, :2]
    with pytest.raises((ValueError, dynq.Error), match="initial_h"):
        run_op("LSTM", *layer.inputs(), outputs=3, **layer.attributes)
    layer.p = np.zeros((1, 5), F)
    with pytest.raises((ValueError, dynq.Error)):
        run_op("LSTM", *layer.inputs(), outputs=3, **layer.attributes)


def test_an_error_names_the_node() -> None:
    weight = np.ones((1, 64, 16), F)
    graph = dynq.Graph()
    x, lengths = graph.input("x", (4, "batch", 16)), graph.input("lengths", ("batch",), "int32")
    y, h, _ = graph.lstm(x, weight, weight, lengths=lengths, name="encoder")
    model = graph.build({"y": y, "h": h})
    with pytest.raises((ValueError, dynq.Error), match=r"node '[^']*encoder[^']*'.*sequence_lens\[1\] is 5"):
        model.run({"x": np.ones((4, 2, 16), F), "lengths": np.array([4, 5], np.int32)})
    graph = dynq.Graph()
    x, state = graph.input("x", (4, "batch", 16)), graph.input("state", (1, 1, 16))
    y, h, _ = graph.lstm(x, weight, weight, initial_h=state, name="encoder")
    with pytest.raises((ValueError, dynq.Error), match=r"node '[^']*encoder[^']*'.*initial_h"):
        graph.build({"y": y}).run({"x": np.ones((4, 2, 16), F), "state": np.ones((1, 1, 16), F)})


@pytest.mark.parametrize("op", ["LSTM", "GRU", "RNN"])
def test_a_layer_without_units_is_refused(op: str) -> None:
    nothing = np.zeros((1, 0, 0), F)
    with pytest.raises((ValueError, dynq.Error), match="hidden_size"):
        run_op(op, np.ones((2, 1, 3), F), np.zeros((1, 0, 3), F), nothing, outputs=2, hidden_size=0)


def test_the_benchmark_gives_all_runtimes_the_same_layers() -> None:
    names, _ = process.choose((), bench.NEEDED)
    shapes = [{"steps": 4, "batch": 2, "input": 8, "hidden": 16, "layers": 2}]
    records = bench.measure(names, [1], 1, True, lambda done, total: None, shapes, answers=True)
    assert {record["kind"] for record in records} == {"LSTM", "GRU"}
    for record in records:
        same = next(r for r in records if r["kind"] == record["kind"] and r["peer"] == "dynq")
        if not (record["peer"] == "onnxruntime int8" and saturates()):
            np.testing.assert_allclose(record["y"], same["y"], atol=2e-2)
    assert len(list(bench.tables(records, names))) == 2
