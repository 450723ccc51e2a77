"""Ops that compare, and that choose by what was compared."""

from __future__ import annotations

from ....conversion import Unsupported
from ..convert import Call, Result, converter
from ..together import like, together

_OPS = {
    "EQUAL": "Equal", "LESS": "Less", "LESS_EQUAL": "LessOrEqual", "GREATER": "Greater",
    "GREATER_EQUAL": "GreaterOrEqual", "LOGICAL_AND": "And", "LOGICAL_OR": "Or",
}  # fmt: skip


@converter(" ".join(_OPS))
def compare(call: Call) -> Result:
    values, planes = together(call, [0, 1])
    return like(call.node(_OPS[call.op], values), planes)


@converter("NOT_EQUAL")
def not_equal(call: Call) -> Result:
    values, planes = together(call, [0, 1])
    return like(call.node("Not", [call.node("Equal", values)]), planes)


@converter("SELECT SELECT_V2")
def select(call: Call) -> Result:
    """A condition of one dimension chooses rows in SELECT; SELECT_V2 broadcasts."""
    ranks = [call.rank(i) for i in range(3)]
    if call.op == "SELECT" and ranks[0] == 1 and ranks[1] > 1:
        axes = call.integers(list(range(1, ranks[1])))
        condition = call.node("Unsqueeze", [call.value(0), axes])
        return call.node("Where", [condition, call.value(1), call.value(2)])
    values, planes = together(call, [0, 1, 2])
    if values[0].dtype not in (None, "bool"):
        raise Unsupported(f"{call.op} by {values[0].dtype}")
    return like(call.node("Where", values), planes)
