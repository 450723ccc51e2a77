"""Per tensor, dynq is ONNX's DynamicQuantizeLinear and MatMulInteger: the reference evaluator gives the same bits."""

import numpy as np
import pytest
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

import dynq

F = np.float32


def evaluator(op: str, inputs: list[tuple[str, int]], outputs: list[tuple[str, int]]) -> ReferenceEvaluator:
    graph = helper.make_graph(
        [helper.make_node(op, [name for name, _ in inputs], [name for name, _ in outputs])],
        "graph",
        [helper.make_tensor_value_info(name, kind, None) for name, kind in inputs],
        [helper.make_tensor_value_info(name, kind, None) for name, kind in outputs],
    )
    return ReferenceEvaluator(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)]))


@pytest.mark.parametrize("seed", range(40))
def test_quantize_is_dynamic_quantize_linear(isa: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = (rng.standard_normal((rng.integers(1, 9), rng.integers(1, 70))) * 10.0 ** rng.integers(-20, 20)).astype(F)
    x += F(rng.choice([0, 0, 3, -3])) * np.abs(x).max()
    run = evaluator(
        "DynamicQuantizeLinear",
        [("x", TensorProto.FLOAT)],
        [("y", TensorProto.UINT8), ("s", TensorProto.FLOAT), ("z", TensorProto.UINT8)],
    )
    q, scale, zero_point = run.run(None, {"x": x})
    got_q, got_scale, got_zero = dynq.quantize(x, granularity="tensor")
    assert np.array_equal(got_scale.view(np.uint32), np.asarray(scale, F).view(np.uint32))
    assert got_zero == zero_point
    assert np.array_equal(got_q, q)


@pytest.mark.parametrize("w_dtype", ["int8", "uint8"])
@pytest.mark.parametrize("q_dtype", ["int8", "uint8"])
def test_gemm_s32_is_mat_mul_integer(isa: str, q_dtype: str, w_dtype: str) -> None:
    rng = np.random.default_rng(0)

    def integers(dtype: str, shape: tuple[int, ...]) -> np.ndarray:
        info = np.iinfo(dtype)
        return rng.integers(info.min, info.max + 1, shape).astype(dtype)

    kinds = {"int8": TensorProto.INT8, "uint8": TensorProto.UINT8}
    run = evaluator(
        "MatMulInteger",
        [("a", kinds[q_dtype]), ("b", kinds[w_dtype]), ("az", kinds[q_dtype]), ("bz", kinds[w_dtype])],
        [("y", TensorProto.INT32)],
    )
    for m, k, n in [(1, 1, 1), (3, 5, 17), (7, 64, 40), (13, 131, 65)]:
        a, b = integers(q_dtype, (m, k)), integers(w_dtype, (k, n))
        a_zero, b_zero = integers(q_dtype, ()), integers(w_dtype, ())
        expected = run.run(None, {"a": a, "b": b, "az": a_zero, "bz": b_zero})[0]
        qw = dynq.QuantizedWeight.from_integers(b.T, F(1), b_zero)
        assert np.array_equal(dynq.gemm_s32(a, a_zero, qw), expected)
