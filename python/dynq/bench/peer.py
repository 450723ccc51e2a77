"""One peer in a process of its own, which peers.py starts: ``main`` reads a job and prints its times.

The job (JSON on standard input): ``shapes``, ``seconds`` a sample takes, ``samples``, ``with_error``, ``cpus`` to run
on. For each shape one line of JSON: the median time of a call in microseconds and, if asked for, the error against
float64. Whatever a peer writes elsewhere, standard output holds these lines alone.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
Call = Callable[[], Array]
"""y (m, n) = x w^T + bias, as float32."""
Job = dict[str, Any]


def dynq_int8(x: Array, w: Array, bias: Array, threads: int) -> Call:
    import dynq

    dynq.set_num_threads(threads)
    weight = dynq.quantize_weight(w)
    return lambda: dynq.linear(x, weight, bias)


def numpy_float32(x: Array, w: Array, bias: Array, threads: int) -> Call:
    return lambda: x @ w.T + bias


def onnx_model(nodes: list[Any], weights: dict[str, Array | NDArray[np.int64]], x: Any, y: Any) -> Any:
    """Of ``x`` and ``y``, float32 of these shapes."""
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


def onnx_call(model: Any, x: Array, y: tuple[int, ...], threads: int, int8: str | None = None) -> Call:
    """ONNX Runtime, with input and output bound to arrays, so that nothing is copied.

    Args:
        model: of ``x`` and ``y``, which has this shape.
        int8: the type of the weights, per channel, that quantize_dynamic makes; activations per tensor, as it has them.
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
            quantize_dynamic(source, path, per_channel=True, weight_type=QuantType[int8])
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    result = np.empty(y, np.float32)
    binding = session.io_binding()
    binding.bind_input("x", "cpu", 0, np.float32, x.shape, x.ctypes.data)
    binding.bind_output("y", "cpu", 0, np.float32, y, result.ctypes.data)

    def call() -> Array:
        session.run_with_iobinding(binding)
        return result

    return call


def _onnxruntime(x: Array, w: Array, bias: Array, threads: int, int8: str | None) -> Call:
    from onnx import helper

    nodes = [helper.make_node("MatMul", ["x", "w"], ["xw"]), helper.make_node("Add", ["xw", "bias"], ["y"])]
    y = len(x), len(w)
    return onnx_call(onnx_model(nodes, {"w": w.T, "bias": bias}, x.shape, y), x, y, threads, int8)


def onnxruntime_float32(x: Array, w: Array, bias: Array, threads: int) -> Call:
    return _onnxruntime(x, w, bias, threads, None)


def onnxruntime_int8(x: Array, w: Array, bias: Array, threads: int) -> Call:
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
    """In inference mode; of several outputs the first."""
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
    """torch.ao.quantization.quantize_dynamic."""
    import warnings

    import torch

    quantize: Any = torch.ao.quantization.quantize_dynamic
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is deprecated
        return torch_call(quantize(_torch_module(w, bias, threads), {torch.nn.Linear}, torch.qint8), x)


def openvino_call(y: Any, parameter: Any, x: Array, threads: int, group: int = 0) -> Call:
    """``y`` of ``parameter``; activations of linear layers quantized in groups of ``group``, where it is not 0."""
    import openvino

    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        "INFERENCE_PRECISION_HINT": "f32",
        "DYNAMIC_QUANTIZATION_GROUP_SIZE": group,
    }
    model = openvino.Model([y], [parameter], "layer")
    request = openvino.Core().compile_model(model, "CPU", settings).create_infer_request()
    request.set_input_tensor(openvino.Tensor(x, shared_memory=True))

    def call() -> Array:
        request.infer()
        return np.asarray(request.get_output_tensor().data)

    return call


def openvino_weight(w: Array) -> Any:
    """int8 per output channel, and what makes float32 of it."""
    from openvino import opset13 as opset

    most = np.abs(w).max(axis=tuple(range(1, w.ndim)), keepdims=True)
    scale = np.maximum(most / 127, np.float32(1e-30)).astype(np.float32)
    integers = opset.constant(np.clip(np.rint(w / scale), -127, 127).astype(np.int8))
    return opset.multiply(opset.convert(integers, np.float32), opset.constant(scale))


def _openvino(weight: Any, x: Array, bias: Array, threads: int, group: int) -> Call:
    from openvino import opset13 as opset

    parameter = opset.parameter(x.shape, np.float32, name="x")
    product = opset.matmul(parameter, weight, transpose_a=False, transpose_b=True)
    return openvino_call(opset.add(product, opset.constant(bias[None])), parameter, x, threads, group)


def openvino_float32(x: Array, w: Array, bias: Array, threads: int) -> Call:
    from openvino import opset13 as opset

    return _openvino(opset.constant(w), x, bias, threads, 0)


def openvino_int8(x: Array, w: Array, bias: Array, threads: int) -> Call:
    """int8 weights per channel, dynamic quantization of the activations in groups of 128."""
    return _openvino(openvino_weight(w), x, bias, threads, 128)


PEERS: dict[str, Callable[[Array, Array, Array, int], Call]] = {
    "dynq": dynq_int8,
    "numpy float32": numpy_float32,
    "onnxruntime float32": onnxruntime_float32,
    "onnxruntime int8": onnxruntime_int8,
    "torch float32": torch_float32,
    "torch int8": torch_int8,
    "openvino float32": openvino_float32,
    "openvino int8": openvino_int8,
}


def data(m: int, n: int, k: int) -> tuple[Array, Array, Array]:
    """x, w, bias as a trained network has them, roughly: the same for every peer."""
    rng = np.random.default_rng([m, n, k])
    x = rng.standard_normal((m, k), np.float32)
    w = rng.standard_normal((n, k), np.float32) / np.float32(k**0.5)
    return x, w, rng.standard_normal(n, np.float32)


def median_seconds(call: Call, seconds: float, samples: int) -> float:
    """Of a call; a sample takes about ``seconds``."""
    calls = 1
    while True:
        took = min(_time(call, calls), _time(call, calls))
        if took >= seconds / 2:
            break
        calls *= 2
    return statistics.median(_time(call, calls) for _ in range(samples)) / calls


def _time(call: Call, calls: int) -> float:
    start = time.perf_counter()
    for _ in range(calls):
        call()
    return time.perf_counter() - start


def error_of(y: Array, right: NDArray[np.float64]) -> float:
    """Mean distance, over the mean size."""
    return float(np.abs(y - right).mean() / np.abs(right).mean())


def answer(measure: Callable[[Any, Job], dict[str, Any]]) -> None:
    """Read a job from standard input, and print what ``measure`` tells of each of its shapes."""
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a peer prints must not stand between the lines
    job = json.load(sys.stdin)
    if job["cpus"]:
        os.sched_setaffinity(0, job["cpus"])
    np.empty(2**27, np.uint8)  # glibc's malloc keeps blocks as large as one that was freed: no page faults for results
    for shape in job["shapes"]:
        print(json.dumps(measure(shape, job)), file=out, flush=True)


def main(name: str, threads: int) -> None:
    def measure(shape: list[int], job: Job) -> dict[str, Any]:
        x, w, bias = data(*shape)
        call = PEERS[name](x, w, bias, threads)
        y = call()
        record: dict[str, Any] = dict(zip("mnk", shape, strict=True))
        if job["with_error"]:
            record["error"] = error_of(y, x.astype(np.float64) @ w.astype(np.float64).T + bias)
        record["us"] = 1e6 * median_seconds(call, job["seconds"], job["samples"])
        return record

    answer(measure)
