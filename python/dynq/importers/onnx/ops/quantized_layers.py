"""Layers on integers with fixed ranges, as ONNX Runtime's quantize_static writes them in the form QOperator.

Each is what it means: its operands as floats, the op, and the result as integers. A weight that is constant becomes a
constant of floats, and so an int8 layer as any other.
"""

from __future__ import annotations

from functools import partial

from ....conversion import Unsupported
from ....graph import Value
from ..attributes import FLOAT, INT, INTS, TEXT, one_of
from ..convert import Call, Result
from ..convert import converter as any_converter
from .dequantized import dequantized, number, product_of_scales, requantized, zero_of

converter = partial(any_converter, domain="com.microsoft")
_conv = {"auto_pad": TEXT, "dilations": INTS, "group": INT, "kernel_shape": INTS, "pads": INTS, "strides": INTS}


def _operand(call: Call, index: int, axis: int = 0) -> Value:
    """Return the floats of an input that its scale and its zero-point follow."""
    return dequantized(call, call.need(index), call.need(index + 1), call.input(index + 2), axis)


def _result(call: Call, y: Value, index: int, like: int = 0) -> Result:
    """Emit the result by the scale at ``index``; a zero-point that is left out is of the type of an input."""
    zero_point = call.input(index + 1)
    return requantized(call, y, call.need(index), zero_of(call, call.need(like)) if zero_point is None else zero_point)


@any_converter("QLinearConv", since=10, also=_conv)
@converter("QLinearConv", also=_conv, channels_last=one_of(0))
def conv(call: Call) -> Result:
    """x, x_scale, x_zero_point, w, w_scale, w_zero_point, y_scale, y_zero_point, bias?"""
    inputs = [_operand(call, 0), _operand(call, 3)]
    if call.input(8) is not None:
        scale = product_of_scales(call, number(call, call.need(1)), number(call, call.need(4)))
        inputs.append(dequantized(call, call.need(8), scale, None, 0))
    return _result(call, call.node("Conv", inputs, **call.attributes), 6)


@any_converter("QLinearMatMul", since=10)
def mat_mul(call: Call) -> Result:
    """a, a_scale, a_zero_point, b, b_scale, b_zero_point, y_scale, y_zero_point: scales may be of rows and columns."""
    return _result(call, call.node("MatMul", [_operand(call, 0, -2), _operand(call, 3, -1)]), 6)


@converter("QGemm", alpha=FLOAT, transA=INT, transB=INT)
def gemm(call: Call) -> Result:
    """a, a_scale, a_zero_point, b, b_scale, b_zero_point, c?, y_scale?, y_zero_point?: c has alpha in its scale."""
    alpha = call.attribute("alpha", 1.0)
    inputs = [_operand(call, 0), _operand(call, 3, 0 if call.attribute("transB", 0) else 1)]
    if call.input(6) is not None:
        scale = product_of_scales(call, number(call, call.need(1)), number(call, call.need(4)), alpha)
        inputs.append(dequantized(call, call.need(6), scale, None, -1))
    if call.input(7) is None:
        return call.emit("Gemm", inputs, **call.attributes)
    return _result(call, call.node("Gemm", inputs, **call.attributes), 7)


@converter("QLinearAdd", "QLinearMul")
def of_two(call: Call) -> Result:
    """a, a_scale, a_zero_point?, b, b_scale, b_zero_point?, c_scale, c_zero_point?"""
    return _result(call, call.node(call.op.removeprefix("QLinear"), [_operand(call, 0), _operand(call, 3)]), 6)


@converter("QLinearSigmoid")
@converter("QLinearLeakyRelu", alpha=FLOAT)
@converter(
    "QLinearAveragePool",
    auto_pad=TEXT, ceil_mode=INT, channels_last=one_of(0), count_include_pad=INT, kernel_shape=INTS, pads=INTS,
    strides=INTS,
)  # fmt: skip
@converter("QLinearGlobalAveragePool", channels_last=one_of(0))
def of_one(call: Call) -> Result:
    """x, x_scale, x_zero_point?, y_scale, y_zero_point?"""
    return _result(call, call.node(call.op.removeprefix("QLinear"), [_operand(call, 0)], **call.attributes), 3)


@converter("QLinearSoftmax", axis=INT, opset=INT)
def softmax(call: Call) -> Result:
    """x, x_scale, x_zero_point?, y_scale, y_zero_point: of opsets before 13 over all axes from ``axis`` on."""
    x, axis, rank = _operand(call, 0), call.attribute("axis", -1), call.rank(0)
    if call.attribute("opset", 13) >= 13 or axis in (-1, rank - 1):
        return _result(call, call.node("Softmax", [x], axis=axis), 3)
    if not -rank <= axis < rank:
        raise ValueError(f"axis {axis} of a tensor with {rank} dimensions")
    flat = call.node("Softmax", [call.node("Flatten", [x], axis=axis % rank)], axis=-1)
    return _result(call, call.node("Reshape", [flat, call.node("Shape", [x])], allowzero=1), 3)


@converter("QLinearConcat", axis=INT)
def concat(call: Call) -> Result:
    """y_scale, y_zero_point, and x, x_scale, x_zero_point of each part."""
    if len(call.inputs) % 3 != 2 or len(call.inputs) < 5:
        raise ValueError(f"has {len(call.inputs)} inputs; expected two, and three of each part")
    parts = [_operand(call, i) for i in range(2, len(call.inputs), 3)]
    return requantized(call, call.node("Concat", parts, axis=call.attribute("axis", 0)), call.need(0), call.need(1))


@converter("QLinearWhere")
def where(call: Call) -> Result:
    """condition, x, x_scale, x_zero_point, y, y_scale, y_zero_point, z_scale, z_zero_point"""
    return _result(call, call.node("Where", [call.need(0), _operand(call, 1), _operand(call, 4)]), 7)


@converter("QuantizeLinear", axis=INT)
def quantize(call: Call) -> Result:
    """x, y_scale, y_zero_point?: uint8 without one."""
    if call.input(2) is not None and call.need(2).dtype not in ("uint8", "int8"):
        raise Unsupported(f"QuantizeLinear to {call.need(2).dtype}")
    scale = number(call, call.need(1))
    zero_point = None if call.input(2) is None else number(call, call.need(2))
    return call.emit("QuantizeLinear", [call.need(0), scale, zero_point], **call.attributes)


@converter("DequantizeLinear", axis=INT)
def dequantize(call: Call) -> Result:
    """x, x_scale, x_zero_point?"""
    return _operand(call, 0, call.attribute("axis", 1))
