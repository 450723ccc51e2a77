"""Ops that run graphs. What a body reads of the graph around it becomes its inputs; constants become its own.

Scan becomes a Loop that takes its inputs apart: a Gather for each.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ....conversion import Unsupported
from ....core.arguments import DTYPE_NUMBERS
from ....graph import Graph, Value
from ....ir.selections import agreed
from ....ir.values import Shape
from ..attributes import INT, INTS, unused
from ..convert import Body, Call, Result, converter
from ..tensors import DTYPE_OF

_MOST_INPUTS = 250  # of a node
_Type = tuple[str | None, Shape | None]
_Capture = Callable[[Value], Value]
_Enter = Callable[[Graph, _Capture], list[Value]]


@converter("If", then_branch=unused("graph"), else_branch=unused("graph"))
def branch(call: Call) -> Result:
    """Only one of the branches is ever taken where the condition is known."""
    condition = call.array("cond")
    if condition is not None:
        if condition.size != 1:
            raise ValueError(f"the condition has {condition.size} elements; expected 1")
        taken, other = ("then_branch", "else_branch")[:: 1 if condition.reshape(())[()] else -1]
        return call.branch(taken, other)
    branches = {name: call.body(name, lambda graph, capture: []) for name in ("then_branch", "else_branch")}
    made = {name: body for name, body in branches.items() if body is not None}
    if len(made) < 2:
        return None
    for name, body in made.items():
        if len(body.graph.outputs) != len(call.proto.output):
            raise ValueError(f"{name} has {len(body.graph.outputs)} outputs, the node {len(call.proto.output)}")
    captures = list(dict.fromkeys(value for body in made.values() for value in body.captures))
    for body in made.values():
        for value in captures:
            if value not in body.captures:
                name = body.graph.unique_value(f"{call.name}/{value.name}")
                body.captures[value] = body.graph.parameter(name, value.dtype, value.shape)
        body.graph.inputs = [body.captures[value] for value in captures]
    bodies = {name: body.graph for name, body in made.items()}
    return call.emit("dynq.If", _few([call.need("cond"), *captures]), bodies=bodies)


@converter("Loop", body=unused("graph"))
def loop(call: Call) -> Result:
    initial = _given(call.inputs[2:])
    made = _convert(call, initial, 1, lambda types: lambda graph, capture: _parameters(call, graph, types))
    if made is None:
        return None
    inputs = [call.input(0), call.input(1), *initial, *made.captures]
    return call.emit("dynq.Loop", _few(inputs), bodies={"body": made.graph}, **_attributes(call, made, initial))


@converter(
    "Scan", since=9,
    body=unused("graph"), num_scan_inputs=INT,
    scan_input_axes=INTS, scan_input_directions=INTS, scan_output_axes=INTS, scan_output_directions=INTS,
)  # fmt: skip
def scan(call: Call) -> Result:
    values, count = _given(call.inputs), call.attributes["num_scan_inputs"]
    if not 1 <= count <= len(values):
        raise ValueError(f"num_scan_inputs is {count}; expected 1 to {len(values)}")
    initial, scanned = values[: len(values) - count], values[len(values) - count :]
    axes, backwards = _list(call, "scan_input_axes", count), _list(call, "scan_input_directions", count)
    trips = _length(call, scanned[0], axes[0])
    for i in range(1, count):  # a Split of one part fails if the length is not that of the first
        part = call.node("Reshape", [trips, np.ones(1, np.int64)])
        scanned[i] = call.node("Split", [scanned[i], part], axis=axes[i])

    def enter(types: Sequence[_Type]) -> _Enter:
        def given(graph: Graph, capture: _Capture) -> list[Value]:
            iteration, _, *states = _parameters(call, graph, types)
            slices = []
            for value, axis, backward in zip(scanned, axes, backwards, strict=True):
                at = capture(trips) - np.int64(1) - iteration if backward else iteration
                slices.append(graph.node("Gather", [capture(value), at], axis=axis))
            return [*states, *slices]

        return given

    made = _convert(call, initial, 0, enter)
    if made is None:
        return None
    made.graph.outputs.insert(0, ("condition", made.graph.inputs[1]))
    scans = len(made.graph.outputs) - 1 - len(initial)
    axes, backwards = _list(call, "scan_output_axes", scans), _list(call, "scan_output_directions", scans)
    inputs = _few([trips, None, *initial, *made.captures])
    attributes = _attributes(call, made, initial)
    if not any(axes) and not any(backwards):
        return call.emit("dynq.Loop", inputs, bodies={"body": made.graph}, **attributes)
    results = call.nodes("dynq.Loop", inputs, len(call.outputs), bodies={"body": made.graph}, **attributes)
    for i, (axis, backward) in enumerate(zip(axes, backwards, strict=True), len(initial)):
        if i < len(results):
            results[i] = _turn(call, results[i], axis, bool(backward))
    return results


def _turn(call: Call, value: Value, axis: int, backward: bool) -> Value:
    """Return a scan output in its direction and with its axis: the iterations are its axis 0 so far."""
    if backward:
        begin, end, axes, steps = ([number] for number in (-1, -(2**63) + 1, 0, -1))
        value = call.node("Slice", [value, *(call.constant(np.array(part)) for part in (begin, end, axes, steps))])
    if axis == 0:
        return value
    if value.shape is None:
        raise Unsupported("Scan with scan_output_axes of a tensor whose rank is not known")
    rank = len(value.shape)
    if not -rank <= axis < rank:
        raise ValueError(f"scan_output_axes has {axis}; the tensor has {rank} dimensions")
    perm = list(range(1, rank))
    perm.insert(axis % rank, 0)
    return call.node("Transpose", [value], perm=perm)


def _convert(call: Call, initial: list[Value], first: int, enter: Callable[[Sequence[_Type]], _Enter]) -> Body | None:
    """Convert the body. What a value has on its way from one iteration to the next is known only if it never changes.

    Args:
        first: which output of the body is the first that the next iteration gets.
    """
    types: list[_Type] = [(value.dtype, value.shape) for value in initial]
    for attempt in range(3):
        give_back = call.tentative()
        body = call.body("body", enter(types))
        if body is None:
            return None
        values = [value for _, value in body.graph.outputs[first : first + len(initial)]]
        if len(values) < len(initial):
            raise ValueError(f"its body has {len(body.graph.outputs)} outputs; expected {first + len(initial)} or more")
        after = [(dtype, agreed(shape, v.shape)) for (dtype, shape), v in zip(types, values, strict=True)]
        if after == types:
            return body
        types = [
            (old[0], new[1] if attempt == 0 or new == old else None) for old, new in zip(types, after, strict=True)
        ]
        give_back()
    return call.body("body", enter([(dtype, None) for dtype, _ in types]))


def _parameters(call: Call, graph: Graph, types: Sequence[_Type]) -> list[Value]:
    """Add the inputs that a body of dynq.Loop has: the iteration, the condition, and what iterations pass on."""
    kinds: list[tuple[str, _Type]] = [("iteration", ("int64", ())), ("condition", ("bool", ()))]
    kinds += [(f"state_{i}", kind) for i, kind in enumerate(types)]
    return [graph.parameter(graph.unique_value(f"{call.name}/{name}"), *kind) for name, kind in kinds]


def _attributes(call: Call, body: Body, initial: list[Value]) -> dict[str, Any]:
    """Return how many values iterations pass on, and what scan outputs are if there is no iteration."""
    protos = call.graph("body").output
    scans = body.graph.outputs[1 + len(initial) :]
    types: list[int] = []
    for (_, value), proto in zip(scans, protos[len(protos) - len(scans) :], strict=True):
        declared = proto.type.tensor_type
        dtype = value.dtype or DTYPE_OF.get(declared.elem_type)
        if dtype is None:
            raise Unsupported(f"{call.op} with an output of its body whose dtype is not known")
        shape = value.shape
        if shape is None:
            shape = tuple(dim.dim_value or None for dim in declared.shape.dim)
        types += [DTYPE_NUMBERS[dtype], len(shape), *(dim if isinstance(dim, int) else -1 for dim in shape)]
    return {"carried": len(initial), "scan_types": types or None}


def _length(call: Call, value: Value, axis: int) -> Value:
    return call.node("Gather", [call.node("Shape", [value]), call.constant(np.int64(axis))], axis=0)


def _list(call: Call, name: str, count: int) -> list[int]:
    values: list[int] = call.attribute(name, [0] * count)
    if len(values) != count:
        raise ValueError(f"{name} has {len(values)} elements; expected {count}")
    if name.endswith("directions") and not set(values) <= {0, 1}:
        raise ValueError(f"{name} is {values}; expected 0 and 1")
    return values


def _few(inputs: list[Value | None]) -> list[Value | None]:
    if len(inputs) > _MOST_INPUTS:
        raise Unsupported(f"a body with {len(inputs)} inputs; expected {_MOST_INPUTS} at most")
    return inputs


def _given(values: Sequence[Value | None]) -> list[Value]:
    """Return values of which none may be left out."""
    given = [value for value in values if value is not None]
    if len(given) != len(values):
        raise ValueError("one of its values is left out")
    return given
