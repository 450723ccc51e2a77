"""Check the arguments that a user passed. Errors name the argument, its value and what was expected."""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np

from .call import lib

Array = np.ndarray[Any, Any]
Scheme = Literal["asymmetric", "symmetric"]
Granularity = Literal["row", "tensor"]
NonFinite = Literal["propagate", "raise"]
Activation = Literal["relu", "sigmoid", "tanh", "silu", "gelu", "gelu_tanh", "hard_swish", "mish"]
Direction = Literal["forward", "reverse", "bidirectional"]

FLOAT32 = np.dtype(np.float32)
_FLOAT16 = np.dtype(np.float16)
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
SCHEMES: dict[Scheme, int] = {"asymmetric": lib.DYNQ_ASYMMETRIC, "symmetric": lib.DYNQ_SYMMETRIC}
GRANULARITIES: dict[Granularity, int] = {"row": lib.DYNQ_PER_ROW, "tensor": lib.DYNQ_PER_TENSOR}
TYPES: dict[np.dtype[Any], int] = {UINT8: lib.DYNQ_U8, INT8: lib.DYNQ_S8}
NONFINITE: dict[NonFinite, bool] = {"propagate": False, "raise": True}
ACTIVATIONS: dict[Activation | None, int] = {
    None: lib.DYNQ_ACTIVATION_NONE,
    "relu": lib.DYNQ_ACTIVATION_RELU,
    "sigmoid": lib.DYNQ_ACTIVATION_SIGMOID,
    "tanh": lib.DYNQ_ACTIVATION_TANH,
    "silu": lib.DYNQ_ACTIVATION_SILU,
    "gelu": lib.DYNQ_ACTIVATION_GELU,
    "gelu_tanh": lib.DYNQ_ACTIVATION_GELU_TANH,
    "hard_swish": lib.DYNQ_ACTIVATION_HARD_SWISH,
    "mish": lib.DYNQ_ACTIVATION_MISH,
}


DIRECTIONS: dict[Direction, int] = {"forward": 1, "reverse": 1, "bidirectional": 2}


def choice(name: str, value: object, choices: dict[Any, Any]) -> Any:
    """Return ``choices[value]``."""
    try:
        return choices[value]
    except (KeyError, TypeError):
        pass
    if value is not None and not isinstance(value, str):
        raise TypeError(f"{name} is of type {type(value).__name__}; expected str")
    expected = ", ".join(repr(c) for c in choices)
    raise ValueError(f"{name} is {value!r}; expected one of {expected}")


def contiguous(x: Array, dtype: np.dtype[Any] | None = None) -> Array:
    """Return ``x`` in C order and aligned, and of ``dtype`` if one is given. It is copied only if needed."""
    flags = x.flags
    if flags.c_contiguous and flags.aligned and (dtype is None or x.dtype is dtype):
        return x
    return np.require(x, dtype, ["C_CONTIGUOUS", "ALIGNED"])


def array(name: str, value: object) -> Array:
    """Return ``value`` as an array, which is not a copy if it is one already."""
    if type(value) is not np.ndarray and hasattr(value, "detach"):
        value = _of_tensor(name, value)
    try:
        result = np.asarray(value)
    except ValueError as error:  # rows of different lengths
        raise ValueError(f"{name} is not an array: {error}") from error
    if result.dtype == object:
        raise TypeError(f"{name} has dtype object; expected an array of numbers")
    return result


def _of_tensor(name: str, tensor: Any) -> Any:
    """Return a tensor of PyTorch, which may require a gradient or have a dtype that NumPy lacks, as NumPy takes it."""
    if tensor.device.type != "cpu":
        raise TypeError(f"{name} is on the device {tensor.device}; expected the CPU: {name}.cpu()")
    tensor = tensor.detach()
    return tensor.float() if str(tensor.dtype) == "torch.bfloat16" else tensor


def floats(name: str, value: object) -> Array:
    """Return ``value`` as float32. float16 and bfloat16 are converted; anything else is refused."""
    if type(value) is np.ndarray:  # as it is mostly
        if value.dtype is FLOAT32:
            return value
        if value.dtype is _FLOAT16:
            return value.astype(FLOAT32)
    result = array(name, value)
    if result.dtype.char == "e" or result.dtype.name in ("float32", "bfloat16"):  # in either byte order
        return result.astype(FLOAT32, copy=False)
    hint = f"; convert it with {name}.astype(numpy.float32)" if result.dtype.kind in "fiu" else ""
    raise TypeError(f"{name} has dtype {result.dtype}; expected float32, float16 or bfloat16{hint}")


def integers8(name: str, value: object) -> Array:
    """Return ``value``, which has to be uint8 or int8."""
    result = value if type(value) is np.ndarray else array(name, value)
    if result.dtype is not UINT8 and result.dtype is not INT8 and result.dtype not in TYPES:
        raise TypeError(f"{name} has dtype {result.dtype}; expected uint8 or int8")
    return result


def with_last(name: str, x: Array, k: int, what: str) -> None:
    """Check that ``x`` has at least one dimension, the last of ``k`` elements."""
    if x.ndim == 0:
        raise ValueError(f"{name} has no dimension; expected shape (..., {k})")
    if x.shape[-1] != k:
        raise ValueError(f"{name} has shape {x.shape}; expected (..., {k}): {what}")


def vector(name: str, value: object, n: int) -> Array:
    """Return ``value`` as contiguous float32 of shape (n,)."""
    result = floats(name, value)
    if result.shape != (n,):
        raise ValueError(f"{name} has shape {result.shape}; expected ({n},)")
    return contiguous(result)


def per_block(name: str, value: object, rows: tuple[int, ...], dtype: np.dtype[Any]) -> tuple[Array, bool]:
    """Return ``value`` as contiguous ``dtype``, and whether it has one element for each row of ``rows`` or one for all.

    Rows may be kept as a last dimension of 1.
    """
    result = value if type(value) is np.ndarray else array(name, value)
    given = result.dtype
    if given is dtype and dtype is FLOAT32:
        converted = contiguous(result)
    elif given is UINT8 or given is INT8:
        if dtype.kind != "i":
            raise TypeError(f"{name} has dtype {given}; expected {dtype}")
        converted = result.astype(dtype, "C")
    elif given != dtype and given.kind not in ("iu" if dtype.kind == "i" else "f"):
        raise TypeError(f"{name} has dtype {given}; expected {'integers' if dtype.kind == 'i' else dtype}")
    elif dtype.kind == "i":
        if result.size and (result.min() < -128 or result.max() > 255):
            raise ValueError(f"{name} has values from {result.min()} to {result.max()}; expected 8-bit ones")
        converted = contiguous(result, dtype)
    else:
        with np.errstate(over="ignore"):  # an infinity is refused later, by its name
            converted = contiguous(result, dtype)
    if result.shape == rows or result.shape == (*rows, 1):
        return converted, True
    if result.size == 1 and result.ndim <= 1:
        return converted, False
    raise ValueError(f"{name} has shape {result.shape}; expected {rows} (one for each row) or () (one for all)")


def as_rows(x: Array) -> tuple[Array, int, int]:
    """Return ``x`` (..., K) as a matrix whose rows are contiguous, its number of rows, and the row stride in elements.

    ``x`` is copied only if its strides do not allow that.
    """
    k, flags = x.shape[-1], x.flags
    m = x.size // k if k else math.prod(x.shape[:-1])
    if flags.c_contiguous and flags.aligned:
        return x, m, k
    size = x.dtype.itemsize
    if x.ndim == 2 and flags.aligned and (k <= 1 or x.strides[1] == size):
        stride = x.strides[0]
        if stride >= k * size and stride % size == 0:
            return x, m, stride // size
    return contiguous(x), m, k


def overlap(a: Array, b: Array) -> bool:
    """Return whether the two share memory. If that is too hard to find out, return True."""
    try:
        return bool(np.shares_memory(a, b, max_work=10_000))  # type: ignore[arg-type]
    except Exception as error:  # numpy.exceptions.TooHardError; its place depends on NumPy's version
        if type(error).__name__ != "TooHardError":
            raise
        return True


def _overlaps_itself(a: Array) -> bool:
    """Return whether two elements of ``a`` may share memory.

    They do not if each stride steps over all elements that the smaller strides reach.
    """
    reach = a.itemsize
    for stride, extent in sorted((abs(stride), extent) for stride, extent in zip(a.strides, a.shape, strict=True)):
        if extent > 1 and stride < reach:
            return a.size != 0
        reach += (extent - 1) * stride
    return False


def output(out: object, shape: tuple[int, ...], inputs: dict[str, Array | None]) -> Array:
    """Check and return the user's ``out``: float32, of ``shape``, writable, apart from every input."""
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
