"""Ops that make one number of many."""

from __future__ import annotations

from ....conversion import Unsupported
from ....ir.given import ONNX_TYPES
from ..convert import Call, Result, converter
from ..layout import Planes, planes_axis
from ..tensors import dtype_of

_OPS = {
    "MEAN": "ReduceMean", "SUM": "ReduceSum", "REDUCE_MAX": "ReduceMax", "REDUCE_MIN": "ReduceMin",
    "REDUCE_PROD": "ReduceProd", "REDUCE_ANY": "ReduceMax", "REDUCE_ALL": "ReduceMin",
}  # fmt: skip


@converter(" ".join(_OPS), "ReducerOptions")
def reduce(call: Call) -> Result:
    """x, axes"""
    rank, keep = call.rank(0), bool(call.option("KeepDims", False))
    axes = sorted({call.axis(axis, rank) for axis in call.numbers(1, "axes")})
    if call.op == "MEAN" and not call.is_float(0):
        raise Unsupported("MEAN of integers")
    # Without the kept sizes, what is left of planes has to be in the order of the file: all but the images, or all.
    planes = call.in_planes(0) and rank >= 3 and (keep or set(range(1, rank - 1)) <= set(axes))
    x = call.planes(0) if planes else call.value(0)
    if planes:
        axes = sorted(planes_axis(axis, rank) for axis in axes)
    truth = x.dtype == "bool"
    if truth:
        x = call.node("Cast", [x], to=ONNX_TYPES["int32"])
    y = call.node(_OPS[call.op], [x, call.integers(axes)], keepdims=int(keep), noop_with_empty_axes=1)
    if truth:
        y = call.node("Cast", [y], to=ONNX_TYPES["bool"])
    return Planes(y) if planes and keep else y


@converter("ARG_MAX", "ArgMaxOptions")
@converter("ARG_MIN", "ArgMinOptions")
def extreme_place(call: Call) -> Result:
    """x, axis: the first place of the extreme"""
    axes = call.numbers(1, "axis")
    if len(axes) != 1:
        raise ValueError(f"its axis is {axes}")
    op = "ArgMax" if call.op == "ARG_MAX" else "ArgMin"
    places = call.node(op, [call.value(0)], axis=call.axis(axes[0], call.rank(0)), keepdims=0)
    return call.cast(places, dtype_of(call.output().kind) or "int64")


@converter("CUMSUM", "CumsumOptions")
def cumsum(call: Call) -> Result:
    """x, axis"""
    flags = {name.lower(): int(call.option(name, False)) for name in ("Exclusive", "Reverse")}
    return call.node("CumSum", [call.value(0), call.long(1)], **flags)


@converter("TOPK_V2")
def top_k(call: Call) -> Result:
    """x, k"""
    k = call.node("Reshape", [call.long(1), call.integers([1])])
    values, places = call.nodes("TopK", [call.value(0), k], 2)
    return [values, call.cast(places, dtype_of(call.output(1).kind) or "int32")]
