"""Normalizations."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from ....conversion import Unsupported
from ....graph import Value
from ..call import Call, Result, converter


@converter("layer_norm native_layer_norm")
def layer_norm(call: Call) -> Result:
    shape, x = call.fixed("normalized_shape"), call.value("input")
    weight, bias = call.optional("weight"), call.optional("bias")
    call.get("cudnn_enable")
    if weight is None:
        weight = call.constant(np.ones(shape, np.float32))
    y = call.emit("LayerNormalization", [x, weight, bias], axis=-len(shape), epsilon=float(call.fixed("eps")))
    return y if call.op == "aten.layer_norm" else [y, None, None]


@converter("rms_norm _fused_rms_norm")
def rms_norm(call: Call) -> Result:
    shape, x, weight, epsilon = (
        call.fixed("normalized_shape"),
        call.value("input"),
        call.optional("weight"),
        call.fixed("eps"),
    )
    if weight is None:
        weight = call.constant(np.ones(shape, np.float32))
    if epsilon is None:
        epsilon = torch.finfo(call.fake("input").dtype).eps
    y = call.emit("RMSNormalization", [x, weight], axis=-len(shape), epsilon=float(epsilon))
    return y if call.op == "aten.rms_norm" else [y, None]


@converter(
    "batch_norm _native_batch_norm_legit_no_training _native_batch_norm_legit native_batch_norm cudnn_batch_norm"
)
def batch_norm(call: Call) -> Result:
    for name in ("momentum", "cudnn_enabled"):
        call.get(name)
    x, mean, variance = call.value("input"), call.optional("running_mean"), call.optional("running_var")
    if call.has("training") and call.fixed("training"):
        y = _scaled(call, _normalized(call, x, [axis for axis in range(call.rank("input")) if axis != 1]))
        return y if call.op == "aten.batch_norm" else [y, None, None]
    if mean is None or variance is None or mean.shape is None:
        raise Unsupported(f"{call.op} without running statistics")
    scale, shift = (
        call.optional(name) or call.constant(np.full(mean.shape, number, np.float32))
        for name, number in (("weight", 1), ("bias", 0))
    )
    y = call.emit("BatchNormalization", [x, scale, shift, mean, variance], epsilon=float(call.fixed("eps")))
    return y if call.op == "aten.batch_norm" else [y, None, None]


@converter("group_norm native_group_norm instance_norm")
def group_norm(call: Call) -> Result:
    """Mean and variance of groups of channels."""
    x = call.value("input")
    sizes = list(call.fake("input").shape)
    for name in ("cudnn_enabled", "momentum", "N", "C", "HxW", "running_mean", "running_var"):
        call.get(name)
    if call.op == "aten.instance_norm":
        call.only("use_input_stats", True)
        groups = sizes[1]
    else:
        groups = call.fixed("num_groups" if call.has("num_groups") else "group")
    channels = sizes[1]
    if not isinstance(channels, int) or (len(sizes) < 3 and call.op == "aten.instance_norm"):
        raise Unsupported(f"{call.op} of channels that are not known")
    rest: Any = channels // groups
    for size in sizes[2:]:
        rest = rest * size
    flat = call.reshape(x, [sizes[0], groups, rest])
    y = _scaled(call, call.reshape(_normalized(call, flat, [2]), sizes))
    return [y, None, None] if call.op == "aten.native_group_norm" else y


def _normalized(call: Call, x: Value, over: list[int]) -> Value:
    """Return x with mean 0 and variance 1 over axes."""
    axes = call.axes(over)
    centred = call.node("Sub", [x, call.node("ReduceMean", [x, axes], keepdims=1)])
    variance = call.node("ReduceMean", [call.node("Mul", [centred, centred]), axes], keepdims=1)
    deviation = call.node("Sqrt", [call.node("Add", [variance, call.floats(call.fixed("eps"))])])
    return call.node("Div", [centred, deviation])


def _scaled(call: Call, y: Value) -> Value:
    """Return y (N, C, ...) times ``weight`` plus ``bias``, if the op has them: a number for each channel."""
    channels, spatial = call.fake("input").shape[1], call.rank("input") - 2
    for op, name in (("Mul", "weight"), ("Add", "bias")):
        parameter = call.optional(name)
        if parameter is not None:
            y = call.emit(op, [y, call.reshape(parameter, [channels, *[1] * spatial])])
    return y
