"""Ops on each element."""

from __future__ import annotations

import math

import numpy as np

from ....conversion import Unsupported
from ....graph import Value
from ....ir import ops
from ....ir.given import ONNX_TYPES
from ..call import Call, Result, converter
from .selections import nonzero_by_axis

# Functions of one value that ATen calls as the table of ops does; converters below take what has arguments in ATen.
_UNARY = {
    op.name.lower(): op.name
    for op in ops.table().values()
    if op.is_elementwise and op.shape_rule == "SAME" and len(op.inputs) == 1 and not op.attributes
}
_UNARY |= {"selu": "Selu", "sgn": "Sign"}
_INTEGERS = frozenset(("Abs", "Neg", "Sign", "Relu"))
_ARITHMETIC = {"mul": "Mul", "maximum": "Max", "minimum": "Min"}
_COMPARISONS = {"eq": "Equal", "lt": "Less", "le": "LessOrEqual", "gt": "Greater", "ge": "GreaterOrEqual"}
_SAME = "alias clone contiguous detach dropout feature_dropout alpha_dropout lift lift_fresh lift_fresh_copy positive"
_LOGIC = {
    f"{before}{kind}{after}": op
    for kind, op in (("and", "And"), ("or", "Or"), ("xor", "Xor"))
    for before, after in (("bitwise_", ""), ("logical_", ""), ("__", "__"))
}


@converter(*_UNARY)
def unary(call: Call) -> Result:
    op, x = _UNARY[call.op.removeprefix("aten.")], call.value("self" if call.has("self") else "input")
    if x.dtype != call.dtype or op not in _INTEGERS:
        x = call.cast(x, call.dtype)
        if x.dtype != "float32" and op not in _INTEGERS:
            return x  # whole numbers that are rounded
    return call.emit(op, [x])


@converter(_SAME)
def same(call: Call) -> Result:
    """Nothing, where the module does not train; memory has one order in dynq."""
    if call.has("train"):
        call.get("p")
        call.only("train", False)
    return call.value("input" if call.has("input") else "self")


@converter("native_dropout")
def native_dropout(call: Call) -> Result:
    call.get("p")
    call.only("train", False, None)
    return [call.value("input"), None]


@converter("to _to_copy type_as")
def cast(call: Call) -> Result:
    """float16, bfloat16 and float64 are float32 already."""
    for name in ("dtype", "other"):
        call.get(name)
    return _cast(call, call.value("self"), call.dtype)


def _cast(call: Call, x: Value, dtype: str) -> Value:
    return x if x.dtype == dtype else call.emit("Cast", [x], to=ONNX_TYPES[dtype])


@converter("add sub rsub subtract")
def add(call: Call) -> Result:
    dtype, alpha = call.dtype, call.fixed("alpha", 1)
    a, b = call.operand("self", dtype), call.operand("other", dtype)
    op = "Add" if call.op == "aten.add" else "Sub"
    if call.op == "aten.rsub":
        a, b = b, a
        if alpha != 1:
            raise Unsupported(f"aten.rsub with alpha = {alpha}")
    if dtype == "bool":
        return call.emit("Or", [a, b])
    if alpha != 1:
        b = call.node("Mul", [b, call.constant(np.array(alpha).astype(dtype))])
    return call.emit(op, [a, b])


@converter(*_ARITHMETIC)
def arithmetic(call: Call) -> Result:
    dtype, op = call.dtype, _ARITHMETIC[call.op.removeprefix("aten.")]
    a, b = call.operand("self", dtype), call.operand("other", dtype)
    if dtype == "bool":
        return call.emit({"Mul": "And", "Max": "Or", "Min": "And"}[op], [a, b])
    return call.emit(op, [a, b])


@converter("div true_divide")
def divide(call: Call) -> Result:
    dtype, mode = call.dtype, call.fixed("rounding_mode") if call.has("rounding_mode") else None
    a, b = call.operand("self", dtype), call.operand("other", dtype)
    if mode is None:
        return call.emit("Div", [a, b])
    if dtype != "float32":
        return call.emit("Div", [a, b]) if mode == "trunc" else _floor_divide(call, a, b)
    quotient = call.node("Div", [a, b])
    if mode == "floor":
        return call.emit("Floor", [quotient])
    return _truncated(call, quotient)


def _truncated(call: Call, x: Value) -> Value:
    """Round towards 0."""
    return call.emit("Mul", [call.node("Sign", [x]), call.node("Floor", [call.node("Abs", [x])])])


@converter("trunc fix")
def truncate(call: Call) -> Result:
    x = call.value("self")
    return _truncated(call, x) if x.dtype == "float32" else x


@converter("round")
def round_to(call: Call) -> Result:
    """To a number of decimals: torch multiplies, rounds halves to even, and divides."""
    x, decimals = call.value("self"), call.fixed("decimals", 0)
    if x.dtype != "float32":
        if decimals < 0:
            raise Unsupported(f"{call.op} of {x.dtype} to tens")
        return x
    if decimals == 0:
        return call.emit("Round", [x])
    scale = call.floats(10.0 ** abs(decimals))
    there, back = ("Mul", "Div") if decimals > 0 else ("Div", "Mul")
    return call.emit(back, [call.node("Round", [call.node(there, [x, scale])]), scale])


@converter("__lshift__ bitwise_left_shift __rshift__ bitwise_right_shift")
def shift(call: Call) -> Result:
    """Whole numbers times or by a power of 2, rounded down: for numbers below 0 too, where BitShift has no rule."""
    dtype = call.dtype
    x, by = call.operand("self", dtype), call.get("other")
    if not isinstance(by, int) or not 0 <= by < 62 or dtype not in ("int32", "int64"):
        raise Unsupported(f"{call.op} of {dtype} by other than a fixed number")
    power = call.constant(np.array(1 << by).astype(dtype))
    return call.emit("Mul", [x, power]) if "l" in call.op.partition("shift")[0] else _floor_divide(call, x, power)


@converter("floor_divide")
def floor_divide(call: Call) -> Result:
    dtype = call.dtype
    a, b = call.operand("self", dtype), call.operand("other", dtype)
    if dtype == "float32":
        return call.emit("Floor", [call.node("Div", [a, b])])
    return _floor_divide(call, a, b)


def _floor_divide(call: Call, a: Value, b: Value) -> Value:
    """Divide integers and round down: Div rounds towards 0, Mod has the sign of the divisor."""
    return call.emit("Div", [call.node("Sub", [a, call.node("Mod", [a, b])]), b])


@converter("remainder fmod")
def remainder(call: Call) -> Result:
    dtype = call.dtype
    a, b = call.operand("self", dtype), call.operand("other", dtype)
    if call.op == "aten.fmod":
        return call.emit("Mod", [a, b], fmod=1)
    if dtype != "float32":
        return call.emit("Mod", [a, b])
    return call.emit("Sub", [a, call.node("Mul", [call.node("Floor", [call.node("Div", [a, b])]), b])])


@converter("pow")
def power(call: Call) -> Result:
    dtype = call.dtype
    base, exponent = call.get("self"), call.get("exponent")
    if isinstance(exponent, (int, float)):
        x = call.operand("self", dtype)
        if exponent in (-0.5, -1, -2):
            root = call.node("Sqrt", [x]) if exponent == -0.5 else x if exponent == -1 else call.node("Mul", [x, x])
            return call.emit("Reciprocal", [root])
        return x if exponent == 1 else call.emit("Pow", [x, call.operand("exponent", dtype)])
    if isinstance(base, (int, float)) and base > 0 and dtype == "float32":
        x = call.operand("exponent", dtype)
        return call.emit("Exp", [call.node("Mul", [x, call.floats(math.log(base))])])
    return call.emit("Pow", [call.operand("self", dtype), call.operand("exponent", dtype)])


@converter(*_COMPARISONS, "ne not_equal")
def compare(call: Call) -> Result:
    dtype = call.promoted("self", "other")
    op = _COMPARISONS.get(call.op.removeprefix("aten."))
    if dtype == "bool" and op not in (None, "Equal"):
        dtype = "int32"
    operands = [call.operand("self", dtype), call.operand("other", dtype)]
    if (
        op == "GreaterOrEqual"
        and _counts(operands[0])
        and operands[1].array is not None
        and operands[1].array.max() <= 0
    ):
        return call.expand(call.constant(np.array(True)), call.result.shape)  # part of the masks of transformers
    return call.emit(op, operands) if op else call.emit("Not", [call.node("Equal", operands)])


@converter(*_LOGIC)
def logic(call: Call) -> Result:
    op = _LOGIC[call.op.removeprefix("aten.")]
    if call.dtype != "bool":
        return call.emit(f"Bitwise{op}", [call.operand(name, call.dtype) for name in ("self", "other")])
    operands = [_truth(call, "self"), _truth(call, "other")]
    for i in range(2):
        if op == "And" and _always(operands[i]):
            return call.expand(operands[1 - i], call.result.shape, last=True)
    return call.emit(op, operands)


@converter("logical_not bitwise_not")
def negate(call: Call) -> Result:
    if call.dtype != "bool":
        return call.emit("BitwiseNot", [call.value("self")])
    return call.emit("Not", [_truth(call, "self")])


def _counts(value: Value) -> bool:
    """Return whether a value holds numbers from 0 or more on, in other shapes."""
    node = value.producer
    while node is not None and node.op in ("Unsqueeze", "Expand", "Reshape", "Transpose", "Cast", "Add"):
        more = node.inputs[1].array if node.op == "Add" and node.inputs[1] is not None else np.zeros(1)
        if more is None or more.min() < 0:
            return False
        node = None if node.inputs[0] is None else node.inputs[0].producer
    if node is None or node.op != "Range":
        return False
    start, _, step = (None if number is None else number.array for number in node.inputs)
    return start is not None and step is not None and bool(start >= 0 and step > 0)


def _always(value: Value) -> bool:
    """Return whether a value is known to be true throughout."""
    node = value.producer
    while node is not None and node.op == "Expand" and node.inputs[0] is not None:
        value, node = node.inputs[0], node.inputs[0].producer
    return value.array is not None and bool(value.array.all())


def _truth(call: Call, name: str) -> Value:
    node = call.get(name)
    if isinstance(node, (bool, int, float)):
        return call.constant(np.array(bool(node)))
    return call.cast(call.value(name), "bool")


@converter("isnan isinf")
def special(call: Call) -> Result:
    return call.emit("IsNaN" if call.op == "aten.isnan" else "IsInf", [call.cast(call.value("self"), "float32")])


@converter("where")
def where(call: Call) -> Result:
    if not call.has("self"):
        return nonzero_by_axis(call, call.value("condition"))
    dtype = call.dtype
    condition = call.cast(call.value("condition"), "bool")
    sides = [call.operand("self", dtype), call.operand("other", dtype)]
    if all(side.shape == () for side in sides):
        return call.expand(call.node("Where", [call.narrow(condition), *sides]), call.result.shape, last=True)
    return call.emit("Where", [condition, *sides])


@converter("masked_fill")
def masked_fill(call: Call) -> Result:
    dtype = call.dtype
    return call.emit("Where", [call.value("mask"), call.operand("value", dtype), call.operand("self", dtype)])


@converter("clamp clip clamp_min clamp_max hardtanh relu6")
def clamp(call: Call) -> Result:
    dtype = call.dtype
    names = ("min_val", "max_val") if call.has("min_val") else ("min", "max")
    low, high = (_bound(call, name, dtype) for name in names)
    if call.op == "aten.relu6":
        low, high = (call.constant(np.array(bound).astype(dtype)) for bound in (0, 6))
    x = call.operand("self", dtype)
    numbers = [bound.array for bound in (low, high) if bound is not None]
    if all(array is not None and array.ndim == 0 for array in numbers) and dtype in ("float32", "int32", "int64"):
        return call.emit("Clip", [x, low, high])
    if low is not None:
        x = call.emit("Max", [x, low])
    return x if high is None else call.emit("Min", [x, high])


def _bound(call: Call, name: str, dtype: str) -> Value | None:
    return call.operand(name, dtype) if call.has(name) and call.get(name) is not None else None


@converter("gelu")
def gelu(call: Call) -> Result:
    return call.emit("Gelu", [call.value("self")], approximate=call.fixed("approximate"))


@converter("silu")
def silu(call: Call) -> Result:
    x = call.value("self")
    return call.emit("Mul", [x, call.node("Sigmoid", [x])])


@converter("glu")
def glu(call: Call) -> Result:
    x, rank = call.value("self"), call.rank("self")
    halves = call.split(x, call.axis("dim", rank), [call.result.shape[call.axis("dim", rank)]] * 2)
    return call.emit("Mul", [halves[0], call.node("Sigmoid", [halves[1]])])


@converter("leaky_relu")
def leaky_relu(call: Call) -> Result:
    return call.emit("LeakyRelu", [call.value("self")], alpha=float(call.fixed("negative_slope")))


@converter("elu")
def elu(call: Call) -> Result:
    call.only("scale", 1)
    call.only("input_scale", 1)
    return call.emit("Elu", [call.value("self")], alpha=float(call.fixed("alpha")))


@converter("celu")
def celu(call: Call) -> Result:
    return call.emit("Celu", [call.value("self")], alpha=float(call.fixed("alpha")))


@converter("hardsigmoid")
def hard_sigmoid(call: Call) -> Result:
    return call.emit("HardSigmoid", [call.value("self")], alpha=1 / 6, beta=0.5)


@converter("hardswish")
def hard_swish(call: Call) -> Result:
    return call.emit("HardSwish", [call.value("self")])


@converter("softplus")
def softplus(call: Call) -> Result:
    """torch goes over to x itself above the threshold, where float32 cannot tell the two apart."""
    beta = call.fixed("beta")
    if beta * call.fixed("threshold") < 17:
        raise Unsupported("aten.softplus with a low threshold")
    x = call.value("self")
    if beta == 1:
        return call.emit("Softplus", [x])
    return call.emit("Div", [call.node("Softplus", [call.node("Mul", [x, call.floats(beta)])]), call.floats(beta)])


@converter("log_sigmoid")
def log_sigmoid(call: Call) -> Result:
    return call.emit("Neg", [call.node("Softplus", [call.node("Neg", [call.value("self")])])])


@converter("softsign")
def softsign(call: Call) -> Result:
    return call.emit("Softsign", [call.value("self")])


@converter("prelu _prelu_kernel")
def prelu(call: Call) -> Result:
    """A slope for each channel, which is dimension 1."""
    x, slope, rank = call.value("self"), call.value("weight"), call.rank("self")
    if call.op == "aten.prelu" and rank > 2 and slope.shape != (1,):
        slope = call.reshape(slope, [*call.fake("weight").shape, *[1] * (rank - 2)])
    return call.emit("PRelu", [x, slope])


@converter("threshold")
def threshold(call: Call) -> Result:
    x = call.value("self")
    return call.emit(
        "Where",
        [call.node("Greater", [x, call.operand("threshold", call.dtype)]), x, call.operand("value", call.dtype)],
    )


@converter("rsqrt")
def rsqrt(call: Call) -> Result:
    return call.emit("Reciprocal", [call.node("Sqrt", [call.operand("self", "float32")])])


@converter("square")
def square(call: Call) -> Result:
    x = call.value("self")
    return call.emit("Mul", [x, x])
