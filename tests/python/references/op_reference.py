"""Random inputs for one op, and what the ONNX package says about it."""

from typing import Any

import numpy as np
from onnx import defs, helper
from onnx.reference import ReferenceEvaluator

from tests.python.references.one_op import run_op

Array = np.ndarray[Any, Any]
NUMBERS = ["float32", "int64", "int32", "uint8", "int8"]
ALL = [*NUMBERS, "bool"]


def array(rng: np.random.Generator, shape: tuple[int, ...], dtype: str, nonzero: bool = False) -> Array:
    if dtype == "float32":
        x: Array = rng.normal(scale=4, size=shape).astype(np.float32)
        return x
    if dtype == "bool":
        return rng.integers(0, 2, shape).astype(bool)
    x = rng.integers(0 if dtype == "uint8" else -100, 100, shape).astype(dtype)
    return np.where(x == 0, np.array(3, dtype), x) if nonzero else x


def broadcastable(rng: np.random.Generator, count: int = 2) -> list[tuple[int, ...]]:
    """Shapes that go together: each may lack leading sizes and have 1 where others have more."""
    whole = [int(n) for n in rng.choice([1, 2, 3, 5, 16, 33], rng.integers(0, 6))]
    shapes = []
    for _ in range(count):
        kept = [n if rng.random() < 0.6 else 1 for n in whole]
        shapes.append(tuple(kept[int(rng.integers(0, len(kept) + 1)) :] if rng.random() < 0.5 else kept))
    return shapes


def shape_of(rng: np.random.Generator, least: int = 1, most: int = 5) -> tuple[int, ...]:
    return tuple(int(n) for n in rng.choice([1, 2, 3, 4, 7, 18], rng.integers(least, most + 1)))


def reference(op: str, *inputs: Any, outputs: int = 1, **attributes: Any) -> list[Array]:
    """What the ONNX package says; None is an input that is left out."""
    names = [f"x{i}" if value is not None else "" for i, value in enumerate(inputs)]
    results = [f"y{i}" for i in range(outputs)]
    node = helper.make_node(op, names, results, **attributes)
    given = {name: value for name, value in zip(names, inputs, strict=True) if value is not None}
    infos = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)
        for name, value in given.items()
    ]
    graph = helper.make_graph([node], "one", infos, [helper.make_empty_tensor_value_info(name) for name in results])
    opset = helper.make_opsetid("", defs.onnx_opset_version())
    model = helper.make_model(graph, opset_imports=[opset])
    with np.errstate(all="ignore"):
        return [np.asarray(value) for value in ReferenceEvaluator(model).run(None, given)]


def assert_same(got: Any, expected: Any, tolerance: float = 0.0) -> None:
    expected = np.asarray(expected)
    assert got.dtype == expected.dtype
    assert got.shape == expected.shape
    if tolerance:
        np.testing.assert_allclose(got, expected, rtol=tolerance, atol=tolerance)
    else:
        np.testing.assert_array_equal(got, expected)


def check(
    op: str, *inputs: Any, outputs: int = 1, constants: tuple[int, ...] = (), tolerance: float = 0.0, **attributes: Any
) -> None:
    got = run_op(op, *inputs, outputs=outputs, constants=constants, **attributes)
    expected = reference(op, *inputs, outputs=outputs, **attributes)
    for one, other in zip(got if outputs > 1 else [got], expected, strict=True):
        assert_same(one, other, tolerance)
