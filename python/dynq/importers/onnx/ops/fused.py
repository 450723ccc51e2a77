"""Layers with an activation, which ONNX Runtime's optimizer writes: the layer and then the activation."""

from __future__ import annotations

from functools import partial

from ....conversion import Unsupported
from ....graph import Value
from ..attributes import FLOAT, FLOATS, INT, INTS, TEXT
from ..convert import Call, Result
from ..convert import converter as any_converter
from .pointwise import one

converter = partial(any_converter, domain="com.microsoft")

# The parameters of each activation, in the order of activation_params.
_PARAMETERS: dict[str, tuple[str, ...]] = {
    "Relu": (), "Tanh": (), "Sigmoid": (), "Softplus": (), "Softsign": (), "LeakyRelu": ("alpha",), "Elu": ("alpha",),
    "ThresholdedRelu": ("alpha",), "HardSigmoid": ("alpha", "beta"), "Selu": ("alpha", "gamma"),
}  # fmt: skip


def _activated(call: Call, x: Value, name: str, parameters: dict[str, float]) -> Result:
    """Emit the activation of ``x``."""
    if name not in _PARAMETERS:
        raise Unsupported(f"activation {name!r} of {call.op}")
    if unknown := [parameter for parameter in parameters if parameter not in _PARAMETERS[name]]:
        raise Unsupported(f"activation_{unknown[0]} of {call.op} with activation {name!r}")
    return call.emit(name, [x], bodies=None, **parameters)


@converter(
    "FusedConv",
    activation=TEXT, activation_params=FLOATS, auto_pad=TEXT, dilations=INTS, group=INT, kernel_shape=INTS, pads=INTS,
    strides=INTS,
)  # fmt: skip
def fused_conv(call: Call) -> Result:
    """x, w, b?, z?: z is added before the activation."""
    return activated_conv(call, call.need(1))


def activated_conv(call: Call, weight: Value) -> Result:
    """Emit the convolution of input 0, with a bias (input 2) and a sum (input 3), and its activation."""
    name, numbers = call.attributes.pop("activation", ""), call.attributes.pop("activation_params", [])
    x = call.node("Conv", [call.need(0), weight, call.input(2)], **call.attributes)
    if call.input(3) is not None:
        x = call.node("Add", [x, call.need(3)])
    if not name:
        return call.last("Identity", [x])
    if name == "Clip":
        if len(numbers) != 2:
            raise ValueError(f"activation Clip has {len(numbers)} parameters; expected 2")
        return call.last("Clip", [x, *(one(call, number) for number in numbers)])
    names = _PARAMETERS.get(name, ())
    if name in _PARAMETERS and len(numbers) != len(names):
        raise ValueError(f"activation {name} has {len(numbers)} parameters; expected {len(names)}")
    return _activated(call, x, name, dict(zip(names, numbers, strict=False)))


@converter("NhwcConv", auto_pad=TEXT, dilations=INTS, group=INT, kernel_shape=INTS, pads=INTS, strides=INTS)
def conv_with_channels_at_the_end(call: Call) -> Result:
    """x, w, b?: w is (outputs, height, width, inputs of a group)."""
    x, w = call.need(0), call.need(1)
    if call.rank(0) != 4 or w.shape is None or x.shape is None:
        raise Unsupported(f"{call.op} of a tensor without two spatial axes")
    channels, inputs = x.shape[3], w.shape[3]
    if not isinstance(channels, int) or not isinstance(inputs, int) or inputs * call.attribute("group", 1) != channels:
        raise Unsupported(f"{call.op} of {channels} channels with weights of shape {w.shape}")
    first = call.node("Transpose", [x], perm=[0, 3, 1, 2])
    if w.array is None:
        weight = call.node("Transpose", [w], perm=[0, 3, 1, 2])
    else:
        weight = call.constant(w.array.transpose(0, 3, 1, 2), "weight")
    y = call.node("Conv", [first, weight, call.input(2)], **call.attributes)
    return call.last("Transpose", [y], perm=[0, 2, 3, 1])


@converter(
    "FusedGemm",
    activation=TEXT, activation_alpha=FLOAT, activation_beta=FLOAT, activation_gamma=FLOAT, alpha=FLOAT, beta=FLOAT,
    transA=INT, transB=INT,
)  # fmt: skip
def fused_gemm(call: Call) -> Result:
    """a, b, c?"""
    name = call.attributes.pop("activation", "")
    parameters = {
        key: call.attributes.pop(f"activation_{key}")
        for key in ("alpha", "beta", "gamma")
        if f"activation_{key}" in call.attributes
    }
    x = call.node("Gemm", call.inputs, **call.attributes)
    return _activated(call, x, name, parameters) if name else call.last("Identity", [x])


@converter("GemmFastGelu")
def gemm_fast_gelu(call: Call) -> Result:
    """x, w, bias?"""
    x = call.node("MatMul", [call.need(0), call.need(1)])
    if call.input(2) is not None:
        x = call.node("Add", [x, call.need(2)])
    return call.emit("Gelu", [x], approximate="tanh")


@converter("BiasSplitGelu")
def bias_split_gelu(call: Call) -> Result:
    """x, bias: the first half of the last axis times GELU of the second."""
    x = call.node("Add", [call.need(0), call.need(1)])
    left, right = call.nodes("Split", [x], 2, axis=-1, num_outputs=2)
    return call.last("Mul", [left, call.node("Gelu", [right])])
