"""What export_tflite writes, LiteRT runs: with dynq's numbers where it computes in floats, else within its rounding."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

import dynq
from dynq.cli import cli
from dynq.demo.bert import bert_graph
from tests.python.references.attention_inputs import attention_inputs
from tests.python.references.bert_weights import bert_weights
from tests.python.references.op_cases import CASES, model_of
from tests.python.references.tflite_models import Graph, Op, T, constant, run_signature, write

tflite = pytest.importorskip("tflite")
pytest.importorskip("ai_edge_litert")
F = np.float32
# Ops that TensorFlow Lite lacks, that LiteRT has for other dtypes alone, or that its hybrid kernels would change.
REFUSED = {
    "Acos", "Acosh", "Asin", "Asinh", "Atan", "Atanh", "BitShift", "BitwiseAnd", "BitwiseNot", "BitwiseOr",
    "BitwiseXor", "CastLike", "Celu", "Compress", "ConvInteger", "Cosh", "Det",
    "DynamicQuantizeLinear", "Erf", "GatherElements", "GridSample", "IsInf", "MatMulInteger",
    "NonMaxSuppression", "NonZero", "RoiAlign", "ScatterElements", "ScatterND", "Selu",
    "Shrink", "Sinh", "ThresholdedRelu", "Trilu", "Unique", "dynq.MatMulIntegerPacked",
    "dynq.QuantizeRows",
}  # fmt: skip
FORMS = {  # of other ops, what is refused
    "Conv": "SAME_LOWER", "ConvTranspose": "groups", "GatherND": "batch_dims", "MatMul": "MatMul of int64",
    "MaxPool": "indices", "Range": "without elements", "Resize": "nearest with half_pixel", "TopK": "smallest",
}  # fmt: skip


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def normal(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape, F)


def ops(path: Path) -> list[str]:
    """Return the names of a file's operators."""
    names = {number: name for name, number in vars(tflite.BuiltinOperator).items() if isinstance(number, int)}
    model = tflite.Model.GetRootAs(path.read_bytes())
    graph = model.Subgraphs(0)
    codes = [model.OperatorCodes(graph.Operators(i).OpcodeIndex()) for i in range(graph.OperatorsLength())]
    return [names[code.BuiltinCode()] for code in codes]


def constants(model: dynq.Model) -> list[dynq.QuantizedWeight]:
    return [v.constant for v in model.graph().constants() if isinstance(v.constant, dynq.QuantizedWeight)]


@pytest.mark.parametrize("delegate", [False, True])
@pytest.mark.parametrize("scheme", ["asymmetric", "symmetric"])
def test_a_layer_is_within_the_rounding_of_its_input(
    rng: np.random.Generator, tmp_path: Path, scheme: Any, delegate: bool
) -> None:
    """A row is rounded to steps of its scale: each element by a step at most, its zero-point included."""
    weight, bias = dynq.quantize_weight(normal(rng, 24, 40)), normal(rng, 24)
    g = dynq.Graph()
    g.output(g.linear(g.input("x", (2, 3, 40)), weight, bias, activation="relu"), "y")
    dynq.export_tflite(g.build(scheme=scheme), tmp_path / "m.tflite")
    assert ops(tmp_path / "m.tflite") == ["FULLY_CONNECTED"]
    for x in (normal(rng, 2, 3, 40), 1e6 * np.abs(normal(rng, 2, 3, 40)), np.zeros((2, 3, 40), F)):
        got = run_signature(tmp_path / "m.tflite", {"x": x}, delegate)["y"]
        w = weight.dequantize().astype(float)
        want = np.maximum(x.astype(float) @ w.T + bias, 0)
        step = 2 * np.abs(x).max(-1, keepdims=True) / 127
        assert (np.abs(got - want) <= step * np.abs(w).sum(-1) + 1e-5 * np.abs(want) + 1e-6).all()


@pytest.mark.parametrize("delegate", [False, True])
@pytest.mark.parametrize(
    "window",
    [
        {},
        {"strides": [2, 1], "pads": [1, 0, 2, 1]},
        {"dilations": [2, 1], "auto_pad": "SAME_UPPER"},
        {"strides": [2, 2], "pads": [0, 0, 1, 1]},
    ],
)
def test_a_convolution_is_within_the_rounding_of_its_image(
    rng: np.random.Generator, tmp_path: Path, window: dict[str, Any], delegate: bool
) -> None:
    g = dynq.Graph()
    w = normal(rng, 24, 6, 3, 3)
    y = g.node("Conv", [g.input("x", (2, 6, 12, 13)), w, normal(rng, 24)], kernel_shape=[3, 3], **window)
    g.output(y, "y")
    model = g.build(first_layer="int8", attention="float")
    dynq.export_tflite(model, tmp_path / "m.tflite")
    assert "CONV_2D" in ops(tmp_path / "m.tflite")
    x = normal(rng, 2, 6, 12, 13)
    got, (weight,) = run_signature(tmp_path / "m.tflite", {"x": x}, delegate)["y"], constants(model)
    exact = dynq.from_tflite(tmp_path / "m.tflite", quantize=False)(x)  # with the same integers, as floats
    assert got.shape == model(x).shape == exact.shape
    sums = np.abs(weight.dequantize()).sum(-1)[:, None, None]
    step = 2 * np.abs(x).max() / 127
    assert (np.abs(got - exact) <= step * sums).all() and np.abs(got - exact).max() > 0
    assert (np.abs(model(x) - exact) <= step * sums).all()


@pytest.mark.parametrize("activation", ["hard_sigmoid", "hard_swish", "mish", "leaky_relu", "silu", "gelu", "tanh"])
def test_an_activation_of_a_layer_is_written_behind_it(
    rng: np.random.Generator, tmp_path: Path, activation: Any
) -> None:
    op, numbers = {
        "hard_sigmoid": ("HardSigmoid", {"alpha": 0.25, "beta": 0.4}),
        "hard_swish": ("HardSwish", {}),
        "mish": ("Mish", {}),
        "leaky_relu": ("LeakyRelu", {"alpha": 0.3}),
        "silu": ("Swish", {}),
        "gelu": ("Gelu", {}),
        "tanh": ("Tanh", {}),
    }[activation]
    g = dynq.Graph()
    y = g.linear(g.input("x", (5, 8)), normal(rng, 16, 8), normal(rng, 16))
    g.output(g.node(op, [y], **numbers), "y")
    model = g.build(quantize=False)
    assert [node.op for node in model.graph().nodes] == ["dynq.LinearFloat"]
    dynq.export_tflite(model, tmp_path / "m.tflite")
    x = 3 * normal(rng, 5, 8)
    np.testing.assert_allclose(run_signature(tmp_path / "m.tflite", {"x": x})["y"], model(x), atol=2e-5)


@pytest.mark.parametrize("scales", [(1, 1, 2, 2), (1, 1, 2, 1.5)])
def test_an_image_is_resized_by_scales(rng: np.random.Generator, tmp_path: Path, scales: tuple[float, ...]) -> None:
    g = dynq.Graph()
    x = normal(rng, 1, 3, 4, 6)
    y = g.node("Resize", [g.input("x", x.shape), None, np.array(scales, F)], mode="linear")
    assert y.shape == (1, 3, 8, 6 * scales[3])
    g.output(y, "y")
    dynq.export_tflite(g, tmp_path / "m.tflite")
    np.testing.assert_allclose(run_signature(tmp_path / "m.tflite", {"x": x})["y"], g.build()(x), atol=1e-5)


def test_the_file_has_the_integers_and_scales_of_the_model(rng: np.random.Generator, tmp_path: Path) -> None:
    g = dynq.Graph()
    h = g.linear(g.input("x", ("n", 40)), normal(rng, 96, 40), normal(rng, 96), activation="relu", name="a")
    g.output(g.linear(h, normal(rng, 40, 96), name="b"), "y")
    model = g.build(first_layer="int8")
    dynq.export_tflite(model, tmp_path / "m.tflite")
    back = dynq.from_tflite(tmp_path / "m.tflite")
    for a, b in zip(constants(model), constants(back), strict=True):
        assert np.array_equal(a.integers(), b.integers()) and np.array_equal(a.scale, b.scale)
    x = normal(rng, 5, 40)
    assert np.array_equal(back(x), model(x))
    assert (tmp_path / "m.tflite").stat().st_size < 2 * 40 * 96 + 4096


@pytest.mark.parametrize("finer", [{"int16": ["y"]}, {"group_size": {"y": 32}}])
@pytest.mark.parametrize("delegate", [False, True])
def test_layers_with_finer_inputs_take_floats(
    rng: np.random.Generator, tmp_path: Path, delegate: bool, finer: dict[str, Any]
) -> None:
    g = dynq.Graph()
    g.output(g.linear(g.input("x", ("n", 96)), normal(rng, 40, 96), name="y"), "y")
    model = g.build(**finer)
    dynq.export_tflite(model, tmp_path / "m.tflite")
    assert ops(tmp_path / "m.tflite") == ["DEQUANTIZE", "FULLY_CONNECTED"]
    x, (weight,) = normal(rng, 5, 96), constants(model)
    want = x @ weight.dequantize().T
    np.testing.assert_allclose(run_signature(tmp_path / "m.tflite", {"x": x}, delegate)["y"], want, atol=1e-4)
    assert np.array_equal(dynq.from_tflite(tmp_path / "m.tflite", **finer)(x), model(x))


def test_the_data_of_constants_is_aligned(rng: np.random.Generator, tmp_path: Path) -> None:
    """The schema asks for 16 bytes, since kernels read the data where it lies in a mapped file."""
    g = dynq.Graph()
    x = g.input("x", ("n", 5))
    for i in range(5):
        x = g.linear(x, normal(rng, 5, 5), normal(rng, 5), name=f"l{i}")
    g.output(x, "y")
    dynq.export_tflite(g.build(), tmp_path / "m.tflite")
    content = (tmp_path / "m.tflite").read_bytes()
    model = tflite.Model.GetRootAs(content)
    buffers = [model.Buffers(i) for i in range(model.BuffersLength())]
    assert buffers[0].DataLength() == 0
    for buffer in buffers[1:]:
        assert buffer._tab.Vector(buffer._tab.Offset(4)) % 16 == 0


@pytest.mark.parametrize("case", CASES, ids=[f"{i}-{case[0]}" for i, case in enumerate(CASES)])
def test_each_op_computes_the_same_in_litert(tmp_path: Path, case: tuple[str, list[Any], int, dict[str, Any]]) -> None:
    op = case[0]
    model, feed = model_of(*case)
    try:
        dynq.export_tflite(model, tmp_path / "m.tflite")
    except dynq.UnsupportedModelError as error:
        assert FORMS[op] in str(error) if op in FORMS else op in REFUSED
        return
    assert op not in REFUSED
    got = run_signature(tmp_path / "m.tflite", feed)
    for name, want in model.run(feed).items():
        assert got[name].dtype == want.dtype and got[name].shape == want.shape
        np.testing.assert_allclose(got[name], want, rtol=1e-5, atol=5e-2 if op == "dynq.MatMulDynamic" else 1e-6)


@pytest.mark.parametrize("built", ["int8", "float", "graph"])
def test_an_encoder_with_open_sizes_runs_in_litert(rng: np.random.Generator, tmp_path: Path, built: str) -> None:
    config = {"num_attention_heads": 2, "layer_norm_eps": 1e-12, "num_hidden_layers": 2, "hidden_act": "gelu"}
    graph = bert_graph(bert_weights(rng), config)
    model: Any = graph if built == "graph" else graph.build(quantize=built == "int8")
    dynq.export_tflite(model, tmp_path / "m.tflite")
    ids = rng.integers(0, 50, (3, 7))
    feed = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
    feed["attention_mask"][1, 4:] = 0
    got = run_signature(tmp_path / "m.tflite", feed)
    for name, want in graph.build(quantize=built == "int8").run(feed).items():
        np.testing.assert_allclose(got[name], want, rtol=0, atol=0.1 if built == "int8" else 1e-5)


@pytest.mark.parametrize("mask", ["none", "bool", "float"])
@pytest.mark.parametrize("packed", [False, True])
def test_attention_is_written_in_its_parts(rng: np.random.Generator, tmp_path: Path, packed: bool, mask: str) -> None:
    g, operands, feed = attention_inputs(rng, packed, mask)
    g.output(g.node("dynq.Attention", operands, heads=3), "y")
    dynq.export_tflite(g, tmp_path / "m.tflite")
    got = run_signature(tmp_path / "m.tflite", feed)["y"]
    want = g.build(quantize=False).run(feed)["y"]
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-5)


def picture(rng: np.random.Generator) -> bytes:
    """Return a network of images as TensorFlow Lite has it, channels last."""
    pads = np.array([[0, 0], [1, 0], [1, 0], [0, 0]], np.int32)
    tensors = {
        "x": T((1, 12, 12, 4)),
        "w": constant(normal(rng, 32, 3, 3, 4)),
        "d": constant(normal(rng, 1, 3, 3, 32)),
        "v": constant(normal(rng, 24, 1, 1, 32)),
        "b": constant(normal(rng, 32)),
        "pads": constant(pads),
        **{name: T(()) for name in ("p", "a", "q", "s", "y")},
    }
    stride = {"StrideH": 1, "StrideW": 1, "DilationHFactor": 1, "DilationWFactor": 1}
    more = {**stride, "FusedActivationFunction": 3}
    ops = [
        Op("PAD", "x pads", "p", "PadOptions"),
        Op("CONV_2D", "p w b", "a", "Conv2DOptions", more),
        Op("DEPTHWISE_CONV_2D", "a d b", "q", "DepthwiseConv2DOptions", {**more, "DepthMultiplier": 1}),
        Op("ADD", "a q", "s", "AddOptions"),
        Op("CONV_2D", "s v -", "y", "Conv2DOptions", stride),
    ]
    return write(Graph(tensors, ops, "x", "y"))


def test_a_network_of_images_has_no_transposes(rng: np.random.Generator, tmp_path: Path) -> None:
    content, x = picture(rng), normal(rng, 1, 12, 12, 4)
    model = dynq.from_tflite(content, quantize=False)
    dynq.export_tflite(model, tmp_path / "m.tflite")
    assert ops(tmp_path / "m.tflite") == ["PAD", "CONV_2D", "DEPTHWISE_CONV_2D", "ADD", "CONV_2D"]
    np.testing.assert_allclose(run_signature(tmp_path / "m.tflite", {"x": x})["y"], model(x), rtol=1e-4, atol=1e-4)
    back = dynq.from_tflite(tmp_path / "m.tflite", quantize=False)
    assert np.array_equal(back(x), model(x))


def test_a_reader_of_the_file_gets_the_numbers_of_the_model(rng: np.random.Generator, tmp_path: Path) -> None:
    """int8 convolutions come back bit for bit, and so do floats that no form of int8 is for."""
    model = dynq.from_tflite(picture(rng), first_layer="int8")
    assert len(constants(model)) == 2
    dynq.export_tflite(model, tmp_path / "m.tflite")
    x = normal(rng, 1, 12, 12, 4)
    assert np.array_equal(dynq.from_tflite(tmp_path / "m.tflite", first_layer="int8")(x), model(x))


def test_what_nobody_reads_is_not_written(rng: np.random.Generator, tmp_path: Path) -> None:
    g = dynq.Graph()
    x = g.input("x", (2, 6))
    g.output(g.node("Reshape", [g.node("Relu", [x]), g.node("Shape", [g.node("Transpose", [x])])]), "y")
    dynq.export_tflite(g, tmp_path / "m.tflite")
    assert ops(tmp_path / "m.tflite") == ["RELU", "RESHAPE"]
    data = normal(rng, 2, 6)
    assert np.array_equal(run_signature(tmp_path / "m.tflite", {"x": data})["y"], np.maximum(data, 0).reshape(6, 2))


@pytest.mark.parametrize("axes", [1, 2])
@pytest.mark.parametrize("quantize", [False, True])
def test_images_and_rows_of_open_sizes_run(rng: np.random.Generator, tmp_path: Path, axes: int, quantize: bool) -> None:
    g = dynq.Graph()
    x = g.input("x", ("n", 16, *("h", "w")[:axes]))
    y = g.node(
        "Conv", [x, normal(rng, 24, 16, *[3] * axes), normal(rng, 24)], kernel_shape=[3] * axes, pads=[1] * 2 * axes
    )
    y = g.node("MaxPool", [g.relu(y)], kernel_shape=[2] * axes, strides=[2] * axes)
    g.output(g.node("Unsqueeze", [y, np.array([1])]), "y")
    model = g.build(quantize=quantize, first_layer="int8")
    dynq.export_tflite(model, tmp_path / "m.tflite")
    for shape in ((1, 16, *[8] * axes), (3, 16, *[12] * axes)):
        data = normal(rng, *shape)
        got = run_signature(tmp_path / "m.tflite", {"x": data})["y"]
        np.testing.assert_allclose(got, model(data), rtol=0, atol=1.5 if quantize else 1e-4)


def test_embeddings_keep_their_integers(rng: np.random.Generator, tmp_path: Path) -> None:
    g = dynq.Graph()
    rows = rng.integers(-127, 128, (50, 8)).astype(np.int8)
    scale = rng.uniform(0.01, 0.1, 50).astype(F)
    ids = g.input("ids", ("b", "s"), "int64")
    g.output(g.node("dynq.Embedding", [rows, scale, ids]), "y")
    dynq.export_tflite(g, tmp_path / "m.tflite")
    assert "EMBEDDING_LOOKUP" in ops(tmp_path / "m.tflite")
    feed = {"ids": rng.integers(0, 50, (3, 4))}
    want = rows[feed["ids"]] * scale[feed["ids"]][..., None]
    assert np.array_equal(run_signature(tmp_path / "m.tflite", feed)["y"], want)


def test_integers_with_fixed_scales_are_written(rng: np.random.Generator, tmp_path: Path) -> None:
    g = dynq.Graph()
    x = g.node("DequantizeLinear", [g.input("x", (2, 40), "int8"), F(0.05), np.int8(3)])
    h = g.node("QuantizeLinear", [g.linear(x, normal(rng, 24, 40), name="layer"), F(0.3), np.int8(-5)])
    h = g.node("Reshape", [h, np.array([3, 16])])
    g.output(h, "h")
    g.output(g.relu(g.node("DequantizeLinear", [h, F(0.3), np.int8(-5)])), "y")
    model = g.build(first_layer="int8")
    dynq.export_tflite(model, tmp_path / "m.tflite")
    assert ops(tmp_path / "m.tflite") == ["DEQUANTIZE", "FULLY_CONNECTED", "QUANTIZE", "RESHAPE", "DEQUANTIZE", "RELU"]
    feed = {"x": rng.integers(-128, 128, (2, 40)).astype(np.int8)}
    got, want = run_signature(tmp_path / "m.tflite", feed), model.run(feed)
    assert got["h"].dtype == np.int8 and np.abs(got["h"].astype(int) - want["h"]).max() <= 1
    np.testing.assert_allclose(got["y"], want["y"], atol=0.31)
    assert np.array_equal(dynq.from_tflite(tmp_path / "m.tflite", first_layer="int8").run(feed)["h"], want["h"])
    g.output(g.node("Concat", [h, h], axis=0), "more")
    with pytest.raises(dynq.UnsupportedModelError, match="Concat of integers that stand for other numbers"):
        dynq.export_tflite(g, tmp_path / "m.tflite")


def test_names_of_inputs_and_outputs_stay(rng: np.random.Generator, tmp_path: Path) -> None:
    g = dynq.Graph()
    x, c = g.input("x", ("n", 4)), g.input("c", (4,))
    y = g.add(x, c, name="sum")
    for name, value in {"first": y, "second": y, "copy": x, "c": g.add(c, c), "constant": g.constant(2.0)}.items():
        g.output(value, name)
    dynq.export_tflite(g, tmp_path / "m.tflite")
    a, b = normal(rng, 2, 4), normal(rng, 4)
    got = run_signature(tmp_path / "m.tflite", {"x": a, "c": b})
    want = {"first": a + b, "second": a + b, "copy": a, "c": b + b, "constant": F(2)}
    assert got.keys() == want.keys() and all(np.array_equal(got[name], want[name]) for name in want)
    assert [value.name for value in dynq.from_tflite(tmp_path / "m.tflite").inputs] == ["x", "c"]


def test_one_error_names_all_that_is_refused(rng: np.random.Generator, tmp_path: Path) -> None:
    g = dynq.Graph()
    x = g.input("x", ("n", 64))
    weight = dynq.QuantizedWeight.from_integers(
        np.ones((64, 64), np.int8), np.ones(64, F), zero_point=np.ones(64, np.int32)
    )
    h = g.node("Erf", [g.linear(x, weight, name="points")], name="first")
    g.output(g.node("Erf", [h], name="second"), "y")
    model = g.build()
    with pytest.raises(dynq.UnsupportedModelError, match="what TensorFlow Lite does not express") as caught:
        dynq.export_tflite(model, tmp_path / "m.tflite")
    assert caught.value.problems == {
        "a weight with zero-points": ["points"],
        "op Erf": ["first", "second"],
    }
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_would_be_too_large_is_refused(
    rng: np.random.Generator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dynq.exporters.tflite import write as module

    monkeypatch.setattr(module, "_LARGEST", 100)
    g = dynq.Graph()
    g.output(g.linear(g.input("x", ("n", 40)), normal(rng, 8, 40)), "y")
    with pytest.raises(dynq.UnsupportedModelError, match="less than 2 GiB"):
        dynq.export_tflite(g.build(), tmp_path / "m.tflite")


def test_wrong_arguments_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TypeError, match="type dict"):
        dynq.export_tflite({}, tmp_path / "m.tflite")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="no outputs"):
        dynq.export_tflite(dynq.Graph(), tmp_path / "m.tflite")
    monkeypatch.setitem(sys.modules, "tflite", None)
    with pytest.raises(dynq.MissingPackageError, match=r"dynq\[tflite\]"):
        dynq.export_tflite(dynq.Graph(), tmp_path / "m.tflite")


def test_the_command_writes_the_file(rng: np.random.Generator, tmp_path: Path) -> None:
    g = dynq.Graph()
    g.output(g.linear(g.input("x", ("n", 40)), normal(rng, 8, 40)), "y")
    g.build().save(tmp_path / "m.dynq")
    command = ["export", str(tmp_path / "m.dynq"), "-o", str(tmp_path / "m.tflite")]
    done = CliRunner().invoke(cli, command)
    assert done.exit_code == 0 and "m.dynq -> m.tflite" in done.output, done.output
    x = normal(rng, 3, 40)
    assert np.array_equal(dynq.from_tflite(tmp_path / "m.tflite")(x), dynq.load(tmp_path / "m.dynq")(x))
    done = CliRunner().invoke(cli, [*command, "--form", "qdq"])
    assert done.exit_code == 2 and "a .tflite file has one form" in done.output
