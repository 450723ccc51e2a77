"""Recurrent layers are written as loops, and If and Loop with subgraphs. LiteRT runs the files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dynq
from tests.python.references.tflite_models import run_signature

pytest.importorskip("tflite")
pytest.importorskip("ai_edge_litert")
F = np.float32
STEPS, BATCH, INPUTS, HIDDEN = 5, 2, 10, 20
GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}


def layer(kind: str, directions: int = 1, sizes: Any = (STEPS, BATCH), **more: Any) -> dynq.Graph:
    """Return a graph with a layer and all of its outputs. ``more``: inputs behind B by name, and attributes."""
    rng = np.random.default_rng(0)
    g = dynq.Graph()
    x = g.input("x", (*sizes, INPUTS))
    rows, width = GATES[kind] * HIDDEN, more.pop("width", HIDDEN)

    def weight(*shape: int) -> np.ndarray:
        return (rng.standard_normal((directions, *shape)) * 0.3).astype(F)

    inputs: list[Any] = [x, weight(rows, INPUTS), weight(rows, width), weight(2 * rows), None]
    for name, shape in more.pop("inputs", {}).items():
        inputs += [None] * ({"initial_h": 5, "initial_c": 6, "P": 7, "projection": 8}[name] - len(inputs))
        inputs.append(weight(*shape) if name in ("P", "projection") else g.input(name, shape))
    direction = more.pop("direction", "forward" if directions == 1 else "bidirectional")
    outputs = g.node(kind, inputs, 3 if kind == "LSTM" else 2, hidden_size=HIDDEN, direction=direction, **more)
    for name, value in zip(("y", "h", "c"), outputs, strict=False):
        g.output(value, name)
    return g


def feeds_of(model: dynq.Model, **sizes: int) -> dict[str, Any]:
    rng = np.random.default_rng(1)
    shapes = {v.name: [sizes.get(str(dim), dim) for dim in v.shape] for v in model.inputs}
    return {name: rng.standard_normal(shape).astype(F) for name, shape in shapes.items()}


def check(model: dynq.Model, path: Path, feed: dict[str, Any], most: float, **options: Any) -> None:
    """LiteRT, with XNNPACK and without, is as near as its rounding allows, and dynq reads the same model back."""
    dynq.export_tflite(model, path)
    want = model.run(feed)
    for delegate in (True, False):
        got = run_signature(path, feed, delegate)
        assert got.keys() == want.keys()
        for name, array in want.items():
            assert got[name].shape == array.shape and got[name].dtype == array.dtype
            np.testing.assert_allclose(got[name], array, atol=most)
    for again, array in zip(dynq.from_tflite(path, **options).run(feed).values(), want.values(), strict=True):
        np.testing.assert_allclose(again, array, atol=most)


@pytest.mark.parametrize("quantize", [False, True])
@pytest.mark.parametrize(
    ("kind", "directions", "more"),
    [
        ("LSTM", 1, {}),
        ("LSTM", 2, {"layout": 1, "sizes": (BATCH, STEPS)}),
        ("LSTM", 1, {"direction": "reverse", "inputs": {"P": (3 * HIDDEN,)}}),
        ("LSTM", 1, {"width": 6, "inputs": {"projection": (6, HIDDEN)}}),
        ("LSTM", 2, {"inputs": dict.fromkeys(("initial_h", "initial_c"), (2, BATCH, HIDDEN))}),
        ("LSTM", 1, {"activations": "Sigmoid,Relu,Tanh"}),
        ("GRU", 1, {}),
        ("GRU", 2, {"linear_before_reset": 1}),
        ("GRU", 1, {"inputs": {"initial_h": (1, BATCH, HIDDEN)}, "layout": 0, "linear_before_reset": 1}),
        ("RNN", 1, {}),
        ("RNN", 2, {"sizes": ("steps", "batch")}),
        ("LSTM", 2, {"sizes": ("steps", "batch")}),
        ("GRU", 1, {"sizes": ("steps", BATCH)}),
    ],
)
def test_recurrent_layers(tmp_path: Path, kind: str, directions: int, more: dict[str, Any], quantize: bool) -> None:
    """A hybrid kernel's range of a row is that of dynq, so that only sigmoid and tanh differ, or a tie."""
    graph = layer(kind, directions, **more)
    options: Any = {"default": "int8"} if quantize else {"quantize": False}
    model = graph.build(**options)
    assert any(row.kind == kind and row.quantized == quantize for row in model.report().rows)
    check(
        model, tmp_path / "m.tflite", feeds_of(model, steps=STEPS, batch=BATCH), 0.02 if quantize else 2e-6, **options
    )


def test_integers_of_the_state_weights_are_kept(tmp_path: Path) -> None:
    """dynq reads back what it wrote: the bits are those of the model where LiteRT's functions are not asked."""
    model = layer("LSTM").build(default="int8")
    dynq.export_tflite(model, tmp_path / "m.tflite")
    feed = feeds_of(model)
    again = dynq.from_tflite(tmp_path / "m.tflite", first_layer="int8")
    for got, want in zip(again.run(feed).values(), model.run(feed).values(), strict=True):
        np.testing.assert_array_equal(got, want)


def test_a_graph_that_is_not_built_is_written_too(tmp_path: Path) -> None:
    graph = layer("GRU")
    dynq.export_tflite(graph, tmp_path / "m.tflite")
    model = graph.build(quantize=False)
    feed = feeds_of(model)
    for name, array in run_signature(tmp_path / "m.tflite", feed).items():
        np.testing.assert_allclose(array, model.run(feed)[name], atol=2e-6)


@pytest.mark.parametrize(
    ("more", "text"),
    [({"clip": 1.0}, "LSTM with clip"), ({"activations": "Sigmoid,Elu,Tanh"}, "activation Elu")],
)
def test_forms_that_the_loop_lacks_are_refused(tmp_path: Path, more: dict[str, Any], text: str) -> None:
    with pytest.raises(dynq.UnsupportedModelError, match=text):
        dynq.export_tflite(layer("LSTM", **more).build(), tmp_path / "m.tflite")


def branches() -> dynq.Graph:
    """Return x W^T if the condition holds, else -x W^T: both bodies have the same weight."""
    g = dynq.Graph()
    x, condition = g.input("x", ("n", 64)), g.input("condition", (), "bool")
    moved = g.node("Add", [x, np.ones(64, F)])
    weight = np.random.default_rng(0).standard_normal((64, 64)).astype(F)
    bodies = {}
    for name in ("then_branch", "else_branch"):
        body = g.new_body(name)
        given = body.parameter(f"{name}/x", "float32", ("n", 64))
        y = body.node("MatMul", [given, weight], name=f"{name}/y")
        if name == "else_branch":
            y = body.node("Neg", [y], name="negated")
        body.outputs = [("0", y)]
        bodies[name] = body
    y = g.node("dynq.If", [condition, moved], bodies=bodies)
    g.output(g.node("Relu", [y]), "y")
    return g


@pytest.mark.parametrize("quantize", [False, True])
def test_if(tmp_path: Path, quantize: bool) -> None:
    options: Any = {"default": "int8"} if quantize else {"quantize": False}
    model = branches().build(**options)
    x = np.random.default_rng(2).standard_normal((3, 64)).astype(F)
    for condition in (True, False):
        check(model, tmp_path / "m.tflite", {"x": x, "condition": np.array(condition)}, 1e-4, **options)
    bytes_of_weight = 64 * 64 * (1 if quantize else 4)
    assert (tmp_path / "m.tflite").stat().st_size < bytes_of_weight + 4000  # the weight is there once


def test_loops_that_end_by_a_condition(tmp_path: Path) -> None:
    """While i < n: i += 1, x *= 2. There is no count of steps."""
    g = dynq.Graph()
    n, x = g.input("n", (), "int64"), g.input("x", (3,))
    body = g.new_body("body")
    body.parameter("iteration", "int64", ())
    body.parameter("going", "bool", ())
    i, z, most = (
        body.parameter(name, dtype, shape)
        for name, dtype, shape in (("i", "int64", ()), ("z", "float32", (3,)), ("most", "int64", ()))
    )
    after = body.node("Add", [i, np.array(1)], name="after")
    wide = body.node("Mul", [z, np.full(3, 2, F)], name="wide")
    body.outputs = [("condition", body.node("Less", [after, most], name="goes_on")), ("0", after), ("1", wide)]
    zero = g.constant(np.array(0))
    first = g.node("Less", [zero, n])
    count, y = g.node("dynq.Loop", [None, first, zero, x, n], 2, bodies={"body": body}, carried=2)
    count.dtype, count.shape, y.dtype, y.shape = "int64", (), "float32", (3,)
    g.output(count, "count")
    g.output(y, "y")
    model = g.build()
    given = np.array([1, -2, 0.5], F)
    for times in (0, 1, 4):
        feed = {"n": np.array(times), "x": given}
        check(model, tmp_path / "m.tflite", feed, 0)
        assert np.array_equal(model.run(feed)["y"], given * 2.0**times)
