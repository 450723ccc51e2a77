"""Run one peer in a process of its own, which process.py starts: ``main`` answers jobs with times.

A job is a line of JSON on standard input. It has ``shape``, the ``seconds`` that a sample takes, and ``samples``. The
answer is a line of JSON: the shape, the median time of a call in microseconds, the error against float64, and which
kernels ran, if the peer reports it. Whatever a peer writes elsewhere, standard output holds these lines alone.
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
from numpy.typing import NDArray

import dynq

from .litert import litert_call
from .timing import median_seconds

Array = NDArray[np.float32]
Call = Callable[[], Array]
"""y (m, n) = x w^T + bias, as float32."""
Known = tuple[Call, str]
"""A call, and which kernels it runs."""
Job = dict[str, Any]


def dynq_int8(x: Array, w: Array, bias: Array, threads: int) -> Known:
    dynq.set_num_threads(threads)
    weight = dynq.quantize_weight(w)
    return lambda: dynq.linear(x, weight, bias), dynq.isa.selected()


def dynq_out(x: Array, w: Array, bias: Array, threads: int) -> Known:
    """Return a call that writes into an array which is there already."""
    dynq.set_num_threads(threads)
    weight = dynq.quantize_weight(w)
    out = np.empty((len(x), len(w)), np.float32)
    return lambda: dynq.linear(x, weight, bias, out=out), dynq.isa.selected()


def numpy_float32(x: Array, w: Array, bias: Array, threads: int) -> Call:
    return lambda: x @ w.T + bias


def onnx_model(nodes: list[Any], weights: dict[str, Array | NDArray[np.int64]], x: Any, y: Any) -> Any:
    """Return the model of a layer from ``x`` to ``y``, float32 of these shapes."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    graph = helper.make_graph(
        nodes,
        "layer",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, x)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, y)],
        [numpy_helper.from_array(np.ascontiguousarray(array), name) for name, array in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return model


def onnx_call(
    model: Any, x: Array, y: tuple[int, ...], threads: int, int8: str | None = None, per_channel: bool = True
) -> Call:
    """Return a call of ONNX Runtime, with input and output bound to arrays, so that nothing is copied.

    Args:
        model: reads ``x`` and computes y.
        y: the shape of the output.
        int8: the type of the weights that quantize_dynamic makes. Activations are quantized per tensor.
        per_channel: each channel of a weight has a scale of its own; else the weight has one, as by default.
    """
    import onnx
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "float.onnx")
        onnx.save(model, path)
        if int8 is not None:
            from onnxruntime.quantization import QuantType, quantize_dynamic

            source, path = path, str(Path(folder) / "int8.onnx")
            quantize_dynamic(source, path, per_channel=per_channel, weight_type=QuantType[int8])
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    result = np.empty(y, np.float32)
    binding = session.io_binding()
    binding.bind_input("x", "cpu", 0, np.float32, x.shape, x.ctypes.data)
    binding.bind_output("y", "cpu", 0, np.float32, y, result.ctypes.data)

    def call(read: Array = x) -> Array:  # the binding has its address alone
        session.run_with_iobinding(binding)
        return result

    return call


def _onnxruntime(x: Array, w: Array, bias: Array, threads: int, int8: str | None, per_channel: bool = True) -> Call:
    from onnx import helper

    nodes = [helper.make_node("MatMul", ["x", "w"], ["xw"]), helper.make_node("Add", ["xw", "bias"], ["y"])]
    y = len(x), len(w)
    return onnx_call(onnx_model(nodes, {"w": w.T, "bias": bias}, x.shape, y), x, y, threads, int8, per_channel)


def onnxruntime_float32(x: Array, w: Array, bias: Array, threads: int) -> Call:
    return _onnxruntime(x, w, bias, threads, None)


def onnxruntime_int8(x: Array, w: Array, bias: Array, threads: int) -> Call:
    return _onnxruntime(x, w, bias, threads, "QInt8", per_channel=False)


def onnxruntime_int8_channel(x: Array, w: Array, bias: Array, threads: int) -> Call:
    return _onnxruntime(x, w, bias, threads, "QInt8")


def _torch_module(w: Array, bias: Array, threads: int) -> Any:
    import torch

    torch.set_num_threads(threads)
    layer = torch.nn.Linear(w.shape[1], w.shape[0])
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(w))
        layer.bias.copy_(torch.from_numpy(bias))
    return torch.nn.Sequential(layer).eval()


def torch_call(module: Any, x: Array) -> Call:
    """Return a call in inference mode; it gives the first of several outputs."""
    import torch

    tensor = torch.from_numpy(x)

    def call() -> Array:
        with torch.inference_mode():
            y = module(tensor)
            return np.asarray((y[0] if isinstance(y, tuple) else y).numpy())

    return call


def torch_float32(x: Array, w: Array, bias: Array, threads: int) -> Call:
    return torch_call(_torch_module(w, bias, threads), x)


def torch_int8(x: Array, w: Array, bias: Array, threads: int) -> Call:
    """Return a call of torch.ao.quantization.quantize_dynamic's module."""
    import warnings

    import torch

    quantize: Any = torch.ao.quantization.quantize_dynamic
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is deprecated
        return torch_call(quantize(_torch_module(w, bias, threads), {torch.nn.Linear}, torch.qint8), x)


def torchao_int8(x: Array, w: Array, bias: Array, threads: int) -> Call:
    """Return a call of torchao's module for int8 weights and activations quantized per row, compiled.

    That is its documented mode for CPUs: Inductor with frozen weights chooses the fastest of its kernels for the shape.
    """
    import torch
    from torch._inductor import config
    from torchao.quantization import Int8DynamicActivationInt8WeightConfig, quantize_

    module = _torch_module(w, bias, threads)
    quantize_(module, Int8DynamicActivationInt8WeightConfig())
    config.freezing = True
    return torch_call(torch.compile(module, mode="max-autotune"), x)


LAYERS = ("FullyConnected", "MatMul", "Convolution")  # of OpenVINO, among nodes that change layouts and types


def openvino_call(y: Any, parameter: Any, x: Array, threads: int, group: int = 0) -> Known:
    """Return a call that computes ``y`` from ``parameter``, and the kernels of its layers.

    If ``group`` is not 0, the activations of linear layers are quantized in groups of that size.
    """
    import openvino

    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        "INFERENCE_PRECISION_HINT": "f32",
        "DYNAMIC_QUANTIZATION_GROUP_SIZE": group,
    }
    compiled = openvino.Core().compile_model(openvino.Model([y], [parameter], "layer"), "CPU", settings)
    layers = [op for op in compiled.get_runtime_model().get_ops() if op.rt_info["layerType"].astype(str) in LAYERS]
    kernels = ", ".join(op.rt_info["primitiveType"].astype(str) for op in layers)
    request = compiled.create_infer_request()
    request.set_input_tensor(openvino.Tensor(x, shared_memory=True))

    def call() -> Array:
        request.infer()
        return np.asarray(request.get_output_tensor().data)

    return call, kernels


def openvino_weight(w: Array) -> Any:
    """Return an int8 weight per output channel, and the nodes that make float32 from it."""
    from openvino import opset13 as opset

    most = np.abs(w).max(axis=tuple(range(1, w.ndim)), keepdims=True)
    scale = np.maximum(most / 127, np.float32(1e-30)).astype(np.float32)
    integers = opset.constant(np.clip(np.rint(w / scale), -127, 127).astype(np.int8))
    return opset.multiply(opset.convert(integers, np.float32), opset.constant(scale))


def _openvino(weight: Any, x: Array, bias: Array, threads: int, group: int) -> Known:
    from openvino import opset13 as opset

    parameter = opset.parameter(x.shape, np.float32, name="x")
    product = opset.matmul(parameter, weight, transpose_a=False, transpose_b=True)
    return openvino_call(opset.add(product, opset.constant(bias[None])), parameter, x, threads, group)


def openvino_float32(x: Array, w: Array, bias: Array, threads: int) -> Known:
    from openvino import opset13 as opset

    return _openvino(opset.constant(w), x, bias, threads, 0)


def openvino_int8(x: Array, w: Array, bias: Array, threads: int) -> Known:
    """Return a call with int8 weights per channel; the activations are quantized dynamically, in groups of 128."""
    return _openvino(openvino_weight(w), x, bias, threads, 128)


def openvino_int8_row(x: Array, w: Array, bias: Array, threads: int) -> Known:
    """Return a call with int8 weights per channel; the activations are quantized dynamically, per row."""
    return _openvino(openvino_weight(w), x, bias, threads, x.shape[1])


def _litert_graph(x: Array, w: Array, bias: Array) -> dynq.Graph:
    graph = dynq.Graph()
    graph.output(graph.linear(graph.input("x", x.shape), w, bias), "y")
    return graph


def litert_float32(x: Array, w: Array, bias: Array, threads: int) -> Known:
    return litert_call(_litert_graph(x, w, bias), {"x": x}, threads)


def litert_int8(x: Array, w: Array, bias: Array, threads: int) -> Known:
    """Return a call with int8 weights per channel; the activations are quantized dynamically, per row."""
    return litert_call(_litert_graph(x, w, bias).build(first_layer="int8"), {"x": x}, threads)


PEERS: dict[str, Callable[[Array, Array, Array, int], Call | Known]] = {
    "dynq": dynq_int8,
    "dynq out": dynq_out,
    "numpy float32": numpy_float32,
    "onnxruntime float32": onnxruntime_float32,
    "onnxruntime int8": onnxruntime_int8,
    "onnxruntime int8 channel": onnxruntime_int8_channel,
    "torch float32": torch_float32,
    "torch int8": torch_int8,
    "torchao int8": torchao_int8,
    "openvino float32": openvino_float32,
    "openvino int8": openvino_int8,
    "openvino int8 row": openvino_int8_row,
    "litert float32": litert_float32,
    "litert int8": litert_int8,
}


def data(m: int, n: int, k: int) -> tuple[Array, Array, Array]:
    """Return x, w and bias, roughly like those of a trained network, the same for every peer."""
    rng = np.random.default_rng([m, n, k])
    x = rng.standard_normal((m, k), np.float32)
    w = rng.standard_normal((n, k), np.float32) / np.float32(k**0.5)
    return x, w, rng.standard_normal(n, np.float32)


def error_of(y: Array, right: NDArray[np.float64]) -> float:
    """Return the mean distance, over the mean size."""
    return float(np.abs(y - right).mean() / np.abs(right).mean())


def serve(handle: Callable[[Job], dict[str, Any] | None]) -> None:
    """Answer each line of standard input, a job, with a line of what ``handle`` returns, until the input ends."""
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a peer prints must not come between the lines
    np.empty(2**27, np.uint8)  # after that, glibc's malloc keeps blocks of this size: no page faults for results
    for line in sys.stdin:
        print(json.dumps(handle(json.loads(line))), file=out, flush=True)


def answer(prepare: Callable[[Job], tuple[Call, dict[str, Any]] | None]) -> None:
    """Answer jobs with the median time of a call, and with what else ``prepare`` returns.

    Args:
        prepare: makes the call of a job, or returns None if the peer has no such layer. It runs once for each shape,
            even if several jobs in a row have that shape.
    """
    shape: Any = None
    prepared: tuple[Call, dict[str, Any]] | None = None

    def handle(job: Job) -> dict[str, Any] | None:
        nonlocal shape, prepared
        if job["shape"] != shape:
            shape, prepared = job["shape"], None  # the last one's memory is free before the next is made
            prepared = prepare(job)
        if prepared is None:
            return None
        call, facts = prepared
        return {**facts, "us": 1e6 * median_seconds(call, job["seconds"], job["samples"])}

    serve(handle)


def main(name: str, threads: int) -> None:
    def prepare(job: Job) -> tuple[Call, dict[str, Any]]:
        x, w, bias = data(*job["shape"])
        made = PEERS[name](x, w, bias, threads)
        call, kernels = made if isinstance(made, tuple) else (made, None)
        right = x.astype(np.float64) @ w.astype(np.float64).T + bias
        record = {**dict(zip("mnk", job["shape"], strict=True)), "error": error_of(call(), right)}
        return call, record if kernels is None else {**record, "kernels": kernels}

    answer(prepare)
