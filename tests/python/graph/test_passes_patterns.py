"""Passes that find an op that was written in its parts: Gelu, norms, softmax and attention."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dynq.graph import Graph, Value
from dynq.passes.masks import mask_of
from dynq.passes.rewrite import Uses
from dynq.passes.scores import Mask
from tests.python.references.passes import normal, ops, optimized

# ---- Gelu, layer norm, softmax ----

GELUS: dict[str, tuple[str, Callable[[Graph, Value], Value]]] = {
    "torch": ("none", lambda g, x: x * (g.node("Erf", [x / math.sqrt(2)]) + 1.0) * 0.5),
    "half first": ("none", lambda g, x: (x * 0.5) * (1.0 + g.node("Erf", [x * (1 / math.sqrt(2))]))),
    "half last": ("none", lambda g, x: 0.5 * (x * (1.0 + g.node("Erf", [x / np.float32(1.4142135381698608)])))),
    "half inside": ("none", lambda g, x: x * (0.5 * (1.0 + g.node("Erf", [x / math.sqrt(2)])))),
    "tanh pow": (
        "tanh",
        lambda g, x: (x * 0.5) * (g.tanh((x + g.node("Pow", [x, 3.0]) * 0.044715) * math.sqrt(2 / math.pi)) + 1.0),
    ),
    "tanh products": (
        "tanh",
        lambda g, x: 0.5 * x * (1.0 + g.tanh(x * 0.7978845608 * (1.0 + 0.044715 * x * x))),
    ),
}


@pytest.mark.parametrize("name", GELUS)
def test_gelu_is_found(name: str) -> None:
    kind, write = GELUS[name]
    g = Graph()
    x = g.input("x", ("batch", 4))
    after = optimized(g, write(g, g.sigmoid(x)))
    assert ops(after) == ["Sigmoid", "Gelu"] and after.nodes[1].attributes == {"approximate": kind}


def test_gelu_is_found_in_a_linear_s_epilogue() -> None:
    g = Graph()
    x = g.input("x", ("batch", 4))
    y = GELUS["torch"][1](g, g.matmul(x, normal(4, 8)) + normal(8))
    after = optimized(g, y)
    assert ops(after) == ["dynq.Linear"] and after.nodes[0].attributes == {"activation": "gelu"}


@pytest.mark.parametrize(
    "write",
    [
        lambda g, x: x * (g.node("Erf", [x / 1.5]) + 1.0) * 0.5,
        lambda g, x: x * (g.node("Erf", [x / math.sqrt(2)]) + 1.0),
        lambda g, x: x * (g.node("Erf", [x / math.sqrt(2)]) + 1.0) * np.float32([0.5, 0.5, 0.5, 0.4]),
        lambda g, x: (x * 0.5) * (g.tanh((x + g.node("Pow", [x, 3.0]) * 0.045) * math.sqrt(2 / math.pi)) + 1.0),
    ],
)
def test_what_only_looks_like_gelu_stays(write: Callable[[Graph, Value], Value]) -> None:
    g = Graph()
    x = g.input("x", ("batch", 4))
    assert "Gelu" not in ops(optimized(g, write(g, x)))


def test_gelu_of_which_an_inner_value_is_read_stays() -> None:
    g = Graph()
    x = g.input("x", ("batch", 4))
    e = g.node("Erf", [x / math.sqrt(2)])
    assert "Gelu" not in ops(optimized(g, x * (e + 1.0) * 0.5, e))


# ---- Other activations ----

Write = Callable[[Graph, Value], Value]


def clip(g: Graph, x: Value, low: float, high: float) -> Value:
    return g.node("Clip", [x, np.float32(low), np.float32(high)])


ACTIVATIONS: dict[str, tuple[str, dict[str, float], Write]] = {
    "hard swish, divided last": ("HardSwish", {}, lambda g, x: x * clip(g, x + 3.0, 0, 6) / 6.0),
    "hard swish, times a sixth": ("HardSwish", {}, lambda g, x: (1 / 6) * (clip(g, 3.0 + x, 0, 6) * x)),
    "hard swish by Min of Relu": ("HardSwish", {}, lambda g, x: x * (g.node("Min", [g.relu(x + 3.0), 6.0]) / 6.0)),
    "hard swish by HardSigmoid": (
        "HardSwish",
        {},
        lambda g, x: x * g.node("HardSigmoid", [x], alpha=1 / 6, beta=0.5),
    ),
    "hard sigmoid": ("HardSigmoid", {"alpha": 1 / 6, "beta": 0.5}, lambda g, x: clip(g, x + 3.0, 0, 6) / 6.0),
    "steep hard sigmoid": ("HardSigmoid", {"alpha": 0.2, "beta": 0.5}, lambda g, x: clip(g, 0.2 * x + 0.5, 0, 1)),
    "silu": ("Swish", {"alpha": 1.0}, lambda g, x: g.sigmoid(x) * x),
    "silu by exp": ("Swish", {"alpha": 1.0}, lambda g, x: x / (1.0 + g.node("Exp", [-x]))),
    "quick gelu": ("Swish", {"alpha": 1.702}, lambda g, x: x * g.sigmoid(1.702 * x)),
    "sigmoid": ("Sigmoid", {}, lambda g, x: g.node("Reciprocal", [g.node("Exp", [-x]) + 1.0])),
    "mish": ("Mish", {}, lambda g, x: x * g.tanh(g.node("Softplus", [x]))),
    "leaky relu by Max": ("LeakyRelu", {"alpha": 0.2}, lambda g, x: g.node("Max", [x, x * 0.2])),
    "leaky relu by Where": (
        "LeakyRelu",
        {"alpha": 0.1},
        lambda g, x: g.node("Where", [g.node("Greater", [x, 0.0]), x, 0.1 * x]),
    ),
    "leaky relu by Relus": ("LeakyRelu", {"alpha": 0.3}, lambda g, x: g.relu(x) - 0.3 * g.relu(-x)),
    "PRelu of one slope": ("LeakyRelu", {"alpha": 0.25}, lambda g, x: g.node("PRelu", [x, np.float32([0.25])])),
    "relu6": ("Clip", {}, lambda g, x: g.node("Min", [g.relu(x), 6.0])),
    "relu by Max": ("Relu", {}, lambda g, x: g.node("Max", [0.0, x])),
}  # fmt: skip


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_an_activation_is_found_however_it_is_written(name: str) -> None:
    op, numbers, write = ACTIVATIONS[name]
    g = Graph()
    x = g.input("x", ("batch", 4))
    after = optimized(g, write(g, g.node("Sqrt", [x * x])))
    assert ops(after) == ["Mul", "Sqrt", op]
    assert after.nodes[2].attributes == pytest.approx(numbers, rel=1e-5)


@pytest.mark.parametrize("layer", ["linear", "conv"])
@pytest.mark.parametrize("name", [name for name in ACTIVATIONS if name != "quick gelu"])
def test_an_activation_becomes_part_of_the_layer_before_it(name: str, layer: str) -> None:
    g = Graph()
    if layer == "conv":
        y = g.conv(g.input("x", ("batch", 8, 3, 5)), normal(16, 8, 1, 1), normal(16))
    else:
        y = g.matmul(g.input("x", ("batch", 8)), normal(8, 16)) + normal(16)
    after = optimized(g, ACTIVATIONS[name][2](g, y))
    assert ops(after) == ["dynq.Linear" if layer == "linear" else "dynq.Conv"]


@given(st.data())
@settings(deadline=None, max_examples=30)
def test_groups_of_elementwise_nodes_keep_their_values(data: st.DataObject) -> None:
    """Whatever is written: what looks like an activation and is none stays, what is one has the same values."""
    numbers = st.sampled_from([0.0, 0.5, 1.0, 3.0, 6.0, 1 / 6, 0.2, -1.0])
    g = Graph()
    values = [g.node("Sqrt", [g.input("x", ("batch", 4))]) * 7.0 - 3.0]
    for _ in range(data.draw(st.integers(1, 6))):
        op = data.draw(st.sampled_from(["Add", "Sub", "Mul", "Max", "Min", "Relu", "Sigmoid", "Clip", "HardSigmoid"]))
        x = data.draw(st.sampled_from(values))
        if op in ("Relu", "Sigmoid", "HardSigmoid"):
            values.append(g.node(op, [x]))
        elif op == "Clip":
            low, high = sorted([data.draw(numbers), data.draw(numbers)])
            values.append(clip(g, x, low, high))
        else:
            other: Any = data.draw(st.one_of(st.sampled_from(values), numbers))
            pair = [x, other if isinstance(other, Value) else np.float32(other)]
            values.append(g.node(op, pair[:: data.draw(st.sampled_from([1, -1]))]))
    optimized(g, values[-1], inputs_of=np.abs)


@pytest.mark.parametrize("low", [1e-38, 1e-12, 1e-7])
@pytest.mark.parametrize("op", ["Relu", "Sigmoid", "HardSigmoid", "none"])
def test_a_clamp_to_a_tiny_number_stays(op: str, low: float) -> None:
    """What follows may divide by it, or take its logarithm."""
    g = Graph()
    x = g.input("x", ("batch", 4))
    y = g.node("Max", [x if op == "none" else g.node(op, [x * 40.0]), np.float32(low)])
    after = optimized(g, g.node("Reciprocal", [y]), inputs_of=lambda array: -np.abs(array))
    assert ops(after)[-1] == "Reciprocal" and {"Clip", "Max"} & set(ops(after))


@pytest.mark.parametrize("alone", [np.int64, np.float32])
def test_numbers_that_change_the_type_or_the_shape_stay(alone: type) -> None:
    g = Graph()
    x = g.input("x", ("batch", 4), alone)
    factor = np.array(2, alone) if alone is np.int64 else np.full((1, 1, 1), 0.5, alone)
    after = optimized(g, g.node("Max", [x, x * factor]))
    assert ops(after) == ["Mul", "Max"]


def write_layer_norm(g: Graph, x: Value, power: bool = True, twice: bool = False, axis: int = -1) -> Value:
    d = x - g.reduce_mean(x, [axis])
    e = x - g.reduce_mean(x, [axis]) if twice else d
    square = g.node("Pow", [e, 2.0]) if power else e * e
    return d / g.node("Sqrt", [g.reduce_mean(square, [axis]) + 1e-6])


@pytest.mark.parametrize("power", [True, False])
@pytest.mark.parametrize("twice", [True, False])
@pytest.mark.parametrize("axis", [-1, 2])
def test_layer_norm_is_found(power: bool, twice: bool, axis: int) -> None:
    g = Graph()
    x = g.input("x", ("batch", "time", 6))
    after = optimized(g, write_layer_norm(g, x, power, twice, axis) * normal(6) + normal(6))
    assert ops(after) == ["LayerNormalization"]
    assert after.nodes[0].attributes["epsilon"] == pytest.approx(1e-6)


def test_layer_norm_without_a_bias_and_with_a_reciprocal_is_found() -> None:
    g = Graph()
    x = g.input("x", ("batch", "time", 6))
    d = x - g.reduce_mean(x, [-1])
    r = g.node("Reciprocal", [g.node("Sqrt", [g.reduce_mean(d * d, [-1]) + 1e-5])])
    assert ops(optimized(g, normal(6) * (d * r))) == ["LayerNormalization"]


def test_a_norm_over_another_dimension_or_with_another_scale_stays() -> None:
    g = Graph()
    x = g.input("x", ("batch", 6, 6))
    after = optimized(
        g, write_layer_norm(g, x, axis=1) * normal(6), write_layer_norm(g, x) * normal(6, 6), write_layer_norm(g, x)
    )
    assert "LayerNormalization" not in ops(after)


def test_softmax_is_found() -> None:
    g = Graph()
    x = g.input("x", ("batch", 6))
    e = g.node("Exp", [x - g.reduce_max(x, [-1])])
    after = optimized(g, e / g.reduce_sum(e, [-1]))
    assert ops(after) == ["Softmax"] and after.nodes[0].attributes == {"axis": -1}


def test_a_sum_over_another_dimension_is_no_softmax() -> None:
    g = Graph()
    x = g.input("x", ("batch", 6))
    e = g.node("Exp", [x - g.reduce_max(x, [-1])])
    assert "Softmax" not in ops(optimized(g, e / g.reduce_sum(e, [0])))


# ---- Attention ----

HEADS, SIZE = 3, 4


def write_attention(
    g: Graph,
    x: Value,
    *,
    dynamic: bool = False,
    scale: str = "div",
    mask: Value | None = None,
    fill: tuple[Value, Any, bool] | None = None,
    twice: bool = False,
    flat: bool = False,
    guard: bool = False,
    reshape_to: tuple[int, ...] = (0, -1, HEADS, SIZE),
) -> Value:
    """As transformers exports BERT."""
    width = HEADS * SIZE

    def project() -> Value:
        return g.matmul(x, normal(width, width)) + normal(width)

    def target(sizes: tuple[int, ...], y: Value) -> Any:
        if not dynamic:
            return list(sizes)
        shape = g.node("Shape", [y])
        batch, time = (g.unsqueeze(g.gather(shape, i), [0]) for i in (0, 1))
        return g.concat([batch, time, g.constant(list(sizes[2:]))], 0)

    def split(y: Value, perm: list[int]) -> Value:
        return g.transpose(g.reshape(y, target(reshape_to, y)), perm)

    q = split(project(), [0, 2, 1, 3])
    k = project()
    k = g.transpose(split(k, [0, 2, 1, 3]), [0, 1, 3, 2]) if twice else split(k, [0, 2, 3, 1])
    if flat:  # as torch's newer exporter transposes
        k = split(project(), [0, 2, 1, 3])
        batch, time = (g.node("Shape", [x], start=i, end=i + 1) for i in (0, 1))
        k = g.transpose(g.reshape(k, g.concat([g.constant([-1]), time, g.constant([SIZE])], 0)), [0, 2, 1])
        k = g.reshape(k, g.concat([batch, g.constant([HEADS, SIZE]), time], 0))
    v = split(project(), [0, 2, 1, 3])
    root = math.sqrt(math.sqrt(SIZE))
    scores = (q / root) @ (k * (1 / root)) if scale == "sides" else q @ k
    if scale == "div":
        scores = scores / math.sqrt(SIZE)
    elif scale == "mul":
        scores = scores * 0.25
    if fill is not None:
        condition, low, other_side = fill
        scores = g.where(condition, *((scores, low) if other_side else (low, scores)))
    if mask is not None:
        scores = scores + mask
    p = g.softmax(scores)
    if guard:
        p = g.where(g.node("IsNaN", [p]), np.float32(0), p)
    y = g.transpose(p @ v, [0, 2, 1, 3])
    return g.reshape(y, target((0, -1, width), x))


@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize("scale", ["div", "mul", "sides", "none"])
@pytest.mark.parametrize("masked", [False, True])
def test_attention_is_found(dynamic: bool, scale: str, masked: bool) -> None:
    g = Graph()
    x = g.input("x", ("batch", "time", HEADS * SIZE))
    mask = g.input("mask", ("batch", 1, 1, "time")) if masked else None
    after = optimized(g, write_attention(g, x, dynamic=dynamic, scale=scale, mask=mask, twice=dynamic))
    assert ops(after) == ["dynq.Linear"] * 3 + ["dynq.Attention"]
    node = after.nodes[3]
    assert node.attributes["heads"] == HEADS
    factor = {"div": None, "sides": None, "mul": 0.25, "none": 1.0}[scale]
    assert node.attributes.get("scale") == (None if factor is None else pytest.approx(factor))
    assert len(node.inputs) == (4 if masked else 3)


@pytest.mark.parametrize("low", [np.float32(-np.inf), np.finfo(np.float32).min])
@pytest.mark.parametrize("other_side", [False, True])
@pytest.mark.parametrize("masked", [False, True])
def test_attention_with_scores_that_are_filled_in_is_found(low: Any, other_side: bool, masked: bool) -> None:
    g = Graph()
    x = g.input("x", ("batch", 5, HEADS * SIZE))
    flags = np.tri(5, dtype=bool)  # as GPT-2 looks back, as DistilBERT leaves tokens out
    condition = g.constant((flags if other_side else ~flags)[None, None])
    mask = g.input("mask", ("batch", 1, 1, 5)) if masked else None
    after = optimized(g, write_attention(g, x, mask=mask, fill=(condition, low, other_side)))
    assert ops(after)[-1] == "dynq.Attention" and "Softmax" not in ops(after)


@pytest.mark.parametrize("fill", [False, True])
@pytest.mark.parametrize("hides", [False, True])
@pytest.mark.parametrize("known", [False, True])
def test_attention_whose_bool_mask_may_leave_no_key_is_found(fill: bool, hides: bool, known: bool) -> None:
    """As torch exports scaled_dot_product_attention; here the first query looks at nothing."""
    g = Graph()
    x = g.input("x", ("batch", 5, HEADS * SIZE))
    flags = np.tri(5, k=-1, dtype=bool)
    condition = g.constant(~flags if hides else flags)
    if not known:  # all of it is looked at
        condition = g.node("Greater" if hides else "Less", [g.input("mask", ("batch", 1, 1, 5)), np.float32(99)])
    sides = (np.float32(-np.inf), np.float32(0))
    if fill:
        y = write_attention(g, x, guard=True, fill=(condition, np.float32(-np.inf), not hides))
    else:
        y = write_attention(g, x, guard=True, mask=g.where(condition, *(sides if hides else sides[::-1])))
    after = optimized(g, y)
    assert ops(after)[-1] == "dynq.Attention" and "Softmax" not in ops(after)
    assert after.nodes[-1].inputs[3].dtype == "bool"  # type: ignore[union-attr]


@pytest.mark.parametrize("known", [False, True])
def test_zeros_for_nan_beside_a_mask_of_low_numbers_have_no_effect(known: bool) -> None:
    """As torch's newer exporter writes it."""
    g = Graph()
    x = g.input("x", ("batch", 5, HEADS * SIZE))
    hidden = g.constant(np.tri(5, k=-1, dtype=bool)) if known else g.node("Less", [g.input("m", (5, 5)), np.float32(0)])
    y = write_attention(g, x, guard=True, mask=g.where(hidden, np.finfo(np.float32).min, np.float32(0)))
    after = optimized(g, y)
    assert ops(after)[-1] == "dynq.Attention" and "Softmax" not in ops(after)
    assert after.nodes[-1].inputs[3].dtype == "float32"  # type: ignore[union-attr]


def test_zeros_for_nan_with_a_mask_of_floats_stay() -> None:
    g = Graph()
    x = g.input("x", ("batch", 5, HEADS * SIZE))
    y = write_attention(g, x, guard=True, mask=g.input("mask", (5, 5)))
    assert "dynq.Attention" not in ops(optimized(g, y))


def test_a_mask_that_fills_twice_fills_once() -> None:
    """The lowest number twice would be -infinity, and a row of that NaN."""
    lowest = np.finfo(np.float32).min
    masks = [np.tri(5, k=k, dtype=bool) for k in (-1, 0)]
    graph = Graph()
    values = [Mask(graph.constant(mask), (5, 5), (0.0, float(lowest))) for mask in masks]
    _, total = mask_of(Uses(graph), values, False)
    assert total is not None
    assert np.array_equal(graph.build(total)(), np.where(masks[0] & masks[1], np.float32(0), lowest))


def test_a_filler_that_is_not_so_low_stays() -> None:
    g = Graph()
    x = g.input("x", ("batch", 5, HEADS * SIZE))
    condition = g.constant(~np.tri(5, dtype=bool))
    y = write_attention(g, x, fill=(condition, np.float32(-10), False))
    assert "dynq.Attention" not in ops(optimized(g, y))


def test_attention_with_a_flat_transpose_is_found() -> None:
    g = Graph()
    x = g.input("x", ("batch", "time", HEADS * SIZE))
    assert ops(optimized(g, write_attention(g, x, dynamic=True, flat=True))) == ["dynq.Linear"] * 3 + ["dynq.Attention"]


def test_the_residual_after_attention_is_found() -> None:
    g = Graph()
    x = g.input("x", ("batch", "time", HEADS * SIZE))
    y = g.matmul(write_attention(g, x, dynamic=True), normal(12, 12)) + normal(12) + x
    after = optimized(g, y)
    assert ops(after) == ["dynq.Linear"] * 3 + ["dynq.Attention", "dynq.Linear"]
    assert after.nodes[4].inputs[3] is after.inputs[0]


def test_heads_that_are_not_cut_from_the_last_dimension_are_read_as_they_are() -> None:
    g = Graph()
    x = g.input("x", (2, 6, HEADS * SIZE))
    y = write_attention(g, x, reshape_to=(2, 6, SIZE, HEADS))  # 4 heads of 3
    after = optimized(g, y)
    assert after.nodes[-1].attributes["heads"] == SIZE
    g = Graph()
    x = g.input("x", (3, 2, HEADS * SIZE))
    y = write_attention(g, x, reshape_to=(2, 3, HEADS, SIZE))  # batch and time are mixed
    after = optimized(g, g.reshape(y, (3, 2, 12)))
    assert [
        len(value.shape or ()) for node in after.nodes if node.op == "dynq.Attention" for value in node.inputs if value
    ] == [4] * 3


def test_attention_of_which_the_weights_are_read_stays() -> None:
    g = Graph()
    x = g.input("x", ("batch", "time", HEADS * SIZE))
    y = write_attention(g, x)
    softmax = next(node for node in g.nodes if node.op == "Softmax")
    assert softmax.outputs[0] is not None
    assert "dynq.Attention" not in ops(optimized(g, y, softmax.outputs[0]))


def test_a_long_chain_of_doublings_before_a_softmax_is_walked_once() -> None:
    g = Graph()
    h = g.input("x", (2, 3))
    for _ in range(40):
        h = h + h
    assert ops(optimized(g, g.softmax(h))) == ["Add"] * 40 + ["Softmax"]
