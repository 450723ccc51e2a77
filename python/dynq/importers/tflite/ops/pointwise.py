"""Ops that compute each element by itself."""

from __future__ import annotations

import numpy as np

from ....conversion import Unsupported
from ...angles import angle_factors
from ..convert import Call, Result, converter
from ..tensors import dtype_of, kind_name
from ..together import like, together
from . import fourier

_UNARY = {
    "ABS": "Abs", "NEG": "Neg", "SIGN": "Sign", "FLOOR": "Floor", "CEIL": "Ceil", "ROUND": "Round", "SQRT": "Sqrt",
    "EXP": "Exp", "LOG": "Log", "SIN": "Sin", "COS": "Cos", "TANH": "Tanh", "LOGISTIC": "Sigmoid", "RELU": "Relu",
    "ELU": "Elu", "HARD_SWISH": "HardSwish", "LOGICAL_NOT": "Not",
}  # fmt: skip
_BINARY = {"ADD": "Add", "SUB": "Sub", "MUL": "Mul", "DIV": "Div"}
_CLIPS = {"RELU6": (0.0, 6.0), "RELU_N1_TO_1": (-1.0, 1.0), "RELU_0_TO_1": (0.0, 1.0)}


@converter(" ".join(_UNARY))
def unary(call: Call) -> Result:
    (x,), planes = together(call, [0])
    return like(call.node(_UNARY[call.op], [x]), planes)


@converter("RSQRT")
def rsqrt(call: Call) -> Result:
    (x,), planes = together(call, [0])
    return like(call.node("Reciprocal", [call.node("Sqrt", [x])]), planes)


@converter("SQUARE")
def square(call: Call) -> Result:
    (x,), planes = together(call, [0])
    return like(call.node("Mul", [x, x]), planes)


@converter(" ".join(_CLIPS))
def clip(call: Call) -> Result:
    (x,), planes = together(call, [0])
    low, high = _CLIPS[call.op]
    return like(call.node("Clip", [x, call.number(low), call.number(high)]), planes)


@converter("LEAKY_RELU", "LeakyReluOptions")
def leaky_relu(call: Call) -> Result:
    (x,), planes = together(call, [0])
    return like(call.node("LeakyRelu", [x], alpha=float(call.option("Alpha", 0.0))), planes)


@converter("GELU", "GeluOptions")
def gelu(call: Call) -> Result:
    (x,), planes = together(call, [0])
    return like(call.node("Gelu", [x], approximate="tanh" if call.option("Approximate", False) else "none"), planes)


@converter("PRELU")
def prelu(call: Call) -> Result:
    (x, slope), planes = together(call, [0, 1])
    return like(call.node("PRelu", [x, slope]), planes)


@converter("ADD", "AddOptions")
@converter("SUB", "SubOptions")
@converter("MUL", "MulOptions")
@converter("DIV", "DivOptions")
def arithmetic(call: Call) -> Result:
    (a, b), planes = together(call, [0, 1])
    return like(call.activated(call.node(_BINARY[call.op], [a, b])), planes)


@converter("ADD_N")
def add_n(call: Call) -> Result:
    values, planes = together(call, range(call.count))
    if not values:
        raise ValueError("it has no inputs")
    total = values[0] if len(values) > 1 else call.node("Identity", values)
    for value in values[1:]:
        total = call.node("Add", [total, value])
    return like(total, planes)


@converter("MAXIMUM MINIMUM", "MaximumMinimumOptions")
def extreme(call: Call) -> Result:
    values, planes = together(call, [0, 1])
    return like(call.node("Max" if call.op == "MAXIMUM" else "Min", values), planes)


@converter("SQUARED_DIFFERENCE")
def squared_difference(call: Call) -> Result:
    values, planes = together(call, [0, 1])
    difference = call.node("Sub", values)
    return like(call.node("Mul", [difference, difference]), planes)


@converter("POW")
def power(call: Call) -> Result:
    if not call.is_float(0):
        raise Unsupported("POW of integers")
    values, planes = together(call, [0, 1])
    return like(call.node("Pow", values), planes)


@converter("FLOOR_DIV")
def floor_div(call: Call) -> Result:
    (a, b), planes = together(call, [0, 1])
    if call.is_float(0):
        return like(call.node("Floor", [call.node("Div", [a, b])]), planes)
    rest = call.node("Mod", [a, b])
    return like(call.node("Div", [call.node("Sub", [a, rest]), b]), planes)


@converter("FLOOR_MOD")
def floor_mod(call: Call) -> Result:
    """The rest has the sign of the divisor."""
    (a, b), planes = together(call, [0, 1])
    if not call.is_float(0):
        return like(call.node("Mod", [a, b]), planes)
    rest, zero = call.node("Mod", [a, b], fmod=1), call.number(0.0)
    signs = call.node("Xor", [call.node("Less", [b, zero]), call.node("Less", [rest, zero])])
    there = call.node("Not", [call.node("Equal", [rest, zero])])
    moved = call.node("Add", [rest, b])
    return like(call.node("Where", [call.node("And", [signs, there]), moved, rest]), planes)


@converter("BITWISE_XOR")
def bitwise_xor(call: Call) -> Result:
    values, planes = together(call, [0, 1])
    return like(call.node("Xor" if values[0].dtype == "bool" else "BitwiseXor", values), planes)


@converter("CAST", "CastOptions")
def cast(call: Call) -> Result:
    """A complex number becomes its real part."""
    if call.is_complex(0):
        return call.cast(fourier.real_part(call), dtype_of(call.output().kind) or "float32")
    (x,), planes = together(call, [0])
    to = dtype_of(call.output().kind)
    if to is None:
        raise Unsupported(f"CAST to {kind_name(call.output().kind)}")
    return like(call.cast(x, to) if x.dtype != to else call.node("Identity", [x]), planes)


@converter("ZEROS_LIKE")
def zeros_like(call: Call) -> Result:
    (x,), planes = together(call, [0])
    zero = call.number(0, x.dtype or np.float32)
    return like(call.node("Expand", [zero, call.node("Shape", [x])]), planes)


@converter("ATAN2")
def atan2(call: Call) -> Result:
    """The angle of (x, y), in all quadrants and of zeros."""
    (y, x), planes = together(call, [0, 1])
    return like(call.node("Mul", angle_factors(call.node, call.number, y, x)), planes)
