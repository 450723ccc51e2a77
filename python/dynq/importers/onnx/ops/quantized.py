"""Models that are quantized already: their own numerics, bit for bit."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ...._arguments import Array
from ....graph import Value
from ....weights import QuantizedWeight
from ..attributes import INT, Rule, one_of, unused
from ..convert import Call, Result, converter
from .pointwise import passes

passes("DynamicQuantizeLinear", since=11)
passes("QuantizeLinear")
passes("QuantizeLinear", since=13, axis=INT)
passes("QuantizeLinear", since=19, axis=INT, saturate=unused())
passes(
    "QuantizeLinear", since=21,
    axis=INT, saturate=unused(), block_size=one_of(0), output_dtype=one_of(0, 2, 3),
    precision=Rule("int", (0, 1), keep=False),
)  # fmt: skip


@converter("DequantizeLinear", same=True)
@converter("DequantizeLinear", since=13, same=True, axis=INT)
@converter("DequantizeLinear", since=21, same=True, axis=INT, block_size=one_of(0), output_dtype=one_of(0, 1))
def dequantize_linear(call: Call) -> Result:
    """Of constant integers, a weight of a layer, it is one too: quantized anew it has the same integers."""
    q, scale, zero_point = (None if call.input(i) is None else call.need(i).array for i in range(3))
    if q is None or scale is None or q.dtype.name not in ("int8", "uint8") or scale.ndim > 1:
        return call.emit()
    if call.input(2) is not None and (zero_point is None or zero_point.shape != scale.shape):
        return call.emit()
    axis = call.attribute("axis", 1) if scale.size > 1 else 0
    if scale.size > 1 and not (-q.ndim <= axis < q.ndim and q.shape[axis] == scale.size):
        return call.emit()
    around = [1] * q.ndim
    if scale.size > 1:
        around[axis] = scale.size
    result = q.astype(np.float32)
    if zero_point is not None:
        result -= zero_point.astype(np.float32).reshape(around)
    result *= scale.reshape(around)
    return call.own_constant(result)


class PackedIntegers:
    """A constant int8 or uint8 matrix (K, N) without zero-points as packed weights, made when the file is written."""

    dtype: str | None = None

    def __init__(self, b: Array, scale: Array | None = None) -> None:
        self._b = b
        self._scale = np.ones((), np.float32) if scale is None else scale
        self.shape = (int(b.shape[1]), int(b.shape[0]))

    def pieces(self) -> Iterator[QuantizedWeight]:
        yield QuantizedWeight.from_integers(self._b.T, self._scale)

    def scaled(self, scale: Array) -> PackedIntegers:
        """The same integers with a scale, one or one for each channel."""
        return PackedIntegers(self._b, scale.reshape(-1) if scale.size > 1 else scale.reshape(()))


def packed(call: Call, b: Value, zero_point: Value | None) -> Value | None:
    """``b`` as packed weights, where it is a constant matrix with constant zero-points."""
    array = b.array
    if array is None or array.ndim != 2:
        return None
    zeros = np.zeros((), array.dtype) if zero_point is None else zero_point.array
    if zeros is None or zeros.dtype != array.dtype or zeros.size not in (1, array.shape[1]):
        return None
    if np.all(zeros == (128 if array.dtype == np.uint8 else 0)):
        return call.constant(PackedIntegers(array), "weight")
    zeros = zeros.reshape(-1) if zeros.size == array.shape[1] else zeros.reshape(())
    return call.constant(QuantizedWeight.from_integers(array.T, np.float32(1), zeros), "weight")


@converter("MatMulInteger")
def mat_mul_integer(call: Call) -> Result:
    weight = packed(call, call.need(1), call.input(3))
    if weight is None:
        return call.emit()
    return call.emit("dynq.MatMulIntegerPacked", [call.need(0), weight, call.input(2)])
