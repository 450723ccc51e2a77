"""The walk through an exported program: each node is converted by the function of its op."""

from __future__ import annotations

import operator
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from ...conversion import InvalidModelError, Problems, Unsupported
from ...graph import Graph, Value
from ...ir.given import MAX_RANK
from .call import COMPLEX, CONVERTERS, Call, can_convert, op_name
from .names import Names, output_names
from .program import Program
from .sizes import Sizes, is_symbolic
from .tensors import dtype_of, to_array

__all__ = ["Walk", "calls_programs", "convert"]

_SMALL = 1 << 16  # bytes of a constant that may be larger than what it is computed from
_CHECKS = (
    "aten._assert_scalar", "aten._assert_async", "aten._assert_tensor_metadata", "aten.sym_constrain_range",
    "aten.sym_constrain_range_for_size",
)  # fmt: skip

_CALLERS: dict[str, Callable[[Walk, Any], Sequence[Value] | None]] = {}  # of ops that call programs


def calls_programs(op: str) -> Callable[[Callable[[Walk, Any], Any]], Callable[[Walk, Any], Any]]:
    """Registers a function for an op of torch that calls programs. It returns None if one of them is refused."""

    def register(function: Callable[[Walk, Any], Any]) -> Callable[[Walk, Any], Any]:
        _CALLERS[op] = function
        return function

    return register


def _is_complex(fake: Any) -> bool:
    return isinstance(fake, torch.Tensor) and fake.is_complex()


class Walk:
    """A program, with what its nodes have become: values of the graph, constants, or None where they were refused."""

    def __init__(self, program: Program, input_names: Sequence[str] | None, ops: frozenset[str]) -> None:
        self.exported = program.exported
        self.graph = Graph(program.name)
        self.problems = Problems()
        self.sizes = Sizes(self.graph)
        self.names = Names(self.exported)
        self.constants: dict[Any, Any] = {}
        self._ops = ops
        self._program = program
        self._input_names = input_names
        self._values: dict[Any, Value | None] = {}
        self._several: dict[Any, Sequence[Value | None]] = {}
        self._refused: set[Any] = set()
        self._made: dict[Any, Value] = {}  # constants by the memory that they look at

    def add(self, op: str, inputs: Sequence[Any], outputs: int, name: str, attributes: dict[str, Any]) -> list[Value]:
        if op not in self._ops:
            raise Unsupported(f"op {op}")
        made: Any = self.graph.node(op, inputs, outputs, name, **attributes)
        return [made] if outputs == 1 else list(made)

    def value(self, node: Any) -> Value:
        """Return what a node has become; a constant is made when it is first read."""
        if node not in self._values:
            if node in self.constants:
                self._values[node] = self._constant(node, self.constants[node])
            else:
                raise Unsupported(f"a value that is no tensor: {node.name}")
        result = self._values[node]
        assert result is not None
        return result

    def _constant(self, node: Any, tensor: Any) -> Value:
        name = self.names.targets.get(node) or self.names.of(node)
        tensor = torch.view_as_real(tensor.resolve_conj()) if tensor.is_complex() else tensor
        array = to_array(tensor, name)
        key = (array.ctypes.data, array.shape, array.strides, array.dtype.name)
        if key not in self._made or array.size == 0:
            self._made[key] = self.graph.constant(array, self.graph.unique_value(name))
        return self._made[key]

    def run(self) -> None:
        self._inputs()
        self._nodes(self.exported.graph)

    def _nodes(self, program: Any) -> None:
        for node in program.nodes:
            if node.op == "call_function":
                self._function(node)
            elif node.op == "get_attr" and all(str(user.target) in _CALLERS for user in node.users):
                continue  # a program that the user's op calls
            elif node.op not in ("placeholder", "output"):
                self.problems.add(f"a {node.op} of {node.target}", node.name)
                self._refused.add(node)

    def known(self, operand: Any) -> tuple[bool, Any]:
        """Return whether a tensor, number or truth is known before a run, and then what it is."""
        number = operand.meta.get("val") if isinstance(operand, torch.fx.Node) else operand
        if operand in self.constants:
            return True, self.constants[operand]
        known = isinstance(number, (bool, int, float))
        return known, number if known else None

    def operand(self, operand: Any) -> Value:
        """Return a tensor, or a number or truth that sizes decide, as a value."""
        fake = operand.meta.get("val")
        number = self.sizes.number(fake) if is_symbolic(fake) else None
        return number if isinstance(number, Value) else self.value(operand)

    def inline(self, program: Any, operands: Sequence[Any]) -> list[Value] | None:
        """Convert the nodes of a program that gets these operands; None if something in it is refused."""
        inside = [node for node in program.nodes if node.op == "placeholder"]
        for node, operand in zip(inside, operands, strict=True):
            self._enter(node, operand, None if self.known(operand)[0] else self.operand(operand))
        return self._inside(program)

    def body(self, program: Any, operands: Sequence[Any], name: str) -> Graph | None:
        """Convert a program to a graph of its own; None if something in it is refused.

        Its inputs are the operands that are not known before a run.
        """
        outer = self.graph, self.sizes, self._made
        graph = self.graph.new_body(name)
        self.graph, self.sizes, self._made = graph, self.sizes.inside(graph), {}
        try:
            inside = [node for node in program.nodes if node.op == "placeholder"]
            for node, operand in zip(inside, operands, strict=True):
                self._enter(node, operand, None if self.known(operand)[0] else self._parameter(node, name))
            outputs = self._inside(program)
        finally:
            self.graph, self.sizes, self._made = outer
        if outputs is None:
            return None
        graph.outputs = [(str(i), value) for i, value in enumerate(outputs)]
        return graph

    def _enter(self, node: Any, operand: Any, value: Value | None) -> None:
        """Let a placeholder of a program be what it gets: a value, or what is known."""
        if value is not None:
            self._values[node] = value
        elif operand in self.constants:
            self.constants[node] = self.constants[operand]
            if operand in self.names.targets:
                self.names.targets[node] = self.names.targets[operand]

    def _parameter(self, node: Any, name: str) -> Value:
        """Add the input of a body that a placeholder stands for."""
        fake = node.meta["val"]
        tensor = isinstance(fake, torch.Tensor)
        dims = (self.sizes.shape(fake.shape) + ((2,) if fake.is_complex() else ())) if tensor else ()
        dtype = dtype_of(fake.dtype) if tensor and not fake.is_complex() else "float32" if tensor else "int64"
        value = self.graph.parameter(self.graph.unique_value(f"{name}/{node.name}"), dtype, dims)
        if not tensor:
            self.sizes.given(fake, value)
        self.sizes.places(value, fake.shape if tensor else ())
        return value

    def _inside(self, program: Any) -> list[Value] | None:
        """Convert the nodes of a program whose placeholders are known, and return its outputs."""
        self._nodes(program)
        (output,) = [node for node in program.nodes if node.op == "output"]
        results = [output.args[0]] if isinstance(output.args[0], torch.fx.Node) else output.args[0]
        if any(node in self._refused for node in results):
            return None
        return [self.operand(node) for node in results]

    def outputs(self, names: Sequence[str] | None) -> None:
        specs = self.exported.graph_signature.output_specs
        (output,) = [node for node in self.exported.graph.nodes if node.op == "output"]
        results = []
        for item, spec in zip(output.args[0], specs, strict=True):
            kind = spec.kind.name
            if kind == "USER_OUTPUT":
                results.append(item)
            elif kind != "TOKEN" and not self._stays(item, str(spec.target)):
                what = kind.lower().removesuffix("_mutation").replace("_", " ")
                self.problems.add(f"forward changes a {what}", str(spec.target))
        given = output_names(self.exported.call_spec.out_spec, len(results))
        made: list[tuple[str, Value]] = []
        for item, name in zip(results, given, strict=True):
            if item is None:
                continue
            fake = item.meta.get("val") if isinstance(item, torch.fx.Node) else item
            if not isinstance(fake, torch.Tensor):
                number = self._number(fake)
                if number is None:
                    warnings.warn(f"output {name!r} is of type {type(fake).__name__}, no tensor: dropped", stacklevel=5)
                else:
                    made.append((name, number))
            elif item not in self._refused:
                try:
                    if fake.is_complex():
                        raise Unsupported("an output of complex numbers; return torch.view_as_real of it")
                    made.append((name, self.value(item)))
                except Unsupported as error:
                    self.problems.add(str(error), name)
        self.problems.check(self._program.name)
        if not made:
            raise InvalidModelError(f"{self._program.name} has no outputs")
        if names is not None and len(names) != len(made):
            raise ValueError(f"output_names has {len(names)} names; the module gives {len(made)} tensors")
        for i, (name, value) in enumerate(made):
            self.graph.output(value, name if names is None else names[i])

    def _stays(self, item: Any, target: str) -> bool:
        """Return whether what is written to a buffer is what it holds."""
        tensor = {**self.exported.state_dict, **self.exported.constants}.get(target)
        written = self.constants.get(item)
        if not isinstance(tensor, torch.Tensor) or written is None:
            return False
        return written is tensor or (written.dtype == tensor.dtype and torch.equal(written, tensor))

    def _number(self, number: Any) -> Value | None:
        """Return a number that the module gives as a value without dimensions; None for anything else."""
        if is_symbolic(number):
            try:
                number = self.sizes.number(number)
            except Unsupported:
                return None
        if isinstance(number, Value):
            return number
        if not isinstance(number, (bool, int, float)):
            return None
        dtype = np.bool_ if isinstance(number, bool) else np.int64 if isinstance(number, int) else np.float32
        return self.graph.constant(np.array(number, dtype))

    def _inputs(self) -> None:
        """Placeholders: parameters, buffers and constants, and the inputs of the module."""
        exported = self.exported
        tensors = {**exported.state_dict, **exported.constants}
        user: list[Any] = []
        leaves: list[Any] = []
        for node, spec in zip(self.names.placeholders, exported.graph_signature.input_specs, strict=True):
            if spec.kind.name == "TOKEN":  # of ops that have to keep their order
                self._refused.add(node)
            elif spec.kind.name != "USER_INPUT":
                tensor = tensors.get(spec.target)
                if not isinstance(tensor, torch.Tensor):
                    self._refused.add(node)
                    if node.users:
                        self.problems.add(f"a constant of type {type(tensor).__name__}", str(spec.target))
                    continue
                self._check_tensor(node, tensor, str(spec.target))
            else:
                leaves.append(node)
                if isinstance(node.meta.get("val"), (torch.Tensor, torch.SymInt)):
                    user.append(node)
        names = self._input_names
        if names is not None and len(names) != len(user):
            raise ValueError(f"input_names has {len(names)} names; the module takes {len(user)} tensors")
        shown = self._program.names if len(self._program.names) == len(leaves) else [{}] * len(leaves)
        for node, sizes in zip(leaves, shown, strict=True):
            self._name_sizes(node, sizes)
        for i, node in enumerate(user):
            self._input(node, names[i] if names is not None else str(node.name))

    def _check_tensor(self, node: Any, tensor: Any, name: str) -> None:
        if type(tensor) not in (torch.Tensor, torch.nn.Parameter, torch.nn.Buffer) and node.users:
            self.problems.add(f"a tensor of type {type(tensor).__name__}", name)
            self._refused.add(node)
        else:
            self.constants[node] = tensor

    def _name_sizes(self, node: Any, names: dict[int, str]) -> None:
        for axis, name in names.items():
            fake = node.meta.get("val")
            size: Any = fake.shape[axis] if isinstance(fake, torch.Tensor) else None
            if is_symbolic(size) and size.node.expr.is_Symbol:
                self.sizes.name(size.node.expr, name)

    def _input(self, node: Any, name: str) -> None:
        fake = node.meta["val"]
        try:
            if isinstance(fake, torch.SymInt):
                raise Unsupported("an input that is a number; expected tensors")
            dtype = dtype_of(fake.dtype)
            if fake.ndim > MAX_RANK:
                raise Unsupported(f"an input of {fake.ndim} dimensions; expected {MAX_RANK} at most")
        except Unsupported as error:
            self.problems.add(str(error), name)
            self._refused.add(node)
            return
        for axis, size in enumerate(fake.shape):
            if is_symbolic(size) and size.node.expr.is_Symbol:
                self.sizes.name(size.node.expr, f"{name}_dim_{axis}")
        dims = [f"{name}_dim_{axis}" if dim is None else dim for axis, dim in enumerate(self.sizes.shape(fake.shape))]
        value = self.graph.input(name, dims, dtype)
        self._values[node] = value
        self.sizes.places(value, fake.shape)

    def _function(self, node: Any) -> None:
        fake = node.meta.get("val")
        if op_name(node.target) in _CHECKS or not node.users:
            return
        if isinstance(fake, (int, float, bool)) or is_symbolic(fake):
            return  # computed from sizes where it is read
        if node.target is operator.getitem:
            self._item(node)
            return
        if str(node.target) in _CALLERS:
            self._call(node)
            return
        if not isinstance(node.target, torch._ops.OpOverload):
            self._refuse(node, f"op {node.target}")
            return
        inputs = node.all_input_nodes
        if any(argument in self._refused for argument in inputs):
            if not can_convert(node.target):
                self._refuse(node, f"op {op_name(node.target)}")
            self._refused.add(node)
            return
        if self._evaluate(node, inputs):
            return
        fakes = [fake, *(argument.meta.get("val") for argument in inputs)]
        complex_ones = any(_is_complex(one) for one in fakes)
        function = (COMPLEX if complex_ones else CONVERTERS).get(op_name(node.target))
        if function is None:
            self._refuse(node, f"op {op_name(node.target)}{' of complex numbers' if complex_ones else ''}")
            return
        call = Call(self, node, self.names.of(node))
        try:
            result = function(call)
            call.check_arguments()
        except Unsupported as error:
            self._refuse(node, str(error))
            return
        except (ValueError, TypeError) as error:
            if isinstance(error, InvalidModelError):
                raise
            raise InvalidModelError(f"node {call.name!r} ({call.op}): {error}") from error
        if isinstance(result, Value):
            self._several[node] = [result]
            self._values[node] = result
            self._type(result, fake[0] if isinstance(fake, (list, tuple)) else fake)
        else:
            self._several[node] = list(result)
            for value, of in zip(result, fake, strict=False):
                if value is not None:
                    self._type(value, of)

    def _call(self, node: Any) -> None:
        """Convert an op that calls programs."""
        made = None
        if not any(argument in self._refused for argument in node.all_input_nodes):
            try:
                made = _CALLERS[str(node.target)](self, node)
            except Unsupported as error:
                self.problems.add(str(error), self.names.of(node))
        if made is None:
            self._refused.add(node)
            return
        self._several[node] = list(made)
        for value, fake in zip(made, node.meta["val"], strict=True):
            self._type(value, fake)
            self.sizes.places(value, fake.shape if isinstance(fake, torch.Tensor) else ())

    def _refuse(self, node: Any, why: str) -> None:
        self.problems.add(why, self.names.of(node))
        self._refused.add(node)

    def _item(self, node: Any) -> None:
        source, index = node.args
        if source in self._refused:
            self._refused.add(node)
        elif source in self.constants:
            self.constants[node] = self.constants[source][index]
        else:
            made = self._several[source]
            value = made[index] if index < len(made) else None
            if value is None:
                self._refuse(node, f"output {index} of {op_name(source.target)}")
            else:
                self._values[node] = value

    def _type(self, value: Value, fake: Any) -> None:
        """torch's dtype and shape, for a value that a node computes."""
        if value.producer is None or not isinstance(fake, torch.Tensor):
            return
        dims = self.sizes.shape(fake.shape) + ((2,) if fake.is_complex() else ())
        value.dtype = value.dtype or ("float32" if fake.is_complex() else dtype_of(fake.dtype))
        mine = value.shape if value.shape is not None and len(value.shape) == len(dims) else (None,) * len(dims)
        value.shape = tuple(old if dim is None else dim for dim, old in zip(dims, mine, strict=True))

    def _evaluate(self, node: Any, inputs: list[Any]) -> bool:
        """A node of constants alone is computed by torch, once, where that takes no memory to speak of."""
        if any(argument not in self.constants for argument in inputs):
            return False
        if torch.Tag.nondeterministic_seeded in node.target.tags or node.target.namespace != "aten":
            return False
        fakes = node.meta["val"]
        if isinstance(fakes, (list, tuple)):
            fakes = [fakes[user.args[1]] for user in node.users if user.target is operator.getitem]
        else:
            fakes = [fakes]
        if any(is_symbolic(size) for fake in fakes if isinstance(fake, torch.Tensor) for size in fake.shape):
            return False
        known = [self.constants[argument] for argument in inputs]
        before = sum(tensor.nbytes for tensor in known if isinstance(tensor, torch.Tensor))
        after = sum(fake.numel() * fake.element_size() for fake in fakes if isinstance(fake, torch.Tensor))
        if after > max(before, _SMALL):
            return False
        arguments = torch.fx.map_arg((node.args, node.kwargs), self.constants.__getitem__)
        try:
            with torch.no_grad():
                self.constants[node] = node.target(*arguments[0], **arguments[1])
        except Exception:  # then it is converted, or refused, like any other
            return False
        return True


def convert(
    program: Program, input_names: Sequence[str] | None, output_names: Sequence[str] | None, ops: frozenset[str]
) -> Graph:
    """The graph of a program. ``ops``: what the runtime has."""
    walk = Walk(program, input_names, ops)
    walk.run()
    walk.outputs(output_names)
    return walk.graph
