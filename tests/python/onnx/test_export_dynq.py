"""In form "dynq" ONNX Runtime runs dynq's kernels for layers of integers: their bits are dynq's."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

import dynq
from dynq.demo.bert import bert_graph
from dynq.plan.write import write_image
from tests.python.references.bert_weights import bert_weights

F = np.float32
RNG = np.random.default_rng(0)


def normal(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape, F)


def session_of(file: Path | bytes) -> Any:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.register_custom_ops_library(dynq.ort_library())
    given = file if isinstance(file, bytes) else str(file)
    return onnxruntime.InferenceSession(given, options, providers=["CPUExecutionProvider"])


def agree(model: dynq.Model, path: Path, feed: dict[str, np.ndarray]) -> list[str]:
    """Assert that ONNX Runtime gives the bits of ``model``; return the ops of the file."""
    dynq.export_onnx(model, path, form="dynq")
    names = [value.name for value in model.outputs]
    for name, found in zip(names, session_of(path).run(None, feed), strict=True):
        np.testing.assert_array_equal(found, model.run(feed)[name])
    return [node.op_type for node in onnx.load(path, load_external_data=False).graph.node]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"scheme": "symmetric"},
        {"granularity": "tensor"},
        {"int16": "*"},
        {"group_size": 32},
    ],
)
def test_linear_layers_of_every_kind(tmp_path: Path, options: Any) -> None:
    g = dynq.Graph()
    x = g.input("x", ("batch", "time", 64))
    h = g.linear(x, normal(96, 64), normal(96), activation="gelu", name="first")
    y = g.linear(h, normal(64, 96), residual=x, name="second")
    model = g.build({"h": h, "y": y}, default="int8", first_layer="int8", **options)
    found = agree(model, tmp_path / "m.onnx", {"x": normal(3, 5, 64)})
    assert found == ["DynqLinear", "DynqLinear"]


def test_the_rest_is_onnx_runtimes(tmp_path: Path) -> None:
    g = dynq.Graph()
    x = g.input("x", ("batch", 8, 64))
    h = g.linear(x, normal(96, 64), name="first")
    y = g.linear(g.softmax(h), normal(10, 96), name="float")
    model = g.build({"y": y}, default="int8", first_layer="int8", keep_float=["float"])
    path, feed = tmp_path / "m.onnx", {"x": normal(2, 8, 64)}
    dynq.export_onnx(model, path, form="dynq")
    proto = onnx.load(path)
    assert {node.op_type for node in proto.graph.node} == {"DynqLinear", "Softmax", "MatMul"}
    assert {(o.domain, o.version) for o in proto.opset_import} == {("", 18), ("dynq", 1)}
    (output,) = proto.graph.output
    assert [d.dim_param or d.dim_value for d in output.type.tensor_type.shape.dim] == ["batch", 8, 10]
    np.testing.assert_allclose(session_of(path).run(None, feed)[0], model.run(feed)["y"], atol=1e-5)


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
@pytest.mark.parametrize("direction", ["forward", "bidirectional"])
@pytest.mark.parametrize("keep_float", [[], ["*projection"], ["*"]])
def test_recurrent_layers(tmp_path: Path, cell: str, direction: Any, keep_float: list[str]) -> None:
    gates, ends = {"lstm": 4, "gru": 3, "rnn": 1}[cell], 2 if direction == "bidirectional" else 1
    g = dynq.Graph()
    x, lengths = g.input("x", (6, "batch", 32)), g.input("lengths", ("batch",), "int32")
    h = g.input("h", (ends, "batch", 16))
    outputs = getattr(g, cell)(
        x, normal(ends, gates * 16, 32), normal(ends, gates * 16, 16), normal(ends, 2 * gates * 16),
        initial_h=h, lengths=lengths, direction=direction, name="cell",
    )  # fmt: skip
    model = g.build({"y": outputs[0], "h_last": outputs[1]}, default="int8", first_layer="int8", keep_float=keep_float)
    feed = {"x": normal(6, 3, 32), "lengths": np.array([6, 2, 4], np.int32), "h": normal(ends, 3, 16)}
    if keep_float == ["*"]:
        dynq.export_onnx(model, tmp_path / "m.onnx", form="dynq")
        found = [node.op_type for node in onnx.load(tmp_path / "m.onnx").graph.node]
        assert cell.upper() in found and not any(op.startswith("Dynq") for op in found)
    else:
        assert f"Dynq{cell.upper()}" in agree(model, tmp_path / "m.onnx", feed)


def test_a_float_cell_behind_an_int8_projection_stays_with_it(tmp_path: Path) -> None:
    g = dynq.Graph()
    outputs = g.gru(g.input("x", (6, "batch", 32)), normal(1, 48, 32), normal(1, 48, 16), name="cell")
    plain = g.build({"y": outputs[0]}, keep_float=["cell"]).graph()
    mixed = g.build({"y": outputs[0]}, default="int8", first_layer="int8").graph()
    (cell,) = (node for node in mixed.nodes if node.op == "dynq.GRU")
    (other,) = (node for node in plain.nodes if node.op == "dynq.GRU")
    cell.set_input("R_forward", None)
    cell.set_input("R_panels", other.need("R_panels"))
    model = dynq.load(write_image(mixed, {}).tobytes())
    assert agree(model, tmp_path / "m.onnx", {"x": normal(6, 3, 32)}) == ["DynqLinear", "DynqGRU"]


def test_convolutions_attention_and_products(tmp_path: Path) -> None:
    g = dynq.Graph()
    x = g.input("x", ("batch", 32, 12, 12))
    h = g.conv(x, normal(64, 32, 3, 3), normal(64), pads=[1, 1, 1, 1], activation="relu", name="conv")
    model = g.build({"y": h}, default="int8", first_layer="int8")
    assert agree(model, tmp_path / "conv.onnx", {"x": normal(2, 32, 12, 12)}) == ["DynqConv"]
    g = dynq.Graph()
    x = g.input("x", ("batch", 7, 64))
    q, k, v = (g.linear(x, normal(64, 64), name=name) for name in "qkv")
    y = g.attention(q, k, v, heads=4)
    model = g.build({"y": y}, default="int8", first_layer="int8", attention="int8")
    assert "DynqAttention" in agree(model, tmp_path / "attention.onnx", {"x": normal(2, 7, 64)})


def test_an_encoder_runs_with_dynqs_layers(tmp_path: Path) -> None:
    config = {"num_attention_heads": 2, "layer_norm_eps": 1e-12, "num_hidden_layers": 2, "hidden_act": "gelu"}
    model = bert_graph(bert_weights(RNG), config).build()
    dynq.export_onnx(model, tmp_path / "m.onnx", form="dynq")
    found = [node.op_type for node in onnx.load(tmp_path / "m.onnx").graph.node]
    assert found.count("DynqLinear") == sum(op == "dynq.Linear" for _, op in model.nodes) > 5
    feed = {"input_ids": RNG.integers(0, 50, (3, 7)), "attention_mask": np.ones((3, 7), np.int64)}
    for y, want in zip(session_of(tmp_path / "m.onnx").run(None, feed), model.run(feed).values(), strict=True):
        np.testing.assert_allclose(y, want, rtol=0, atol=2e-2)
        assert np.vdot(y, want) > 0.999 * np.linalg.norm(y) * np.linalg.norm(want)


def linear(n: int = 40, k: int = 64) -> dynq.Model:
    g = dynq.Graph()
    g.output(g.linear(g.input("x", ("batch", k)), normal(n, k), normal(n), name="layer"), "y")
    return g.build(default="int8", first_layer="int8")


def test_many_threads_run_one_session(tmp_path: Path) -> None:
    model, path = linear(), tmp_path / "m.onnx"
    dynq.export_onnx(model, path, form="dynq", external_data=True)
    session, wrong = session_of(path), []

    def work(rows: int) -> None:
        x = np.full((rows, 64), rows, F) * np.arange(64, dtype=F)
        for _ in range(20):
            if not np.array_equal(session.run(None, {"x": x})[0], model(x)):
                wrong.append(rows)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(1, 7)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_nan_stays_in_its_row_and_no_rows_are_none(tmp_path: Path) -> None:
    model, path = linear(), tmp_path / "m.onnx"
    dynq.export_onnx(model, path, form="dynq")
    x = normal(3, 64)
    x[1, 2] = np.inf
    (y,) = session_of(path).run(None, {"x": x})
    assert np.isnan(y[1]).all() and np.array_equal(y[::2], model(x[::2]))
    assert session_of(path).run(None, {"x": x[:0]})[0].shape == (0, 40)


def test_layers_that_are_alike_share_their_bytes(tmp_path: Path) -> None:
    g, w = dynq.Graph(), dynq.quantize_weight(normal(64, 64))
    x = g.input("x", ("batch", 64))
    weight = g.constant(w)
    y = g.node("dynq.Linear", [g.node("dynq.Linear", [x, weight]), weight])
    model = g.build({"y": y})
    assert agree(model, tmp_path / "m.onnx", {"x": normal(2, 64)}) == ["DynqLinear", "DynqLinear"]
    assert len(onnx.load(tmp_path / "m.onnx").graph.initializer) == 1


@pytest.mark.parametrize(
    ("image", "inputs", "text"),
    [
        (np.zeros(200, np.uint8), 1, "not a .dynq file"),
        (np.zeros(0, np.uint8), 1, "bytes is NULL"),
        (None, 2, "another number of inputs or outputs than its layer"),
    ],
)
def test_a_damaged_layer_is_an_error_of_the_session(tmp_path: Path, image: Any, inputs: int, text: str) -> None:
    path = tmp_path / "m.onnx"
    dynq.export_onnx(linear(), path, form="dynq")
    proto = onnx.load(path)
    if image is not None:
        proto.graph.initializer[0].CopyFrom(numpy_helper.from_array(image, proto.graph.initializer[0].name))
    proto.graph.node[0].input.extend(["x"] * (inputs - 1))
    with pytest.raises(Exception, match=text):
        session_of(proto.SerializeToString())


def test_wrong_inputs_are_errors_of_the_run() -> None:
    """A layer that a stranger wrote: its sizes are not those of the graph around it."""
    model = linear()
    nodes = [helper.make_node("DynqLinear", ["layer", "x"], ["y"], domain="dynq")]
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in "xy")
    layer = helper.make_tensor_value_info("layer", TensorProto.UINT8, None)
    image = numpy_helper.from_array(np.frombuffer(model.to_bytes(), np.uint8), "layer")
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("dynq", 1)]

    def made(inputs: list[Any], initializers: list[Any]) -> bytes:
        graph = helper.make_graph(nodes, "g", inputs, [y], initializers)
        return bytes(helper.make_model(graph, opset_imports=opsets, ir_version=9).SerializeToString())

    session = session_of(made([x], [image]))
    given = normal(3, 64)
    np.testing.assert_array_equal(session.run(None, {"x": given})[0], model(given))
    with pytest.raises(Exception, match="x"):
        session.run(None, {"x": normal(3, 63)})
    with pytest.raises(Exception, match="dimensions"):
        session.run(None, {"x": normal(*[1] * 8, 64)})
    with pytest.raises(Exception, match="is no constant"):
        session_of(made([x, layer], []))
