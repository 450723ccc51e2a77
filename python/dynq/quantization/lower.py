"""Quantize weights to int8: of dynq.Linear with a float weight, and of Gather from rows of a float table.

The report says why a layer stays float.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial

import numpy as np

from ..core.arguments import FLOAT32, INT8, Array
from ..ir.conv_panels import conv_panels
from ..ir.deferred import ArrayLater, PackedLater, QuantizedRows, drop_pages, nonfinite, place_of
from ..ir.graph import Graph
from ..ir.recurrent import CELLS
from ..ir.values import Deferred, Node, Value
from ..passes.conv import check_groups, rows, why_conv_float
from ..passes.dead_code import dead_code
from ..passes.linear import LEAST_WEIGHT
from ..passes.recurrent import is_recurrent
from ..passes.rewrite import panels as _padded_panels
from ..report import Choice, Row, Smoothing
from ..weights import QuantizedWeight
from .finer import matches, no_node, set_range, why_8_bits
from .first_layer import first_layers
from .options import Options
from .packed_attention import read_side_by_side
from .siblings import merge_siblings
from .smooth import Seen, smooth_linear
from .steps import steps_of
from .work import multiply_adds

__all__ = ["quantize_graph"]

_OF_INT8 = ("scheme", "granularity", "lo", "hi")  # attributes of dynq.Conv that dynq.ConvFloat lacks
_OWN_RANGES = {"granularity", "lo"}  # attributes of layers whose inputs the model itself quantizes
_Made = dict[
    tuple[tuple[object, ...], str], tuple[Value, ...]
]  # the key: where the weight lies, and what is made of it
_LEAST_NARROW = 2048  # weights of a convolution in groups: fewer are hardly smaller as int8
_ELEMENTS_AT_ONCE = 1 << 20  # elements of a table that are quantized at a time


Observe = Callable[[Graph, list[Node]], Mapping[Value, Seen]]
Choose = Callable[[Graph, Callable[[Graph, str], list[Row]]], Mapping[str, Choice]]


def quantize_graph(
    graph: Graph, options: Options, observe: Observe | None = None, choose: Choose | None = None
) -> list[Row]:
    """Quantize the weights of a graph in place, merge siblings, and return what each node became.

    Args:
        observe: returns the inputs of linear layers in samples. If it is given, these layers are smoothed first.
        choose: returns forms for layers that no option names. It is given a function that makes a copy of the graph
            int8, int16 or float.
    """
    unused = [p for p in options.keep_float if not any(matches(node, p) for node in graph.all_nodes())]
    if unused:
        raise ValueError(no_node("keep_float", unused, graph))
    options.finer.check(graph)
    if options.quantize and options.first_layer is not None:
        options = dataclasses.replace(options, first_layers=first_layers(graph))
    smoothed = _smooth(graph, options, observe) if observe is not None else {}
    if options.twin:
        options = dataclasses.replace(options, quantize=False)
    elif choose is not None:
        options = dataclasses.replace(options, choices=choose(graph, partial(_lower_as, options)))
    return _quantize(graph, options, {}, smoothed)


def _quantize(graph: Graph, options: Options, made: _Made, smoothed: Mapping[str, Smoothing]) -> list[Row]:
    """Quantize a graph and the bodies in it."""
    rows = _lower(graph, options, made)
    for name in rows.keys() & smoothed.keys():
        rows[name] = dataclasses.replace(rows[name], smoothed=smoothed[name])
    for node, parts in merge_siblings(graph):
        merged = [rows.pop(part) for part in parts]
        shape = node.need("weight").shape
        assert shape is not None
        n, k = (dim for dim in shape if isinstance(dim, int))
        rows[node.name] = dataclasses.replace(
            merged[0],
            node=node.name,
            merged=tuple(parts),
            bytes_before=sum(row.bytes_before for row in merged),
            bytes_after=_packed_bytes(n, k),
        )
    read_side_by_side(graph)
    dead_code(graph)
    result = [rows.get(node.name) or _no_layer(node) for node in graph.nodes]
    for node in graph.nodes:
        for inner in node.bodies.values():
            result += _quantize(inner, options, made, smoothed)
    return result


def _lower_as(options: Options, graph: Graph, form: str) -> list[Row]:
    """Make every layer of a graph int8, give its linear layers 16-bit inputs, or make all float.

    The layers of which other options say what they become stay as these say, and do not come in the rows. Neither do
    those in bodies, which are int8 or float as the options say.
    """
    if form == "float":
        options = Options(quantize=False)
    elif form == "int16":
        wide = {node.name: Choice(form, 0.0) for node in graph.nodes if _can_be_wide(node)}
        options = dataclasses.replace(options, choices=wide)
    open_nodes = {node.name for node in graph.nodes if form == "float" or options.is_open(node)}
    made: _Made = {}
    rows = [_lower(part, options, made) for part in list(graph.family())]
    return [row for name, row in rows[0].items() if name in open_nodes]


def _can_be_wide(node: Node) -> bool:
    return node.op == "dynq.Linear" and why_8_bits(node) is None


def _lower(graph: Graph, options: Options, made: _Made) -> dict[str, Row]:
    """Make the layers of a graph int8 or float, and return what each node became, by name.

    A weight that several nodes share is kept once: ``made`` has it.
    """
    rows: dict[str, Row] = {}
    work = {node.name: multiply_adds(node) for node in graph.nodes}
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
            row = _gemm(node, options)
        elif node.op == "dynq.Conv":
            row = _conv(graph, node, options, made)
        elif node.op in ("Conv", "ConvTranspose"):
            row = _other_conv(node, options)
        elif is_recurrent(node):
            row = _recurrent(graph, node, options, made)
        elif node.op in CELLS:
            row = Row(node.name, node.op, "its weights are not constant")
        row = row or _no_layer(node)
        if row.layer:
            asked = not row.quantized and (options.why_float(node) is not None or row.asked)
            row = dataclasses.replace(row, macs=work.get(node.name), asked=asked)
        rows[node.name] = dataclasses.replace(row, choice=options.choices.get(node.name))
    return rows


def _no_layer(node: Node) -> Row:
    return Row(node.name, node.op, layer=False)


def _smooth(graph: Graph, options: Options, observe: Observe) -> dict[str, Smoothing]:
    """Smooth the linear layers that will be int8; return what was done, by name."""
    layers = [
        node
        for node in graph.nodes
        if node.op == "dynq.Linear" and node.array("weight") is not None and options.why_float(node) is None
    ]
    return smooth_linear(graph, layers, observe(graph, layers), options.smooth_alpha)


def _linear(graph: Graph, node: Node, options: Options, made: _Made) -> Row:
    weight = node.need("weight")
    assert weight.shape is not None
    n, k = (int(dim) for dim in weight.shape if isinstance(dim, int))
    after = _packed_bytes(n, k)
    why = options.why_float(node)
    if why is not None and not options.as_given and not _OWN_RANGES & node.attributes.keys():
        weight = _as_floats(graph, weight, made)
    if isinstance(weight.constant, (QuantizedWeight, Deferred)):
        before = weight.constant.nbytes if isinstance(weight.constant, QuantizedWeight) else 0
        return _int8_linear(node, options, "its weight is int8", before, after)
    array = weight.array
    assert array is not None
    if why is not None:
        node.set_input("weight", *_once(graph, made, weight, "float", lambda: [array.T]))
        node.op = "dynq.LinearFloat"
        return Row(node.name, "linear", why, 4 * n * k, 4 * n * k)
    node.set_input("weight", *_once(graph, made, weight, "int8", lambda: [PackedLater(node.name, [array])]))
    why = "its weight is constant" + _stored_twice(array, "rows", "an embedding", made)
    return _int8_linear(node, options, why, 4 * n * k, after)


def _as_floats(graph: Graph, weight: Value, made: _Made) -> Value:
    """Return the floats that a file's integers stand for; other weights as they are."""
    given = weight.constant
    if isinstance(given, QuantizedRows):
        return _once(graph, made, weight, "floats", lambda: [given.floats()])[0]
    if isinstance(given, QuantizedWeight):
        return _once(graph, made, weight, "floats", lambda: [given.dequantize()])[0]
    return weight


def _int8_linear(node: Node, options: Options, why: str, before: int, after: int) -> Row:
    """Set how the input of a layer is quantized, and return the layer's row."""
    node.attributes.setdefault("scheme", options.scheme)
    node.attributes.setdefault("granularity", options.granularity)
    chosen = options.choices.get(node.name)
    row = Row(node.name, "linear", why, before, after, quantized=True)
    return _on_steps(node, options.finer.apply(node, row, chosen is not None and chosen.form == "int16"))


def _on_steps(node: Node, row: Row) -> Row:
    """Give a layer the range of an input that has 256 steps already, unless an option asks for another one."""
    finer = "bits" in node.attributes or "group" in node.attributes or "lo" in node.attributes
    steps = None if finer or node.attributes["scheme"] != "asymmetric" else steps_of(node.need("x"))
    if steps is None:
        return row
    set_range(node, steps)
    return dataclasses.replace(row, fixed_range=steps)


def _packed_bytes(n: int, k: int) -> int:
    """Return the bytes of a weight (n, k): panels of 16 channels, groups of 4 k, and two numbers for each channel."""
    return -(-n // 16) * 16 * (-(-k // 4) * 4 + 8)


def _once(
    graph: Graph, made: _Made, source: Value, form: str, make: Callable[[], Iterable[object]], *parts: str
) -> tuple[Value, ...]:
    """Return the constants that one form of a constant is made of; ``parts`` end the names of those after the first."""
    key = place_of(source.array if source.array is not None else source.constant), form
    if key not in made:
        made[key] = tuple(graph.constant_for(x, source, part) for x, part in zip(make(), ("", *parts), strict=False))
    return made[key]


def _conv(graph: Graph, node: Node, options: Options, made: _Made) -> Row:
    weight = node.need("weight")
    given = weight.constant if isinstance(weight.constant, QuantizedRows) else None
    array = weight.array if given is None else given.integers
    assert array is not None
    n, k, groups = array.shape[0], int(np.prod(array.shape[1:])), node.attributes.get("group", 1)
    check_groups(node, n)
    told = options.why_float(node)
    why = told or why_conv_float(node, n, k)
    if why is not None:
        assert isinstance(groups, int)
        if given is not None:
            weight = _as_floats(graph, weight, made)
            array = weight.array
            assert array is not None
            node.set_input("weight", weight)
        node.op, node.attributes["channels"] = "dynq.ConvFloat", n
        for name in _OF_INT8:
            node.attributes.pop(name, None)
        if told is None and groups > 1 and array.size >= _LEAST_NARROW and np.isfinite(array).all():
            return _narrow_conv(graph, node, why, made)
        form = f"panels {groups}"
        made_panels = _once(
            graph, made, weight, form, lambda: [conv_panels(rows(array).reshape(groups, n // groups, k))]
        )
        node.set_input("weight", *made_panels)
        return Row(node.name, "conv", why, array.nbytes, array.nbytes)
    if given is not None:
        why = "its weight is int8"
        packed = _once(graph, made, weight, "int8 conv", lambda: [QuantizedRows(rows(given.integers), given.scale)])
        node.set_input("weight", *packed)
    else:
        why = "its weight is constant"
        packed = _once(graph, made, weight, "int8 conv", lambda: [PackedLater(node.name, [rows(array)])])
        node.set_input("weight", *packed)
    node.attributes.pop("group", None)
    node.attributes.setdefault("scheme", options.scheme)
    node.attributes.setdefault("granularity", "row" if options.granularity == "row" else "image")
    row = Row(node.name, "conv", why, array.nbytes, _packed_bytes(n, k), quantized=True)
    return _on_steps(node, options.finer.apply_range(node, row))


def _narrow_conv(graph: Graph, node: Node, why: str, made: _Made) -> Row:
    """Store the weight of a dynq.ConvFloat as int8, with a scale for each output. It is widened when it is read."""
    weight, groups = node.need("weight"), node.attributes["group"]
    array = weight.array
    assert array is not None and isinstance(groups, int)

    def make() -> list[Array]:
        table = rows(array)
        scales = _Scales(table)()
        quantized = np.concatenate(list(_quantize_rows(node.name, table, scales)))
        return [conv_panels(quantized.reshape(groups, len(table) // groups, -1)), scales]

    panels, scale = _once(graph, made, weight, f"narrow panels {groups}", make, ".scale")
    node.set_input("weight", panels)
    node.set_input("scale", scale)
    why += "; its weight is int8, widened when it is read"
    return Row(node.name, "conv", why, array.nbytes, array.size + 4 * len(array), quantized=True, bits=32)


def _recurrent(graph: Graph, node: Node, options: Options, made: _Made) -> Row:
    """Quantize R (directions, gates * hidden, states) and the projection of the states, if there is one.

    They become packed weights, one for each direction, or float panels.
    """
    kind, why = node.op.removeprefix("dynq."), options.why_float(node)
    before = after = 0
    if node.input("R_forward") is not None:
        node.attributes.setdefault("scheme", options.scheme)
        return Row(node.name, kind, "its weights are int8", quantized=True)
    for name in CELLS[kind].weights:
        first, weight = node.position(f"{name}_forward"), node.input(f"{name}_panels")
        if weight is None or weight.array is None:
            continue
        array = weight.array
        directions, n, k = array.shape
        before += array.nbytes
        after += directions * (_packed_bytes(n, k) if why is None else 4 * -(-n // 16) * 16 * k)
        if why is not None:
            node.set_input(f"{name}_panels", *_once(graph, made, weight, "panels", partial(_panels, array)))
        else:
            parts = _once(graph, made, weight, "packed", partial(_directions, node.name, array), ".backward")
            node.inputs[first : first + directions] = parts
            node.set_input(f"{name}_panels", None)
    while node.inputs[-1] is None:
        node.inputs.pop()
    if why is not None:
        return Row(node.name, kind, why, before, after)
    node.attributes.setdefault("scheme", options.scheme)
    return Row(node.name, kind, "its weights are constant", before, after, quantized=True)


def _panels(array: Array) -> list[Array]:
    return [_padded_panels(array)]


def _directions(name: str, array: Array) -> list[PackedLater]:
    return [PackedLater(name, [part]) for part in array]


def _stored_twice(array: Array, kind: str, reader: str, made: _Made) -> str:
    """Return a remark if a weight is kept in two forms: a linear layer reads panels of it, and an embedding rows."""
    return f"; {reader} has it too, in another form" if (place_of(array), kind) in made else ""


def _embedding(graph: Graph, node: Node, options: Options, made: _Made) -> Row | None:
    table, indices = node.need("data"), node.need("indices")
    array = table.array
    if array is None or array.ndim != 2 or array.dtype != FLOAT32 or node.attributes.get("axis", 0):
        return None
    if indices.constant is not None or (array.shape[0] * 4 > array.nbytes):
        return None
    v, d = array.shape
    name, scales = node.name, _Scales(array)
    why = options.why_float(node) or (None if options.embedding else "embedding='float'")
    if why is None and np.isinf(scales()).any() and not np.isnan(scales()).any():  # masks have it; NaN is an error
        why = "its table holds an infinity"
    if why is not None:
        return Row(node.name, "embedding", why, array.nbytes, array.nbytes, asked=not options.embedding)
    quantized = ArrayLater((v, d), "int8", lambda: _quantize_rows(name, array, scales()))
    scale = ArrayLater((v,), "float32", lambda: iter([scales()]))
    constants = _once(graph, made, table, "rows", lambda: [quantized, scale], ".scale")
    node.op, node.attributes = "dynq.Embedding", {}
    node.inputs = [*constants, indices]
    why = "its table is constant" + _stored_twice(array, "int8", "a linear layer", made)
    return Row(node.name, "embedding", why, array.nbytes, v * (d + 4), quantized=True)


class _Scales:
    """The scales ``max |row| / 127`` of each row, 1 where that is 0. They are computed once."""

    def __init__(self, table: Array) -> None:
        self._table = table
        self._scales: Array | None = None

    def __call__(self) -> Array:
        if self._scales is None:
            parts = [np.abs(part).max(axis=1) for part in _pieces(self._table)]
            with np.errstate(invalid="ignore"):  # NaN: the error comes later
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
        return Row(node.name, "attention", why)
    node.attributes["quantize"] = 1
    return Row(node.name, "attention", "attention='int8'", quantized=True)


def _matmul(node: Node, options: Options) -> Row:
    """Quantize a product of two values that are computed. A product with a constant matrix is a dynq.Linear by now."""
    constant = next((value for value in node.inputs if value is not None and value.constant is not None), None)
    why = options.why_float(node) or (None if options.attention else "attention='float'")
    ranks = [0 if value is None or value.shape is None else len(value.shape) for value in node.inputs]
    if why is None and min(ranks) < 2:
        why = "an operand is a vector, or its rank is not known"
    if why is None and any(value is not None and value.dtype != "float32" for value in node.inputs):
        why = "an operand is not known to be float32"
    if why is not None:
        size = _bytes_of(constant)
        asked = options.why_float(node) is not None
        return Row(node.name, "matmul", why if constant is None or asked else _why_no_matrix(constant), size, size)
    node.op = "dynq.MatMulDynamic"
    node.attributes = {"scheme": options.scheme, "granularity": options.granularity}
    return Row(node.name, "matmul", "attention='int8'", quantized=True)


def _why_no_matrix(constant: Value) -> str:
    """Return why a constant operand is no weight of a linear layer."""
    rank = len(constant.shape or ())
    if rank != 2:
        return f"its constant operand has {rank} dimensions; a weight has 2"
    if constant.dtype != "float32":
        return f"its constant operand is {constant.dtype or 'packed'}; a weight is float32"
    return f"its constant operand is on the left and small; from {LEAST_WEIGHT:,} elements on it would be a weight"


def _gemm(node: Node, options: Options) -> Row:
    constant = next((value for value in node.inputs[:2] if value is not None and value.constant is not None), None)
    size = _bytes_of(constant)
    why = "a Gemm whose second operand is computed" if constant is None else _why_no_matrix(constant)
    return Row(node.name, "matmul", options.why_float(node) or why, size, size)


def _other_conv(node: Node, options: Options) -> Row:
    """Tell why a node that is no dynq.Conv stays float."""
    kind, weight = "conv" if node.op == "Conv" else "conv transpose", node.input("W")
    if weight is None or weight.array is None:
        why = "its weight is not constant"
    elif node.op == "ConvTranspose":
        why = "int8 has no transposed convolution"
    elif node.need("X").constant is not None:
        why = "its input is constant"
    else:
        why = f"its weight has {weight.array.ndim} dimensions; int8 has convolutions over 1 and 2 axes"
    size = _bytes_of(weight)
    return Row(node.name, kind, options.why_float(node) or why, size, size)


def _bytes_of(value: Value | None) -> int:
    return value.array.nbytes if value is not None and value.array is not None else 0
