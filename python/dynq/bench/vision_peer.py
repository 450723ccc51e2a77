"""Run one runtime with whole networks for pictures in a process of its own, which process.py starts.

Jobs and answers are as in peer.py. The ``shape`` of a job has the ``network`` and the ``folder`` with its files, which
``write`` makes.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial
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

    module, x, file = build(name), picture(name), str(folder / f"{name}.onnx")
    np.save(folder / f"{name}.x.npy", x.numpy())
    with torch.inference_mode():
        np.save(folder / f"{name}.y.npy", module(x).numpy())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # this exporter is deprecated; the other one needs one package more
        torch.onnx.export(module, (x,), file, input_names=["x"], output_names=["y"], dynamo=False)


def _dynq(network: Network, threads: int, quantize: bool) -> tuple[Call, dict[str, Any]]:
    """Return the call, and the size of the model's file over that of the ONNX file."""
    dynq.set_num_threads(threads)
    converted = network.file.with_suffix(".dynq" if quantize else ".float.dynq")
    dynq.from_onnx(network.file, quantize=quantize).save(converted)
    model = dynq.load(converted)
    return lambda: np.asarray(model(network.x)), {"size": converted.stat().st_size / network.file.stat().st_size}


def _onnxruntime(network: Network, threads: int, int8: str | None) -> Call:
    import onnx

    return onnx_call(onnx.load(network.file), network.x, network.y.shape, threads, int8)


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
    """Return a call of the file that dynq writes; None if TensorFlow Lite does not express the network.

    In int8 the weights have a scale for each channel, and the ranges of activations are found while it runs. A layer
    that dynq keeps in float is float in its file.
    """
    try:
        return litert_call(dynq.from_onnx(network.file, quantize=quantize), {"x": network.x}, threads)[0]
    except dynq.UnsupportedModelError:
        return None


PEERS: dict[str, Callable[[Network, int], Any]] = {
    "dynq": partial(_dynq, quantize=True),
    "dynq float32": partial(_dynq, quantize=False),
    "onnxruntime float32": partial(_onnxruntime, int8=None),
    "onnxruntime int8": partial(_onnxruntime, int8="QUInt8"),  # by quantize_dynamic
    "torch float32": torch_float32,
    "openvino float32": openvino_float32,
    "litert float32": partial(_litert, quantize=False),
    "litert int8": partial(_litert, quantize=True),
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
