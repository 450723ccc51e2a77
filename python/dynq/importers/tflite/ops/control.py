"""Ops that run subgraphs. What is constant stays so in a body; other arguments become its inputs."""

from __future__ import annotations

from collections.abc import Sequence

from ....conversion import Unsupported
from ....graph import Value
from ....ir.selections import agreed
from ....ir.values import Shape
from ..bodies import Body, branch_body, inlined, loop_body, tentative
from ..convert import Call, Held, Result, converter

_MOST_INPUTS = 250  # of a node
_Type = tuple[str | None, Shape | None]


@converter("IF", "IfOptions")
def branch(call: Call) -> Result:
    """condition, arguments: only one of the branches is ever taken where the condition is known."""
    numbers = [call.option("ThenSubgraphIndex"), call.option("ElseSubgraphIndex")]
    arguments = [call.held(i) for i in range(1, call.count)]
    condition = call.array(0)
    if condition is not None:
        if condition.size != 1:
            raise ValueError(f"the condition has {condition.size} elements; expected 1")
        inner = inlined(call, numbers[0 if condition.reshape(-1)[0] else 1], arguments)
        return [] if inner is None else inner
    bodies = [
        branch_body(call, number, name, arguments) for number, name in zip(numbers, ("then", "else"), strict=True)
    ]
    made = [body for body in bodies if body is not None]
    if len(made) < 2:
        return []
    for body in made:
        if len(body.graph.outputs) != len(call.operator.outputs):
            raise ValueError(f"a branch has {len(body.graph.outputs)} outputs, not {len(call.operator.outputs)}")
    captures = list(dict.fromkeys(value for body in made for value in body.captures))
    for body in made:
        for value in captures:
            if value not in body.captures:
                name = body.graph.unique_value(f"{call.name}/{value.name}")
                body.captures[value] = body.graph.parameter(name, value.dtype, value.shape)
        body.graph.inputs = [body.captures[value] for value in captures]
    graphs = {"then_branch": made[0].graph, "else_branch": made[1].graph}
    return call.nodes("dynq.If", _few([call.value(0), *captures]), len(call.operator.outputs), bodies=graphs)


@converter("WHILE", "WhileOptions")
def loop(call: Call) -> Result:
    """The condition is a subgraph of its own, which runs before each run of the body."""
    at_condition, at_body = call.option("CondSubgraphIndex"), call.option("BodySubgraphIndex")
    arguments = [call.held(i) for i in range(call.count)]
    body = call.subgraph(at_body)
    if len(body.inputs) != call.count or len(body.outputs) != call.count:
        raise ValueError(f"a body with {len(body.inputs)} inputs and {len(body.outputs)} outputs for {call.count}")
    carried = [i for i in range(call.count) if body.outputs[i] != body.inputs[i]]
    begins = inlined(call, at_condition, arguments)
    if begins is None:
        return []
    initial = [call.value(i) for i in carried]
    made = _body(call, at_body, at_condition, arguments, carried, initial)
    if made is None:
        return []
    results = call.nodes(
        "dynq.Loop", _few([None, begins[0], *initial, *made.captures]), len(carried), bodies={"body": made.graph},
        carried=len(carried),
    ) if carried else []  # fmt: skip
    values = dict(zip(carried, results, strict=True))
    return [values[i] if i in values else call.value(i) for i in range(call.count)]


def _body(
    call: Call, at_body: int, at_condition: int, arguments: list[Held], carried: list[int], initial: list[Value]
) -> Body | None:
    """Return the body, then the condition. What a value has on its way is known only if it never changes."""
    types: list[_Type] = [(value.dtype, value.shape) for value in initial]

    def attempt() -> Body | None:
        return loop_body(call, at_body, at_condition, arguments, carried, types)

    for _ in range(3):
        give_back = tentative(call)
        body = attempt()
        if body is None:
            return None
        values = [value for _, value in body.graph.outputs[1:]]
        after = [(dtype, agreed(shape, v.shape)) for (dtype, shape), v in zip(types, values, strict=True)]
        if after == types:
            return body
        types = after
        give_back()
    types = [(dtype, None if shape is None else (None,) * len(shape)) for dtype, shape in types]
    return attempt()


@converter("CALL_ONCE", "CallOnceOptions")
def call_once(call: Call) -> Result:
    """It prepares variables, which dynq does not have: one that does nothing is left out."""
    if call.subgraph(call.option("InitSubgraphIndex")).operators:
        raise Unsupported("CALL_ONCE of a subgraph that does something")
    return []


def _few(inputs: Sequence[Value | None]) -> list[Value | None]:
    if len(inputs) > _MOST_INPUTS:
        raise Unsupported(f"a body with {len(inputs)} inputs; expected {_MOST_INPUTS} at most")
    return list(inputs)
