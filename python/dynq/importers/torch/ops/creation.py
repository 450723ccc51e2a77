"""Tensors of one number, of numbers in order, and such."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from ....conversion import Unsupported
from ....graph import Value
from ..call import Call, Result, converter


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
    limits = [call.get(name, otherwise) for name, otherwise in (("start", 0), ("end", None), ("step", 1))]
    start, end, step = (int(n) if isinstance(n, float) and n.is_integer() else n for n in limits)
    if any(isinstance(number, (float, torch.SymFloat)) for number in (start, end, step)):
        return call.cast(_fractions(call, start, step), call.dtype)
    numbers = call.node("Range", [call.scalar(start), call.scalar(end), call.scalar(step)])
    numbers.dtype, numbers.shape = "int64", call.dims(call.result.shape)
    return call.cast(numbers, call.dtype)


def _fractions(call: Call, start: Any, step: Any) -> Value:
    """Return ``start + i * step`` as float32, for as many i as the op gives."""
    (count,) = call.result.shape
    index = call.node("Range", [call.scalar(0), call.scalar(count), call.scalar(1)])
    index.dtype, index.shape = "int64", call.dims([count])
    by, first = (
        call.floats(number) if isinstance(number, float) else call.cast(call.scalar(number), "float32")
        for number in (step, start)
    )
    return call.node("Add", [call.node("Mul", [call.cast(index, "float32"), by]), first])


@converter("tril triu")
def triangle(call: Call) -> Result:
    x, k = call.value("self"), call.fixed("diagonal")
    number = call.constant(np.array(k, np.int64))
    if x.dtype not in ("float32", "int64", "int32", "bool"):
        raise Unsupported(f"{call.op} of {x.dtype}")
    return call.emit("Trilu", [x, number], upper=int(call.op == "aten.triu"))
