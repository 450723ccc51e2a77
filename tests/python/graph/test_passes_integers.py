"""Weights that a file keeps as integers, with nodes between these and their layer."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dynq import QuantizedWeight
from dynq.graph import Graph, Value
from dynq.ir.deferred import QuantizedRows
from dynq.ir.given import ONNX_TYPES
from dynq.passes import optimize
from dynq.passes.integers import integers_of
from tests.python.references.evaluate import evaluate
from tests.python.references.passes import normal, ops, optimized

K, N = 40, 33


def integers(dtype: str, *shape: int) -> np.ndarray[Any, Any]:
    """Random integers, none of whose rows has 127: quantized anew they would be others."""
    low, high = (-90, 90) if dtype == "int8" else (10, 200)
    return np.random.default_rng(3).integers(low, high, shape).astype(dtype)


def scales(*shape: int) -> np.ndarray[Any, Any]:
    return (np.abs(normal(*shape)) + 0.5) * np.float32(0.01)


def cast(g: Graph, q: np.ndarray[Any, Any]) -> Value:
    return g.node("Cast", [g.constant(q)], to=ONNX_TYPES["float32"])


def kept(after: Graph) -> Any:
    """Return the integers (N, K), the scales and the zero-points of the one linear layer."""
    (node,) = [node for node in after.nodes if node.op == "dynq.Linear"]
    weight = node.need("weight").constant
    if isinstance(weight, QuantizedRows):
        (weight,) = weight.pieces()
    assert isinstance(weight, QuantizedWeight)
    return weight.integers(), weight.scale, weight.zero_point


def built(g: Graph, y: Value) -> Graph:
    """The graph after all passes. The reference has no packed weights, so results are compared elsewhere."""
    g.output(y)
    optimize(g)
    return g


WRITTEN = {
    "columns": lambda g, q, s: cast(g, q) * s.reshape(1, N),
    "one scale": lambda g, q, s: cast(g, q) * s[:1],
    "rows, transposed": lambda g, q, s: g.transpose(cast(g, q.T) * s.reshape(N, 1), [1, 0]),
    "reshaped": lambda g, q, s: g.reshape(cast(g, q.reshape(5, 8, N)) * s, [K, N]),
    "dequantized, reshaped": lambda g, q, s: g.reshape(
        g.node("DequantizeLinear", [q.T.reshape(N, 4, 10), s], axis=0), [N, K]
    ),
    "two scales": lambda g, q, s: 2.0 * (cast(g, q) * s) / 2.0,
}


@pytest.mark.parametrize("name", WRITTEN)
def test_a_weight_of_scaled_integers_keeps_them(name: str) -> None:
    q, s = integers("int8", K, N), scales(N)
    g = Graph()
    w = WRITTEN[name](g, q, s)
    if name == "dequantized, reshaped":
        w = g.transpose(w, [1, 0])
    after = built(g, g.matmul(g.input("x", ("batch", K)), w))
    assert ops(after) == ["dynq.Linear"]
    got, scale, zero = kept(after)
    assert (got == q.T).all() and (zero is None or not zero.any())
    np.testing.assert_allclose(scale, np.broadcast_to(s[:1] if name == "one scale" else s, (N,)), rtol=1e-6)


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
def test_zero_points_are_kept(dtype: str) -> None:
    q, s = integers(dtype, K, N), scales(N)
    zeros = integers(dtype, N).astype(np.float32)
    g = Graph()
    after = built(g, g.matmul(g.input("x", ("batch", K)), (cast(g, q) - zeros) * s))
    got, _, zero = kept(after)
    real = got.astype(np.int32).T - zero
    assert (real == q.astype(np.int32) - zeros.astype(np.int32)).all()


@pytest.mark.parametrize("op", ["MatMul", "Gemm"])
def test_integers_on_the_left(op: str) -> None:
    q, s = integers("int8", N, K), scales(N, 1)
    g = Graph()
    after = built(g, g.node(op, [cast(g, q) * s, g.input("x", (K, "batch"))]))
    assert ops(after) == ["Transpose", "dynq.Linear", "Transpose"]
    assert (kept(after)[0] == q).all()


def test_a_scale_for_each_row_of_the_input_makes_a_float_weight() -> None:
    g = Graph()
    w = cast(g, integers("int8", K, N)) * scales(K, 1)
    after = optimized(g, g.matmul(g.input("x", ("batch", K)), w))
    assert ops(after) == ["dynq.Linear"] and after.nodes[0].need("weight").array is not None


def test_integers_that_are_computed_stay() -> None:
    g = Graph()
    w = g.node("Cast", [g.input("q", (K, N), "int8")], to=ONNX_TYPES["float32"]) * scales(N)
    assert "dynq.Linear" not in ops(optimized(g, g.matmul(g.input("x", ("batch", K)), w)))


@pytest.mark.parametrize("alpha", [1.0, 0.5])
@pytest.mark.parametrize("beta", [1.0, 2.0])
@pytest.mark.parametrize("sides", [(0, 0), (1, 0), (0, 1), (1, 1)])
@pytest.mark.parametrize("left", [False, True])
def test_gemm_with_a_constant_on_either_side(left: bool, sides: tuple[int, int], alpha: float, beta: float) -> None:
    g = Graph()
    a, b = ((N, K), (K, 7)) if left else ((7, K), (K, N))
    shapes = [shape[::-1] if side else shape for shape, side in zip((a, b), sides, strict=True)]
    x = g.input("x", shapes[1 if left else 0])
    w = normal(*shapes[0 if left else 1])
    c = normal(a[0], b[1])
    y = g.node("Gemm", [w, x, c] if left else [x, w, c], transA=sides[0], transB=sides[1], alpha=alpha, beta=beta)
    assert "Gemm" not in ops(optimized(g, y))


@given(st.data())
@settings(deadline=None, max_examples=40)
def test_chains_of_views_and_scales_have_the_values_of_the_graph(data: st.DataObject) -> None:
    """The weight is a chain of random nodes on integers; what it is read as has the values that they compute."""
    g = Graph()
    w = cast(g, integers("int8", 4, 6, 5))
    for _ in range(data.draw(st.integers(1, 5))):
        shape = [int(dim) for dim in w.shape or () if isinstance(dim, int)]
        kind = data.draw(st.sampled_from(["turn", "reshape", "times"]))
        if kind == "turn":
            w = g.transpose(w, list(data.draw(st.permutations(range(len(shape))))))
        elif kind == "reshape":
            w = g.reshape(w, data.draw(st.sampled_from([[24, 5], [4, 30], [120], [5, 24], [2, 12, 5], [4, 6, 5]])))
        else:
            axis = data.draw(st.integers(0, len(shape) - 1))
            w = w * scales(*[n if i == axis else 1 for i, n in enumerate(shape)])
    g.output(w, "w")
    found = integers_of(w)
    if found is not None:
        np.testing.assert_allclose(found.floats(), evaluate(g, {})["w"], rtol=1e-5)
