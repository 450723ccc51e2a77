"""Damaged, truncated and enormous files are one error, soon."""

from __future__ import annotations

import random
import time

import numpy as np
import pytest

import dynq
from dynq.importers.tflite import to_graph
from tests.python.references.tflite_models import Graph, Op, T, constant, write
from tests.python.tflite.test_import import branches, loop

flatbuffers = pytest.importorskip("flatbuffers")
tflite = pytest.importorskip("tflite")
F = np.float32


def network() -> bytes:
    sparse = T((4, 4), "float32", np.ones(3), sparsity=([0, 1], [], [4, ([0, 1, 1, 3, 3], [1, 0, 3])]))
    tensors = {
        "x": T((1, 5, 6, 3)),
        "w": T((4, 3, 3, 3), "int8", np.ones((4, 3, 3, 3)), scale=np.ones(4)),
        "c": T(()),
        "k": constant(np.ones(4, np.float16)),
        "f": T(()),
        "a": T(()),
        "s": sparse,
        "p": constant(np.ones((4, 2), np.int32)),
        "q": T(()),
        "m": T(()),
        "d": T((4, 4)),
        "y": T(()),
        "axes": constant(np.array([1, 2], np.int32)),
    }
    ops = [
        Op("CONV_2D", "x w -", "c", "Conv2DOptions", {"StrideH": 2, "StrideW": 1, "FusedActivationFunction": 3}),
        Op("DEQUANTIZE", "k", "f"),
        Op("ADD", "c f", "a", "AddOptions"),
        Op("PAD", "a p", "q"),
        Op("MEAN", "q axes", "m", "ReducerOptions"),
        Op("DENSIFY", "s", "d"),
        Op("FULLY_CONNECTED", "m d -", "y", "FullyConnectedOptions"),
    ]
    return write(Graph(tensors, ops, "x", "y"), signatures=[("s", 0, {"in": "x"}, {"out": "y"})])


@pytest.mark.parametrize("source", [network, branches, loop])
def test_damaged_files_are_an_error_or_a_model(source) -> None:  # type: ignore[no-untyped-def]
    whole, rng = source(), random.Random(source.__name__)
    to_graph(whole)
    begin = time.process_time()
    for i in range(60):
        data = bytearray(whole)
        for _ in range(rng.choice([1, 1, 2, 8])):
            at = rng.randrange(len(data))
            if rng.random() < 0.5:
                data[at] = rng.choice([0, 1, 4, 127, 128, 255, rng.randrange(256)])
            else:
                word = rng.choice([0, 1, 2**31 - 1, 2**31, 2**32 - 1, len(data), rng.randrange(2**32)])
                data[at : at + 4] = word.to_bytes(4, "little")[: len(data) - at]
        damaged = bytes(data[: rng.randrange(len(data))]) if i % 5 == 0 else bytes(data)
        try:
            graph = to_graph(damaged)
            graph.build(quantize=False)
        except (dynq.Error, ValueError):
            pass
    assert time.process_time() - begin < 60


def _many(count: int, vector: str) -> bytes:
    """Return a file whose list of tensors or operators leads ``count`` times to one table with a list of its own."""
    b = flatbuffers.Builder(1024)
    numbers = b.CreateNumpyVector(np.zeros(count if vector == "Inputs" else 4, np.int32))
    name = b.CreateString("t")
    tflite.TensorStart(b)
    tflite.TensorAddShape(b, numbers if vector == "Shape" else 0)
    tflite.TensorAddName(b, name)
    tensor = tflite.TensorEnd(b)
    tflite.OperatorStart(b)
    tflite.OperatorAddInputs(b, numbers)
    operator = tflite.OperatorEnd(b)
    tflite.OperatorCodeStart(b)
    code = tflite.OperatorCodeEnd(b)
    lists = {}
    for what, offset, n in (("Tensors", tensor, count if vector == "Shape" else 1), ("Operators", operator, count)):
        b.StartVector(4, n, 4)
        for _ in range(n):
            b.PrependUOffsetTRelative(offset)
        lists[what] = b.EndVector()
    tflite.SubGraphStart(b)
    tflite.SubGraphAddTensors(b, lists["Tensors"])
    tflite.SubGraphAddOperators(b, lists["Operators"])
    graph = tflite.SubGraphEnd(b)
    b.StartVector(4, 1, 4)
    b.PrependUOffsetTRelative(graph)
    graphs = b.EndVector()
    b.StartVector(4, 1, 4)
    b.PrependUOffsetTRelative(code)
    codes = b.EndVector()
    tflite.ModelStart(b)
    tflite.ModelAddVersion(b, 3)
    tflite.ModelAddOperatorCodes(b, codes)
    tflite.ModelAddSubgraphs(b, graphs)
    b.Finish(tflite.ModelEnd(b), b"TFL3")
    return bytes(b.Output())


@pytest.mark.parametrize("vector", ["Inputs", "Shape"])
def test_lists_that_lead_to_one_place_many_times_are_an_error(vector: str) -> None:
    """A square of what the file has would take hours."""
    model = _many(50_000, vector)
    begin = time.process_time()
    with pytest.raises(dynq.InvalidModelError, match="more than its"):
        to_graph(model)
    assert time.process_time() - begin < 20


def test_sparse_weights_that_expand_to_far_more_are_an_error() -> None:
    sparse = T((1 << 20, 1 << 20), "float32", np.ones(1), sparsity=([0, 1], [], [1 << 20, ([0, 1], [0])]))
    tensors = {"s": sparse, "d": T((1 << 20, 1 << 20)), "x": T((1, 1 << 20)), "y": T(())}
    ops = [Op("DENSIFY", "s", "d"), Op("FULLY_CONNECTED", "x d -", "y", "FullyConnectedOptions")]
    with pytest.raises(dynq.InvalidModelError, match="with 1 values"):
        to_graph(write(Graph(tensors, ops, "x", "y")))
