"""Write the image of a model: the bytes of its file, in memory that is aligned like a mapping.

docs/model-format.md describes them.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..core.arguments import DTYPE_NUMBERS, UINT8, Array
from ..core.container import CHECKSUMS, NAMES, checksums, crc32, entry, sealed
from ..ir.deferred import drop_pages, place_of
from ..ir.given import Attribute
from ..ir.graph import Graph
from ..ir.values import Deferred, Node, Value
from ..weights import QuantizedWeight, packed_arrays

__all__ = ["write_image"]

_FORMAT = "model 1"
_MAGIC = b"dynqplan"
_VERSION = 1
_VERSION_WITH_BODIES = 2
_VERSION_WITH_STATES = 3
_ALIGNMENT = 64
_NONE = 0xFFFFFFFF
_COMPUTED, _INPUT, _CONSTANT, _WEIGHT, _PARAMETER, _STATE = range(6)


def write_image(graph: Graph, notes: Mapping[str, str]) -> Array:
    """Return the file of ``graph`` as bytes, aligned to 64. ``notes`` are kept in its ``__metadata__``."""
    graph.validate()
    constants = list(dict.fromkeys(value for part in graph.family() for value in part.constants()))
    layout = _Layout(len(_plan(graph, constants, {}, 0)))
    stored = _first_of_each(constants)
    places = {value: layout.add(value) for value in dict.fromkeys(stored.values())}
    offsets = {value: places[first] for value, first in stored.items()}
    plan = _plan(graph, constants, offsets, layout.size)

    blank = " ".join(["0" * 8] * len(layout.entries))
    text = {"dynq": _FORMAT, **notes, "crc32": "0" * 8, CHECKSUMS: blank}
    start = len(sealed(text, layout.entries))
    memory = np.empty(start + layout.size + _ALIGNMENT, UINT8)
    image = memory[-memory.ctypes.data % _ALIGNMENT :][: start + layout.size]
    data = image[start:]
    data[: len(plan)] = np.frombuffer(plan, UINT8)
    for begin, end in layout.pads:
        data[begin:end] = 0
    for value, at in places.items():
        _store(value, data, at)
    text["crc32"] = f"{crc32([data[len(plan) :]]):08x}"
    text[CHECKSUMS] = checksums(data, layout.entries)
    image[:start] = np.frombuffer(sealed(text, layout.entries), UINT8)
    return image


def _first_of_each(constants: list[Value]) -> dict[Value, Value]:
    """Return for each constant the first one whose data are the same object or the same memory: a graph and its bodies,
    or two bodies of one origin, may each have a value for it.
    """
    first: dict[tuple[object, ...], Value] = {}
    return {value: first.setdefault(place_of(value.constant), value) for value in constants}


class _Layout:
    """The place of each tensor in the data, and the entries of the header that say so."""

    def __init__(self, plan_bytes: int) -> None:
        self.size = 0
        self.entries: dict[str, Any] = {}
        self.pads: list[tuple[int, int]] = []
        self._place("plan", "uint8", (plan_bytes,), 1)

    def add(self, value: Value) -> tuple[int, ...]:
        assert value.shape is not None
        sizes = tuple(int(dim) for dim in value.shape if not isinstance(dim, str) and dim is not None)
        if value.dtype is not None:
            return (self._place(value.name, value.dtype, sizes, np.dtype(value.dtype).itemsize),)
        n, k = sizes
        padded = -(-n // 16) * 16
        places = [
            self._place(f"{value.name}.data", "int8", (padded * (-(-k // 4) * 4),), 1),
            self._place(f"{value.name}.scale", "float32", (padded,), 4),
            self._place(f"{value.name}.column_sum", "int32", (padded,), 4),
        ]
        if isinstance(value.constant, QuantizedWeight) and value.constant.zero_point is not None:
            places.append(self._place(f"{value.name}.zero_point", "int32", (padded,), 4))
        return tuple(places)

    def _place(self, name: str, dtype: str, shape: tuple[int, ...], itemsize: int) -> int:
        offset = self.size
        self._entry(f"constant.{name}" if name.startswith("pad.") else name, dtype, shape, itemsize)
        if pad := -self.size % _ALIGNMENT:
            self.pads.append((self.size, self.size + pad))
            self._entry(f"pad.{name}", "uint8", (pad,), 1)
        return offset

    def _entry(self, name: str, dtype: str, shape: tuple[int, ...], itemsize: int) -> None:
        count = 1
        for dim in shape:
            count *= dim
        unique, i = name, 0
        while unique in self.entries or unique == "__metadata__":
            i += 1
            unique = f"{name}_{i}"
        self.entries[unique] = entry(NAMES[dtype], shape, self.size, count * itemsize)
        self.size += count * itemsize


def _store(value: Value, data: Array, offsets: tuple[int, ...]) -> None:
    """Copy the arrays of a constant into the data, each at its offset: row-major and little-endian."""
    constant = value.constant
    at = list(offsets)
    for piece in constant.pieces() if isinstance(constant, Deferred) else [constant]:
        for i, part in enumerate(_arrays(piece)):
            if part.size:
                to = data[at[i] : at[i] + part.nbytes].view(part.dtype.newbyteorder("<"))
                to.reshape(part.shape)[...] = part
                drop_pages(part)
            at[i] += part.nbytes


def _arrays(constant: Array | QuantizedWeight | None) -> tuple[Array, ...]:
    if isinstance(constant, QuantizedWeight):
        data, scale, column_sum, zero_point = packed_arrays(constant)
        return (data, scale, column_sum) if zero_point is None else (data, scale, column_sum, zero_point)
    assert constant is not None
    return (constant,)


def _plan(graph: Graph, constants: list[Value], offsets: Mapping[Value, tuple[int, ...]], data_bytes: int) -> bytes:
    """Return the bytes of the plan; their number does not depend on ``offsets`` and ``data_bytes``."""
    symbols = list(dict.fromkeys(dim for v in graph.inputs for dim in v.shape or () if isinstance(dim, str)))
    bodies = {body: i for i, body in enumerate(list(graph.family())[1:])}
    computed = [value for node in graph.all_nodes() for value in node.outputs if value is not None]
    parameters = [value for body in bodies for value in body.inputs]
    number = {value: i for i, value in enumerate([*graph.inputs, *constants, *computed, *parameters, *graph.states])}
    out = bytearray(_u32(len(symbols)))
    for symbol in symbols:
        out += _text(symbol)
    out += _u32(len(number))
    for value in graph.inputs:
        assert value.shape is not None and value.dtype is not None
        dims = [-1 - symbols.index(dim) if isinstance(dim, str) else int(dim or 0) for dim in value.shape]
        out += _text(value.name) + struct.pack("<BBB", _INPUT, DTYPE_NUMBERS[value.dtype], len(dims)) + _i64(*dims)
    for value in constants:
        out += _constant(value, offsets.get(value))
    for value in computed:
        out += _text(value.name) + struct.pack("<B", _COMPUTED)
    for value in parameters:
        out += _text(value.name) + struct.pack("<B", _PARAMETER)
    for value in graph.states:
        sizes = [int(dim) for dim in value.shape or () if isinstance(dim, int)]
        out += _text(value.name) + struct.pack("<BBB", _STATE, DTYPE_NUMBERS["float32"], len(sizes)) + _i64(*sizes)
    out += _u32(len(graph.inputs), *(number[value] for value in graph.inputs))
    out += _nodes(graph, number, bodies)
    out += _u32(len(graph.outputs))
    for name, value in graph.outputs:
        out += _text(name) + _u32(number[value])
    version = _VERSION_WITH_STATES if graph.states else _VERSION_WITH_BODIES if bodies else _VERSION
    if version > _VERSION:
        out += _u32(len(bodies))
    for body in bodies:
        out += _u32(len(body.inputs), *(number[value] for value in body.inputs))
        out += _nodes(body, number, bodies)
        out += _u32(len(body.outputs), *(number[value] for _, value in body.outputs))
    head = len(_MAGIC) + 4 + 4
    checked = struct.pack("<QQ", head + 16 + len(out), data_bytes) + bytes(out)
    return _MAGIC + _u32(version, zlib.crc32(checked)) + checked


def _nodes(graph: Graph, number: Mapping[Value, int], bodies: Mapping[Graph, int]) -> bytes:
    out = bytearray(_u32(len(graph.nodes)))
    for node in graph.nodes:
        out += _text(node.name) + _text(node.op)
        for values in (node.inputs, node.outputs):
            out += _u32(len(values), *(_NONE if value is None else number[value] for value in values))
        out += _u32(len(node.attributes) + len(node.bodies))
        for name, attribute in node.attributes.items():
            out += _text(name) + _attribute(node, name, attribute)
        for name, body in node.bodies.items():
            out += _text(name) + b"\6" + _i64(bodies[body])
    return bytes(out)


def _constant(value: Value, offsets: tuple[int, ...] | None) -> bytes:
    assert value.shape is not None
    dims = [int(dim) for dim in value.shape if not isinstance(dim, str) and dim is not None]
    if value.dtype is not None:
        (offset,) = offsets or (0,)
        kind = struct.pack("<BBB", _CONSTANT, DTYPE_NUMBERS[value.dtype], len(dims))
        return _text(value.name) + kind + _i64(*dims) + struct.pack("<Q", offset)
    data, scale, column_sum, *zero_point = offsets or (0, 0, 0)
    places = (data, scale, column_sum, *(zero_point or [2**64 - 1]))
    return _text(value.name) + struct.pack("<B6Q", _WEIGHT, *dims, *places)


def _attribute(node: Node, name: str, value: Attribute) -> bytes:
    try:
        if isinstance(value, int):
            return b"\1" + _i64(value)
        if isinstance(value, float):
            return b"\2" + struct.pack("<f", value)
        if isinstance(value, str):
            return b"\3" + _text(value)
        if all(isinstance(item, int) for item in value):
            return b"\4" + _u32(len(value)) + _i64(*value)
        return b"\5" + _u32(len(value)) + struct.pack(f"<{len(value)}f", *value)
    except (struct.error, OverflowError) as error:
        raise ValueError(f"node {node.name!r}: attribute {name} is {value!r}, which is too large: {error}") from error


def _text(text: str) -> bytes:
    encoded = text.encode()
    if b"\0" in encoded:
        raise ValueError(f"{text!r} has a zero byte")
    return _u32(len(encoded)) + encoded


def _u32(*numbers: int) -> bytes:
    return struct.pack(f"<{len(numbers)}I", *numbers)


def _i64(*numbers: int) -> bytes:
    return struct.pack(f"<{len(numbers)}q", *numbers)
