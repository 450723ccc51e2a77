"""Run one runtime with whole networks for pictures in a process of its own, which process.py starts.

Jobs and answers are as in peer.py. The ``shape`` of a job has the ``network`` and the ``folder`` with its files, which
``write`` makes.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import dynq

from .litert import litert_call
from .peer import Array, Call, Job, answer, error_of, onnx_call, openvino_call, torch_call


class Network(NamedTuple):
    """A network as ONNX file, a picture x (1, 3, height, width), and the output for it, in float32."""

    name: str
    file: Path
    x: Array
    y: Array

    @classmethod
    def find(cls, name: str, folder: Path) -> Network:
        return cls(name, folder / f"{name}.onnx", np.load(folder / f"{name}.x.npy"), np.load(folder / f"{name}.y.npy"))


def write(name: str, folder: Path) -> None:
    """Write the files of a network."""
    import torch

    from .vision_nets import build, picture

    module, x = build(name), picture(name)
    with torch.inference_mode():
        y = module(x)
    network = Network(name, folder / f"{name}.onnx", x.numpy(), y.numpy())
    np.save(folder / f"{name}.x.npy", network.x)
    np.save(folder / f"{name}.y.npy", network.y)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # this exporter is deprecated; the other one needs one package more
        torch.onnx.export(module, (x,), str(network.file), input_names=["x"], output_names=["y"], dynamo=False)


def _dynq(network: Network, threads: int, quantize: bool) -> tuple[Call, dict[str, Any]]:
    """Return the call, and the size of the model's file over that of the ONNX file."""
    dynq.set_num_threads(threads)
    converted = network.file.with_suffix(".dynq" if quantize else ".float.dynq")
    dynq.from_onnx(network.file, quantize=quantize).save(converted)
    model = dynq.load(converted)
    return lambda: np.asarray(model(network.x)), {"size": converted.stat().st_size / network.file.stat().st_size}


def dynq_int8(network: Network, threads: int) -> tuple[Call, dict[str, Any]]:
    return _dynq(network, threads, quantize=True)


def dynq_float32(network: Network, threads: int) -> tuple[Call, dict[str, Any]]:
    return _dynq(network, threads, quantize=False)


def _onnxruntime(network: Network, threads: int, int8: str | None) -> Call:
    import onnx

    return onnx_call(onnx.load(network.file), network.x, network.y.shape, threads, int8)


def onnxruntime_float32(network: Network, threads: int) -> Call:
    return _onnxruntime(network, threads, None)


def onnxruntime_int8(network: Network, threads: int) -> Call:
    """Return a call of quantize_dynamic's model."""
    return _onnxruntime(network, threads, "QUInt8")


def torch_float32(network: Network, threads: int) -> Call:
    import torch

    from .vision_nets import build

    torch.set_num_threads(threads)
    module: Any = build(network.name)
    return torch_call(module.to(memory_format=torch.channels_last), network.x)


def openvino_float32(network: Network, threads: int) -> Call:
    import openvino

    model = openvino.Core().read_model(network.file)
    y = model.get_results()[0].input_value(0)
    return openvino_call(y, model.get_parameters()[0], network.x, threads)[0]


def _litert(network: Network, threads: int, quantize: bool) -> Call | None:
    """Return a call of the file that dynq writes; None if TensorFlow Lite does not express the network."""
    try:
        return litert_call(dynq.from_onnx(network.file, quantize=quantize), {"x": network.x}, threads)[0]
    except dynq.UnsupportedModelError:
        return None


def litert_float32(network: Network, threads: int) -> Call | None:
    return _litert(network, threads, quantize=False)


def litert_int8(network: Network, threads: int) -> Call | None:
    """Return a call with int8 weights per channel; the ranges of activations are found while it runs.

    A layer that dynq keeps in float is float in its file.
    """
    return _litert(network, threads, quantize=True)


PEERS: dict[str, Callable[[Network, int], Any]] = {
    "dynq": dynq_int8,
    "dynq float32": dynq_float32,
    "onnxruntime float32": onnxruntime_float32,
    "onnxruntime int8": onnxruntime_int8,
    "torch float32": torch_float32,
    "openvino float32": openvino_float32,
    "litert float32": litert_float32,
    "litert int8": litert_int8,
}
"""Each returns a Call, or None. Those of dynq also return facts about the file."""


def main(name: str, threads: int) -> None:
    def prepare(job: Job) -> tuple[Call, dict[str, Any]] | None:
        network = Network.find(job["shape"]["network"], Path(job["shape"]["folder"]))
        made = PEERS[name](network, threads)
        if made is None:
            return None
        call, facts = made if isinstance(made, tuple) else (made, {})
        return call, {"network": network.name, "error": error_of(call(), network.y.astype(np.float64)), **facts}

    answer(prepare)
