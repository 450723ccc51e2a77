"""The op graph: values, and nodes that compute them. docs/model-format.md lists the ops."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, Protocol, overload, runtime_checkable

import numpy as np

from .._arguments import FLOAT32, Array
from ..weights import QuantizedWeight
from .given import DTYPES, MAX_RANK, Attribute, Attributes, constant_array, dtype_name, node_attributes
from .layers import Layers, subscript
from .shapes import infer
from .show import describe_type, to_dot, to_text

if TYPE_CHECKING:
    from ..model import Model

__all__ = ["DTYPES", "Attribute", "Attributes", "Deferred", "Dim", "Graph", "Node", "Shape", "Value"]

Dim = int | str | None  # a size, the name of one that an input leaves open, or not known
Shape = tuple[Dim, ...]


@runtime_checkable
class Deferred(Protocol):
    """A constant that is made when the file is written, in pieces, so that one of them at a time takes memory."""

    shape: tuple[int, ...]
    dtype: str | None  # None: packed weights (N, K)

    def pieces(self) -> Iterator[Array | QuantizedWeight]:
        """Some rows after others; of packed weights whole panels of 16, but for the last piece."""


class Value:
    """What a node computes, an input of the graph, or a constant. Compares and hashes by identity."""

    __slots__ = ("_graph", "constant", "dtype", "name", "producer", "shape")
    __array_ufunc__ = None  # array * value is this class's to do

    def __init__(
        self,
        graph: Graph,
        name: str,
        dtype: str | None = None,
        shape: Shape | None = None,
        constant: Array | QuantizedWeight | Deferred | None = None,
        producer: Node | None = None,
    ) -> None:
        self._graph = graph
        self.name = name
        self.dtype = dtype  # None: not known, or packed weights
        self.shape = shape  # None: not even the rank is known
        self.constant = constant
        self.producer = producer

    @property
    def array(self) -> Array | None:
        """The constant as an array; None where it is not one."""
        return self.constant if isinstance(self.constant, np.ndarray) else None

    def __repr__(self) -> str:
        return f"Value({self.name!r}, {describe_type(self)})"

    def __add__(self, other: Any) -> Value:
        return self._graph.node("Add", [self, other])

    def __radd__(self, other: Any) -> Value:
        return self._graph.node("Add", [other, self])

    def __sub__(self, other: Any) -> Value:
        return self._graph.node("Sub", [self, other])

    def __rsub__(self, other: Any) -> Value:
        return self._graph.node("Sub", [other, self])

    def __mul__(self, other: Any) -> Value:
        return self._graph.node("Mul", [self, other])

    def __rmul__(self, other: Any) -> Value:
        return self._graph.node("Mul", [other, self])

    def __truediv__(self, other: Any) -> Value:
        return self._graph.node("Div", [self, other])

    def __rtruediv__(self, other: Any) -> Value:
        return self._graph.node("Div", [other, self])

    def __matmul__(self, other: Any) -> Value:
        return self._graph.node("MatMul", [self, other])

    def __rmatmul__(self, other: Any) -> Value:
        return self._graph.node("MatMul", [other, self])

    def __neg__(self) -> Value:
        return self._graph.node("Neg", [self])

    def __getitem__(self, key: Any) -> Value:
        return subscript(self._graph, self, key)

    def __iter__(self) -> Iterator[Value]:
        raise TypeError(f"{self!r} cannot be iterated over; split() cuts it in parts")


class Node:
    """An op on values. ``name`` is unique in its graph."""

    __slots__ = ("attributes", "inputs", "name", "op", "outputs")

    def __init__(
        self, op: str, name: str, inputs: list[Value | None], outputs: list[Value | None], attributes: Attributes
    ) -> None:
        self.op = op
        self.name = name
        self.inputs = inputs  # None: an optional one that is left out
        self.outputs = outputs  # None: one that nobody reads
        self.attributes = attributes

    def input(self, index: int) -> Value | None:
        """Input ``index``; None where it is left out."""
        return self.inputs[index] if index < len(self.inputs) else None

    def __repr__(self) -> str:
        return f"Node({self.op!r}, {self.name!r})"


class Graph(Layers):
    """A network, written node by node.

    >>> import dynq, numpy as np
    >>> g = dynq.Graph()
    >>> x = g.input("x", ("batch", 3))
    >>> y = g.linear(x, np.eye(3, dtype=np.float32), activation="relu")
    >>> model = g.build(y)
    """

    def __init__(self, name: str = "graph") -> None:
        self.name = name
        self.inputs: list[Value] = []
        self.nodes: list[Node] = []
        self.outputs: list[tuple[str, Value]] = []
        self._value_names: set[str] = set()
        self._node_names: set[str] = set()
        self._instead_of: dict[Value, str] = {}  # names that constants get when they are free

    def input(self, name: str, shape: Iterable[Dim], dtype: Any = "float32") -> Value:
        """An input. ``shape`` has sizes and names of sizes that a run decides; equal names stand for equal sizes."""
        dims = tuple(shape)
        for dim in dims:
            if (isinstance(dim, (int, np.integer)) and dim < 0) or not isinstance(dim, (int, np.integer, str)):
                raise ValueError(f"input {name!r} has shape {dims}; expected sizes and names of sizes")
        if len(dims) > MAX_RANK:
            raise ValueError(f"input {name!r} has {len(dims)} dimensions; expected {MAX_RANK} at most")
        dims = tuple(dim if isinstance(dim, str) else int(dim) for dim in dims if dim is not None)
        value = Value(self, self._take_value(name), dtype_name(f"input {name!r}", dtype), dims)
        self.inputs.append(value)
        return value

    def constant(self, array: Any, name: str | None = None) -> Value:
        """A constant: an array, a QuantizedWeight, or numbers (floats become float32, integers int64)."""
        if isinstance(array, QuantizedWeight):
            return Value(self, self._new_value(name, "weight"), None, array.shape, array)
        if isinstance(array, Deferred):
            return Value(self, self._new_value(name, "weight"), array.dtype, array.shape, array)
        result = constant_array(name or "constant", array)
        return Value(self, self._new_value(name, "constant"), result.dtype.name, result.shape, result)

    def constant_for(self, array: Any, old: Value, part: str = "") -> Value:
        """A constant in the place of another; claim_names gives it that one's name (and ``part``)."""
        name = self._instead_of.get(old, old.name) + part
        value = self.constant(array, self.unique_value(name))
        self._instead_of[value] = name
        return value

    def claim_names(self) -> None:
        """Give constants the names of those that they replaced, where nothing has them any more."""
        alive = self.constants()
        names = {value.name for value in alive} | {value.name for value in self.inputs}
        names |= {value.name for node in self.nodes for value in node.outputs if value is not None}
        for value in alive:
            wanted = self._instead_of.get(value, value.name)
            if wanted not in names:
                names.remove(value.name)
                names.add(wanted)
                value.name = wanted

    @overload
    def node(
        self, op: str, inputs: Sequence[Any], outputs: Literal[1] = 1, name: str | None = None, **attributes: Any
    ) -> Value: ...
    @overload
    def node(
        self,
        op: str,
        inputs: Sequence[Any],
        outputs: int | Sequence[str | None],
        name: str | None = None,
        **attributes: Any,
    ) -> tuple[Value, ...]: ...
    def node(
        self,
        op: str,
        inputs: Sequence[Any],
        outputs: int | Sequence[str | None] = 1,
        name: str | None = None,
        **attributes: Any,
    ) -> Value | tuple[Value, ...]:
        """Any op of docs/model-format.md.

        Args:
            inputs: values; None for an optional one that is left out; arrays and numbers become constants.
            outputs: how many, or their names (None for one that nobody reads).
            name: of the node, and of its output where there is one.
            attributes: of the op; one that is None is left out.

        Returns:
            The value where ``outputs`` is 1, else the tuple of values without those that nobody reads.
        """
        name = self._new_node(name, op.rpartition(".")[2].lower())
        ins = [None if value is None else self._value(value, inputs) for value in inputs]
        while ins and ins[-1] is None:
            ins.pop()
        node = Node(op, name, ins, [], node_attributes(name, attributes))
        names: Sequence[str | None] = (
            ([name] if outputs == 1 else [f"{name}.{i}" for i in range(outputs)])
            if isinstance(outputs, int)
            else outputs
        )
        for output in names:
            value = None
            if output is not None:
                output = self.unique_value(output) if isinstance(outputs, int) else output
                value = Value(self, self._take_value(output), producer=node)
            node.outputs.append(value)
        infer(node)
        self.nodes.append(node)
        if outputs == 1:
            assert node.outputs[0] is not None
            return node.outputs[0]
        return tuple(value for value in node.outputs if value is not None)

    def append(self, node: Node) -> None:
        """Add a node that was made elsewhere, with its outputs; their names become taken."""
        self.nodes.append(node)
        self._node_names.add(node.name)
        self._value_names.update(value.name for value in node.outputs if value is not None)

    def insert_after(self, node: Node, new: Node) -> None:
        """append, but next to ``node``."""
        self.append(new)
        self.nodes.insert(self.nodes.index(node) + 1, self.nodes.pop())

    def copy(self) -> Graph:
        """Another graph of the same nodes; the constants' arrays are shared."""
        result = Graph(self.name)
        values: dict[Value, Value] = {}

        def value_of(value: Value | None, producer: Node | None = None) -> Value | None:
            if value is None:
                return None
            if value not in values:
                values[value] = Value(result, value.name, value.dtype, value.shape, value.constant, producer)
            return values[value]

        result.inputs = [new for value in self.inputs if (new := value_of(value)) is not None]
        for node in self.nodes:  # outputs first: inputs then find them, in whatever order the nodes are
            new_node = Node(node.op, node.name, [], [], dict(node.attributes))
            new_node.outputs = [value_of(value, new_node) for value in node.outputs]
            result.nodes.append(new_node)
        for node, new_node in zip(self.nodes, result.nodes, strict=True):
            new_node.inputs = [value_of(value) for value in node.inputs]
        result.outputs = [(name, new) for name, value in self.outputs if (new := value_of(value)) is not None]
        result._value_names, result._node_names = set(self._value_names), set(self._node_names)
        return result

    def output(self, value: Value, name: str | None = None) -> None:
        """Make ``value`` an output, by the name of the value unless another is given."""
        self.outputs.append((value.name if name is None else name, value))

    def unique_value(self, name: str) -> str:
        """``name``, or with a number where a value has that name."""
        return _unique(name, self._value_names)

    def unique_node(self, name: str) -> str:
        """``name``, or with a number where a node has that name."""
        return _unique(name, self._node_names)

    def users(self) -> dict[Value, list[Node]]:
        """The nodes that read each value, once for every input."""
        result: dict[Value, list[Node]] = {}
        for node in self.nodes:
            for value in node.inputs:
                if value is not None:
                    result.setdefault(value, []).append(node)
        return result

    def constants(self) -> list[Value]:
        """Constants that nodes or outputs read, each once, in the order of the nodes."""
        read = [value for node in self.nodes for value in node.inputs if value is not None]
        read += [value for _, value in self.outputs]
        return [value for value in dict.fromkeys(read) if value.constant is not None]

    def sort(self) -> None:
        """Bring the nodes into an order in which they can run; they stay where they are if they can."""
        order: list[Node] = []
        state: dict[Node, bool] = {}  # False: on the way down to it
        for root in self.nodes:
            stack: list[tuple[Node, Iterator[Value | None]]] = []
            if root not in state:
                state[root] = False
                stack.append((root, iter(root.inputs)))
            while stack:
                node, rest = stack[-1]
                for value in rest:
                    before = None if value is None else value.producer
                    if before is None or state.get(before):
                        continue
                    if before in state:
                        names = [n.name for n, _ in stack]
                        cycle = " -> ".join(repr(n) for n in [*names[names.index(before.name) :], before.name])
                        raise ValueError(f"the graph has a cycle of nodes, each of which reads the next: {cycle}")
                    state[before] = False
                    stack.append((before, iter(before.inputs)))
                    break
                else:
                    state[node] = True
                    order.append(node)
                    stack.pop()
        self.nodes = order

    def validate(self) -> None:
        """Raise ValueError, naming the node, where something is missing, twice or goes round in a circle."""
        known: set[Value] = set(self.inputs)
        names: dict[str, str] = {}
        for source in self.inputs:
            _once(names, source.name, "an input")
        nodes: set[str] = set()
        for node in self.nodes:
            if node.name in nodes:
                raise ValueError(f"two nodes have the name {node.name!r}")
            nodes.add(node.name)
            for value in node.outputs:
                if value is not None:
                    _once(names, value.name, f"an output of node {node.name!r}")
                    if value.producer is not node:
                        raise ValueError(
                            f"node {node.name!r} has the output {value.name!r}, which another one computes"
                        )
                    known.add(value)
        for constant in self.constants():
            _once(names, constant.name, "a constant")
            known.add(constant)
        for node in self.nodes:
            for i, value in enumerate(node.inputs):
                if value is not None and value not in known:
                    raise ValueError(
                        f"node {node.name!r} ({node.op}): input {i}, {value.name!r}, is of no node, input or constant "
                        f"of this graph"
                    )
        if not self.outputs:
            raise ValueError("the graph has no outputs")
        seen: set[str] = set()
        for name, result in self.outputs:
            if result not in known:
                raise ValueError(f"output {name!r}: {result.name!r} is of no node, input or constant of this graph")
            if name in seen:
                raise ValueError(f"two outputs have the name {name!r}")
            seen.add(name)
        self.sort()

    def build(
        self,
        *outputs: Value | Mapping[str, Value],
        quantize: bool = True,
        keep_float: Iterable[str] = (),
        attention: str = "float",
        embedding: str = "int8",
        scheme: str = "asymmetric",
        granularity: str = "row",
        first_layer: str = "float",
        int16: Iterable[str] = (),
        group_size: int | Mapping[str, int] | None = None,
        ranges: Mapping[str, tuple[float, float]] | None = None,
        smooth: Any = None,
        smooth_alpha: float | None = None,
    ) -> Model:
        """The model; the graph stays as it is.

        Args:
            outputs: values, or one mapping of names to values; none: those that ``output`` named.
            quantize: False: all stays float32.
            keep_float: names of nodes, or patterns (``"encoder.layer.0.*"``), that stay float32.
            attention: "int8": its two products are quantized too, both sides while the model runs.
            embedding: "float": tables stay float32.
            scheme: how the inputs of linear layers are quantized, "asymmetric" or "symmetric".
            granularity: "row", a scale for each row, or "tensor".
            first_layer: "int8": the layer that reads an input of the model is quantized even where it is small.
            int16: names of linear layers, or patterns, whose inputs get 16 bits instead of 8: twice the time.
            group_size: the inputs of linear layers get a scale for each so many values of a row, a multiple of 32 from
                32 to 256, instead of one for the row; a dict of names or patterns: of these layers.
            ranges: fixed ranges of inputs, of convolutions too, by name or pattern; values outside are clamped.
                calibrate() finds them. A small first layer that one of these three has by its name is quantized.
            smooth: samples, as calibrate takes them: channels that are outliers in them move into the weights before
                these are quantized, where that promises a gain.
            smooth_alpha: how far, 0 to 1. None: for each layer the best of some.
        """
        from .build import build

        return build(
            self,
            outputs,
            quantize=quantize,
            keep_float=keep_float,
            attention=attention,
            embedding=embedding,
            scheme=scheme,
            granularity=granularity,
            first_layer=first_layer,
            int16=int16,
            group_size=group_size,
            ranges=ranges,
            smooth=smooth,
            smooth_alpha=smooth_alpha,
        )

    def __str__(self) -> str:
        return to_text(self)

    def __repr__(self) -> str:
        return f"Graph({self.name!r}, {len(self.nodes)} nodes)"

    def to_dot(self) -> str:
        """The graph in Graphviz's language."""
        return to_dot(self)

    def _value(self, value: Any, beside: Sequence[Any]) -> Value:
        if isinstance(value, Value):
            if value._graph is not self:
                raise ValueError(f"value {value.name!r} is of another graph")
            return value
        if isinstance(value, (int, float)) and not isinstance(value, bool):  # a number takes its neighbour's dtype
            dtypes = {v.dtype for v in beside if isinstance(v, Value) and v.dtype is not None}
            if len(dtypes) == 1:
                dtype = DTYPES[dtypes.pop()]
                if isinstance(value, int) or dtype == FLOAT32:
                    return self.constant(np.asarray(value, dtype))
        return self.constant(value)

    def _take_value(self, name: str) -> str:
        if name in self._value_names:
            raise ValueError(f"two values would have the name {name!r}")
        if not name or "\0" in name:
            raise ValueError(f"a value cannot have the name {name!r}")
        self._value_names.add(name)
        return name

    def _new_value(self, name: str | None, kind: str) -> str:
        return self._take_value(self.unique_value(kind) if name is None else name)

    def _new_node(self, name: str | None, kind: str) -> str:
        name = self.unique_node(kind) if name is None else name
        if name in self._node_names:
            raise ValueError(f"two nodes would have the name {name!r}")
        self._node_names.add(name)
        return name


def _unique(name: str, taken: set[str]) -> str:
    result, i = name, 0
    while result in taken:
        i += 1
        result = f"{name}_{i}"
    return result


def _once(names: dict[str, str], name: str, what: str) -> None:
    if name in names:
        raise ValueError(f"two values have the name {name!r}: {names[name]} and {what}")
    names[name] = what
