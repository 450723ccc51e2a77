"""One node of an exported program on its way into the graph, and the functions that convert nodes, by their op."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from ...conversion import Unsupported
from ...graph import Value
from ...ir.given import ONNX_TYPES
from .sizes import is_symbolic
from .tensors import dtype_of

__all__ = ["COMPLEX", "CONVERTERS", "Call", "Result", "can_convert", "complex_converter", "converter", "op_name"]

Result = Value | Sequence[Value | None]
_IGNORED = ("device", "generator", "layout", "memory_format", "non_blocking", "pin_memory", "copy", "implicit")

CONVERTERS: dict[str, Callable[[Call], Result]] = {}
COMPLEX: dict[str, Callable[[Call], Result]] = {}  # of ops that read or make complex numbers


def converter(*ops: str) -> Callable[[Callable[[Call], Result]], Callable[[Call], Result]]:
    """Registers a function for ops (texts of names, of ATen unless they have a namespace), all overloads of each."""

    def register(function: Callable[[Call], Result]) -> Callable[[Call], Result]:
        for op in " ".join(ops).split():
            CONVERTERS[op if "." in op else f"aten.{op}"] = function
        return function

    return register


def complex_converter(ops: str) -> Callable[[Callable[[Call], Result]], Callable[[Call], Result]]:
    """Registers a function for ops of ATen that read or make complex numbers.

    It gets tensors of complex numbers as floats with one axis more, of their two parts, and returns them so.
    """

    def register(function: Callable[[Call], Result]) -> Callable[[Call], Result]:
        COMPLEX.update((f"aten.{op}", function) for op in ops.split())
        return function

    return register


def op_name(target: Any) -> str:
    """``aten.add`` for any overload of it."""
    return str(getattr(target, "overloadpacket", target))


def can_convert(target: Any) -> bool:
    return op_name(target) in CONVERTERS or op_name(target) in COMPLEX


class Call:
    """One node on its way into the graph. An argument that nobody asks for has to have its default."""

    def __init__(self, walk: Any, node: Any, name: str) -> None:
        self.name = name
        self.op = op_name(node.target)
        self.graph = walk.graph
        self._walk = walk
        self._node = node
        self._schema = {argument.name: argument for argument in node.target._schema.arguments}
        names = list(self._schema)
        self._given: dict[str, Any] = {**dict(zip(names, node.args, strict=False)), **node.kwargs}
        self._asked: set[str] = set()

    def has(self, name: str) -> bool:
        """Return whether the op has this argument, in this overload."""
        return name in self._schema

    def get(self, name: str, otherwise: Any = None) -> Any:
        """An argument as torch has it: numbers, texts, lists of them; sizes may depend on the run."""
        self._asked.add(name)
        if name in self._given:
            return self._plain(self._given[name])
        argument = self._schema.get(name)
        return argument.default_value if argument is not None and argument.has_default_value() else otherwise

    def _plain(self, argument: Any) -> Any:
        if isinstance(argument, torch.fx.Node):
            number: Any = argument.meta.get("val")
            if is_symbolic(number) and number.node.expr.is_Integer:
                return int(number.node.expr)
            return number if isinstance(number, (int, float)) or is_symbolic(number) else argument
        if isinstance(argument, (list, tuple)):
            return [self._plain(item) for item in argument]
        return argument

    def fixed(self, name: str, otherwise: Any = None) -> Any:
        """An argument that must be known before a run."""
        result = self.get(name, otherwise)
        for item in result if isinstance(result, list) else [result]:
            if isinstance(item, torch.fx.Node) or is_symbolic(item):
                raise Unsupported(f"{self.op} whose {name} depends on the run")
        return result

    def only(self, name: str, *allowed: Any) -> None:
        """The argument has one of these values."""
        value = self.fixed(name)
        if value not in allowed:
            raise Unsupported(f"{self.op} with {name} = {value!r}; expected {' or '.join(map(repr, allowed))}")

    def value(self, name: str) -> Value:
        """A tensor that the op cannot do without."""
        result = self.optional(name)
        if result is None:
            raise Unsupported(f"{self.op} without {name}")
        return result

    def optional(self, name: str) -> Value | None:
        node = self.get(name)
        return self.of(node) if isinstance(node, torch.fx.Node) else None

    def of(self, node: Any) -> Value:
        """The value of a node of the program."""
        return self._walk.value(node)

    def tensor(self, name: str) -> Any:
        """torch's tensor where the argument is constant, else None."""
        node = self.get(name)
        return self._walk.constants.get(node) if isinstance(node, torch.fx.Node) else None

    def operand(self, name: str, dtype: str) -> Value:
        """A tensor or a number as a value of this dtype."""
        node = self.get(name)
        if isinstance(node, torch.fx.Node):
            return self.cast(self.of(node), dtype)
        number = self._walk.sizes.number(node)
        if isinstance(number, Value):
            return self.cast(number, dtype)
        return self.constant(np.asarray(number).astype(dtype))

    def fake(self, name: str) -> Any:
        """Shape and dtype of a tensor argument, as torch's fake tensor has them."""
        return self._given[name].meta["val"]

    @property
    def result(self) -> Any:
        """Shape and dtype of what the op gives; a list of them where it gives several."""
        return self._node.meta["val"]

    def reads_output(self, index: int) -> bool:
        """Return whether something reads one of several things that the op gives."""
        return any(user.target is operator.getitem and user.args[1] == index for user in self._node.users)

    def result_of_first(self) -> Any:
        """Shape and dtype of the first of several things that the op gives, or of the only one."""
        return self.result[0] if isinstance(self.result, (list, tuple)) else self.result

    @property
    def dtype(self) -> str:
        return dtype_of(self.result.dtype)

    def promoted(self, *names: str) -> str:
        """The dtype to which torch brings operands before it compares them."""
        operands = [self._given[name] for name in names]
        values = [value.meta["val"] if isinstance(value, torch.fx.Node) else value for value in operands]
        values = [0 if isinstance(v, torch.SymInt) else 0.0 if isinstance(v, torch.SymFloat) else v for v in values]
        return dtype_of(torch.result_type(*values))

    def rank(self, name: str) -> int:
        return int(self.fake(name).ndim)

    def axis(self, name: str, rank: int) -> int:
        """One that counts from the front."""
        return int(self.fixed(name)) % max(rank, 1)

    def emit(self, op: str, inputs: Sequence[Any], **attributes: Any) -> Value:
        """The node that takes this one's name."""
        return self._walk.add(op, inputs, 1, self.graph.unique_node(self.name), attributes)[0]

    def emit_several(self, op: str, inputs: Sequence[Any], outputs: int, **attributes: Any) -> list[Value]:
        return self._walk.add(op, inputs, outputs, self.graph.unique_node(self.name), attributes)

    def node(self, op: str, inputs: Sequence[Any], **attributes: Any) -> Value:
        """A node on the way."""
        name = self.graph.unique_node(f"{self.name}/{op.rpartition('.')[2].lower()}")
        return self._walk.add(op, inputs, 1, name, attributes)[0]

    def constant(self, array: Any) -> Value:
        return self.graph.constant(array, self.graph.unique_value(f"{self.name}/constant"))

    def constant_like(self, number: float) -> Value:
        """A number of the dtype that the op gives."""
        return self.constant(np.array(number).astype(self.dtype))

    def names_sizes(self, value: Value, fake: Any) -> None:
        """A value has sizes that the run decides; what is computed with them reads them there."""
        self._walk.sizes.places(value, fake.shape)

    def floats(self, number: float) -> Value:
        """A float32 number."""
        return self.constant(np.array(number, np.float32))

    def axes(self, axes: Sequence[int]) -> Value:
        return self.constant(np.array(list(axes), np.int64))

    def cast(self, x: Value, dtype: str) -> Value:
        if x.dtype == dtype:
            return x
        if x.array is not None:
            return self.constant(x.array.astype(dtype))
        return self.node("Cast", [x], to=ONNX_TYPES[dtype])

    def transpose(self, x: Value, perm: Sequence[int]) -> Value:
        order = list(perm)
        return x if order == list(range(len(order))) else self.node("Transpose", [x], perm=order)

    def unsqueeze(self, x: Value, *axes: int) -> Value:
        return self.node("Unsqueeze", [x, self.axes(axes)])

    def reshape(self, x: Value, sizes: Sequence[Any], last: bool = False) -> Value:
        """``last``: it is what the op gives."""
        dims = self._walk.sizes.shape(sizes)
        if None not in dims and x.shape == dims:
            return x
        make = self.emit if last else self.node
        result = make("Reshape", [x, self._target(x, sizes, dims)], allowzero=int(0 in dims) or None)
        result.shape = dims
        return result

    def _target(self, x: Value, sizes: Sequence[Any], dims: Sequence[Any]) -> Value:
        """Return the target of a Reshape: 0 for a size that stays, -1 for one that is left, so most are constant."""
        if 0 in dims:
            return self.shape(sizes)
        before = x.shape or ()
        target: list[Any] = [
            0 if isinstance(dim, str) and i < len(before) and before[i] == dim else dim for i, dim in enumerate(dims)
        ]
        open_sizes = [i for i, dim in enumerate(target) if not isinstance(dim, int)]
        names = [i for i in open_sizes if isinstance(dims[i], str) and dims[i].isidentifier()]
        at = next((i for i in open_sizes if i not in names), open_sizes[0] if open_sizes else None)
        if at is not None:
            target[at] = -1
        return self.shape([sizes[i] if not isinstance(dim, int) else dim for i, dim in enumerate(target)])

    def expand(self, x: Value, sizes: Sequence[Any], last: bool = False) -> Value:
        dims = self._walk.sizes.shape(sizes)
        if None not in dims and x.shape == dims:
            return x
        before = (1,) * (len(dims) - len(x.shape or ())) + tuple(x.shape or ())
        kept = [size if dim != old or dim is None else 1 for size, dim, old in zip(sizes, dims, before, strict=True)]
        result = (self.emit if last else self.node)("Expand", [x, self.shape(kept)])
        result.shape = dims
        return result

    def narrow(self, x: Value) -> Value:
        """Return the input of an Expand, if its reader broadcasts anyway."""
        node = x.producer
        return x if node is None or node.op != "Expand" or node.inputs[0] is None else node.inputs[0]

    def shape(self, sizes: Sequence[Any]) -> Value:
        """Sizes as an int64 vector."""
        numbers = [self._walk.sizes.number(size) for size in sizes]
        if not any(isinstance(number, Value) for number in numbers):
            return self.axes([int(number) for number in numbers if not isinstance(number, Value)])
        parts: list[Any] = []
        for number in numbers:
            if isinstance(number, Value):
                parts.append(self.node("Unsqueeze", [number, self.axes([0])]))
            elif parts and isinstance(parts[-1], list):
                parts[-1].append(int(number))
            else:
                parts.append([int(number)])
        values = [part if isinstance(part, Value) else self.axes(part) for part in parts]
        return values[0] if len(values) == 1 else self.node("Concat", values, axis=0)

    def vector(self, size: Any) -> Value:
        """One size as an int64 vector."""
        return self.shape([size])

    def scalar(self, size: Any) -> Value:
        """A number as an int64 scalar."""
        number = self._walk.sizes.number(size)
        return number if isinstance(number, Value) else self.constant(np.array(number, np.int64))

    def split(self, x: Value, axis: int, sizes: Sequence[Any]) -> list[Value]:
        """Parts along an axis."""
        if len(sizes) == 1:
            return [x]
        name = self.graph.unique_node(self.name)
        return self._walk.add("Split", [x, self.shape(sizes)], len(sizes), name, {"axis": axis})

    def dims(self, sizes: Sequence[Any]) -> tuple[int | str | None, ...]:
        return self._walk.sizes.shape(sizes)

    def is_zero(self, node: Any) -> bool:
        """Return whether a tensor is known to hold zeros alone."""
        if not isinstance(node, torch.fx.Node):
            return False
        constant = self._walk.constants.get(node)
        if constant is not None:
            return constant.numel() == 0 or not bool(constant.any())
        return op_name(node.target) in ("aten.zeros", "aten.new_zeros", "aten.zeros_like")

    def check_arguments(self) -> None:
        for name, value in self._given.items():
            default = self._schema[name].default_value if self._schema[name].has_default_value() else None
            if name not in self._asked and name not in _IGNORED and self._plain(value) != default:
                raise Unsupported(f"{self.op} with {name} = {value!r}")
