"""Checks of what a user passed: errors name the argument, what came and what was expected."""

from __future__ import annotations

from typing import Any

import numpy as np

from ._call import lib

Array = np.ndarray[Any, Any]

FLOAT32 = np.dtype(np.float32)
INT32 = np.dtype(np.int32)
UINT8 = np.dtype(np.uint8)
INT8 = np.dtype(np.int8)

DTYPE_NUMBERS: dict[str, int] = {
    "float32": lib.DYNQ_FLOAT32,
    "int64": lib.DYNQ_INT64,
    "int32": lib.DYNQ_INT32,
    "bool": lib.DYNQ_BOOL,
    "uint8": lib.DYNQ_UINT8,
    "int8": lib.DYNQ_INT8,
}
SCHEMES: dict[str, int] = {"asymmetric": lib.DYNQ_ASYMMETRIC, "symmetric": lib.DYNQ_SYMMETRIC}
GRANULARITIES: dict[str, int] = {"row": lib.DYNQ_PER_ROW, "tensor": lib.DYNQ_PER_TENSOR}
TYPES: dict[np.dtype[Any], int] = {UINT8: lib.DYNQ_U8, INT8: lib.DYNQ_S8}
NONFINITE: dict[str, bool] = {"propagate": False, "raise": True}
ACTIVATIONS: dict[str | None, int] = {
    None: lib.DYNQ_ACTIVATION_NONE,
    "relu": lib.DYNQ_ACTIVATION_RELU,
    "sigmoid": lib.DYNQ_ACTIVATION_SIGMOID,
    "tanh": lib.DYNQ_ACTIVATION_TANH,
    "silu": lib.DYNQ_ACTIVATION_SILU,
    "gelu": lib.DYNQ_ACTIVATION_GELU,
    "gelu_tanh": lib.DYNQ_ACTIVATION_GELU_TANH,
}


def choice(name: str, value: object, choices: dict[Any, Any]) -> Any:
    """``choices[value]``."""
    if value is not None and not isinstance(value, str):
        raise TypeError(f"{name} is of type {type(value).__name__}; expected str")
    if value not in choices:
        expected = ", ".join(repr(c) for c in choices)
        raise ValueError(f"{name} is {value!r}; expected one of {expected}")
    return choices[value]


def contiguous(x: Array, dtype: np.dtype[Any] | None = None) -> Array:
    """``x`` in C order and aligned, of ``dtype`` where given; a copy only where it is not so."""
    return np.require(x, dtype, ["C_CONTIGUOUS", "ALIGNED"])


def array(name: str, value: object) -> Array:
    """``value`` as an array, not copied where it is one."""
    try:
        result = np.asarray(value)
    except ValueError as error:  # rows of different lengths
        raise ValueError(f"{name} is not an array: {error}") from error
    if result.dtype == object:
        raise TypeError(f"{name} has dtype object; expected an array of numbers")
    return result


def floats(name: str, value: object) -> Array:
    """``value`` as float32; float16 and bfloat16 are converted, anything else is refused."""
    if type(value) is np.ndarray and value.dtype is FLOAT32:  # as it is mostly
        return value
    result = array(name, value)
    if result.dtype.name in ("float32", "float16", "bfloat16"):  # in either byte order
        return result.astype(FLOAT32, copy=False)
    hint = f"; convert it with {name}.astype(numpy.float32)" if result.dtype.kind in "fiu" else ""
    raise TypeError(f"{name} has dtype {result.dtype}; expected float32, float16 or bfloat16{hint}")


def integers8(name: str, value: object) -> Array:
    """``value``, uint8 or int8."""
    result = array(name, value)
    if result.dtype not in TYPES:
        raise TypeError(f"{name} has dtype {result.dtype}; expected uint8 or int8")
    return result


def with_last(name: str, x: Array, k: int, what: str) -> None:
    """``x`` has at least one dimension, the last of ``k`` elements."""
    if x.ndim == 0:
        raise ValueError(f"{name} has no dimension; expected shape (..., {k})")
    if x.shape[-1] != k:
        raise ValueError(f"{name} has shape {x.shape}; expected (..., {k}): {what}")


def vector(name: str, value: object, n: int) -> Array:
    """``value`` as contiguous float32 of shape (n,)."""
    result = floats(name, value)
    if result.shape != (n,):
        raise ValueError(f"{name} has shape {result.shape}; expected ({n},)")
    return contiguous(result)


def per_block(name: str, value: object, rows: tuple[int, ...], dtype: np.dtype[Any]) -> tuple[Array, bool]:
    """One element for each row of ``rows`` or one for all: contiguous of ``dtype``, and whether it is per row.

    Rows may be kept as a last dimension of 1.
    """
    result = array(name, value)
    if result.dtype != dtype and result.dtype.kind not in ("iu" if dtype.kind == "i" else "f"):
        raise TypeError(f"{name} has dtype {result.dtype}; expected {'integers' if dtype.kind == 'i' else dtype}")
    if dtype.kind == "i" and result.size and (result.min() < -128 or result.max() > 255):
        raise ValueError(f"{name} has values from {result.min()} to {result.max()}; expected 8-bit ones")
    with np.errstate(over="ignore"):  # an infinity is refused later, by its name
        converted = contiguous(result, dtype)
    if result.shape == rows or result.shape == (*rows, 1):
        return converted, True
    if result.size == 1 and result.ndim <= 1:
        return converted, False
    raise ValueError(f"{name} has shape {result.shape}; expected {rows} (one for each row) or () (one for all)")


def as_rows(x: Array) -> tuple[Array, int, int]:
    """``x`` (..., K) as a matrix whose rows are contiguous, its number of rows, and the row stride in elements.

    Copied only where the strides cannot be said so.
    """
    k, size = x.shape[-1], x.dtype.itemsize
    m = 1
    for extent in x.shape[:-1]:
        m *= extent
    if x.flags.c_contiguous and x.flags.aligned:
        return x, m, k
    if x.ndim == 2 and x.flags.aligned and (k <= 1 or x.strides[1] == size):
        stride = x.strides[0]
        if stride >= k * size and stride % size == 0:
            return x, m, stride // size
    return contiguous(x), m, k


def overlap(a: Array, b: Array) -> bool:
    """Whether the two share memory; where that is hard to tell, yes."""
    try:
        return bool(np.shares_memory(a, b, max_work=10_000))  # type: ignore[arg-type]
    except Exception as error:  # numpy.exceptions.TooHardError; its place depends on NumPy's version
        if type(error).__name__ != "TooHardError":
            raise
        return True


def _overlaps_itself(a: Array) -> bool:
    """Whether two elements of ``a`` may share memory: each stride must step over all that the smaller ones reach."""
    reach = a.itemsize
    for stride, extent in sorted((abs(stride), extent) for stride, extent in zip(a.strides, a.shape, strict=True)):
        if extent > 1 and stride < reach:
            return a.size != 0
        reach += (extent - 1) * stride
    return False


def output(out: object, shape: tuple[int, ...], inputs: dict[str, Array | None]) -> Array:
    """The user's ``out``: float32, of ``shape``, writable, apart from every input."""
    if not isinstance(out, np.ndarray):
        raise TypeError(f"out is of type {type(out).__name__}; expected numpy.ndarray")
    if out.dtype is not FLOAT32 and (out.dtype != FLOAT32 or not out.dtype.isnative):
        raise TypeError(f"out has dtype {out.dtype}; expected float32")
    if out.shape != shape:
        raise ValueError(f"out has shape {out.shape}; expected {shape}")
    if not out.flags.writeable:
        raise ValueError("out is read-only")
    if _overlaps_itself(out):
        raise ValueError(f"out has strides {out.strides} for shape {shape}; its elements overlap one another")
    for name, value in inputs.items():
        if value is not None and overlap(out, value):
            raise ValueError(f"out overlaps {name}")
    return out
