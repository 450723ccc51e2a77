"""Build the tensors and operators of a file. A tensor gets its name at the end, its data when the file is written.

Networks of images are channels first in dynq and channels last in TensorFlow Lite. A value is kept in the form that its
operator computes, and is transposed only where a reader needs the other form.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ...conversion import Problems, Unsupported
from ...core.arguments import Array
from ...core.names import TakenNames
from ...ir.graph import Graph
from ...ir.values import Dim, Node, Shape, Value
from ..site import Reader, array_of

__all__ = ["OPEN", "Draft", "Edge", "Place", "Quantized", "Step", "last_dims", "last_perm"]

OPEN = -1  # a size that the file leaves open
KINDS = {"float32": 0, "int32": 2, "uint8": 3, "int64": 4, "bool": 6, "int8": 9}  # TensorType's numbers
Dims = tuple[int, ...]
_MOVES = (
    "EXPAND_DIMS",
    "GATHER",
    "RESHAPE",
    "SLICE",
    "SPLIT_V",
    "SQUEEZE",
    "STRIDED_SLICE",
    "TRANSPOSE",
)  # integers keep what they stand for


@dataclass(frozen=True, eq=False)
class Quantized:
    """The steps of integers: weights have a scale for each index of their first axis, other tensors have one."""

    scale: Array
    zero_point: int = 0

    def is_as(self, other: Quantized) -> bool:
        return self.zero_point == other.zero_point and np.array_equal(self.scale, other.scale)


@dataclass(eq=False)
class Edge:
    """A tensor of the file. ``name`` is a wish until the draft is finished."""

    name: str
    dtype: str
    dims: Dims
    make: Callable[[], Array] | None = None  # the data of a constant
    quantized: Quantized | None = None


@dataclass(eq=False)
class Step:
    """An operator of the file."""

    op: str
    inputs: list[Edge | None]
    outputs: list[Edge]
    version: int = 1
    options: str | None = None  # the class of its options in the schema
    fields: dict[str, Any] = field(default_factory=dict)


@dataclass
class _Forms:
    """A value in the file: in dynq's order of axes, with its channels last, or both."""

    plain: Edge | None = None
    last: Edge | None = None


class Draft:
    """The file that a graph becomes, or a subgraph of it that a graph's body becomes.

    Attributes:
        fill: writes all nodes of the graph of a draft.
        problems: what cannot be written, in the graph and its bodies.
        results: the outputs of a body in place of those of its graph.
    """

    def __init__(self, graph: Graph, fill: Callable[[Draft], None], around: Draft | None = None) -> None:
        self.graph = graph
        self.fill = fill
        self.problems: Problems = Problems() if around is None else around.problems
        self.is_body = around is not None
        self._makes: dict[Any, Callable[[], Array]] = {} if around is None else around._makes
        self.results: list[tuple[str, Edge]] | None = None
        self.steps: list[Step] = []
        self.inputs: list[tuple[str, Edge]] = []
        self.outputs: list[tuple[str, Edge]] = []
        self._forms: dict[Value, _Forms] = {}
        self._constants: dict[Any, Edge] = {}  # the key is what they are made from
        self._sizes: dict[str, tuple[Edge, int]] = {}  # inputs that have an open size, and the axis
        for value in graph.inputs:
            edge = Edge(value.name, _kind(value), _dims(value))
            self.inputs.append((value.name, edge))
            self._forms[value] = _Forms(edge)
            for axis, dim in enumerate(value.shape or ()):
                if isinstance(dim, str):
                    self._sizes.setdefault(dim, (edge, axis))

    def constant(self, key: Any, name: str, dtype: str, dims: Dims, make: Callable[[], Array],
                 quantized: Quantized | None = None) -> Edge:  # fmt: skip
        """Return a constant. One of the same ``key`` is there only once."""
        if key not in self._constants:
            self._constants[key] = Edge(name, dtype, dims, self._makes.setdefault(key, make), quantized)
        return self._constants[key]

    def array(self, array: Array, name: str) -> Edge:
        """Return a small constant."""
        key = (array.dtype.name, array.shape, array.tobytes())
        return self.constant(key, name, array.dtype.name, array.shape, lambda: array)

    def step(self, step: Step) -> None:
        self.steps.append(step)

    def body(self, graph: Graph) -> Draft:
        """Return the draft of a body of a node, with all that is in it."""
        draft = Draft(graph, self.fill, self)
        self.fill(draft)
        return draft

    def bodies(self) -> list[Draft]:
        """Return the drafts of bodies that the steps run, in the order of the steps, each before its own bodies."""
        inner = [field for step in self.steps for field in step.fields.values() if isinstance(field, Draft)]
        return [part for draft in inner for part in (draft, *draft.bodies())]

    # ---- Values ----

    def forms(self, value: Value) -> _Forms:
        """Return what a value has become. A constant is made when it is first read."""
        if value not in self._forms:
            array = array_of(value)
            if array is None:
                raise Unsupported("packed weights in a place that takes an array")
            if value.shape is not None and 0 in value.shape:
                raise Unsupported("a constant without elements")
            edge = self.constant(value, value.name, _kind(value), _dims(value), array)
            self._forms[value] = _Forms(edge)
        return self._forms[value]

    def plain(self, value: Value) -> Edge:
        """Return a value as dynq has it."""
        forms = self.forms(value)
        if forms.plain is None:
            assert forms.last is not None
            rank = len(forms.last.dims)
            forms.plain = self._transposed(forms.last, [0, rank - 1, *range(1, rank - 1)])
        return forms.plain

    def last(self, value: Value) -> Edge:
        """Return a value with its channels last."""
        forms = self.forms(value)
        if forms.last is None:
            edge = forms.plain
            assert edge is not None
            perm = last_perm(len(edge.dims))
            make = edge.make
            if make is None:
                forms.last = self._transposed(edge, perm)
            else:
                dims = tuple(edge.dims[i] for i in perm)
                forms.last = self.constant((value, "last"), edge.name, edge.dtype, dims, lambda: make().transpose(perm))
        return forms.last

    def is_last(self, value: Value) -> bool:
        """Return whether a value is there with its channels last, and not as dynq has it."""
        forms = self.forms(value)
        return forms.plain is None

    def bind(self, value: Value, edge: Edge, last: bool) -> None:
        """Record that ``edge`` gives ``value``, in one of the forms."""
        if edge.make is None and edge not in (given for _, given in self.inputs):
            edge.name = value.name
        self._forms[value] = _Forms(last=edge) if last else _Forms(edge)

    def give_up(self, node: Node) -> None:
        """Give up a node that cannot be written. Those behind it are still looked at."""
        for value in node.outputs:
            if value is not None:
                self._forms[value] = _Forms(Edge(value.name, value.dtype or "float32", _dims(value, otherwise=())))

    def _transposed(self, edge: Edge, perm: list[int]) -> Edge:
        """Transpose; where no element moves that is a RESHAPE, which costs nothing."""
        dims = tuple(edge.dims[i] for i in perm)
        made = Edge(edge.name, edge.dtype, dims, quantized=edge.quantized)
        moved = [size for size in (edge.dims[i] for i in perm) if size != 1]
        if moved == [size for size in edge.dims if size != 1] and moved.count(OPEN) <= 1:
            shape = self.array(np.array(dims, np.int32), f"{edge.name}/shape")
            self.step(Step("RESHAPE", [edge, shape], [made], options="ReshapeOptions"))
        else:
            axes = self.array(np.array(perm, np.int32), "axes")
            self.step(Step("TRANSPOSE", [edge, axes], [made], options="TransposeOptions"))
        return made

    # ---- Sizes ----

    def sizes(self, shape: Sequence[Dim], name: str) -> Edge:
        """Return an int32 vector with the sizes of a shape, some of which only a run may know."""
        if all(isinstance(dim, int) for dim in shape):
            return self.array(np.array(shape, np.int32), name)
        parts = [self._size(dim, name) for dim in shape]
        made = Edge(name, "int32", (len(parts),))
        self.step(Step("CONCATENATION", [*parts], [made], options="ConcatenationOptions", fields={"Axis": 0}))
        return made

    def _size(self, dim: Dim, name: str) -> Edge:
        if isinstance(dim, int):
            return self.array(np.array([dim], np.int32), "size")
        if dim is None or dim not in self._sizes:
            raise Unsupported("sizes that are computed")
        edge, axis = self._sizes[dim]
        key = ("size", dim)
        if key not in self._constants:  # a step, but there once like a constant
            of_input = Edge(f"{edge.name}/shape", "int32", (len(edge.dims),))
            self.step(Step("SHAPE", [edge], [of_input], options="ShapeOptions", fields={"OutType": KINDS["int32"]}))
            bounds = [self.array(np.array([i], np.int32), "size") for i in (axis, axis + 1, 1)]
            made = Edge(f"{edge.name}/shape/{axis}", "int32", (1,))
            self.step(Step("STRIDED_SLICE", [of_input, *bounds], [made], options="StridedSliceOptions"))
            self._constants[key] = made
        return self._constants[key]

    # ---- The end ----

    def finish(self) -> list[Edge]:
        """Give every output a tensor of its own, drop what nobody reads, name the tensors and return them."""
        given = [edge for _, edge in self.inputs]
        results = self.results
        if results is None:
            results = [(name, self.plain(value)) for name, value in self.graph.outputs]
        for name, edge in results:
            as_given = edge in given
            if edge.make is not None or edge in (made for _, made in self.outputs) or (as_given and not self.is_body):
                edge, as_given = self._copy(edge, name), False
            if not as_given:
                edge.name = name
            self.outputs.append((name, edge))
        read = {edge for _, edge in self.outputs}
        kept = []
        for step in reversed(self.steps):
            if any(edge in read for edge in step.outputs):
                kept.append(step)
                read.update(edge for edge in step.inputs if edge is not None)
        self.steps = kept[::-1]
        edges = [edge for step in self.steps for edge in (*step.inputs, *step.outputs) if edge is not None]
        tensors = list(dict.fromkeys([*given, *(edge for _, edge in self.outputs), *edges]))
        taken = TakenNames()
        for edge in tensors:
            edge.name = taken.take(edge.name)
        return tensors

    def _copy(self, edge: Edge, name: str) -> Edge:
        made = Edge(name, edge.dtype, edge.dims, quantized=edge.quantized)
        if edge.dims:
            step = Step("CONCATENATION", [edge], [made], options="ConcatenationOptions", fields={"Axis": 0})
        else:
            shape = self.array(np.array([], np.int32), "shape")
            step = Step("RESHAPE", [edge, shape], [made], options="ReshapeOptions")
        self.step(step)
        return made


class Place(Reader):
    """A node of the graph that becomes operators of TensorFlow Lite."""

    def __init__(self, draft: Draft, node: Node) -> None:
        self.draft = draft
        self.node = node

    def value(self, name: str | int) -> Value:
        """Return an input of the node that it cannot do without."""
        value = self.node.input(name)
        if value is None:
            raise Unsupported(f"{self.node.op} without its input {name}")
        return value

    def plain(self, name: str | int) -> Edge:
        return self.draft.plain(self.value(name))

    def last(self, name: str | int) -> Edge:
        """Return an input with its channels last."""
        return self.draft.last(self.value(name))

    def maybe(self, name: str | int) -> Edge | None:
        value = self.node.input(name)
        return None if value is None else self.draft.plain(value)

    def shape(self, name: str | int) -> Shape:
        """Return the shape of an input, whose rank has to be known."""
        shape = self.value(name).shape
        if shape is None:
            raise Unsupported(f"{self.node.op} of a tensor whose rank is not known")
        return shape

    def out(self, index: int = 0) -> Value:
        value = self.node.outputs[index]
        assert value is not None
        return value

    def out_dims(self, index: int = 0) -> Dims:
        return _dims(self.out(index))

    def known(self, name: str | int, what: str) -> Array:
        """Return the numbers of an input that has to be constant."""
        value = self.node.input(name)
        if value is None or value.array is None:
            raise Unsupported(f"{self.node.op} whose {what} are computed")
        return value.array

    def op(self, op: str, inputs: Sequence[Edge | None], dims: Dims, dtype: str | None = None, version: int = 1,
           options: str | None = None, **fields: Any) -> Edge:  # fmt: skip
        """Add an operator with one output, whose dtype is that of the first input if none is given."""
        first = inputs[0]
        kind = dtype or (first.dtype if first is not None else "")
        return self.ops(op, inputs, [(kind, dims)], version, options, **fields)[0]

    def ops(self, op: str, inputs: Sequence[Edge | None], kinds: Sequence[tuple[str, Dims]], version: int = 1,
            options: str | None = None, **fields: Any) -> list[Edge]:  # fmt: skip
        """Add an operator with several outputs of these dtypes and sizes."""
        made = [Edge(f"{self.node.name}/{op.lower()}.{i}", dtype, dims) for i, (dtype, dims) in enumerate(kinds)]
        steps = [edge.quantized for edge in inputs if edge is not None and edge.make is None and edge.quantized]
        if steps and op not in (*_MOVES, "DEQUANTIZE", "CAST"):
            raise Unsupported(f"{self.node.op} of integers that stand for other numbers")
        for edge in made if steps and op in _MOVES else []:
            edge.quantized = steps[0]
        self.draft.step(Step(op, list(inputs), made, version, options, fields))
        return made

    def ints(self, numbers: Sequence[int]) -> Edge:
        """Return a constant vector of int32."""
        return self.draft.array(np.array(numbers, np.int32), f"{self.node.name}/constant")

    def scalar(self, number: Any, dtype: str) -> Edge:
        return self.draft.array(np.array(number, dtype), f"{self.node.name}/constant")

    def reshaped(self, edge: Edge, dims: Dims, shape: Edge | None = None) -> Edge:
        """Return a tensor in another shape, of which one size may be open; ``shape`` gives it if there are more."""
        if edge.dims == dims and dims.count(OPEN) <= 1:
            return edge
        if shape is None and dims.count(OPEN) > 1:
            raise Unsupported(f"{self.node.op} to several sizes that are open")
        return self.op("RESHAPE", [edge, shape or self.ints(dims)], dims, options="ReshapeOptions")

    def expanded(self, edge: Edge, axis: int) -> Edge:
        """Return a tensor with one more dimension, whatever its sizes are."""
        dims = (*edge.dims[:axis], 1, *edge.dims[axis:])
        return self.op("EXPAND_DIMS", [edge, self.scalar(axis, "int32")], dims, options="ExpandDimsOptions")

    def squeezed(self, edge: Edge, axes: Sequence[int]) -> Edge:
        """Return a tensor without dimensions of size 1, whatever the other sizes are."""
        dims = tuple(size for i, size in enumerate(edge.dims) if i not in axes)
        return self.op("SQUEEZE", [edge], dims, options="SqueezeOptions", SqueezeDims=list(axes))

    def cast(self, edge: Edge, dtype: str) -> Edge:
        if edge.dtype == dtype:
            return edge
        if edge.make is not None:
            make = edge.make
            return self.draft.constant((edge, dtype), edge.name, dtype, edge.dims, lambda: make().astype(dtype))
        return self.op("CAST", [edge], edge.dims, dtype, options="CastOptions",
                       InDataType=KINDS[edge.dtype], OutDataType=KINDS[dtype])  # fmt: skip

    def gives(self, *edges: Edge | None, last: bool = False) -> None:
        """Record the edges of the node's outputs."""
        for value, edge in zip(self.node.outputs, edges, strict=False):
            if value is not None and edge is not None:
                self.draft.bind(value, edge, last)

    # ---- Operands of one form ----

    def together(self, names: Sequence[str | int]) -> tuple[list[Edge], bool]:
        """Return operands that are broadcast, and whether their channels are last: if one is so and all can be."""
        values = [self.value(name) for name in names]
        ranks = [len(self.shape(name)) for name in names]
        rank = max(ranks, default=0)
        computed = [(v, r) for v, r in zip(values, ranks, strict=True) if v.constant is None]
        if rank < 3 or not any(self.draft.is_last(v) for v, _ in computed) or any(r != rank for _, r in computed):
            return [self.draft.plain(value) for value in values], False
        return [self._wide_last(value, rank) for value in values], True

    def _wide_last(self, value: Value, rank: int) -> Edge:
        array = value.array
        if array is None or array.ndim == rank:
            return self.draft.last(value)
        if array.ndim == 0:
            return self.draft.plain(value)
        wide = array.reshape((1,) * (rank - array.ndim) + array.shape).transpose(last_perm(rank))
        return self.draft.array(wide, f"{value.name}/last")

    def result_dims(self, last: bool) -> Dims:
        """Return the sizes of the first output, in one of the forms."""
        dims = self.out_dims()
        return last_dims(dims) if last else dims


def last_perm(rank: int) -> list[int]:
    """Return the axes of a tensor in the order that has its channels last."""
    if rank < 3:
        raise Unsupported(f"an image of {rank} dimensions")
    return [0, *range(2, rank), 1]


def last_dims(dims: Dims) -> Dims:
    return tuple(dims[i] for i in last_perm(len(dims)))


def _kind(value: Value) -> str:
    if value.dtype not in KINDS:
        raise Unsupported("a tensor whose dtype is not known" if value.dtype is None else f"dtype {value.dtype}")
    return value.dtype


def _dims(value: Value, otherwise: Dims | None = None) -> Dims:
    if value.shape is None:
        if otherwise is None:
            raise Unsupported("a tensor whose rank is not known")
        return otherwise
    return tuple(dim if isinstance(dim, int) else OPEN for dim in value.shape)
