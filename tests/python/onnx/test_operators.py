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


DYNAMIC_QUANTIZE_LINEAR = evaluator(
    "DynamicQuantizeLinear",
    [("x", TensorProto.FLOAT)],
    [("y", TensorProto.UINT8), ("s", TensorProto.FLOAT), ("z", TensorProto.UINT8)],
)


def check_quantize(x: np.ndarray) -> None:
    q, scale, zero_point = DYNAMIC_QUANTIZE_LINEAR.run(None, {"x": x})
    got_q, got_scale, got_zero = dynq.quantize(x, granularity="tensor")
    assert np.asarray(got_scale).view(np.uint32) == np.asarray(scale, F).view(np.uint32)
    assert got_zero == zero_point
    assert np.array_equal(got_q, q)


@pytest.mark.parametrize("seed", range(40))
def test_quantize_is_dynamic_quantize_linear(isa: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = (rng.standard_normal((rng.integers(1, 9), rng.integers(1, 70))) * 10.0 ** rng.integers(-20, 20)).astype(F)
    x += F(rng.choice([0, 0, 3, -3])) * np.abs(x).max()
    check_quantize(x)


# Left out, since the operator's formula gives no usable scale: ranges whose hi - lo overflows float32 (infinity; our
# rule divides first) or whose scale underflows to 0 (the evaluator divides by it; our rule takes 1).
EDGES = {
    "one value": np.array([[3]], F),
    "constant": np.full((3, 5), -2.5, F),
    "ties": np.concatenate([np.arange(-20, 235) * F(0.5), [F(-127.5), F(127.5)]]).astype(F)[None],
    "zero-point at a tie": np.array([[-0.5, 254.5, 0.5, 1.5]], F),
    "denormal": (np.arange(-30, 31) * 1e-40).astype(F)[None],
    "smallest denormals": (np.arange(-300, 301).astype(F) * F(1e-45))[None],
    "largest": np.array([[np.finfo(F).max, 0, 1, np.finfo(F).max / 2]], F),
    "largest range": np.array([[-1.7e38, 1.7e38, 1, 0]], F),
    "outlier": np.append(np.linspace(-1, 1, 99), 1e6).astype(F)[None],
}


@pytest.mark.parametrize("name", EDGES)
def test_quantize_is_dynamic_quantize_linear_at_the_edges(isa: str, name: str) -> None:
    check_quantize(EDGES[name])
    check_quantize(-EDGES[name])


@pytest.mark.parametrize("zero", [0.0, -0.0])
def test_zeros_are_quantized_as_by_dynamic_quantize_linear_but_with_a_scale_of_1(isa: str, zero: float) -> None:
    x = np.full((3, 5), zero, F)
    q, _, zero_point = DYNAMIC_QUANTIZE_LINEAR.run(None, {"x": x})
    got_q, got_scale, got_zero = dynq.quantize(x, granularity="tensor")
    assert np.array_equal(got_q, q) and got_zero == zero_point
    assert got_scale == 1  # DESIGN.md's choice; the evaluator takes 1 / 255


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


@pytest.mark.parametrize("q_dtype", ["int8", "uint8"])
def test_gemm_s32_with_zero_points_of_rows_and_channels_is_mat_mul_integer(isa: str, q_dtype: str) -> None:
    rng = np.random.default_rng(1)
    info = np.iinfo(q_dtype)
    kind = {"int8": TensorProto.INT8, "uint8": TensorProto.UINT8}[q_dtype]
    run = evaluator(
        "MatMulInteger",
        [("a", kind), ("b", TensorProto.INT8), ("az", kind), ("bz", TensorProto.INT8)],
        [("y", TensorProto.INT32)],
    )
    for m, k, n in [(1, 3, 1), (6, 33, 21), (17, 128, 48)]:
        a = rng.integers(info.min, info.max + 1, (m, k)).astype(q_dtype)
        a_zero = rng.integers(info.min, info.max + 1, (m, 1)).astype(q_dtype)
        b, b_zero = rng.integers(-128, 128, (k, n)).astype(np.int8), rng.integers(-128, 128, n).astype(np.int8)
        # the evaluator subtracts by broadcasting, and so wants a's zero-points as a column (M, 1)
        expected = run.run(None, {"a": a, "b": b, "az": a_zero, "bz": b_zero})[0]
        qw = dynq.QuantizedWeight.from_integers(b.T, F(1), b_zero)
        assert np.array_equal(dynq.gemm_s32(a, a_zero, qw), expected)
        assert np.array_equal(dynq.gemm_s32(a, a_zero[:, 0], qw), expected)
