"""Reductions."""

from __future__ import annotations

import numpy as np

from ..attributes import INT, INTS, one_of
from ..convert import Call, Result, converter
from .pointwise import in_int32

_OPS = """
    ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSumSquare
"""


@converter("ReduceSum", _OPS, axes=INTS, keepdims=one_of(0, 1))
def axes_as_attribute(call: Call) -> Result:
    axes = call.attributes.pop("axes", None)
    inputs = [call.need(0)] if axes is None else [call.need(0), call.constant(np.array(axes, np.int64), "axes")]
    return call.emit(call.op, inputs, **call.attributes)


@converter("ReduceSum", since=13, keepdims=one_of(0, 1), noop_with_empty_axes=one_of(0, 1))
@converter(_OPS, since=18, keepdims=one_of(0, 1), noop_with_empty_axes=one_of(0, 1))
def axes_as_input(call: Call) -> Result:
    return in_int32(call) if call.op in ("ReduceMax", "ReduceMin") else call.emit()


@converter("ArgMax", "ArgMin", axis=INT, keepdims=one_of(0, 1))
@converter("ArgMax", "ArgMin", since=12, axis=INT, keepdims=one_of(0, 1), select_last_index=one_of(0, 1))
def index_of(call: Call) -> Result:
    return call.emit()


@converter("TopK", axis=INT, largest=one_of(0, 1), sorted=one_of(0, 1))
def top_k(call: Call) -> Result:
    """Sorted always: where the order is left open, that is one of those allowed."""
    call.attributes.pop("sorted", None)
    return call.emit()
