"""Reductions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ....graph import Value
from ....ir.given import ONNX_TYPES
from ..attributes import INT, INTS, one_of
from ..convert import Call, Result, converter
from .pointwise import in_int32

_OPS = """
    ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSumSquare
"""


@converter("ReduceSum", _OPS, axes=INTS, keepdims=one_of(0, 1))
def axes_as_attribute(call: Call) -> Result:
    axes = call.attributes.pop("axes", None)
    x = call.need("data")
    inputs = [x] if axes is None else [x, call.constant(np.array(axes, np.int64), "axes")]
    return _reduced(call, inputs)


@converter("ReduceSum", since=13, keepdims=one_of(0, 1), noop_with_empty_axes=one_of(0, 1))
@converter(_OPS, since=18, keepdims=one_of(0, 1), noop_with_empty_axes=one_of(0, 1))
def axes_as_input(call: Call) -> Result:
    return in_int32(call) if call.op in ("ReduceMax", "ReduceMin") else _reduced(call, call.inputs)


def _reduced(call: Call, inputs: Sequence[Value | None]) -> Result:
    """Emit a reduction; those of integers are written in sums, or computed as float32 and cut off."""
    x, dtype, attributes = call.need("data"), call.need("data").dtype, call.attributes
    if dtype not in ("int32", "int64") or call.op in ("ReduceSum", "ReduceProd", "ReduceMax", "ReduceMin"):
        return call.emit(call.op, inputs, **attributes)
    if call.op == "ReduceMean":
        total = call.node("ReduceSum", inputs, **attributes)
        count = call.node("Div", [call.node("Size", [x]), call.node("Size", [total])])
        return call.last(
            "Div", [total, count if dtype == "int64" else call.node("Cast", [count], to=ONNX_TYPES[dtype])]
        )
    if call.op in ("ReduceL1", "ReduceSumSquare"):
        terms = call.node("Abs", [x]) if call.op == "ReduceL1" else call.node("Mul", [x, x])
        return call.last("ReduceSum", [terms, *inputs[1:]], **attributes)
    y = call.node(call.op, [call.node("Cast", [x], to=ONNX_TYPES["float32"]), *inputs[1:]], **attributes)
    return call.last("Cast", [y], to=ONNX_TYPES[dtype])


@converter("ArgMax", "ArgMin", axis=INT, keepdims=one_of(0, 1))
@converter("ArgMax", "ArgMin", since=12, axis=INT, keepdims=one_of(0, 1), select_last_index=one_of(0, 1))
def index_of(call: Call) -> Result:
    return call.emit()


@converter("TopK", since=11, axis=INT, largest=one_of(0, 1), sorted=one_of(0, 1))
def top_k(call: Call) -> Result:
    """Sorted always: where the order is left open, that is one of those allowed."""
    call.attributes.pop("sorted", None)
    return call.emit()
