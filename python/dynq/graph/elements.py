"""What is known of the elements of small integer vectors: the sizes that graphs reckon with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .given import ONNX_TYPES

if TYPE_CHECKING:
    from .ir import Dim, Node, Shape, Value

__all__ = ["elements"]

_DEEPEST = 32  # nodes on the way
_LONGEST = 64
_LARGEST = 2**62


def elements(value: Value) -> Shape | None:
    """The elements of an integer vector or scalar as far as shapes tell them: numbers, names of sizes, None."""
    try:
        return _Elements().of(value, _DEEPEST)
    except (AttributeError, LookupError, TypeError, ValueError):
        return None  # the runtime says what is wrong with the node


class _Elements:
    """One look at a graph; each value is looked at once."""

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
            shape = node.inputs[0].shape if node.inputs[0] is not None else None
            extent: Any = node.attributes.get("start", 0), node.attributes.get("end")
            return None if shape is None else shape[slice(*extent)]
        if value.shape is None or len(value.shape) > 1:
            return None
        if node.op == "Where":
            return self._where(node, depth - 1)
        inputs = [self.of(operand, depth - 1) for operand in node.inputs]
        if node.op == "Concat":
            known = [part for part in inputs if part is not None]
            return tuple(dim for part in known for dim in part) if len(known) == len(inputs) else None
        if not inputs or inputs[0] is None:
            return None
        return _compute(node, inputs[0], inputs[1:])

    def _where(self, node: Node, depth: int) -> Shape | None:
        """Where, on an Equal of sizes: exporters ask so whether a target of Expand is -1."""
        equal = node.inputs[0].producer if node.inputs[0] is not None else None
        if equal is None or equal.op != "Equal":
            return None
        operands = [self.of(value, depth) for value in (*equal.inputs, *node.inputs[1:])]
        known = [operand for operand in operands if operand is not None]
        if len(known) != 4 or len({len(operand) for operand in known}) != 1:
            return None
        return tuple(_choose(*dims) for dims in zip(*known, strict=True))


def _compute(node: Node, first: Shape, others: list[Shape | None]) -> Shape | None:
    second = others[0] if others else None
    if node.op in ("Unsqueeze", "Squeeze", "Reshape", "Identity"):
        return first
    if node.op == "Cast":
        to = node.attributes["to"]
        fits = all(not isinstance(dim, int) or -(2**31) <= dim < 2**31 for dim in first)
        return first if to == ONNX_TYPES["int64"] or (to == ONNX_TYPES["int32"] and fits) else None
    if node.op == "Gather" and second is not None:
        indices = [index for index in second if isinstance(index, int)]
        return tuple(first[index] for index in indices) if len(indices) == len(second) else None
    if node.op == "Slice":
        bounds = [bound[0] if bound is not None and len(bound) == 1 else None for bound in others]
        start, end, step = bounds[0], bounds[1], bounds[3] if len(bounds) == 4 else 1
        if isinstance(start, int) and isinstance(end, int) and isinstance(step, int) and step > 0:
            return first[start:end:step]
        return None
    if node.op in ("Add", "Sub", "Mul", "Div", "Mod") and len(first) == 1 and second is not None and len(second) == 1:
        return (_arithmetic(node.op, first[0], second[0]),)
    return None


def _choose(left: Dim, right: Dim, yes: Dim, no: Dim) -> Dim:
    """``yes`` if the first two are equal."""
    known = left is not None and right is not None
    if known and left == right:
        return yes
    if (isinstance(left, int) and isinstance(right, int)) or (known and -1 in (left, right)):
        return no  # a size that a run decides is no -1
    return None


def _arithmetic(op: str, a: Dim, b: Dim) -> Dim:
    if isinstance(a, int) and isinstance(b, int):
        if op in ("Div", "Mod"):  # of negative numbers the two are not what Python has
            return None if a < 0 or b <= 0 else a // b if op == "Div" else a % b
        result = a * b if op == "Mul" else a + b if op == "Add" else a - b
        return result if abs(result) <= _LARGEST else None
    neutral = 1 if op in ("Mul", "Div") else 0
    if b == neutral and op != "Mod":
        return a
    return b if a == neutral and op in ("Add", "Mul") else None
