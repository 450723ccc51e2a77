"""Packed int8 weights."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from . import _arguments as arguments
from . import container
from ._arguments import FLOAT32, INT8, INT32, UINT8, Array
from ._call import NULL, address, check, ffi, lib
from .errors import FileFormatError

__all__ = ["QuantizedWeight", "quantize_weight"]

_ALIGNMENT = 64
_NO_BIAS_YET = object()  # is no bias that a call can have


class QuantizedWeight:
    """A weight (N, K): int8 in panel layout, one scale and, where imported with them, one zero-point per channel.

    Immutable and safe to share between threads. Made by quantize_weight, from_integers or load; pickles.
    """

    __slots__ = ("__weakref__", "_cache", "_handle", "_keep", "_shape")

    _shape: tuple[int, int]
    _handle: Any  # dynq_weight *
    _keep: tuple[Array, ...]  # arrays that the handle looks into
    _cache: tuple[Any, Any, Any, Any, Any, Any]  # bias, activation, scheme, granularity, linear_call *, bias's buffer

    def __init__(self) -> None:
        raise TypeError("use dynq.quantize_weight, QuantizedWeight.from_integers or QuantizedWeight.load")

    @classmethod
    def _wrap(cls, handle: Any, shape: tuple[int, int], keep: tuple[Array, ...] = ()) -> QuantizedWeight:
        self = object.__new__(cls)
        self._handle = ffi.gc(handle, lib.dynq_weight_free)
        self._shape = shape
        self._keep = keep
        self._cache = (_NO_BIAS_YET, None, None, None, None, None)
        return self

    @classmethod
    def from_integers(cls, w: Any, scale: Any, zero_point: Any = None) -> QuantizedWeight:
        """A weight that is quantized already: ``w = (integers - zero_point) * scale``.

        Args:
            w: int8 or uint8 (N, K), any strides.
            scale: float32 (N,), or one for all; finite and over 0.
            zero_point: integers of ``w``'s range, (N,) or one for all; None: 0 for int8, 128 for uint8.
        """
        w = arguments.integers8("w", w)
        n, k = _matrix_shape("w", w)
        scales = _per_channel("scale", scale, n, FLOAT32)
        zeros = None if zero_point is None else _per_channel("zero_point", zero_point, n, INT32)
        w, row_stride, column_stride = _strided(w)
        handle = ffi.new("dynq_weight **")
        check(
            lib.dynq_weight_pack_s8(
                n, k, address(w), arguments.TYPES[w.dtype], row_stride, column_stride, address(scales),
                NULL if zeros is None else address(zeros), NULL, handle,
            )
        )  # fmt: skip
        return cls._wrap(handle[0], (n, k))

    @classmethod
    def _from_arrays(
        cls, shape: tuple[int, int], data: Array, scale: Array, column_sum: Array, zero_point: Array | None
    ) -> QuantizedWeight:
        """A view of what ``_arrays`` gave; ``data`` is copied only where it is not aligned to 64 bytes."""
        if data.ctypes.data % _ALIGNMENT:
            data = _aligned_copy(data)
        keep = tuple(arguments.contiguous(a) for a in (scale, column_sum))
        keep += () if zero_point is None else (arguments.contiguous(zero_point),)
        info = ffi.new(
            "dynq_weight_info *",
            {
                "n": shape[0], "k": shape[1], "n_padded": scale.size, "data_bytes": data.size, "data": address(data),
                "scale": address(keep[0]), "column_sum": address(keep[1]),
                "zero_point": NULL if zero_point is None else address(keep[2]),
            },
        )  # fmt: skip
        if any(a.size != scale.size for a in keep):
            raise ValueError(f"the arrays of a weight have lengths {[a.size for a in keep]}; expected equal ones")
        handle = ffi.new("dynq_weight **")
        check(lib.dynq_weight_view(info, handle))
        return cls._wrap(handle[0], shape, (data, *keep))

    def _arrays(self) -> tuple[Array, Array, Array, Array | None]:
        """data int8, scale float32, column_sum and zero_point int32: read-only views of this weight's memory."""
        info = self._info()
        padded = info.n_padded
        zeros = None if info.zero_point == NULL else self._view(info.zero_point, padded, INT32)
        return (
            self._view(info.data, info.data_bytes, INT8),
            self._view(info.scale, padded, FLOAT32),
            self._view(info.column_sum, padded, INT32),
            zeros,
        )

    def _info(self) -> Any:
        info = ffi.new("dynq_weight_info *")
        lib.dynq_weight_describe(self._handle, info)
        return info

    def _view(self, pointer: Any, count: int, dtype: np.dtype[Any]) -> Array:
        if count == 0:
            return np.empty(0, dtype)
        owner = _Memory(self, int(ffi.cast("uintptr_t", pointer)), count, dtype)
        return np.asarray(owner)

    def _linear_call(self, bias: Any, activation: Any, scheme: Any, granularity: Any) -> Any:
        """``linear_call *`` for these arguments; linear keeps that of the last ones in ``_cache``.

        Raises where one is not just as C takes it; the caller then goes the long way.
        """
        call = ffi.new("linear_call *")
        call.weight = self._handle
        call.scheme = arguments.SCHEMES[scheme]
        call.granularity = arguments.GRANULARITIES[granularity]
        call.epilogue.activation = arguments.ACTIVATIONS[activation]
        buffer = None
        if bias is not None:
            if type(bias) is not np.ndarray or bias.dtype is not FLOAT32 or bias.shape != self._shape[:1]:
                raise ValueError("bias needs a closer look")
            buffer = ffi.from_buffer("float[]", bias)
            call.epilogue.bias = buffer
        self._cache = (bias, activation, scheme, granularity, call, buffer)
        return call

    @property
    def shape(self) -> tuple[int, int]:
        """(N, K): output channels and inputs."""
        return self._shape

    @property
    def scale(self) -> Array:
        """float32 (N,), read-only."""
        return self._arrays()[1][: self._shape[0]]

    @property
    def zero_point(self) -> Array | None:
        """int32 (N,) for the int8 integers, read-only; None where all are 0."""
        zeros = self._arrays()[3]
        return None if zeros is None else zeros[: self._shape[0]]

    @property
    def nbytes(self) -> int:
        """Bytes of the packed integers and of the arrays beside them."""
        return sum(a.nbytes for a in self._arrays() if a is not None)

    def integers(self) -> Array:
        """The quantized values, int8 (N, K)."""
        w = np.empty(self._shape, INT8)
        check(lib.dynq_weight_unpack_s8(self._handle, NULL, address(w), self._shape[1]))
        return w

    def dequantize(self) -> Array:
        """``(integers - zero_point) * scale``, float32 (N, K)."""
        w = np.empty(self._shape, FLOAT32)
        check(lib.dynq_weight_dequantize_f32(self._handle, NULL, address(w), self._shape[1]))
        return w

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write one safetensors file. It opens on any machine, whatever its instruction set."""
        data, scale, column_sum, zero_point = self._arrays()
        tensors = {"data": data, "scale": scale, "column_sum": column_sum}
        if zero_point is not None:
            tensors["zero_point"] = zero_point
        container.write(path, tensors, {"dynq": "weight 1", "shape": f"{self._shape[0]} {self._shape[1]}"})

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> QuantizedWeight:
        """A weight that ``save`` wrote. The file is mapped, not copied, and must stay as it is meanwhile.

        Raises FileFormatError where the file is damaged, truncated or of a newer format.
        """
        tensors, notes = container.read(path)
        try:
            if notes["dynq"] != "weight 1":
                raise FileFormatError(f"{os.fspath(path)}: holds {notes['dynq']!r}; expected 'weight 1'")
            n, k = (int(number) for number in notes["shape"].split())
            for name, dtype in (("data", INT8), ("scale", FLOAT32), ("column_sum", INT32)):
                if tensors[name].dtype != dtype or tensors[name].ndim != 1:
                    raise ValueError(f"{name} is {tensors[name].dtype} {tensors[name].shape}")
            zero_point = tensors.get("zero_point")
            if zero_point is not None and (zero_point.dtype != INT32 or zero_point.ndim != 1):
                raise ValueError(f"zero_point is {zero_point.dtype} {zero_point.shape}")
            if n < 0 or k < 0:
                raise ValueError(f"shape is ({n}, {k})")
            return cls._from_arrays((n, k), tensors["data"], tensors["scale"], tensors["column_sum"], zero_point)
        except (KeyError, ValueError, OverflowError) as error:
            raise FileFormatError(f"{os.fspath(path)}: not a dynq weight: {error}") from error

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (self._shape, *(None if a is None else np.array(a) for a in self._arrays()))

    def __repr__(self) -> str:
        zeros = "" if self.zero_point is None else ", zero-points"
        return f"QuantizedWeight(shape={self._shape}, {self.nbytes} bytes{zeros})"


def quantize_weight(w: Any) -> QuantizedWeight:
    """Quantize a float weight to int8, symmetric per output channel, and pack it.

    ``scale[n] = max|w[n]| / 127``, ``q = clamp(rint(w / scale), -127, 127)``; the range -127..127 makes every later
    sum exact.

    Args:
        w: float32 (N, K), as torch.nn.Linear keeps it; float16 and bfloat16 are converted. Any strides: pass
            ``w.T`` of a (K, N) matrix.

    Raises:
        NonFiniteError: ``w`` holds a NaN or an infinity.
    """
    w = arguments.floats("w", w)
    n, k = _matrix_shape("w", w)
    w, row_stride, column_stride = _strided(w)
    handle = ffi.new("dynq_weight **")
    check(lib.dynq_weight_pack_f32(n, k, address(w), row_stride, column_stride, NULL, handle))
    return QuantizedWeight._wrap(handle[0], (n, k))


class _Memory:
    """Memory of a weight for NumPy, which keeps this object, and so the weight, alive."""

    def __init__(self, owner: QuantizedWeight, where: int, count: int, dtype: np.dtype[Any]) -> None:
        self.owner = owner
        self.__array_interface__ = {"version": 3, "shape": (count,), "typestr": dtype.str, "data": (where, True)}


def _restore(
    shape: tuple[int, int], data: Array, scale: Array, column_sum: Array, zero_point: Array | None
) -> QuantizedWeight:
    return QuantizedWeight._from_arrays(shape, data, scale, column_sum, zero_point)


def _aligned_copy(data: Array) -> Array:
    memory = np.empty(data.size + _ALIGNMENT, UINT8)
    start = -memory.ctypes.data % _ALIGNMENT
    copy = memory[start : start + data.size].view(INT8)
    copy[...] = data
    return copy


def _matrix_shape(name: str, w: Array) -> tuple[int, int]:
    if w.ndim != 2:
        raise ValueError(f"{name} has shape {w.shape}; expected (N, K)")
    return int(w.shape[0]), int(w.shape[1])


def _strided(w: Array) -> tuple[Array, int, int]:
    """``w`` and its two strides in elements; copied only where they are negative, 0 or not whole elements."""
    size = w.dtype.itemsize
    if not w.flags.aligned or any(
        s <= 0 or s % size for s, extent in zip(w.strides, w.shape, strict=True) if extent > 1
    ):
        w = np.array(w, order="C")
    return w, max(w.strides[0] // size, 1), max(w.strides[1] // size, 1)


def _per_channel(name: str, value: Any, n: int, dtype: np.dtype[Any]) -> Array:
    result, rows = arguments.per_block(name, value, (n,), dtype)
    return result.reshape(-1) if rows else np.full(n, result.reshape(-1)[0], dtype)
