"""One runtime's LSTM or GRU in a process of its own, which recurrent.py starts: ``main`` reads a job and prints times.

The job (JSON on standard input): ``shapes``, ``kind``, ``seconds``, ``samples``, ``cpus``, as in peer.py.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from .peer import Array, Call, median_seconds

GATES = {"LSTM": 4, "GRU": 3}
Layers = list[tuple[Array, Array, Array]]
"""W (1, gates * hidden, input), R (1, gates * hidden, hidden) and B (1, 2 * gates * hidden) of each layer, as ONNX has
them; for a GRU, linear before its reset."""


def data(kind: str, shape: dict[str, int]) -> tuple[Array, Layers]:
    """x (steps, batch, input) and weights as a trained network has them, roughly: the same for every peer."""
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
    import dynq

    dynq.set_num_threads(threads)
    graph = dynq.Graph()
    value: Any = graph.input("x", x.shape)
    for w, r, b in layers:
        y = getattr(graph, kind.lower())(value, w, r, b)[0]
        value = graph.node("Squeeze", [y, np.array([1])])
    model = graph.build(value, first_layer="int8")  # as the others have it
    return lambda: np.asarray(model(x))


def _onnx_model(kind: str, x: Array, layers: Layers) -> Any:
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    nodes, weights, value = [], [numpy_helper.from_array(np.array([1]), "axes")], "x"
    for i, parts in enumerate(layers):
        names = [f"{letter}{i}" for letter in "wrb"]
        weights += [numpy_helper.from_array(part, name) for part, name in zip(parts, names, strict=True)]
        attributes: dict[str, Any] = {"linear_before_reset": 1} if kind == "GRU" else {}
        hidden = parts[1].shape[2]
        nodes.append(helper.make_node(kind, [value, *names], [f"y{i}"], hidden_size=hidden, **attributes))
        value = f"s{i}" if i + 1 < len(layers) else "y"
        nodes.append(helper.make_node("Squeeze", [f"y{i}", "axes"], [value]))
    shape = [*x.shape[:2], layers[-1][1].shape[2]]
    graph = helper.make_graph(
        nodes,
        "recurrent",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8)
    onnx.checker.check_model(model)
    return model


def _onnxruntime(kind: str, x: Array, layers: Layers, threads: int, quantize: bool) -> Call:
    import onnx
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    with tempfile.TemporaryDirectory() as folder:
        path, int8 = str(Path(folder) / "float.onnx"), str(Path(folder) / "int8.onnx")
        onnx.save(_onnx_model(kind, x, layers), path)
        if quantize:
            from onnxruntime.quantization import QuantType, quantize_dynamic

            quantize_dynamic(path, int8, per_channel=True, weight_type=QuantType.QInt8)
        session = onnxruntime.InferenceSession(int8 if quantize else path, options, providers=["CPUExecutionProvider"])
    return lambda: np.asarray(session.run(None, {"x": x})[0])


def onnxruntime_float32(kind: str, x: Array, layers: Layers, threads: int) -> Call:
    return _onnxruntime(kind, x, layers, threads, quantize=False)


def onnxruntime_int8(kind: str, x: Array, layers: Layers, threads: int) -> Call:
    """quantize_dynamic, which has the LSTM alone."""
    return _onnxruntime(kind, x, layers, threads, quantize=True)


def _torch_module(kind: str, layers: Layers, threads: int) -> Any:
    import torch

    torch.set_num_threads(threads)
    input_size, hidden = layers[0][0].shape[2], layers[0][1].shape[2]
    module = getattr(torch.nn, kind)(input_size, hidden, len(layers)).eval()
    order = [0, 2, 3, 1] if kind == "LSTM" else [1, 0, 2]  # of ONNX's gates, in torch's order
    with torch.no_grad():
        for i, (w, r, b) in enumerate(layers):
            halves = np.split(b[0], 2)
            for name, part in zip(("weight_ih", "weight_hh", "bias_ih", "bias_hh"), (w[0], r[0], *halves), strict=True):
                gates = np.split(part, len(order))
                getattr(module, f"{name}_l{i}").copy_(torch.from_numpy(np.concatenate([gates[g] for g in order])))
    return module


def _torch_call(module: Any, x: Array) -> Call:
    import torch

    tensor = torch.from_numpy(x)

    def call() -> Array:
        with torch.inference_mode():
            return np.asarray(module(tensor)[0].numpy())

    return call


def torch_float32(kind: str, x: Array, layers: Layers, threads: int) -> Call:
    return _torch_call(_torch_module(kind, layers, threads), x)


def torch_int8(kind: str, x: Array, layers: Layers, threads: int) -> Call:
    """torch.ao.quantization.quantize_dynamic."""
    import warnings

    import torch

    quantize: Any = torch.ao.quantization.quantize_dynamic
    module = torch.nn.ModuleList([_torch_module(kind, layers, threads)])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is deprecated
        return _torch_call(quantize(module, {getattr(torch.nn, kind)}, torch.qint8)[0], x)


PEERS: dict[str, Callable[[str, Array, Layers, int], Call]] = {
    "dynq": dynq_int8,
    "onnxruntime float32": onnxruntime_float32,
    "onnxruntime int8": onnxruntime_int8,
    "torch float32": torch_float32,
    "torch int8": torch_int8,
}


def main(name: str, threads: int) -> None:
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a peer prints must not stand between the lines
    job = json.load(sys.stdin)
    if job["cpus"]:
        os.sched_setaffinity(0, job["cpus"])
    np.empty(2**27, np.uint8)  # glibc's malloc keeps blocks as large as one that was freed
    for shape in job["shapes"]:
        x, layers = data(job["kind"], shape)
        call = PEERS[name](job["kind"], x, layers, threads)
        y = call()
        if job["answers"]:  # some values, for a test that all compute the same
            shape = {**shape, "y": [float(value) for value in y.reshape(-1)[-16:]]}
        us = 1e6 * median_seconds(call, job["seconds"], job["samples"])
        print(json.dumps({**shape, "us": us}), file=out, flush=True)
