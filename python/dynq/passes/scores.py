"""Follow the scores of attention from a Softmax back to the product of q and k.

On the way may lie scales, a soft cap, masks that are added, are subtracted or fill in a very low number, and views that
move batch and heads alone.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from ..ir import ops
from ..ir.values import Node, Shape, Value
from .rewrite import Uses, close, is_op, other_input, scalar
from .transposes import moves_ones

__all__ = ["Mask", "Scores", "factor_of", "keeps_rows", "lowest", "scores_of"]

_MOST = 14  # nodes between the product and the softmax
_VIEWS = 3  # that together leave rows and columns as they are
_LOWEST = -1e30  # and below: adding such a number to any score gives the number itself


@dataclasses.dataclass(frozen=True)
class Mask:
    """A value to add; or a condition, with what is added where it is true and where it is false.

    Attributes:
        shape: that of the scores there.
        factor: what the sum is multiplied by, later.
        floor: the lowest sum, if there is one.
    """

    value: Value
    shape: Shape
    sides: tuple[float, float] | None = None
    factor: float = 1.0
    floor: float | None = None


@dataclasses.dataclass
class Scores:
    """The product of q and k that leads to a softmax, with what happens to it on the way.

    Attributes:
        factors: values that the product is multiplied by: one for each row at most.
        lead: the shapes of the scores, without rows and columns, from the product on.
    """

    product: Node
    factor: float = 1.0
    factors: list[Value] = dataclasses.field(default_factory=list)
    softcap: float | None = None
    masks: list[Mask] = dataclasses.field(default_factory=list)
    lead: list[Shape] = dataclasses.field(default_factory=list)


def lowest(number: float | None) -> bool:
    return number is not None and number <= _LOWEST


def factor_of(node: Node) -> tuple[Value, float] | None:
    """Return ``value`` and ``c`` of ``value * c`` or ``value / c``."""
    a, b = node.inputs
    number = scalar(b)
    if number is not None and a is not None and number != 0:
        return a, 1 / number if node.op == "Div" else number
    number = scalar(a)
    if node.op == "Mul" and number is not None and b is not None:
        return b, number
    return None


def keeps_rows(before: Value, after: Value) -> bool:
    """Return whether a view leaves the last two axes as they are."""
    a, b = before.shape, after.shape
    if a is None or b is None or len(a) < 3 or len(b) < 3:
        return False
    return None not in (*a[-2:], *b[-2:]) and a[-2:] == b[-2:]


def scores_of(uses: Uses, x: Value) -> Scores | None:
    """Return what leads to the softmax of ``x``; None if it is no attention, or if something else reads the scores."""
    steps = _Walk(uses).steps(x, _MOST)
    if steps is None:
        return None
    (product, _, _), *others = steps
    result = Scores(product, lead=[(product.outputs[0].shape or ())[:-2]])  # type: ignore[union-attr]
    before = product.outputs[0]
    for node, kind, data in others:
        if before is None or not _take(result, node, kind, data, before.shape):
            return None
        before = node.outputs[0]
    return result


_Step = tuple[Node, str, Any]


class _Walk:
    """Goes up from the softmax; each value is asked once."""

    def __init__(self, uses: Uses) -> None:
        self._uses = uses
        self._known: dict[Value, list[_Step] | None] = {}

    def steps(self, value: Value | None, left: int) -> list[_Step] | None:
        """Return the nodes from the product down to a value; None if it does not come from one."""
        if value is None or left == 0 or self._uses.only_reader(value) is None:
            return None
        if value not in self._known:
            self._known[value] = None
            self._known[value] = self._find(value, left - 1)
        return self._known[value]

    def _find(self, value: Value, left: int) -> list[_Step] | None:
        node = value.producer
        if node is None or node.outputs[0] is not value:
            return None
        if node.op == "MatMul":
            return [(node, "product", None)] if value.shape is not None and len(value.shape) >= 3 else None
        for inner, kind, data in _choices(self._uses, node):
            found = self.steps(inner, left)
            if found is not None:
                return [*found, (node, kind, data)]
        return None


def _choices(uses: Uses, node: Node) -> list[tuple[Value | None, str, Any]]:
    """Return the inputs of a node that may be the scores, with what the node does to them."""
    inputs = node.inputs
    if node.op in ("Mul", "Div"):
        cap = _capped(node)
        if cap is not None:
            return [(cap[0], "cap", cap[1])]
        step = factor_of(node)
        if step is not None:
            return [(step[0], "scale", step[1])]
        return [(a, "factor", b) for a, b in (inputs, inputs[::-1])] if node.op == "Mul" else []
    if node.op in ("Add", "Max"):
        pairs = [(value, other_input(node, value)) for value in inputs if value is not None]
        return [(a, "add" if node.op == "Add" else "floor", b) for a, b in pairs]
    if node.op == "Sub":
        return [(inputs[0], "subtract", inputs[1])]
    if node.op == "Where":
        condition, yes, no = inputs
        filled = ((no, yes, True), (yes, no, False))
        return [(value, "fill", (condition, scalar(low), first)) for value, low, first in filled if lowest(scalar(low))]
    source = _viewed(uses, node)
    return [] if source is None else [(source, "view", None)]


def _viewed(uses: Uses, node: Node) -> Value | None:
    """Return what a view, or one behind another, shows with the same rows and columns."""
    output = node.outputs[0]
    for _ in range(_VIEWS):
        op = ops.table().get(node.op)
        x = node.first
        if x is None or output is None or not ((op is not None and op.is_view) or moves_ones(node)):
            return None
        if keeps_rows(x, output):
            return x
        if x.producer is None or uses.only_reader(x) is None:
            return None
        node = x.producer
    return None


def _capped(node: Node) -> tuple[Value, float] | None:
    """Return ``x`` and ``c`` of ``c * tanh(x / c)``."""
    outer = factor_of(node)
    tanh = None if outer is None else is_op(outer[0], "Tanh")
    scaled = None if tanh is None else is_op(tanh.first, "Mul", "Div")
    inner = None if scaled is None else factor_of(scaled)
    if outer is None or inner is None or not outer[1] > 0 or not close(inner[1], 1 / outer[1]):
        return None
    return inner[0], outer[1]


def _alike(a: Shape | None, b: Shape) -> bool:
    """Return whether shapes are equal, as far as they are known."""
    if a is None or len(a) != len(b):
        return False
    return all(x == y or x is None or y is None for x, y in zip(a, b, strict=True))


def _take(scores: Scores, node: Node, kind: str, data: Any, before: Shape | None) -> bool:
    """Add a step to the scores; return False if it cannot be one of attention there."""
    output = node.outputs[0]
    shape = None if output is None else output.shape
    if shape is None:
        return False
    free = not scores.masks and scores.softcap is None
    if kind == "scale":
        if not data > 0 or (scores.softcap is not None and data != 1):
            return False
        scores.factor *= data
        scores.masks = [
            dataclasses.replace(m, factor=m.factor * data, floor=None if m.floor is None else m.floor * data)
            for m in scores.masks
        ]
        return all(m.sides is None or _stays_low(m) for m in scores.masks)
    if kind == "factor":
        scores.factors.append(data)
        return (
            free
            and _alike(before, shape)
            and data.dtype == "float32"
            and data.shape is not None
            and data.shape[-1:] in ((), (1,))
        )
    if kind == "cap":
        scores.softcap = data
        return free
    if kind == "view":
        scores.lead.append(shape[:-2])
        return True
    if kind == "floor":
        number = scalar(data)
        if number is None or number > _LOWEST:
            return False
        scores.masks = [dataclasses.replace(m, floor=number) for m in scores.masks]
        return True
    value, sides = data, None
    if kind == "fill":
        value, low, first = data
        sides = (low, 0.0) if first else (0.0, low)
    wanted = "bool" if kind == "fill" else "float32"
    if not isinstance(value, Value) or value.dtype != wanted or value.shape is None or len(value.shape) > len(shape):
        return False
    if not _alike(before, shape):  # the mask makes more scores
        return False
    scores.masks.append(Mask(value, shape, sides, factor=-1.0 if kind == "subtract" else 1.0))
    return True


def _stays_low(mask: Mask) -> bool:
    return mask.sides is None or all(side == 0 or lowest(float(np.float32(side * mask.factor))) for side in mask.sides)
