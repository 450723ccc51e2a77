"""Softmax and norms."""

from __future__ import annotations

from ....conversion import Unsupported
from ..convert import Call, Result, converter
from ..together import like, together

_EPSILON = 1e-6  # below which a norm does not count


@converter("SOFTMAX", "SoftmaxOptions")
@converter("LOG_SOFTMAX")
def softmax(call: Call) -> Result:
    """Over the last axis, which are the channels."""
    (x,), planes = together(call, [0])
    beta = call.option("Beta", 1.0) if call.op == "SOFTMAX" else 1.0
    if beta != 1:
        x = call.node("Mul", [x, call.number(beta)])
    return like(call.node("Softmax" if call.op == "SOFTMAX" else "LogSoftmax", [x], axis=1 if planes else -1), planes)


@converter("L2_NORMALIZATION", "L2NormOptions")
def l2_normalization(call: Call) -> Result:
    (x,), planes = together(call, [0])
    norm = call.node("ReduceL2", [x, call.integers([1 if planes else -1])])
    return like(call.activated(call.node("Div", [x, call.node("Max", [norm, call.number(_EPSILON)])])), planes)


@converter("LOCAL_RESPONSE_NORMALIZATION", "LocalResponseNormalizationOptions")
def local_response_normalization(call: Call) -> Result:
    """Divide by a power of the sum of squares of neighbouring channels: a window along the last axis."""
    x, radius = call.value(0), call.option("Radius")
    if call.rank(0) != 4:
        raise Unsupported(f"LOCAL_RESPONSE_NORMALIZATION of {call.rank(0)} dimensions")
    if radius < 0 or radius > 1 << 20:
        raise ValueError(f"a radius of {radius}")
    width = 2 * radius + 1
    mean = call.node(
        "AveragePool", [call.node("Mul", [x, x])], kernel_shape=[1, width], pads=[0, radius, 0, radius],
        count_include_pad=1,
    )  # fmt: skip
    scaled = call.node("Mul", [mean, call.number(call.option("Alpha") * width)])
    base = call.node("Add", [scaled, call.number(call.option("Bias"))])
    return call.node("Div", [x, call.node("Pow", [base, call.number(call.option("Beta"))])])
