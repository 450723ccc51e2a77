"""Layers on integers with fixed ranges give what ONNX Runtime gives, within one step of rounding."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

import dynq
from tests.python.references.onnx_models import model, node
from tests.python.references.onnx_runtime import agrees, by_runtime, error

DTYPES = ["uint8", "int8"]


def integers(rng: np.random.Generator, dtype: str, *shape: int) -> np.ndarray:
    info = np.iinfo(dtype)
    return np.asarray(rng.integers(info.min, info.max + 1, shape)).astype(dtype)


def number(dtype: str, value: float) -> np.ndarray:
    return np.array(value, dtype)


def middle(dtype: str, shift: int = 0) -> np.ndarray:
    return number(dtype, (128 if dtype == "uint8" else 0) + shift)


def of_integers(
    op: str, names: str, x: np.ndarray, constants: dict[str, np.ndarray], microsoft: bool = True, **attributes: Any
) -> onnx.ModelProto:
    domain = "com.microsoft" if microsoft else ""
    inputs = {"x": (x.dtype.name, list(x.shape))}
    return model([node(op, names, "y", "layer", domain=domain, **attributes)], inputs, "y", constants, 17, microsoft)


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_convolution(dtype: str, per_channel: bool) -> None:
    rng = np.random.default_rng(1)
    x = integers(rng, dtype, 2, 8, 7, 7)
    scales = rng.uniform(0.002, 0.005, 16 if per_channel else ()).astype(np.float32)
    constants = {
        "xs": number("float32", 0.02), "xz": middle(dtype, 3),
        "w": integers(rng, "int8", 16, 8, 3, 3), "ws": scales, "wz": np.zeros_like(scales).astype(np.int8),
        "ys": number("float32", 0.08), "yz": middle(dtype, 5), "b": rng.integers(-2000, 2000, 16).astype(np.int32),
    }  # fmt: skip
    proto = of_integers(
        "QLinearConv", "x xs xz w ws wz ys yz b", x, constants, False, pads=[1, 1, 1, 1], strides=[2, 1]
    )
    built = agrees(proto, {"x": x}, tolerance=1, quantized=1)
    assert any(row.became.startswith("int8 conv, fixed range") for row in built.report().rows)


@pytest.mark.parametrize("columns", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_matrix_product(dtype: str, columns: bool) -> None:
    rng = np.random.default_rng(2)
    x, scales = integers(rng, dtype, 5, 32), rng.uniform(0.01, 0.02, 24 if columns else ()).astype(np.float32)
    constants = {
        "xs": number("float32", 0.02), "xz": middle(dtype), "w": integers(rng, "int8", 32, 24), "ws": scales,
        "wz": np.zeros_like(scales).astype(np.int8), "ys": number("float32", 0.5), "yz": middle(dtype, -2),
    }  # fmt: skip
    agrees(of_integers("QLinearMatMul", "x xs xz w ws wz ys yz", x, constants, False), {"x": x}, 1, 1)


@given(
    trans_b=st.booleans(), trans_a=st.booleans(), columns=st.booleans(), bias=st.booleans(), as_float=st.booleans(),
    alpha=st.sampled_from([1.0, 0.5]),
)  # fmt: skip
def test_a_gemm(trans_b: bool, trans_a: bool, columns: bool, bias: bool, as_float: bool, alpha: float) -> None:
    rng = np.random.default_rng(3)
    x = integers(rng, "uint8", *((32, 5) if trans_a else (5, 32)))
    scales = rng.uniform(0.01, 0.02, 24 if columns else ()).astype(np.float32)
    constants = {
        "xs": number("float32", 0.02), "xz": number("uint8", 120),
        "w": integers(rng, "int8", *((24, 32) if trans_b else (32, 24))), "ws": scales,
        "wz": np.zeros_like(scales).astype(np.int8), "b": rng.integers(-5000, 5000, 24).astype(np.int32),
        "ys": number("float32", 0.5), "yz": number("uint8", 130),
    }  # fmt: skip
    names = "x xs xz w ws wz " + ("b " if bias else "- ") + ("" if as_float else "ys yz")
    used = {name: array for name, array in constants.items() if name in names.split()}
    attributes = {"transA": int(trans_a), "transB": int(trans_b), "alpha": alpha}
    proto = of_integers("QGemm", names.removesuffix("- "), x, used, **attributes)
    agrees(proto, {"x": x}, *((2e-5, 0.04) if as_float else (1, 1)))


@pytest.mark.parametrize("zeros", [False, True])
@pytest.mark.parametrize("op", ["QLinearAdd", "QLinearMul"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_sum_and_a_product(dtype: str, op: str, zeros: bool) -> None:
    rng = np.random.default_rng(4)
    x = integers(rng, dtype, 3, 4, 5)
    constants = {"s": number("float32", 0.02), "b": integers(rng, dtype, 5), "ys": number("float32", 0.04)}
    constants["z"] = middle(dtype, 4) if zeros else number(dtype, 0)
    proto = of_integers(op, "x s z b s z ys z", x, constants)
    built = agrees(proto, {"x": x}, 1, 1)
    if not zeros:
        del constants["z"]
        without = dynq.from_onnx(of_integers(op, "x s - b s - ys", x, constants))
        assert np.array_equal(without.run({"x": x})["y"], built.run({"x": x})["y"])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("op", "attributes"),
    [
        ("QLinearSigmoid", {}),
        ("QLinearLeakyRelu", {"alpha": 0.3}),
        ("QLinearGlobalAveragePool", {}),
        ("QLinearAveragePool", {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "strides": [2, 2]}),
        ("QLinearAveragePool", {"kernel_shape": [2, 2], "pads": [0, 1, 0, 1], "count_include_pad": 1}),
        ("QLinearSoftmax", {"axis": -1, "opset": 13}),
        ("QLinearSoftmax", {"axis": 1, "opset": 13}),
        ("QLinearSoftmax", {"axis": 1, "opset": 11}),
    ],
)
def test_ops_of_one_tensor(dtype: str, op: str, attributes: dict[str, Any]) -> None:
    x = integers(np.random.default_rng(5), dtype, 2, 3, 6, 6)
    scale = 1 / 256 if op in ("QLinearSigmoid", "QLinearSoftmax") else 0.02
    zero = number(dtype, 0 if dtype == "uint8" else -128) if scale < 0.01 else middle(dtype, 2)
    constants = {"xs": number("float32", 0.03), "xz": middle(dtype, 6), "ys": number("float32", scale), "yz": zero}
    agrees(of_integers(op, "x xs xz ys yz", x, constants, **attributes), {"x": x}, 1, 1)


def test_parts_and_a_choice() -> None:
    rng = np.random.default_rng(6)
    x = integers(rng, "uint8", 2, 3)
    constants = {
        "xs": number("float32", 0.02), "xz": number("uint8", 110), "b": integers(rng, "uint8", 2, 4),
        "bs": number("float32", 0.03), "bz": number("uint8", 120), "ys": number("float32", 0.03),
        "yz": number("uint8", 128),
    }  # fmt: skip
    agrees(of_integers("QLinearConcat", "ys yz x xs xz b bs bz", x, constants, axis=1), {"x": x}, 1, 1)
    constants |= {"b": integers(rng, "uint8", 2, 3), "c": rng.random((2, 3)) < 0.5}
    agrees(of_integers("QLinearWhere", "c x xs xz b bs bz ys yz", x, constants), {"x": x}, 1, 1)


@pytest.mark.parametrize("op", ["QLinearGlobalAveragePool", "QLinearConv", "QLinearAveragePool"])
def test_channels_at_the_end_are_refused(op: str) -> None:
    names = "x s z w s z s z" if op == "QLinearConv" else "x s z s z"
    constants = {"s": number("float32", 0.1), "z": number("int8", 0), "w": np.zeros((2, 3, 1, 1), np.int8)}
    proto = of_integers(op, names, np.zeros((1, 4, 4, 3), np.int8), constants, channels_last=1, kernel_shape=[1, 1])
    with pytest.raises(dynq.UnsupportedModelError, match=rf"{op}.channels_last = 1; expected 0: 'layer'"):
        dynq.from_onnx(proto)


@pytest.mark.parametrize("per_channel", [False, True])
def test_what_quantize_static_writes_in_both_forms(tmp_path: Path, per_channel: bool) -> None:
    quantization = pytest.importorskip("onnxruntime.quantization")
    rng = np.random.default_rng(7)

    def floats(*shape: int) -> np.ndarray:
        return (rng.standard_normal(shape) * 0.3).astype(np.float32)

    x = rng.standard_normal((4, 8, 9, 9)).astype(np.float32)
    nodes = [
        node("Conv", "x w0 b0", "c", "conv", kernel_shape=[3, 3]), node("Relu", "c", "r"),
        node("Sigmoid", "r", "s"), node("Mul", "r s", "m"), node("Add", "m r", "a"),
        node("Concat", "a m", "k", axis=1), node("AveragePool", "k", "p", kernel_shape=[2, 2]),
        node("GlobalAveragePool", "p", "g"), node("Flatten", "g", "f"), node("Gemm", "f w1 b1", "d", "fc", transB=1),
        node("LeakyRelu", "d", "l", alpha=0.1), node("MatMul", "l w2", "y", "last"),
    ]  # fmt: skip
    weights = {"w0": floats(16, 8, 3, 3), "b0": floats(16), "w1": floats(24, 32), "b1": floats(24), "w2": floats(24, 8)}
    source = model(nodes, {"x": ("float32", ["n", 8, 9, 9])}, "y", weights, 13)
    source.ir_version = 7
    onnx.save(onnx.shape_inference.infer_shapes(source), tmp_path / "m.onnx")

    class Reader(quantization.CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.rest = iter([{"x": x}])

        def get_next(self) -> Any:
            return next(self.rest, None)

    for form in quantization.QuantFormat:
        quantization.quantize_static(
            tmp_path / "m.onnx", tmp_path / "q.onnx", Reader(), quant_format=form, per_channel=per_channel
        )
        proto = onnx.load(tmp_path / "q.onnx")
        ops = {n.op_type for n in proto.graph.node}
        assert form == quantization.QuantFormat.QDQ or ops >= {"QLinearConv", "QGemm", "QLinearMatMul", "QLinearConcat"}
        built = dynq.from_onnx(proto, first_layer="int8")
        assert error(built.run({"x": x})["y"], by_runtime(proto, {"x": x})[0]) < 0.06
        became = [row.became.partition(",")[0] for row in built.report().rows if row.fixed_range is not None]
        assert became.count("int8 linear") == 2 and became.count("int8 conv") == 1
