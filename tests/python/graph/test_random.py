"""Random graphs: the model in float32 gives what NumPy gives, whatever the passes make of them."""

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from dynq.graph import Graph, Value
from tests.python.references.evaluate import evaluate

SIZES = {"batch": 3, "time": 4}


def normal(rng: Any, *shape: int) -> Any:
    return rng.standard_normal(shape, np.float32)


def width(x: Value) -> int:
    assert x.shape is not None and isinstance(x.shape[-1], int)
    return x.shape[-1]


def matmul(g: Graph, x: Value, other: Value, rng: Any) -> Value:
    return g.matmul(x, normal(rng, width(x), int(rng.choice([3, 8, 16]))) / 3)


def bias(g: Graph, x: Value, other: Value, rng: Any) -> Value:
    return g.add(normal(rng, width(x)), x) if rng.random() < 0.5 else g.add(x, normal(rng, 1, width(x)))


def add(g: Graph, x: Value, other: Value, rng: Any) -> Value:
    return x + other if x.shape == other.shape else x + 1.0


def linear(g: Graph, x: Value, other: Value, rng: Any) -> Value:
    w = normal(rng, int(rng.choice([3, 8, 16])), width(x)) / 3
    return g.linear(x, w, normal(rng, len(w)), activation=rng.choice(["relu", "tanh", "silu"]))


def gelu(g: Graph, x: Value, other: Value, rng: Any) -> Value:
    return x * (g.node("Erf", [x / np.float32(np.sqrt(2))]) + 1.0) * (0.5 if rng.random() < 0.7 else 0.4)


def norm(g: Graph, x: Value, other: Value, rng: Any) -> Value:
    d = x - g.reduce_mean(x, [-1])
    y = d / g.node("Sqrt", [g.reduce_mean(d * d, [-1]) + 1e-3])
    return y * normal(rng, width(x)) + (normal(rng, width(x)) if rng.random() < 0.5 else 0.0)


def heads(g: Graph, x: Value, other: Value, rng: Any) -> Value:
    size = width(x)
    if size % 2:
        return x
    q, k, v = (g.matmul(x, normal(rng, size, size) / 3) for _ in range(3))
    q, v = (g.transpose(g.reshape(y, [0, -1, 2, size // 2]), [0, 2, 1, 3]) for y in (q, v))
    k = g.transpose(g.reshape(k, [0, -1, 2, size // 2]), [0, 2, 3, 1])
    y = g.softmax(q @ k / float(rng.choice([1.5, np.sqrt(size / 2)]))) @ v
    return g.reshape(g.transpose(y, [0, 2, 1, 3]), [0, -1, size])


def cut(g: Graph, x: Value, other: Value, rng: Any) -> Value:
    a, b = g.split(x, [1, width(x) - 1])
    return g.concat([b, a]) if rng.random() < 0.5 else x[..., 1:]


STEPS: list[Any] = [
    matmul, bias, add, linear, gelu, norm, heads, cut,
    lambda g, x, other, rng: g.relu(x),
    lambda g, x, other, rng: g.silu(x),
    lambda g, x, other, rng: g.softmax(x),
    lambda g, x, other, rng: g.node("Clip", [x, np.float32(-0.5), np.float32(0.75)]),
    lambda g, x, other, rng: x * 1.0 - other if x.shape == other.shape else g.node("Identity", [x]),
    lambda g, x, other, rng: g.reshape(g.reshape(x, [0, 0, -1, 1]), [0, 0, -1]),
]  # fmt: skip


OPS = [
    "Add", "BatchNormalization", "Cast", "Clip", "Concat", "Conv", "Div", "Dropout", "Erf", "Exp", "Expand", "Gather",
    "Gelu", "Gemm", "Identity", "LayerNormalization", "MatMul", "Mul", "Pow", "Range", "ReduceMax", "ReduceMean",
    "ReduceSum", "Relu", "Reshape", "Shape", "Sigmoid", "Slice", "Softmax", "Split", "Sqrt", "Squeeze", "Sub", "Tanh",
    "Transpose", "Unsqueeze", "Where", "dynq.Attention", "dynq.Embedding", "dynq.LinearFloat", "dynq.MatMulDynamic",
]  # fmt: skip
NAMES = [
    "axis",
    "axes",
    "perm",
    "to",
    "keepdims",
    "heads",
    "epsilon",
    "transA",
    "transB",
    "alpha",
    "start",
    "allowzero",
]
CONSTANTS = [
    np.float32(1), np.float32(0.5), np.ones(8, np.float32), np.ones((8, 8), np.float32), np.ones((2, 8), np.float32),
    np.int64(1), np.array([-1]), np.array([0, -1, 8]), np.array([2, 0, 1]), np.array([2**62, 3]), np.ones((2, 2), bool),
]  # fmt: skip


@settings(max_examples=500)
@given(st.integers(0, 2**32 - 1))
def test_whatever_is_written_is_built_or_refused(seed: int) -> None:
    rng = np.random.default_rng(seed)
    g = Graph()
    values: list[Any] = [g.input("x", ("batch", "time", 8)), g.input("ids", ("time",), "int64"), None]
    values += [g.constant(array) for array in CONSTANTS]
    attributes = [0, 1, -1, 2, 0.5, [0, 2, 1], [1], "none"]
    for _ in range(int(rng.integers(1, 9))):
        inputs = [values[i] for i in rng.integers(0, len(values), int(rng.integers(0, 5)))]
        given = {NAMES[i]: attributes[int(rng.integers(len(attributes)))] for i in rng.integers(0, len(NAMES), 2)}
        count = int(rng.integers(1, 3))
        result = g.node(str(rng.choice(OPS)), inputs, count, **(given if rng.random() < 0.5 else {}))
        values += result if isinstance(result, tuple) else [result]
    g.output(values[-1], "last")
    try:
        model = g.build(quantize=bool(rng.random() < 0.5), attention=str(rng.choice(["float", "int8"])))
        model.run({"x": normal(rng, 3, 4, 8), "ids": np.arange(4)})
    except (ValueError, TypeError) as error:
        assert str(error)


@settings(max_examples=150)
@given(st.lists(st.integers(0, len(STEPS) - 1), min_size=1, max_size=14), st.integers(0, 2**32 - 1))
def test_passes_and_runtime_give_what_numpy_gives(steps: list[int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    g = Graph()
    values = [g.input("x", ("batch", "time", 8)), g.input("z", ("batch", "time", 8))]
    for step in steps:
        x = values[int(rng.integers(max(0, len(values) - 3), len(values)))]
        values.append(STEPS[step](g, x, values[int(rng.integers(len(values)))], rng))
    g.output(values[-1], "last")
    g.output(values[len(values) // 2], "middle")
    inputs = {value.name: normal(rng, 3, 4, 8) for value in g.inputs}
    model = g.build(quantize=False)
    result = model.run(inputs)
    for name, expected in evaluate(g, inputs).items():
        assert result[name].shape == expected.shape
        np.testing.assert_allclose(result[name], expected, rtol=2e-3, atol=2e-4 * max(1, np.abs(expected).max()))
    computed = [value for node in model.graph().nodes for value in node.outputs if value is not None]
    for name, array in model.tensors(inputs).items():
        (shape,) = (value.shape for value in computed if value.name == name)
        if shape is not None:  # what the graph says of sizes holds
            assert [SIZES.get(dim, dim) for dim in shape if dim is not None] == [
                size for size, dim in zip(array.shape, shape, strict=True) if dim is not None
            ]
