"""Attention in the layout of torch.nn.MultiheadAttention, (time, batch, width), beside NumPy."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest

from dynq import Graph
from dynq.graph import Value
from dynq.passes.axes import regroup

Array = np.ndarray[Any, Any]


def weights(width: int) -> dict[str, Array]:
    rng = np.random.default_rng(width)
    shapes = {"in": (3 * width, width), "in_bias": (3 * width,), "out": (width, width), "out_bias": (width,)}
    return {name: rng.standard_normal(shape, np.float32) / 4 for name, shape in shapes.items()}


def reference(x: Array, w: dict[str, Array], heads: int, causal: bool) -> Array:
    """x is (time, batch, width)."""
    time, batch, width = x.shape
    q, k, v = np.split(x.astype(np.float64) @ w["in"].T + w["in_bias"], 3, -1)
    q, k, v = (a.reshape(time, batch, heads, width // heads).transpose(1, 2, 0, 3) for a in (q, k, v))
    scores = q @ k.swapaxes(2, 3) / np.sqrt(width // heads)
    if causal:
        scores = np.where(np.tri(time, dtype=bool), scores, -np.inf)
    p = np.exp(scores - scores.max(-1, keepdims=True))
    y = (p / p.sum(-1, keepdims=True) @ v).transpose(2, 0, 1, 3).reshape(time, batch, width)
    return np.asarray(y @ w["out"].T + w["out_bias"])


def write(
    g: Graph, x: Value, w: dict[str, Array], heads: int, sizes: tuple[Any, Any], flat: bool, mask: Array | None
) -> Value:
    """As torch's multi_head_attention_forward has it; ``flat``: batch and heads are one axis."""
    time, batch = sizes
    width = w["out"].shape[0]
    stack = g.linear(x, w["in"], w["in_bias"], name="in")
    stack = g.unsqueeze(g.reshape(stack, (0, 0, 3, width)), [0])
    stack = g.squeeze(g.transpose(stack, (3, 1, 2, 0, 4)), [3])
    parts = [g.node("Gather", [stack, np.int64(i)], axis=0) for i in range(3)]
    parts = [g.transpose(g.reshape(part, (0, -1, width // heads)), (1, 0, 2)) for part in parts]
    if not flat:
        parts = [
            g.reshape(part, g.concat([vector(g, batch), [heads], vector(g, time), [width // heads]], 0))
            for part in parts
        ]
    q, k, v = parts
    q = q * np.float32(1 / np.sqrt(width // heads))
    scores = g.matmul(q, g.transpose(k, (0, 2, 1) if flat else (0, 1, 3, 2)))
    y = g.matmul(g.softmax(scores if mask is None else scores + mask), v)
    y = g.reshape(g.transpose(y, (1, 0, 2) if flat else (2, 0, 1, 3)), (-1, width))
    y = g.linear(y, w["out"], w["out_bias"], name="out")
    return g.reshape(y, g.concat([vector(g, time), vector(g, batch), [width]], 0))


def vector(g: Graph, size: Any) -> Any:
    return g.unsqueeze(size, [0]) if isinstance(size, Value) else g.constant(np.array([size], np.int64))


def sizes_of(g: Graph, x: Value, dims: tuple[Any, ...]) -> tuple[Any, ...]:
    shape = g.node("Shape", [x])
    return tuple(dim if isinstance(dim, int) else g.gather(shape, np.int64(i)) for i, dim in enumerate(dims))


@pytest.mark.parametrize(
    "dims", [("time", "batch"), (5, "batch"), ("time", 3), (5, 3), (4, 4), (6, 1), (1, 2), (1, 1)], ids=str
)
@pytest.mark.parametrize("flat", [False, True], ids=["four axes", "three axes"])
@pytest.mark.parametrize("batch_first", [False, True], ids=["time first", "batch first"])
@pytest.mark.parametrize("heads", [4, 1])
def test_attention_with_time_first_is_found(dims: tuple[Any, Any], flat: bool, batch_first: bool, heads: int) -> None:
    w = weights(16)
    for causal in (False, True):
        g = Graph()
        x = g.input("x", (*(dims[::-1] if batch_first else dims), 16))
        sizes = sizes_of(g, x, dims[::-1] if batch_first else dims)
        mask = np.where(np.tri(5, dtype=bool), 0, -np.inf).astype(np.float32) if causal and dims[0] == 5 else None
        inner = g.transpose(x, (1, 0, 2)) if batch_first else x
        y = write(g, inner, w, heads, sizes[::-1] if batch_first else sizes, flat, mask)
        y = g.transpose(y, (1, 0, 2)) if batch_first else y
        model = g.build(y, quantize=False)
        time, batch = (dim if isinstance(dim, int) else size for dim, size in zip(dims, (7, 2), strict=True))
        given = np.random.default_rng(0).standard_normal((time, batch, 16), np.float32)
        wanted = reference(given, w, heads, mask is not None)
        result = model(given.swapaxes(0, 1).copy()).swapaxes(0, 1) if batch_first else model(given)
        np.testing.assert_allclose(result, wanted, rtol=1e-5, atol=1e-5)
        count = Counter(op for _, op in model.nodes)
        if heads > 1:
            assert count["dynq.Attention"] == 1 and "Softmax" not in count
        if heads > 1 and batch_first and 1 not in dims:
            assert count == {"dynq.LinearFloat": 2, "dynq.Attention": 1}
            quantized = g.build(y)
            assert Counter(op for _, op in quantized.nodes) == {"dynq.Linear": 2, "dynq.Attention": 1}


def test_axes_are_grouped_again() -> None:
    sizes = {"b": "n", "h": 4, "s": "t", "d": 8}
    parts = ["b", "h", "s", "d"]
    assert regroup(parts, ("n", 4, "t", 8), sizes) == [["b"], ["h"], ["s"], ["d"]]
    assert regroup(parts, ("4*n", "t", 8), sizes) == [["b", "h"], ["s"], ["d"]]
    assert regroup(parts, (None, "t", 8), sizes) == [["b", "h"], ["s"], ["d"]]
    assert regroup(parts, ("n", 4, "8 * t"), sizes) == [["b"], ["h"], ["s", "d"]]
    assert regroup(parts, (None, None, 8), sizes) is None  # n could be either's
    assert regroup(["h", "d"], (8, 4), sizes) is None
    assert regroup(["h", "d"], (2, 16), sizes) is None
    assert regroup(["h", "d"], (0, 16), sizes) is None
    assert regroup(["h", "e"], (4, 1, None), sizes) == [["h"], [], ["e"]]
