"""The elements of small integer vectors, as far as they are known: graphs compute sizes with them."""

from __future__ import annotations

from typing import Any

from . import ops
from .dims import product, quotient
from .given import ONNX_TYPES
from .values import Dim, Node, Shape, Value

__all__ = ["elements"]

_DEEPEST = 32  # the most nodes that are followed upwards
_LONGEST = 64
_LARGEST = 2**62


def elements(value: Value) -> Shape | None:
    """Return the elements of an integer vector or scalar, as far as shapes give them: numbers, names of sizes, None."""
    try:
        return _Elements().of(value, _DEEPEST)
    except (AttributeError, LookupError, TypeError, ValueError):
        return None  # the runtime says what is wrong with the node


class _Elements:
    """One look at a graph. Each value is looked at once."""

    def __init__(self) -> None:
        self._known: dict[Value, Shape | None] = {}

    def of(self, value: Value | None, depth: int) -> Shape | None:
        if value is None:
            return None
        if value not in self._known:
            self._known[value] = None
            result = self._find(value, depth)
            self._known[value] = result if result is not None and len(result) <= _LONGEST else None
        return self._known[value]

    def _find(self, value: Value, depth: int) -> Shape | None:
        array = value.array
        if array is not None:
            small = array.dtype.kind == "i" and array.ndim <= 1 and array.size <= _LONGEST
            return tuple(array.reshape(-1).tolist()) if small else None
        node = value.producer
        if node is None or depth == 0:
            return None
        if node.op == "Shape":
            x = node.input("data")
            extent: Any = node.attributes.get("start", 0), node.attributes.get("end")
            return None if x is None or x.shape is None else x.shape[slice(*extent)]
        if value.shape is None or len(value.shape) > 1:
            return None
        if node.op == "Where":
            return self._where(node, depth - 1)
        if node.op == "Gather":
            return self._gather(node, depth - 1)
        if node.op == "Slice":
            return self._slice(node, depth - 1)
        inputs = [self.of(operand, depth - 1) for operand in node.inputs]
        if node.op == "Concat":
            known = [part for part in inputs if part is not None]
            return tuple(dim for part in known for dim in part) if len(known) == len(inputs) else None
        first, *others = inputs
        op = ops.table().get(node.op)
        if op is not None and op.is_view and node.outputs[0] is value:
            return first
        return None if first is None else _compute(node, first, others)

    def _where(self, node: Node, depth: int) -> Shape | None:
        """Return the elements of a Where on an Equal of sizes. Exporters write it to ask if a target of Expand is
        -1.
        """
        condition = node.input("condition")
        equal = None if condition is None else condition.producer
        if equal is None or equal.op != "Equal":
            return None
        operands = [self.of(value, depth) for value in (*equal.inputs, node.input("X"), node.input("Y"))]
        known = [operand for operand in operands if operand is not None]
        if len(known) != 4 or len({len(operand) for operand in known}) != 1:
            return None
        return tuple(_choose(*dims) for dims in zip(*known, strict=True))

    def _gather(self, node: Node, depth: int) -> Shape | None:
        """Return the elements at indices that are known."""
        data, given = self.of(node.input("data"), depth), self.of(node.input("indices"), depth)
        if data is None or given is None:
            return None
        indices = [index for index in given if isinstance(index, int)]
        return tuple(data[index] for index in indices) if len(indices) == len(given) else None

    def _slice(self, node: Node, depth: int) -> Shape | None:
        """Return a part of a vector, which has one axis."""
        data = self.of(node.input("data"), depth)
        bounds = [self.of(node.input(name), depth) for name in ("starts", "ends", "steps")]
        start, end, step = (bound[0] if bound is not None and len(bound) == 1 else None for bound in bounds)
        if node.input("steps") is None:
            step = 1
        if data is None or not (isinstance(start, int) and isinstance(end, int) and isinstance(step, int) and step > 0):
            return None
        return data[start:end:step]


def _compute(node: Node, first: Shape, others: list[Shape | None]) -> Shape | None:
    second = others[0] if others else None
    if node.op == "Cast":
        to = node.attributes["to"]
        fits = all(not isinstance(dim, int) or -(2**31) <= dim < 2**31 for dim in first)
        return first if to == ONNX_TYPES["int64"] or (to == ONNX_TYPES["int32"] and fits) else None
    if node.op == "Neg":
        return tuple(-dim if isinstance(dim, int) else None if dim is None else f"-{dim}" for dim in first)
    if node.op in ("Add", "Sub", "Mul", "Div", "Mod") and len(first) == 1 and second is not None and len(second) == 1:
        return (_arithmetic(node.op, first[0], second[0]),)
    return None


def _choose(left: Dim, right: Dim, yes: Dim, no: Dim) -> Dim:
    """Return ``yes`` if the first two are equal, and ``no`` if they differ."""
    known = left is not None and right is not None
    if known and left == right:
        return yes
    if (isinstance(left, int) and isinstance(right, int)) or (known and -1 in (left, right)):
        return no  # a size that a run decides is no -1
    return None


def _arithmetic(op: str, a: Dim, b: Dim) -> Dim:
    if isinstance(a, int) and isinstance(b, int):
        if op in ("Div", "Mod"):  # Python rounds negative numbers in another way
            return None if a < 0 or b <= 0 else a // b if op == "Div" else a % b
        result = a * b if op == "Mul" else a + b if op == "Add" else a - b
        return result if abs(result) <= _LARGEST else None
    if op in ("Mul", "Div"):
        return product([a, b]) if op == "Mul" else quotient([a], [b])
    if b == 0 and op != "Mod":
        return a
    return b if a == 0 and op == "Add" else None
