"""Tensors of one number, of numbers in order, and such."""

from __future__ import annotations

import numpy as np

from ....conversion import Unsupported
from ..convert import Call, Result, converter


@converter("zeros new_zeros zeros_like ones new_ones ones_like full new_full full_like fill")
def full(call: Call) -> Result:
    """One number, expanded."""
    kind = call.op.removeprefix("aten.").removeprefix("new_").removesuffix("_like")
    for name in ("size", "dtype", "self"):
        call.get(name)
    dtype = call.dtype
    if kind in ("full", "fill"):
        number = call.operand("fill_value" if call.has("fill_value") else "value", dtype)
    else:
        number = call.constant(np.array(kind == "ones").astype(dtype))
    return call.expand(number, call.result.shape)


@converter("scalar_tensor")
def scalar_tensor(call: Call) -> Result:
    call.get("dtype")
    return call.operand("s", call.dtype)


@converter("arange")
def arange(call: Call) -> Result:
    call.get("dtype")
    start, end, step = (call.get(name, otherwise) for name, otherwise in (("start", 0), ("end", None), ("step", 1)))
    if any(isinstance(number, float) for number in (start, end, step)):
        raise Unsupported("aten.arange of fractions whose limits depend on the run")
    numbers = call.node("Range", [call.scalar(start), call.scalar(end), call.scalar(step)])
    numbers.dtype, numbers.shape = "int64", call.dims(call.result.shape)
    return call.cast(numbers, call.dtype)


@converter("tril triu")
def triangle(call: Call) -> Result:
    x, k = call.value("self"), call.fixed("diagonal")
    number = call.constant(np.array(k, np.int64))
    if x.dtype not in ("float32", "int64", "int32", "bool"):
        raise Unsupported(f"{call.op} of {x.dtype}")
    return call.emit("Trilu", [x, number], upper=int(call.op == "aten.triu"))
