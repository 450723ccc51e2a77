"""Read the conformance set, whose format tests/vectors/README.md describes.

This uses NumPy alone: nothing here calls the library that the set judges.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import FileFormatError

Array = np.ndarray[Any, Any]

VERSION = 1
INDEX, DATA = "cases.txt", "data.bin"
TYPES = {name: np.dtype(code) for name, code in {"f32": "<f4", "s32": "<i4", "u8": "u1", "s8": "i1"}.items()}
_MASK = 2**64 - 1


def mix(z: Array) -> Array:
    """Return one step of splitmix64 from each state of ``z`` (uint64)."""
    z = z + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    result: Array = z ^ (z >> np.uint64(31))
    return result


def random(seed: int, count: int) -> Array:
    """Return the first ``count`` numbers of splitmix64 from ``seed``, uint64."""
    steps = np.arange(count, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    return mix(steps + np.uint64(seed & _MASK))


def checksum(data: bytes) -> int:
    """Return 64 bits: length plus the sum of mix(2**32 * i + word i) over little-endian words of 4 bytes, zero
    padded.
    """
    words = np.frombuffer(data + bytes(-len(data) % 4), "<u4").astype(np.uint64)
    keys = np.arange(len(words), dtype=np.uint64) << np.uint64(32) | words
    return (len(data) + int(mix(keys).sum(dtype=np.uint64))) & _MASK


def _uniform(r: Array) -> Array:
    return ((r >> np.uint64(40)).astype(np.int64) - 2**23).astype(np.float32) * np.float32(2.0**-23)


def _float(bits: Array) -> Array:
    return bits.astype(np.uint32).view(np.float32)


def _bits(r: Array) -> Array:
    low = r.astype(np.uint32)
    infinite = (low & np.uint32(0x7F800000)) == 0x7F800000
    return _float(np.where(infinite, low & np.uint32(0xBFFFFFFF), low))


_FLOAT_FILLS: dict[str, Callable[[Array], Array]] = {
    "uniform": _uniform,
    "spread": lambda r: np.ldexp(_uniform(r), (r & np.uint64(15)).astype(np.int32) - 8),
    "halves": lambda r: ((r % np.uint64(511)).astype(np.int64) - 255).astype(np.float32) * np.float32(0.5),
    "denormal": lambda r: _float(r & np.uint64(0x807FFFFF)),
    "huge": lambda r: _float(r & np.uint64(0x8000FFFF) | np.uint64(0x7F7F0000)),
    "bits": _bits,
    "scale": lambda r: _float(np.uint64(0x3A800000) | r >> np.uint64(41)),
}


def fill(kind: str, seed: int, type_: str, count: int) -> Array:
    """Return ``count`` numbers that the format's generator ``kind`` makes from ``seed``."""
    dtype = TYPES[type_]
    if kind == "constant":
        return np.full(count, seed & (256**dtype.itemsize - 1), f"<u{dtype.itemsize}").view(dtype)
    r = random(seed, count)
    if kind in ("u8", "s8"):
        return (r >> np.uint64(56)).astype(np.uint8).view(TYPES[kind]).astype(dtype)
    if kind not in _FLOAT_FILLS or type_ != "f32":
        raise FileFormatError(f"no generator of {type_} is named {kind!r}")
    return _FLOAT_FILLS[kind](r)


@dataclass(frozen=True)
class ArrayLine:
    """One array of a case. ``source`` is stored, fill or hash; ``number`` is the offset, the seed or the checksum."""

    name: str
    type: str
    shape: tuple[int, ...]
    output: bool
    source: str
    number: int
    kind: str = ""

    @property
    def count(self) -> int:
        return math.prod(self.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        return TYPES[self.type]


@dataclass(frozen=True)
class Case:
    """One call: the operation, its options as they are written, its arrays."""

    number: int
    op: str
    options: dict[str, Any]  # texts, of which some name a scheme, a granularity or an activation
    arrays: tuple[ArrayLine, ...]

    def __str__(self) -> str:
        options = [f"{key}={value}" for key, value in self.options.items()]
        shapes = [f"{a.name} {'x'.join(map(str, a.shape))}" for a in self.arrays if not a.output]
        return " ".join([f"case {self.number}", self.op, *options, f"({', '.join(shapes)})"])

    @property
    def dtype(self) -> np.dtype[Any]:
        """Return the dtype of the quantized integers."""
        return TYPES[self.options["type"]]

    def inputs(self) -> Iterator[ArrayLine]:
        return (array for array in self.arrays if not array.output)

    def outputs(self) -> Iterator[ArrayLine]:
        return (array for array in self.arrays if array.output)


@dataclass(frozen=True)
class Vectors:
    """The whole conformance set."""

    cases: tuple[Case, ...]
    data: bytes

    def value(self, line: ArrayLine) -> Array:
        """Return the array itself, stored or generated; a checksum has none."""
        if line.source == "stored":
            flat = np.frombuffer(self.data, TYPES[line.type], line.count, line.number)
        else:
            flat = fill(line.kind, line.number, line.type, line.count)
        return flat.reshape(line.shape)


def load(folder: str | os.PathLike[str]) -> Vectors:
    """Read ``cases.txt`` and ``data.bin`` of ``folder``.

    Raises:
        FileFormatError: one of them is damaged or of another version.
    """
    place = Path(folder)
    try:
        index, data = (place / INDEX).read_bytes(), (place / DATA).read_bytes()
    except OSError as error:
        raise FileFormatError(f"{place}: {error.strerror or error}: {error.filename}") from error
    try:
        return Vectors(_parse(index, data), data)
    except (ValueError, IndexError, KeyError) as error:
        raise FileFormatError(f"{place}: not a conformance set of version {VERSION}: {error}") from error


def _parse(index: bytes, data: bytes) -> tuple[Case, ...]:
    end = index.rstrip(b"\n").rfind(b"\n") + 1
    last = index[end:].split()
    if len(last) != 3 or last[0] != b"end" or int(last[2], 16) != checksum(index[:end]):
        raise ValueError(f"{INDEX} is damaged: its checksum differs")
    head, data_line, *lines = index[:end].decode("ascii").splitlines()
    if head != f"dynq vectors {VERSION}":
        raise ValueError(f"{INDEX} begins with {head!r}")
    _, size, digest = data_line.split()
    if int(size) != len(data) or int(digest, 16) != checksum(data):
        raise ValueError(f"{DATA} is damaged: its size or its checksum differs")
    cases: list[Case] = []
    arrays: list[ArrayLine] = []
    for text in reversed(lines):  # a case comes before its arrays
        word, *rest = text.split()
        if word == "case":
            number, op, *options = rest
            cases.append(Case(int(number), op, dict(option.split("=") for option in options), tuple(reversed(arrays))))
            arrays = []
        else:
            arrays.append(_array(word, rest))
    if len(cases) != int(last[1]) or arrays:
        raise ValueError(f"{INDEX} has {len(cases)} cases; expected {int(last[1])}")
    return tuple(reversed(cases))


def _array(word: str, rest: list[str]) -> ArrayLine:
    name, type_, shape, source, *how = rest
    if word not in ("in", "out") or type_ not in TYPES or source not in ("stored", "fill", "hash"):
        raise ValueError(f"the line '{word} {' '.join(rest)}' is not an array")
    kind = how[0] if source == "fill" else ""
    number = int(how[-1], 16 if source == "hash" else 10)
    return ArrayLine(name, type_, tuple(int(n) for n in shape.split("x")), word == "out", source, number, kind)
