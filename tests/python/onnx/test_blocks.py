"""Weights of few bits with scales of blocks are the floats that they stand for, and layers of them int8."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

import dynq
from tests.python.references.onnx_models import model, node
from tests.python.references.onnx_runtime import agrees, by_runtime, error

RNG = np.random.default_rng(0)
LIMITS = {"INT4": (-8, 8), "UINT4": (0, 16), "INT8": (-128, 128), "UINT8": (0, 256)}


def add_tensor(proto: onnx.ModelProto, name: str, kind: str, values: np.ndarray) -> None:
    """Give the model an initializer of a type that numpy does not have."""
    proto.graph.initializer.append(
        helper.make_tensor(name, getattr(TensorProto, kind), values.shape, values.reshape(-1))
    )


def floats(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def n_bits(k: int, n: int, bits: int, block: int, zero: str, bias: bool, **more: np.ndarray) -> onnx.ModelProto:
    blocks = -(-k // block)
    constants = {
        "q": RNG.integers(0, 256, (n, blocks, block * bits // 8)).astype(np.uint8),
        "s": RNG.uniform(0.01, 0.02, (n, blocks)).astype(np.float32).reshape(-1),
        **more,
    }
    names = "x q s"
    if zero == "packed":
        constants["z"] = RNG.integers(0, 256, (n, -(-blocks * bits // 8))).astype(np.uint8)
    elif zero == "floats":
        constants["z"] = RNG.uniform(0, 1 << bits, (n, blocks)).astype(np.float32)
    names += " z" if zero != "none" else " -"
    names += " g" if "g" in more else " -"
    if bias:
        constants["b"] = floats(n)
        names += " b"
    attributes = {"K": k, "N": n, "bits": bits, "block_size": block}
    layer = node("MatMulNBits", names, "y", "layer", domain="com.microsoft", **attributes)
    return model([layer], {"x": ("float32", ["m", k])}, "y", constants, microsoft=True)


@given(
    k=st.sampled_from([32, 64, 80, 96]),
    bits=st.sampled_from([4, 8]),
    block=st.sampled_from([16, 32]),
    zero=st.sampled_from(["none", "packed", "floats"]),
    bias=st.booleans(),
)
def test_mat_mul_n_bits(k: int, bits: int, block: int, zero: str, bias: bool) -> None:
    if zero == "floats" and bits == 8:
        zero = "none"  # ONNX Runtime's floats are for 4 bits
    proto = n_bits(k, 24, bits, block, zero, bias)
    built = agrees(proto, {"x": floats(5, k)}, tolerance=1e-4)
    assert [row.became for row in built.report().rows if row.node.startswith("layer")] == ["int8 linear"]


def test_two_bits_and_an_order_of_groups() -> None:
    proto = n_bits(64, 8, 2, 16, "none", False)
    q = onnx.numpy_helper.to_array(proto.graph.initializer[0]).reshape(8, -1)
    scale = onnx.numpy_helper.to_array(proto.graph.initializer[1]).reshape(8, 4, 1)
    weight = np.stack([q >> i & 3 for i in (0, 2, 4, 6)], -1).reshape(8, 4, 16).astype(np.float32)
    x = floats(3, 64)
    want = x @ ((weight - 2) * scale).reshape(8, 64).T
    assert error(dynq.from_onnx(proto, quantize=False).run({"x": x})["y"], want) < 1e-5
    order = (np.arange(64) // 16).astype(np.int32)
    agrees(n_bits(64, 8, 4, 16, "none", False, g=order), {"x": x}, 1e-4)
    with pytest.raises(dynq.UnsupportedModelError, match="g_idx that is not in order: 'layer'"):
        dynq.from_onnx(n_bits(64, 8, 4, 16, "none", False, g=order[::-1].copy()))


def test_sizes_of_mat_mul_n_bits_are_checked() -> None:
    proto = n_bits(64, 8, 4, 16, "none", False)
    proto.graph.node[0].attribute[0].i = 96
    with pytest.raises(dynq.InvalidModelError, match=r"'layer'.*B is uint8 with 256 elements; expected uint8 with 384"):
        dynq.from_onnx(proto)


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("form", ["QDQ", "QOperator"])
def test_what_the_quantizer_of_weights_writes(form: str, symmetric: bool) -> None:
    quantization = pytest.importorskip("onnxruntime.quantization")
    writer = pytest.importorskip("onnxruntime.quantization.matmul_nbits_quantizer")
    source = model(
        [node("MatMul", "x w", "h", "first"), node("Relu", "h", "r"), node("MatMul", "r v", "y", "second")],
        {"x": ("float32", ["m", 64])}, "y", {"w": floats(64, 96), "v": floats(96, 16)},
    )  # fmt: skip
    source.ir_version = 10
    quantizer = writer.MatMulNBitsQuantizer(
        source, block_size=32, is_symmetric=symmetric, quant_format=quantization.QuantFormat[form]
    )
    quantizer.process()
    proto = quantizer.model.model
    assert {"DequantizeLinear" if form == "QDQ" else "MatMulNBits"} < {n.op_type for n in proto.graph.node}
    built = agrees(proto, {"x": floats(5, 64)}, 1e-4)
    assert [row.became for row in built.report().rows].count("int8 linear") == 2


@pytest.mark.parametrize("kind", ["INT4", "UINT4"])
def test_numbers_of_four_bits_lie_in_another_file_too(tmp_path: Path, kind: str) -> None:
    proto = model([node("DequantizeLinear", "q s", "y")], {}, "y", {"s": np.ones((), np.float32)})
    numbers = RNG.integers(*LIMITS[kind], (5, 3))
    add_tensor(proto, "q", kind, numbers)
    assert np.array_equal(dynq.from_onnx(proto).run({})["y"], numbers)
    onnx.save(proto, tmp_path / "m.onnx", save_as_external_data=True, size_threshold=0, location="m.data")
    assert np.array_equal(dynq.from_onnx(tmp_path / "m.onnx").run({})["y"], numbers)


@given(
    kind=st.sampled_from(list(LIMITS)), axis=st.sampled_from([0, 1, -1]), block=st.sampled_from([0, 4, 16]),
    zero=st.booleans(),
)  # fmt: skip
def test_dequantize_linear(kind: str, axis: int, block: int, zero: bool) -> None:
    shape = [32, 16]
    numbers = [shape[axis]]
    if block:
        numbers = shape.copy()
        numbers[axis] //= block
    attributes = {"axis": axis, **({"block_size": block} if block else {})}
    names = "q s z" if zero else "q s"
    proto = model(
        [node("DequantizeLinear", names, "w", **attributes), node("MatMul", "x w", "y", "layer")],
        {"x": ("float32", ["m", 32])}, "y", {"s": RNG.uniform(0.01, 0.02, numbers).astype(np.float32)},
    )  # fmt: skip
    proto.ir_version = 10
    add_tensor(proto, "q", kind, RNG.integers(*LIMITS[kind], shape))
    if zero:
        add_tensor(proto, "z", kind, RNG.integers(*LIMITS[kind], numbers) // 4)
    built = agrees(proto, {"x": floats(5, 32)}, 1e-4)
    assert [row.became for row in built.report().rows if row.node == "layer"] == ["int8 linear"]


def test_what_blocks_and_few_bits_are_not_for_is_refused() -> None:
    scale: dict[str, np.ndarray] = {"s": np.ones((2, 4), np.float32)}
    proto = model(
        [node("DequantizeLinear", "q s", "y", "dq", axis=0, block_size=4)], {"q": ("int8", [8, 4])}, "y", scale
    )
    with pytest.raises(dynq.UnsupportedModelError, match="blocks of integers that is not constant: 'dq'"):
        dynq.from_onnx(proto)
    proto = model(
        [node("QuantizeLinear", "x s z", "y", "q")], {"x": ("float32", [8])}, "y", {"s": np.ones((), np.float32)}
    )
    add_tensor(proto, "z", "INT4", np.array(0))
    with pytest.raises(dynq.UnsupportedModelError, match="QuantizeLinear to INT4: 'q'"):
        dynq.from_onnx(proto)
    proto = model([node("DequantizeLinear", "q s", "y", "dq", axis=0, block_size=4)], {}, "y", scale)
    add_tensor(proto, "q", "INT8", np.zeros((9, 4), np.int8))
    with pytest.raises(dynq.InvalidModelError, match=r"scale"):
        dynq.from_onnx(proto)


@pytest.mark.parametrize("zero", [False, True])
@pytest.mark.parametrize(("kind", "bits"), [("UINT8", 4), ("UINT8", 8), ("UINT4", 4), ("INT4", 4)])
def test_gather_block_quantized(kind: str, bits: int, zero: bool) -> None:
    packed = 2 if kind == "UINT8" and bits == 4 else 1
    attributes: dict[str, Any] = {"block_size": 16, "quantize_axis": 1, "gather_axis": 0}
    if kind == "UINT8":
        attributes["bits"] = bits
    names = "q i s z" if zero else "q i s"
    layer = node("GatherBlockQuantized", names, "y", "table", domain="com.microsoft", **attributes)
    scale = RNG.uniform(0.01, 0.02, (20, 3)).astype(np.float32)
    proto = model([layer], {"i": ("int64", ["n"])}, "y", {"s": scale}, 21, microsoft=True)
    proto.ir_version = 10
    add_tensor(proto, "q", kind, RNG.integers(*LIMITS[kind], (20, 48 // packed)))
    if zero:
        add_tensor(proto, "z", kind, RNG.integers(*LIMITS[kind], (20, 2 if packed == 2 else 3)))
    indices = np.array([3, 0, 19, 3])
    want = by_runtime(proto, {"i": indices})[0]
    assert error(dynq.from_onnx(proto, quantize=False).run({"i": indices})["y"], want) < 1e-6
    assert error(dynq.from_onnx(proto).run({"i": indices})["y"], want) < 0.01
