"""ONNX Runtime as the reference of its own ops."""

from __future__ import annotations

import functools
import re
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import dynq

Arrays = list[np.ndarray]
_SUMS = re.compile(r"(MatMul|Conv)Integer|DynamicQuantize(LSTM|MatMul)|QLinear(Conv|MatMul)|QGemm|QAttention")


def by_runtime(proto: onnx.ModelProto, feeds: dict[str, Any], optimize: bool = False) -> Arrays:
    """Return what ONNX Runtime gives, with the ops as they stand unless told.

    The test is skipped if the model has products of int8, and ONNX Runtime's sums of these are wrong on this CPU.
    """
    if _SUMS.search(" ".join(node.op_type for node in proto.graph.node)) and saturates():
        pytest.skip("ONNX Runtime's sums of uint8 and int8 products saturate on CPUs without VNNI")
    return _run(proto, feeds, optimize)


def _run(proto: onnx.ModelProto, feeds: dict[str, Any], optimize: bool = False) -> Arrays:
    runtime = pytest.importorskip("onnxruntime")
    options = runtime.SessionOptions()
    options.log_severity_level = 4
    if not optimize:
        options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = runtime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return [np.asarray(y) for y in session.run(None, feeds)]


def error(got: np.ndarray, want: np.ndarray) -> float:
    """Return the largest error in parts of the largest number; of integers in steps."""
    assert got.shape == want.shape and got.dtype == want.dtype
    if want.size == 0:
        return 0.0
    difference = float(np.abs(got.astype(np.float64) - want.astype(np.float64)).max())
    return difference if want.dtype.kind in "iub" else difference / max(float(np.abs(want).max()), 1e-6)


def agrees(
    proto: onnx.ModelProto, feeds: dict[str, Any], tolerance: float = 2e-5, quantized: float = 0.05
) -> dynq.Model:
    """Assert that dynq gives what ONNX Runtime gives, as float and as int8; return the int8 model."""
    want = by_runtime(proto, feeds)
    for options, limit in (({"quantize": False}, tolerance), ({"first_layer": "int8"}, quantized)):
        built = dynq.from_onnx(proto, **options)
        got = list(built.run(feeds).values())
        assert len(got) == len(want)
        for i, (a, b) in enumerate(zip(got, want, strict=True)):
            assert error(a, b) <= limit, f"output {i}, {options}: {error(a, b)}"
    return built


@functools.cache
def saturates() -> bool:
    """Return whether ONNX Runtime's sums of uint8 and int8 products are wrong on this CPU."""
    a, b = np.full((8, 64), 255, np.uint8), np.full((64, 64), 127, np.int8)
    inputs = [helper.make_tensor_value_info("a", TensorProto.UINT8, a.shape)]
    outputs = [helper.make_tensor_value_info("y", TensorProto.INT32, [8, 64])]
    node = helper.make_node("MatMulInteger", ["a", "b"], ["y"])
    graph = helper.make_graph([node], "sums", inputs, outputs, [numpy_helper.from_array(b, "b")])
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    return bool((_run(proto, {"a": a})[0] != 64 * 255 * 127).any())
