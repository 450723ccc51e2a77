"""Weights become int8: dynq.Linear with a float weight, Gather of rows of a float table; what stays float says why."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np

from ..._arguments import FLOAT32, INT8, Array
from ...report import Row
from ...weights import QuantizedWeight
from ..deferred import ArrayLater, PackedLater, drop_pages, nonfinite
from ..ir import Deferred, Graph, Node, Value
from ._rewrite import constant_of, panels, put_after
from .conv import rows, why_conv_float
from .dead_code import dead_code
from .finer import Finer, matches
from .first_layer import first_layers
from .packed_attention import read_side_by_side
from .recurrent import GATES, STATE_PROJECTION, is_recurrent
from .siblings import merge_siblings

__all__ = ["Options", "quantize_graph"]

_Place = tuple[int, tuple[int, ...], tuple[int, ...]]
_Made = dict[tuple[_Place, str], tuple[Value, ...]]  # by where the float weight lies and what is made of it
_ELEMENTS_AT_ONCE = 1 << 20  # elements of a table that are quantized at a time


@dataclasses.dataclass(frozen=True)
class Options:
    """Arguments of Graph.build."""

    quantize: bool = True
    keep_float: tuple[str, ...] = ()
    attention: bool = False
    embedding: bool = True
    scheme: str = "asymmetric"
    granularity: str = "row"
    first_layer: bool = False  # quantized even where it is small
    first_layers: Mapping[str, str] = dataclasses.field(default_factory=dict)  # that stay float, and why
    finer: Finer = dataclasses.field(default_factory=Finer)
    smooth: Any = None  # samples
    smooth_alpha: float | None = None
    twin: bool = False  # smoothed as the quantized model is, and then all float

    def why_float(self, node: Node) -> str | None:
        """Why ``node`` stays float; None: it does not."""
        for pattern in self.keep_float:
            if matches(node, pattern):
                return f"keep_float has {pattern!r}"
        if not self.quantize:
            return "quantize=False"
        return None if self.finer.names(node) else self.first_layers.get(node.name)


def quantize_graph(graph: Graph, options: Options) -> list[Row]:
    """Quantize, merge siblings, and tell of every node what it became."""
    unused = [p for p in options.keep_float if not any(matches(node, p) for node in graph.nodes)]
    if unused:
        names = ", ".join(map(repr, unused))
        raise ValueError(f"keep_float has {names}, which is no node that is left after the passes; report() lists them")
    options.finer.check(graph)
    if options.quantize and not options.first_layer:
        options = dataclasses.replace(options, first_layers=first_layers(graph))
    smoothed = _smooth(graph, options) if options.smooth is not None else {}
    if options.twin:
        options = dataclasses.replace(options, quantize=False)
    rows: dict[str, Row] = {}
    made: _Made = {}  # a weight that several nodes share is kept once
    for node in list(graph.nodes):
        row = None
        if node.op == "dynq.Linear":
            row = _linear(graph, node, options, made)
        elif node.op == "Gather":
            row = _embedding(graph, node, options, made)
        elif node.op == "dynq.Attention":
            row = _attention(node, options)
        elif node.op == "MatMul":
            row = _matmul(node, options)
        elif node.op == "Gemm":
            row = Row(node.name, "float matmul", options.why_float(node) or "a Gemm whose second operand is computed")
        elif node.op == "dynq.Conv":
            row = _conv(graph, node, options, made)
        elif node.op == "Conv":
            row = Row(node.name, "float conv", "its weight is not constant")
        elif is_recurrent(node):
            row = _recurrent(graph, node, options, made)
        elif node.op in GATES:
            row = Row(node.name, f"float {node.op}", "its weights are not constant")
        row = row or Row(node.name, node.op, "")
        rows[node.name] = dataclasses.replace(row, why=row.why + smoothed.get(node.name, ""))
    for name, parts in merge_siblings(graph):
        merged = [rows.pop(part) for part in parts]
        rows[name] = Row(
            name,
            merged[0].became,
            f"{merged[0].why}; one product for {', '.join(parts)}",
            sum(row.bytes_before for row in merged),
            sum(row.bytes_after for row in merged),
        )
    read_side_by_side(graph)
    dead_code(graph)
    return [rows.get(node.name) or Row(node.name, node.op, "") for node in graph.nodes]


def _smooth(graph: Graph, options: Options) -> dict[str, str]:
    """Smooths the linear layers that will be int8; what was done, by name."""
    from ...accuracy.smooth import observe
    from .smooth import smooth_linear

    layers = [
        node
        for node in graph.nodes
        if node.op == "dynq.Linear" and constant_of(node.inputs[1]) is not None and options.why_float(node) is None
    ]
    return smooth_linear(graph, layers, observe(graph, layers, options.smooth), options.smooth_alpha)


def _linear(graph: Graph, node: Node, options: Options, made: _Made) -> Row:
    weight = node.inputs[1]
    assert weight is not None and weight.shape is not None
    n, k = (int(dim) for dim in weight.shape if isinstance(dim, int))
    after = _packed_bytes(n, k)
    if isinstance(weight.constant, (QuantizedWeight, Deferred)):
        return Row(
            node.name,
            f"int8 linear{_set_scheme(node, options)}",
            "its weight is int8",
            weight.constant.nbytes if isinstance(weight.constant, QuantizedWeight) else 0,
            after,
        )
    array = weight.array
    assert array is not None
    why = options.why_float(node)
    if why is not None:
        (node.inputs[1],) = _once(graph, made, weight, "float", lambda: [array.T])
        node.op = "dynq.LinearFloat"
        _clip_after(graph, node)
        return Row(node.name, "float linear", why, 4 * n * k, 4 * n * k)
    (node.inputs[1],) = _once(graph, made, weight, "int8", lambda: [PackedLater(node.name, [array])])
    why = "its weight is constant" + _stored_twice(array, "rows", "an embedding", made)
    return Row(node.name, f"int8 linear{_set_scheme(node, options)}", why, 4 * n * k, after)


def _packed_bytes(n: int, k: int) -> int:
    """Of a weight (n, k): panels of 16 channels, groups of 4 k, and two numbers for each channel."""
    return -(-n // 16) * 16 * (-(-k // 4) * 4 + 8)


def _once(
    graph: Graph, made: _Made, source: Value, form: str, make: Callable[[], Iterable[object]], *parts: str
) -> tuple[Value, ...]:
    """Constants made of a constant in one form; ``parts`` end the names of those after the first."""
    assert source.array is not None
    key = _place(source.array), form
    if key not in made:
        made[key] = tuple(graph.constant_for(x, source, part) for x, part in zip(make(), ("", *parts), strict=False))
    return made[key]


def _place(array: Array) -> _Place:
    """Where an array lies: of two constants that look at one memory alike, one is enough."""
    return array.ctypes.data, array.shape, array.strides


def _conv(graph: Graph, node: Node, options: Options, made: _Made) -> Row:
    weight = node.inputs[1]
    assert weight is not None
    array = weight.array
    assert array is not None
    n, k, groups = array.shape[0], int(np.prod(array.shape[1:])), node.attributes.get("group", 1)
    why = options.why_float(node) or why_conv_float(node, array)
    if why is not None:
        assert isinstance(groups, int)
        if groups < 1 or n % groups != 0:
            raise ValueError(
                f"node {node.name!r}: its weight has {n} outputs, which {groups} groups do not share evenly"
            )
        (node.inputs[1],) = _once(
            graph, made, weight, f"panels {groups}", lambda: [panels(rows(array).reshape(groups, n // groups, -1))]
        )
        node.op = "dynq.ConvFloat"
        node.attributes["channels"] = n
        return Row(node.name, "float conv", why, array.nbytes, array.nbytes)
    (node.inputs[1],) = _once(graph, made, weight, "int8 conv", lambda: [PackedLater(node.name, [rows(array)])])
    node.attributes.pop("group", None)
    node.attributes.setdefault("scheme", options.scheme)
    node.attributes.setdefault("granularity", "row" if options.granularity == "row" else "image")
    after = _packed_bytes(n, k)
    became = f"int8 conv{options.finer.apply_range(node)}"
    return Row(node.name, became, "its weight is constant", array.nbytes, after)


def _recurrent(graph: Graph, node: Node, options: Options, made: _Made) -> Row:
    """R, (directions, gates * hidden, states), and what projects the states: packed, a weight for each direction, or
    float panels."""
    kind, why = node.op.removeprefix("dynq."), options.why_float(node)
    before = after = 0
    for first in (1, STATE_PROJECTION):
        weight = node.input(first + 2)
        if weight is None or weight.array is None:
            continue
        array = weight.array
        directions, n, k = array.shape
        before += array.nbytes
        after += array.nbytes if why is not None else directions * _packed_bytes(n, k)
        if why is not None:
            node.inputs[first + 2 : first + 3] = _once(graph, made, weight, "panels", partial(_panels, array))
        else:
            parts = _once(graph, made, weight, "packed", partial(_directions, node.name, array), ".backward")
            node.inputs[first : first + directions] = parts
            node.inputs[first + 2] = None
    while node.inputs[-1] is None:
        node.inputs.pop()
    if why is not None:
        return Row(node.name, f"float {kind}", why, before, after)
    node.attributes.setdefault("scheme", options.scheme)
    return Row(node.name, f"int8 {kind}", "its weights are constant", before, after)


def _panels(array: Array) -> list[Array]:
    return [panels(array)]


def _directions(name: str, array: Array) -> list[PackedLater]:
    return [PackedLater(name, [part]) for part in array]


def _stored_twice(array: Array, kind: str, reader: str, made: _Made) -> str:
    """A linear layer reads panels of its weight and an embedding rows: a weight of both is there in both forms."""
    return f"; {reader} has it too, in another form" if (_place(array), kind) in made else ""


def _clip_after(graph: Graph, node: Node) -> None:
    """dynq.LinearFloat has no clamp of its own."""
    if "min" not in node.attributes or node.outputs[0] is None:
        return
    bounds = [graph.constant(np.float32(node.attributes.pop(name))) for name in ("min", "max")]  # type: ignore[arg-type]
    put_after(graph, node, "linear", "Clip", bounds)


def _set_scheme(node: Node, options: Options) -> str:
    """How the input is quantized; what is not said of most is returned."""
    node.attributes.setdefault("scheme", options.scheme)
    node.attributes.setdefault("granularity", options.granularity)
    return options.finer.apply(node)


def _embedding(graph: Graph, node: Node, options: Options, made: _Made) -> Row | None:
    table, indices = node.input(0), node.input(1)
    array = None if table is None else table.array
    if array is None or table is None or array.ndim != 2 or array.dtype != FLOAT32 or node.attributes.get("axis", 0):
        return None
    if indices is None or indices.constant is not None or (array.shape[0] * 4 > array.nbytes):
        return None
    v, d = array.shape
    why = options.why_float(node) or (None if options.embedding else "embedding='float'")
    if why is not None:
        return Row(node.name, "float embedding", why, array.nbytes, array.nbytes)
    name, scales = node.name, _Scales(array)
    quantized = ArrayLater((v, d), "int8", lambda: _quantize_rows(name, array, scales()))
    scale = ArrayLater((v,), "float32", lambda: iter([scales()]))
    constants = _once(graph, made, table, "rows", lambda: [quantized, scale], ".scale")
    node.op, node.attributes = "dynq.Embedding", {}
    node.inputs = [*constants, indices]
    why = "its table is constant" + _stored_twice(array, "int8", "a linear layer", made)
    return Row(node.name, "int8 embedding", why, array.nbytes, v * (d + 4))


class _Scales:
    """``max |row| / 127`` of each row, 1 where that is 0; computed once."""

    def __init__(self, table: Array) -> None:
        self._table = table
        self._scales: Array | None = None

    def __call__(self) -> Array:
        if self._scales is None:
            parts = [np.abs(part).max(axis=1) for part in _pieces(self._table)]
            with np.errstate(invalid="ignore"):  # a NaN, which is told of later
                scales = np.concatenate(parts) / FLOAT32.type(127)
            self._scales = np.where(scales == 0, FLOAT32.type(1), scales).astype(FLOAT32)
        return self._scales


def _quantize_rows(node: str, table: Array, scales: Array) -> Iterator[Array]:
    if not np.all(np.isfinite(scales)):
        raise nonfinite(node)
    at = 0
    for part in _pieces(table):
        end = at + part.shape[0]
        yield np.clip(np.rint(part / scales[at:end, None]), -127, 127).astype(INT8)
        at = end


def _pieces(table: Array) -> Iterator[Array]:
    step = max(1, _ELEMENTS_AT_ONCE // max(table.shape[1], 1))
    for i in range(0, table.shape[0], step):
        yield table[i : i + step]
        drop_pages(table[i : i + step])


def _attention(node: Node, options: Options) -> Row:
    why = options.why_float(node) or (None if options.attention else "attention='float'")
    if why is not None:
        return Row(node.name, "float attention", why)
    node.attributes["quantize"] = 1
    return Row(node.name, "int8 attention", "attention='int8'")


def _matmul(node: Node, options: Options) -> Row:
    """A product of two values that are computed; one with a constant matrix is a dynq.Linear by now."""
    why = options.why_float(node) or (None if options.attention else "attention='float'")
    ranks = [0 if value is None or value.shape is None else len(value.shape) for value in node.inputs]
    if why is None and min(ranks) < 2:
        why = "an operand is a vector, or its rank is not known"
    if why is None and any(value is not None and value.dtype != "float32" for value in node.inputs):
        why = "an operand is not known to be float32"
    if why is not None:
        return Row(node.name, "float matmul", why)
    node.op = "dynq.MatMulDynamic"
    node.attributes = {"scheme": options.scheme, "granularity": options.granularity}
    return Row(node.name, "int8 matmul", "attention='int8'")
