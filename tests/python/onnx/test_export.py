"""What export_onnx writes, ONNX's checker accepts, and ONNX Runtime and ONNX's reference compute as dynq does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator

import dynq
from dynq.demo.bert import bert_graph
from dynq.model import Model
from dynq.plan.write import write_image
from tests.python.references.attention_inputs import attention_inputs
from tests.python.references.bert_weights import bert_weights
from tests.python.references.onnx_runtime import by_runtime
from tests.python.references.op_cases import CASES, model_of

F = np.float32


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def ort_run(path: Path, feed: dict[str, np.ndarray], optimize: bool = False) -> list[np.ndarray]:
    """Return the outputs by ONNX Runtime; its rewriting of graphs rounds elsewhere."""
    return by_runtime(onnx.load(path), feed, optimize)


def ops(path: Path) -> list[str]:
    return [node.op_type for node in onnx.load(path, load_external_data=False).graph.node]


def integers(path: Path) -> dict[str, np.ndarray]:
    return {t.name: numpy_helper.to_array(t) for t in onnx.load(path).graph.initializer if t.data_type == 3}


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.vdot(a, b) / np.linalg.norm(a) / np.linalg.norm(b))


def normal(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape, F)


def small_integers(rng: np.random.Generator, n: int, k: int) -> dynq.QuantizedWeight:
    """Of which no two products overflow 16 bits: ONNX Runtime's sums are exact on CPUs without VNNI too."""
    return dynq.QuantizedWeight.from_integers(
        rng.integers(-64, 64, (n, k)).astype(np.int8), rng.uniform(0.01, 0.1, n).astype(F)
    )


def mlp(rng: np.random.Generator, *, residual: bool = False) -> dynq.Graph:
    g = dynq.Graph("mlp")
    x = g.input("x", ("batch", "time", 40))
    h = g.linear(x, small_integers(rng, 50, 40), normal(rng, 50), activation="relu", name="first")
    y = g.linear(h, small_integers(rng, 40, 50), normal(rng, 40), residual=x if residual else None, name="second")
    g.output(y, "y")
    return g


@pytest.mark.parametrize("granularity", ["tensor", "row"])
@pytest.mark.parametrize("scheme", ["asymmetric", "symmetric"])
def test_the_dynamic_form_gives_the_bits_of_dynq(
    rng: np.random.Generator, tmp_path: Path, scheme: str, granularity: str
) -> None:
    model = mlp(rng, residual=True).build(scheme=scheme, granularity=granularity)
    path = tmp_path / "m.onnx"
    dynq.export_onnx(model, path)
    assert ("DynamicQuantizeLinear" in ops(path)) == (granularity == "tensor" and scheme == "asymmetric")
    assert ops(path).count("MatMulInteger") == 2
    proto = onnx.load(path)
    for x in (
        normal(rng, 3, 5, 40),
        1e-6 * normal(rng, 1, 1, 40),
        np.abs(1e6 * normal(rng, 2, 9, 40)),
        np.zeros((1, 2, 40), F),
    ):
        want = model(x)
        assert np.array_equal(ort_run(path, {"x": x})[0], want)
        assert np.array_equal(ReferenceEvaluator(proto).run(None, {"x": x})[0], want)


def test_one_range_for_all_rows_is_chosen_when_the_file_is_written(rng: np.random.Generator, tmp_path: Path) -> None:
    graph, path, x = mlp(rng), tmp_path / "m.onnx", normal(rng, 3, 5, 40)
    dynq.export_onnx(graph.build(), path, granularity="tensor")
    assert ops(path).count("DynamicQuantizeLinear") == 2
    assert np.array_equal(ort_run(path, {"x": x})[0], graph.build(granularity="tensor")(x))


def test_the_integers_inside_are_those_of_dynq(rng: np.random.Generator, tmp_path: Path) -> None:
    weight, x, path = dynq.quantize_weight(normal(rng, 24, 40)), normal(rng, 7, 40), tmp_path / "m.onnx"
    g = dynq.Graph()
    g.output(g.linear(g.input("x", ("n", 40)), weight, name="layer"), "y")
    dynq.export_onnx(g.build(granularity="tensor"), path)
    proto = onnx.load(path)
    inner = [
        o
        for node in proto.graph.node
        if node.op_type in ("DynamicQuantizeLinear", "MatMulInteger")
        for o in node.output
    ]
    proto.graph.output.extend(onnx.ValueInfoProto(name=name) for name in inner)
    q, scale, zero, sums = ReferenceEvaluator(proto).run(inner, {"x": x})
    want_q, want_scale, want_zero = dynq.quantize(x, granularity="tensor")
    assert np.array_equal(q, want_q) and scale == want_scale and zero == want_zero
    assert np.array_equal(sums, dynq.gemm_s32(want_q, want_zero, weight))
    (exported,) = integers(path).values()
    assert np.array_equal(exported, weight.integers().T)


def test_the_weight_form_has_the_integers_and_scales_and_computes_with_their_floats(
    rng: np.random.Generator, tmp_path: Path
) -> None:
    w, bias, x, path = normal(rng, 24, 40), normal(rng, 24), normal(rng, 7, 40), tmp_path / "m.onnx"
    g = dynq.Graph()
    g.output(g.linear(g.input("x", ("n", 40)), w, bias, activation="sigmoid", name="layer"), "y")
    dynq.export_onnx(g.build(first_layer="int8"), path, form="qdq")
    assert ops(path) == ["DequantizeLinear", "MatMul", "Add", "Sigmoid"]
    weight = dynq.quantize_weight(w)
    want = 1 / (1 + np.exp(-(x.astype(float) @ weight.dequantize().T + bias)))
    np.testing.assert_allclose(ort_run(path, {"x": x})[0], want, rtol=1e-5, atol=1e-6)
    (exported,) = integers(path).values()
    assert np.array_equal(exported, weight.integers().T)


@pytest.mark.parametrize("form", ["dynamic", "qdq"])
def test_what_is_read_back_has_the_same_integers(rng: np.random.Generator, tmp_path: Path, form: str) -> None:
    g = dynq.Graph()
    x = g.input("x", ("n", 40))
    y = g.linear(g.linear(x, normal(rng, 96, 40), name="a"), normal(rng, 40, 96), normal(rng, 40), name="b")
    g.output(y, "y")
    model = g.build(granularity="tensor", first_layer="int8")
    dynq.export_onnx(model, tmp_path / "m.onnx", form=form)
    back = dynq.from_onnx(tmp_path / "m.onnx", granularity="tensor", first_layer="int8")
    before, after = ([c.constant for c in m.graph().constants()] for m in (model, back))
    assert [op for _, op in back.nodes] == [op for _, op in model.nodes] == ["dynq.Linear"] * 2
    packed = [(a, b) for a, b in zip(before, after, strict=True) if isinstance(a, dynq.QuantizedWeight)]
    assert len(packed) == 2
    for a, b in packed:
        assert isinstance(b, dynq.QuantizedWeight) and np.array_equal(a.integers(), b.integers())
        np.testing.assert_array_max_ulp(a.scale, b.scale, 1)
    data = normal(rng, 6, 40)
    if form == "dynamic":
        assert np.array_equal(back(data), model(data))
    np.testing.assert_allclose(back(data), model(data), rtol=1e-5, atol=1e-4)


def test_zero_points_of_weights_are_kept(rng: np.random.Generator, tmp_path: Path) -> None:
    points = rng.integers(100, 150, 20).astype(np.uint8)
    w = rng.integers(64, 192, (20, 24)).astype(np.uint8)
    weight = dynq.QuantizedWeight.from_integers(w, np.full(20, 0.02, F), points)
    x = normal(rng, 5, 24)
    for granularity in ("tensor", "row"):
        g = dynq.Graph()
        g.output(g.linear(g.input("x", ("n", 24)), weight), "y")
        model = g.build(granularity=granularity)
        for form in ("dynamic", "qdq"):
            dynq.export_onnx(model, tmp_path / "m.onnx", form=form)
            want = model(x) if form == "dynamic" else x @ weight.dequantize().T
            exact = form == "dynamic"
            got = [ort_run(tmp_path / "m.onnx", {"x": x})[0]]
            got += ReferenceEvaluator(str(tmp_path / "m.onnx")).run(None, {"x": x}) if exact else []
            for y in got:
                np.testing.assert_allclose(y, want, rtol=0 if exact else 1e-4, atol=0 if exact else 1e-4)


def test_fixed_ranges_are_written_and_what_is_finer_is_refused(rng: np.random.Generator, tmp_path: Path) -> None:
    path, x = tmp_path / "m.onnx", 3 * normal(rng, 3, 5, 40)
    for scheme in ("asymmetric", "symmetric"):
        model = mlp(rng).build(ranges={"first": (-2, 3.5), "second": (0, 1)}, scheme=scheme)
        dynq.export_onnx(model, path)
        assert np.array_equal(ort_run(path, {"x": x})[0], model(x))
    model = mlp(rng).build(int16=["first"], group_size={"second": 32})
    with pytest.raises(dynq.UnsupportedModelError) as error:
        dynq.export_onnx(model, tmp_path / "none.onnx")
    assert list(error.value.problems.values()) == [["first"], ["second"]]
    assert "16 bits" in str(error.value) and "each group" in str(error.value)
    assert not (tmp_path / "none.onnx").exists()
    dynq.export_onnx(model, path, form="qdq")
    assert cosine(ort_run(path, {"x": x})[0], model(x)) > 0.999


@pytest.mark.parametrize("activation", ["relu", "sigmoid", "tanh", "silu", "gelu", "gelu_tanh"])
def test_activations_are_written(rng: np.random.Generator, tmp_path: Path, activation: str) -> None:
    g = dynq.Graph()
    x = g.input("x", ("n", 16))
    g.output(g.linear(x, small_integers(rng, 20, 16), activation=activation), "int8")
    g.output(g.linear(x, normal(rng, 20, 16), activation=activation, name="f"), "float")
    model, data = g.build(keep_float=["f"]), normal(rng, 50, 16)
    dynq.export_onnx(model, tmp_path / "m.onnx")
    for got, want in zip(ort_run(tmp_path / "m.onnx", {"x": data}), model(data), strict=True):
        np.testing.assert_allclose(got, want, rtol=2e-4, atol=2e-6)


@pytest.mark.parametrize("form", ["dynamic", "qdq"])
@pytest.mark.parametrize("built", ["int8", "float", "graph"])
def test_an_encoder_runs_in_onnx_runtime(rng: np.random.Generator, tmp_path: Path, built: str, form: str) -> None:
    config = {"num_attention_heads": 2, "layer_norm_eps": 1e-12, "num_hidden_layers": 2, "hidden_act": "gelu"}
    graph = bert_graph(bert_weights(rng), config)
    model: Any = graph if built == "graph" else graph.build(quantize=built == "int8")
    path = tmp_path / "m.onnx"
    dynq.export_onnx(model, path, form=form)
    ids = rng.integers(0, 50, (3, 7))
    feed = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
    feed["attention_mask"][1, 4:] = 0
    got = ort_run(path, feed)
    want = graph.build(quantize=built == "int8").run(feed)
    exact = built != "int8" or form == "dynamic"
    for y, name in zip(got, ("last_hidden_state", "sentence_embedding"), strict=True):
        np.testing.assert_allclose(
            y, want[name], rtol=0, atol=2e-2 if exact and built == "int8" else 1e-5 if exact else 0.1
        )
        assert cosine(y, want[name]) > 0.999


@pytest.mark.parametrize("quantize", [False, True])
@pytest.mark.parametrize("mask", ["none", "bool", "float"])
@pytest.mark.parametrize("packed", [False, True])
def test_attention_is_written_in_its_parts(
    rng: np.random.Generator, tmp_path: Path, packed: bool, mask: str, quantize: bool
) -> None:
    g, operands, feed = attention_inputs(rng, packed, mask)
    g.output(g.node("dynq.Attention", operands, heads=3, quantize=int(quantize)), "y")
    model = Model._from_image(write_image(g, {}))
    dynq.export_onnx(model, tmp_path / "m.onnx")
    assert ops(tmp_path / "m.onnx").count("MatMulInteger") == (2 if quantize else 0)
    got, want = ort_run(tmp_path / "m.onnx", feed)[0], model.run(feed)["y"]
    np.testing.assert_allclose(got, want, rtol=0, atol=3e-2 if quantize else 1e-6)


def test_products_of_two_inputs_give_the_bits_of_dynq(rng: np.random.Generator, tmp_path: Path) -> None:
    for granularity in ("row", "tensor"):
        g = dynq.Graph()
        a, b = g.input("a", ("n", 6, 20)), g.input("b", ("n", 20, 9))
        g.output(g.matmul(a, b, name="product"), "y")
        model = g.build(attention="int8", granularity=granularity)
        assert [op for _, op in model.nodes] == ["dynq.MatMulDynamic"]
        feed = {"a": normal(rng, 1, 6, 20), "b": normal(rng, 1, 20, 9)}
        for form in ("dynamic", "qdq"):
            dynq.export_onnx(model, tmp_path / "m.onnx", form=form)
            got = ReferenceEvaluator(str(tmp_path / "m.onnx")).run(None, feed)[0]
            want = model.run(feed)["y"] if form == "dynamic" else feed["a"] @ feed["b"]
            np.testing.assert_allclose(got, want, rtol=0, atol=0 if form == "dynamic" else 1e-5)


@pytest.mark.parametrize("form", ["dynamic", "qdq"])
@pytest.mark.parametrize("spatial", [1, 2])
def test_convolutions_are_written(rng: np.random.Generator, tmp_path: Path, spatial: int, form: str) -> None:
    g = dynq.Graph()
    size = [12, 11][:spatial]
    x = g.input("x", (1, 8, *size))
    kernel = [4, 2][:spatial]
    more: dict[str, Any] = {"strides": [2, 1][:spatial], "pads": [1, 0, 1, 1] if spatial == 2 else [1, 2]}
    h = g.conv(x, normal(rng, 20, 8, *kernel) / 5, normal(rng, 20), activation="relu", name="int8", **more)
    y = g.conv(h, normal(rng, 40, 5, *kernel) / 5, normal(rng, 40), group=4, activation="sigmoid", name="grouped")
    g.output(y, "y")
    model = g.build(granularity="tensor", first_layer="int8")
    assert [op for _, op in model.nodes] == ["dynq.Conv", "dynq.ConvFloat"]
    data, path = normal(rng, 1, 8, *size), tmp_path / "m.onnx"
    dynq.export_onnx(model, path, form=form)
    assert ("ConvInteger" in ops(path)) == (form == "dynamic")
    got = (
        ReferenceEvaluator(str(path)).run(None, {"x": data})[0] if form == "dynamic" else ort_run(path, {"x": data})[0]
    )
    np.testing.assert_allclose(got, model(data), rtol=0, atol=1e-6 if form == "dynamic" else 1e-2)
    if form == "dynamic":
        np.testing.assert_allclose(ort_run(path, {"x": data})[0], model(data), rtol=0, atol=1e-2)
    dynq.export_onnx(g, path)  # as it was written: float
    np.testing.assert_allclose(ort_run(path, {"x": data})[0], g.build(quantize=False)(data), rtol=1e-5, atol=1e-6)


def test_an_integer_convolution_gives_the_bits_of_dynq(rng: np.random.Generator, tmp_path: Path) -> None:
    g = dynq.Graph()
    y = g.conv(g.input("x", (1, 8, 10, 9)), normal(rng, 20, 8, 3, 3), normal(rng, 20), pads=1, name="c")
    g.output(y, "y")
    x = normal(rng, 1, 8, 10, 9)
    for more in ({"granularity": "tensor"}, {"ranges": {"c": (-1.5, 2)}}):
        model = g.build(first_layer="int8", **more)
        dynq.export_onnx(model, tmp_path / "m.onnx")
        assert np.array_equal(ReferenceEvaluator(str(tmp_path / "m.onnx")).run(None, {"x": x})[0], model(x))


def test_convolutions_with_ranges_that_one_zero_point_cannot_hold_are_refused_together(
    rng: np.random.Generator, tmp_path: Path
) -> None:
    g = dynq.Graph()
    x = g.input("x", ("n", 8, 12))
    y = g.conv(g.conv(x, normal(rng, 32, 8, 5), name="a"), normal(rng, 32, 32, 3), name="b")
    g.output(y, "y")
    model = g.build(first_layer="int8")
    with pytest.raises(dynq.UnsupportedModelError, match="'a', 'b'"):
        dynq.export_onnx(model, tmp_path / "m.onnx")
    with pytest.raises(dynq.UnsupportedModelError, match="for each image"):
        dynq.export_onnx(g.build(first_layer="int8", granularity="tensor"), tmp_path / "m.onnx")
    dynq.export_onnx(model, tmp_path / "m.onnx", granularity="tensor")
    data = normal(rng, 3, 8, 12)
    assert cosine(ort_run(tmp_path / "m.onnx", {"x": data})[0], model(data)) > 0.999


@pytest.mark.parametrize("layout", [False, True])
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_recurrent_layers_are_written(
    rng: np.random.Generator, tmp_path: Path, cell: str, direction: str, layout: bool
) -> None:
    gates, directions = {"lstm": 4, "gru": 3, "rnn": 1}[cell], 2 if direction == "bidirectional" else 1
    hidden, width, batch, steps = 20, 12, 3, 6
    g = dynq.Graph()
    x = g.input("x", ("batch", "time", width) if layout else ("time", "batch", width))
    w, r = (normal(rng, directions, gates * hidden, k) / 4 for k in (width, hidden))
    b = normal(rng, directions, 2 * gates * hidden) / 4
    lengths = g.input("lengths", ("batch",), "int32")
    state = normal(rng, *((batch, directions) if layout else (directions, batch)), hidden)
    more: dict[str, Any] = {"initial_h": g.input("h0", state.shape)}
    if cell == "lstm":
        more |= {"peepholes": normal(rng, directions, 3 * hidden) / 4}
    if cell == "gru":
        more |= {"linear_before_reset": direction != "reverse"}
    outputs = getattr(g, cell)(
        x, w, r, b, lengths=lengths, direction=direction, batch_first=layout, name="cell", **more
    )
    for name, value in zip(("y", "h", "c"), outputs, strict=False):
        g.output(value, name)
    feed = {"x": normal(rng, *((batch, steps) if layout else (steps, batch)), width), "h0": state}
    feed["lengths"] = np.array([6, 2, 4], np.int32)
    path = tmp_path / "m.onnx"
    floats = g.build(quantize=False)
    for model, close in ((g, 1e-5), (floats, 1e-5), (g.build(first_layer="int8"), 0.1)):
        dynq.export_onnx(model, path, form="qdq")
        assert ops(path).count(cell.upper()) == 1 and "MatMul" not in ops(path)
        for got, want in zip(ort_run(path, feed), floats.run(feed).values(), strict=True):
            np.testing.assert_allclose(got, want, rtol=0, atol=close)


def test_a_recurrent_layer_behind_a_shared_projection_is_written(rng: np.random.Generator, tmp_path: Path) -> None:
    g = dynq.Graph()
    x = g.input("x", ("time", 1, 12))
    for name in ("a", "b"):
        w, r = (normal(rng, 1, 4 * 16, k) / 4 for k in (12, 16))
        g.output(g.lstm(x, w, r, name=name)[0], name)
    model = g.build(first_layer="int8")
    assert "Split" in [op for _, op in model.nodes]
    dynq.export_onnx(model, tmp_path / "m.onnx")
    data = normal(rng, 9, 1, 12)
    for got, want in zip(ort_run(tmp_path / "m.onnx", {"x": data}), model(data), strict=True):
        np.testing.assert_allclose(got, want, rtol=0, atol=0.05)


_NOT_ALONE = ("dynq.LSTM", "dynq.GRU", "dynq.RNN")  # are written with the layer before them


@pytest.mark.parametrize(
    ("op", "inputs", "outputs", "attributes"),
    [case for case in CASES if case[0] not in _NOT_ALONE],
    ids=[f"{i}-{case[0]}" for i, case in enumerate(CASES) if case[0] not in _NOT_ALONE],
)
def test_each_op_computes_the_same_in_onnx_runtime(
    tmp_path: Path, op: str, inputs: list[Any], outputs: int, attributes: dict[str, Any]
) -> None:
    model, feed = model_of(op, inputs, outputs, attributes)
    dynq.export_onnx(model, tmp_path / "m.onnx", granularity="tensor" if op == "dynq.Conv" else None)
    for got, want in zip(ort_run(tmp_path / "m.onnx", feed), model.run(feed).values(), strict=True):
        assert got.dtype == want.dtype and got.shape == want.shape
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)


def test_every_op_of_models_has_a_form_in_the_opset_that_is_written() -> None:
    from dynq.exporters.onnx.table import WRITERS
    from dynq.ir import ops

    assert all(onnx.defs.has(op, max_inclusive_version=18) for op in ops.names() - WRITERS.keys() - {"CumProd"})


def test_ops_that_are_newer_than_the_opset_are_written_in_pieces(rng: np.random.Generator, tmp_path: Path) -> None:
    g = dynq.Graph()
    x = g.input("x", ("n", 3, 8))
    g.output(g.node("RMSNormalization", [x, normal(rng, 8)], axis=2), "rms")
    g.output(g.node("Swish", [x], alpha=1.5), "swish")
    g.output(g.gelu(x, approximate="tanh"), "gelu")
    g.output(g.node("ConstantOfShape", [g.node("Shape", [x]), np.array([7], np.int64)]), "sevens")
    g.output(g.node("Pad", [x, np.array([0, 0, 2, 0, 0, 1])], mode="wrap"), "wrapped")
    first, _ = g.split(x, [3, 5])
    g.output(first, "part")
    model = g.build()
    dynq.export_onnx(model, tmp_path / "m.onnx")
    assert onnx.load(tmp_path / "m.onnx").opset_import[0].version == 19  # for the Pad alone
    data = normal(rng, 2, 3, 8)
    for got, want in zip(ort_run(tmp_path / "m.onnx", {"x": data}), model(data), strict=True):
        assert got.dtype == want.dtype
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)


def test_names_of_inputs_and_outputs_stay(rng: np.random.Generator, tmp_path: Path) -> None:
    g = dynq.Graph()
    x, c = g.input("x", ("n", 4)), g.input("c", (4,))
    y = g.add(x, c, name="sum")
    for name, value in {
        "first": y,
        "second": y,
        "x": x,
        "c": g.add(c, c),
        "sum": x,
        "constant": g.constant(2.0),
    }.items():
        g.output(value, name)
    dynq.export_onnx(g, tmp_path / "m.onnx")
    proto = onnx.load(tmp_path / "m.onnx").graph
    assert [v.name for v in proto.input] == ["x", "c"]
    assert [v.name for v in proto.output] == ["first", "second", "x.output", "c.output", "sum", "constant"]
    a, b = normal(rng, 2, 4), normal(rng, 4)
    for got, want in zip(
        ort_run(tmp_path / "m.onnx", {"x": a, "c": b}), (a + b, a + b, a, b + b, a, F(2)), strict=True
    ):
        assert np.array_equal(got, want)


def test_weights_lie_in_a_second_file_on_request(rng: np.random.Generator, tmp_path: Path) -> None:
    model, x = mlp(rng).build(), normal(rng, 2, 3, 40)
    dynq.export_onnx(model, tmp_path / "m.onnx", external_data=True)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m.onnx", "m.onnx.data"]
    assert (tmp_path / "m.onnx.data").stat().st_size >= 2 * 40 * 50 > 3000
    assert np.array_equal(ort_run(tmp_path / "m.onnx", {"x": x})[0], model(x))
    assert np.array_equal(dynq.from_onnx(tmp_path / "m.onnx")(x), model(x))


def test_a_model_over_the_limit_gets_a_second_file(
    rng: np.random.Generator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dynq.exporters.onnx import write

    monkeypatch.setattr(write, "_MOST_INSIDE", 1000)
    dynq.export_onnx(mlp(rng).build(), tmp_path / "m.onnx")
    assert (tmp_path / "m.onnx.data").exists()


def test_wrong_arguments_are_named(rng: np.random.Generator, tmp_path: Path) -> None:
    model, path = mlp(rng).build(), tmp_path / "m.onnx"
    with pytest.raises(ValueError, match=r"form is 'int4'.*'dynamic'"):
        dynq.export_onnx(model, path, form="int4")
    with pytest.raises(ValueError, match="granularity is 'row'"):
        dynq.export_onnx(model, path, granularity="row")
    with pytest.raises(ValueError, match="form 'dynamic' alone"):
        dynq.export_onnx(model, path, granularity="tensor", form="qdq")
    with pytest.raises(TypeError, match="external_data"):
        dynq.export_onnx(model, path, external_data="yes")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="type dict"):
        dynq.export_onnx({}, path)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="no outputs"):
        dynq.export_onnx(dynq.Graph(), path)
    with pytest.raises(OSError):
        dynq.export_onnx(model, tmp_path / "nowhere" / "m.onnx")
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_fails_half_way_leaves_the_old_one(
    rng: np.random.Generator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "m.onnx").write_text("old")

    def refuse(*args: Any, **kwargs: Any) -> None:
        raise onnx.checker.ValidationError("no")

    monkeypatch.setattr(onnx.checker, "check_model", refuse)
    with pytest.raises(onnx.checker.ValidationError):
        dynq.export_onnx(mlp(rng).build(), tmp_path / "m.onnx")
    assert (tmp_path / "m.onnx").read_text() == "old" and len(list(tmp_path.iterdir())) == 1
