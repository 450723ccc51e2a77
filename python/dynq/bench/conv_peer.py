"""Run one runtime's convolution in a process of its own, which process.py starts: ``main`` answers jobs with times.

Jobs and answers are as in peer.py. The ``shape`` of a job is as in conv.json.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

import dynq

from .litert import litert_call
from .peer import (
    Array,
    Call,
    Job,
    Known,
    answer,
    error_of,
    onnx_call,
    onnx_model,
    openvino_call,
    openvino_weight,
    torch_call,
)


class Layer(NamedTuple):
    """A layer: x (N, C, ...), w (M, C / group, ...) and bias (M,). Pads are before each axis, then behind each, as in
    ONNX.
    """

    x: Array
    w: Array
    bias: Array
    strides: list[int]
    pads: list[int]
    group: int

    @property
    def y(self) -> tuple[int, ...]:
        """The shape of the output."""
        axes = len(self.strides)
        padded = (size + before + behind for size, before, behind in
                  zip(self.x.shape[2:], self.pads[:axes], self.pads[axes:], strict=True))  # fmt: skip
        sizes = ((p - k) // s + 1 for p, k, s in zip(padded, self.w.shape[2:], self.strides, strict=True))
        return (len(self.x), len(self.w), *sizes)


def data(shape: dict[str, Any]) -> Layer:
    """Return numbers roughly like those of a trained network, the same for every peer. x is like the output of a
    ReLU.
    """
    rng = np.random.default_rng([*shape["x"], *shape["w"]])
    x = np.maximum(rng.standard_normal(shape["x"], np.float32), 0)
    w = rng.standard_normal(shape["w"], np.float32)
    w /= np.float32(np.prod(w.shape[1:]) ** 0.5)
    return Layer(x, w, rng.standard_normal(len(w), np.float32), shape["strides"], shape["pads"], shape["group"])


def expected(layer: Layer) -> NDArray[np.float64]:
    """Return the result in float64: each group is a product of its windows with its weights."""
    axes = len(layer.strides)
    pads = zip(layer.pads[:axes], layer.pads[axes:], strict=True)
    x = np.pad(layer.x.astype(np.float64), [(0, 0), (0, 0), *pads])
    windows = np.lib.stride_tricks.sliding_window_view(x, layer.w.shape[2:], tuple(range(2, 2 + axes)))
    windows = windows[(slice(None), slice(None), *(slice(None, None, stride) for stride in layer.strides))]
    windows = np.moveaxis(windows, 1, 1 + axes)  # (N, places, C, kernel)
    groups = zip(
        np.split(windows, layer.group, 1 + axes), np.split(layer.w.astype(np.float64), layer.group), strict=True
    )
    y = [w.reshape(len(w), -1) @ part.reshape(len(x), -1, w[0].size).swapaxes(1, 2) for part, w in groups]
    return (np.concatenate(y, 1) + layer.bias[:, None]).reshape(layer.y)


def _dynq(layer: Layer, threads: int, quantize: bool) -> tuple[Call, str]:
    """Return the call, and what became of the layer: a small or depthwise one stays float."""
    dynq.set_num_threads(threads)
    graph = dynq.Graph()
    x = graph.input("x", layer.x.shape)
    y = graph.conv(x, layer.w, layer.bias, strides=layer.strides, pads=layer.pads, group=layer.group)
    model = graph.build(y, first_layer="int8", quantize=quantize)
    return lambda: np.asarray(model(layer.x)), model.report().rows[0].became


def _onnxruntime(layer: Layer, threads: int, int8: str | None) -> Call:
    from onnx import helper

    node = helper.make_node(
        "Conv", ["x", "w", "bias"], ["y"], strides=layer.strides, pads=layer.pads, group=layer.group
    )
    model = onnx_model([node], {"w": layer.w, "bias": layer.bias}, layer.x.shape, layer.y)
    return onnx_call(model, layer.x, layer.y, threads, int8)


def torch_float32(layer: Layer, threads: int) -> Call:
    import torch

    torch.set_num_threads(threads)
    axes = len(layer.strides)
    kind: Any = torch.nn.Conv1d if axes == 1 else torch.nn.Conv2d
    m, of_group, *kernel = layer.w.shape
    module: Any = kind(of_group * layer.group, m, kernel, layer.strides, groups=layer.group)
    with torch.no_grad():
        module.weight.copy_(torch.from_numpy(layer.w))
        module.bias.copy_(torch.from_numpy(layer.bias))
    ends = list(zip(layer.pads[:axes], layer.pads[axes:], strict=True))
    if all(before == behind for before, behind in ends):
        module.padding = tuple(before for before, _ in ends)
        return torch_call(module.eval(), layer.x)
    amounts: Any = [amount for pair in reversed(ends) for amount in pair]
    return torch_call(torch.nn.Sequential(torch.nn.ZeroPad1d(amounts), module).eval(), layer.x)


def _openvino(weight: Any, layer: Layer, threads: int, lo: float = 0, hi: float = 0) -> Known:
    from openvino import opset13 as opset

    axes, groups = len(layer.strides), layer.group
    parameter = opset.parameter(layer.x.shape, np.float32, name="x")
    x: Any = parameter
    if hi > lo:
        x = opset.fake_quantize(x, *(np.float32(bound) for bound in (lo, hi, lo, hi)), 256)
    windows = (layer.strides, layer.pads[:axes], layer.pads[axes:], [1] * axes)
    if groups == 1:
        y = opset.convolution(x, weight, *windows)
    else:
        m, of_group, *kernel = layer.w.shape
        parts = opset.constant(np.array([groups, m // groups, of_group, *kernel]))
        y = opset.group_convolution(x, opset.reshape(weight, parts, False), *windows)
    bias = opset.constant(layer.bias.reshape(1, -1, *[1] * axes))
    return openvino_call(opset.add(y, bias), parameter, layer.x, threads)


def openvino_float32(layer: Layer, threads: int) -> Known:
    from openvino import opset13 as opset

    return _openvino(opset.constant(layer.w), layer, threads)


def openvino_int8(layer: Layer, threads: int) -> Known:
    """Return a call with a fixed range of the activations, that of x.

    OpenVINO quantizes no activations of convolutions while it runs.
    """
    return _openvino(openvino_weight(layer.w), layer, threads, min(float(layer.x.min()), 0), float(layer.x.max()))


def _litert(layer: Layer, threads: int, quantize: bool) -> Known:
    """Return a call with the channels last, as LiteRT has images; the result has them first again.

    In int8 the weights have a scale for each channel, and a range of each image is found while it runs. A layer that
    dynq keeps in float is float in its file.
    """
    axes, graph = len(layer.strides), dynq.Graph()
    first, last = [0, axes + 1, *range(1, axes + 1)], [0, *range(2, axes + 2), 1]
    x = np.ascontiguousarray(layer.x.transpose(last))
    planes = graph.node("Transpose", [graph.input("x", x.shape)], perm=first)
    y = graph.conv(planes, layer.w, layer.bias, strides=layer.strides, pads=layer.pads, group=layer.group)
    graph.output(graph.node("Transpose", [y], perm=last), "y")
    model = graph.build(first_layer="int8", quantize=quantize)
    call, _ = litert_call(model, {"x": x}, threads)
    return lambda: call().transpose(first), model.report().rows[0].became


PEERS: dict[str, Callable[[Layer, int], Any]] = {
    "dynq": partial(_dynq, quantize=True),
    "dynq float32": partial(_dynq, quantize=False),
    "onnxruntime float32": partial(_onnxruntime, int8=None),
    "onnxruntime int8": partial(_onnxruntime, int8="QUInt8"),  # by quantize_dynamic: ConvInteger takes no int8 weights
    "torch float32": torch_float32,
    "openvino float32": openvino_float32,
    "openvino int8": openvino_int8,
    "litert float32": partial(_litert, quantize=False),
    "litert int8": partial(_litert, quantize=True),
}
"""Each returns a Call. Those of dynq, OpenVINO and LiteRT also say what became of the layer."""


def main(name: str, threads: int) -> None:
    def prepare(job: Job) -> tuple[Call, dict[str, Any]]:
        layer = data(job["shape"])
        call, became = result if isinstance(result := PEERS[name](layer, threads), tuple) else (result, None)
        record = {"layer": job["shape"]["layer"], "error": error_of(call(), expected(layer))}
        return call, record if became is None else {**record, "became": became}

    answer(prepare)
