"""Read a graph from a plan, in a file that the C library has opened, and so checked."""

from __future__ import annotations

import json
import struct
from typing import Any

import numpy as np

from ..core.arguments import DTYPE_NUMBERS, FLOAT32, INT8, INT32, Array
from ..errors import FileFormatError
from ..ir.given import Attributes
from ..ir.graph import Graph
from ..ir.shapes import infer_all
from ..ir.values import Node, Value
from ..weights import QuantizedWeight, weight_of_arrays

__all__ = ["read_graph", "read_notes"]

_NAMES = {number: name for name, number in DTYPE_NUMBERS.items()}
_NONE = 0xFFFFFFFF
_HEAD = 8 + 4 + 4 + 8 + 8  # magic, version, checksum, plan bytes, data bytes


def read_notes(image: Array) -> dict[str, str]:
    """Return ``__metadata__`` of a file's bytes."""
    length = int.from_bytes(image[:8].tobytes(), "little")
    try:
        notes = json.loads(image[8 : 8 + length].tobytes()).get("__metadata__", {})
        return {str(name): str(text) for name, text in notes.items()}
    except (ValueError, AttributeError, RecursionError) as error:
        raise FileFormatError(f"damaged header: {error}") from error


def read_graph(image: Array) -> Graph:
    """Return the graph that the bytes of a file hold; its constants look into ``image``."""
    data = image[8 + int.from_bytes(image[:8].tobytes(), "little") :]
    plan = _Reader(data)
    graph = Graph()
    symbols = [plan.text() for _ in range(plan.u32())]
    values = [_value(graph, plan, symbols, data) for _ in range(plan.u32())]
    graph.inputs = [values[i] for i in plan.u32s()]
    graph.states = [value for value in values if value.is_state]
    owners = _nodes(graph, plan, values)
    graph.outputs = [(plan.text(), values[plan.u32()]) for _ in range(plan.u32())]
    for number in range(plan.u32() if plan.version > 1 else 0):
        node, attribute = owners[number]
        body = graph.new_body(f"{node.name}/{attribute}")
        node.bodies[attribute] = body
        body.inputs = [values[i] for i in plan.u32s()]
        for value in body.inputs:
            value.graph = body
        owners |= _nodes(body, plan, values)
        body.outputs = [(str(i), values[tensor]) for i, tensor in enumerate(plan.u32s())]
    for part in reversed(list(graph.family())):  # a node with bodies needs their types
        infer_all(part)
    return graph


def _nodes(graph: Graph, plan: _Reader, values: list[Value]) -> dict[int, tuple[Node, str]]:
    """Read the nodes of a graph. Return, for the number of each body that they run, the node and the attribute."""
    owners: dict[int, tuple[Node, str]] = {}
    for _ in range(plan.u32()):
        name, op = plan.text(), plan.text()
        inputs, outputs = ([None if i == _NONE else values[i] for i in plan.u32s()] for _ in range(2))
        attributes, bodies = _attributes(plan)
        node = Node(op, name, inputs, outputs, attributes)
        owners |= {number: (node, attribute) for attribute, number in bodies.items()}
        for value in outputs:
            if value is not None:
                value.graph, value.producer = graph, node
        graph.append(node)
    return owners


class _Reader:
    def __init__(self, data: Array) -> None:
        self.bytes = data[: int.from_bytes(data[16:24].tobytes(), "little")].tobytes()
        self.at = _HEAD
        self.version = int.from_bytes(self.bytes[8:12], "little")

    def numbers(self, code: str, count: int = 1) -> tuple[Any, ...]:
        layout = f"<{count}{code}"
        result = struct.unpack_from(layout, self.bytes, self.at)
        self.at += struct.calcsize(layout)
        return result

    def u32(self) -> int:
        return int(self.numbers("I")[0])

    def u32s(self) -> tuple[int, ...]:
        return self.numbers("I", self.u32())

    def text(self) -> str:
        length = self.u32()
        self.at += length
        return self.bytes[self.at - length : self.at].decode()


def _value(graph: Graph, plan: _Reader, symbols: list[str], data: Array) -> Value:
    name = plan.text()
    (kind,) = plan.numbers("B")
    if kind in (0, 4):  # computed, or the input of a body
        return Value(graph, name)
    if kind == 3:
        n, k, *offsets = plan.numbers("Q", 6)
        return Value(graph, name, None, (n, k), _weight((n, k), offsets, data))
    number, rank = plan.numbers("B", 2)
    dims = plan.numbers("q", rank)
    dtype = _NAMES[number]
    if kind == 5:
        return Value(graph, name, dtype, dims, is_state=True)
    if kind == 1:
        return Value(graph, name, dtype, tuple(dim if dim >= 0 else symbols[-1 - dim] for dim in dims))
    (offset,) = plan.numbers("Q")
    array = _view(data, offset, int(np.prod(dims, dtype=np.int64)), np.dtype(dtype).newbyteorder("<")).reshape(dims)
    return Value(graph, name, dtype, dims, array)


def _weight(shape: tuple[int, int], offsets: list[int], data: Array) -> QuantizedWeight:
    padded = -(-shape[0] // 16) * 16
    arrays = [_view(data, offsets[0], padded * (-(-shape[1] // 4) * 4), INT8)]
    arrays += [_view(data, at, padded, dtype) for at, dtype in zip(offsets[1:3], (FLOAT32, INT32), strict=True)]
    zero_point = None if offsets[3] == 2**64 - 1 else _view(data, offsets[3], padded, INT32)
    return weight_of_arrays(shape, arrays[0], arrays[1], arrays[2], zero_point)


def _view(data: Array, offset: int, count: int, dtype: np.dtype[Any]) -> Array:
    return data[offset : offset + count * dtype.itemsize].view(dtype)


def _attributes(plan: _Reader) -> tuple[Attributes, dict[str, int]]:
    """Return the attributes of a node, and the numbers of its bodies by attribute."""
    result: Attributes = {}
    bodies: dict[str, int] = {}
    for _ in range(plan.u32()):
        name = plan.text()
        (kind,) = plan.numbers("B")
        if kind == 3:
            result[name] = plan.text()
        elif kind == 6:
            (bodies[name],) = plan.numbers("q")
        elif kind in (1, 2):
            result[name] = plan.numbers("q" if kind == 1 else "f")[0]
        else:
            result[name] = list(plan.numbers("q" if kind == 4 else "f", plan.u32()))
    return result, bodies
