"""Ops on constants, and ops that make numbers of sizes."""

from __future__ import annotations

import numpy as np

from ....conversion import Unsupported
from ..convert import Call, Result, converter
from ..grids import has_grid
from ..tensors import FLOATS, dtype_of, kind_name


@converter("DEQUANTIZE DENSIFY")
def of_constant(call: Call) -> Result:
    """Pass a constant on as the numbers that it was, a weight of int8 too."""
    constant = call.constant(0)
    if constant is not None and (constant.is_quantized or constant.kind in FLOATS or call.op == "DENSIFY"):
        return constant
    tensor = call.tensor(0)
    if call.op == "DEQUANTIZE" and (tensor.kind in FLOATS or has_grid(tensor)):  # both are float32 in dynq
        return call.node("Identity", [call.value(0)])
    raise Unsupported(f"{call.op} of values that are computed")


@converter("SHAPE", "ShapeOptions")
def shape(call: Call) -> Result:
    dtype = dtype_of(call.output().kind) or "int32"
    return call.cast(call.node("Shape", [call.value(0)]), dtype)


@converter("RANK")
def rank(call: Call) -> Result:
    return call.node("Identity", [call.number(call.rank(0), np.int32)])


@converter("FILL")
def fill(call: Call) -> Result:
    return call.node("Expand", [call.value(1), call.long(0)])


@converter("RANGE")
def numbers(call: Call) -> Result:
    return call.node("Range", [call.value(i) for i in range(3)])


@converter("ONE_HOT", "OneHotOptions")
def one_hot(call: Call) -> Result:
    """indices, depth, on, off"""
    axis = call.option("Axis", -1)
    off, on = (call.node("Reshape", [call.value(i), call.integers([1])]) for i in (3, 2))
    values = call.node("Concat", [off, on], axis=0)
    indices, depth = call.value(0), call.long(1)
    known = call.node("And", [
        call.node("GreaterOrEqual", [indices, call.number(0, indices.dtype)]),
        call.node("Less", [indices, call.cast(depth, indices.dtype or "int64")]),
    ])  # fmt: skip
    hot = call.node("OneHot", [indices, depth, values], axis=axis)
    there = call.node("Unsqueeze", [known, call.integers([axis])])
    return call.node("Where", [there, hot, call.value(3)])


@converter("TILE")
def tile(call: Call) -> Result:
    return call.node("Tile", [call.value(0), call.long(1)])


@converter("BROADCAST_TO")
def broadcast_to(call: Call) -> Result:
    return call.node("Expand", [call.value(0), call.long(1)])


@converter("QUANTIZE", "QuantizeOptions")
def quantize(call: Call) -> Result:
    """Pass numbers on, to be rounded to the steps of the result."""
    if not call.is_float(0) or not has_grid(call.output()):
        raise Unsupported(f"QUANTIZE to {kind_name(call.output().kind)}")
    return call.node("Identity", [call.value(0)])
