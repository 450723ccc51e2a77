"""Reductions."""

from __future__ import annotations

from typing import Any

import numpy as np

from ....conversion import Unsupported
from ....graph import Value
from ..call import Call, Result, converter

_OPS = {
    "sum": "ReduceSum", "mean": "ReduceMean", "amax": "ReduceMax", "amin": "ReduceMin", "prod": "ReduceProd",
    "logsumexp": "ReduceLogSumExp",
}  # fmt: skip


def _axes(call: Call) -> list[int] | None:
    """None: all."""
    dims = call.fixed("dim") if call.has("dim") else None
    rank = call.rank("self")
    if dims is None or dims == []:
        return None
    return sorted({int(dim) % max(rank, 1) for dim in (dims if isinstance(dims, list) else [dims])})


def _reduce(call: Call, op: str, x: Value, axes: list[int] | None, keep: bool, last: bool = True) -> Value:
    inputs = [x] if axes is None else [x, call.axes(axes)]
    return (call.emit if last else call.node)(op, inputs, keepdims=int(keep))


def _keep(call: Call) -> bool:
    return bool(call.fixed("keepdim")) if call.has("keepdim") else False


@converter(*_OPS)
def reduce(call: Call) -> Result:
    call.get("dtype")
    x = call.cast(call.value("self"), call.dtype)
    axes = _axes(call)
    if call.rank("self") == 0:
        return x
    op = _OPS[call.op.removeprefix("aten.")]
    return _reduce(call, op, x, axes, _keep(call))


@converter("any all")
def some(call: Call) -> Result:
    x = call.cast(call.cast(call.value("self"), "bool"), "int32")
    op = "ReduceMax" if call.op == "aten.any" else "ReduceMin"
    return call.emit("Greater", [_reduce(call, op, x, _axes(call), _keep(call), False), call.constant(np.int32(0))])


@converter("max min")
def largest(call: Call) -> Result:
    op = ("ReduceMax", "ArgMax") if call.op == "aten.max" else ("ReduceMin", "ArgMin")
    if call.has("other"):
        dtype = call.dtype
        return call.emit(op[0][6:], [call.operand("self", dtype), call.operand("other", dtype)])
    x = call.value("self")
    if not call.has("dim"):
        return _reduce(call, op[0], x, None, False)
    axis, keep = call.axis("dim", call.rank("self")), _keep(call)
    values = _reduce(call, op[0], x, [axis], keep)
    return [values, call.node(op[1], [x], axis=axis, keepdims=int(keep))]


@converter("argmax argmin")
def index_of(call: Call) -> Result:
    x, op = call.value("self"), "ArgMax" if call.op == "aten.argmax" else "ArgMin"
    if call.get("dim") is None:
        flat = call.node("Reshape", [x, call.axes([-1])])
        y = call.node(op, [flat], axis=0, keepdims=0)
        return call.reshape(y, call.result.shape)
    return call.emit(op, [x], axis=call.axis("dim", call.rank("self")), keepdims=int(_keep(call)))


@converter("var std var_mean std_mean")
def variance(call: Call) -> Result:
    x, axes, keep = call.value("self"), _axes(call), _keep(call)
    if call.has("unbiased"):
        less: float = float(bool(call.fixed("unbiased")))
    else:
        correction = call.fixed("correction")
        less = 1.0 if correction is None else float(correction)
    sizes = call.fake("self").shape
    count = [size for i, size in enumerate(sizes) if axes is None or i in axes]
    total: Any = 1
    for size in count:
        total = total * size
    mean = _reduce(call, "ReduceMean", x, axes, True, False)
    centred = call.node("Sub", [x, mean])
    squares = _reduce(call, "ReduceSum", call.node("Mul", [centred, centred]), axes, keep, False)
    divisor = call.cast(call.scalar(total), "float32")
    if less:
        divisor = call.node("Sub", [divisor, call.floats(less)])
    result = call.node("Div", [squares, divisor])
    if "std" in call.op:
        result = call.node("Sqrt", [result])
    if not call.op.endswith("_mean"):
        return result
    return [result, mean if keep else _reduce(call, "ReduceMean", x, axes, False, False)]


@converter("linalg_vector_norm norm")
def norm(call: Call) -> Result:
    call.get("dtype")
    order = call.fixed("ord" if call.has("ord") else "p")
    order = 2 if order is None else order
    x, axes, keep = call.cast(call.value("self"), "float32"), _axes(call), _keep(call)
    if order in (1, 2):
        return _reduce(call, f"ReduceL{int(order)}", x, axes, keep)
    if order in (float("inf"), float("-inf")):
        return _reduce(call, "ReduceMax" if order > 0 else "ReduceMin", call.node("Abs", [x]), axes, keep)
    raise Unsupported(f"{call.op} of order {order}")


@converter("cumsum cumprod")
def cumulative(call: Call) -> Result:
    call.get("dtype")
    axis = call.constant(np.array(call.axis("dim", call.rank("self")), np.int64))
    op = "CumSum" if call.op == "aten.cumsum" else "CumProd"
    return call.emit(op, [call.cast(call.value("self"), call.dtype), axis])


@converter("median kthvalue")
def kth(call: Call) -> Result:
    """The kth smallest along an axis, and its place. The median of an even number is the lower of the two."""
    x, rank = call.value("self"), call.rank("self")
    whole = not call.has("dim")
    if whole:
        x, axis, size = call.node("Reshape", [x, call.axes([-1])]), 0, call.fake("self").numel()
    else:
        axis = call.axis("dim", rank)
        size = call.fake("self").shape[axis] if rank else 1
    at = call.fixed("k") if call.has("k") else (size + 1) // 2
    keep = _keep(call)
    values, places = call.emit_several("TopK", [x, call.vector(at)], 2, axis=axis, largest=0)
    last = call.axes([-1])
    ends = [call.node("Slice", [y, last, call.axes([2**63 - 1]), call.axes([axis])]) for y in (values, places)]
    results = ends if keep else [call.node("Squeeze", [end, call.axes([axis])]) for end in ends]
    return results[0] if whole else results


@converter("topk sort")
def top(call: Call) -> Result:
    """The order of equal ones is left open, but in a stable sort."""
    rank = call.rank("self")
    axis = call.axis("dim", rank)
    if call.op == "aten.sort":
        largest, count = call.fixed("descending"), call.fake("self").shape[axis]
        call.get("stable")
    else:
        largest, count = call.fixed("largest"), call.get("k")
        call.get("sorted")
    return call.emit_several("TopK", [call.value("self"), call.vector(count)], 2, axis=axis, largest=int(largest))


@converter("softmax _softmax log_softmax _log_softmax special_softmax")
def softmax(call: Call) -> Result:
    for name in ("dtype", "half_to_float"):
        call.get(name)
    op = "LogSoftmax" if "log" in call.op else "Softmax"
    return call.emit(op, [call.cast(call.value("self"), call.dtype)], axis=call.axis("dim", call.rank("self")))
