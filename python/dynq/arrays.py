"""The functions on NumPy arrays. All of them follow docs/numerics.md."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .core import arguments as arguments
from .core.arguments import FLOAT32, GRANULARITIES, INT32, SCHEMES, TYPES, Array, Granularity, Scheme
from .core.call import NONFINITE as STATUS_NONFINITE
from .core.call import check, lib, untyped

__all__ = ["dequantize", "matmul", "minmax", "quantize"]

_empty = np.empty
_PER_ROW, _PER_TENSOR = GRANULARITIES["row"], GRANULARITIES["tensor"]
_dtypes = {dtype.name: dtype for dtype in TYPES}


def minmax(x: Any, granularity: Granularity = "row") -> tuple[Any, Any]:
    """Return the range of each block of ``x``, as quantization uses it: 0 is always inside.

    Args:
        x: float32 (..., K); float16 and bfloat16 are converted.
        granularity: ``"row"`` or ``"tensor"``.

    Returns:
        ``lo = min(0, min x)`` and ``hi = max(0, max x)``, float32 of shape x.shape[:-1], or scalars per tensor. They
        are NaN for a block that holds a NaN or an infinity.
    """
    x = _float_rows(x)
    mode = arguments.choice("granularity", granularity, GRANULARITIES)
    shape = x.shape[:-1] if mode == _PER_ROW else ()
    lo, hi = _empty(shape, FLOAT32), _empty(shape, FLOAT32)
    rows, m, stride = arguments.as_rows(x)
    status = lib.call_minmax(m, x.shape[-1], untyped(rows), stride, mode, untyped(lo), untyped(hi))
    if status != STATUS_NONFINITE:
        check(status)
    return (lo, hi) if shape else (lo[()], hi[()])


def quantize(
    x: Any, scheme: Scheme = "asymmetric", granularity: Granularity = "row", dtype: Any = "uint8"
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
    type_ = _dtypes.get(dtype) if type(dtype) is str else None
    if type_ is None:
        try:
            type_ = np.dtype(dtype)
        except TypeError:
            raise TypeError(f"dtype is {dtype!r}; expected uint8 or int8") from None
        if type_ not in TYPES:
            raise TypeError(f"dtype is {type_}; expected uint8 or int8")
    shape = x.shape[:-1] if mode == _PER_ROW else ()
    q, scale, zero_point = _empty(x.shape, type_), _empty(shape, FLOAT32), _empty(shape, type_)
    rows, m, stride = arguments.as_rows(x)
    check(
        lib.call_quantize(
            m, x.shape[-1], untyped(rows), stride, scheme_, mode, TYPES[type_], untyped(q), untyped(scale),
            untyped(zero_point),
        )
    )  # fmt: skip
    return (q, scale, zero_point) if shape else (q, scale[()], zero_point[()])


def dequantize(q: Any, scale: Any, zero_point: Any) -> Array:
    """Return ``float32(q - zero_point) * scale``.

    Args:
        q: uint8 or int8 (..., K).
        scale: float32, of shape q.shape[:-1] (or with a last dimension of 1), or one for all; finite and over 0.
        zero_point: integers in ``q``'s range, of either shape.

    Returns:
        float32 (..., K).
    """
    q = arguments.integers8("q", q)
    if q.ndim == 0:
        raise ValueError("q has no dimension; expected shape (..., K)")
    scales, scale_rows = arguments.per_block("scale", scale, q.shape[:-1], FLOAT32)
    zeros, zero_rows = arguments.per_block("zero_point", zero_point, q.shape[:-1], INT32)
    x = _empty(q.shape, FLOAT32)
    rows, m, stride = arguments.as_rows(q)
    if scale_rows != zero_rows:
        scales = np.ascontiguousarray(np.broadcast_to(scales.reshape(-1), (m,)))
        zeros = np.ascontiguousarray(np.broadcast_to(zeros.reshape(-1), (m,)))
    mode = _PER_ROW if scale_rows or zero_rows else _PER_TENSOR
    check(
        lib.call_dequantize(
            m, q.shape[-1], untyped(rows), stride, mode, TYPES[q.dtype], untyped(scales), untyped(zeros), untyped(x)
        )
    )
    return x


def matmul(a: Any, b: Any, *, scheme: Scheme = "asymmetric", granularity: Granularity = "row") -> Array:
    """Return ``a @ b``. Both are quantized on the fly: ``a`` like the input of linear, ``b`` symmetrically per column.

    Args:
        a: float32 (..., M, K) or (K,); float16 and bfloat16 are converted.
        b: float32 (..., K, N) or (K,). Leading dimensions broadcast as in numpy.matmul.
        scheme: how ``a`` is quantized, ``"asymmetric"`` or ``"symmetric"``.
        granularity: ``"row"``, one scale for each row of ``a``, or ``"tensor"``.

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
        batch = np.broadcast_shapes(a3.shape[:-2], b3.shape[:-2]) if a3.ndim + b3.ndim > 4 else ()
    except ValueError:
        raise ValueError(f"a has shape {a.shape} and b {b.shape}; their leading dimensions do not broadcast") from None
    a3, a_step = _batch(a3, batch)
    b3, b_step = _batch(b3, batch)
    y = _empty((*batch, m, n), FLOAT32)
    count = math.prod(batch)
    status = lib.call_matmul(count, m, n, k, untyped(a3), a_step, untyped(b3), b_step, scheme_, mode, untyped(y))
    if status != STATUS_NONFINITE:
        check(status)
    if drop_row:
        y = y[..., 0, :]
    if drop_column:
        y = y[..., 0]
    return y


def _batch(x: Array, batch: tuple[int, ...]) -> tuple[Array, int]:
    """Return ``x`` contiguous, and the number of elements from one matrix to the next. It is 0 if one serves the whole
    batch.
    """
    matrix = x.shape[-2] * x.shape[-1]
    if all(extent == 1 for extent in x.shape[:-2]):
        return arguments.contiguous(x), 0
    return arguments.contiguous(np.broadcast_to(x, (*batch, *x.shape[-2:]))), matrix


def _float_rows(x: Any) -> Array:
    rows = arguments.floats("x", x)
    if rows.ndim == 0:
        raise ValueError("x has no dimension; expected shape (..., K)")
    return rows
