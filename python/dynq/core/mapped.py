"""Open model files: each is mapped once in a process, and shared by all who open it."""

from __future__ import annotations

import os
from typing import Any
from weakref import WeakValueDictionary

import numpy as np

from .arguments import UINT8, Array
from .call import check, ffi, lib

__all__ = ["MappedFile", "file_identity", "open_mapped"]

_Identity = tuple[int, ...]


class MappedFile:
    """An open file: the C library's model, and its bytes, which stay as long as this object."""

    __slots__ = ("__weakref__", "_identity", "handle", "image")

    def __init__(self, handle: Any, identity: _Identity | None) -> None:
        self.handle = handle
        self.image = _bytes_of(handle)
        self._identity = identity

    def is_at(self, path: str) -> bool:
        """Return whether the path still leads to this file, as it was when it was opened."""
        try:
            return self._identity == file_identity(path)
        except OSError:
            return False


_open: WeakValueDictionary[_Identity, MappedFile] = WeakValueDictionary()


def open_mapped(path: str | bytes) -> MappedFile:
    """Map a file, or return the mapping of the same file that is there already.

    A file that took the place of another one under its name is another file, and so is one whose size or time of change
    differs.
    """
    identity = file_identity(path)  # raises FileNotFoundError and its like
    known = _open.get(identity)
    if known is not None:
        return known
    opened = ffi.new("dynq_model **")
    check(lib.dynq_model_open(os.fsencode(path), opened))
    handle = ffi.gc(opened[0], lib.dynq_model_close)
    if file_identity(path) != identity:  # it was replaced meanwhile: which of the two this is, nobody knows
        return MappedFile(handle, None)
    return _open.setdefault(identity, MappedFile(handle, identity))


def file_identity(path: str | bytes) -> _Identity:
    """Return what tells a file from others, and from itself after a change. While it is mapped its inode is its own."""
    found = os.stat(path)
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def _bytes_of(handle: Any) -> Array:
    """Return the bytes of an open model as an array that keeps it open."""
    start, size = ffi.new("const void **"), ffi.new("size_t *")
    check(lib.dynq_model_bytes(handle, start, size))
    keeper = ffi.gc(ffi.cast("char *", start[0]), lambda _, handle=handle: None)
    image: Array = np.frombuffer(ffi.buffer(keeper, size[0]), UINT8)
    image.flags.writeable = False
    return image
