"""Check whether a file still holds the bytes that were saved."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np

from .core.arguments import UINT8, Array
from .core.container import CHECKSUMS, Contents, crc32, read_contents
from .errors import FileFormatError
from .model import load

__all__ = ["verify"]

_CHUNK = 1 << 24
_SHOWN = 8  # tensors that a message names at most
_PLAN = "plan"


def verify(path: str | os.PathLike[str]) -> int:
    """Read a file that dynq saved and compare its checksums.

    The file is read, not mapped, so if it is cut off meanwhile, that is an error like any other. Files that older
    versions saved have one checksum for all tensors.

    Returns:
        The number of tensors, without the padding between them.

    Raises:
        FileFormatError: the file is damaged, and the error names the tensors; or it has no checksum.
    """
    name = os.fspath(path)
    with open(path, "rb") as file:
        contents = read_contents(file, name)
        if not contents.header_is_right():
            raise FileFormatError(f"{name} is damaged: the checksum of its header differs")
        if CHECKSUMS in contents.notes:
            _verify_each(file, name, contents)
        else:
            _verify_all(file, name, contents)
    if contents.notes.get("dynq", "").startswith("model"):
        load(path)  # checks the plan
    return sum(not tensor.startswith("pad.") for tensor, *_ in contents.tensors)


def _verify_each(file: BinaryIO, name: str, contents: Contents) -> None:
    expected = contents.notes[CHECKSUMS].split(" ") if contents.tensors else []
    if len(expected) != len(contents.tensors):
        raise FileFormatError(f"{name} is damaged: {len(expected)} checksums for {len(contents.tensors)} tensors")
    damaged = []
    for checksum, (tensor, _, _, begin, end) in zip(expected, contents.tensors, strict=True):
        if f"{crc32(_pieces(file, name, end - begin)):08x}" != checksum:
            damaged.append(tensor)
    if damaged:
        shown = ", ".join(map(repr, damaged[:_SHOWN]))
        more = f" and {len(damaged) - _SHOWN} more" if len(damaged) > _SHOWN else ""
        raise FileFormatError(f"{name} is damaged: the checksums of these tensors differ: {shown}{more}")


def _verify_all(file: BinaryIO, name: str, contents: Contents) -> None:
    """Compare the checksum of everything behind the plan, which older versions wrote."""
    expected = contents.notes.get("crc32")
    if expected is None:
        raise FileFormatError(f"{name} has no checksum; dynq writes them when it saves the file anew")
    behind = 0
    for tensor, _, _, begin, end in contents.tensors:
        if tensor == _PLAN and begin == 0:
            behind = end
    file.seek(behind, os.SEEK_CUR)
    found = f"{crc32(_pieces(file, name, contents.size - behind)):08x}"
    if found != expected:
        raise FileFormatError(f"{name} is damaged: the checksum of its data is {found}; expected {expected}")


def _pieces(file: BinaryIO, name: str, size: int) -> Iterator[Array]:
    while size > 0:
        data = file.read(min(size, _CHUNK))
        if not data:
            raise FileFormatError(f"{name}: truncated while it was read")
        size -= len(data)
        yield np.frombuffer(data, UINT8)
