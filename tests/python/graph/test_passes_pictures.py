"""Passes for networks of convolutions: sums and products of constants, and the order of axes."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dynq.graph import Graph, Value
from dynq.passes import optimize
from tests.python.references.passes import normal, ops, optimized

TO_PLANES, TO_PIXELS = [0, 3, 1, 2], [0, 2, 3, 1]

# ---- Sums and products beside a layer ----


def layer(g: Graph, kind: str, x: Value | None = None) -> Value:
    """A layer of 8 inputs and 16 outputs."""
    if kind == "linear":
        return g.matmul(g.input("x", ("batch", 5, 8)) if x is None else x, normal(8, 16))
    x = g.input("x", ("batch", 8, 3, 5)) if x is None else x
    return g.node("Conv", [x, normal(16, 8, 1, 1), normal(16)])


def each(kind: str, count: int = 16) -> np.ndarray[Any, Any]:
    """A number for each channel, none of them near 0."""
    numbers = (np.abs(normal(count)) + 0.5) * np.sign(normal(count))
    return numbers if kind == "linear" else numbers.reshape(count, 1, 1)


CHAINS = {
    "times and plus": lambda g, y, c: c * y + 3.0,
    "batch norm in pieces": lambda g, y, c: (y - c) * c + c,
    "divided": lambda g, y, c: (2.0 - y) / c,
    "one number": lambda g, y, c: (y * 0.5 - 1.0) * np.float32([[2.0]]),
}


@pytest.mark.parametrize("kind", ["linear", "conv"])
@pytest.mark.parametrize("name", CHAINS)
def test_a_chain_behind_a_layer_becomes_part_of_it(name: str, kind: str) -> None:
    g = Graph()
    after = optimized(g, g.relu(CHAINS[name](g, layer(g, kind), each(kind))))
    assert ops(after) == ["dynq.Linear" if kind == "linear" else "dynq.Conv"]


@pytest.mark.parametrize("kind", ["linear", "conv"])
def test_numbers_for_all_before_a_layer_become_part_of_it(kind: str) -> None:
    g = Graph()
    x = g.input("x", ("batch", 5, 8) if kind == "linear" else ("batch", 8, 3, 5))
    after = optimized(g, layer(g, kind, (g.sigmoid(x) * 0.25 - 1.5) / 3.0))
    assert ops(after) == ["Sigmoid", "dynq.Linear" if kind == "linear" else "dynq.Conv"]


@pytest.mark.parametrize("kind", ["linear", "conv"])
def test_numbers_for_each_channel_before_a_layer_stay(kind: str) -> None:
    """They would change how well its input quantizes."""
    g = Graph()
    x = g.input("x", ("batch", 5, 8) if kind == "linear" else ("batch", 8, 3, 5))
    after = optimized(g, layer(g, kind, g.sigmoid(x) * each(kind, 8)))
    assert ops(after)[:2] == ["Sigmoid", "Mul"]


@pytest.mark.parametrize("channels", [8, 1])
def test_numbers_for_each_channel_before_a_grouped_convolution_become_part_of_it(channels: int) -> None:
    """A product that makes eight channels of one stays."""
    g = Graph()
    x = g.input("x", (2, channels, 3, 5))
    w, numbers = normal(8, 1, 3, 1), [normal(8, 1, 1) for _ in range(2)]
    y = g.conv(g.sigmoid(x) * numbers[0] - numbers[1], w, group=8)
    given = np.abs(normal(2, channels, 3, 5))
    built = g.build(y, quantize=False)
    assert [node.op for node in built.graph().nodes].count("Mul") == (channels == 1)
    z = 1 / (1 + np.exp(-given.astype(np.float64))) * numbers[0] - numbers[1]
    want = np.einsum("nchw,ch->ncw", z, w[:, 0, :, 0].astype(np.float64))[:, :, None]
    np.testing.assert_allclose(built(given), want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "write",
    [
        lambda g, y: y + normal(5, 1),  # along another axis
        lambda g, y: y * normal(1, 1, 1, 16),  # more dimensions
        lambda g, y: 1.0 / y,
        lambda g, y: y / np.float32(0),
        lambda g, y: y + np.float32(np.inf),
    ],
)
def test_what_is_no_chain_of_channels_stays(write: Any) -> None:
    g = Graph()
    x = g.input("x", (2, 5, 8))
    y = write(g, layer(g, "linear", x))
    g.output(y)
    optimize(g)
    assert len(g.nodes) == 2


def test_a_weight_that_two_layers_share_keeps_one_copy() -> None:
    g = Graph()
    w = g.constant(normal(8, 16))
    x = g.input("x", ("batch", 8))
    after = optimized(g, g.matmul(x, w) * 2.0, g.matmul(g.tanh(x), w))
    assert ops(after) == ["dynq.Linear", "Mul", "Tanh", "dynq.Linear"]


def test_what_others_read_is_not_folded() -> None:
    g = Graph()
    y = layer(g, "conv")
    assert ops(optimized(g, y * 2.0, g.tanh(y))) == ["dynq.Conv", "Mul", "Tanh"]


# ---- Order of axes ----


def as_planes(g: Graph, x: Value) -> Value:
    return g.node("Transpose", [x], perm=TO_PLANES)


def as_pixels(g: Graph, x: Value) -> Value:
    return g.node("Transpose", [x], perm=TO_PIXELS)


def conv(g: Graph, x: Value, channels: int) -> Value:
    """A convolution of pixels, as TensorFlow's exporter writes it: batch norm follows behind the Transpose."""
    width = (x.shape or ())[-1]
    assert isinstance(width, int)
    y = as_pixels(g, g.node("Conv", [as_planes(g, x), normal(channels, width, 1, 1)]))
    return (y - normal(channels)) * normal(1, 1, channels) + normal(channels)


def test_a_network_of_pixels_has_the_transpose_of_its_input_alone() -> None:
    g = Graph()
    x = g.relu(conv(g, g.input("x", ("batch", 6, 7, 3)), 16))
    for channels in (16, 24):
        y = conv(g, g.relu(conv(g, x, channels)), channels)
        x = g.relu(y + (x if channels == 16 else conv(g, x, channels)))
    x = g.node("Pad", [x, np.array([0, 1, 2, 0, 0, 0, 1, 0])])
    x = g.node("Concat", [x, g.sigmoid(x)], axis=-1)
    y = g.matmul(g.reduce_mean(x, [1, 2], keepdims=False), normal(48, 10))
    after = optimized(g, y)
    found = ops(after)
    assert found.count("Transpose") == 1 and after.nodes[0].op == "Transpose"
    assert found.count("Sub") + found.count("Mul") == 0 and found.count("dynq.Conv") == 6


def test_attention_of_channels_in_pixels_has_no_transpose() -> None:
    """Squeeze and excite: means over pixels, two small layers, and a product."""
    g = Graph()
    x = g.relu(conv(g, g.input("x", ("batch", 6, 7, 3)), 16))
    scale = g.sigmoid(conv(g, g.relu(conv(g, g.reduce_mean(x, [1, 2]), 8)), 16))
    after = optimized(g, conv(g, x * scale, 8))
    assert ops(after).count("Transpose") == 2  # of the input and of the output


def test_a_transpose_that_would_only_move_stays() -> None:
    g = Graph()
    x = as_planes(g, g.input("x", ("batch", 6, 7, 3)))
    after = optimized(g, g.relu(x) + g.input("y", ("batch", 3, 6, 7)))
    assert ops(after) == ["Transpose", "Relu", "Add"]


@pytest.mark.parametrize("perms", [[TO_PIXELS], [TO_PIXELS, TO_PLANES], [TO_PIXELS, [1, 0, 2, 3], TO_PLANES]])
def test_a_long_chain_keeps_one_transpose_at_most(perms: list[list[int]]) -> None:
    g = Graph()
    x = g.input("x", (2, 3, 4, 5))
    for i in range(13):
        x = g.node("Tanh", [g.node("Transpose", [x], perm=perms[i % len(perms)])])
    assert ops(optimized(g, x)).count("Transpose") <= 1


def test_a_transpose_of_axes_of_size_1_is_a_view() -> None:
    g = Graph()
    x = g.input("x", ("batch", 6, 7, 1))
    assert ops(optimized(g, g.tanh(as_planes(g, x)))) == ["Reshape", "Tanh"]


@given(st.data())
@settings(deadline=None, max_examples=60)
def test_random_graphs_of_either_order_keep_their_values(data: st.DataObject) -> None:
    """Nodes that take any order of axes, some of them between Transposes that would cancel."""
    g = Graph()
    perm = data.draw(st.permutations(range(4)))
    back = [perm.index(i) for i in range(4)]
    values = [g.input("x", (2, 3, 4, 5)), g.node("Transpose", [g.input("y", (2, 3, 4, 5))], perm=back)]
    values[1] = g.node("Transpose", [values[1]], perm=list(perm))
    kinds = [
        "turn",
        "turn",
        "back",
        "back",
        "relu",
        "add",
        "constant",
        "pad",
        "concat",
        "slice",
        "mean",
        "split",
        "softmax",
    ]
    for _ in range(data.draw(st.integers(2, 12))):
        x = data.draw(st.sampled_from(values))
        shape = [int(dim) for dim in x.shape or () if isinstance(dim, int)]
        kind, axis = data.draw(st.sampled_from(kinds)), data.draw(st.integers(0, 3))
        same = [value for value in values if value.shape == x.shape]
        if kind in ("turn", "back"):
            values.append(g.node("Transpose", [x], perm=list(perm if kind == "turn" else back)))
        elif kind == "relu":
            values.append(g.relu(x))
        elif kind == "add":
            values.append(x + data.draw(st.sampled_from(same)))
        elif kind == "constant":
            count = data.draw(st.integers(0, 4))
            values.append(x * normal(*[data.draw(st.sampled_from([1, n])) for n in shape[4 - count :]]))
        elif kind == "pad":
            pads = np.zeros(8, np.int64)
            pads[[axis, data.draw(st.integers(4, 7))]] = 1, 2
            values.append(g.node("Pad", [x, pads]))
        elif kind == "concat":
            values.append(g.node("Concat", [x, data.draw(st.sampled_from(same))], axis=axis))
        elif kind == "slice" and shape[axis] > 1:
            values.append(g.node("Slice", [x, np.array([1]), np.array([shape[axis]]), np.array([axis - 4])]))
        elif kind == "mean":
            values.append(g.reduce_mean(x, [axis]))
        elif kind == "split" and shape[axis] > 1:
            values += g.node("Split", [x, np.array([1, shape[axis] - 1])], 2, axis=axis)
        elif kind == "softmax":
            values.append(g.softmax(x, axis))
    results = data.draw(st.lists(st.sampled_from(values[2:] or values), min_size=1, max_size=3, unique_by=id))
    before = sum(node.op == "Transpose" for node in g.nodes)
    after = optimized(g, *results)
    assert ops(after).count("Transpose") <= before


@pytest.mark.parametrize("op", ["AveragePool", "MaxPool"])
@pytest.mark.parametrize(
    ("attributes", "is_global"),
    [
        ({"kernel_shape": [6, 5]}, True),
        ({"kernel_shape": [6, 5], "strides": [6, 5], "auto_pad": "SAME_UPPER"}, True),
        ({"kernel_shape": [6, 5], "pads": [1, 0, 0, 0], "strides": [2, 1]}, False),
        ({"kernel_shape": [6, 5], "auto_pad": "SAME_UPPER"}, False),
        ({"kernel_shape": [3, 5]}, False),
    ],
)
def test_a_window_over_a_whole_image_is_a_global_pool(op: str, attributes: dict[str, Any], is_global: bool) -> None:
    g = Graph()
    g.output(g.node(op, [g.input("x", ("batch", 3, 6, 5))], **attributes), "y")
    model = g.build()
    assert [name for _, name in model.nodes] == [f"Global{op}" if is_global else op]
    if is_global:
        x = normal(2, 3, 6, 5)
        want = (np.mean if op == "AveragePool" else np.max)(x, axis=(2, 3), keepdims=True)
        np.testing.assert_allclose(model(x), want, rtol=1e-5, atol=1e-6)


def test_a_pool_whose_places_are_read_keeps_its_window() -> None:
    g = Graph()
    for value in g.node("MaxPool", [g.input("x", (2, 3, 6, 5))], 2, kernel_shape=[6, 5]):
        g.output(value)
    assert [name for _, name in g.build().nodes] == ["MaxPool"]
