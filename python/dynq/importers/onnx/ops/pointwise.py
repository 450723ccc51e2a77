"""Ops on each element, and normalizations."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np

from ...._arguments import FLOAT32
from ....graph import Value
from ....graph.given import ONNX_TYPES
from ...errors import Unsupported
from ..attributes import FLOAT, INT, Rule, one_of, unused
from ..convert import Call, Result, converter
from ..tensors import DTYPE_OF, type_name


@converter(
    """
    Abs Acos Acosh Add And Asin Asinh Atan Atanh Ceil Cos Cosh Div Equal Erf Exp Floor Greater GreaterOrEqual
    HardSwish IsNaN Less LessOrEqual Log Max Mean Min Mish Mul Neg Not Or PRelu Reciprocal Relu Round Sigmoid Sign Sin
    Sinh Softplus Softsign Sqrt Sub Sum Tan Tanh Where Xor
    """,
    same=True,
)
def same(call: Call) -> Result:
    """No attributes, and no change of meaning from opset 11 on."""
    return call.emit()


def passes(*ops: str, since: int = 1, also: Mapping[str, Rule] = MappingProxyType({}), **rules: Rule) -> None:
    """Ops that stay as they are, with these attributes."""
    converter(*ops, since=since, same=True, also={**also, **rules})(same)


passes("Celu", "Elu", "LeakyRelu", "ThresholdedRelu", alpha=FLOAT)
passes("Selu", alpha=FLOAT, gamma=FLOAT)
passes("HardSigmoid", alpha=FLOAT, beta=FLOAT)
passes("Swish", since=24, alpha=FLOAT)
passes("Shrink", bias=FLOAT, lambd=FLOAT)
passes("Mod", fmod=one_of(0, 1))
passes("Gelu", since=20, approximate=one_of("none", "tanh"))
passes("IsInf", detect_negative=INT, detect_positive=INT)
passes("Softmax", "LogSoftmax", "Hardmax", since=13, axis=INT)
passes("LayerNormalization", since=17, axis=INT, epsilon=FLOAT, stash_type=one_of(1))
passes("RMSNormalization", since=23, axis=INT, epsilon=FLOAT, stash_type=one_of(1))
passes("InstanceNormalization", epsilon=FLOAT)
passes("LpNormalization", axis=INT, p=one_of(1, 2))
passes("CumSum", exclusive=one_of(0, 1), reverse=one_of(0, 1))


@converter("Softmax", "LogSoftmax", "Hardmax", axis=INT)
def softmax_of_two_dimensions(call: Call) -> Result:
    """Before opset 13: over all axes from ``axis`` on, as one."""
    rank, axis, x = call.rank(0), call.attribute("axis", 1), call.need(0)
    if axis in (-1, rank - 1):
        return call.emit(call.op, [x], axis=-1)
    if not -rank <= axis <= rank:
        raise ValueError(f"axis {axis} of a tensor with {rank} dimensions")
    flat = call.node("Flatten", [x], axis=axis + rank if axis < 0 else axis)
    flat = call.node(call.op, [flat], axis=-1)
    return call.last("Reshape", [flat, call.node("Shape", [x])], allowzero=1)


@converter("Clip", min=FLOAT, max=FLOAT)
def clip_by_attributes(call: Call) -> Result:
    bounds = [call.attributes.pop(name, None) for name in ("min", "max")]
    return call.emit("Clip", [call.need(0), *(None if bound is None else one(call, bound) for bound in bounds)])


@converter("Clip", since=11)
def clip(call: Call) -> Result:
    return in_int32(call)


def in_int32(call: Call) -> Result:
    """Small integers and bool, for an op that has none of them: as int32, and back."""
    dtype = call.need(0).dtype
    if dtype not in ("uint8", "int8", "bool"):
        return call.emit()
    inputs = [
        v if v is None or v.dtype != dtype else call.node("Cast", [v], to=ONNX_TYPES["int32"]) for v in call.inputs
    ]
    y = call.node(call.op, inputs, **call.attributes)
    if dtype == "bool":
        return call.emit("Greater", [y, call.constant(np.zeros((), np.int32))])
    if call.op != "Clip":  # of no elements it is int32's lowest or highest number
        limits = np.iinfo(dtype)
        y = call.node("Clip", [y, call.constant(np.int32(limits.min)), call.constant(np.int32(limits.max))])
    return call.emit("Cast", [y], to=ONNX_TYPES[dtype])


@converter("Pow")
def power(call: Call) -> Result:
    """The exponent may be of another type; the result is of the base's."""
    base, exponent = call.need(0), call.need(1)
    if base.dtype is None or exponent.dtype is None or base.dtype == exponent.dtype:
        return call.emit()
    number = exponent.array
    if number is not None and np.array_equal(number, np.rint(number)):
        return call.emit("Pow", [base, call.constant(number.astype(base.dtype), "exponent")])
    if base.dtype == "float32":
        return call.emit("Pow", [base, call.node("Cast", [exponent], to=1)])
    raise Unsupported(f"Pow of {base.dtype} to {exponent.dtype}")


@converter("Cast", to=INT)
@converter("Cast", since=19, to=INT, saturate=unused())
@converter("Cast", since=24, to=INT, saturate=unused(), round_mode=unused("text"))
def cast(call: Call) -> Result:
    return _cast(call, call.attributes.get("to"))


@converter("CastLike", since=15)
@converter("CastLike", since=19, saturate=unused())
@converter("CastLike", since=24, saturate=unused(), round_mode=unused("text"))
def cast_like(call: Call) -> Result:
    return _cast(call, call.onnx_type(1))


def _cast(call: Call, to: int | None) -> Result:
    if to is None:
        raise Unsupported(f"{call.op} to a type that is not known")
    number = onnx_number(to, f"{call.op} to")
    x = call.need(0)
    return x if x.dtype == DTYPE_OF[number] else call.emit("Cast", [x], to=number)


def onnx_number(kind: int, what: str) -> int:
    """ONNX's number of the type that dynq computes a type with."""
    if kind not in DTYPE_OF:
        raise Unsupported(f"{what} {type_name(kind)}")
    return ONNX_TYPES[DTYPE_OF[kind]]


@converter("Identity")
def identity(call: Call) -> Result:
    return call.need(0)


@converter("Dropout", ratio=unused("float"))
@converter("Dropout", since=12, seed=unused())
def dropout(call: Call) -> Result:
    """Inference: nothing is dropped."""
    if call.input(2) is not None:
        training = call.array(2)
        if training is None or training.any():
            raise Unsupported("Dropout that trains")
    x = call.need(0)
    if not call.output_read(1):
        return x
    return x, call.node("Expand", [call.constant(np.array(True)), call.node("Shape", [x])])


@converter("BatchNormalization", epsilon=FLOAT, momentum=unused("float"))
@converter("BatchNormalization", since=14, epsilon=FLOAT, momentum=unused("float"), training_mode=one_of(0))
def batch_normalization(call: Call) -> Result:
    """Inference."""
    call.only_first_output()
    return call.emit("BatchNormalization", call.inputs, epsilon=call.attribute("epsilon", 1e-5))


def one(call: Call, value: float) -> Value:
    """A float32 number."""
    return call.constant(np.array(value, FLOAT32))
