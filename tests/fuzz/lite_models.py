"""Mutated TensorFlow Lite models."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np

import dynq
from tests.fuzz.mutations import FLOATS, INTEGERS, LARGEST, damaged
from tests.python.references.tflite_models import Graph, Op, T, constant, write

IN_A_PROCESS = 100_000  # cases, at most


def seeds() -> list[bytes]:
    """Return the models that are mutated: a few of each kind that the reader knows."""
    rng = np.random.default_rng(0)

    def normal(*shape: int) -> Any:
        return rng.standard_normal(shape, np.float32)

    kernels = {"w": constant(normal(8, 3, 3, 4)), "v": constant(normal(1, 3, 3, 8)), "b": constant(normal(8))}
    strides = {"StrideH": 1, "StrideW": 1, "DilationHFactor": 1, "DilationWFactor": 1}
    picture = Graph(
        {"x": T((1, 6, 6, 4)), **kernels, "h": T((1, 6, 6, 8)), "i": T((1, 6, 6, 8)), "y": T((1, 3, 3, 8))},
        [
            Op("CONV_2D", "x w b", "h", "Conv2DOptions", {**strides, "FusedActivationFunction": 1}),
            Op("DEPTHWISE_CONV_2D", "h v b", "i", "DepthwiseConv2DOptions", {**strides, "DepthMultiplier": 1}),
            Op(
                "MAX_POOL_2D", "i", "y", "Pool2DOptions",
                {"StrideH": 2, "StrideW": 2, "FilterHeight": 2, "FilterWidth": 2},
            ),
        ],
        "x", "y",
    )  # fmt: skip
    whole = constant(rng.integers(-127, 128, (8, 16)), "int8", scale=np.full(8, 0.02), zero_point=np.zeros(8))
    layer = Graph(
        {"x": T((2, 16)), "w": whole, "h": T((2, 8)), "y": T((2, 8))},
        [
            Op("FULLY_CONNECTED", "x w -", "h", "FullyConnectedOptions"),
            Op("SOFTMAX", "h", "y", "SoftmaxOptions", {"Beta": 1.0}),
        ],
        "x", "y",
    )  # fmt: skip
    half = Graph(
        {"x": T((2, 16)), "w": constant(normal(8, 16).astype(np.float16)), "f": T((8, 16)), "y": T((2, 8))},
        [Op("DEQUANTIZE", "w", "f"), Op("FULLY_CONNECTED", "x f -", "y", "FullyConnectedOptions")],
        "x", "y",
    )  # fmt: skip
    sizes = Graph(
        {
            "x": T((2, 16)), "s": constant([4, 8], "int32"), "a": T((4, 8)), "p": constant([[1, 0], [0, 2]], "int32"),
            "b": T((5, 10)), "q": constant([1, 0], "int32"), "y": T((10, 5)),
        },
        [Op("RESHAPE", "x s", "a"), Op("PAD", "a p", "b"), Op("TRANSPOSE", "b q", "y")],
        "x", "y",
    )  # fmt: skip
    branch = Graph({"x": T((2,)), "y": T((2,))}, [Op("RELU", "x", "y")], "x", "y")
    choice = Graph(
        {"c": T((), "bool"), "x": T((2,)), "y": T((2,))},
        [Op("IF", "c x", "y", "IfOptions", {"ThenSubgraphIndex": 1, "ElseSubgraphIndex": 2})],
        "c x", "y",
    )  # fmt: skip
    signatures = [("serve", 0, {"x": "x"}, {"y": "y"})]
    return [
        write(picture), write(layer, signatures=signatures), write(half), write(sizes), write(choice, branch, branch),
    ]  # fmt: skip


def read(path: Path) -> None:
    """Import a file, by dynq's numerics or by TensorFlow Lite's."""
    dynq.from_tflite(path, numerics="tflite" if path.stat().st_size % 8 else "dynq")


class Mutator:
    """Make case N of a seed. All fields of a flatbuffer lie aligned, so whole numbers are written over aligned ones."""

    def __init__(self, models: list[bytes]) -> None:
        self.models = models

    def case(self, seed: int, number: int) -> bytes:
        rng = random.Random(f"{seed}:{number}")
        model = rng.choice(self.models)
        if rng.random() < 0.2:
            return damaged(rng, model, self.models)
        data = bytearray(model)
        for _ in range(rng.choice([1, 1, 1, 2, 3, 5])):
            size = rng.choice([1, 2, 4, 4, 4, 8])
            at = rng.randrange(0, len(data) - size) // size * size
            if rng.random() < 0.1 and size == 4:
                data[at : at + 4] = np.float32(rng.choice(FLOATS)).tobytes()
                continue
            old = int.from_bytes(data[at : at + size], "little")
            near = [old + 1, old - 1, old + 4, old - 4, old * 2, old // 2, len(data) - at, at]
            value = rng.choice(near if rng.random() < 0.5 else INTEGERS)
            data[at : at + size] = (value % (1 << (8 * size))).to_bytes(size, "little")
        return bytes(data[:LARGEST])
