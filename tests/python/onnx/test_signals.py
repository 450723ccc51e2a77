"""Fourier transforms against NumPy's and ONNX Runtime's. Their matrices stay in float32."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import dynq
from tests.python.references.onnx_models import model, node
from tests.python.references.onnx_runtime import by_runtime, error

FORMS = [(1, 0, 0), (1, 0, 1), (2, 0, 0), (1, 1, 0), (2, 1, 0), (2, 1, 1)]  # parts, inverse, onesided


def expected(x: np.ndarray, axis: int, n: int | None, inverse: int, onesided: int) -> np.ndarray:
    signal = x[..., 0] + (1j * x[..., 1] if x.shape[-1] == 2 else 0)
    if inverse and onesided:
        return np.fft.irfft(signal, n, axis)[..., None].astype(np.float32)
    y = (np.fft.ifft if inverse else np.fft.fft)(signal, n, axis)
    if onesided:
        y = np.take(y, range(y.shape[axis] // 2 + 1), axis)
    return np.stack([y.real, y.imag], -1).astype(np.float32)


@pytest.mark.parametrize("opset", [17, 20])
@pytest.mark.parametrize(("parts", "inverse", "onesided"), FORMS)
@pytest.mark.parametrize("n", [None, 9, 20])
def test_a_transform_is_that_of_numpy(opset: int, parts: int, inverse: int, onesided: int, n: int | None) -> None:
    x = np.random.default_rng(0).standard_normal((2, 12, 15, parts), np.float32)
    for axis in (1, 2):
        tensors = {} if n is None else {"n": np.array(n, np.int64)}
        names, attributes = "x" if n is None else "x n", {"inverse": inverse, "onesided": onesided}
        if opset == 20:
            tensors["a"], names = np.array(axis - 4, np.int64), ("x n a" if n else "x - a")
        else:
            attributes["axis"] = axis
        proto = model([node("DFT", names, "y", **attributes)], {"x": ("float32", x.shape)}, "y", tensors, opset=opset)
        got = dynq.from_onnx(proto, first_layer="int8")(x)
        assert error(got, expected(x, axis, n, inverse, onesided)) < 1e-6


@pytest.mark.parametrize("window", [True, False])
@pytest.mark.parametrize("shape", [[2, 50, 1], ["batch", "time", 1], [2, 50], ["batch", "time"]])
def test_frames_are_transformed(window: bool, shape: list[Any]) -> None:
    x = np.random.default_rng(1).standard_normal((2, 50, 1), np.float32)[..., 0 if len(shape) == 2 else slice(None)]
    tensors = {"step": np.array(4), "length": np.array(16), "window": np.hanning(16).astype(np.float32)}
    names = f"x step {'window' if window else '-'} length"
    proto = model([node("STFT", names, "y")], {"x": ("float32", shape)}, "y", tensors, opset=17)
    built = dynq.from_onnx(proto, first_layer="int8")
    assert error(built(x), by_runtime(proto, {"x": x})[0]) < 1e-6


@pytest.mark.parametrize("op", ["HannWindow", "HammingWindow", "BlackmanWindow"])
@pytest.mark.parametrize("periodic", [0, 1])
def test_windows_are_constants(op: str, periodic: int) -> None:
    nodes = [node(op, "n", "w", periodic=periodic), node("Mul", "x w", "y")]
    proto = model(nodes, {"x": ("float32", [10])}, "y", {"n": np.array(10, np.int64)}, opset=17)
    x = np.ones(10, np.float32)
    assert error(dynq.from_onnx(proto)(x), by_runtime(proto, {"x": x})[0]) < 1e-6


def test_a_mel_matrix_is_a_constant() -> None:
    numbers = {"a": np.array(8), "b": np.array(16), "c": np.array(8192)}
    numbers |= {"d": np.array(0.0, np.float32), "e": np.array(4096.0, np.float32)}
    nodes = [node("MelWeightMatrix", "a b c d e", "m"), node("MatMul", "x m", "y")]
    proto = model(nodes, {"x": ("float32", [3, 9])}, "y", numbers, opset=17)
    x = np.random.default_rng(2).standard_normal((3, 9), np.float32)
    assert error(dynq.from_onnx(proto, quantize=False)(x), by_runtime(proto, {"x": x})[0]) < 1e-6


def test_a_size_that_is_not_known_is_refused_with_the_way_to_fix_it() -> None:
    proto = model([node("DFT", "x", "y", "dft")], {"x": ("float32", [1, "time", 1])}, "y", opset=20)
    with pytest.raises(dynq.UnsupportedModelError, match="--input-shape x=1xtimex1: 'dft'"):
        dynq.from_onnx(proto)
    x = np.random.default_rng(3).standard_normal((1, 12, 1), np.float32)
    got = dynq.from_onnx(proto, shapes={"x": (1, 12, 1)})(x)
    assert error(got, expected(x, 1, None, 0, 0)) < 1e-6
    proto = model([node("DFT", "x n", "y", "dft")], {"x": ("float32", [1, 9, 1]), "n": ("int64", [])}, "y", opset=20)
    with pytest.raises(dynq.UnsupportedModelError, match="--input-value n=VALUE: 'dft'"):
        dynq.from_onnx(proto)
    x = x[:, :9]
    got = dynq.from_onnx(proto, inputs={"n": 12}).run({"x": x})["y"]
    assert error(got, expected(x, 1, 12, 0, 0)) < 1e-6
