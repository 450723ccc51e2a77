"""The functions on NumPy arrays. docs/numerics.md is the rule that all of them follow."""

from __future__ import annotations

from typing import Any

import numpy as np

from . import _arguments as arguments
from ._arguments import FLOAT32, GRANULARITIES, INT32, NONFINITE, SCHEMES, TYPES, Array
from ._call import NONFINITE as STATUS_NONFINITE
from ._call import NULL, OK, address, check, ffi, lib
from .weights import QuantizedWeight

__all__ = ["dequantize", "gemm_s32", "linear", "matmul", "minmax", "quantize"]

_from_buffer = ffi.from_buffer
_call_linear = lib.call_linear
_empty = np.empty
_ndarray = np.ndarray


def minmax(x: Any, granularity: str = "row") -> tuple[Any, Any]:
    """Range of each block of ``x``, as quantization uses it: 0 is always inside.

    Args:
        x: float32 (..., K); float16 and bfloat16 are converted.
        granularity: ``"row"`` or ``"tensor"``.

    Returns:
        ``lo = min(0, min x)`` and ``hi = max(0, max x)``, float32 of shape x.shape[:-1], or scalars per tensor.
        NaN for a block that holds a NaN or an infinity.
    """
    x = _float_rows(x)
    mode = arguments.choice("granularity", granularity, GRANULARITIES)
    shape = x.shape[:-1] if mode == lib.DYNQ_PER_ROW else ()
    lo, hi = np.empty(shape, FLOAT32), np.empty(shape, FLOAT32)
    rows, m, stride = arguments.as_rows(x)
    status = lib.dynq_minmax_f32(m, x.shape[-1], address(rows), stride, mode, NULL, address(lo), address(hi))
    if status != STATUS_NONFINITE:
        check(status)
    return lo[()], hi[()]


def quantize(
    x: Any, scheme: str = "asymmetric", granularity: str = "row", dtype: Any = "uint8"
) -> tuple[Array, Any, Any]:
    """Quantize ``x`` with scales and zero-points from its own values.

    ``scale = (hi - lo) / 255``, ``zero_point = rint(-lo / scale)``, ``q = clamp(rint(x / scale) + zero_point)``:
    ONNX DynamicQuantizeLinear-11, for each block. ``scheme="symmetric"``: ``scale = max|x| / 127``.

    Args:
        x: float32 (..., K); float16 and bfloat16 are converted.
        scheme: ``"asymmetric"`` or ``"symmetric"``.
        granularity: ``"row"``, one scale for each row, or ``"tensor"``.
        dtype: ``"uint8"`` or ``"int8"``; the int8 numbers are the uint8 ones minus 128.

    Returns:
        ``q`` (..., K) of ``dtype``; ``scale`` float32 and ``zero_point`` of ``dtype``, both of shape x.shape[:-1],
        or scalars per tensor.

    Raises:
        NonFiniteError: ``x`` holds a NaN or an infinity.
    """
    x = _float_rows(x)
    scheme_ = arguments.choice("scheme", scheme, SCHEMES)
    mode = arguments.choice("granularity", granularity, GRANULARITIES)
    try:
        type_ = np.dtype(dtype)
    except TypeError:
        raise TypeError(f"dtype is {dtype!r}; expected uint8 or int8") from None
    if type_ not in TYPES:
        raise TypeError(f"dtype is {type_}; expected uint8 or int8")
    shape = x.shape[:-1] if mode == lib.DYNQ_PER_ROW else ()
    q, scale, zero_point = np.empty(x.shape, type_), np.empty(shape, FLOAT32), np.empty(shape, INT32)
    rows, m, stride = arguments.as_rows(x)
    k = x.shape[-1]
    check(
        lib.dynq_quantize_dynamic_f32(
            m, k, address(rows), stride, scheme_, mode, TYPES[type_], NULL, address(q), k, address(scale),
            address(zero_point),
        )
    )  # fmt: skip
    return q, scale[()], zero_point.astype(type_)[()]


def dequantize(q: Any, scale: Any, zero_point: Any) -> Array:
    """``float32(q - zero_point) * scale``.

    Args:
        q: uint8 or int8 (..., K).
        scale: float32, of shape q.shape[:-1] (or with a last dimension of 1), or one for all; finite and over 0.
        zero_point: integers of ``q``'s range, of either shape.

    Returns:
        float32 (..., K).
    """
    q = arguments.integers8("q", q)
    if q.ndim == 0:
        raise ValueError("q has no dimension; expected shape (..., K)")
    scales, scale_rows = arguments.per_block("scale", scale, q.shape[:-1], FLOAT32)
    zeros, zero_rows = arguments.per_block("zero_point", zero_point, q.shape[:-1], INT32)
    x = np.empty(q.shape, FLOAT32)
    rows, m, stride = arguments.as_rows(q)
    if scale_rows != zero_rows:
        scales = np.ascontiguousarray(np.broadcast_to(scales.reshape(-1), (m,)))
        zeros = np.ascontiguousarray(np.broadcast_to(zeros.reshape(-1), (m,)))
    mode = lib.DYNQ_PER_ROW if scale_rows or zero_rows else lib.DYNQ_PER_TENSOR
    k = q.shape[-1]
    check(
        lib.dynq_dequantize_f32(
            m, k, address(rows), stride, mode, TYPES[q.dtype], address(scales), address(zeros), NULL, address(x), k
        )
    )
    return x


def gemm_s32(q: Any, zero_point: Any, qw: QuantizedWeight) -> Array:
    """Exact integer product: sum over k of ``(q - zero_point) * (w - w_zero_point)``.

    Args:
        q: uint8 or int8 (..., K).
        zero_point: integers of ``q``'s range, of shape q.shape[:-1] (or with a last dimension of 1), or one for all.
        qw: weight (N, K).

    Returns:
        int32 (..., N).

    Raises:
        AccumulatorOverflowError: a sum does not fit; that takes a K over 32 768.
    """
    qw = _weight(qw)
    q = arguments.integers8("q", q)
    n, k = qw.shape
    arguments.with_last("q", q, k, f"the weight is ({n}, {k})")
    zeros, zero_rows = arguments.per_block("zero_point", zero_point, q.shape[:-1], INT32)
    acc = np.empty((*q.shape[:-1], n), INT32)
    rows, m, stride = arguments.as_rows(q)
    mode = lib.DYNQ_PER_ROW if zero_rows else lib.DYNQ_PER_TENSOR
    check(
        lib.dynq_gemm_s32(
            qw._handle, m, address(rows), stride, TYPES[q.dtype], mode, address(zeros), NULL, address(acc), n
        )
    )
    return acc


def linear(
    x: Any,
    qw: QuantizedWeight,
    bias: Any = None,
    *,
    activation: str | None = None,
    residual: Any = None,
    clamp: tuple[float, float] | None = None,
    scheme: str = "asymmetric",
    granularity: str = "row",
    nonfinite: str = "propagate",
    out: Array | None = None,
) -> Array:
    """``clamp(activation(x @ w.T + bias + residual))`` with ``x`` quantized to 8 bits as it comes.

    Args:
        x: float32 (..., K); float16 and bfloat16 are converted. Any strides.
        qw: weight (N, K) of quantize_weight.
        bias: float32 (N,).
        activation: None, ``"relu"``, ``"sigmoid"``, ``"tanh"``, ``"silu"``, ``"gelu"`` (erf), ``"gelu_tanh"``.
        residual: float32 (..., N), added before the activation; may be ``out`` itself.
        clamp: (min, max) with min < max, after the activation: (0, 6) with relu is relu6.
        scheme: how ``x`` is quantized, ``"asymmetric"`` or ``"symmetric"``.
        granularity: ``"row"``: each row has a scale of its own and its result does not depend on the others;
            ``"tensor"``: one scale for all.
        nonfinite: a NaN or an infinity in ``x``: ``"propagate"`` makes what depends on it NaN, ``"raise"`` raises.
        out: float32 (..., N) to write to; overlaps no input.

    Returns:
        float32 (..., N); ``out`` where given.

    Raises:
        NonFiniteError: ``nonfinite="raise"`` and ``x`` holds a NaN or an infinity.
    """
    # The usual call, in as few steps as it takes. Whatever is unusual, wrong things too, goes the long way.
    if (
        type(x) is _ndarray
        and x.dtype is FLOAT32
        and type(qw) is QuantizedWeight
        and residual is None
        and clamp is None
        and out is None
        and nonfinite == "propagate"
    ):
        shape = x.shape
        n, k = qw._shape
        try:
            if shape[-1] == k != 0:
                for_bias, for_activation, for_scheme, for_granularity, call, _ = qw._cache
                if not (
                    for_bias is bias
                    and for_activation is activation
                    and for_scheme is scheme
                    and for_granularity is granularity
                ):
                    call = qw._linear_call(bias, activation, scheme, granularity)
                if len(shape) == 2:
                    m = shape[0]
                    y = _empty((m, n), FLOAT32)
                else:
                    m = x.size // k
                    y = _empty((*shape[:-1], n), FLOAT32)
                status = _call_linear(call, m, _from_buffer(x), _from_buffer(y))
                if status in (OK, STATUS_NONFINITE):
                    return y
        except (ValueError, TypeError, KeyError, IndexError, BufferError):
            pass
    return _linear(x, qw, bias, activation, residual, clamp, scheme, granularity, nonfinite, out)


def _linear(
    x: Any,
    qw: QuantizedWeight,
    bias: Any,
    activation: str | None,
    residual: Any,
    clamp: tuple[float, float] | None,
    scheme: str,
    granularity: str,
    nonfinite: str,
    out: Array | None,
) -> Array:
    """``linear`` with every check."""
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
    status = lib.dynq_linear_f32(
        qw._handle, m, address(rows), stride, scheme_, mode, epilogue, NULL, address(y), y_stride
    )
    if status != STATUS_NONFINITE or raises:
        check(status)
    if out is None:
        return y
    if y is not out:
        out[...] = y
    return out


def matmul(a: Any, b: Any, *, scheme: str = "asymmetric", granularity: str = "row") -> Array:
    """``a @ b`` with both sides quantized as they come: ``a`` as linear's input, ``b`` symmetric per column.

    Args:
        a: float32 (..., M, K) or (K,); float16 and bfloat16 are converted.
        b: float32 (..., K, N) or (K,). Leading dimensions broadcast as in numpy.matmul.
        scheme: how ``a`` is quantized.
        granularity: of ``a``.

    Returns:
        float32 (..., M, N), without the dimensions that a vector lacks. What depends on a NaN or an infinity is NaN.
    """
    a, b = arguments.floats("a", a), arguments.floats("b", b)
    scheme_ = arguments.choice("scheme", scheme, SCHEMES)
    mode = arguments.choice("granularity", granularity, GRANULARITIES)
    for name, value in (("a", a), ("b", b)):
        if value.ndim == 0:
            raise ValueError(f"{name} has no dimension; expected a vector, a matrix or a batch of matrices")
    drop_row, drop_column = a.ndim == 1, b.ndim == 1
    a3 = a[None, :] if drop_row else a
    b3 = b[:, None] if drop_column else b
    (m, k), (k_b, n) = a3.shape[-2:], b3.shape[-2:]
    if k != k_b:
        raise ValueError(f"a has shape {a.shape} and b {b.shape}; a's last dimension and b's last but one differ")
    try:
        batch = np.broadcast_shapes(a3.shape[:-2], b3.shape[:-2])
    except ValueError:
        raise ValueError(f"a has shape {a.shape} and b {b.shape}; their leading dimensions do not broadcast") from None
    a3, a_step = _batch(a3, batch)
    b3, b_step = _batch(b3, batch)
    y = np.empty((*batch, m, n), FLOAT32)
    count = int(np.prod(batch, dtype=np.intp))
    status = lib.dynq_matmul_f32(
        count, m, n, k, address(a3), a_step, k, address(b3), b_step, n, 1, scheme_, mode, NULL, address(y), m * n, n
    )
    if status != STATUS_NONFINITE:
        check(status)
    if drop_row:
        y = y[..., 0, :]
    if drop_column:
        y = y[..., 0]
    return y


def _batch(x: Array, batch: tuple[int, ...]) -> tuple[Array, int]:
    """``x`` contiguous, and the elements from one matrix to the next; 0 where one serves the whole batch."""
    matrix = x.shape[-2] * x.shape[-1]
    if all(extent == 1 for extent in x.shape[:-2]):
        return arguments.contiguous(x), 0
    return arguments.contiguous(np.broadcast_to(x, (*batch, *x.shape[-2:]))), matrix


def _float_rows(x: Any) -> Array:
    rows = arguments.floats("x", x)
    if rows.ndim == 0:
        raise ValueError("x has no dimension; expected shape (..., K)")
    return rows


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
    """Where to write: ``out`` itself where its rows are contiguous, else an array of its own."""
    n = shape[-1]
    if out is None:
        return np.empty(shape, FLOAT32), n
    rows, _, stride = arguments.as_rows(out)
    return (out, stride) if np.may_share_memory(rows, out) or out.size == 0 else (np.empty(shape, FLOAT32), n)
