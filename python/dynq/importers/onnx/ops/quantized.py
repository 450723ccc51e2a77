"""Models that are quantized already: their own numerics, bit for bit."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ....conversion import Unsupported
from ....core.arguments import Array
from ....graph import Value
from ....weights import QuantizedWeight
from ..attributes import INT, Rule, one_of, unused
from ..convert import Call, Result, converter
from ..tensors import DTYPE_OF, type_name
from .pointwise import passes

passes("QuantizeLinear")
passes("QuantizeLinear", since=13, axis=INT)
passes("QuantizeLinear", since=19, axis=INT, saturate=unused())


@converter(
    "QuantizeLinear", since=21,
    axis=INT, saturate=unused(), block_size=one_of(0), output_dtype=one_of(0, 2, 3),
    precision=Rule("int", (0, 1), keep=False),
)  # fmt: skip
def quantize_linear(call: Call) -> Result:
    """Integers of fewer bits are read as int8 and uint8, but do not saturate as these do."""
    kind = call.onnx_type(2)
    if kind is not None and kind not in DTYPE_OF:
        raise Unsupported(f"QuantizeLinear to {type_name(kind)}")
    return call.emit()


@converter("DequantizeLinear")
@converter("DequantizeLinear", since=13, axis=INT)
def dequantize_linear(call: Call) -> Result:
    """Keep constant integers, such as a layer's weight, constant: quantized anew, they are the same integers."""
    q, scale, zero_point = (
        None if value is None else value.array for value in map(call.input, ("x", "x_scale", "x_zero_point"))
    )
    if q is None or scale is None or q.dtype.name not in ("int8", "uint8") or scale.ndim > 1:
        return call.emit()
    if call.input("x_zero_point") is not None and (zero_point is None or zero_point.shape != scale.shape):
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
    weight = packed(call, call.need("B"), call.input("b_zero_point"))
    if weight is None:
        return call.emit()
    return call.emit("dynq.MatMulIntegerPacked", [call.need("A"), weight, call.input("a_zero_point")])
