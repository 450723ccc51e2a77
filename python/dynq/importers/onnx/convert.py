"""The walk through a model: each node is converted by the function of its op, newest that is not above the opset."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from onnx import GraphProto, NodeProto

from ..._arguments import Array
from ...graph import Graph, Value
from ..errors import InvalidModelError, Problems, Unsupported
from .attributes import Rule, read
from .source import Source, names_read, sorted_nodes
from .static import evaluate
from .tensors import DTYPE_OF, Tensor, type_name

__all__ = ["CONVERTERS", "Call", "Converter", "can_convert", "constant_array", "convert", "converter"]

Result = Value | Sequence[Value | None] | None


@dataclass(frozen=True)
class Converter:
    since: int
    rules: dict[str, Rule]
    function: Callable[[Call], Result]
    same: bool  # the op stays as it is


CONVERTERS: dict[tuple[str, str], list[Converter]] = {}


def converter(
    *ops: str,
    since: int = 1,
    domain: str = "",
    same: bool = False,
    also: Mapping[str, Rule] = MappingProxyType({}),
    **rules: Rule,
) -> Callable[[Callable[[Call], Result]], Callable[[Call], Result]]:
    """Registers a function for ops (texts of names) from opset ``since`` on, with the attributes that it implements."""

    def register(function: Callable[[Call], Result]) -> Callable[[Call], Result]:
        for op in " ".join(ops).split():
            CONVERTERS.setdefault((domain, op), []).append(Converter(since, {**also, **rules}, function, same))
        return function

    return register


class Call:
    """One node on its way into the graph."""

    def __init__(self, walk: Walk, node: NodeProto, name: str, attributes: dict[str, Any]) -> None:
        self.op = str(node.op_type)
        self.name = name
        self.attributes = attributes
        self.inputs: list[Value | None] = [walk.values[value] if value else None for value in node.input]
        self.outputs: list[str | None] = [value if value in walk.read else None for value in node.output]
        self.proto = node
        self._walk = walk

    def input(self, index: int) -> Value | None:
        return self.inputs[index] if index < len(self.inputs) else None

    def need(self, index: int) -> Value:
        """An input that the op cannot do without."""
        value = self.input(index)
        if value is None:
            raise InvalidModelError(f"node {self.name!r} ({self.op}) has no input {index}")
        return value

    def array(self, index: int) -> Array | None:
        """The value of an input where it is known before any run."""
        value = self.input(index)
        return None if value is None else evaluate(value)

    def attribute(self, name: str, otherwise: Any) -> Any:
        return self.attributes.get(name, otherwise)

    def output_read(self, index: int) -> bool:
        """Whether anything reads this output."""
        return index < len(self.outputs) and self.outputs[index] is not None

    def only_first_output(self) -> None:
        for i in range(1, len(self.outputs)):
            if self.output_read(i):
                raise Unsupported(f"output {i} of {self.op}")

    def emit(self, op: str | None = None, inputs: Sequence[Any] | None = None, **attributes: Any) -> Result:
        """The node that takes this one's name and outputs; the same op, inputs and attributes unless told."""
        if inputs is None:
            inputs = self.inputs
        if op is None:
            op, attributes = self.op, {**self.attributes, **attributes}
        return self._walk.add(op, inputs, self.name, self.outputs, attributes)

    def last(self, op: str, inputs: Sequence[Any], **attributes: Any) -> Value:
        """Emits a node that has one output: this one's first."""
        output = self.outputs[0] or self._walk.fresh(self.name)
        result = self._walk.add(op, inputs, self.name, [output], attributes)
        assert result[0] is not None
        return result[0]

    def node(self, op: str, inputs: Sequence[Any], **attributes: Any) -> Value:
        """A node on the way."""
        return self.nodes(op, inputs, 1, **attributes)[0]

    def nodes(self, op: str, inputs: Sequence[Any], outputs: int, **attributes: Any) -> list[Value]:
        """A node on the way that has several outputs."""
        name = self._walk.fresh(f"{self.name}/{op.rpartition('.')[2].lower()}")
        names = [name] + [self._walk.fresh(f"{name}.{i}") for i in range(1, outputs)]
        result = self._walk.add(op, inputs, name, names, attributes)
        return [value for value in result if value is not None]

    def constant(self, array: Any, name: str = "constant") -> Value:
        return self._walk.graph.constant(array, self._walk.fresh(f"{self.name}/{name}"))

    def own_constant(self, array: Any) -> Value:
        """A constant by the name of the output."""
        assert self.outputs[0] is not None
        return self._walk.graph.constant(array, self._walk.scoped(self.outputs[0]))

    def onnx_type(self, index: int) -> int | None:
        """ONNX's number of the type of an input, as far as inference knows it."""
        name = self.proto.input[index] if index < len(self.proto.input) else ""
        known = self._walk.types.get(name)
        return known[0] if known else None

    def rank(self, index: int) -> int:
        """The rank of an input, where the conversion takes it."""
        value = self.need(index)
        shape = value.shape
        if shape is None:
            known = self._walk.types.get(self.proto.input[index])
            shape = known[1] if known else None
        if shape is None:
            raise Unsupported(f"{self.op} of a tensor whose rank is not known")
        return len(shape)

    def subgraph(self, name: str) -> list[Value | None]:
        """Converts the nodes of a graph attribute in place of this node: its outputs."""
        for attribute in self.proto.attribute:
            if attribute.name == name and attribute.HasField("g"):
                return self._walk.inner(attribute.g, f"{self.name}/")
        raise InvalidModelError(f"node {self.name!r} ({self.op}) has no {name}")


class Walk:
    """A graph of the model, with what its values have become. None: a value whose node was refused."""

    def __init__(self, source: Source, ops: frozenset[str]) -> None:
        self.source = source
        self.ops = ops
        self.graph = Graph(source.name)
        self.problems = Problems()
        self.values: dict[str, Value] = {}
        self.refused: set[str] = set()
        self.types = source.types
        self.prefix = ""
        self.read = names_read(source.graph)
        self._taken = _all_names(source.graph)
        self._tensors = dict(source.tensors)

    def fresh(self, name: str) -> str:
        """``name``, or with a number where something has it."""
        result, i = name, 0
        while result in self._taken:
            i += 1
            result = f"{name}_{i}"
        self._taken.add(result)
        return result

    def scoped(self, name: str) -> str:
        """A value's name in the graph: its own, but for those of branches, which need not be unique."""
        return self.fresh(self.prefix + name) if self.prefix else name

    def run(self) -> None:
        source, graph = self.source, self.source.graph
        given = [value for value in graph.input if value.name not in source.tensors]
        for value in given:
            self._input(value)
        self._tensor_types()
        self._nodes([(node.name, node) for node in graph.node])
        outputs = [value.name for value in graph.output]
        if not outputs:
            raise InvalidModelError(f"{source.name} has no outputs")
        for name in outputs:
            if name not in self.values and name not in self.refused and name not in self._tensors:
                raise InvalidModelError(f"{source.name}: nothing computes the output {name!r}")
        self.problems.check(source.name)
        if source.wrong is not None:
            raise source.wrong
        for name in outputs:
            self.graph.output(self._value(name), name)

    def inner(self, graph: GraphProto, prefix: str) -> list[Value | None]:
        """A branch: sees the values around it, and its own disappear behind it."""
        outer = self.values, self.refused, self.prefix, self._tensors, self.types
        self.values, self.refused, self._tensors = dict(self.values), set(self.refused), dict(self._tensors)
        self.prefix = self.prefix + prefix
        try:
            for proto in graph.initializer:
                self._tensors[proto.name] = Tensor(proto, f"initializer {proto.name!r}", None)
            known = self.values.keys() | self.refused | self._tensors.keys()
            self._nodes(sorted_nodes(graph, set(known), self.prefix))
            names = [str(value.name) for value in graph.output]
            return [None if name in self.refused else self._value(name) for name in names]
        finally:
            self.values, self.refused, self.prefix, self._tensors, self.types = outer

    def add(
        self, op: str, inputs: Sequence[Any], name: str, outputs: Sequence[str | None], attributes: dict[str, Any]
    ) -> list[Value | None]:
        """A node of the graph; its values get the types that inference knows."""
        if op not in self.ops:
            self.problems.add(f"op {op}", name)  # goes on, to find all that is missing
        names = [None if output is None else self.scoped(output) for output in outputs]
        while names and names[-1] is None:
            names.pop()
        made = self.graph.node(op, inputs, names, name, **attributes)
        rest = iter(made)
        result = [None if output is None else next(rest) for output in names]
        for output, value in zip(outputs, result, strict=False):
            if value is not None and output is not None:
                self._type(value, output)
        return result

    def _type(self, value: Value, name: str) -> None:
        kind, shape = self.types.get(name, (0, None))
        if value.dtype is None:
            value.dtype = DTYPE_OF.get(kind)
        if shape is not None:
            if value.shape is None or len(value.shape) != len(shape):
                value.shape = (None,) * len(shape)
            symbols = {dim for v in self.graph.inputs for dim in v.shape or () if isinstance(dim, str)}
            value.shape = tuple(
                mine if mine is not None else dim if isinstance(dim, int) or dim in symbols else None
                for mine, dim in zip(value.shape, shape, strict=True)
            )

    def _input(self, value: Any) -> None:
        """An input of the model; a size that it leaves open without a name gets one."""
        name, tensor = value.name, value.type.tensor_type
        if not value.type.HasField("tensor_type"):
            self.problems.add("input that is not a tensor", name)
            self.refused.add(name)
            return
        if tensor.elem_type not in DTYPE_OF:
            self.problems.add(f"dtype {type_name(tensor.elem_type)} of input", name)
            self.refused.add(name)
            return
        if not tensor.HasField("shape"):
            self.problems.add("input without a shape", name)
            self.refused.add(name)
            return
        dims: list[int | str] = []
        for i, dim in enumerate(tensor.shape.dim):
            if dim.HasField("dim_value"):
                if dim.dim_value < 0:
                    raise InvalidModelError(f"input {name!r}: dimension {i} is {dim.dim_value}; expected 0 or more")
                dims.append(int(dim.dim_value))
            else:
                dims.append(dim.dim_param or f"{name}_dim_{i}")
        self.values[name] = self.graph.input(name, dims, DTYPE_OF[tensor.elem_type])

    def _tensor_types(self) -> None:
        for name, tensor in self._tensors.items():
            if tensor.kind not in DTYPE_OF:
                self.problems.add(f"dtype {type_name(tensor.kind)} of initializer", name)
                self.refused.add(name)

    def _value(self, name: str) -> Value:
        """What an ONNX name has become; an initializer becomes a constant when it is first read."""
        if name not in self.values:
            self.values[name] = self.graph.constant(self._tensors[name].read(), self.scoped(name))
        return self.values[name]

    def _nodes(self, order: list[tuple[str, NodeProto]]) -> None:
        for name, node in order:
            name = self.fresh_node(self.prefix + name)
            if not any(output in self.read for output in node.output):
                continue
            if any(value in self.refused for value in node.input):
                self._static_problems(node, name)
                self.refused.update(output for output in node.output if output)
                continue
            if not self._node(node, name):
                self.refused.update(output for output in node.output if output)

    def fresh_node(self, name: str) -> str:
        result, i = name, 0
        while result in self.graph._node_names:
            i += 1
            result = f"{name}_{i}"
        return result

    def _static_problems(self, node: NodeProto, name: str) -> tuple[Converter, dict[str, Any]] | None:
        """What can be said of a node without its inputs: the op and its attributes."""
        domain = "" if node.domain == "ai.onnx" else str(node.domain)
        op = f"{domain}.{node.op_type}" if domain else str(node.op_type)
        opset = self.source.opsets.get(domain)
        if opset is None:
            raise InvalidModelError(f"node {name!r} ({op}): the model imports no opset of its domain")
        fits = [c for c in CONVERTERS.get((domain, node.op_type), []) if c.since <= opset]
        if not fits:
            self.problems.add(f"op {op} (opset {opset})", name)
            return None
        best = max(fits, key=lambda c: c.since)
        refused: list[str] = []
        attributes = read(node, name, best.rules, refused.append)
        for what in refused:
            self.problems.add(what, name)
        return None if refused else (best, attributes)

    def _node(self, node: NodeProto, name: str) -> bool:
        """Converts it; False where it was refused."""
        found = self._static_problems(node, name)
        if found is None:
            return False
        best, attributes = found
        for value in node.input:
            if value:
                self._value(value)
        call = Call(self, node, name, attributes)
        try:
            result = best.function(call)
        except Unsupported as error:
            self.problems.add(str(error), name)
            return False
        except (ValueError, TypeError) as error:
            if isinstance(error, InvalidModelError):
                raise
            raise InvalidModelError(f"node {name!r} ({node.op_type}): {error}") from error
        made = [result] if isinstance(result, Value) else list(result or [])
        for output, value in zip(node.output, made, strict=False):
            if output and value is not None:
                self.values[output] = value
        missing = [output for output in node.output if output and output not in self.values]
        self.refused.update(missing)
        return True


def can_convert(op: str, opset: int, ops: frozenset[str]) -> bool:
    """Whether an op of the domain "" is in the table; one that stays as it is has to be in ``ops`` too."""
    fits = [c for c in CONVERTERS.get(("", op), []) if c.since <= opset]
    return bool(fits) and (op in ops or not max(fits, key=lambda c: c.since).same)


def convert(source: Source, ops: frozenset[str]) -> Graph:
    """The graph of a model. ``ops``: what the runtime has."""
    walk = Walk(source, ops)
    walk.run()
    return walk.graph


def _all_names(graph: GraphProto) -> set[str]:
    names = {value.name for value in (*graph.input, *graph.output, *graph.initializer)}
    names.update(name for node in graph.node for name in (*node.input, *node.output))
    return names


def constant_array(tensor: Any, what: str) -> Array:
    """The value of a tensor attribute."""
    return Tensor(tensor, what, None).read()
