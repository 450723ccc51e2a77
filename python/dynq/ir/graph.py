"""The op graph as data: its nodes, inputs and outputs, and their names. docs/model-format.md lists the ops."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, TypeVar, overload

import numpy as np

from ..core.arguments import FLOAT32
from ..core.names import TakenNames
from ..weights import QuantizedWeight
from .given import DTYPES, MAX_RANK, constant_array, dtype_name, node_attributes
from .layers import Layers
from .shapes import infer
from .show import to_dot, to_text
from .values import Deferred, Dim, Node, Shape, Value

__all__ = ["Graph"]

_Graph = TypeVar("_Graph", bound="Graph")


class Graph(Layers):
    """A network as nodes on values. dynq.Graph can build a model of it."""

    def __init__(self, name: str = "graph") -> None:
        self.name = name
        self.inputs: list[Value] = []
        self.states: list[Value] = []  # what a session keeps between runs
        self.nodes: list[Node] = []
        self.outputs: list[tuple[str, Value]] = []
        self._value_names = TakenNames()
        self._node_names = TakenNames()
        self._instead_of: dict[Value, str] = {}  # the names that constants are to get once these are free

    def new_body(self: _Graph, name: str) -> _Graph:
        """Return an empty graph that a node of this one will run. All their names differ."""
        body = type(self)(name)
        body._value_names, body._node_names = self._value_names, self._node_names
        return body

    def adopt(self: _Graph, body: _Graph) -> _Graph:
        """Return a copy of another graph's body for a node of this one. All names in it are new here."""
        copy = body.copy(self)
        for part in copy.family():
            for node in part.nodes:
                node.name = self._node_names.take(node.name)
            computed = (value for node in part.nodes for value in node.outputs if value is not None)
            for value in (*part.inputs, *part.constants(), *computed):
                value.name = self._value_names.take(value.name)
        return copy

    def parameter(self, name: str, dtype: str | None, shape: Shape | None) -> Value:
        """Add an input of a body, whose type may be unknown, and return it."""
        value = Value(self, self._take_value(name), dtype, shape)
        self.inputs.append(value)
        return value

    def family(self) -> Iterator[Graph]:
        """Yield this graph and the bodies in it, each before those in it."""
        yield self
        for node in self.nodes:
            for body in node.bodies.values():
                yield from body.family()

    def all_nodes(self) -> Iterator[Node]:
        """Yield the nodes of this graph and of the bodies in it."""
        for graph in self.family():
            yield from graph.nodes

    def input(self, name: str, shape: Iterable[Dim], dtype: Any = "float32") -> Value:
        """Add an input and return it.

        ``shape`` has sizes, and names for sizes that are known only in a run. Equal names stand for equal sizes.
        """
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

    def state(self, name: str, shape: tuple[int, int, int]) -> Value:
        """Add a state and return it: (heads, most positions, width), which one dynq.CachedAttention appends to."""
        if len(shape) != 3 or not all(isinstance(dim, (int, np.integer)) and dim > 0 for dim in shape):
            raise ValueError(f"state {name!r} has shape {shape}; expected heads, most positions and width")
        dims = tuple(int(dim) for dim in shape)
        value = Value(self, self._take_value(name), "float32", dims, is_state=True)
        self.states.append(value)
        return value

    def constant(self, array: Any, name: str | None = None) -> Value:
        """Return a constant: an array, a QuantizedWeight, or numbers (floats become float32, integers int64)."""
        if isinstance(array, QuantizedWeight):
            return Value(self, self._new_value(name, "weight"), None, array.shape, array)
        if isinstance(array, Deferred):
            return Value(self, self._new_value(name, "weight"), array.dtype, array.shape, array)
        result = constant_array(name or "constant", array)
        return Value(self, self._new_value(name, "constant"), result.dtype.name, result.shape, result)

    def constant_for(self, array: Any, old: Value, part: str = "") -> Value:
        """Return a constant that replaces ``old``; claim_names gives it the name of ``old``, with ``part`` behind
        it.
        """
        name = self._instead_of.get(old, old.name) + part
        value = self.constant(array, self.unique_value(name))
        self._instead_of[value] = name
        return value

    def claim_names(self) -> None:
        """Give constants the names of those that they replaced, if nothing has these names any more."""
        graphs = list(self.family())
        alive = list(dict.fromkeys(value for graph in graphs for value in graph.constants()))
        wanted_names = {value: name for graph in graphs for value, name in graph._instead_of.items()}
        names = {value.name for value in alive}
        names |= {value.name for graph in graphs for value in (*graph.inputs, *graph.states)}
        names |= {value.name for node in self.all_nodes() for value in node.outputs if value is not None}
        for value in alive:
            wanted = wanted_names.get(value, value.name)
            if wanted not in names:
                names.remove(value.name)
                names.add(wanted)
                value.name = wanted

    @overload
    def node(
        self,
        op: str,
        inputs: Sequence[Any],
        outputs: Literal[1] = 1,
        name: str | None = None,
        *,
        bodies: Mapping[str, Graph] | None = None,
        **attributes: Any,
    ) -> Value: ...
    @overload
    def node(
        self,
        op: str,
        inputs: Sequence[Any],
        outputs: int | Sequence[str | None],
        name: str | None = None,
        *,
        bodies: Mapping[str, Graph] | None = None,
        **attributes: Any,
    ) -> tuple[Value, ...]: ...
    def node(
        self,
        op: str,
        inputs: Sequence[Any],
        outputs: int | Sequence[str | None] = 1,
        name: str | None = None,
        *,
        bodies: Mapping[str, Graph] | None = None,
        **attributes: Any,
    ) -> Value | tuple[Value, ...]:
        """Add a node with any op of docs/model-format.md.

        Args:
            inputs: values. None stands for an optional one that is left out; arrays and numbers become constants.
            outputs: how many, or their names (None for one that nobody reads).
            name: the name of the node, and of its output if it has just one.
            bodies: the graphs that the node runs, by the names of their attributes.
            attributes: the other attributes of the op. One that is None is left out.

        Returns:
            The value if ``outputs`` is 1, else the tuple of values without those that nobody reads.
        """
        name = self._new_node(name, op.rpartition(".")[2].lower())
        ins = [None if value is None else self._value(value, inputs) for value in inputs]
        while ins and ins[-1] is None:
            ins.pop()
        node = Node(op, name, ins, [], node_attributes(name, attributes), bodies)
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
        """Add a node that was made elsewhere, with its outputs. Their names become taken."""
        self.nodes.append(node)
        self._node_names.add(node.name)
        self._value_names.update(value.name for value in node.outputs if value is not None)

    def insert_after(self, node: Node, new: Node) -> None:
        """Add ``new`` like ``append``, but right behind ``node``."""
        self.append(new)
        self.nodes.insert(self.nodes.index(node) + 1, self.nodes.pop())

    def copy(self: _Graph, around: _Graph | None = None, constants: dict[Value, Value] | None = None) -> _Graph:
        """Return another graph of the same nodes. It shares the arrays of the constants.

        Args:
            around: the graph that the copy will be a body in.
            constants: the copies of constants so far, which bodies may have in common; those of this graph are added.
        """
        constants = {} if constants is None else constants
        result = type(self)(self.name)
        result._value_names, result._node_names = TakenNames(self._value_names), TakenNames(self._node_names)
        if around is not None:
            result = around.new_body(self.name)
        values: dict[Value, Value] = {}

        def value_of(value: Value | None, producer: Node | None = None) -> Value | None:
            if value is None:
                return None
            known = values if value.constant is None else constants
            if value not in known:
                known[value] = Value(
                    result, value.name, value.dtype, value.shape, value.constant, producer, value.is_state
                )
            return known[value]

        result.inputs = [new for value in self.inputs if (new := value_of(value)) is not None]
        result.states = [new for value in self.states if (new := value_of(value)) is not None]
        for node in self.nodes:  # outputs first, so that inputs find them in whatever order the nodes are
            bodies = {name: body.copy(result, constants) for name, body in node.bodies.items()}
            new_node = Node(node.op, node.name, [], [], dict(node.attributes), bodies)
            new_node.outputs = [value_of(value, new_node) for value in node.outputs]
            result.nodes.append(new_node)
        for node, new_node in zip(self.nodes, result.nodes, strict=True):
            new_node.inputs = [value_of(value) for value in node.inputs]
        result.outputs = [(name, new) for name, value in self.outputs if (new := value_of(value)) is not None]
        return result

    def output(self, value: Value, name: str | None = None) -> None:
        """Make ``value`` an output. It has the name of the value if no other one is given."""
        self.outputs.append((value.name if name is None else name, value))

    def taken_names(self) -> tuple[TakenNames, TakenNames]:
        """Return the names of values and of nodes that are taken."""
        return self._value_names, self._node_names

    def unique_value(self, name: str) -> str:
        """Return ``name``, with a number behind it if a value has that name already."""
        return self._value_names.unique(name)

    def unique_node(self, name: str) -> str:
        """Return ``name``, with a number behind it if a node has that name already."""
        return self._node_names.unique(name)

    def users(self) -> dict[Value, list[Node]]:
        """Return the nodes that read each value, once for every input."""
        result: dict[Value, list[Node]] = {}
        for node in self.nodes:
            for value in node.inputs:
                if value is not None:
                    result.setdefault(value, []).append(node)
        return result

    def constants(self) -> list[Value]:
        """Return the constants that nodes or outputs read, each once, in the order of the nodes."""
        read = [value for node in self.nodes for value in node.inputs if value is not None]
        read += [value for _, value in self.outputs]
        return [value for value in dict.fromkeys(read) if value.constant is not None]

    def sort(self) -> None:
        """Bring the nodes into an order in which they can run. If they can run as they are, nothing moves."""
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
        """Check that the graph can become a model.

        Raises:
            ValueError: something is missing, there twice, or part of a cycle. The error names the node.
        """
        known: set[Value] = {*self.inputs, *self.states}
        names: dict[str, str] = {}
        for source in self.inputs:
            _once(names, source.name, "an input")
        for source in self.states:
            _once(names, source.name, "a state")
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
        for node in self.nodes:
            for body in node.bodies.values():
                body.validate()
        self.sort()

    def __str__(self) -> str:
        return to_text(self)

    def __repr__(self) -> str:
        return f"Graph({self.name!r}, {len(self.nodes)} nodes)"

    def to_dot(self) -> str:
        """Return the graph in Graphviz's language."""
        return to_dot(self)

    def _value(self, value: Any, beside: Sequence[Any]) -> Value:
        if isinstance(value, Value):
            if value.graph is not self and not (value.constant is not None and self._is_family(value.graph)):
                raise ValueError(f"value {value.name!r} is of another graph")
            return value
        if isinstance(value, (int, float)) and not isinstance(value, bool):  # a number takes its neighbour's dtype
            dtypes = {v.dtype for v in beside if isinstance(v, Value) and v.dtype is not None}
            if len(dtypes) == 1:
                dtype = DTYPES[dtypes.pop()]
                if isinstance(value, int) or dtype == FLOAT32:
                    return self.constant(np.asarray(value, dtype))
        return self.constant(value)

    def _is_family(self, other: object) -> bool:
        """Return whether another graph has its names with this one. Such graphs may share constants."""
        return isinstance(other, Graph) and other._value_names is self._value_names

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


def _once(names: dict[str, str], name: str, what: str) -> None:
    if name in names:
        raise ValueError(f"two values have the name {name!r}: {names[name]} and {what}")
    names[name] = what
