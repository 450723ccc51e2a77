"""Convolutions: against the ONNX package, the quantized rule against rows in NumPy, and what build makes of them."""

from typing import Any

import numpy as np
import pytest

import dynq
from dynq.graph import Graph
from dynq.passes import optimize
from dynq.passes.conv import rows
from dynq.passes.rewrite import panels
from tests.python.references.one_op import run_op
from tests.python.references.op_reference import assert_same, reference
from tests.python.references.quantized_graph import quantized

Array = np.ndarray[Any, Any]
RNG = np.random.default_rng(8)


def normal(*shape: int) -> Array:
    return RNG.standard_normal(shape, np.float32)


def _random_windows(rng: np.random.Generator, spatial: int) -> dict[str, list[int]]:
    return {
        "strides": [int(n) for n in rng.integers(1, 4, spatial)],
        "dilations": [int(n) for n in rng.integers(1, 3, spatial)],
        "pads": [int(n) for n in rng.integers(0, 3, 2 * spatial)],
    }


@pytest.mark.parametrize("seed", range(24))
def test_convolutions_agree_with_onnx(seed: int) -> None:
    rng = np.random.default_rng(seed)
    spatial, group = 1 + seed % 2, int(rng.choice([1, 1, 2, 5]))
    channels, outputs = int(rng.choice([1, 3, 17, 32])), int(rng.choice([1, 4, 16, 50]))
    kernel = tuple(int(n) for n in rng.integers(1, 4, spatial))
    x = rng.standard_normal((2, channels * group, *rng.integers(8, 20, spatial)), np.float32)
    w = rng.standard_normal((outputs * group, channels, *kernel), np.float32)
    bias = rng.standard_normal(outputs * group).astype(np.float32) if seed % 3 else None
    attributes: dict[str, Any] = {"group": group, **_random_windows(rng, spatial)}
    if seed % 5 == 0:
        del attributes["pads"]
        attributes["auto_pad"] = ["SAME_UPPER", "SAME_LOWER", "VALID"][seed // 5 % 3]
        attributes["dilations"] = [1] * spatial
    expected = reference("Conv", x, w, bias, **attributes)[0]
    assert_same(run_op("Conv", x, w, bias, **attributes), expected, 1e-4)


@pytest.mark.parametrize("seed", range(24))
def test_transposed_convolutions_agree_with_onnx(seed: int) -> None:
    rng = np.random.default_rng(seed)
    spatial, group = 1 + seed % 2, int(rng.choice([1, 1, 3]))
    channels, outputs = int(rng.choice([1, 3, 20])), int(rng.choice([1, 5, 33]))
    x = rng.standard_normal((2, channels * group, *rng.integers(3, 9, spatial)), np.float32)
    w = rng.standard_normal((channels * group, outputs, *rng.integers(2, 5, spatial)), np.float32)
    bias = rng.standard_normal(outputs * group).astype(np.float32) if seed % 3 else None
    attributes: dict[str, Any] = {"group": group, **_random_windows(rng, spatial)}
    attributes["pads"] = [n % 2 for n in attributes["pads"]]
    attributes["output_padding"] = [min(1, stride - 1) for stride in attributes["strides"]]
    got = run_op("ConvTranspose", x, w, bias, **attributes)
    del attributes["group"]  # the reference gives a group one output
    parts = zip(np.split(x, group, 1), np.split(w, group), strict=True)
    expected = np.concatenate([reference("ConvTranspose", *part, **attributes)[0] for part in parts], 1)
    assert_same(got, expected + (0 if bias is None else bias.reshape(-1, *[1] * spatial)), 1e-4)


def _rows_of(x: Array, kernel: int, stride: int, pad: int, dilation: int) -> Array:
    """(N, W, C * kernel) of x (N, C, W): the kernel's places, at each the channels."""
    x = np.pad(x, ((0, 0), (0, 0), (pad, pad)))
    count = (x.shape[2] - (kernel - 1) * dilation - 1) // stride + 1
    taps = [x[:, :, t * dilation : t * dilation + (count - 1) * stride + 1 : stride] for t in range(kernel)]
    return np.stack(taps, 2).transpose(0, 3, 2, 1).reshape(x.shape[0], count, -1)


@pytest.mark.parametrize("granularity", ["row", "image"])
@pytest.mark.parametrize("scheme", ["asymmetric", "symmetric"])
def test_int8_convolutions_are_linear_layers_on_positions(granularity: str, scheme: str) -> None:
    x, w, bias = normal(3, 20, 50) * np.float32(3), normal(40, 20, 3), normal(40)
    weight = dynq.quantize_weight(rows(w))
    positions = _rows_of(x, 3, 2, 1, 2)
    each = dynq.linear(positions, weight, bias, activation="silu", scheme=scheme)
    if granularity == "image":
        both = []
        for image, of_image in zip(x, positions, strict=True):
            whole = np.concatenate([of_image, np.pad(image.reshape(-1), (0, 20)).reshape(-1, 60)])
            both.append(dynq.linear(whole, weight, bias, activation="silu", scheme=scheme, granularity="tensor"))
        each = np.stack([y[: positions.shape[1]] for y in both])
    got = run_op(
        "dynq.Conv",
        x,
        weight,
        bias,
        kernel_shape=[3],
        strides=[2],
        pads=[1, 1],
        dilations=[2],
        activation="silu",
        scheme=scheme,
        granularity=granularity,
    )
    np.testing.assert_array_equal(got, each.transpose(0, 2, 1))


def test_a_batch_gives_the_bits_of_its_images() -> None:
    x, weight = normal(5, 16, 9, 9), dynq.quantize_weight(rows(normal(24, 16, 3, 3)))
    for granularity in ("row", "image"):
        attributes: dict[str, Any] = {"kernel_shape": [3, 3], "granularity": granularity}
        whole = run_op("dynq.Conv", x, weight, **attributes)
        for i in range(5):
            np.testing.assert_array_equal(whole[i : i + 1], run_op("dynq.Conv", x[i : i + 1], weight, **attributes))


STEPS: dict[str, tuple[str, dict[str, float]]] = {
    "hard_swish": ("HardSwish", {}),
    "mish": ("Mish", {}),
    "hard_sigmoid": ("HardSigmoid", {"alpha": 0.3, "beta": 0.4}),
    "leaky_relu": ("LeakyRelu", {"alpha": 0.2}),
}


@pytest.mark.parametrize("channels", [3, 16])
@pytest.mark.parametrize("form", ["dynq.Conv", "dynq.ConvFloat"])
@pytest.mark.parametrize("activation", STEPS)
def test_activation_and_clamp_of_a_convolution_have_the_bits_of_their_nodes(
    isa: str, activation: str, form: str, channels: int
) -> None:
    x, outputs = normal(2, channels, 9, 11), 24
    bias = normal(outputs)
    floats = rows(normal(outputs, channels, 3, 3))
    attributes: dict[str, Any] = {"kernel_shape": [3, 3], "pads": [1] * 4}
    weight: Any = dynq.quantize_weight(floats)
    if form == "dynq.ConvFloat":
        weight, attributes = panels(floats[None]), {**attributes, "channels": outputs}
    op, numbers = STEPS[activation]
    y = run_op(form, x, weight, bias, **attributes)
    want = run_op("Clip", run_op(op, y, **numbers), np.float32(-0.25), np.float32(1.5))
    got = run_op(form, x, weight, bias, **attributes, activation=activation, **numbers, min=-0.25, max=1.5)
    np.testing.assert_array_equal(got.view(np.int32), want.view(np.int32))


def network() -> tuple[Graph, Any]:
    g = Graph()
    x = g.input("x", ("batch", 3, 20, 20))
    h = g.conv(x, normal(16, 3, 3, 3), normal(16), pads=1, activation="relu", name="first")
    h = g.conv(h, normal(16, 1, 3, 3), pads=1, group=16, name="depthwise")
    h = g.relu(g.conv(h, normal(32, 16, 3, 3), strides=2, pads=(1, 1), name="middle"))
    return g, g.conv(h, normal(4, 32, 1, 1), normal(4), name="last")


def test_what_becomes_int8_and_why_the_rest_stays_float() -> None:
    g, y = network()
    after, report = quantized(g, y)
    assert [node.op for node in after.nodes] == ["dynq.ConvFloat", "dynq.ConvFloat", "dynq.Conv", "dynq.ConvFloat"]
    assert "K = 27" in report["first"].why and "16 groups" in report["depthwise"].why
    assert "4 outputs" in report["last"].why
    assert report["middle"].became == "int8 conv" and report["middle"].bytes_after < report["middle"].bytes_before / 3
    assert after.nodes[2].attributes["activation"] == "relu"
    assert quantized(g, y, keep_float=("mid*",))[1]["middle"].why == "keep_float has 'mid*'"


@pytest.mark.parametrize("quantize", [True, False])
def test_a_network_of_convolutions_runs(quantize: bool) -> None:
    g, y = network()
    model = g.build(y, quantize=quantize)
    x = normal(2, 3, 20, 20)
    h = np.maximum(reference("Conv", x, *_of(g, "first"), pads=[1] * 4)[0], 0)
    h = reference("Conv", h, *_of(g, "depthwise"), pads=[1] * 4, group=16)[0]
    h = np.maximum(reference("Conv", h, *_of(g, "middle"), pads=[1] * 4, strides=[2, 2])[0], 0)
    expected = reference("Conv", h, *_of(g, "last"))[0]
    error = np.abs(model(x) - expected).max() / np.abs(expected).max()
    assert error < (0.02 if quantize else 1e-5)


def _of(g: Graph, name: str) -> list[Array]:
    node = next(node for node in g.nodes if node.name == name)
    return [value.array for value in node.inputs[1:] if value is not None and value.array is not None]


def test_batch_norm_bias_and_activation_go_into_a_convolution() -> None:
    g = Graph()
    x = g.input("x", ("batch", 4, 10))
    parameters = [normal(8), normal(8), normal(8), np.abs(normal(8)) + 0.1]
    y = g.node("Conv", [x, normal(8, 4, 3)]) + normal(8, 1)
    y = g.silu(g.node("BatchNormalization", [y, *parameters]))
    copy = g.copy()
    copy.outputs = [("y", next(v for n in copy.nodes for v in n.outputs if v is not None and v.name == y.name))]
    optimize(copy)
    assert [node.op for node in copy.nodes] == ["dynq.Conv"] and copy.nodes[0].attributes["activation"] == "silu"
    data = normal(2, 4, 10)
    plain = reference("Conv", data, *_of(g, g.nodes[0].name))[0]
    plain = plain + next(v.array for v in g.nodes[1].inputs if v is not None and v.array is not None)
    scale, shift, mean, variance = (p[:, None] for p in parameters)
    plain = (plain - mean) / np.sqrt(variance + 1e-5) * scale + shift
    np.testing.assert_allclose(g.build(y, quantize=False)(data), plain / (1 + np.exp(-plain)), rtol=1e-4, atol=1e-5)


def test_a_transposed_convolution_of_a_graph() -> None:
    g = Graph()
    x = g.input("x", ("batch", 6, 10))
    w = normal(6, 5, 4)
    model = g.build(g.conv_transpose(x, w, strides=2, pads=1, name="up"))
    data = normal(2, 6, 10)
    assert_same(model(data), reference("ConvTranspose", data, w, strides=[2], pads=[1, 1])[0], 1e-4)


def test_wrong_windows_are_refused() -> None:
    g = Graph()
    x = g.input("x", ("batch", 4, 10))
    with pytest.raises(ValueError, match="strides has 3 numbers; expected 1 or 1"):
        g.conv(x, normal(8, 4, 3), strides=(1, 1, 1))
    with pytest.raises(ValueError, match="constant"):
        g.conv(x, normal(8, 4))
    with pytest.raises(ValueError, match=r"'wide'.*does not fit"):
        g.build(g.conv(x, normal(8, 4, 11), name="wide"))(normal(1, 4, 10))
