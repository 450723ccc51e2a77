"""Inputs whose sizes an exporter has written as -1."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

import dynq
from tests.python.references.onnx_models import model, node

X = np.random.default_rng(0).standard_normal((3, 32), np.float32)
W = np.random.default_rng(1).standard_normal((32, 16), np.float32)


def product(*sizes: int) -> onnx.ModelProto:
    return model([node("MatMul", "x w", "y")], {"x": ("float32", sizes)}, "y", {"w": W})


@pytest.mark.parametrize("quantize", [False, True])
def test_a_size_of_minus_one_is_open(quantize: bool) -> None:
    made = dynq.from_onnx(product(-1, 32), quantize=quantize, first_layer="int8")
    assert [type(size) for size in made.inputs[0].shape] == [str, int]
    for rows in (1, 3):
        np.testing.assert_allclose(made(X[:rows]), X[:rows] @ W, atol=0.2 if quantize else 1e-4)


@pytest.mark.parametrize("shape", [(None, 32), (3, 32)])
def test_shapes_can_set_a_size_of_minus_one(shape: tuple[int | None, int]) -> None:
    made = dynq.from_onnx(product(-1, -1), quantize=False, shapes={"x": shape})
    np.testing.assert_allclose(made(X), X @ W, rtol=1e-4, atol=1e-5)


def test_a_value_can_fix_an_input_with_a_size_of_minus_one() -> None:
    proto = model([node("Add", "x b", "y")], {"x": ("float32", [-1, 32]), "b": ("float32", [-1])}, "y")
    made = dynq.from_onnx(proto, inputs={"b": X[0]})
    np.testing.assert_array_equal(made(X), X + X[0])


def test_other_sizes_under_zero_are_refused() -> None:
    with pytest.raises(dynq.InvalidModelError, match="input 'x': dimension 0 is -2; expected 0 or more"):
        dynq.from_onnx(product(-2, 32))
