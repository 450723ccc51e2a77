"""The file: a safetensors container whose tensors begin at multiples of 64 bytes, so that it can be mapped.

Layout (https://github.com/huggingface/safetensors): an 8-byte little-endian length, that many bytes of JSON, the
tensors without holes. The JSON is padded with spaces; between tensors ``pad.*`` tensors of bytes fill up to 64. Two
notes of the metadata hold checksums: of each tensor, and of the header itself. The reader trusts nothing.
"""

from __future__ import annotations

import json
import os
import re
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np

from ..errors import FileFormatError
from . import files
from .arguments import Array

__all__ = [
    "CHECKSUMS",
    "NAMES",
    "Contents",
    "checksums",
    "crc32",
    "entry",
    "fingerprint",
    "read",
    "read_contents",
    "sealed",
    "write",
]

_ALIGNMENT = 64
_MAX_HEADER = 100_000_000
_MAX_DIMENSIONS = 32  # the most dimensions that every NumPy can take
_MAX_SIZE = 2**62
_CHUNK = 1 << 24
_ZERO = "0" * 8
_OF_HEADER = "crc32_header"
CHECKSUMS = "crc32_tensors"  # the note that holds them: of all tensors in the order of the file, pads too
NAMES = {"bool": "BOOL", "int8": "I8", "uint8": "U8", "int32": "I32", "int64": "I64", "float32": "F32"}
_DTYPES = {name: np.dtype(dtype).newbyteorder("<") for dtype, name in NAMES.items()}


def write(path: str | os.PathLike[str], tensors: dict[str, Array], notes: dict[str, str]) -> None:
    """Write ``tensors`` and the texts of ``notes``; the file appears under its name when it is complete."""
    entries: dict[str, Any] = {}
    parts: list[bytes | memoryview] = []
    offset = 0
    for name, tensor in tensors.items():
        data = np.ascontiguousarray(tensor, _DTYPES[NAMES[tensor.dtype.name]])
        entries[name] = entry(NAMES[tensor.dtype.name], data.shape, offset, data.nbytes)
        parts.append(data.reshape(-1).view(np.uint8).data)
        offset += data.nbytes
        if pad := -offset % _ALIGNMENT:
            entries[f"pad.{name}"] = entry("U8", (pad,), offset, pad)
            parts.append(bytes(pad))
            offset += pad
    found = " ".join(f"{zlib.crc32(part):08x}" for part in parts)
    files.write(path, [sealed({**notes, CHECKSUMS: found}, entries), *parts])


def checksums(data: Array, entries: Mapping[str, Any]) -> str:
    """Return the note that has a CRC-32 of each tensor, in the order of ``entries``, which is that of the file."""
    return " ".join(f"{crc32([data[slice(*entry['data_offsets'])]]):08x}" for entry in entries.values())


def crc32(pieces: Iterable[Array]) -> int:
    """Return zlib's CRC-32 of bytes that come in pieces."""
    result = 0
    for piece in pieces:
        for i in range(0, piece.size, _CHUNK):
            result = zlib.crc32(piece[i : i + _CHUNK].data, result)
    return result


def sealed(notes: Mapping[str, str], entries: Mapping[str, Any]) -> bytes:
    """Return the header with one more note: its own checksum. It is computed with eight zeros in its place."""
    plain = _header({"__metadata__": {**notes, _OF_HEADER: _ZERO}, **entries})
    return _with_own(plain, f"{zlib.crc32(plain):08x}")


def _with_own(header: bytes, checksum: str) -> bytes:
    return re.sub(
        rb'"%s":"[0-9a-f]{8}"' % _OF_HEADER.encode(), f'"{_OF_HEADER}":"{checksum}"'.encode(), header, count=1
    )


def _header(entries: Mapping[str, Any]) -> bytes:
    """Return what comes before the tensors: the length, and the JSON padded up to a multiple of 64 bytes."""
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-(len(text) + 8) % _ALIGNMENT)
    return len(text).to_bytes(8, "little") + text


def entry(dtype: str, shape: tuple[int, ...], offset: int, nbytes: int) -> dict[str, Any]:
    """Return what the header says of a tensor; ``dtype`` is one of the names in the file."""
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [offset, offset + nbytes]}


@dataclass
class Contents:
    """The contents of a header: tensors in the order of the file, each with dtype, shape, begin and end, and notes."""

    header: bytes
    tensors: list[tuple[str, np.dtype[Any], tuple[int, ...], int, int]]
    notes: dict[str, str]
    size: int  # bytes of the tensors

    def header_is_right(self) -> bool:
        """Return whether the header's own checksum is right. It is True if there is none, as in files of older
        versions.
        """
        expected = self.notes.get(_OF_HEADER)
        if expected is None:
            return CHECKSUMS not in self.notes
        return f"{zlib.crc32(_with_own(self.header, _ZERO)):08x}" == expected


def read_contents(file: BinaryIO, name: str) -> Contents:
    """Read the header of an open file and check all that it says. Afterwards the file is at the end of the header."""
    size = os.fstat(file.fileno()).st_size
    start = file.read(8)
    length = int.from_bytes(start, "little")
    if size < 8 or length > min(size - 8, _MAX_HEADER):
        raise FileFormatError(f"{name}: truncated, or not a safetensors file")
    text = file.read(length)
    try:
        header = json.loads(text)
        notes = header.pop("__metadata__")
        if not all(isinstance(note, str) for note in notes.values()):
            raise TypeError("a note is not a text")
        tensors = [_parse(tensor, entry) for tensor, entry in header.items()]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise FileFormatError(f"{name}: damaged header: {error}") from error
    there, reached = size - 8 - length, 0
    tensors.sort(key=lambda tensor: tensor[3:])
    for tensor, _, _, begin, end in tensors:
        if begin != reached:
            raise FileFormatError(f"{name}: damaged header: tensor {tensor!r} begins at {begin}; expected {reached}")
        reached = end
    if reached != there:
        what = "truncated" if reached > there else "longer than its header says"
        raise FileFormatError(f"{name}: {what}: {there} bytes of tensors; expected {reached}")
    return Contents(start + text, tensors, notes, there)


def fingerprint(image: Array) -> str:
    """Return a checksum of a file's bytes: of its header, which has those of all tensors, else of all bytes."""
    header = image[: 8 + int.from_bytes(image[:8].tobytes(), "little")]
    return f"{zlib.crc32((header if CHECKSUMS.encode() in header.tobytes() else image).data):08x}"


def read(path: str | os.PathLike[str]) -> tuple[dict[str, Array], dict[str, str]]:
    """Map a file, and return its tensors, which are read-only views of the file, and its notes."""
    with open(path, "rb") as file:
        contents = read_contents(file, os.fspath(path))
        memory: Array = np.empty(0, np.uint8)
        if contents.size:  # of the open file: by now, another one may have its name
            memory = np.asarray(np.memmap(file, np.uint8, "r", offset=len(contents.header), shape=(contents.size,)))
    return {
        tensor: memory[begin:end].view(dtype).reshape(shape)
        for tensor, dtype, shape, begin, end in contents.tensors
        if not tensor.startswith("pad.")
    }, contents.notes


def _parse(name: str, entry: Any) -> tuple[str, np.dtype[Any], tuple[int, ...], int, int]:
    dtype = _DTYPES[entry["dtype"]]
    shape = tuple(entry["shape"])
    begin, end = entry["data_offsets"]
    count = 1
    for extent in (*shape, begin, end):
        if type(extent) is not int or not 0 <= extent <= _MAX_SIZE:
            raise ValueError(f"tensor {name!r} has a size or an offset that is not a number from 0 to 2**62")
    if len(shape) > _MAX_DIMENSIONS:
        raise ValueError(f"tensor {name!r} has {len(shape)} dimensions; expected {_MAX_DIMENSIONS} at most")
    for extent in shape:
        count *= extent
    if end - begin != count * dtype.itemsize:
        raise ValueError(f"tensor {name!r} has {end - begin} bytes; its shape and dtype take {count * dtype.itemsize}")
    return name, dtype, shape, begin, end
