"""The constants of a model: their types, and their numbers, which are read when they are needed."""

from __future__ import annotations

import functools
import math

import numpy as np

from ...conversion import InvalidModelError, Unsupported
from ...core.arguments import FLOAT32, Array
from ...ir.deferred import QuantizedRows
from .source import Quantization, Tensor
from .sparse import expand

__all__ = ["FLOATS", "KINDS", "Constant", "dtype_of", "kind_name"]

# By TensorType's number: its name, the dtype of its bytes (None: two integers in a byte), the dtype that dynq computes
# with (None: constants alone may have it).
KINDS: dict[int, tuple[str, str | None, str | None]] = {
    0: ("FLOAT32", "<f4", "float32"),
    1: ("FLOAT16", "<f2", "float32"),
    2: ("INT32", "<i4", "int32"),
    3: ("UINT8", "u1", "uint8"),
    4: ("INT64", "<i8", "int64"),
    6: ("BOOL", "u1", "bool"),
    9: ("INT8", "i1", "int8"),
    10: ("FLOAT64", "<f8", "float32"),
    17: ("INT4", None, None),
}
FLOATS = (0, 1, 10)
_OTHERS = {
    5: "STRING", 7: "INT16", 8: "COMPLEX64", 11: "COMPLEX128", 12: "UINT64", 13: "RESOURCE", 14: "VARIANT",
    15: "UINT32", 16: "UINT16", 18: "BFLOAT16", 19: "INT2",
}  # fmt: skip
_LEAST_INT8 = -127  # -128 times an input's -128 would not be exact in every sum


def kind_name(kind: int) -> str:
    return KINDS[kind][0] if kind in KINDS else _OTHERS.get(kind, f"type {kind}")


def dtype_of(kind: int) -> str | None:
    """Return the dtype that values of a type have in dynq; None if it has none."""
    return KINDS[kind][2] if kind in KINDS else None


class Constant:
    """A constant tensor."""

    def __init__(self, tensor: Tensor) -> None:
        self._tensor = tensor
        self.shape = tensor.shape
        self.quantization: Quantization | None = tensor.quantization
        self.kind = tensor.kind

    @property
    def is_quantized(self) -> bool:
        """Return whether it is integers that stand for other numbers."""
        return self.quantization is not None and self.kind not in FLOATS

    @functools.cached_property
    def integers(self) -> Array:
        """The elements as they are stored."""
        tensor = self._tensor
        if tensor.kind not in KINDS:
            raise Unsupported(f"dtype {kind_name(tensor.kind)} of a constant")
        name, dtype, _ = KINDS[tensor.kind]
        data = np.empty(0, np.uint8) if tensor.data is None else tensor.data
        stored = None if tensor.sparsity is not None else tensor.count
        needed = math.ceil(
            data.size if stored is None else stored * (0.5 if dtype is None else np.dtype(dtype).itemsize)
        )
        if data.size != needed:
            raise InvalidModelError(
                f"constant {tensor.name!r} ({name}) has {data.size} bytes; its shape {tensor.shape} takes {needed}"
            )
        if dtype is None:
            array: Array = np.stack([data & 15, data >> 4], -1).reshape(-1)[:stored].astype(np.int8)
            array = (array ^ 8) - np.int8(8)
        else:
            if data.size % np.dtype(dtype).itemsize:
                raise InvalidModelError(f"constant {tensor.name!r} ({name}) has {data.size} bytes")
            array = np.require(data.view(dtype), requirements="A")
        if tensor.kind == 6:
            array = array != 0
        if tensor.sparsity is None:
            return array.reshape(tensor.shape)
        try:
            return expand(tensor.sparsity, tensor.shape, array)
        except (IndexError, ValueError) as error:
            raise InvalidModelError(f"constant {tensor.name!r} is damaged: {error}") from error

    @functools.cached_property
    def array(self) -> Array:
        """The numbers that it stands for, in a dtype of dynq; read-only."""
        array = self.integers
        if self.is_quantized:
            array = self._dequantized(array)
        elif self.kind in FLOATS:
            with np.errstate(over="ignore"):
                wide, array = array, np.asarray(array, FLOAT32)
            if not np.array_equal(np.isfinite(wide), np.isfinite(array)):
                raise InvalidModelError(f"constant {self._tensor.name!r} has numbers that are beyond float32")
        array = array.view()
        array.flags.writeable = False
        return array

    def _dequantized(self, array: Array) -> Array:
        assert self.quantization is not None
        scale, zero_point, axis = self.quantization.scale, self.quantization.zero_point, self.quantization.axis
        if scale.size > 1:
            shape = [-1 if i == axis else 1 for i in range(array.ndim)]
            scale, zero_point = scale.reshape(shape), zero_point.reshape(shape)
        result: Array = (array.astype(FLOAT32) - zero_point.astype(FLOAT32)) * scale
        return result.reshape(array.shape)

    def rows(self) -> QuantizedRows | None:
        """Return int8 weights whose first axis has the channels; None if dynq cannot take their numbers as they are."""
        if not self.is_quantized or self.kind not in (9, 17) or len(self.shape) < 2:
            return None
        quantization = self.quantization
        assert quantization is not None
        if quantization.zero_point.any() or (quantization.scale.size > 1 and quantization.axis != 0):
            return None
        if (quantization.scale <= 0).any() or (self.integers < _LEAST_INT8).any():
            return None
        scale = np.ascontiguousarray(np.broadcast_to(quantization.scale, self.shape[:1]), FLOAT32)
        return QuantizedRows(self.integers, scale)
