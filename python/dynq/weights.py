"""Packed int8 weights, and products with them. They follow docs/numerics.md."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from .core import arguments as arguments
from .core import container
from .core.arguments import (
    FLOAT32,
    GRANULARITIES,
    INT8,
    INT32,
    NONFINITE,
    SCHEMES,
    TYPES,
    UINT8,
    Activation,
    Array,
    Granularity,
    NonFinite,
    Scheme,
)
from .core.call import CANCELLED, NULL, OK, address, check, ffi, interruptible, lib, untyped
from .core.call import NONFINITE as STATUS_NONFINITE
from .errors import FileFormatError

__all__ = ["QuantizedWeight", "gemm_s32", "linear", "packed_arrays", "quantize_weight", "weight_of_arrays"]

_from_buffer = ffi.from_buffer
_call_linear = lib.call_linear
_call_linear_into = lib.call_linear_into
_empty = np.empty
_ndarray = np.ndarray
_ALIGNMENT = 64
_CHEAP_TO_COPY = 4096  # elements; C reads more of them by their strides
_UNUSUAL = -1
_NO_BIAS_YET = object()  # differs from every bias that a call can have


class QuantizedWeight:
    """A weight (N, K): int8 in panel layout, and one scale for each channel.

    If it was imported with zero-points, it has one for each channel too. It is immutable and safe to share between
    threads. It is made by quantize_weight, from_integers or load, and it pickles.
    """

    __slots__ = ("__weakref__", "_cache", "_handle", "_keep", "_shape")

    _shape: tuple[int, int]
    _handle: Any  # dynq_weight *
    _keep: tuple[Array, ...]  # arrays that the handle looks into
    # bias, activation, clamp, scheme, granularity, linear_call *, bias's buffer
    _cache: tuple[Any, Any, Any, Any, Any, Any, Any]

    def __init__(self) -> None:
        raise TypeError("use dynq.quantize_weight, QuantizedWeight.from_integers or QuantizedWeight.load")

    @classmethod
    def _wrap(cls, handle: Any, shape: tuple[int, int], keep: tuple[Array, ...] = ()) -> QuantizedWeight:
        self = object.__new__(cls)
        self._handle = ffi.gc(handle, lib.dynq_weight_free)
        self._shape = shape
        self._keep = keep
        self._cache = (_NO_BIAS_YET, None, None, None, None, None, None)
        return self

    @classmethod
    def from_integers(cls, w: Any, scale: Any, zero_point: Any = None) -> QuantizedWeight:
        """Return a weight that is quantized already: ``w = (integers - zero_point) * scale``.

        Args:
            w: int8 or uint8 (N, K), any strides.
            scale: float32 (N,), or one for all; finite and over 0.
            zero_point: integers in ``w``'s range, (N,) or one for all; None: 0 for int8, 128 for uint8.
        """
        w = arguments.integers8("w", w)
        n, k = _matrix_shape("w", w)
        scales = _per_channel("scale", scale, n, FLOAT32)
        zeros = None if zero_point is None else _per_channel("zero_point", zero_point, n, INT32)
        w, row_stride, column_stride = _strided(w)
        handle = ffi.new("dynq_weight **")
        status = interruptible(
            lib.dynq_weight_pack_s8, n, k, address(w), arguments.TYPES[w.dtype], row_stride, column_stride,
            address(scales), NULL if zeros is None else address(zeros), NULL, handle,
        )  # fmt: skip
        return cls._made(handle, (n, k), status)

    @classmethod
    def _made(cls, handle: Any, shape: tuple[int, int], status: int) -> QuantizedWeight:
        """Return what was packed, or raise; an interrupted call leaves a weight behind, which is freed."""
        if handle[0] == NULL:
            check(status)
        weight = cls._wrap(handle[0], shape)
        check(status)
        return weight

    def _info(self) -> Any:
        info = ffi.new("dynq_weight_info *")
        lib.dynq_weight_describe(self._handle, info)
        return info

    def _view(self, pointer: Any, count: int, dtype: np.dtype[Any]) -> Array:
        if count == 0:
            return np.empty(0, dtype)
        owner = _Memory(self, int(ffi.cast("uintptr_t", pointer)), count, dtype)
        return np.asarray(owner)

    def _linear_call(self, bias: Any, activation: Any, clamp: Any, scheme: Any, granularity: Any) -> Any:
        """Return a ``linear_call *`` for these arguments; ``_cache`` keeps that of the last ones.

        An error is raised if an argument is not just as C takes it. The caller then takes the path with all checks.
        """
        call = ffi.new("linear_call *")
        call.weight = self._handle
        call.scheme = arguments.SCHEMES[scheme]
        call.granularity = arguments.GRANULARITIES[granularity]
        call.epilogue.activation = arguments.ACTIVATIONS[activation]
        if clamp is not None:
            if type(clamp) is not tuple:
                raise ValueError("clamp can change; it needs a closer look")
            call.epilogue.min, call.epilogue.max = _clamp(clamp)
        buffer = None
        if bias is not None:
            if type(bias) is not np.ndarray or bias.dtype is not FLOAT32 or bias.shape != self._shape[:1]:
                raise ValueError("bias needs a closer look")
            buffer = ffi.from_buffer("float[]", bias)
            call.epilogue.bias = buffer
        self._cache = (bias, activation, clamp, scheme, granularity, call, buffer)
        return call

    @property
    def shape(self) -> tuple[int, int]:
        """The shape (N, K): output channels and inputs."""
        return self._shape

    @property
    def scale(self) -> Array:
        """The scales, float32 (N,), read-only."""
        return packed_arrays(self)[1][: self._shape[0]]

    @property
    def zero_point(self) -> Array | None:
        """The zero-points of the int8 integers, int32 (N,), read-only; None if all are 0."""
        zeros = packed_arrays(self)[3]
        return None if zeros is None else zeros[: self._shape[0]]

    @property
    def nbytes(self) -> int:
        """The bytes of the packed integers and of the arrays beside them."""
        return sum(a.nbytes for a in packed_arrays(self) if a is not None)

    def integers(self) -> Array:
        """Return the quantized values, int8 (N, K)."""
        w = np.empty(self._shape, INT8)
        check(interruptible(lib.dynq_weight_unpack_s8, self._handle, NULL, address(w), self._shape[1]))
        return w

    def dequantize(self) -> Array:
        """Return ``(integers - zero_point) * scale``, float32 (N, K)."""
        w = np.empty(self._shape, FLOAT32)
        check(interruptible(lib.dynq_weight_dequantize_f32, self._handle, NULL, address(w), self._shape[1]))
        return w

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write one safetensors file. It opens on any machine, whatever its instruction set."""
        data, scale, column_sum, zero_point = packed_arrays(self)
        tensors = {"data": data, "scale": scale, "column_sum": column_sum}
        if zero_point is not None:
            tensors["zero_point"] = zero_point
        container.write(path, tensors, {"dynq": "weight 1", "shape": f"{self._shape[0]} {self._shape[1]}"})

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> QuantizedWeight:
        """Return a weight that ``save`` wrote. The file is mapped, not copied, and must not change meanwhile.

        Raises:
            FileFormatError: the file is damaged, truncated or of a newer format.
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
            return weight_of_arrays((n, k), tensors["data"], tensors["scale"], tensors["column_sum"], zero_point)
        except (KeyError, ValueError, OverflowError) as error:
            raise FileFormatError(f"{os.fspath(path)}: not a dynq weight: {error}") from error

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (self._shape, *(None if a is None else np.array(a) for a in packed_arrays(self)))

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
    status = interruptible(lib.dynq_weight_pack_f32, n, k, address(w), row_stride, column_stride, NULL, handle)
    return QuantizedWeight._made(handle, (n, k), status)


def weight_of_arrays(
    shape: tuple[int, int], data: Array, scale: Array, column_sum: Array, zero_point: Array | None
) -> QuantizedWeight:
    """Return a view of what packed_arrays gave; ``data`` is copied only if it is not aligned to 64 bytes."""
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
    return QuantizedWeight._wrap(handle[0], shape, (data, *keep))


def weight_of_bytes(image: Array, n: int, k: int) -> QuantizedWeight:
    """Return a view of a weight (n, k) in one array of bytes: the panels, the scales, the column sums.

    Raises:
        ValueError: the array has another number of bytes.
    """
    rows, data = -(-n // 16) * 16, -(-n // 16) * 16 * (-(-k // 4) * 4)
    if image.dtype != UINT8 or image.shape != (data + 8 * rows,):
        raise ValueError(f"a weight ({n}, {k}) has {image.dtype} {image.shape}; expected uint8 ({data + 8 * rows},)")
    sums = data + 4 * rows
    return weight_of_arrays(
        (n, k), image[:data].view(INT8), image[data:sums].view(FLOAT32), image[sums:].view(INT32), None
    )


def packed_arrays(weight: QuantizedWeight) -> tuple[Array, Array, Array, Array | None]:
    """Return data int8, scale float32, column_sum and zero_point int32: read-only views of the weight's memory."""
    info = weight._info()
    padded = info.n_padded
    zeros = None if info.zero_point == NULL else weight._view(info.zero_point, padded, INT32)
    return (
        weight._view(info.data, info.data_bytes, INT8),
        weight._view(info.scale, padded, FLOAT32),
        weight._view(info.column_sum, padded, INT32),
        zeros,
    )


class _Memory:
    """The memory of a weight for NumPy, which keeps this object, and so the weight, alive."""

    def __init__(self, owner: QuantizedWeight, where: int, count: int, dtype: np.dtype[Any]) -> None:
        self.owner = owner
        self.__array_interface__ = {"version": 3, "shape": (count,), "typestr": dtype.str, "data": (where, True)}


def _restore(
    shape: tuple[int, int], data: Array, scale: Array, column_sum: Array, zero_point: Array | None
) -> QuantizedWeight:
    return weight_of_arrays(shape, data, scale, column_sum, zero_point)


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
    """Return ``w`` and its two strides in elements. It is copied only if they are negative, 0 or not whole elements."""
    size = w.dtype.itemsize
    if not w.flags.aligned or any(
        s <= 0 or s % size for s, extent in zip(w.strides, w.shape, strict=True) if extent > 1
    ):
        w = np.array(w, order="C")
    return w, max(w.strides[0] // size, 1), max(w.strides[1] // size, 1)


def _per_channel(name: str, value: Any, n: int, dtype: np.dtype[Any]) -> Array:
    result, rows = arguments.per_block(name, value, (n,), dtype)
    return result.reshape(-1) if rows else np.full(n, result.reshape(-1)[0], dtype)


# ---- Products with a weight


def gemm_s32(q: Any, zero_point: Any, qw: QuantizedWeight) -> Array:
    """Return the exact integer product: the sum over k of ``(q - zero_point) * (w - w_zero_point)``.

    Args:
        q: uint8 or int8 (..., K).
        zero_point: integers in ``q``'s range, of shape q.shape[:-1] (or with a last dimension of 1), or one for all.
        qw: weight (N, K).

    Returns:
        int32 (..., N).

    Raises:
        AccumulatorOverflowError: a sum does not fit into int32, which takes a K over 32 768.
    """
    qw = _weight(qw)
    q = arguments.integers8("q", q)
    n, k = qw.shape
    arguments.with_last("q", q, k, f"the weight is ({n}, {k})")
    zeros, zero_rows = arguments.per_block("zero_point", zero_point, q.shape[:-1], INT32)
    acc = np.empty((*q.shape[:-1], n), INT32)
    rows, m, stride = arguments.as_rows(q)
    mode = lib.DYNQ_PER_ROW if zero_rows else lib.DYNQ_PER_TENSOR
    check(lib.call_gemm_s32(qw._handle, m, untyped(rows), stride, TYPES[q.dtype], mode, untyped(zeros), untyped(acc)))
    return acc


def linear(
    x: Any,
    qw: QuantizedWeight,
    bias: Any = None,
    *,
    activation: Activation | None = None,
    residual: Any = None,
    clamp: tuple[float, float] | None = None,
    scheme: Scheme = "asymmetric",
    granularity: Granularity = "row",
    nonfinite: NonFinite = "propagate",
    out: Array | None = None,
) -> Array:
    """Return ``clamp(activation(x @ w.T + bias + residual))``; ``x`` is quantized to 8 bits on the fly.

    Args:
        x: float32 (..., K); float16 and bfloat16 are converted. Any strides.
        qw: weight (N, K) of quantize_weight.
        bias: float32 (N,).
        activation: None, ``"relu"``, ``"sigmoid"``, ``"tanh"``, ``"silu"``, ``"gelu"`` (erf), ``"gelu_tanh"``,
            ``"hard_swish"``, ``"mish"``.
        residual: float32 (..., N), added before the activation; may be ``out`` itself.
        clamp: (min, max) with min < max, after the activation: (0, 6) with relu is relu6.
        scheme: how ``x`` is quantized, ``"asymmetric"`` or ``"symmetric"``.
        granularity: with ``"row"``, each row has a scale of its own and its result does not depend on the others; with
            ``"tensor"``, there is one scale for all.
        nonfinite: what a NaN or an infinity in ``x`` does: ``"propagate"`` makes what depends on it NaN, ``"raise"``
            raises an error.
        out: float32 (..., N) to write to; overlaps no input.

    Returns:
        float32 (..., N); it is ``out`` if that is given.

    Raises:
        NonFiniteError: ``nonfinite="raise"`` and ``x`` holds a NaN or an infinity.
    """
    # Arguments just as C takes them, in as few steps as possible. Whatever is unusual, or wrong, goes through _linear.
    try:
        n, k = qw._shape
        values = x
        if type(x) is not _ndarray or x.dtype is not FLOAT32:
            values = arguments.floats("x", x)
        shape = values.shape
        if shape[-1] != k or k == 0 or nonfinite not in NONFINITE:
            raise ValueError("x needs a closer look")
        if not values.flags.c_contiguous and values.size <= _CHEAP_TO_COPY:
            values = values.copy()
        for_bias, for_activation, for_clamp, for_scheme, for_granularity, call, _ = qw._cache
        if not (
            for_bias is bias
            and for_activation is activation
            and for_clamp is clamp
            and for_scheme is scheme
            and for_granularity is granularity
        ):
            call = qw._linear_call(bias, activation, clamp, scheme, granularity)
        if len(shape) == 2:
            m = shape[0]
            shape = (m, n)
        else:
            m = values.size // k
            shape = (*shape[:-1], n)
        if residual is None and out is None:
            y = _empty(shape, FLOAT32)
            status = _call_linear(call, m, _from_buffer(values), _from_buffer(y))
        else:
            y = _empty(shape, FLOAT32) if out is None else _plain(out, shape)
            buffer = _from_buffer(y, require_writable=True)
            in_place = residual is out
            added = NULL if residual is None or in_place else _from_buffer(_plain(residual, shape))
            status = _call_linear_into(call, m, _from_buffer(values), added, in_place, buffer)
    except (AttributeError, ValueError, TypeError, KeyError, IndexError, BufferError):
        status = _UNUSUAL
    if status == OK or (status == STATUS_NONFINITE and nonfinite == "propagate"):
        return y
    if status in (STATUS_NONFINITE, CANCELLED):
        check(status)
    return _linear(x, qw, bias, activation, residual, clamp, scheme, granularity, nonfinite, out)


def _plain(value: Any, shape: tuple[int, ...]) -> Array:
    """Return ``value``, which has to be a float32 array of that shape."""
    if type(value) is not _ndarray or value.dtype is not FLOAT32 or value.shape != shape:
        raise ValueError("an array needs a closer look")
    return value


def _linear(
    x: Any,
    qw: QuantizedWeight,
    bias: Any,
    activation: Activation | None,
    residual: Any,
    clamp: tuple[float, float] | None,
    scheme: Scheme,
    granularity: Granularity,
    nonfinite: NonFinite,
    out: Array | None,
) -> Array:
    """Do what ``linear`` does, with every check."""
    qw = _weight(qw)
    n, k = qw.shape
    x = arguments.floats("x", x)
    arguments.with_last("x", x, k, f"the weight is ({n}, {k})")
    shape = (*x.shape[:-1], n)
    scheme_ = arguments.choice("scheme", scheme, SCHEMES)
    mode = arguments.choice("granularity", granularity, GRANULARITIES)
    raises = arguments.choice("nonfinite", nonfinite, NONFINITE)
    epilogue = ffi.new(
        "dynq_epilogue *", {"activation": arguments.choice("activation", activation, arguments.ACTIVATIONS)}
    )
    if clamp is not None:
        epilogue.min, epilogue.max = _clamp(clamp)
    keep = []
    if bias is not None:
        keep.append(arguments.vector("bias", bias, n))
        epilogue.bias = address(keep[-1])
    in_place = residual is not None and residual is out
    if residual is not None:
        residual = arguments.floats("residual", residual)
        if residual.shape != shape:
            raise ValueError(f"residual has shape {residual.shape}; expected {shape}")
        rows, _, epilogue.residual_stride = arguments.as_rows(residual)
        epilogue.residual = address(rows)
        keep.append(rows)
    if out is not None:
        arguments.output(out, shape, {"x": x, "bias": keep[0] if bias is not None else None,
                                      "residual": None if in_place else residual})  # fmt: skip
    y, y_stride = _writable_rows(out, shape)
    rows, m, stride = arguments.as_rows(x)
    status = interruptible(
        lib.dynq_linear_f32, qw._handle, m, address(rows), stride, scheme_, mode, epilogue, NULL, address(y), y_stride
    )
    if status != STATUS_NONFINITE or raises:
        check(status)
    if out is None:
        return y
    if y is not out:
        out[...] = y
    return out


def _weight(qw: Any) -> QuantizedWeight:
    if not isinstance(qw, QuantizedWeight):
        raise TypeError(f"qw is of type {type(qw).__name__}; expected QuantizedWeight (dynq.quantize_weight)")
    return qw


def _clamp(clamp: Any) -> tuple[float, float]:
    try:
        with np.errstate(over="ignore"):
            low, high = (float(FLOAT32.type(value)) for value in clamp)
    except (TypeError, ValueError, OverflowError):
        raise TypeError(f"clamp is {clamp!r}; expected two numbers (min, max)") from None
    if not low < high:
        raise ValueError(f"clamp is {clamp!r}; expected min < max as float32")
    return low, high


def _writable_rows(out: Array | None, shape: tuple[int, ...]) -> tuple[Array, int]:
    """Return an array to write to: ``out`` itself if its rows are contiguous, else a new one."""
    n = shape[-1]
    if out is None:
        return np.empty(shape, FLOAT32), n
    rows, _, stride = arguments.as_rows(out)
    return (out, stride) if np.may_share_memory(rows, out) or out.size == 0 else (np.empty(shape, FLOAT32), n)
