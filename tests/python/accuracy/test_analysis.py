"""dynq.accuracy.analyze: its figures against independent formulas, on every kind of layer, and what it refuses."""

from __future__ import annotations

import json
import math
import pickle
from typing import Any

import numpy as np
import pytest

import dynq
from dynq.accuracy import Analysis, LayerRow, analyze
from tests.python.references import reference
from tests.python.references.onnx_models import model as onnx_model
from tests.python.references.onnx_models import node, small_bert, two_layers

RNG = np.random.default_rng(0)


def weight(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape, np.float32) / np.float32(np.sqrt(shape[-1]))


W1, B1, W2 = weight(48, 64), weight(48), weight(8, 48)


def two() -> dynq.Graph:
    """x (n, 64) -> first (n, 48), its square -> second (n, 8)."""
    g = dynq.Graph("two")
    h = g.linear(g.input("x", ("n", 64)), W1, B1, name="first")
    g.output(g.linear(h * h, W2, name="second"), "y")
    return g


def inputs(rows: int = 20, seed: int = 1) -> np.ndarray:
    """With outliers in some rows."""
    x = np.random.default_rng(seed).standard_normal((rows, 64), np.float32)
    x[::3, 5] = 30
    return x


def row(analysis: Analysis, name: str) -> LayerRow:
    (found,) = [row for row in analysis.rows if row.name == name]
    return found


def sqnr(got: np.ndarray, expected: np.ndarray) -> float:
    got, expected = got.astype(np.float64), expected.astype(np.float64)
    return float(10 * np.log10((expected**2).sum() / ((got - expected) ** 2).sum()))


def cosine(got: np.ndarray, expected: np.ndarray) -> float:
    a, b = got.astype(np.float64).ravel(), expected.astype(np.float64).ravel()
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def test_own_accumulated_and_output_errors_are_those_of_the_formulas() -> None:
    x = inputs()
    analysis = analyze(two(), x, repeat=1, default="int8")
    h = (x.astype(np.float64) @ W1.T + B1).astype(np.float32) ** 2
    first = x @ W1.T + B1
    quantized = reference.linear(x, *reference.quantize_weight(W1), bias=B1)
    found = row(analysis, "first")
    assert found.sqnr_db == pytest.approx(sqnr(quantized, first), abs=0.01) == pytest.approx(found.accumulated_sqnr_db)
    assert found.cosine == pytest.approx(cosine(quantized, first), abs=1e-6)

    y, q2 = h @ W2.T, reference.quantize_weight(W2)
    alone = reference.linear(h, *q2)
    whole = reference.linear(quantized**2, *q2)
    found = row(analysis, "second")
    assert found.sqnr_db == pytest.approx(sqnr(alone, y), abs=0.01)
    assert found.accumulated_sqnr_db == pytest.approx(sqnr(whole, y), abs=0.01)
    assert found.accumulated_cosine == pytest.approx(cosine(whole, y), abs=1e-6)
    assert found.output_sqnr_db == pytest.approx(found.sqnr_db)  # nothing comes after it
    assert row(analysis, "first").output_sqnr_db == pytest.approx(sqnr(quantized**2 @ W2.T, y), abs=0.01)
    assert analysis.outputs[0].name == "y" and analysis.outputs[0].sqnr_db == pytest.approx(found.accumulated_sqnr_db)
    assert [r.name for r in analysis.worst] == ["first", "second"]


def test_samples_add_up_as_one_batch_would() -> None:
    x = inputs()
    parts = analyze(two(), [x[:7], {"x": x[7:]}], repeat=1, default="int8")
    whole = analyze(two(), {"x": x}, repeat=1, default="int8")
    for a, b in zip(parts.rows, whole.rows, strict=True):
        assert a.sqnr_db == pytest.approx(b.sqnr_db) and a.output_sqnr_db == pytest.approx(b.output_sqnr_db)
        assert a.code_use == pytest.approx(b.code_use) and a.codes == b.codes
    assert parts.samples == 2 and whole.samples == 1


def test_weight_error_code_use_and_outliers_are_those_of_the_formulas() -> None:
    x = inputs()
    found = row(analyze(two(), x, repeat=1, default="int8"), "first")
    q, scale = reference.quantize_weight(W1)
    error = np.linalg.norm(q * scale[:, None].astype(np.float64) - W1) / np.linalg.norm(W1.astype(np.float64))
    assert found.weight_error == pytest.approx(error, rel=1e-5)
    outliers, codes, ranges = 0, np.zeros(256, int), np.zeros(32, int)
    for block in x.astype(np.float64):
        low, high = min(block.min(), 0), max(block.max(), 0)
        outliers += int((np.abs(block) > 8 * math.sqrt((block**2).mean())).sum())
        ranges[math.floor(math.log2(high - low)) + 14] += 1
        integers = np.rint((block - low) / (high - low) * 255)
        for code in integers:
            codes[int(code)] += 1
    entropy = -sum(n / x.size * math.log2(n / x.size) for n in codes if n)
    assert found.code_use == pytest.approx(2**entropy / 256)
    assert outliers == 0 and found.outliers == 0  # 30 in 64 numbers is 7.9 times their root mean square at most
    assert found.codes == tuple(sum(codes[i : i + 8]) for i in range(0, 256, 8)) and found.ranges == tuple(ranges)
    x[4, 3] = 1000
    assert row(analyze(two(), x, repeat=1, default="int8"), "first").outliers is not None
    wide = np.zeros((1, 64), np.float32) + np.float32(0.01)
    wide[0, 9] = 5.0
    g = dynq.Graph("wide")
    g.output(g.linear(g.concat([g.input("x", (1, 64))] * 2), weight(8, 128), name="first"), "y")
    assert row(analyze(g, wide, repeat=1), "first").outliers == 0  # two equal ones are 8 times exactly at most
    g = dynq.Graph("wide")
    g.output(g.linear(g.input("x", (1, 128)), weight(8, 128), name="first"), "y")
    wide = np.concatenate([wide, np.full((1, 64), 0.01, np.float32)], 1)
    assert row(analyze(g, wide, repeat=1), "first").outliers == 1 / 128


def used(codes: list[int] | np.ndarray) -> float:
    """2^entropy of 256."""
    shares = np.bincount(codes, minlength=256) / len(codes)
    return float(2 ** -sum(p * math.log2(p) for p in shares if p) / 256)


def test_blocks_are_what_shares_a_scale() -> None:
    x = inputs()
    found = row(analyze(two(), x, repeat=1, default="int8", granularity="tensor"), "first")
    assert sum(found.ranges) == 1 and sum(found.codes) == x.size
    codes = np.rint((x.astype(np.float64) - x.min()) / (float(x.max()) - float(x.min())) * 255).astype(int)
    assert found.code_use == pytest.approx(used(codes.ravel()), rel=1e-6)
    with_zeros = np.concatenate([x, np.zeros((5, 64), np.float32)])
    found = row(analyze(two(), with_zeros, repeat=1, default="int8"), "first")
    assert sum(found.ranges) == len(x) and sum(found.codes) == x.size

    g = dynq.Graph("conv")
    image = np.random.default_rng(4).standard_normal((2, 4, 7, 9)).astype(np.float32)
    windows = {"strides": [2, 1], "pads": [1, 0, 2, 3], "dilations": [1, 2]}
    g.output(g.conv(g.input("x", (2, 4, 7, 9)), weight(16, 4, 3, 3), name="conv", **windows), "y")
    padded = np.pad(image, [(0, 0), (0, 0), (1, 2), (0, 3)]).astype(np.float64)
    all_codes, positions = [], 0
    for n in range(2):
        for i in range(0, 10 - 2, 2):
            for j in range(12 - 4):
                block = padded[n, :, i : i + 3, j : j + 5 : 2].ravel()
                low, high = min(block.min(), 0), max(block.max(), 0)
                all_codes += list(np.rint((block - low) / (high - low) * 255).astype(int))
                positions += 1
    found = row(analyze(g, image, repeat=1, default="int8"), "conv")
    assert sum(found.ranges) == positions and found.macs == positions * 16 * 36
    assert found.code_use == pytest.approx(used(all_codes), rel=1e-6)


def test_work_and_time_are_shared_out() -> None:
    analysis = analyze(two(), inputs(20), repeat=2, default="int8")
    assert [r.macs for r in analysis.rows] == [20 * 48 * 64, 20 * 8 * 48]
    assert sum(r.mac_share for r in analysis.rows) == pytest.approx(1)
    assert all(r.seconds > 0 for r in analysis.rows) and sum(r.time_share for r in analysis.rows) <= 1 + 1e-9
    assert analysis.seconds > 0 and analysis.float_seconds > 0


def test_layers_that_were_merged_are_told_apart() -> None:
    """Q, K and V are one product in the model, and three rows with the figures that each has."""
    g = dynq.Graph("attention")
    x = g.input("x", ("batch", "time", 32))
    weights = {name: weight(32, 32) for name in "qkv"}
    q, k, v = (g.linear(g.tanh(x), weights[name], name=name) for name in "qkv")
    g.output(g.linear(g.attention(q, k, v, heads=4, name="attended"), weight(32, 32), name="o"), "y")
    data = np.random.default_rng(2).standard_normal((2, 5, 32)).astype(np.float32)
    analysis = analyze(g, data, repeat=1, attention="int8")
    assert [r.name for r in analysis.rows] == ["q", "k", "v", "attended", "o"]
    h = np.tanh(data.astype(np.float64)).astype(np.float32).reshape(-1, 32)
    for name in "qkv":
        alone = reference.linear(h, *reference.quantize_weight(weights[name]))
        assert row(analysis, name).sqnr_db == pytest.approx(sqnr(alone, h @ weights[name].T), abs=0.05)
        found = row(analysis, name)
        assert found.macs == 10 * 32 * 32 and found.seconds == pytest.approx(row(analysis, "q").seconds)
        integers, scale = reference.quantize_weight(weights[name])
        error = np.linalg.norm(integers * scale[:, None] - weights[name]) / np.linalg.norm(weights[name])
        assert found.weight_error == pytest.approx(error, rel=1e-4)
        others = [r.name for r in analysis.rows if r.name != name]
        float_model, only = g.build(quantize=False), g.build(keep_float=others, attention="int8")
        expected = sqnr(only(data), float_model(data))
        assert row(analysis, name).output_sqnr_db == pytest.approx(expected, abs=1e-4)
    assert sum(r.seconds for r in analysis.rows) <= analysis.seconds
    attended = row(analysis, "attended")
    assert attended.became == "int8 attention" and attended.macs == 2 * 5 * 5 * 64 and attended.weight_error is None
    assert attended.sqnr_db is not None and attended.sqnr_db > 20 and attended.code_use is not None


def others() -> dict[str, tuple[dynq.Graph, Any]]:
    g = dynq.Graph("conv")
    x = g.input("x", ("n", 8, 9, 10))
    g.output(g.conv(g.tanh(x), weight(16, 8, 3, 3), weight(16), strides=2, pads=1, name="conv"), "y")
    result: dict[str, tuple[dynq.Graph, Any]] = {"conv": (g, RNG.standard_normal((2, 8, 9, 10), np.float32))}
    for kind, gates in ("lstm", 4), ("gru", 3), ("rnn", 1):
        g = dynq.Graph(kind)
        made = getattr(g, kind)(
            g.input("x", ("t", 2, 12)), weight(1, gates * 16, 12), weight(1, gates * 16, 16), name="cell"
        )
        g.output(made[1], "h")
        result[kind] = g, RNG.standard_normal((6, 2, 12), np.float32)
    g = dynq.Graph("table")
    g.output(g.linear(g.embedding(weight(40, 16), g.input("ids", ("n",), "int64"), name="table"), weight(4, 16)), "y")
    result["embedding"] = g, np.arange(12)
    g = dynq.Graph("products")
    x = g.input("x", (3, 5, 16))
    g.output(g.matmul(g.tanh(x), g.transpose(x, [0, 2, 1]), name="product"), "y")
    result["matmul"] = g, RNG.standard_normal((3, 5, 16), np.float32)
    return result


@pytest.mark.parametrize("kind", list(others()))
def test_every_kind_of_layer_has_its_figures(kind: str) -> None:
    graph, data = others()[kind]
    analysis = analyze(graph, data, repeat=1, attention="int8", default="int8")
    for found in analysis.rows:
        assert found.quantized, found
        assert found.sqnr_db is not None and 20 < found.sqnr_db < 80, found
        assert found.output_sqnr_db is not None and 20 < found.output_sqnr_db < 80, found
        assert found.accumulated_sqnr_db is not None and found.accumulated_sqnr_db > 15
        if kind != "matmul":
            assert found.weight_error is not None and 0.001 < found.weight_error < 0.02, found
        if "embedding" not in found.became:
            assert found.code_use is not None and 0.1 < found.code_use <= 1
    expected = {
        "conv": [2 * 16 * 5 * 5 * 72],
        "lstm": [12 * 64 * 12, 12 * 64 * 16], "gru": [12 * 48 * 12, 12 * 48 * 16], "rnn": [12 * 16 * 12, 12 * 16 * 16],
        "embedding": [0, 12 * 4 * 16], "matmul": [3 * 5 * 5 * 16],
    }[kind]  # fmt: skip
    assert [found.macs for found in analysis.rows] == expected


def test_the_error_of_a_layer_alone_at_the_output_is_that_of_a_model_with_the_others_float() -> None:
    graph, data = others()["lstm"]
    analysis = analyze(graph, data, repeat=1, default="int8")
    only = graph.build(keep_float=["cell.projection"])  # keep_float=["cell"] would keep the projection too
    expected = sqnr(only(data), graph.build(quantize=False)(data))
    assert row(analysis, "cell").output_sqnr_db == pytest.approx(expected, abs=1e-4)


def test_what_stays_float_is_listed_with_the_reason_and_no_error_of_its_own() -> None:
    analysis = analyze(two(), inputs(), repeat=1, keep_float=["second"], default="int8")
    kept = row(analysis, "second")
    assert not kept.quantized and kept.why == "keep_float has 'second'"
    assert kept.sqnr_db is None and kept.output_sqnr_db is None and kept.weight_error is None
    assert kept.accumulated_sqnr_db is not None and kept.mac_share > 0


def test_a_pair_of_models_gives_what_their_graph_gives() -> None:
    graph = two()
    pair = graph.build(quantize=False), graph.build(default="int8")
    a, b = analyze(pair, inputs(), repeat=1), analyze(graph, inputs(), repeat=1, default="int8")
    assert [r.sqnr_db for r in a.rows] == [r.sqnr_db for r in b.rows]
    assert [r.weight_error for r in a.rows] == [r.weight_error for r in b.rows]
    with pytest.raises(TypeError, match="takes no options; default came"):
        analyze(pair, inputs(), default="int8")
    other = dynq.Graph("other")
    other.output(other.linear(other.input("z", ("n", 64)), W1), "y")
    with pytest.raises(ValueError, match=r"the float model has the inputs .*'z'"):
        analyze((other.build(quantize=False), pair[1]), inputs())


def test_functions_and_onnx_models_are_sources(tmp_path: Any) -> None:
    graph = two()
    a = analyze(lambda **options: graph.build(**options), inputs(), repeat=1, keep_float=["first"])
    assert [r.quantized for r in a.rows] == [False, True]
    b = analyze(two_layers(), np.ones((3, 64), np.float32), repeat=1)
    assert [r.name for r in b.rows] == ["first", "second"]
    with pytest.raises(TypeError, match="returned a int"):
        analyze(lambda **options: 3, inputs())


def test_weights_that_came_quantized_are_measured_against_what_they_stand_for() -> None:
    g = dynq.Graph("packed")
    g.output(g.linear(g.input("x", ("n", 64)), dynq.quantize_weight(W1), name="first"), "y")
    found = row(analyze(g, inputs(), repeat=1), "first")
    q, scale = reference.quantize_weight(W1)
    x = inputs()
    dequantized = (q * scale[:, None]).astype(np.float32)
    assert found.sqnr_db == pytest.approx(sqnr(reference.linear(x, q, scale), x @ dequantized.T), abs=0.05)
    assert found.weight_error == pytest.approx(0, abs=1e-9)


def test_random_samples_follow_the_inputs_of_the_model() -> None:
    analysis = analyze(small_bert(17), repeat=1)
    assert analysis.random and analysis.samples == 1
    assert "Random inputs" in str(analysis)
    shaped = analyze(small_bert(17), repeat=1, shapes_of_samples={"input_ids": (1, 7)})
    assert shaped.rows[0].macs == 0 and [r.macs for r in shaped.rows if "query" in r.name] == [7 * 16 * 16] * 2
    with pytest.raises(ValueError, match=r"shapes has 'ids'; the inputs are input_ids"):
        analyze(small_bert(17), shapes_of_samples={"ids": (1, 7)})


@pytest.mark.parametrize(
    ("samples", "error", "message"),
    [
        ([], ValueError, "samples is empty"),
        ({"z": np.ones((2, 64), np.float32)}, ValueError, "sample 0: no input is called z; expected x"),
        ([np.ones((2, 64), np.float32), {}], ValueError, "sample 1: input 'x' is missing"),
        (np.ones((2, 63), np.float32), ValueError, r"sample 0: input 'x' has shape \(2, 63\); expected \(n, 64\)"),
        (np.ones(64, np.float32), ValueError, r"input 'x' has shape \(64,\)"),
        (np.ones((2, 64)), TypeError, "sample 0: input 'x' has dtype float64"),
        (
            np.full((2, 64), np.nan, np.float32),
            ValueError,
            "sample 0: input 'x' holds a NaN or an infinity, 128 of 128",
        ),
        ("samples.npz", TypeError, "samples is of type str"),
        (3, TypeError, "samples is of type int"),
        ([3], TypeError, "sample 0 is of type int"),
        ([(np.ones((2, 64), np.float32),) * 2], ValueError, "sample 0 has 2 arrays; expected 1: x"),
    ],
)
def test_samples_that_do_not_fit_are_refused(samples: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        analyze(two(), samples)


def test_sizes_that_have_one_name_are_equal() -> None:
    g = dynq.Graph("sizes")
    g.output(g.linear(g.input("x", ("n", 64)) + g.input("z", ("n", 64)), W1), "y")
    with pytest.raises(ValueError, match=r"sample 0: 'n' is 3 in input 'z' of shape \(3, 64\), 2 in 'x'"):
        analyze(g, {"x": np.ones((2, 64), np.float32), "z": np.ones((3, 64), np.float32)})


def test_models_without_quantized_layers_and_other_sources_are_refused() -> None:
    g = dynq.Graph("none")
    g.output(g.tanh(g.input("x", ("n", 4))), "y")
    with pytest.raises(ValueError, match="none has no quantized layer"):
        analyze(g)
    with pytest.raises(ValueError, match="quantize is False"):
        analyze(two(), quantize=False)
    with pytest.raises(TypeError, match="source is a Model, which does not know its float original"):
        analyze(two().build())
    with pytest.raises(TypeError, match="tuple of Model, int"):
        analyze((two().build(), 3))


def test_a_layer_that_computes_a_nan_is_named() -> None:
    g = dynq.Graph("log")
    h = g.linear(g.node("Log", [g.input("x", ("n", 64))]), W1, name="first")
    g.output(g.linear(g.tanh(h), W2, name="second"), "y")
    with pytest.raises(dynq.NonFiniteError, match="sample 0: layer 'first' of the float model computes a NaN"):
        analyze(g, np.full((2, 64), -1, np.float32), default="int8")


def test_json_has_every_field_and_no_number_that_json_lacks() -> None:
    g = dynq.Graph("exact")
    h = g.linear(g.input("x", ("n", 4)), np.eye(4, dtype=np.float32) * 127, name="exact")
    g.output(g.linear(h, weight(3, 4), name="second"), "y")
    x = np.array([[255, 0, 1, 2], [0, 255, 7, 9]], np.float32)
    analysis = analyze(g, x, repeat=1, default="int8")
    assert row(analysis, "exact").sqnr_db == math.inf and "exact" in str(analysis)
    facts = json.loads(analysis.to_json())
    assert set(facts) == {"model", "rows", "outputs", "samples", "random", "isa", "threads", "seconds", "float_seconds"}
    first = facts["rows"][0]
    assert set(first) == set(LayerRow.__dataclass_fields__)
    assert first["sqnr_db"] is None and first["cosine"] == pytest.approx(1) and first["weight_error"] == 0
    assert len(first["codes"]) == 32 and sum(first["codes"]) == 8 and len(first["ranges"]) == 32
    assert facts["outputs"] == [
        {"name": "y", "sqnr_db": analysis.outputs[0].sqnr_db, "cosine": analysis.outputs[0].cosine}
    ]


def test_names_of_layers_may_look_like_markup_and_have_commas() -> None:
    x = {"x": ("float32", ["n", 64])}
    names = ["/a[red]/MatMul, b", "c[/]"]
    nodes = [node("Tanh", "x", "t"), *(node("MatMul", f"t w{i}", f"y{i}", name) for i, name in enumerate(names))]
    source = onnx_model(nodes, x, "y0 y1", {"w0": weight(64, 8), "w1": weight(64, 8)})
    analysis = analyze(source, np.ones((2, 64), np.float32), repeat=1)
    assert [r.name for r in analysis.rows] == names
    for name in names:
        assert name in str(analysis)


@pytest.mark.parametrize("names", [("q, k", "q", "k"), ("a; one product for b", "b", "c")])
def test_layers_that_were_merged_keep_their_names_whatever_these_are(names: tuple[str, ...]) -> None:
    g = dynq.Graph("names")
    x = g.tanh(g.input("x", ("n", 64)))
    for i, name in enumerate(names):
        g.output(g.linear(x, weight(8 + i, 64), name=name), f"y{i}")
    model = g.build()
    assert len(model.graph().nodes) == 3  # Tanh, one product, Split
    loaded = pickle.loads(pickle.dumps(model))
    analysis = analyze((g.build(quantize=False), loaded), inputs(), repeat=1)
    assert [(r.name, r.why) for r in analysis.rows] == [(name, "its weight is constant") for name in names]
    assert [r.macs for r in analysis.rows] == [20 * 64 * (8 + i) for i in range(3)]


def loud() -> tuple[dynq.Graph, np.ndarray]:
    """A norm with a channel of 60 times the others' size, which a layer of 64 inputs reads."""
    g = dynq.Graph("loud")
    scale = np.ones(64, np.float32)
    scale[7] = 60
    w = weight(32, 64)
    w[:, 7] /= 60
    h = g.layer_norm(g.input("x", ("n", 64)), scale, np.zeros(64, np.float32), name="norm")
    g.output(g.linear(g.tanh(g.linear(h, w, name="first")), weight(8, 32), name="second"), "y")
    return g, np.random.default_rng(5).standard_normal((30, 64)).astype(np.float32)


def test_smoothed_models_are_measured_against_smoothed_float_ones() -> None:
    g, x = loud()
    plain, smooth = analyze(g, x, repeat=1), analyze(g, x, repeat=1, smooth=[x])
    assert "smoothed" in row(smooth, "first").why
    before, after = row(plain, "first"), row(smooth, "first")
    assert before.sqnr_db is not None and after.sqnr_db is not None and after.sqnr_db > before.sqnr_db + 3
    assert after.accumulated_sqnr_db == pytest.approx(after.sqnr_db)  # nothing is quantized before it
    expected = sqnr(g.build(smooth=[x])(x), g.build(quantize=False)(x))
    assert smooth.outputs[0].sqnr_db == pytest.approx(expected, abs=0.01)
    with pytest.raises(ValueError, match="the inputs of first are smoothed"):
        analyze((g.build(quantize=False), g.build(smooth=[x])), x)
    with pytest.raises(ValueError, match="the inputs of first are smoothed"):
        analyze(lambda **options: g.build(**options), x, smooth=[x])


def test_finer_inputs_have_less_error_and_fill_their_codes_better() -> None:
    g, x = loud()
    plain = row(analyze(g, x, repeat=1), "first")
    for options in ({"int16": ["first"]}, {"group_size": 32}):
        finer = row(analyze(g, x, repeat=1, **options), "first")
        assert finer.sqnr_db is not None and plain.sqnr_db is not None and finer.sqnr_db > plain.sqnr_db + 1
    assert row(analyze(g, x, repeat=1, group_size=32), "first").code_use > plain.code_use


def test_fixed_ranges_are_those_that_codes_are_counted_in() -> None:
    g, x = loud()
    found = row(analyze(g, x, repeat=1, ranges={"first": (-1000.0, 1000.0)}), "first")
    assert sum(found.codes[15:17]) > 0.95 * sum(found.codes)  # zero is in the middle
    assert found.ranges[9 + 14] == 0 and found.ranges[10 + 14] == len(x)  # 2000 is 2^10.97
    floating, static = g.build(quantize=False), dynq.calibrate(g.build(), [x])
    got, expected = (model.tensors({"x": x}, ["tanh"])["tanh"] for model in (static, floating))
    assert row(analyze((floating, static), x, repeat=1), "first").sqnr_db == pytest.approx(sqnr(got, expected))
