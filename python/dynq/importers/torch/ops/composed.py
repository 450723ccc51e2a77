"""Functions of elements for which there is no op: several ops compute them."""

from __future__ import annotations

import math

from ....conversion import Unsupported
from ....graph import Value
from ...angles import angle_factors, sign_of
from ..call import Call, Result, converter


@converter("log1p")
def log1p(call: Call) -> Result:
    """``log(u) x / (u - 1)`` with u = 1 + x: the rounding of u is in both. Where u is 1 or x, that is not needed."""
    x, one = call.cast(call.value("self"), "float32"), call.floats(1)
    u = call.node("Add", [x, one])
    log = call.node("Log", [u])
    exact = call.node("Mul", [log, call.node("Div", [x, call.node("Sub", [u, one])])])
    large = call.node("Where", [call.node("Equal", [u, x]), log, exact])
    return call.emit("Where", [call.node("Equal", [u, one]), x, large])


@converter("expm1")
def expm1(call: Call) -> Result:
    """``2 tanh(x / 2) / (1 - tanh(x / 2))``, which loses no digits next to 0; beyond 1/2, ``exp(x) - 1``."""
    x, one = call.cast(call.value("self"), "float32"), call.floats(1)
    tanh = call.node("Tanh", [call.node("Mul", [x, call.floats(0.5)])])
    small = call.node("Div", [call.node("Add", [tanh, tanh]), call.node("Sub", [one, tanh])])
    large = call.node("Sub", [call.node("Exp", [x]), one])
    near = call.node("Less", [call.node("Abs", [x]), call.floats(0.5)])
    return call.emit("Where", [near, small, large])


@converter("atan2 arctan2")
def atan2(call: Call) -> Result:
    return angle_of(call, call.operand("self", "float32"), call.operand("other", "float32"))


def angle_of(call: Call, y: Value, x: Value) -> Value:
    """Return the angle of a point, from -pi to pi; that of a zero has the sign of y."""
    return call.emit("Mul", angle_factors(call.node, call.floats, y, x))


@converter("copysign")
def copysign(call: Call) -> Result:
    x, other = call.operand("self", "float32"), call.operand("other", "float32")
    return call.emit("Mul", [call.node("Abs", [x]), sign_of(call.node, call.floats, other)])


@converter("hypot")
def hypot(call: Call) -> Result:
    """``m sqrt(1 + (n / m)^2)`` with the larger side m: the squares do not overflow."""
    sides = [call.node("Abs", [call.operand(name, "float32")]) for name in ("self", "other")]
    low, high = call.node("Min", sides), call.node("Max", sides)
    safe = call.node("Where", [call.node("Equal", [high, call.floats(0)]), call.floats(1), high])
    ratio = call.node("Div", [low, safe])
    root = call.node("Sqrt", [call.node("Add", [call.floats(1), call.node("Mul", [ratio, ratio])])])
    return call.emit("Mul", [high, root])


@converter("fmax fmin")
def of_numbers(call: Call) -> Result:
    """The larger or smaller one; a NaN counts as missing."""
    dtype = call.dtype
    a, b = call.operand("self", dtype), call.operand("other", dtype)
    op = "Max" if call.op == "aten.fmax" else "Min"
    if dtype != "float32":
        return call.emit(op, [a, b])
    b_or_a = call.node("Where", [call.node("IsNaN", [b]), a, b])
    a_or_b = call.node("Where", [call.node("IsNaN", [a]), b, a])
    return call.emit(op, [a_or_b, b_or_a])


@converter("bucketize searchsorted")
def bucketize(call: Call) -> Result:
    """Count the boundaries, of one ascending vector, that are below a number or at most as large."""
    for name in ("out_int32", "sorter"):
        call.get(name)
    call.only("side", None, "left", "right") if call.has("side") else None
    bounds = call.value("boundaries" if call.has("boundaries") else "sorted_sequence")
    if len(bounds.shape or ()) != 1:
        raise Unsupported(f"{call.op} of boundaries of more than one dimension")
    right = bool(call.fixed("right")) or (call.has("side") and call.fixed("side") == "right")
    x = call.operand("self", bounds.dtype or "float32")
    counted = call.node("LessOrEqual" if right else "Less", [bounds, call.unsqueeze(x, len(x.shape or ()))])
    whole = call.cast(counted, call.dtype)
    return call.emit("ReduceSum", [whole, call.axes([-1])], keepdims=0)


@converter("rand_like randn_like rand randn bernoulli")
def random(call: Call) -> Result:
    """The same numbers in each run, since no seed is part of the module: those of the seed 0."""
    for name in ("self", "dtype", "size", "p"):
        call.get(name)
    sizes, normal = call.result.shape, "randn" in call.op
    places = call.expand(call.floats(0), sizes)
    numbers = call.emit("RandomNormalLike" if normal else "RandomUniformLike", [places])
    if call.op != "aten.bernoulli":
        return numbers
    chance = call.operand("p", "float32") if call.has("p") and call.get("p") is not None else call.value("self")
    return call.cast(call.node("Less", [numbers, chance]), call.dtype)


@converter("log2 log10")
def other_logarithms(call: Call) -> Result:
    base = 2 if call.op == "aten.log2" else 10
    return call.emit("Mul", [call.node("Log", [call.operand("self", "float32")]), call.floats(1 / math.log(base))])


@converter("addcmul addcdiv")
def add_product(call: Call) -> Result:
    op = "Mul" if call.op == "aten.addcmul" else "Div"
    product = call.node(op, [call.operand("tensor1", call.dtype), call.operand("tensor2", call.dtype)])
    factor = call.fixed("value")
    if factor != 1:
        product = call.node("Mul", [product, call.constant_like(factor)])
    return call.emit("Add", [call.operand("self", call.dtype), product])


@converter("lerp")
def lerp(call: Call) -> Result:
    a, b, weight = (call.operand(name, "float32") for name in ("self", "end", "weight"))
    return call.emit("Add", [a, call.node("Mul", [weight, call.node("Sub", [b, a])])])
