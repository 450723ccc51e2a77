"""Models that are quantized already keep their numbers: bit for bit what the ONNX reference gives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper
from onnx.reference import ReferenceEvaluator

import dynq
from tests.python.references.onnx_models import model, node, small_bert, two_layers

F = np.float32
rng = np.random.default_rng(0)


def same_bits(proto: onnx.ModelProto, **inputs: Any) -> dynq.Model:
    names = [output.name for output in proto.graph.output]
    built = dynq.from_onnx(proto)
    got = built.run(inputs)
    for name, want in zip(names, ReferenceEvaluator(proto).run(names, inputs), strict=True):
        want = np.asarray(want)
        assert got[name].dtype == want.dtype and np.array_equal(got[name], want), name
    return built


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("kind", ["QInt8", "QUInt8"])
def test_what_quantize_dynamic_writes_gives_the_bits_of_the_reference(
    isa: str, tmp_path: Path, kind: str, per_channel: bool
) -> None:  # fmt: skip
    quantization = pytest.importorskip("onnxruntime.quantization")
    onnx.save(two_layers(), tmp_path / "m.onnx")
    weight_type = quantization.QuantType[kind]
    quantization.quantize_dynamic(
        tmp_path / "m.onnx", tmp_path / "q.onnx", weight_type=weight_type, per_channel=per_channel
    )
    proto = onnx.load(tmp_path / "q.onnx")
    assert [n.op_type for n in proto.graph.node].count("MatMulInteger") == 2
    for scale in (1, 1e-6, 1e6):
        built = same_bits(proto, x=(rng.standard_normal((7, 64)) * scale).astype(F))
    same_bits(proto, x=np.zeros((2, 64), F))
    assert [op for _, op in built.nodes].count("dynq.Linear") == 2  # each layer is one node


def test_a_quantized_encoder_is_close_to_onnx_runtime_and_as_fused_as_a_float_one(tmp_path: Path) -> None:
    runtime = pytest.importorskip("onnxruntime")
    quantization = pytest.importorskip("onnxruntime.quantization")
    onnx.save(small_bert(17), tmp_path / "m.onnx")
    quantization.quantize_dynamic(tmp_path / "m.onnx", tmp_path / "q.onnx")
    ids = rng.integers(0, 50, (3, 7))
    feed = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
    want = runtime.InferenceSession(str(tmp_path / "q.onnx")).run(None, feed)[0].reshape(-1)
    built = dynq.from_onnx(tmp_path / "q.onnx")
    got = built.run(feed)["last_hidden_state"].reshape(-1)
    assert got @ want / np.linalg.norm(got) / np.linalg.norm(want) > 0.99  # without VNNI its sums saturate
    ops = [op for _, op in built.nodes]
    assert ops.count("dynq.Linear") == 12 and ops.count("dynq.Attention") == 2 and "MatMul" not in ops


@pytest.mark.parametrize("zeros", ["none", "number", "channels", "input"])
@pytest.mark.parametrize("b_dtype", ["int8", "uint8"])
@pytest.mark.parametrize("a_dtype", ["int8", "uint8"])
def test_mat_mul_integer_is_exact(a_dtype: str, b_dtype: str, zeros: str) -> None:
    def integers(dtype: str, *shape: int) -> np.ndarray:
        info = np.iinfo(dtype)
        return rng.integers(info.min, info.max + 1, shape).astype(dtype)

    constants: dict[str, np.ndarray] = {"b": integers(b_dtype, 33, 20)}
    inputs: dict[str, Any] = {"a": (a_dtype, ["n", 33])}
    given = {"a": integers(a_dtype, 5, 33)}
    names = "a b"
    if zeros != "none":
        names += " az bz"
        inputs["az"], given["az"] = (a_dtype, []), integers(a_dtype).reshape(())
        bz = integers(b_dtype, *([20] if zeros == "channels" else []))
        if zeros == "input":
            inputs["bz"], given["bz"] = (b_dtype, []), bz
        else:
            constants["bz"] = bz
    built = same_bits(model([node("MatMulInteger", names, "y")], inputs, "y", constants), **given)
    assert ("dynq.MatMulIntegerPacked" in [op for _, op in built.nodes]) == (zeros != "input")


@pytest.mark.parametrize("zeros", [False, True])
@pytest.mark.parametrize("form", ["cast", "dequantize"])
@pytest.mark.parametrize("options", [{"quantize": False}, {"keep_float": "layer"}])
def test_int8_weights_are_the_floats_that_they_stand_for_where_a_layer_is_to_be_float(
    options: dict[str, Any], form: str, zeros: bool
) -> None:
    rng = np.random.default_rng(4)
    q = rng.integers(-128, 128, (48, 40)).astype(np.int8)
    scale = rng.uniform(0.001, 0.01, 40).astype(np.float32)
    zero = rng.integers(-9, 9, 40) if zeros else np.zeros(40, np.int64)
    if form == "cast":
        nodes = [node("Cast", "q", "f", to=1), node("Sub", "f z", "c"), node("Mul", "c s", "w")]
        constants = {"q": q, "z": zero.astype(np.float32), "s": scale}
    else:
        nodes, constants = (
            [node("DequantizeLinear", "q s z", "w", axis=1)],
            {"q": q, "s": scale, "z": zero.astype(np.int8)},
        )
    x = rng.standard_normal((5, 48)).astype(np.float32)
    proto = model([*nodes, node("MatMul", "x w", "y", "layer")], {"x": ("float32", x.shape)}, "y", constants)
    (expected,) = ReferenceEvaluator(proto).run(None, {"x": x})
    floating = dynq.from_onnx(proto, **options)
    assert [row.became for row in floating.report().rows if row.layer] == ["float linear"]
    np.testing.assert_allclose(floating.run({"x": x})["y"], expected, rtol=1e-5, atol=1e-5)
    built = dynq.from_onnx(proto, first_layer="int8")
    (row,) = (row for row in built.report().rows if row.layer)
    assert row.became == "int8 linear" and (form == "dequantize" or row.reason == "its weight is int8")
    assert 0 < np.abs(built.run({"x": x})["y"] - expected).max() < 0.03 * np.abs(expected).max()


def test_mat_mul_integer_of_two_inputs_is_exact() -> None:
    a, b = rng.integers(0, 256, (2, 3, 40)).astype(np.uint8), rng.integers(-128, 128, (2, 40, 6)).astype(np.int8)
    inputs = {"a": ("uint8", ["n", 3, 40]), "b": ("int8", ["n", 40, 6])}
    same_bits(model([node("MatMulInteger", "a b", "y")], inputs, "y"), a=a, b=b)


def test_dynamic_quantize_linear_is_exact_and_its_outputs_can_be_read() -> None:
    proto = model([node("DynamicQuantizeLinear", "x", "q s z")], {"x": ("float32", ["n", 5])}, "q s z", opset=11)
    same_bits(proto, x=rng.standard_normal((4, 5), F))


def test_a_product_whose_integers_are_read_too_is_not_fused() -> None:
    nodes = [
        node("DynamicQuantizeLinear", "x", "q s z"), node("MatMulInteger", "q w z", "i"),
        node("Cast", "i", "f", to=1), node("Mul", "s k", "t"), node("Mul", "f t", "y"),
    ]  # fmt: skip
    constants = {"w": rng.integers(-127, 128, (8, 3)).astype(np.int8), "k": np.array(0.5, F)}
    x = rng.standard_normal((4, 8), F)
    for outputs in ("y", "i y", "f y", "q y", "s y"):
        built = same_bits(model(nodes, {"x": ("float32", ["n", 8])}, outputs, constants), x=x)
        assert ("dynq.Linear" in [op for _, op in built.nodes]) == (outputs not in ("i y", "f y"))


def test_a_product_that_takes_the_integers_without_their_zero_point_is_not_fused() -> None:
    nodes = [
        node("DynamicQuantizeLinear", "x", "q s z"), node("MatMulInteger", "q w", "i"),
        node("Cast", "i", "f", to=1), node("Mul", "s k", "t"), node("Mul", "f t", "y"),
    ]  # fmt: skip
    constants = {"w": rng.integers(-127, 128, (8, 3)).astype(np.int8), "k": np.array(0.5, F)}
    same_bits(model(nodes, {"x": ("float32", ["n", 8])}, "y", constants), x=rng.standard_normal((4, 8), F))


def microsoft(op: str, inputs: str, outputs: str, **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(
        op, [n if n != "-" else "" for n in inputs.split()], outputs.split(), op, domain="com.microsoft", **attributes
    )


X = {"x": ("float32", ["n", 16])}
CONTRIB = {
    "Gelu": (microsoft("Gelu", "x", "y"), {}),
    "BiasGelu": (microsoft("BiasGelu", "x b", "y"), {"b": rng.standard_normal(16, F)}),
    "FastGelu": (microsoft("FastGelu", "x b", "y"), {"b": rng.standard_normal(16, F)}),
    "QuickGelu": (microsoft("QuickGelu", "x", "y", alpha=1.5), {}),
    "SkipLayerNormalization": (
        microsoft("SkipLayerNormalization", "x s g b c", "y", epsilon=1e-5),
        {name: rng.standard_normal(shape, F) for name, shape in {"s": (3, 16), "g": 16, "b": 16, "c": 16}.items()},
    ),
    "FusedMatMul": (
        microsoft("FusedMatMul", "x w", "y", alpha=0.5, transB=1), {"w": rng.standard_normal((4, 16), F)},
    ),
    "DynamicQuantizeMatMul": (
        microsoft("DynamicQuantizeMatMul", "x w s z b", "y"),
        {"w": rng.integers(0, 256, (16, 4)).astype(np.uint8), "s": np.array(0.01, F),
         "z": np.array(120, np.uint8), "b": rng.standard_normal(4, F)},
    ),
}  # fmt: skip


@pytest.mark.parametrize("op", CONTRIB)
def test_ops_of_onnx_runtime_are_close_to_it(op: str) -> None:
    runtime = pytest.importorskip("onnxruntime")
    written, constants = CONTRIB[op]
    inputs = X if op != "SkipLayerNormalization" else {"x": ("float32", [3, 16])}
    proto = model([written], inputs, "y", constants, opset=17, microsoft=True)
    x = rng.standard_normal((3, 16), F)
    try:
        expected = runtime.InferenceSession(proto.SerializeToString()).run(None, {"x": x})[0]
    except Exception as error:
        pytest.skip(f"ONNX Runtime does not run it: {error}")
    got = dynq.from_onnx(proto, quantize=False)(x)
    np.testing.assert_allclose(got, expected, rtol=1e-3 if op == "FastGelu" else 1e-5, atol=1e-5)
