"""Attention becomes one op however it is spelled, and gives what its parts gave."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dynq.graph import Graph, Value
from dynq.passes import optimize
from tests.python.references.evaluate import evaluate

RNG = np.random.default_rng(11)
BATCH, TIME, HEADS, SIZE = 2, 5, 4, 6
LOWEST = np.finfo(np.float32).min


def normal(*shape: int) -> np.ndarray[Any, Any]:
    return RNG.standard_normal(shape, np.float32)


def fused(g: Graph, y: Value, **given: Any) -> list[Any]:
    """Return the nodes of attention after all passes; the results are those from before."""
    g.output(y, "y")
    sizes = {"batch": BATCH, "time": TIME, "keys": 7}
    inputs = {v.name: normal(*(sizes.get(d, d) for d in v.shape or ())) for v in g.inputs if v.name not in given}  # type: ignore[arg-type,misc]
    inputs.update(given)
    after = g.copy()
    optimize(after)
    after.validate()
    expected, result = evaluate(g, inputs)["y"], evaluate(after, inputs)["y"]
    np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(g.build(quantize=False).run(inputs)["y"], expected, rtol=1e-4, atol=1e-5)
    assert not [node for node in after.nodes if node.op == "Softmax"]
    return [node for node in after.nodes if node.op == "dynq.Attention"]


def heads_of(g: Graph, x: Value, heads: int = HEADS) -> Value:
    """Return (B, H, S, D) of (B, S, H * D)."""
    return g.transpose(g.reshape(x, (0, 0, heads, -1)), (0, 2, 1, 3))


def rotated(g: Graph, x: Value) -> Value:
    """Rotate halves of heads by an angle for each position."""
    half = SIZE // 2
    a, b = g.node("Split", [x, np.array([half, half])], 2, axis=-1)
    turned = g.concat([g.node("Neg", [b]), a], -1)
    angles = np.arange(TIME)[:, None] * np.array([1.0, 0.3, 0.1] * 2)
    return x * np.cos(angles).astype(np.float32) + turned * np.sin(angles).astype(np.float32)


def repeated(g: Graph, x: Value, times: int) -> Value:
    """Each head of (B, G, T, D) so many times, one behind the other."""
    groups = (x.shape or ())[1]
    wide = g.node("Expand", [g.unsqueeze(x, [2]), np.array([1, 1, times, 1, 1])])
    return g.reshape(wide, (BATCH, groups * times, -1, SIZE))  # type: ignore[operator]


def attend(g: Graph, q: Value, k: Value, v: Value, mask: Any = None, scale: float = SIZE**-0.5) -> Value:
    scores = g.matmul(q, g.transpose(k, (0, 1, 3, 2))) * np.float32(scale)
    return g.matmul(g.softmax(scores if mask is None else scores + mask), v)


def rows_of(g: Graph, y: Value) -> Value:
    return g.reshape(g.transpose(y, (0, 2, 1, 3)), (0, 0, HEADS * SIZE))


def inputs(g: Graph, batch: Any = BATCH, keys: Any = TIME, shared: int = 1) -> list[Value]:
    widths = (HEADS * SIZE, HEADS // shared * SIZE, HEADS // shared * SIZE)
    return [g.input(n, (batch, TIME if n == "q" else keys, w)) for n, w in zip("qkv", widths, strict=True)]


def test_rotated_heads_are_read_as_they_are() -> None:
    g = Graph()
    q, k, v = (heads_of(g, x) for x in inputs(g, "batch"))
    (node,) = fused(g, rows_of(g, attend(g, rotated(g, q), rotated(g, k), v)))
    assert [len(value.shape) for value in node.inputs] == [4, 4, 3]


@pytest.mark.parametrize("rotary", [False, True])
def test_heads_that_are_shared_are_not_repeated(rotary: bool) -> None:
    g = Graph()
    q, k, v = inputs(g, shared=2)
    q, k, v = heads_of(g, q), heads_of(g, k, 2), heads_of(g, v, 2)
    if rotary:
        q, k = rotated(g, q), rotated(g, k)
    (node,) = fused(g, rows_of(g, attend(g, q, repeated(g, k, 2), repeated(g, v, 2))))
    assert node.inputs[2].shape == (BATCH, TIME, 2 * SIZE)
    assert node.inputs[1].shape == ((BATCH, 2, TIME, SIZE) if rotary else (BATCH, TIME, 2 * SIZE))


def test_heads_that_only_the_keys_share_are_repeated() -> None:
    g = Graph()
    q, k, v = inputs(g, shared=2)
    k = g.reshape(
        g.node("Expand", [g.unsqueeze(heads_of(g, k, 2), [1]), np.array([1, 2, 1, 1, 1])]), (BATCH, HEADS, TIME, SIZE)
    )
    (node,) = fused(g, rows_of(g, attend(g, heads_of(g, q), k, repeated(g, heads_of(g, v, 2), 2))))
    assert node.inputs[1].shape == node.inputs[2].shape == (BATCH, HEADS, TIME, SIZE)


def test_keys_of_earlier_runs_are_read_where_they_lie() -> None:
    g = Graph()
    q, k, v = (heads_of(g, x) for x in inputs(g))
    past = [g.input(n, (BATCH, HEADS, 3, SIZE)) for n in ("pk", "pv")]
    k, v = g.concat([past[0], k], 2), g.concat([past[1], v], 2)
    mask = np.where(np.tri(TIME, TIME + 3, 3, dtype=bool), 0, LOWEST).astype(np.float32)
    (node,) = fused(g, rows_of(g, attend(g, q, k, v, mask)))
    assert node.inputs[1].shape == (BATCH, HEADS, TIME + 3, SIZE)


def test_a_soft_cap_is_one_attribute() -> None:
    g = Graph()
    q, k, v = (heads_of(g, x) for x in inputs(g, keys="keys"))
    scores = g.matmul(q, g.transpose(k, (0, 1, 3, 2))) * np.float32(0.5)
    capped = g.tanh(scores / np.float32(3)) * np.float32(3) + normal(TIME, 1)
    (node,) = fused(g, rows_of(g, g.matmul(g.softmax(capped), v)))
    assert node.attributes["softcap"] == pytest.approx(3) and node.attributes["scale"] == pytest.approx(0.5)


def test_a_bias_before_the_scale_is_scaled() -> None:
    g = Graph()
    q, k, v = (heads_of(g, x) for x in inputs(g))
    scores = (g.matmul(q, g.transpose(k, (0, 1, 3, 2))) + g.input("bias", (1, HEADS, TIME, TIME))) * np.float32(0.25)
    assert len(fused(g, rows_of(g, g.matmul(g.softmax(scores), v)))) == 1


def test_products_of_an_einsum_with_an_axis_of_one_are_followed() -> None:
    """As torch.einsum("ibnd,jbnd->bnij") and ("bnij,jbnd->ibnd") are taken apart."""
    g = Graph()
    q, k, v = (g.transpose(g.reshape(x, (0, 0, HEADS, SIZE)), (1, 0, 2, 3)) + normal(HEADS, SIZE) for x in inputs(g))
    left, right = (
        g.reshape(g.transpose(g.transpose(g.unsqueeze(x, [4]), one), two), (BATCH * HEADS, *last))
        for x, one, two, last in (
            (q, (1, 2, 0, 4, 3), (0, 1, 2, 4, 3), (TIME, SIZE)),
            (k, (1, 2, 4, 0, 3), (0, 1, 4, 3, 2), (SIZE, TIME)),
        )
    )
    product = g.reshape(g.matmul(left, right), (BATCH, HEADS, TIME, 1, TIME))
    scores = g.reshape(g.transpose(product, (0, 1, 2, 4, 3)), (BATCH, HEADS, TIME, TIME))
    weights = g.transpose(g.unsqueeze(g.softmax(scores * np.float32(0.3)), [4]), (2, 0, 1, 4, 3))
    weights = g.reshape(g.transpose(weights, (1, 2, 0, 4, 3)), (BATCH * HEADS, TIME, TIME))
    (node,) = fused(g, g.matmul(weights, g.reshape(g.transpose(v, (1, 2, 0, 3)), (BATCH * HEADS, TIME, SIZE))))
    assert node.attributes["heads"] == HEADS


def test_heads_in_windows_of_an_open_batch() -> None:
    g = Graph()
    q, k, v = (g.input(n, ("batch", 3, HEADS, TIME, SIZE)) for n in "qkv")
    y = g.matmul(g.softmax(g.matmul(q, g.transpose(k, (0, 1, 2, 4, 3))) * np.float32(0.5)), v)
    (node,) = fused(g, y)
    assert node.attributes["heads"] == HEADS


def test_a_mask_of_windows_is_repeated_for_each_image_of_an_open_batch() -> None:
    """As shifted windows have it: batch and windows are one axis, and become two for the mask."""
    g = Graph()
    windows, shape = 3, ("batch", 3, TIME, HEADS * SIZE)
    q, k, v = (heads_of(g, g.reshape(g.input(n, shape), (-1, TIME, HEADS * SIZE))) for n in "qkv")
    scores = g.reshape(g.matmul(q, g.transpose(k, (0, 1, 3, 2))), (-1, windows, HEADS, TIME, TIME))
    scores = g.reshape(scores + normal(windows, 1, TIME, TIME), (-1, HEADS, TIME, TIME))
    (node,) = fused(g, rows_of(g, g.matmul(g.softmax(scores), v)))
    assert node.attributes["heads"] == HEADS


def test_a_mask_that_is_subtracted_is_a_mask() -> None:
    g = Graph()
    q, k, v = (heads_of(g, x) for x in inputs(g))
    scores = g.matmul(q, g.transpose(k, (0, 1, 3, 2))) - g.input("mask", (1, 1, TIME, TIME)) * np.float32(1e4)
    hidden = 1 - np.tri(TIME, dtype=np.float32)[None, None]
    assert len(fused(g, rows_of(g, g.matmul(g.softmax(scores * np.float32(0.5)), v)), mask=hidden)) == 1


def test_a_factor_of_each_head_goes_to_the_queries() -> None:
    """As cosine attention has it."""
    g = Graph()
    q, k, v = (heads_of(g, x) for x in inputs(g))
    scores = g.matmul(q, g.transpose(k, (0, 1, 3, 2))) * normal(HEADS, 1, 1)
    (node,) = fused(g, rows_of(g, g.matmul(g.softmax(scores + normal(HEADS, TIME, TIME)), v)))
    assert node.attributes["scale"] == pytest.approx(1)


def test_sums_of_masks_that_are_too_low_are_limited() -> None:
    g = Graph()
    q, k, v = (heads_of(g, x) for x in inputs(g))
    scores = g.matmul(q, g.transpose(k, (0, 1, 3, 2)))
    low = np.where(np.tri(TIME, k=-1, dtype=bool), 0, LOWEST).astype(np.float32)
    scores = g.node("Max", [scores + low + g.input("padding", (BATCH, 1, 1, TIME)), np.float32(LOWEST)])
    padding = np.full((BATCH, 1, 1, TIME), LOWEST, np.float32)
    with np.errstate(over="ignore"):
        assert len(fused(g, rows_of(g, g.matmul(g.softmax(scores), v)), padding=padding)) == 1


@pytest.mark.parametrize("of_windows", [False, True])
def test_masks_behind_views(of_windows: bool) -> None:
    """Windows of an image have a mask each; batch and heads may be one axis where the products are."""
    g = Graph()
    if of_windows:
        q, k, v = (g.input(n, (6, HEADS, TIME, SIZE)) for n in "qkv")
        scores = g.matmul(q, g.transpose(k, (0, 1, 3, 2))) + normal(1, HEADS, TIME, TIME)
        scores = g.reshape(
            g.reshape(scores, (2, 3, HEADS, TIME, TIME)) + normal(1, 3, 1, TIME, TIME), (6, HEADS, TIME, TIME)
        )
    else:
        q, k, v = (g.input(n, (BATCH * HEADS, TIME, SIZE)) for n in "qkv")
        scores = g.matmul(q, g.transpose(k, (0, 2, 1))) + normal(BATCH * HEADS, 1, TIME)
        scores = g.reshape(scores, (BATCH, HEADS, TIME, TIME)) + normal(BATCH, 1, TIME, TIME)
        scores = g.reshape(scores, (BATCH * HEADS, TIME, TIME))
    assert len(fused(g, g.matmul(g.softmax(scores), v))) == 1


def test_batch_and_heads_in_one_open_axis() -> None:
    g = Graph()
    q, k, v = (g.input(n, ("batch", "time", SIZE)) for n in "qkv")
    (node,) = fused(g, g.matmul(g.softmax(g.matmul(q, g.transpose(k, (0, 2, 1))) * np.float32(2)), v))
    assert node.attributes["heads"] == 1


def size_of(g: Graph, x: Value, axis: int) -> Value:
    return g.node("Gather", [g.node("Shape", [x]), np.int64(axis)], axis=0)


def sizes(g: Graph, *values: Any) -> Value:
    """The target of a Reshape, of numbers and of sizes that a run computes."""
    return g.concat([np.array([v]) if isinstance(v, int) else g.unsqueeze(v, [0]) for v in values], 0)


@pytest.mark.parametrize("what", ["bias of positions", "last rows of a bias"])
def test_biases_of_positions_have_the_sizes_of_the_scores(what: str) -> None:
    g = Graph()
    _, k, v = inputs(g, "batch", "time")
    time = size_of(g, k, 1)
    places = g.node("Range", [np.int64(0), time, np.int64(1)])
    distance = g.node("Abs", [g.unsqueeze(places, [0]) - g.unsqueeze(places, [1])])
    bias = g.unsqueeze(g.transpose(g.node("Gather", [normal(9, HEADS), distance]), (2, 0, 1)), [0])
    if what == "last rows of a bias":
        start = g.unsqueeze(g.node("Neg", [time]), [0])
        bias = g.node("Slice", [bias, start, np.array([2**63 - 1]), np.array([2])])
    y = attend(g, *(heads_of(g, x) for x in (k, k, v)), mask=bias)
    (node,) = fused(g, rows_of(g, y))
    assert node.attributes["heads"] == HEADS


def test_batch_and_heads_in_one_axis_whose_size_is_computed() -> None:
    g = Graph()
    rows = inputs(g, "batch", "time")
    rows[0] = rows[1]
    batch, time = size_of(g, rows[1], 0), size_of(g, rows[1], 1)
    target = sizes(g, g.node("Mul", [batch, np.int64(HEADS)]), time, SIZE)
    q, k, v = (g.reshape(heads_of(g, x), target) for x in rows)
    scores = g.reshape(g.matmul(q, g.transpose(k, (0, 2, 1))), sizes(g, batch, HEADS, time, time)) + normal(1, 1, 1, 1)
    weights = g.reshape(
        g.softmax(scores * np.float32(0.3)), sizes(g, g.node("Mul", [batch, np.int64(HEADS)]), time, time)
    )
    y = g.reshape(g.matmul(weights, v), sizes(g, batch, HEADS, time, SIZE))
    (node,) = fused(g, rows_of(g, y))
    assert node.attributes["heads"] == HEADS


@pytest.mark.parametrize("what", ["scores are read", "mask makes more", "mask for columns", "negative scale"])
def test_what_is_no_attention_stays(what: str) -> None:
    g = Graph()
    q, k, v = (g.input(n, (1, HEADS, TIME, SIZE)) for n in "qkv")
    scores = g.matmul(q, g.transpose(k, (0, 1, 3, 2)))
    if what == "scores are read":
        g.output(scores, "scores")
    elif what == "mask makes more":
        scores = scores + normal(3, 1, TIME, TIME)
    elif what == "mask for columns":
        scores = scores * normal(1, TIME)
    else:
        scores = scores * np.float32(-1) + normal(TIME, TIME)
    g.output(g.matmul(g.softmax(scores), v), "y")
    after = g.copy()
    optimize(after)
    assert [node.op for node in after.nodes].count("Softmax") == 1


@pytest.mark.parametrize("form", ["reciprocal", "over one", "divided", "power", "twice"])
@pytest.mark.parametrize("scaled", [True, False])
def test_a_root_mean_square_norm_in_pieces_is_one_op(form: str, scaled: bool) -> None:
    g = Graph()
    x = g.input("x", ("batch", "time", 12))
    square = x * x if form == "twice" else g.node("Pow", [x, np.float32(2)])
    mean = g.node("ReduceMean", [square, np.array([-1])], keepdims=1) + np.float32(1e-3)
    if form == "power":
        y = g.node("Pow", [mean, np.float32(-0.5)]) * x
    elif form == "divided":
        y = x / g.node("Sqrt", [mean])
    else:
        root = g.node("Sqrt", [mean])
        y = x * (g.constant(np.float32(1)) / root if form == "over one" else g.node("Reciprocal", [root]))
    if scaled:
        y = normal(12) * y
    g.output(y, "y")
    after = g.copy()
    optimize(after)
    (node,) = after.nodes
    assert node.op == "RMSNormalization" and node.attributes["epsilon"] == pytest.approx(1e-3)
    given = {"x": normal(2, 5, 12)}
    np.testing.assert_allclose(evaluate(after, given)["y"], evaluate(g, given)["y"], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(g.build(quantize=False).run(given)["y"], evaluate(g, given)["y"], rtol=1e-4, atol=1e-5)
