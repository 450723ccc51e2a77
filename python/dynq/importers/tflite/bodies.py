"""Convert subgraphs: in the place of the operator that runs them, or to graphs of their own."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ...graph import Graph, Value
from ...ir.values import Shape
from .convert import Call, Held, Walk

__all__ = ["Body", "branch_body", "inlined", "loop_body", "tentative"]


@dataclass
class Body:
    """A subgraph that has become a graph, and what it reads of the one around: there, and its own inputs."""

    graph: Graph
    captures: dict[Value, Value]


def inlined(call: Call, number: int, arguments: Sequence[Held]) -> list[Value] | None:
    """Convert a subgraph in place of this operator, and return its outputs; None if it has what is refused."""
    return _run_inner(call, call.walk.graph, number, arguments, call.name)


def branch_body(call: Call, number: int, kind: str, arguments: Sequence[Held]) -> Body | None:
    """Convert a subgraph to a graph of its own; None if it has what is refused."""
    graph = call.walk.graph.new_body(f"{call.name}/{kind}")
    captures: dict[Value, Value] = {}
    inner = [_captured(call, held, graph, captures, kind) for held in arguments]
    outputs = _run_inner(call, graph, number, inner, f"{call.name}/{kind}")
    if outputs is None:
        return None
    graph.outputs = [(str(i), value) for i, value in enumerate(outputs)]
    return Body(graph, captures)


def loop_body(
    call: Call, number: int, condition: int, arguments: Sequence[Held], carried: Sequence[int],
    types: Sequence[tuple[str | None, Shape | None]],
) -> Body | None:  # fmt: skip
    """Convert the body of a loop, with its condition behind it; None if it has what is refused.

    Args:
        carried: which arguments change, and pass from one iteration to the next with ``types``.
    """
    graph = call.walk.graph.new_body(f"{call.name}/body")
    captures: dict[Value, Value] = {}
    own: list[tuple[str, tuple[str | None, Shape | None]]] = [
        ("iteration", ("int64", ())), ("condition", ("bool", ())),
        *((f"state_{i}", kind) for i, kind in zip(carried, types, strict=True)),
    ]  # fmt: skip
    given = [graph.parameter(graph.unique_value(call.walk.fresh(f"{call.name}/{n}")), *kind) for n, kind in own]
    states = dict(zip(carried, given[2:], strict=True))
    before = [
        Held(last=states[i]) if i in states else _captured(call, held, graph, captures, "body")
        for i, held in enumerate(arguments)
    ]
    after = _run_inner(call, graph, number, before, f"{call.name}/body")
    if after is None:
        return None
    again = [Held(last=after[i]) if i in states else held for i, held in enumerate(before)]
    goes_on = _run_inner(call, graph, condition, again, f"{call.name}/condition")
    if goes_on is None:
        return None
    graph.outputs = [("condition", goes_on[0]), *((str(i), after[i]) for i in carried)]
    graph.inputs = [*given, *captures.values()]
    return Body(graph, captures)


def tentative(call: Call) -> Callable[[], None]:
    """Return a function that gives back the names of nodes that were taken since."""
    names = call.walk.graph.taken_names()[1]
    before = set(names)
    return lambda: names.intersection_update(before)


def _captured(call: Call, held: Held, graph: Graph, captures: dict[Value, Value], kind: str) -> Held:
    """Return what an argument is in a body: the same constant, or an input."""
    if held.constant is not None:
        return Held(constant=held.constant)
    value = held.last if held.last is not None else call.walk.turned_back(held)
    if value not in captures:
        captures[value] = graph.parameter(call.walk.fresh(f"{call.name}/{kind}/{value.name}"), value.dtype, value.shape)
    return Held(last=captures[value])


def _run_inner(call: Call, graph: Graph, number: int, arguments: Sequence[Held], prefix: str) -> list[Value] | None:
    subgraph = call.subgraph(number)
    if len(subgraph.inputs) != len(arguments):
        raise ValueError(f"subgraph {number} has {len(subgraph.inputs)} inputs, not {len(arguments)}")
    walk = Walk(call.walk.source, number, graph, call.walk.problems, call.walk)
    walk.prefix = f"{prefix}/"
    for index, held in zip(subgraph.inputs, arguments, strict=True):
        walk.hold(subgraph.tensors[index], dataclasses.replace(held))
    walk.run()
    if any(index in walk.refused for index in subgraph.outputs):
        return None
    return [walk.last(subgraph.tensors[index]) for index in subgraph.outputs]
