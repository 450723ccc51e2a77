"""The one place that touches cffi: from status to exception, from array to pointer."""

from __future__ import annotations

from importlib import metadata
from typing import Any

import numpy as np

from . import _native, errors  # type: ignore[attr-defined]

ffi: Any = _native.ffi
lib: Any = _native.lib
NULL: Any = ffi.NULL

OK: int = lib.DYNQ_OK
NONFINITE: int = lib.DYNQ_NONFINITE

_EXCEPTIONS: dict[int, type[Exception]] = {
    NONFINITE: errors.NonFiniteError,
    lib.DYNQ_ERROR_INVALID_ARGUMENT: ValueError,
    lib.DYNQ_ERROR_OUT_OF_MEMORY: errors.OutOfMemoryError,
    lib.DYNQ_ERROR_OVERFLOW: errors.AccumulatorOverflowError,
    lib.DYNQ_ERROR_FORMAT: errors.FileFormatError,
    lib.DYNQ_ERROR_SYSTEM: errors.FileAccessError,
    lib.DYNQ_ERROR_ISA_UNKNOWN: errors.IsaUnknownError,
    lib.DYNQ_ERROR_ISA_NOT_BUILT: errors.IsaNotBuiltError,
    lib.DYNQ_ERROR_ISA_NOT_SUPPORTED: errors.IsaNotSupportedError,
}

_FLOATS = ffi.typeof("float *")
_INTS = ffi.typeof("int32_t *")
_BYTES = ffi.typeof("int8_t *")
_POINTERS = {np.dtype(np.float32): _FLOATS, np.dtype(np.int32): _INTS}


def text(pointer: Any) -> str:
    """A C string."""
    return str(ffi.string(pointer), "utf-8")


def library_version() -> str:
    """Version of the C library that is linked in."""
    return text(lib.dynq_version())


def check(status: int) -> None:
    """Raise the exception that belongs to ``status``, unless it is DYNQ_OK."""
    if status != OK:
        raise _EXCEPTIONS.get(status, errors.Error)(text(lib.dynq_last_error()))


def address(array: np.ndarray[Any, Any]) -> Any:
    """Pointer to the first element; the caller keeps ``array`` alive. Elements of one byte are ``int8_t *``."""
    return ffi.cast(_POINTERS.get(array.dtype, _BYTES), array.ctypes.data)


def _check_versions() -> None:
    package, library = metadata.version("dynq"), library_version()
    if package != library:
        raise ImportError(f"the dynq package is {package} and its C library {library}; install dynq again")


_check_versions()
