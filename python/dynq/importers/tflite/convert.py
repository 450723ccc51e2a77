"""Walk through a subgraph, and convert each operator by the function of its op.

Networks of images are channels last in TensorFlow Lite and channels first in dynq. A tensor is kept in the form that
its operator computes, and is transposed only where a reader needs the other form.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...conversion import InvalidModelError, Problems, Unsupported
from ...core.arguments import Array
from ...core.names import TakenNames
from ...graph import Graph, Value
from ...ir import ops
from ...ir.elements import elements
from ...ir.given import MAX_RANK, ONNX_TYPES
from ...ir.values import Shape
from .grids import NOT_ON_GRIDS, Grids, has_grid, why_no_grid
from .layout import Planes, last_perm, planes_perm
from .source import DAMAGED, Operator, Source, Subgraph, Tensor
from .tensors import FLOATS, Constant, dtype_of, kind_name

__all__ = ["COMPLEX", "CONVERTERS", "Call", "Held", "Walk", "converter"]

Result = Value | Planes | Constant | Sequence["Value | Planes | Constant"]
_MOST_TIMES = 16  # operators that subgraphs may have together, each time they are run, for each that is in the file
_FEW = 2000


@dataclass(frozen=True)
class Converter:
    options: str | None  # the class of its options in the schema
    function: Callable[[Call], Result]


CONVERTERS: dict[str, Converter] = {}


def converter(ops: str, options: str | None = None) -> Callable[[Callable[[Call], Result]], Callable[[Call], Result]]:
    """Register a function for ops, whose names stand in one text.

    Args:
        options: the class of the options of these ops. None: they have none that matters.
    """

    def register(function: Callable[[Call], Result]) -> Callable[[Call], Result]:
        for op in ops.split():
            CONVERTERS[op] = Converter(options, function)
        return function

    return register


@dataclass
class Held:
    """A tensor of the file as it is held: a constant, or a value in one of the two forms or both."""

    constant: Constant | None = None
    last: Value | None = None  # channels last: as the file has it
    planes: Value | None = None  # channels first


class Call:
    """An operator on its way into the graph."""

    def __init__(self, walk: Walk, operator: Operator, name: str) -> None:
        self.op = operator.op
        self.name = name
        self.operator = operator
        self.walk = walk
        self._named = False

    # ---- Inputs ----

    def has(self, index: int) -> bool:
        """Return whether an input is there."""
        return index < len(self.operator.inputs) and self.operator.inputs[index] >= 0

    @property
    def count(self) -> int:
        return len(self.operator.inputs)

    def tensor(self, index: int) -> Tensor:
        if not self.has(index):
            raise ValueError(f"it has no input {index}")
        return self.walk.subgraph.tensors[self.operator.inputs[index]]

    def output(self, index: int = 0) -> Tensor:
        if index >= len(self.operator.outputs):
            raise ValueError(f"it has no output {index}")
        return self.walk.subgraph.tensors[self.operator.outputs[index]]

    def held(self, index: int) -> Held:
        return self.walk.held(self.tensor(index))

    def value(self, index: int) -> Value:
        """Return an input as the file has it."""
        return self.walk.last(self.tensor(index))

    def planes(self, index: int) -> Value:
        """Return an input with its channels first."""
        return self.walk.planes(self.tensor(index))

    def in_planes(self, index: int) -> bool:
        """Return whether an input is there with its channels first, and not as the file has it."""
        held = self.held(index)
        return held.constant is None and held.last is None

    def constant(self, index: int) -> Constant | None:
        return self.held(index).constant

    def array(self, index: int) -> Array | None:
        """Return the numbers of an input that is constant or follows from sizes that are known."""
        constant = self.constant(index)
        if constant is not None:
            return constant.array
        return self.walk.known(self.value(index))

    def dims(self, index: int) -> Shape:
        """Return the integers of a vector, names of sizes in it, and None for what is not known before a run."""
        array = self.array(index)
        if array is None:
            value = self.value(index)
            known, count = elements(value), 0 if not value.shape else value.shape[0]
            return (None,) * (count if isinstance(count, int) else 1) if known is None else known
        if array.dtype.kind not in "iu" or array.size > MAX_RANK:
            raise ValueError(f"a shape of {array.size} numbers that are {array.dtype}")
        return tuple(int(i) for i in array.reshape(-1))

    def numbers(self, index: int, what: str) -> list[int]:
        """Return the integers of an input that has to be known."""
        array = self.array(index)
        if array is None:
            raise Unsupported(f"{self.op} whose {what} is computed")
        if array.dtype.kind not in "iu":
            raise ValueError(f"its {what} is {array.dtype}")
        if array.size > 1 << 16:
            raise ValueError(f"its {what} has {array.size} elements")
        return [int(i) for i in array.reshape(-1)]

    def rank(self, index: int) -> int:
        held = self.held(index)
        if held.constant is not None:
            return len(held.constant.shape)
        value = held.last if held.last is not None else held.planes
        assert value is not None
        if value.shape is None:
            raise Unsupported(f"{self.op} of a tensor whose rank is not known")
        return len(value.shape)

    def axis(self, axis: int, rank: int) -> int:
        if not -rank <= axis < rank:
            raise ValueError(f"axis {axis} of a tensor with {rank} dimensions")
        return axis % rank

    def sizes(self, value: Value) -> list[int]:
        """Return the shape of a value, which has to be known."""
        if value.shape is None or not all(isinstance(dim, int) for dim in value.shape):
            raise Unsupported(f"{self.op} of a tensor whose sizes are open")
        return [dim for dim in value.shape if isinstance(dim, int)]

    def is_float(self, index: int) -> bool:
        tensor = self.tensor(index)
        return tensor.kind in FLOATS or has_grid(tensor) or self.is_constant_of_floats(index)

    def is_complex(self, index: int) -> bool:
        return self.tensor(index).kind == COMPLEX

    def is_constant_of_floats(self, index: int) -> bool:
        constant = self.constant(index)
        return constant is not None and constant.array.dtype.kind == "f"

    # ---- Subgraphs ----

    def subgraph(self, number: int) -> Subgraph:
        """Return a subgraph of the model."""
        if not 0 <= number < len(self.walk.source.subgraphs):
            raise ValueError(f"it runs subgraph {number} of {len(self.walk.source.subgraphs)}")
        return self.walk.source.subgraphs[number]

    # ---- Options ----

    def option(self, name: str, default: Any = 0) -> Any:
        """Return an option by the schema's name for it."""
        options = self.operator.options
        return default if options is None else getattr(options, name)()

    def option_list(self, name: str) -> list[int] | None:
        options = self.operator.options
        if options is None or getattr(options, f"{name}IsNone")():
            return None
        count = getattr(options, f"{name}Length")()
        if count > 64:
            raise ValueError(f"{name} has {count} elements")
        return [int(getattr(options, name)(i)) for i in range(count)]

    def refuse_option(self, name: str, expected: Any = 0) -> None:
        """Refuse an option unless it has the one value that is implemented."""
        value = self.option(name, expected)
        if value != expected:
            raise Unsupported(f"option {self.op}.{name} = {value}; expected {expected}")

    # ---- Nodes ----

    def node(self, op: str, inputs: Sequence[Any], **attributes: Any) -> Value:
        """Add a node. The first one gets the name of the operator's output."""
        return self.nodes(op, inputs, 1, **attributes)[0]

    def nodes(self, op: str, inputs: Sequence[Any], outputs: int, bodies: Any = None, **attributes: Any) -> list[Value]:
        """Add a node with several outputs."""
        if self._named:
            name = self.walk.fresh(f"{self.name}/{op.rpartition('.')[2].lower()}")
        else:
            name, self._named = self.name, True
        return self.walk.add(op, inputs, name, outputs, bodies, **attributes)

    def number(self, number: Any, dtype: Any = np.float32) -> Value:
        """Return a constant."""
        return self.walk.constant(np.asarray(number, dtype), f"{self.name}/constant")

    def make(self, op: str, inputs: Sequence[Any], outputs: int = 1, bodies: Any = None, **attributes: Any) -> Any:
        """Add a node whose inputs may be arrays and packed weights, and return its output, or all of several."""
        given = [
            value if value is None or isinstance(value, Value) else self.walk.constant(value, f"{self.name}/constant")
            for value in inputs
        ]
        made = self.nodes(op, given, outputs, bodies, **attributes)
        return made[0] if outputs == 1 else made

    def integers(self, numbers: Sequence[int]) -> Value:
        return self.number(list(numbers), np.int64)

    def cast(self, value: Value, dtype: str) -> Value:
        return value if value.dtype == dtype else self.node("Cast", [value], to=ONNX_TYPES[dtype])

    def long(self, index: int) -> Value:
        """Return an input of integers as int64, which sizes and places are in dynq."""
        array = self.array(index)
        if array is not None:
            return self.number(array, np.int64)
        return self.cast(self.value(index), "int64")

    def activated(self, value: Value, name: str = "FusedActivationFunction") -> Value:
        """Return a value behind the activation that an option names."""
        return self.activation(value, self.option(name))

    def activation(self, value: Value, kind: int) -> Value:
        """Return a value behind an activation: a number of ActivationFunctionType."""
        if kind == 0:
            return value
        if kind == 1:
            return self.node("Relu", [value])
        if kind in (2, 3):  # RELU_N1_TO_1, RELU6
            low, high = (-1, 1) if kind == 2 else (0, 6)
            return self.node("Clip", [value, self.number(low), self.number(high)])
        if kind == 4:
            return self.node("Tanh", [value])
        raise Unsupported(f"{self.op} with activation {'SIGN_BIT' if kind == 5 else kind}")


class Walk:
    """A subgraph, and what its tensors have become."""

    def __init__(self, source: Source, at: int, graph: Graph, problems: Problems, shared: Walk | None = None) -> None:
        self.source = source
        self.subgraph: Subgraph = source.subgraphs[at]
        self.graph = graph
        self.problems = problems
        self.refused: set[int] = set()  # tensors whose operator was refused
        self._held: dict[int, Held] = {}
        self._values: dict[tuple[int, str], Value] = {}
        self._at = at
        # Those of all walks: a subgraph that runs several times has each of its constants once.
        self._constants: dict[tuple[int, int], Constant] = shared._constants if shared else {}
        self._made: dict[tuple[int, str], tuple[Constant, Any]] = shared._made if shared else {}
        self.active: tuple[int, ...] = (*(shared.active if shared else ()), at)
        self._taken: TakenNames = shared._taken if shared else TakenNames()
        self._left: list[int] = shared._left if shared else [_operators(source)]
        self.grids: Grids = shared.grids if shared else Grids()
        self.is_hybrid: bool = shared.is_hybrid if shared else False  # numerics="tflite"
        self.prefix = ""
        if shared and at in shared.active:
            raise InvalidModelError(f"{source.name}: subgraph {at} ({self.subgraph.name!r}) runs itself")

    def fresh(self, name: str) -> str:
        return self._taken.take(name)

    def constant(self, array: Any, name: str) -> Value:
        return self.graph.constant(array, self.fresh(name))

    def hold(self, tensor: Tensor, held: Held) -> None:
        self._held[tensor.index] = held

    def held(self, tensor: Tensor) -> Held:
        if tensor.index not in self._held:
            if tensor.is_variable and tensor.data is None:
                zeros = np.zeros(tensor.shape, np.float32)
                self._held[tensor.index] = Held(last=self.constant(zeros, self.prefix + tensor.name))
            else:
                key = self._at, tensor.index
                self._held[tensor.index] = Held(constant=self._constants.setdefault(key, Constant(tensor)))
        return self._held[tensor.index]

    def last(self, tensor: Tensor) -> Value:
        """Return a tensor as the file has it."""
        held = self.held(tensor)
        if held.last is None and held.constant is not None:
            held.last = self.of_constant(held.constant, tensor.name)
        return self.turned_back(held) if held.last is None else held.last

    def turned_back(self, held: Held) -> Value:
        """Return a tensor that is held with its channels first as the file has it."""
        assert held.planes is not None
        held.last = self._turned(held.planes, held.planes.name, last_perm(held.planes), "last")
        return held.last

    def planes(self, tensor: Tensor) -> Value:
        """Return a tensor with its channels first."""
        held = self.held(tensor)
        if held.planes is None and held.constant is not None:
            array = held.constant.array
            turned = np.transpose(array, planes_perm(array.ndim))
            held.planes = self.constant(turned, f"{self.prefix}{tensor.name}/planes")
        if held.planes is None:
            assert held.last is not None
            if held.last.shape is None:
                raise Unsupported("a tensor whose rank is not known as an image")
            held.planes = self._turned(held.last, held.last.name, planes_perm(len(held.last.shape)), "planes")
        return held.planes

    def of_constant(self, constant: Constant, name: str) -> Value:
        """Return a constant's value, the same one each time."""
        return self.shared(constant, "", self.prefix + name, lambda: constant.array)

    def shared(self, constant: Constant, form: str, name: str, make: Callable[[], Any]) -> Value:
        """Return what a constant is in some form. It is made once, however many operators and walks read it."""
        key = id(constant), form
        if key not in self._values:
            self._values[key] = self.constant(self.made(constant, form, make), name)
        return self._values[key]

    def made(self, constant: Constant, form: str, make: Callable[[], Any]) -> Any:
        """Return what ``make`` gives, once for each constant and form."""
        key = id(constant), form
        if key not in self._made:
            self._made[key] = constant, make()
        return self._made[key][1]

    def _turned(self, value: Value, name: str, perm: list[int], form: str) -> Value:
        """Transpose; where no element moves that is a Reshape, which costs nothing."""
        name = f"{name}/{form}"
        shape = value.shape
        first = 1 if form == "last" else -1  # where the channels are
        spatial = () if shape is None else shape[2:] if form == "last" else shape[1:-1]
        if shape is not None and (shape[first] == 1 or set(spatial) == {1}):
            dims = [shape[i] for i in perm]
            if all(isinstance(dim, int) and dim > 0 for dim in dims[1:]):
                target = [0, *(dim for dim in dims[1:] if isinstance(dim, int))]
                return self.add("Reshape", [value, np.array(target, np.int64)], name, 1)[0]
        return self.add("Transpose", [value], name, 1, perm=perm)[0]

    def known(self, value: Value) -> Array | None:
        """Return the numbers of a value if they follow from sizes that are known."""
        if value.array is not None:
            return value.array
        if value.dtype not in ("int32", "int64") or value.shape is None or len(value.shape) > 1:
            return None
        numbers = elements(value)
        if numbers is None or not all(isinstance(number, int) for number in numbers):
            return None
        return np.array(numbers, value.dtype).reshape([len(numbers)] if value.shape else [])

    def add(
        self, op: str, inputs: Sequence[Any], name: str, outputs: int, bodies: Any = None, **attributes: Any
    ) -> list[Value]:
        operands = ops.find(op).inputs
        for i, value in enumerate(inputs):
            operand = operands[min(i, len(operands) - 1)]
            dtype = value.dtype if isinstance(value, Value) else None
            if operand.is_float and dtype not in (None, "float32"):
                raise Unsupported(f"{op} of {dtype}")
        inputs = [
            self.constant(value, f"{name}/constant") if isinstance(value, np.ndarray) else value for value in inputs
        ]
        names: list[str | None] = [self.fresh(name if i == 0 else f"{name}.{i}") for i in range(outputs)]
        node_name = self.graph.unique_node(names[0] or name)
        made = self.graph.node(op, inputs, names, node_name, bodies=bodies, **attributes)
        return list(made)

    def namer(self, name: str) -> Callable[..., Value]:
        """Return a function that adds a node with one output, whose name begins with ``name``."""

        def node(op: str, inputs: Sequence[Any]) -> Value:
            constants = [np.asarray(v) if isinstance(v, (np.ndarray, np.generic)) else v for v in inputs]
            return self.add(op, constants, f"{name}/{op.lower()}", 1)[0]

        return node

    # ---- The operators ----

    def run(self) -> None:
        for i, operator in enumerate(self.subgraph.operators):
            self._left[0] -= 1
            if self._left[0] < 0:
                raise InvalidModelError(f"{self.source.name} runs its subgraphs more often than dynq takes")
            tensors = [self.subgraph.tensors[index] for index in operator.outputs]
            name = self.prefix + (tensors[0].name if tensors else f"operator_{i}")
            ready = not any(index in self.refused for index in operator.inputs)
            if not self._check(operator, name, ready) or not ready or not self._convert(operator, name):
                self.refused.update(operator.outputs)

    def _check(self, operator: Operator, name: str, ready: bool) -> bool:
        """Check what can be said of an operator without its inputs."""
        known = CONVERTERS.get(operator.op)
        if known is None:
            what = operator.op.removeprefix("CUSTOM:")
            self.problems.add(f"custom op {what}" if what != operator.op else f"op {operator.op}", name)
            return False
        if known.options is not None and operator.options_type not in ("NONE", known.options):
            raise InvalidModelError(f"operator {name!r} ({operator.op}) has {operator.options_type}")
        fine = True
        for index in operator.inputs:
            tensor = self.subgraph.tensors[index]
            if index >= 0 and tensor.kind == COMPLEX and (operator.op not in _TAKE_COMPLEX or tensor.data is not None):
                self.problems.add(f"{operator.op} of COMPLEX64", name)
                fine = False
        for index in operator.outputs:
            fine = self.check_type(self.subgraph.tensors[index], operator.op) and fine
        return fine

    def check_type(self, tensor: Tensor, op: str) -> bool:
        if tensor.kind == COMPLEX and op in _GIVE_COMPLEX:
            return True
        if dtype_of(tensor.kind) is None:
            self.problems.add(f"dtype {kind_name(tensor.kind)}", tensor.name)
        elif op not in _OF_CONSTANTS and (why := why_no_grid(tensor)) is not None:
            self.problems.add(why, tensor.name)
        elif op in NOT_ON_GRIDS and has_grid(tensor):
            self.problems.add(f"{op} of integers with fixed scales", tensor.name)
        else:
            return True
        return False

    def _convert(self, operator: Operator, name: str) -> bool:
        call = Call(self, operator, name)
        try:
            made = CONVERTERS[operator.op].function(call)
        except Unsupported as error:
            self.problems.add(str(error), name)
            return False
        except DAMAGED as error:
            if isinstance(error, InvalidModelError):
                raise
            raise InvalidModelError(f"operator {name!r} ({operator.op}): {error or type(error).__name__}") from error
        results = [made] if isinstance(made, (Value, Planes, Constant)) else list(made)
        for index, result in zip(operator.outputs, results, strict=False):
            self._keep(self.subgraph.tensors[index], result)
        self.refused.update(operator.outputs[len(results) :])
        return True

    def _keep(self, tensor: Tensor, result: Value | Planes | Constant) -> None:
        if isinstance(result, Constant):
            self.hold(tensor, Held(constant=result))
            return
        value = result.value if isinstance(result, Planes) else result
        if value.dtype is None:
            value.dtype = "float32" if has_grid(tensor) else dtype_of(tensor.kind)
        if has_grid(tensor):
            value = self.grids.rounded(value, tensor, self.namer(self.prefix + tensor.name))
        if value.shape is None and tensor.shape:
            value.shape = (None,) * len(tensor.shape)
        self.hold(tensor, Held(planes=value) if isinstance(result, Planes) else Held(last=value))


_OF_CONSTANTS = ("DEQUANTIZE", "DENSIFY")
COMPLEX = 8  # COMPLEX64: values alone, and between these operators
_GIVE_COMPLEX = ("RFFT2D", "RESHAPE", "SQUEEZE")
_TAKE_COMPLEX = ("RESHAPE", "SQUEEZE", "COMPLEX_ABS", "REAL", "IMAG", "CAST")


def _operators(source: Source) -> int:
    return max(_FEW, _MOST_TIMES * sum(len(graph.operators) for graph in source.subgraphs))
