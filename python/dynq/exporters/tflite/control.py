"""Write ops that run graphs: dynq.If as IF, dynq.Loop as WHILE, each with subgraphs of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ...conversion import Unsupported
from ...ir.graph import Graph
from ...ir.selections import agreed
from ...ir.shapes import infer_all
from ...ir.values import Value
from .draft import KINDS, Draft, Edge, Place, Step

__all__ = ["branch", "loop", "set_types"]

_OF_LOOPS = (("int64", ()), ("bool", ()))  # the iteration, and whether there is one more
_ATTEMPTS = 10


def branch(place: Place) -> None:
    """Write IF. Both of its subgraphs take all captures."""
    node = place.node
    captures = _given(node.inputs[1:])
    fields: dict[str, Any] = {}
    for name, field in (("then_branch", "ThenSubgraphIndex"), ("else_branch", "ElseSubgraphIndex")):
        fields[field] = place.draft.body(node.bodies[name])
    condition = place.reshaped(place.plain("cond"), ())
    kinds = [(_dtype(value), place.out_dims(i)) for i, value in enumerate(node.outputs) if value is not None]
    if len(kinds) < len(node.outputs):
        raise Unsupported("dynq.If with an output that is left out")
    inputs = [condition, *(place.draft.plain(value) for value in captures)]
    place.gives(*place.ops("IF", inputs, kinds, options="IfOptions", **fields))


def loop(place: Place) -> None:
    """Write WHILE. Its variables are what the body's inputs are, then the outputs of all steps, and how many there are.

    A step writes its rows of the outputs into tensors that have all rows from the begin.
    """
    node, carried = place.node, place.integer("carried", 0)
    body = node.bodies["body"]
    goes_on = body.outputs[0][1]
    stops = goes_on is not body.inputs[1]  # the body may end the loop
    trips = place.maybe("M")
    count = len(body.outputs) - 1 - carried
    if count and (stops or trips is None):
        raise Unsupported("dynq.Loop with outputs of each step and an end that is computed")
    inner = place.draft.body(body)
    steps = [inner.plain(value) for _, value in body.outputs]
    first = place.maybe("cond")
    initial = [
        place.scalar(0, "int64"), place.scalar(True, "bool") if first is None else place.reshaped(first, ()),
        *(place.draft.plain(value) for value in _given(node.inputs[2:])),
    ]  # fmt: skip
    after = [
        _next(inner, inner.inputs[0][1]),
        *steps[: 1 + carried],
        *(edge for _, edge in inner.inputs[2 + carried :]),
    ]
    if trips is not None:
        initial.append(place.reshaped(trips, ()))
        after.append(_variable(inner, "trips", initial[-1]))
    for i, row in enumerate(steps[1 + carried :]):
        assert trips is not None
        rows = _rows(place, carried + i, row.dtype, trips)
        initial.append(rows)
        after.append(_written(inner, _variable(inner, f"rows_{i}", rows), row))
    inner.results = [(edge.name, edge) for edge in after]
    kinds = [(edge.dtype, edge.dims) for _, edge in inner.inputs]
    condition = _condition(place.draft, inner, stops or first is not None, trips is not None)
    made = place.ops(
        "WHILE", initial, kinds, options="WhileOptions", CondSubgraphIndex=condition, BodySubgraphIndex=inner
    )
    place.gives(*made[2 : 2 + carried], *made[len(made) - count :])


def _given(values: Sequence[Value | None]) -> list[Value]:
    given = [value for value in values if value is not None]
    if len(given) != len(values):
        raise Unsupported("a body with an input that is left out")
    return given


def set_types(graph: Graph) -> None:
    """Set the types of all that is in bodies, which a file of dynq does not hold."""
    infer_all(graph)
    for node in graph.nodes:
        is_loop = node.op == "dynq.Loop"
        for body in node.bodies.values():
            for i, (parameter, value) in enumerate(zip(body.inputs, node.inputs[0 if is_loop else 1 :], strict=True)):
                if is_loop and i < len(_OF_LOOPS):
                    parameter.dtype, parameter.shape = _OF_LOOPS[i]
                elif value is not None:
                    parameter.dtype, parameter.shape = value.dtype, value.shape
            _settle(body, int(node.attributes["carried"]) if is_loop else 0)  # type: ignore[arg-type]
        if node.bodies:
            infer_all(graph)


def _settle(body: Graph, carried: int) -> None:
    """Infer the types of a body. What a value has on its way to the next step is known only if it never changes."""
    for _ in range(_ATTEMPTS):
        set_types(body)
        settled = True
        for parameter, (_, value) in zip(body.inputs[2 : 2 + carried], body.outputs[1 : 1 + carried], strict=True):
            both = agreed(parameter.shape, value.shape)
            settled = settled and both == parameter.shape
            parameter.shape = both
        if settled:
            return
        for value in (value for node in body.nodes for value in node.outputs if value is not None):
            value.shape = None


def _dtype(value: Value) -> str:
    if value.dtype not in KINDS:
        raise Unsupported("a tensor whose dtype is not known")
    return value.dtype


def _variable(draft: Draft, name: str, like: Edge) -> Edge:
    """Add an input of a subgraph."""
    edge = Edge(name, like.dtype, like.dims)
    draft.inputs.append((name, edge))
    return edge


def _constant(draft: Draft, number: int, dtype: str) -> Edge:
    return draft.array(np.array(number, dtype), "constant")


def _next(draft: Draft, iteration: Edge) -> Edge:
    made = Edge("next", iteration.dtype, ())
    draft.step(Step("ADD", [iteration, _constant(draft, 1, iteration.dtype)], [made], options="AddOptions"))
    return made


def _rows(place: Place, output: int, dtype: str, trips: Edge) -> Edge:
    """Return zeros for the rows of all steps."""
    shape = place.out(output).shape
    if shape is None:
        raise Unsupported("dynq.Loop with outputs of each step whose rank is not known")
    count = place.reshaped(place.cast(trips, "int32"), (1,))
    sizes = [count] if len(shape) == 1 else [count, place.draft.sizes(shape[1:], f"{place.node.name}/sizes")]
    vector = place.op("CONCATENATION", sizes, (len(shape),), options="ConcatenationOptions", Axis=0)
    return place.op("FILL", [vector, place.scalar(0, dtype)], place.out_dims(output), dtype, options="FillOptions")


def _written(draft: Draft, rows: Edge, row: Edge) -> Edge:
    """Write a step's row into those of all steps."""
    at, begin = Edge("at", "int32", ()), Edge("begin", "int32", (len(rows.dims),))
    wide, made = Edge("row", row.dtype, (1, *row.dims)), Edge("written", rows.dtype, rows.dims)
    iteration = draft.inputs[0][1]
    casts = {"InDataType": KINDS["int64"], "OutDataType": KINDS["int32"]}
    draft.step(Step("CAST", [iteration], [at], options="CastOptions", fields=casts))
    parts = [at, *[_constant(draft, 0, "int32")] * (len(rows.dims) - 1)]
    draft.step(Step("PACK", [*parts], [begin], options="PackOptions", fields={"ValuesCount": len(parts), "Axis": 0}))
    zero = _constant(draft, 0, "int32")
    draft.step(Step("EXPAND_DIMS", [row, zero], [wide], options="ExpandDimsOptions"))
    draft.step(Step("DYNAMIC_UPDATE_SLICE", [rows, wide, begin], [made]))
    return made


def _condition(around: Draft, inner: Draft, asks: bool, counts: bool) -> Draft:
    """Return the subgraph that says whether another step follows. It has the variables of the body."""
    draft = around.body(Graph("condition"))
    edges = [_variable(draft, name, edge) for name, edge in inner.inputs]
    parts = []
    if counts:
        trips = edges[len(inner.graph.inputs)]
        parts.append(Edge("is_left", "bool", ()))
        draft.step(Step("LESS", [edges[0], trips], [parts[0]], options="LessOptions"))
    if asks or not counts:
        parts.append(edges[1])
    result = Edge("goes_on", "bool", ())
    draft.step(Step("LOGICAL_AND", [parts[0], parts[-1]], [result], options="LogicalAndOptions"))
    draft.results = [("goes_on", result)]
    return draft
