"""Instruction sets: which exist, which run here, and which is in use.

Every one gives the same bits; choosing another than the best is for tests and measurements. The choice is for the whole
process. At start the environment variable ``DYNQ_ISA`` chooses. If it is not set, the best one that this machine has is
used.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from .core.call import NULL, check, ffi, lib, text
from .errors import Error, IsaNotBuiltError, IsaNotSupportedError, IsaUnknownError

__all__ = ["explain", "names", "select", "selected", "supported", "use"]


def names() -> list[str]:
    """Return all instruction sets that dynq knows, best first; the last is ``"scalar"``."""
    return [text(lib.dynq_isa_name(i)) for i in range(lib.dynq_isa_count())]


def supported() -> list[str]:
    """Return those that are built and that this machine can run, best first. The list is never empty."""
    return [name for name in names() if lib.dynq_isa_supported(name.encode()) == lib.DYNQ_OK]


def selected() -> str:
    """Return the one in use.

    Raises:
        IsaError: ``DYNQ_ISA`` names one that cannot run here.
    """
    name = ffi.new("const char **")
    check(lib.dynq_isa_selected(name))
    return text(name[0])


def select(name: str | None) -> None:
    """Use ``name`` from now on; None is the best one.

    Raises:
        IsaUnknownError, IsaNotBuiltError, IsaNotSupportedError: it cannot be used; the choice stays as it was.
    """
    if name is not None and not isinstance(name, str):
        raise TypeError(f"name is {type(name).__name__}; expected str or None")
    check(lib.dynq_isa_select(NULL if name is None else _c_name(name)))


@contextmanager
def use(name: str) -> Iterator[None]:
    """Select ``name`` in a block: ``with dynq.isa.use("avx2"): ...``. Afterwards the one before is selected again."""
    try:
        before: str | None = selected()
    except Error:
        before = None
    select(name)
    try:
        yield
    finally:
        select(before)


def explain(name: str) -> str:
    """Return in a few words whether ``name`` is in use and, if it cannot be, why not."""
    try:
        check(lib.dynq_isa_supported(_c_name(name)))
    except IsaNotBuiltError:
        return "not built"
    except IsaNotSupportedError:
        return f"not supported: this machine lacks {text(lib.dynq_isa_missing(name.encode()))}"
    try:
        return "selected" if selected() == name else "supported"
    except Error:
        return "supported"


def _c_name(name: str) -> bytes:
    """Return ``name`` for C, which would read a name with a NUL only up to that NUL. All names are ASCII."""
    if "\0" in name or not name.isascii():
        raise IsaUnknownError(f"unknown instruction set {name!r}; known: {' '.join(names())}")
    return name.encode()
