"""Ops that take elements by indices, or put them there."""

from __future__ import annotations

import numpy as np

from ....conversion import Unsupported
from ....graph import Value
from ....ir.given import ONNX_TYPES
from ..convert import Call, Result, converter


@converter("GATHER", "GatherOptions")
def gather(call: Call) -> Result:
    """x, indices"""
    rank = call.rank(0)
    axis, batch = call.axis(call.option("Axis"), rank), call.option("BatchDims")
    batch = batch + call.rank(1) if batch < 0 else batch
    x, indices = call.value(0), call.value(1)
    if batch == 0:
        return call.node("Gather", [x, indices], axis=axis)
    if axis != batch:
        raise Unsupported(f"GATHER along axis {axis} with {batch} axes of batches")
    wide = call.node("Unsqueeze", [call.cast(indices, "int64"), call.integers([-1])])
    return call.node("GatherND", [x, wide], batch_dims=batch)


@converter("GATHER_ND")
def gather_nd(call: Call) -> Result:
    return call.node("GatherND", [call.value(0), call.long(1)])


@converter("SCATTER_ND")
def scatter_nd(call: Call) -> Result:
    """indices, updates, shape: what has one place is added up."""
    updates = call.value(1)
    zeros = call.node("Expand", [call.number(0, updates.dtype or np.float32), call.long(2)])
    return call.node("ScatterND", [zeros, call.long(0), updates], reduction="add")


@converter("DYNAMIC_UPDATE_SLICE")
def dynamic_update_slice(call: Call) -> Result:
    """x, update, begins: moved back until the update fits."""
    x, update = call.value(0), call.value(1)
    if _is_row(call, x, update):
        last = call.node("Sub", [call.node("Shape", [x], start=0, end=1), call.integers([1])])
        first = call.node("Slice", [call.long(2), call.integers([0]), call.integers([1])])
        place = call.node("Min", [call.node("Max", [first, call.integers([0])]), last])
        return call.node("ScatterND", [x, call.node("Unsqueeze", [place, call.integers([0])]), update])
    rank, sizes, part = call.rank(0), call.sizes(call.value(0)), call.sizes(call.value(1))
    begins = call.long(2)
    if len(part) != rank:
        raise ValueError(f"an update of {len(part)} dimensions for {rank}")
    room = [size - width for size, width in zip(sizes, part, strict=True)]
    if min(room, default=0) < 0:
        raise ValueError(f"an update of {part} for {sizes}")
    low = call.node("Max", [begins, call.integers([0] * rank)])
    begin = call.node("Min", [low, call.integers(room)])
    grid = np.stack(np.meshgrid(*(np.arange(width) for width in part), indexing="ij"), -1)
    places = call.node("Add", [call.number(grid, np.int64), begin])
    return call.node("ScatterND", [x, places, update])


def _is_row(call: Call, x: Value, update: Value) -> bool:
    """Return whether an update is one whole row of a tensor, whatever its sizes are."""
    if not x.shape or not update.shape or len(update.shape) != len(x.shape) or update.shape[0] != 1:
        return False
    return not any(call.dims(2)[1:])


@converter("WHERE")
def where(call: Call) -> Result:
    """The places of what is true, (n, rank)."""
    x = call.value(0)
    places = call.node("Transpose", [call.node("NonZero", [x])], perm=[1, 0])
    return places


@converter("MATRIX_DIAG")
def matrix_diag(call: Call) -> Result:
    """(..., n) becomes (..., n, n)."""
    x = call.value(0)
    size = call.sizes(x)[-1] if call.rank(0) else 0
    if not 0 < size <= 4096:
        raise Unsupported(f"MATRIX_DIAG of {size} numbers")
    eye = call.number(np.eye(size, dtype=bool), bool)
    wide = call.node("Unsqueeze", [x, call.integers([-1])])
    zero = call.number(0, x.dtype or np.float32)
    return call.node("Where", [eye, wide, zero])


@converter("UNIQUE", "UniqueOptions")
def unique(call: Call) -> Result:
    """In the order of their first places."""
    values, _, inverse = call.nodes("Unique", [call.value(0)], 3, sorted=0)
    wide = call.output(1).kind == 4
    return [values, inverse if wide else call.node("Cast", [inverse], to=ONNX_TYPES["int32"])]
