"""Call C: the one module that touches cffi. It turns statuses into exceptions and arrays into pointers.

During a long call C asks here every 30 ms, so that Python's signal handlers run. What they raise ends the call."""

from __future__ import annotations

import os
import threading
from importlib import metadata
from typing import Any

import numpy as np

from .. import _native, errors  # type: ignore[attr-defined]

ffi: Any = _native.ffi
lib: Any = _native.lib
NULL: Any = ffi.NULL

OK: int = lib.DYNQ_OK
NONFINITE: int = lib.DYNQ_NONFINITE
CANCELLED: int = lib.DYNQ_CANCELLED

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

_BYTES = ffi.typeof("int8_t[]"), ffi.typeof("int8_t *")
_ELEMENTS = {
    np.dtype(np.float32): (ffi.typeof("float[]"), ffi.typeof("float *")),
    np.dtype(np.int32): (ffi.typeof("int32_t[]"), ffi.typeof("int32_t *")),
}
_from_buffer = ffi.from_buffer


def text(pointer: Any) -> str:
    """Return a C string as str."""
    return str(ffi.string(pointer), "utf-8")


def library_version() -> str:
    """Return the version of the C library that is linked in."""
    return text(lib.dynq_version())


def library_path() -> str:
    """Return the file that the C library was loaded from."""
    return str(_native.__file__)


def check(status: int) -> None:
    """Raise the exception that belongs to ``status``, unless it is DYNQ_OK."""
    if status == CANCELLED:
        error = _raised.pop() if _raised else KeyboardInterrupt()
        _raised.clear()
        raise error
    if status != OK:
        raise _EXCEPTIONS.get(status, errors.Error)(text(lib.dynq_last_error()))


def interruptible(function: Any, *arguments: Any) -> int:
    """Call a C function that may take long, and return its status: CANCELLED if a signal handler raised an error."""
    call = ffi.new("python_call *")
    status: int = OK
    try:
        lib.python_call_begin(call)
        status = function(*arguments)
    finally:
        status = lib.python_call_end(call, status)
    return status


def address(array: np.ndarray[Any, Any]) -> Any:
    """Return a pointer to the first element; the caller keeps ``array`` alive. Elements of one byte are ``int8_t
    *``.
    """
    elements, pointer = _ELEMENTS.get(array.dtype, _BYTES)
    if array.flags.c_contiguous:  # a quarter of the time that ctypes takes
        return _from_buffer(elements, array)
    return ffi.cast(pointer, array.ctypes.data)


def untyped(array: np.ndarray[Any, Any]) -> Any:
    """Return the same for a parameter of type ``void *``, in half of the time."""
    try:
        return _from_buffer(array)
    except ValueError:  # rows with gaps between them
        return ffi.cast("void *", array.ctypes.data)


_raised: list[BaseException] = []  # by a signal handler, during the call that it ends


def _keep(_type: Any, error: BaseException, _traceback: Any) -> None:
    _raised.append(error)


@ffi.def_extern(error=1, onerror=_keep)  # type: ignore[untyped-decorator]
def python_signals() -> int:
    """Let pending signal handlers run: Python looks for them whenever a loop goes round."""
    for _ in (0, 1):
        pass
    return 0


def _listen() -> None:
    lib.interrupts_from(threading.main_thread().ident or 0)


_listen()
os.register_at_fork(after_in_child=_listen)

POLL: Any = ffi.addressof(lib, "poll_python")  # of a session


def _check_versions() -> None:
    package, library = metadata.version("dynq"), library_version()
    if package != library:
        raise ImportError(f"the dynq package is {package} and its C library {library}; install dynq again")


_check_versions()
