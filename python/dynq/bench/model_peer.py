"""Run one runtime with a whole encoder in a process of its own, which process.py starts: ``main`` answers jobs.

A job is a line of JSON with ``do``, ``folder`` for files, and ``source`` with the checkpoint. ``do`` is one of these:

- ``prepare`` writes the files that the runtime opens.
- ``time`` measures the median time of an inference in milliseconds for a ``shape`` (batch, length), and the mean cosine
  of the tokens' outputs to those in the folder.
- ``open`` measures how long opening takes, how long opening and the first inference take, and the memory that is
  resident after ten.

Inputs are token ids, int64 (batch, length), and a mask of ones; the output is float32 (batch, length, hidden).
"""

from __future__ import annotations

import importlib
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

import dynq

from ..demo.bert import load_bert
from .litert import Litert, fastest
from .peer import Job, serve
from .timing import median_seconds
from .torch_forms import in_form

Array = NDArray[Any]
Call = Callable[[], Array]
Bind = Callable[[Array], Call]
"""Gets ids; the call that comes back runs the model on them."""


class Runtime(NamedTuple):
    packages: tuple[str, ...]
    prepare: Callable[[Path, Path], None]  # source, folder
    open: Callable[[Path, Path, int], Bind]  # source, folder, threads
    file: str  # in the folder; empty: the runtime reads the source
    module: str = ""  # what is imported before opening is timed; empty: that of the first package


def _keep(call: Call, *arrays: Array) -> Call:
    """Return the call; the arrays that it reads live as long."""
    return lambda kept=arrays: call()  # type: ignore[misc]


# ---- dynq


def _prepare_dynq(source: Path, folder: Path) -> None:
    graph = load_bert(source)
    graph.build({name: value for name, value in graph.outputs if name == "last_hidden_state"}).save(
        folder / "model.dynq"
    )


def _open_dynq(source: Path, folder: Path, threads: int) -> Bind:
    dynq.set_num_threads(threads)
    model = dynq.load(folder / "model.dynq")

    def bind(ids: Array) -> Call:
        mask = np.ones_like(ids)
        return lambda: np.asarray(model(ids, mask))

    return bind


# ---- ONNX Runtime


def _onnx_inputs(ids: Array) -> dict[str, Array]:
    return {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}


def _prepare_onnx(source: Path, folder: Path) -> None:
    from dynq.demo.bert_onnx import export_bert

    if not (folder / "float.onnx").exists():
        export_bert(source, folder / "float.onnx")


def _prepare_dynamic(per_channel: bool) -> Callable[[Path, Path], None]:
    """Return a function that prepares the model of quantize_dynamic."""

    def prepare(source: Path, folder: Path) -> None:
        from onnxruntime.quantization import QuantType, quantize_dynamic

        _prepare_onnx(source, folder)
        target = folder / ("channel.onnx" if per_channel else "tensor.onnx")
        quantize_dynamic(folder / "float.onnx", target, per_channel=per_channel, weight_type=QuantType.QInt8)

    return prepare


def _open_onnx(name: str) -> Callable[[Path, Path, int], Bind]:
    """Return a function that opens an ONNX file, with inputs and outputs bound to arrays, so that nothing is copied."""

    def open_file(source: Path, folder: Path, threads: int) -> Bind:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        session = onnxruntime.InferenceSession(str(folder / name), options, providers=["CPUExecutionProvider"])
        width = session.get_outputs()[0].shape[2]

        def bind(ids: Array) -> Call:
            values = _onnx_inputs(ids)
            y = np.empty((*ids.shape, width), np.float32)
            binding = session.io_binding()
            for key, value in values.items():
                binding.bind_input(key, "cpu", 0, value.dtype, value.shape, value.ctypes.data)
            binding.bind_output("last_hidden_state", "cpu", 0, np.float32, y.shape, y.ctypes.data)

            def call() -> Array:
                session.run_with_iobinding(binding)
                return y

            return _keep(call, *values.values())

        return bind

    return open_file


# ---- PyTorch


def _prepare_nothing(source: Path, folder: Path) -> None:
    pass


def _open_torch(form: str) -> Callable[[Path, Path, int], Bind]:
    """Return a function that opens modules with scaled_dot_product_attention, in eager mode.

    They stay as they are ("float"), or their linear layers become int8, by torch.ao.quantization.quantize_dynamic
    ("torch") or by dynq.torch.quantize_dynamic ("dynq").
    """

    def open_file(source: Path, folder: Path, threads: int) -> Bind:
        import torch

        from .model_torch import load

        torch.set_num_threads(threads)
        module = in_form(load(source), form)

        def bind(ids: Array) -> Call:
            tensor = torch.from_numpy(ids)

            def call() -> Array:
                with torch.inference_mode():
                    return np.asarray(module(tensor).numpy())

            return call

        return bind

    return open_file


# ---- OpenVINO


def _prepare_openvino(int8: bool) -> Callable[[Path, Path], None]:
    def prepare(source: Path, folder: Path) -> None:
        import openvino

        _prepare_onnx(source, folder)
        model = openvino.Core().read_model(folder / "float.onnx")
        if int8:
            _compress(model)
        openvino.save_model(model, folder / f"openvino-{'int8' if int8 else 'float'}.xml", compress_to_fp16=False)

    return prepare


def _compress(model: Any) -> None:
    """Make the weights of linear layers int8 per channel."""
    from openvino import opset13 as opset

    for node in model.get_ordered_ops():
        constant = node.input_value(1).get_node() if node.get_type_name() == "MatMul" else None
        if constant is None or constant.get_type_name() != "Constant":
            continue
        w = constant.data.T
        scale = np.maximum(np.abs(w).max(1, keepdims=True) / 127, np.float32(1e-30)).astype(np.float32)
        integers = opset.constant(np.clip(np.rint(w / scale), -127, 127).astype(np.int8))
        weight = opset.multiply(opset.convert(integers, np.float32), opset.constant(scale))
        product = opset.matmul(node.input_value(0), weight, transpose_a=False, transpose_b=True)
        node.output(0).replace(product.output(0))


def _open_openvino(int8: bool, precision: str = "f32") -> Callable[[Path, Path, int], Bind]:
    """Return a function that opens the model. int8: activations are quantized in groups of 128."""

    def open_file(source: Path, folder: Path, threads: int) -> Bind:
        import openvino

        settings = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            "INFERENCE_PRECISION_HINT": precision,
            "DYNAMIC_QUANTIZATION_GROUP_SIZE": 128 if int8 else 0,
        }
        path = folder / f"openvino-{'int8' if int8 else 'float'}.xml"
        request = openvino.Core().compile_model(path, "CPU", settings).create_infer_request()

        def bind(ids: Array) -> Call:
            values = _onnx_inputs(ids)
            for key, value in values.items():
                request.set_tensor(key, openvino.Tensor(value, shared_memory=True))

            def call() -> Array:
                request.infer()
                return np.asarray(request.get_output_tensor().data)

            return _keep(call, *values.values())

        return bind

    return open_file


# ---- CTranslate2


def _prepare_ctranslate2(source: Path, folder: Path) -> None:
    from ctranslate2.converters import TransformersConverter

    TransformersConverter(str(source)).convert(str(folder / "ctranslate2"), quantization="int8")


def _open_ctranslate2(source: Path, folder: Path, threads: int) -> Bind:
    import ctranslate2

    encoder = ctranslate2.Encoder(
        str(folder / "ctranslate2"), device="cpu", compute_type="int8", inter_threads=1, intra_threads=threads
    )

    def bind(ids: Array) -> Call:
        values = ids.astype(np.int32)
        lengths = np.full(len(ids), ids.shape[1], np.int32)
        view = ctranslate2.StorageView.from_array(values)
        length_view = ctranslate2.StorageView.from_array(lengths)

        def call() -> Array:
            return np.asarray(encoder.forward_batch(view, length_view).last_hidden_state)

        return _keep(call, values, lengths)

    return bind


# ---- LiteRT

_OF_LITERT = ("ai-edge-litert", "tflite", "flatbuffers")
_LITERT = "ai_edge_litert.interpreter"


def _prepare_litert(int8: bool) -> Callable[[Path, Path], None]:
    """Return a function that writes the encoder as a TensorFlow Lite file, with open sizes."""

    def prepare(source: Path, folder: Path) -> None:
        graph = load_bert(source)
        outputs = {name: value for name, value in graph.outputs if name == "last_hidden_state"}
        for value in graph.inputs:  # LiteRT's CompiledModel takes no int64
            value.dtype = "int32"
        dynq.export_tflite(graph.build(outputs, quantize=int8), folder / f"{'int8' if int8 else 'float'}.tflite")

    return prepare


def _open_litert(name: str) -> Callable[[Path, Path, int], Bind]:
    def open_file(source: Path, folder: Path, threads: int) -> Bind:
        model = Litert(folder / name, threads)

        def bind(ids: Array) -> Call:
            values = ids.astype(np.int32)
            feed = {"input_ids": values, "attention_mask": np.ones_like(values)}
            return fastest(model.calls(feed))[0]

        return bind

    return open_file


RUNTIMES: dict[str, Runtime] = {
    "dynq": Runtime(("dynq",), _prepare_dynq, _open_dynq, "model.dynq"),
    "dynq.torch": Runtime(("torch",), _prepare_nothing, _open_torch("dynq"), ""),
    "onnxruntime float32": Runtime(("onnxruntime", "onnx"), _prepare_onnx, _open_onnx("float.onnx"), "float.onnx"),
    "onnxruntime int8": Runtime(
        ("onnxruntime", "onnx"), _prepare_dynamic(False), _open_onnx("tensor.onnx"), "tensor.onnx"
    ),
    "onnxruntime int8 channel": Runtime(
        ("onnxruntime", "onnx"), _prepare_dynamic(True), _open_onnx("channel.onnx"), "channel.onnx"
    ),
    "torch float32": Runtime(("torch",), _prepare_nothing, _open_torch("float"), ""),
    "torch int8": Runtime(("torch",), _prepare_nothing, _open_torch("torch"), ""),
    "openvino float32": Runtime(
        ("openvino", "onnx"), _prepare_openvino(False), _open_openvino(False), "openvino-float.bin"
    ),
    "openvino int8": Runtime(("openvino", "onnx"), _prepare_openvino(True), _open_openvino(True), "openvino-int8.bin"),
    "ctranslate2 int8": Runtime(
        ("ctranslate2", "transformers", "torch"), _prepare_ctranslate2, _open_ctranslate2, "ctranslate2/model.bin"
    ),
    "litert float32": Runtime(
        _OF_LITERT, _prepare_litert(False), _open_litert("float.tflite"), "float.tflite", _LITERT
    ),
    "litert int8": Runtime(_OF_LITERT, _prepare_litert(True), _open_litert("int8.tflite"), "int8.tflite", _LITERT),
}


def cosine(y: Array, right: Array) -> float:
    """Return the mean cosine over the tokens."""
    a, b = y.astype(np.float64), right.astype(np.float64)
    return float(((a * b).sum(-1) / np.linalg.norm(a, axis=-1) / np.linalg.norm(b, axis=-1)).mean())


def resident() -> int | None:
    """Return the resident memory in bytes; None if the system does not report it."""
    try:
        return int(Path("/proc/self/statm").read_text("ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return None


def main(name: str, threads: int) -> None:
    runtime = RUNTIMES[name]
    bind: Bind | None = None
    call: tuple[list[int], Call, float] | None = None

    def handle(job: Job) -> dict[str, Any]:
        nonlocal bind, call
        source, folder = Path(job["source"]), Path(job["folder"])
        if job["do"] == "prepare":
            runtime.prepare(source, folder)
            return {}
        if job["do"] == "open":
            return _opening(runtime, source, folder, threads)
        bind = bind or runtime.open(source, folder, threads)
        if call is None or call[0] != job["shape"]:
            call = None  # its memory is free before the next one is made
            call = (job["shape"], *_bound(bind, folder, job["shape"]))
        return _timing(*call, job)

    serve(handle)


def _ids(folder: Path, batch: int, length: int) -> Array:
    ids: Array = np.load(folder / f"ids-{batch}x{length}.npy")
    return ids


def _bound(bind: Bind, folder: Path, shape: list[int]) -> tuple[Call, float]:
    """Return the call of a shape, and the mean cosine of its output."""
    batch, length = shape
    call = bind(_ids(folder, batch, length))
    return call, cosine(call(), np.load(folder / f"hidden-{batch}x{length}.npy"))


def _timing(shape: list[int], call: Call, cosine: float, job: Job) -> dict[str, Any]:
    start = time.perf_counter()
    call()
    took = time.perf_counter() - start
    samples = max(3, min(job["samples"], int(job["patience"] / took)))
    seconds = median_seconds(call, job["seconds"], samples)
    return {"batch": shape[0], "length": shape[1], "cosine": cosine, "ms": 1e3 * seconds}


def _opening(runtime: Runtime, source: Path, folder: Path, threads: int) -> dict[str, Any]:
    ids = _ids(folder, 1, 128)
    importlib.import_module(runtime.module or runtime.packages[0])  # importing is not part of the time
    start = time.perf_counter()
    bind = runtime.open(source, folder, threads)
    opened = time.perf_counter()
    call = bind(ids)
    call()
    first = time.perf_counter()
    for _ in range(9):
        call()
    return {"open_ms": 1e3 * (opened - start), "first_ms": 1e3 * (first - start), "resident": resident()}
