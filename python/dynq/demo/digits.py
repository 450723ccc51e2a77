"""Classify handwritten digits with a small network, trained in float32 by tools/train_digits.py, run in int8."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from typing import Any

import numpy as np

import dynq

from . import interleaved_medians, one_thread

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Digits:
    """The shipped network and its held-out test images."""

    images: Array  # float32 (samples, 64), 0 to 1
    labels: Array  # uint8 (samples,)
    weights: list[Array]  # float32 (N, K) of each layer
    biases: list[Array]  # float32 (N,)


@dataclass(frozen=True)
class Result:
    """The measurements of the demo. Seconds are for one sample."""

    samples: int
    isa: str
    float_accuracy: float
    int8_accuracy: float
    agreement: float  # share of samples where both predict the same digit
    float_weight_bytes: int
    int8_weight_bytes: int
    float_batch_seconds: float  # all samples in one call
    int8_batch_seconds: float
    float_single_seconds: float  # one sample a call
    int8_single_seconds: float


def load() -> Digits:
    """Read digits.npz."""
    with resources.files(__package__).joinpath("digits.npz").open("rb") as file, np.load(file) as data:
        layers = sum(name.startswith("w") for name in data.files)
        return Digits(
            images=data["images"].astype(np.float32) / 16,
            labels=data["labels"],
            weights=[np.asfortranarray(data[f"w{i}"]) for i in range(layers)],  # NumPy is faster if w.T lies like this
            biases=[data[f"b{i}"] for i in range(layers)],
        )


def float_logits(x: Array, digits: Digits) -> Array:
    """Return float32 (samples, 10), computed by NumPy."""
    last = len(digits.weights) - 1
    for i, (w, b) in enumerate(zip(digits.weights, digits.biases, strict=True)):
        x = x @ w.T
        x += b
        if i != last:
            np.maximum(x, 0, out=x)
    return x


def int8_logits(x: Array, weights: list[dynq.QuantizedWeight], biases: list[Array]) -> Array:
    """Return float32 (samples, 10); each layer is one call."""
    for qw, b in zip(weights[:-1], biases[:-1], strict=True):
        x = dynq.linear(x, qw, b, activation="relu")
    return dynq.linear(x, weights[-1], biases[-1])


@one_thread()
def run() -> Result:
    """Quantize the weights, classify the test images both ways, and time both."""
    digits = load()
    weights = [dynq.quantize_weight(w) for w in digits.weights]
    in_float = float_logits(digits.images, digits).argmax(1)
    in_int8 = int8_logits(digits.images, weights, digits.biases).argmax(1)
    one = digits.images[:1]
    samples = len(digits.labels)
    batch = interleaved_medians(
        {
            "float": lambda: float_logits(digits.images, digits),
            "int8": lambda: int8_logits(digits.images, weights, digits.biases),
        },
        rounds=15,
        repeats=10,
    )
    single = interleaved_medians(
        {
            "float": lambda: float_logits(one, digits),
            "int8": lambda: int8_logits(one, weights, digits.biases),
        },
        rounds=15,
        repeats=200,
    )
    return Result(
        samples=samples,
        isa=dynq.isa.selected(),
        float_accuracy=float((in_float == digits.labels).mean()),
        int8_accuracy=float((in_int8 == digits.labels).mean()),
        agreement=float((in_float == in_int8).mean()),
        float_weight_bytes=sum(w.nbytes for w in digits.weights),
        int8_weight_bytes=sum(qw.nbytes for qw in weights),
        float_batch_seconds=batch["float"] / samples,
        int8_batch_seconds=batch["int8"] / samples,
        float_single_seconds=single["float"],
        int8_single_seconds=single["int8"],
    )
