"""Run one runtime's LSTM or GRU in a process of its own, which process.py starts: ``main`` answers jobs with times.

Jobs and answers are as in peer.py. The ``shape`` of a job is a pair: "LSTM" or "GRU", and sizes as in recurrent.json.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import dynq

from .peer import Array, Call, Job, answer, onnx_call, onnx_model, torch_call

GATES = {"LSTM": 4, "GRU": 3}
Layers = list[tuple[Array, Array, Array]]
"""W (1, gates * hidden, input), R (1, gates * hidden, hidden) and B (1, 2 * gates * hidden) of each layer, as ONNX has
them; for a GRU, linear before its reset."""


def data(kind: str, shape: dict[str, int]) -> tuple[Array, Layers]:
    """Return x (steps, batch, input) and weights, roughly like those of a trained network, the same for every peer."""
    rng = np.random.default_rng([GATES[kind], *shape.values()])
    width, size = GATES[kind] * shape["hidden"], shape["input"]
    layers = []
    for _ in range(shape["layers"]):
        bound = np.float32(shape["hidden"] ** -0.5)
        w, r, b = ((rng.random((1, width, k), np.float32) * 2 - 1) * bound for k in (size, shape["hidden"], 2))
        layers.append((w, r, b.reshape(1, 2 * width)))
        size = shape["hidden"]
    return rng.standard_normal((shape["steps"], shape["batch"], shape["input"]), np.float32), layers


def dynq_int8(kind: str, x: Array, layers: Layers, threads: int) -> Call:
    dynq.set_num_threads(threads)
    graph = dynq.Graph()
    value: Any = graph.input("x", x.shape)
    for w, r, b in layers:
        y = getattr(graph, kind.lower())(value, w, r, b)[0]
        value = graph.node("Squeeze", [y, np.array([1])])
    model = graph.build(value, first_layer="int8")  # like the other runtimes
    return lambda: np.asarray(model(x))


def _onnxruntime(kind: str, x: Array, layers: Layers, threads: int, int8: str | None) -> Call:
    from onnx import helper

    weights: dict[str, Any] = {"axes": np.array([1])}
    nodes, value = [], "x"
    for i, parts in enumerate(layers):
        names = [f"{letter}{i}" for letter in "wrb"]
        weights.update(zip(names, parts, strict=True))
        attributes: dict[str, Any] = {"linear_before_reset": 1} if kind == "GRU" else {}
        hidden = parts[1].shape[2]
        nodes.append(helper.make_node(kind, [value, *names], [f"y{i}"], hidden_size=hidden, **attributes))
        value = f"s{i}" if i + 1 < len(layers) else "y"
        nodes.append(helper.make_node("Squeeze", [f"y{i}", "axes"], [value]))
    shape = (*x.shape[:2], layers[-1][1].shape[2])
    return onnx_call(onnx_model(nodes, weights, x.shape, shape), x, shape, threads, int8)


def onnxruntime_float32(kind: str, x: Array, layers: Layers, threads: int) -> Call:
    return _onnxruntime(kind, x, layers, threads, None)


def onnxruntime_int8(kind: str, x: Array, layers: Layers, threads: int) -> Call:
    """Return a call of quantize_dynamic's model, which exists for the LSTM alone."""
    return _onnxruntime(kind, x, layers, threads, "QInt8")


def _torch_module(kind: str, layers: Layers, threads: int) -> Any:
    import torch

    torch.set_num_threads(threads)
    input_size, hidden = layers[0][0].shape[2], layers[0][1].shape[2]
    module = getattr(torch.nn, kind)(input_size, hidden, len(layers)).eval()
    order = [0, 2, 3, 1] if kind == "LSTM" else [1, 0, 2]  # the order of ONNX's gates among torch's
    with torch.no_grad():
        for i, (w, r, b) in enumerate(layers):
            halves = np.split(b[0], 2)
            for name, part in zip(("weight_ih", "weight_hh", "bias_ih", "bias_hh"), (w[0], r[0], *halves), strict=True):
                gates = np.split(part, len(order))
                getattr(module, f"{name}_l{i}").copy_(torch.from_numpy(np.concatenate([gates[g] for g in order])))
    return module


def torch_float32(kind: str, x: Array, layers: Layers, threads: int) -> Call:
    return torch_call(_torch_module(kind, layers, threads), x)


def torch_int8(kind: str, x: Array, layers: Layers, threads: int) -> Call:
    """Return a call of torch.ao.quantization.quantize_dynamic's module."""
    import warnings

    import torch

    quantize: Any = torch.ao.quantization.quantize_dynamic
    module = torch.nn.ModuleList([_torch_module(kind, layers, threads)])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is deprecated
        return torch_call(quantize(module, {getattr(torch.nn, kind)}, torch.qint8)[0], x)


PEERS: dict[str, Callable[[str, Array, Layers, int], Call]] = {
    "dynq": dynq_int8,
    "onnxruntime float32": onnxruntime_float32,
    "onnxruntime int8": onnxruntime_int8,
    "torch float32": torch_float32,
    "torch int8": torch_int8,
}
KINDS = {"onnxruntime int8": ("LSTM",)}  # the others have every kind


def main(name: str, threads: int) -> None:
    def prepare(job: Job) -> tuple[Call, dict[str, Any]] | None:
        kind, sizes = job["shape"]
        if kind not in KINDS.get(name, GATES):
            return None
        x, layers = data(kind, sizes)
        call = PEERS[name](kind, x, layers, threads)
        record: dict[str, Any] = {"kind": kind, **sizes}
        y = call()
        if job["answers"]:  # some values, for a test that all peers compute the same
            record["y"] = [float(value) for value in y.reshape(-1)[-16:]]
        return call, record

    answer(prepare)
