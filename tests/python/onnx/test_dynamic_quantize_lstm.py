"""DynamicQuantizeLSTM is an LSTM of the weights that its integers stand for."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest

import dynq
from tests.python.references.onnx_models import model, node
from tests.python.references.onnx_runtime import by_runtime, error

HIDDEN, WIDTH = 20, 12


def integers(rng: np.random.Generator, dtype: str, *shape: int) -> np.ndarray:
    info = np.iinfo(dtype)
    return rng.integers(info.min, info.max + 1, shape).astype(dtype)


def pair(
    rng: np.random.Generator, dtype: str, per_channel: bool, directions: int = 1, **attributes: Any
) -> tuple[onnx.ModelProto, onnx.ModelProto]:
    """The quantized layer, and the float layer of the same weights."""
    shape = (directions, 4 * HIDDEN) if per_channel else (directions,)
    given: dict[str, np.ndarray] = {}
    weights: dict[str, np.ndarray] = {}
    for name, rows in (("W", WIDTH), ("R", HIDDEN)):
        q = integers(rng, dtype, directions, rows, 4 * HIDDEN)
        scale = rng.uniform(0.002, 0.006, shape).astype(np.float32)
        zero = rng.integers(*((120, 136) if dtype == "uint8" else (-8, 8)), shape).astype(dtype)
        given |= {name: q, f"{name}s": scale, f"{name}z": zero}
        around = (directions, 1, -1)
        weights[name] = (q - zero.reshape(around).astype(np.float32)) * scale.reshape(around)
        weights[name] = np.ascontiguousarray(weights[name].transpose(0, 2, 1))
    bias = rng.standard_normal((directions, 8 * HIDDEN)).astype(np.float32)
    inputs = {"x": ("float32", [5, "b", WIDTH]), "h": ("float32", [directions, "b", HIDDEN])}
    if directions == 2:
        attributes["direction"] = "bidirectional"
    quantized = node(
        "DynamicQuantizeLSTM", "x W R B - h h - Ws Wz Rs Rz", "y last cell", "lstm", domain="com.microsoft",
        hidden_size=HIDDEN, **attributes,
    )  # fmt: skip
    plain = node("LSTM", "x W R B - h h", "y last cell", "lstm", hidden_size=HIDDEN, **attributes)
    return (
        model([quantized], inputs, "y last cell", {**given, "B": bias}, 17, microsoft=True),
        model([plain], inputs, "y last cell", {**weights, "B": bias}, 17),
    )


@pytest.mark.parametrize("directions", [1, 2])
@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("dtype", ["int8", "uint8"])
def test_it_is_the_float_layer_of_its_weights_and_int8_close_to_onnx_runtime(
    dtype: str, per_channel: bool, directions: int
) -> None:
    rng = np.random.default_rng(3)
    quantized, plain = pair(rng, dtype, per_channel, directions)
    feeds = {
        "x": rng.standard_normal((5, 3, WIDTH)).astype(np.float32),
        "h": rng.standard_normal((directions, 3, HIDDEN)).astype(np.float32),
    }
    exact = by_runtime(plain, feeds)
    for got, want in zip(dynq.from_onnx(quantized, quantize=False).run(feeds).values(), exact, strict=True):
        assert error(got, want) < 2e-5
    imported = dynq.from_onnx(quantized, first_layer="int8")
    assert {row.node: row.became for row in imported.report().rows}["lstm"] == "int8 LSTM"
    for got, want in zip(imported.run(feeds).values(), exact, strict=True):
        assert error(got, want) < 0.04
    if not per_channel:  # of channels ONNX Runtime takes no zero points
        for got, want in zip(imported.run(feeds).values(), by_runtime(quantized, feeds), strict=True):
            assert error(got, want) < 0.08


def test_its_attributes_are_those_of_the_layer() -> None:
    rng = np.random.default_rng(4)
    quantized, plain = pair(
        rng, "int8", False, activations=["HardSigmoid", "Tanh", "Relu"], activation_alpha=[0.3], clip=2.0
    )
    feeds = {"x": rng.standard_normal((5, 2, WIDTH)).astype(np.float32), "h": np.zeros((1, 2, HIDDEN), np.float32)}
    got = dynq.from_onnx(quantized, quantize=False).run(feeds)
    for a, b in zip(got.values(), dynq.from_onnx(plain, quantize=False).run(feeds).values(), strict=True):
        assert np.array_equal(a, b)


def test_weights_that_are_inputs_are_refused_and_shapes_are_checked() -> None:
    quantized, _ = pair(np.random.default_rng(5), "int8", False)
    weight = next(tensor for tensor in quantized.graph.initializer if tensor.name == "W")
    quantized.graph.initializer.remove(weight)
    quantized.graph.input.append(onnx.helper.make_tensor_value_info("W", weight.data_type, list(weight.dims)))
    with pytest.raises(dynq.UnsupportedModelError, match="W that is not constant"):
        dynq.from_onnx(quantized)
    quantized, _ = pair(np.random.default_rng(5), "int8", False)
    scale = next(tensor for tensor in quantized.graph.initializer if tensor.name == "Rs")
    scale.CopyFrom(onnx.numpy_helper.from_array(np.ones(7, np.float32), "Rs"))
    with pytest.raises(dynq.InvalidModelError, match=r"'lstm'.*scale of R has shape \(7,\)"):
        dynq.from_onnx(quantized)
