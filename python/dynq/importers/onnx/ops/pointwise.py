"""Ops on each element, and normalizations."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np

from ....conversion import Unsupported
from ....core.arguments import FLOAT32
from ....graph import Value
from ....ir.given import ONNX_TYPES
from ..attributes import FLOAT, INT, INTS, Rule, one_of, unused
from ..convert import Call, Result, converter
from ..tensors import DTYPE_OF, type_name


def passes(*names: str, since: int = 1, also: Mapping[str, Rule] = MappingProxyType({}), **rules: Rule) -> None:
    """Register ops that stay as they are, of whose attributes dynq takes only some values."""
    converter(*names, since=since, also={**also, **rules})(Call.emit)


passes("LayerNormalization", since=17, axis=INT, epsilon=FLOAT, stash_type=one_of(1))
passes("RMSNormalization", since=23, axis=INT, epsilon=FLOAT, stash_type=one_of(1))


@converter("Softmax", "LogSoftmax", until=13, axis=INT)
def softmax_of_two_dimensions(call: Call) -> Result:
    """Before opset 13: over all axes from ``axis`` on, as one."""
    rank, axis, x = call.rank("input"), call.attribute("axis", 1), call.need("input")
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
    return call.emit("Clip", [call.need("input"), *(None if bound is None else one(call, bound) for bound in bounds)])


@converter("Clip", since=11)
def clip(call: Call) -> Result:
    return in_int32(call)


def in_int32(call: Call) -> Result:
    """Small integers and bool, for an op that has none of them: as int32, and back."""
    dtype = call.need(0).dtype  # the input of Clip, the data of a reduction
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


@converter("Relu")
def relu(call: Call) -> Result:
    x = call.need("X")
    if x.dtype in ("int32", "int64", "int8"):
        return call.emit("Max", [x, call.constant(np.zeros((), x.dtype), "zero")])
    return call.emit()


@converter("Gemm", alpha=FLOAT, beta=FLOAT, transA=one_of(0, 1), transB=one_of(0, 1))
def gemm(call: Call) -> Result:
    """Gemm of integers is written as a product and a sum."""
    a, b, c = call.need("A"), call.need("B"), call.input("C")
    if a.dtype not in ("int32", "int64"):
        return call.emit()
    alpha, beta = call.attribute("alpha", 1.0), call.attribute("beta", 1.0)
    if alpha != int(alpha) or beta != int(beta):
        raise Unsupported(f"Gemm of {a.dtype} with alpha {alpha} and beta {beta}; expected whole numbers")
    a, b = (
        call.node("Transpose", [value], perm=[1, 0]) if call.attribute(name, 0) else value
        for value, name in ((a, "transA"), (b, "transB"))
    )
    product = call.node("MatMul", [a, b])
    if alpha != 1:
        product = call.node("Mul", [product, call.constant(np.array(alpha, a.dtype), "alpha")])
    if c is None or beta == 0:
        return call.last("Identity", [product])
    if beta != 1:
        c = call.node("Mul", [c, call.constant(np.array(beta, a.dtype), "beta")])
    return call.last("Add", [product, c])


@converter(
    "RandomUniformLike", "RandomNormalLike", dtype=INT, seed=FLOAT, low=FLOAT, high=FLOAT, mean=FLOAT, scale=FLOAT
)
def random_like(call: Call) -> Result:
    """The same numbers in each run: those of the seed, or of the seed 0."""
    if "dtype" in call.attributes:
        call.attributes["dtype"] = onnx_number(call.attributes["dtype"], call.op)
    return call.emit()


@converter(
    "RandomUniform", "RandomNormal", dtype=INT, seed=FLOAT, low=FLOAT, high=FLOAT, mean=FLOAT, scale=FLOAT, shape=INTS
)
def random_numbers(call: Call) -> Result:
    shape = call.constant(np.array(call.attributes.pop("shape"), np.int64), "shape")
    call.attributes["dtype"] = onnx_number(call.attribute("dtype", 1), call.op)
    return call.emit(f"{call.op}Like", [call.node("Expand", [one(call, 0.0), shape])], **call.attributes)


@converter("Pow")
def power(call: Call) -> Result:
    """The exponent may be of another type; the result is of the base's."""
    base, exponent = call.need("X"), call.need("Y")
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
    kind = call.onnx_type("target_type")
    if kind is None:  # inference does not know what a body reads; what dynq has made of it has a type
        kind = ONNX_TYPES.get(call.need("target_type").dtype or "")
    return _cast(call, kind)


def _cast(call: Call, to: int | None) -> Result:
    if to is None:
        raise Unsupported(f"{call.op} to a type that is not known")
    number = onnx_number(to, f"{call.op} to")
    x = call.need("input")
    return x if x.dtype == DTYPE_OF[number] else call.emit("Cast", [x], to=number)


def onnx_number(kind: int, what: str) -> int:
    """ONNX's number of the type that dynq computes a type with."""
    if kind not in DTYPE_OF:
        raise Unsupported(f"{what} {type_name(kind)}")
    return ONNX_TYPES[DTYPE_OF[kind]]


@converter("Identity")
def identity(call: Call) -> Result:
    return call.need("input")


@converter("Dropout", since=12, seed=unused())
def dropout_that_may_train(call: Call) -> Result:
    if call.input("training_mode") is not None:
        training = call.array("training_mode")
        if training is None or training.any():
            raise Unsupported("Dropout that trains")
    return dropout(call)


@converter("Dropout", ratio=unused("float"))
def dropout(call: Call) -> Result:
    """Emit what inference computes: nothing is dropped."""
    x = call.need("data")
    if not call.output_read(1):
        return x
    return x, call.node("Expand", [call.constant(np.array(True)), call.node("Shape", [x])])


@converter("BatchNormalization", epsilon=FLOAT, momentum=unused("float"))
@converter("BatchNormalization", since=14, epsilon=FLOAT, momentum=FLOAT, training_mode=one_of(0, 1))
def batch_normalization(call: Call) -> Result:
    """By the running statistics, or by those of the input: exporters write weights that a model standardizes so."""
    epsilon = call.attribute("epsilon", 1e-5)
    if call.attribute("training_mode", 0):
        return _by_own_statistics(call, epsilon)
    call.only_first_output()
    return call.emit("BatchNormalization", call.inputs, epsilon=epsilon)


def _by_own_statistics(call: Call, epsilon: float) -> Result:
    """Take the mean and the variance of each channel of the input, and mix them with the running ones."""
    x, rank, momentum = call.need("X"), call.rank("X"), call.attribute("momentum", 0.9)
    axes = call.constant(np.array([0, *range(2, rank)], np.int64), "axes")
    mean = call.node("ReduceMean", [x, axes], keepdims=1)
    centred = call.node("Sub", [x, mean])
    variance = call.node("ReduceMean", [call.node("Mul", [centred, centred]), axes], keepdims=1)
    own = [call.node("Squeeze", [value, axes]) for value in (mean, variance)]
    y = call.last("BatchNormalization", [x, call.need("scale"), call.need("B"), *own], epsilon=epsilon)
    running = (call.need(name) for name in ("input_mean", "input_var"))
    mixed = (
        call.node(
            "Add", [call.node("Mul", [old, one(call, momentum)]), call.node("Mul", [new, one(call, 1 - momentum)])]
        )
        for old, new in zip(running, own, strict=True)
    )
    return y, *(value if call.output_read(i) else None for i, value in enumerate(mixed, 1))


def one(call: Call, value: float) -> Value:
    """A float32 number."""
    return call.constant(np.array(value, FLOAT32))
