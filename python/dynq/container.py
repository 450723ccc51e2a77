"""The file: a safetensors container whose tensors begin at multiples of 64 bytes, so that it can be mapped.

Layout (https://github.com/huggingface/safetensors): an 8-byte little-endian length, that many bytes of JSON, the
tensors without holes. The JSON is padded with spaces; between tensors ``pad.*`` tensors of bytes fill up to 64.
The reader trusts nothing.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from ._arguments import Array
from .errors import FileFormatError

__all__ = ["NAMES", "entry", "header", "read", "write", "write_parts"]

_ALIGNMENT = 64
_MAX_HEADER = 100_000_000
_MAX_DIMENSIONS = 32  # what every NumPy can take
_MAX_SIZE = 2**62
NAMES = {"bool": "BOOL", "int8": "I8", "uint8": "U8", "int32": "I32", "int64": "I64", "float32": "F32"}
_DTYPES = {name: np.dtype(dtype).newbyteorder("<") for dtype, name in NAMES.items()}


def write(path: str | os.PathLike[str], tensors: dict[str, Array], notes: dict[str, str]) -> None:
    """Write ``tensors`` and the texts of ``notes``; the file appears under its name when it is complete."""
    entries: dict[str, Any] = {"__metadata__": notes}
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
    write_parts(path, [header(entries), *parts])


def header(entries: Mapping[str, Any]) -> bytes:
    """What comes before the tensors: the length and the JSON, padded so that they begin at a multiple of 64 bytes."""
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-(len(text) + 8) % _ALIGNMENT)
    return len(text).to_bytes(8, "little") + text


def entry(dtype: str, shape: tuple[int, ...], offset: int, nbytes: int) -> dict[str, Any]:
    """What the header says of a tensor; ``dtype`` is one of the names in the file."""
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [offset, offset + nbytes]}


def write_parts(path: str | os.PathLike[str], parts: Iterable[bytes | memoryview]) -> None:
    """Write a file; it appears under its name when it is complete."""
    temporary = f"{os.fspath(path)}.{os.getpid()}.part"
    try:
        with open(temporary, "wb") as file:
            for part in parts:
                file.write(part)
        os.replace(temporary, path)
    except BaseException:
        if os.path.exists(temporary):
            os.unlink(temporary)
        raise


def read(path: str | os.PathLike[str]) -> tuple[dict[str, Array], dict[str, str]]:
    """Map a file: its tensors, read-only views of the file, and its notes."""
    name = os.fspath(path)
    size = os.path.getsize(path)
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > min(size - 8, _MAX_HEADER):
            raise FileFormatError(f"{name}: truncated, or not a safetensors file")
        try:
            header = json.loads(file.read(length))
            notes = header.pop("__metadata__")
            if not all(isinstance(text, str) for text in notes.values()):
                raise TypeError("a note is not a text")
            entries = [_parse(tensor, entry) for tensor, entry in header.items()]
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise FileFormatError(f"{name}: damaged header: {error}") from error
    if size == 8 + length:
        memory: Array = np.empty(0, np.uint8)
    else:
        memory = np.memmap(path, np.uint8, "r", offset=8 + length)
    reached = 0
    for tensor, _, _, begin, end in sorted(entries, key=lambda entry: entry[3:]):
        if begin != reached:
            raise FileFormatError(f"{name}: damaged header: tensor {tensor!r} begins at {begin}; expected {reached}")
        reached = end
    if reached != memory.size:
        what = "truncated" if reached > memory.size else "longer than its header says"
        raise FileFormatError(f"{name}: {what}: {memory.size} bytes of tensors; expected {reached}")
    return {
        tensor: np.asarray(memory)[begin:end].view(dtype).reshape(shape)
        for tensor, dtype, shape, begin, end in entries
        if not tensor.startswith("pad.")
    }, notes


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
