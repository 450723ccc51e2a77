"""Values of the op graph, and the nodes that compute them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np

from ..core.arguments import Array
from ..weights import QuantizedWeight
from . import ops
from .given import Attributes

__all__ = ["Deferred", "Dim", "Node", "Shape", "Value", "axis_of", "describe_type", "integers", "subscript"]

Dim = int | str | None  # a size; the name of one that an input leaves open; None: not known
Shape = tuple[Dim, ...]

_TO_THE_END = 2**63 - 1


@runtime_checkable
class Deferred(Protocol):
    """A constant that is made in pieces when the file is written, so that memory holds one piece at a time."""

    shape: tuple[int, ...]
    dtype: str | None  # None: packed weights (N, K)

    def pieces(self) -> Iterator[Array | QuantizedWeight]:
        """Yield the rows, some at a time. For packed weights, each piece but the last has whole panels of 16 rows."""


class Writes(Protocol):
    """A graph to which values add their operators."""

    def node(self, op: str, inputs: Sequence[Any]) -> Value:
        """Add a node and return its output."""


class Value:
    """An input or a state of the graph, a constant, or an output of a node. Compares and hashes by identity."""

    __slots__ = ("constant", "dtype", "graph", "is_state", "name", "producer", "shape")
    __array_ufunc__ = None  # tells NumPy to leave array * value to this class

    def __init__(
        self,
        graph: Writes,
        name: str,
        dtype: str | None = None,
        shape: Shape | None = None,
        constant: Array | QuantizedWeight | Deferred | None = None,
        producer: Node | None = None,
        is_state: bool = False,
    ) -> None:
        self.graph = graph
        self.name = name
        self.dtype = dtype  # None: not known, or packed weights
        self.shape = shape  # None: not even the rank is known
        self.constant = constant
        self.producer = producer
        self.is_state = is_state  # a session keeps it: (heads, most positions, width)

    @property
    def array(self) -> Array | None:
        """Return the constant as an array; None if it is not one."""
        return self.constant if isinstance(self.constant, np.ndarray) else None

    def __repr__(self) -> str:
        return f"Value({self.name!r}, {describe_type(self)})"

    def __add__(self, other: Any) -> Value:
        return self.graph.node("Add", [self, other])

    def __radd__(self, other: Any) -> Value:
        return self.graph.node("Add", [other, self])

    def __sub__(self, other: Any) -> Value:
        return self.graph.node("Sub", [self, other])

    def __rsub__(self, other: Any) -> Value:
        return self.graph.node("Sub", [other, self])

    def __mul__(self, other: Any) -> Value:
        return self.graph.node("Mul", [self, other])

    def __rmul__(self, other: Any) -> Value:
        return self.graph.node("Mul", [other, self])

    def __truediv__(self, other: Any) -> Value:
        return self.graph.node("Div", [self, other])

    def __rtruediv__(self, other: Any) -> Value:
        return self.graph.node("Div", [other, self])

    def __matmul__(self, other: Any) -> Value:
        return self.graph.node("MatMul", [self, other])

    def __rmatmul__(self, other: Any) -> Value:
        return self.graph.node("MatMul", [other, self])

    def __neg__(self) -> Value:
        return self.graph.node("Neg", [self])

    def __getitem__(self, key: Any) -> Value:
        return subscript(self.graph, self, key)

    def __iter__(self) -> Iterator[Value]:
        raise TypeError(f"{self!r} cannot be iterated over; split() cuts it in parts")


class Node:
    """A node: an op on values. ``name`` is unique in its graph."""

    __slots__ = ("attributes", "bodies", "inputs", "name", "op", "outputs")

    def __init__(
        self,
        op: str,
        name: str,
        inputs: list[Value | None],
        outputs: list[Value | None],
        attributes: Attributes,
        bodies: Mapping[str, Any] | None = None,
    ) -> None:
        self.op = op
        self.name = name
        self.inputs = inputs  # None: an optional one that is left out
        self.outputs = outputs  # None: one that nobody reads
        self.attributes = attributes
        self.bodies: dict[str, Any] = dict(bodies or {})  # graphs that the node runs, by the name of the attribute

    @property
    def first(self) -> Value | None:
        """Return the first input, whatever its op calls it; None if the node has no inputs."""
        return self.inputs[0] if self.inputs else None

    def position(self, name: str) -> int:
        """Return the index of the input that the table of ops calls ``name``."""
        return ops.find(self.op).position(name)

    def input(self, name: str | int) -> Value | None:
        """Return the input of that name, or of that index; None if it is left out."""
        index = name if isinstance(name, int) else self.position(name)
        return self.inputs[index] if index < len(self.inputs) else None

    def need(self, name: str) -> Value:
        """Return the input of that name, which the passes know to be there."""
        value = self.inputs[self.position(name)]
        assert value is not None
        return value

    def array(self, name: str) -> Array | None:
        """Return the constant array of the input of that name; None if it is left out or no such constant."""
        value = self.input(name)
        return None if value is None else value.array

    def set_input(self, name: str, value: Value | None) -> None:
        """Give the node another value as the input of that name; None leaves it out."""
        index = self.position(name)
        self.inputs += [None] * (index + 1 - len(self.inputs))
        self.inputs[index] = value
        while self.inputs and self.inputs[-1] is None:
            self.inputs.pop()

    def __repr__(self) -> str:
        return f"Node({self.op!r}, {self.name!r})"


def axis_of(axis: Any, rank: int) -> int:
    """Return an axis counted from the first one.

    Raises:
        ValueError: a tensor of that rank does not have it.
    """
    result = int(axis) + (rank if axis < 0 else 0)
    if not 0 <= result < rank:
        raise ValueError(f"axis {axis} of rank {rank}")
    return result


def describe_type(value: Value) -> str:
    """Return ``float32 (batch, 384)``, for example, or ``packed int8 (384, 1536)`` for weights."""
    kind = value.dtype or ("packed int8" if value.constant is not None else "?")
    if value.shape is None:
        return f"{kind} (...)"
    dims = ", ".join("?" if dim is None else str(dim) for dim in value.shape)
    return f"{kind} ({dims}{',' if len(value.shape) == 1 else ''})"


def subscript(graph: Writes, x: Value, key: Any) -> Value:
    """Return ``x[key]`` for integers, slices, an ellipsis and None: at most a Slice, a Squeeze and an Unsqueeze."""
    items = list(key) if isinstance(key, tuple) else [key]
    if any(item is Ellipsis for item in items):
        if x.shape is None:
            raise ValueError(f"{x!r} has no known rank; an ellipsis needs one")
        at = next(i for i, item in enumerate(items) if item is Ellipsis)
        taken = sum(item is not None for item in items) - 1
        items[at : at + 1] = [slice(None)] * (len(x.shape) - taken)
    starts: list[int] = []
    ends: list[int] = []
    axes: list[int] = []
    steps: list[int] = []
    squeezed: list[int] = []
    added: list[int] = []
    axis = place = 0
    for item in items:
        if item is None:
            added.append(place)
            place += 1
            continue
        if isinstance(item, (int, np.integer)) and not isinstance(item, bool):
            bounds = (int(item), int(item) + 1 if item != -1 else _TO_THE_END, 1)
            squeezed.append(axis)
        elif isinstance(item, slice):
            step = 1 if item.step is None else int(item.step)
            start = (0 if step > 0 else _TO_THE_END) if item.start is None else int(item.start)
            bounds = (start, (_TO_THE_END if step > 0 else -_TO_THE_END) if item.stop is None else int(item.stop), step)
            place += 1
        else:
            raise TypeError(f"a value has no item {item!r}; expected integers, slices, an ellipsis or None")
        if bounds != (0, _TO_THE_END, 1):
            for part, bound in zip((starts, ends, steps, axes), (*bounds, axis), strict=True):
                part.append(bound)
        axis += 1
    if axes:
        x = graph.node("Slice", [x, *(integers(part) for part in (starts, ends, axes, steps))])
    if squeezed:
        x = graph.node("Squeeze", [x, integers(squeezed)])
    if added:
        x = graph.node("Unsqueeze", [x, integers(added)])
    return x


def integers(value: Any) -> Any:
    """Return sizes or axes as int64 (n,). A Value is returned unchanged."""
    if hasattr(value, "producer"):
        return value
    array: Array = np.asarray(value)
    if array.dtype.kind not in "iu" and array.size:
        raise TypeError(f"{value!r} is not made of integers")
    return array.astype(np.int64).reshape(-1)
