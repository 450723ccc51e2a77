"""Signs of numbers and angles of points, which dynq has no op for, in parts: zeros and infinities have them too."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from ..graph import Value

__all__ = ["angle_factors", "sign_of"]

_Node = Callable[[str, Sequence[Value]], Value]
_Number = Callable[[float], Value]


def angle_factors(node: _Node, number: _Number, y: Value, x: Value) -> list[Value]:
    """Return two factors of the angle of a point, from -pi to pi; that of a zero has the sign of y.

    Args:
        node: adds a node with one output.
        number: returns a float32 constant.
    """
    sides = [node("Abs", [y]), node("Abs", [x])]
    steep = node("Greater", sides)  # the quotient is at most 1
    low, high = node("Min", sides), node("Max", sides)
    zero, one, pi = number(0.0), number(1.0), number(math.pi)
    safe = node("Where", [node("Equal", [high, zero]), one, high])
    ratio = node("Where", [node("Equal", [low, high]), node("Sign", [high]), node("Div", [low, safe])])
    angle = node("Atan", [ratio])
    angle = node("Where", [steep, node("Sub", [number(math.pi / 2), angle]), angle])
    behind = node("Less", [sign_of(node, number, x), zero])
    return [node("Where", [behind, node("Sub", [pi, angle]), angle]), sign_of(node, number, y)]


def sign_of(node: _Node, number: _Number, x: Value) -> Value:
    """Return 1 or -1; -1 for -0, whose reciprocal is below 0."""
    zero, one = number(0.0), number(1.0)
    whole = node("Where", [node("Equal", [x, zero]), node("Reciprocal", [x]), x])
    return node("Where", [node("Less", [whole, zero]), number(-1.0), one])
