"""Fourier transforms of frames. A complex tensor has its real and its imaginary parts along one more axis, the last."""

from __future__ import annotations

import math

import numpy as np

from ....conversion import Unsupported
from ....graph import Value
from ...fourier import matrices
from ..convert import Call, Result, converter


@converter("RFFT2D")
def rfft_2d(call: Call) -> Result:
    """x (..., 1, W), sizes (1, n): the transform of each row, which is cut to n or filled up with zeros."""
    x, sizes = call.value(0), call.numbers(1, "sizes")
    shape = x.shape or ()
    if len(sizes) != 2 or min(sizes) < 1:
        raise ValueError(f"RFFT2D of sizes {sizes}")
    if sizes[0] != 1 or len(shape) < 2 or shape[-2] != 1 or not isinstance(shape[-1], int):
        raise Unsupported("RFFT2D of more than rows of a known size")
    n, width = sizes[1], shape[-1]
    cosines, sines = matrices(call.op, n, False, True)
    kept = min(n, width)
    if width > n:
        x = call.make("Slice", [x, np.array([0]), np.array([n]), np.array([-1])])
    rows = call.make("Reshape", [x, np.array([1, -1, kept])])
    parts = []
    for table in (cosines, sines):  # three dimensions: no weight of a linear layer, which would become int8
        product = call.make("MatMul", [rows, np.ascontiguousarray(table[:, :kept].T)[None]])
        parts.append(call.make("Unsqueeze", [product, np.array([-1])]))
    y = call.make("Concat", parts, axis=-1)
    leading = call.make("Slice", [call.make("Shape", [x]), np.array([0]), np.array([-1])])
    return call.node("Reshape", [y, call.make("Concat", [leading, np.array([len(cosines), 2])], axis=0)])


@converter("COMPLEX_ABS")
def complex_abs(call: Call) -> Result:
    return call.node("ReduceL2", [_parts(call), call.integers([-1])], keepdims=0)


@converter("REAL")
def real(call: Call) -> Result:
    return real_part(call)


def real_part(call: Call) -> Value:
    return _part(call, 0)


@converter("IMAG")
def imaginary(call: Call) -> Result:
    return _part(call, 1)


def _part(call: Call, index: int) -> Value:
    return call.node("Gather", [_parts(call), call.number(index, np.int64)], axis=-1)


def _parts(call: Call) -> Value:
    if not call.is_complex(0):
        raise ValueError(f"{call.op} of a tensor that is not complex")
    return call.value(0)


def reshaped(call: Call) -> Value:
    """Return a complex tensor in another shape."""
    sizes = call.numbers(1, "shape") if call.has(1) else call.option_list("NewShape") or []
    if math.prod(sizes) == 0:
        raise Unsupported("RESHAPE of a complex tensor without elements")
    return call.node("Reshape", [call.value(0), call.integers([*sizes, 2])])
