"""Integers as the floats that they stand for: constants where all is known, else nodes."""

from __future__ import annotations

import math

import numpy as np

from ....conversion import Unsupported
from ....core.arguments import Array
from ....graph import Value
from ....ir.given import ONNX_TYPES
from ..convert import Call, Result

__all__ = ["blocked", "constant_of", "dequantized", "number", "product_of_scales", "requantized", "spread", "zero_of"]


def constant_of(call: Call, index: int, what: str) -> Array:
    """Return the array of an input that has to be a constant."""
    array = call.need(index).array
    if array is None:
        raise Unsupported(f"{call.op} with {what} that is not constant")
    return array


def dequantized(call: Call, q: Value, scale: Value, zero_point: Value | None, axis: int) -> Value:
    """Return ``(q - zero_point) * scale``; numbers for each index are those of ``axis``, and others broadcast."""
    if q.array is not None and scale.array is not None and (zero_point is None or zero_point.array is not None):
        zero = None if zero_point is None else zero_point.array
        return call.constant(spread(q.array, scale.array, zero, axis), "dequantized")
    scale = number(call, scale)
    zero_point = None if zero_point is None else number(call, zero_point)
    if scale.shape is not None and len(scale.shape) > 1:
        x = call.node("Cast", [q], to=ONNX_TYPES["float32"])
        if zero_point is not None:
            x = call.node("Sub", [x, call.node("Cast", [zero_point], to=ONNX_TYPES["float32"])])
        return call.node("Mul", [x, scale])
    if scale.shape == ():
        return call.node("DequantizeLinear", [q, scale, zero_point])
    return call.node("DequantizeLinear", [q, scale, zero_point], axis=axis)


def spread(q: Array, scale: Array, zero_point: Array | None, axis: int) -> Array:
    """Return ``(q - zero_point) * scale`` in float32. A scale for each index of ``axis`` has one dimension."""
    result = q.astype(np.float32)
    if zero_point is not None and zero_point.any():
        result -= _along(zero_point, q.ndim, axis).astype(np.float32)
    result *= _along(scale, q.ndim, axis)
    return result


def _along(numbers: Array, rank: int, axis: int) -> Array:
    if numbers.size == 1:
        return numbers.reshape(())
    if numbers.ndim != 1:
        return numbers
    shape = [1] * rank
    shape[axis] = numbers.size
    return numbers.reshape(shape)


def blocked(q: Array, scale: Array, zero_point: Array | None, axis: int, block: int) -> Array:
    """Return ``(q - zero_point) * scale`` of blocks along ``axis``, the last of which may be shorter."""
    size = q.shape[axis]
    expected = list(q.shape)
    expected[axis] = math.ceil(size / block)
    for what, array in (("scale", scale), ("zero point", zero_point)):
        if array is not None and list(array.shape) != expected:
            raise ValueError(f"the {what} has shape {array.shape}; expected {tuple(expected)}")
    at = np.arange(size) // block
    result = q.astype(np.float32)
    if zero_point is not None and zero_point.any():
        result -= zero_point.astype(np.float32).take(at, axis)
    result *= scale.take(at, axis)
    return result


def number(call: Call, value: Value) -> Value:
    """Return a scale or zero-point without dimensions, if it has one element."""
    if value.array is not None and value.array.size == 1:
        return call.constant(value.array.reshape(())) if value.array.ndim else value
    if value.shape is not None and len(value.shape) > 0 and all(dim == 1 for dim in value.shape):
        return call.node("Reshape", [value, call.constant(np.array([], np.int64), "shape")])
    return value


def zero_of(call: Call, like: Value) -> Value:
    """Return the zero-point that is left out, of the type of some integers."""
    if like.dtype not in ("uint8", "int8"):
        raise Unsupported(f"{call.op} of {like.dtype or 'a dtype that is not known'}")
    return call.constant(np.zeros((), like.dtype), "zero_point")


def requantized(call: Call, y: Value, scale: Value, zero_point: Value) -> Result:
    """Emit the last node: the result as integers."""
    scale, zero_point = number(call, scale), number(call, zero_point)
    if scale.shape != ():
        raise Unsupported(f"{call.op} whose result has several scales")
    if zero_point.shape != ():
        raise Unsupported(f"{call.op} whose result has several zero points")
    return call.last("QuantizeLinear", [y, scale, zero_point])


def product_of_scales(call: Call, a: Value, b: Value, factor: float = 1.0) -> Value:
    """Return ``a * b * factor``: what integers of a bias are multiplied by."""
    if a.array is not None and b.array is not None:
        return call.constant((a.array * b.array * np.float32(factor)).astype(np.float32), "scale")
    y = call.node("Mul", [a, b])
    return y if factor == 1.0 else call.node("Mul", [y, call.constant(np.array(factor, np.float32))])
