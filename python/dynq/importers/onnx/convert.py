"""Walk through a model, and convert each node by the function of its op: the newest that is not above the opset."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import onnx
from onnx import GraphProto, NodeProto

from ...conversion import InvalidModelError, Problems, Unsupported
from ...core.arguments import Array
from ...core.names import TakenNames
from ...graph import Graph, Value
from ...ir import ops
from .attributes import Rule, read
from .origins import origins
from .refused import REASONS
from .source import Source, Type, names_read, sorted_nodes
from .static import evaluate
from .tensors import DTYPE_OF, FEW_BITS, Tensor, type_name

__all__ = ["CONVERTERS", "Body", "Call", "Converter", "constant_array", "convert", "converter", "find"]

Result = Value | Sequence[Value | None] | None


@dataclass(frozen=True)
class Converter:
    since: int
    until: int | None  # the first opset that it is no longer for
    rules: dict[str, Rule]
    function: Callable[[Call], Result]


CONVERTERS: dict[tuple[str, str], list[Converter]] = {}


def converter(
    *ops: str,
    since: int = 1,
    until: int | None = None,
    domain: str = "",
    also: Mapping[str, Rule] = MappingProxyType({}),
    **rules: Rule,
) -> Callable[[Callable[[Call], Result]], Callable[[Call], Result]]:
    """Register a function for ops (texts of names) with the attributes that it implements.

    An op without such a function stays as it is if the table of ops has it. docs/onnx.md has the rule.

    Args:
        since, until: the first opset that the function is for, and the first that it is not for.
    """

    def register(function: Callable[[Call], Result]) -> Callable[[Call], Result]:
        for op in " ".join(ops).split():
            CONVERTERS.setdefault((domain, op), []).append(Converter(since, until, {**also, **rules}, function))
        return function

    return register


class Call:
    """A node on its way into the graph."""

    def __init__(self, walk: Walk, node: NodeProto, name: str, attributes: dict[str, Any]) -> None:
        self.op = str(node.op_type)
        self.name = name
        self.attributes = attributes
        self.inputs: list[Value | None] = [walk.values[value] if value else None for value in node.input]
        self.outputs: list[str | None] = [value if value in walk.read else None for value in node.output]
        self.proto = node
        self.opset = walk.source.opsets.get("" if node.domain == "ai.onnx" else str(node.domain), 0)
        self._walk = walk
        self._named = False  # a node has this one's name already

    def input(self, name: str | int) -> Value | None:
        """Return an input by ONNX's name for it, or by its index; None if it is left out."""
        index = self._position(name)
        return self.inputs[index] if index < len(self.inputs) else None

    def need(self, name: str | int) -> Value:
        """Return an input that the op cannot do without."""
        value = self.input(name)
        if value is None:
            raise InvalidModelError(f"node {self.name!r} ({self.op}) has no input {name}")
        return value

    def array(self, name: str | int) -> Array | None:
        """Return the value of an input if it is known before any run."""
        value = self.input(name)
        return None if value is None else evaluate(value)

    def attribute(self, name: str, otherwise: Any) -> Any:
        return self.attributes.get(name, otherwise)

    def output_read(self, index: int) -> bool:
        """Return whether anything reads this output."""
        return index < len(self.outputs) and self.outputs[index] is not None

    def only_first_output(self) -> None:
        for i in range(1, len(self.outputs)):
            if self.output_read(i):
                raise Unsupported(f"output {i} of {self.op}")

    def emit(
        self,
        op: str | None = None,
        inputs: Sequence[Any] | None = None,
        *,
        bodies: Mapping[str, Graph] | None = None,
        **attributes: Any,
    ) -> Result:
        """Add the node that takes this one's name and outputs. By default it has the same op, inputs and attributes."""
        if inputs is None:
            inputs = self.inputs
        if op is None:
            op, attributes = self.op, {**self.attributes, **attributes}
        return self._walk.add(op, inputs, self.name, self.outputs, attributes, bodies)

    def last(self, op: str, inputs: Sequence[Any], **attributes: Any) -> Value:
        """Add a node with one output, which becomes this one's first."""
        output = self.outputs[0] or self._walk.fresh(self.name)
        name = self._walk.fresh(f"{self.name}/{op.rpartition('.')[2].lower()}") if self._named else self.name
        result = self._walk.add(op, inputs, name, [output], attributes)
        assert result[0] is not None
        return result[0]

    def core(self, op: str, inputs: Sequence[Any], **attributes: Any) -> Value:
        """Add the node on the way to the result that has the work: it gets this one's name."""
        self._named = True
        result = self._walk.add(op, inputs, self.name, [self._walk.fresh(f"{self.name}.core")], attributes)
        assert result[0] is not None
        return result[0]

    def node(self, op: str, inputs: Sequence[Any], **attributes: Any) -> Value:
        """Add a node on the way to the result."""
        return self.nodes(op, inputs, 1, **attributes)[0]

    def nodes(
        self,
        op: str,
        inputs: Sequence[Any],
        outputs: int,
        *,
        bodies: Mapping[str, Graph] | None = None,
        **attributes: Any,
    ) -> list[Value]:
        """Add a node on the way to the result that has several outputs."""
        name = self._walk.fresh(f"{self.name}/{op.rpartition('.')[2].lower()}")
        names = [name] + [self._walk.fresh(f"{name}.{i}") for i in range(1, outputs)]
        result = self._walk.add(op, inputs, name, names, attributes, bodies)
        return [value for value in result if value is not None]

    def constant(self, array: Any, name: str = "constant") -> Value:
        return self._walk.graph.constant(array, self._walk.fresh(f"{self.name}/{name}"))

    def own_constant(self, array: Any) -> Value:
        """Return a constant by the name of the output."""
        assert self.outputs[0] is not None
        return self._walk.graph.constant(array, self._walk.scoped(self.outputs[0]))

    def onnx_type(self, name: str | int) -> int | None:
        """Return ONNX's number of the type of an input, as far as inference knows it."""
        index = self._position(name)
        return self._walk.kind(self.proto.input[index]) if index < len(self.proto.input) else None

    def rank(self, name: str | int) -> int:
        """Return the rank of an input, which the conversion needs."""
        shape = self.need(name).shape
        if shape is None:
            known = self._walk.types.get(self.proto.input[self._position(name)])
            shape = known[1] if known else None
        if shape is None:
            hint = self.how_to_fix(self.need(name), of_shape=True)
            raise Unsupported(f"{self.op} of a tensor whose rank is not known; {hint}")
        return len(shape)

    def how_to_fix(self, value: Value, of_shape: bool = False) -> str:
        """Return how to give what a value, or its shape alone, depends on: inputs, or sizes that inputs leave open."""
        inputs, sizes = origins(value, of_shape, self._walk.captured())
        hints = [f"inputs={{{name!r}: ...}} or --input-value {name}=VALUE" for name in inputs]
        hints += [f"shapes={{{name!r}: ...}} or --input-shape {name}={shape}" for name, shape in sizes.items()]
        return "fix it by " + " and ".join(hints) if hints else "nothing that is fixed makes it known"

    @property
    def source(self) -> Source:
        """The model."""
        return self._walk.source

    def _position(self, name: str | int) -> int:
        if isinstance(name, int):
            return name
        names = _input_names(self.op, self.opset, str(self.proto.domain))
        assert name in names, f"{self.op} has no input {name!r} in opset {self.opset}; it has {', '.join(names)}"
        return names.index(name)

    def subgraph(self, name: str) -> list[Value | None]:
        """Convert the nodes of a graph attribute in place of this node, and return its outputs."""
        return self._walk.inner(self.graph(name), f"{self.name}/")

    def branch(self, taken: str, other: str) -> list[Value | None]:
        """Convert the branch that is taken in every run in place of this node, and return its outputs."""
        self.source.never_run.append((self.graph(other), self.graph(taken)))
        return self.subgraph(taken)

    def graph(self, name: str) -> GraphProto:
        """Return a graph attribute."""
        for attribute in self.proto.attribute:
            if attribute.name == name and attribute.HasField("g"):
                graph: GraphProto = attribute.g
                return graph
        raise InvalidModelError(f"node {self.name!r} ({self.op}) has no {name}")

    def body(self, name: str, enter: Callable[[Graph, Callable[[Value], Value]], list[Value]]) -> Body | None:
        """Convert a graph attribute to a graph of its own; None if it has what is refused.

        Args:
            enter: adds the inputs to the new graph, and returns the values of the attribute's inputs. It gets the graph
                and a function that captures values of this one.
        """
        return self._walk.body(self.graph(name), f"{self.name}/", enter)

    def tentative(self) -> Callable[[], None]:
        """Return a function that gives back the names of nodes that were taken since."""
        names = self._walk.graph.taken_names()[1]
        before = set(names)
        return lambda: names.intersection_update(before)


@dataclass(frozen=True)
class Body:
    """A graph attribute that has become a graph, and what it reads of the one around: there, and its own inputs."""

    graph: Graph
    captures: dict[Value, Value]


_Scope = tuple[Graph, dict[str, Value], set[str], str, dict[str, Tensor], dict[Value, Value], dict[str, Type]]


class Walk:
    """A graph of the model, and what its values have become. None stands for a value whose node was refused."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.graph = Graph(source.name)
        self.problems = Problems()
        self.values: dict[str, Value] = {}
        self.refused: set[str] = set()
        self.types = source.types
        self.prefix = ""
        self.read = names_read(source.graph)
        self._taken = TakenNames(_all_names(source.graph))
        self._symbols: set[str] = set()  # names of sizes of inputs
        self._tensors = dict(source.tensors)
        self._captures: dict[Value, Value] = {}  # in a body: values of the graph around, and the inputs that have them
        self._around: list[_Scope] = []  # the graphs around a body, the innermost last

    @property
    def _scope(self) -> _Scope:
        """All that belongs to the graph that is converted."""
        return self.graph, self.values, self.refused, self.prefix, self._tensors, self._captures, self.types

    @_scope.setter
    def _scope(self, scope: _Scope) -> None:
        self.graph, self.values, self.refused, self.prefix, self._tensors, self._captures, self.types = scope

    def fresh(self, name: str) -> str:
        """Return ``name``, with a number behind it if something has that name already."""
        return self._taken.take(name)

    def scoped(self, name: str) -> str:
        """Return a value's name in the graph: its own, or in a branch, where names need not be unique, a longer one."""
        return self.fresh(self.prefix + name) if self.prefix else name

    def kind(self, name: str) -> int | None:
        """ONNX's number of the type of a value, as far as inference knows it."""
        if name in self._tensors:
            return self._tensors[name].kind
        known = self.types.get(name)
        return known[0] if known else None

    def nodes(self) -> None:
        """Convert inputs and nodes."""
        source, graph = self.source, self.source.graph
        given = [value for value in graph.input if value.name not in source.tensors]
        for value in given:
            self._input(value)
        self._tensor_types()
        self._nodes([(node.name, node) for node in graph.node])

    def outputs(self) -> None:
        """Check that nothing was refused, and name the outputs."""
        source = self.source
        outputs = [value.name for value in source.graph.output]
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
        """Convert a branch. It sees the values around it, and its own values are gone behind it."""
        outer = self._scope
        self.values, self.refused, self._tensors = dict(self.values), set(self.refused), dict(self._tensors)
        self.prefix = prefix
        try:
            return self._inside(graph)
        finally:
            self._scope = outer

    def body(
        self, proto: GraphProto, prefix: str, enter: Callable[[Graph, Callable[[Value], Value]], list[Value]]
    ) -> Body | None:
        """Convert a graph attribute to a graph of its own, as Call.body does."""
        outer = self._scope
        graph = self.graph.new_body(proto.name or prefix)
        captures: dict[Value, Value] = {}
        self._around.append(outer)
        self._scope = graph, {}, set(self.refused), prefix, dict(self._tensors), captures, self.types
        try:
            given = enter(graph, self._captured)
            if len(given) != len(proto.input):
                raise InvalidModelError(
                    f"{prefix}{proto.name}: the body has {len(proto.input)} inputs, not {len(given)}"
                )
            self.values.update(zip((str(value.name) for value in proto.input), given, strict=True))
            outputs = self._inside(proto)
        finally:
            self._around.pop()
            self._scope = outer
        if any(value is None for value in outputs):
            return None
        graph.outputs = [(str(i), value) for i, value in enumerate(outputs) if value is not None]
        return Body(graph, captures)

    def _inside(self, graph: GraphProto) -> list[Value | None]:
        """Convert the nodes of a branch or body; return its outputs."""
        own = {output for node in graph.node for output in node.output}
        self.types = {name: kind for name, kind in self.types.items() if name not in own}
        for proto in graph.initializer:
            self._tensors[proto.name] = Tensor(proto, f"initializer {proto.name!r}", None)
        known = self.values.keys() | self.refused | self._tensors.keys()
        for scope in self._around:
            known |= scope[1].keys()
        self._nodes(sorted_nodes(graph, set(known), self.prefix))
        names = [str(value.name) for value in graph.output]
        return [None if name in self.refused else self._value(name) for name in names]

    def _captured(self, value: Value) -> Value:
        """Return what a value of the graph around is in this body: an input, or a constant if it is known."""
        known = value.constant
        if known is None and value.dtype in ("int64", "int32", "bool"):
            known = evaluate(value)
        if known is not None:
            return self.graph.constant(known, self.fresh(self.prefix + value.name))
        if value not in self._captures:
            name = self.fresh(self.prefix + value.name)
            self._captures[value] = self.graph.parameter(name, value.dtype, value.shape)
        return self._captures[value]

    def captured(self) -> dict[Value, Value]:
        """Return what the inputs of this body, and of those around it, are in the graph around each."""
        bodies = [self._captures, *(scope[5] for scope in self._around)]
        return {inner: outer for captures in bodies for outer, inner in captures.items()}

    def _of_around(self, name: str) -> Value:
        """Return a value of the graph around this body by its ONNX name."""
        mine = self._scope
        self._scope = self._around.pop()
        try:
            return self._value(name)
        finally:
            self._around.append(self._scope)
            self._scope = mine

    def add(
        self,
        op: str,
        inputs: Sequence[Any],
        name: str,
        outputs: Sequence[str | None],
        attributes: dict[str, Any],
        bodies: Mapping[str, Graph] | None = None,
    ) -> list[Value | None]:
        """Add a node to the graph; its values get the types that inference knows."""
        if op not in ops.table():
            self.problems.add(f"op {op}", name)  # go on, to find all that is missing
        else:
            self._check_dtypes(op, inputs, name)
        names = [None if output is None else self.scoped(output) for output in outputs]
        while names and names[-1] is None:
            names.pop()
        made = self.graph.node(op, inputs, names, name, bodies=bodies, **attributes)
        rest = iter(made)
        result = [None if output is None else next(rest) for output in names]
        for output, value in zip(outputs, result, strict=False):
            if value is not None and output is not None:
                self._type(value, output)
        return result

    def _check_dtypes(self, op: str, inputs: Sequence[Any], name: str) -> None:
        """Refuse integers where an op takes float32 alone."""
        operands = ops.find(op).inputs
        for i, value in enumerate(inputs):
            operand = operands[min(i, len(operands) - 1)]
            dtype = value.dtype if isinstance(value, Value) else None
            if operand.is_float and dtype not in (None, "float32"):
                self.problems.add(f"{op} of {dtype} (input {operand.name}); expected float32", name)

    def _type(self, value: Value, name: str) -> None:
        kind, shape = self.types.get(name, (0, None))
        if value.dtype is None:
            value.dtype = DTYPE_OF.get(kind)
        if shape is not None:
            if value.shape is None or len(value.shape) != len(shape):
                value.shape = (None,) * len(shape)
            value.shape = tuple(
                mine if mine is not None else dim if isinstance(dim, int) or dim in self._symbols else None
                for mine, dim in zip(value.shape, shape, strict=True)
            )

    def _input(self, value: Any) -> None:
        """Add an input of the model. A size that it leaves open without a name gets one."""
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
        self._symbols.update(dim for dim in dims if isinstance(dim, str))
        self.values[name] = self.graph.input(name, dims, DTYPE_OF[tensor.elem_type])

    def _tensor_types(self) -> None:
        for name, tensor in self._tensors.items():
            if tensor.kind not in DTYPE_OF and tensor.kind not in FEW_BITS:
                self.problems.add(f"dtype {type_name(tensor.kind)} of initializer", name)
                self.refused.add(name)

    def _value(self, name: str) -> Value:
        """Return what an ONNX name has become. An initializer becomes a constant when it is first read."""
        if name not in self.values:
            if name in self._tensors and not (self._around and name in self._around[-1][4]):
                self.values[name] = self.graph.constant(self._tensors[name].read(), self.scoped(name))
            else:
                self.values[name] = self._captured(self._of_around(name))
        return self.values[name]

    def _nodes(self, order: list[tuple[str, NodeProto]]) -> None:
        for name, node in order:
            name = self.graph.unique_node(self.prefix + name)
            if not any(output in self.read for output in node.output):
                continue
            if any(value in self.refused for value in node.input):
                self._static_problems(node, name)
                self.refused.update(output for output in node.output if output)
                continue
            if not self._node(node, name):
                self.refused.update(output for output in node.output if output)

    def _static_problems(self, node: NodeProto, name: str) -> tuple[Converter, dict[str, Any]] | None:
        """Check a node's op and attributes, which does not need its inputs. Return its converter and the attributes."""
        domain = "" if node.domain == "ai.onnx" else str(node.domain)
        op = f"{domain}.{node.op_type}" if domain else str(node.op_type)
        opset = self.source.opsets.get(domain)
        if opset is None:
            raise InvalidModelError(f"node {name!r} ({op}): the model imports no opset of its domain")
        best = find(domain, node.op_type, opset)
        if best is None:
            reason = f" works with {REASONS[op]}" if op in REASONS else ""
            self.problems.add(f"op {op} (opset {opset}){reason}", name)
            return None
        refused: list[str] = []
        attributes = read(node, name, best.rules, refused.append)
        for what in refused:
            self.problems.add(what, name)
        return None if refused else (best, attributes)

    def _node(self, node: NodeProto, name: str) -> bool:
        """Convert a node; return False if it was refused."""
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


def find(domain: str, op: str, opset: int) -> Converter | None:
    """Return the converter for an op of an opset; None if there is none."""
    known = CONVERTERS.get((domain, op), [])
    fits = [c for c in known if c.since <= opset and (c.until is None or opset < c.until)]
    if fits:
        return max(fits, key=lambda c: c.since)
    newest = max((c.since for c in known), default=0)
    return None if domain or newest > opset else _as_it_is(op, opset)


@functools.cache
def _as_it_is(op: str, opset: int) -> Converter | None:
    """Return a converter that passes an op of the table on, if that opset defines it with inputs and attributes of the
    newest.
    """
    known = ops.table().get(op)
    if known is None:
        return None
    try:
        schema = onnx.defs.get_schema(op, opset, "")
    except onnx.defs.SchemaError:
        return None
    if len(schema.inputs) > len(known.inputs) or not set(schema.attributes) <= set(known.attributes):
        return None
    rules = {name: Rule(known.attributes[name].type) for name in schema.attributes}
    return Converter(schema.since_version, None, rules, Call.emit)


@functools.cache
def _input_names(op: str, opset: int, domain: str) -> list[str]:
    """Return the names that ONNX's schema gives the inputs of an op.

    Raises:
        Unsupported: the opset does not have the op.
    """
    try:
        return [x.name for x in onnx.defs.get_schema(op, opset, domain).inputs]
    except onnx.defs.SchemaError:
        raise Unsupported(f"op {op} (opset {opset})") from None


def convert(source: Source) -> Graph:
    """Return the graph of a model."""
    walk = Walk(source)
    walk.nodes()
    if source.forget_never_run():
        walk = Walk(source)
        walk.nodes()
    walk.outputs()
    return walk.graph


def _all_names(graph: GraphProto) -> set[str]:
    names = {value.name for value in (*graph.input, *graph.output, *graph.initializer)}
    names.update(name for node in graph.node for name in (*node.input, *node.output))
    return names


def constant_array(tensor: Any, what: str) -> Array:
    """Return the value of a tensor attribute."""
    return Tensor(tensor, what, None).read()
