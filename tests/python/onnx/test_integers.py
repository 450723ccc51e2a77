"""Integers in ops that other files have floats in: computed as ONNX allows it, or refused when the model is read."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import dynq
from tests.python.references.onnx_models import model, node
from tests.python.references.onnx_runtime import by_runtime

TYPES = ["int64", "int32"]


def numbers(dtype: str, *shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).integers(-9, 10, shape).astype(dtype)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize(
    ("left", "right"), [((3, 8), (8, 5)), ((2, 1, 3, 4), (5, 4, 2)), ((4,), (2, 4, 3)), ((3, 4), (4,))]
)
def test_a_product_of_integers_is_exact(dtype: str, left: Any, right: Any, isa: str) -> None:
    a, b = numbers(dtype, *left), numbers(dtype, *right)
    a.reshape(-1)[0] = np.iinfo(dtype).max  # it wraps
    proto = model([node("MatMul", "a b", "y")], {"a": (dtype, left), "b": (dtype, right)}, "y")
    got = dynq.from_onnx(proto).run({"a": a, "b": b})["y"]
    with np.errstate(over="ignore"):
        want = np.matmul(a, b)
    assert got.dtype == want.dtype and np.array_equal(got, want)


@pytest.mark.parametrize("dtype", TYPES)
def test_a_gemm_of_integers(dtype: str) -> None:
    a, b, c = numbers(dtype, 4, 3), numbers(dtype, 5, 4), numbers(dtype, 5)
    nodes = [node("Gemm", "a b c", "y", "gemm", transA=1, transB=1, alpha=2.0, beta=3.0)]
    given = {"a": (dtype, a.shape), "b": (dtype, b.shape), "c": (dtype, c.shape)}
    got = dynq.from_onnx(model(nodes, given, "y")).run({"a": a, "b": b, "c": c})["y"]
    assert got.dtype == a.dtype and np.array_equal(got, 2 * a.T @ b.T + 3 * c)
    nodes = [node("Gemm", "a b c", "y", "gemm", transA=1, transB=1, alpha=0.5)]
    with pytest.raises(dynq.UnsupportedModelError, match=r"Gemm of int.. with alpha 0\.5"):
        dynq.from_onnx(model(nodes, given, "y"))


REDUCTIONS = {
    "ReduceMean": lambda x: np.trunc(x.mean(1, keepdims=True)),
    "ReduceL1": lambda x: np.abs(x).sum(1, keepdims=True),
    "ReduceSumSquare": lambda x: (x * x).sum(1, keepdims=True),
    "ReduceL2": lambda x: np.trunc(np.sqrt((x * x).sum(1, keepdims=True))),
}


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("op", REDUCTIONS)
def test_reductions_of_integers(op: str, dtype: str) -> None:
    x = numbers(dtype, 6, 7, 2)
    proto = model([node(op, "x a", "y")], {"x": (dtype, ["n", 7, 2])}, "y", {"a": np.array([1])})
    got = dynq.from_onnx(proto)(x)
    assert got.dtype == x.dtype and np.array_equal(got, REDUCTIONS[op](x))


@pytest.mark.parametrize("dtype", [*TYPES, "int8"])
def test_the_positive_part_of_integers(dtype: str) -> None:
    x = numbers(dtype, 4, 5)
    got = dynq.from_onnx(model([node("Relu", "x", "y")], {"x": (dtype, x.shape)}, "y"))(x)
    assert got.dtype == x.dtype and np.array_equal(got, np.maximum(x, 0))


def test_integers_that_an_op_does_not_take_are_refused_when_the_model_is_read() -> None:
    nodes = [node("Softmax", "x", "s", "first"), node("Sqrt", "x", "r", "second"), node("Exp", "x", "e", "third")]
    proto = model(nodes, {"x": ("int64", [2, 3])}, "s r e")
    with pytest.raises((dynq.UnsupportedModelError, dynq.InvalidModelError)) as caught:
        dynq.from_onnx(proto)
    text = str(caught.value)
    assert "Softmax of int64 (input input); expected float32: 'first'" in text
    assert "Sqrt of int64 (input X); expected float32: 'second'" in text
    assert "Exp of int64 (input input); expected float32: 'third'" in text


@pytest.mark.parametrize("op", ["BitwiseAnd", "BitwiseOr", "BitwiseXor"])
def test_bits_of_integers(op: str) -> None:
    a, b = numbers("int32", 3, 4), numbers("int32", 4)
    proto = model([node(op, "a b", "y")], {"a": ("int32", [3, 4]), "b": ("int32", [4])}, "y", opset=18)
    feeds = {"a": a, "b": b}
    assert np.array_equal(dynq.from_onnx(proto).run(feeds)["y"], by_runtime(proto, feeds)[0])


def test_random_numbers_are_the_same_in_each_run() -> None:
    nodes = [node("RandomNormalLike", "x", "n", seed=3.0), node("Add", "x n", "y")]
    nodes += [node("RandomUniform", "", "u", shape=[2, 3], low=5.0, high=6.0)]
    nodes[-1].ClearField("input")
    built = dynq.from_onnx(model(nodes, {"x": ("float32", ["n"])}, "y u"))
    x = np.zeros(1000, np.float32)
    first, second = built.run({"x": x}), built.run({"x": x})
    assert all(np.array_equal(first[name], second[name]) for name in ("y", "u"))
    assert abs(first["y"].mean()) < 0.2 and ((first["u"] >= 5) & (first["u"] < 6)).all()
