"""Multi-head attention as torch and transformers export it becomes one dynq.Attention.

q, k and v (B, S, H * D) are reshaped to (B, S, H, D) and transposed to (B, H, S, D); then come q k^T, a scale (on the
scores or on q and k before), masks that are added or fill in a very low number, Softmax, the product with v, and the
way back to (B, S, H * D). With a bool mask torch makes zeros of the NaN that Softmax gives where no key is left.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from ..ir import Graph, Node, Value
from ._rewrite import Uses, close, is_op, other_input, scalar

__all__ = ["find_attention"]


_LOWEST = -1e30  # and below: such a number swallows any score
_Known = dict[Value, bool]  # whether a value leads to the product: both inputs of an Add are asked


@dataclasses.dataclass(frozen=True)
class _Heads:
    """A value (B, S, H * D) that is split into heads, and the factor on it."""

    value: Value
    heads: int
    size: int
    factor: float


def find_attention(graph: Graph) -> None:
    uses = Uses(graph)
    for softmax in [node for node in graph.nodes if node.op == "Softmax"]:
        _rewrite(uses, softmax)


def _rewrite(uses: Uses, softmax: Node) -> None:
    x = softmax.input(0)
    if x is None or softmax.attributes.get("axis", -1) not in (-1, 3):
        return
    scores = _scores(uses, x)
    guard = _zeros_for_nan(uses, softmax)
    weights = softmax if guard is None else guard
    product = _next(uses, weights, "MatMul")
    back = None if product is None else _next(uses, product, "Transpose")
    end = None if back is None else _next(uses, back, "Reshape")
    if scores is None or product is None or back is None or end is None or end.outputs[0] is None:
        return
    if product.inputs[0] is not weights.outputs[0] or back.attributes.get("perm") != [0, 2, 1, 3]:
        return
    q, k, v = (
        _heads(scores.product.inputs[0], [0, 2, 1, 3]),
        _heads(scores.product.inputs[1], [0, 2, 3, 1]),
        _heads(product.inputs[1], [0, 2, 1, 3]),
    )
    if q is None or k is None or v is None or v.factor != 1 or not q.heads == k.heads == v.heads or q.size != k.size:
        return
    batches = {None if part.value.shape is None else part.value.shape[0] for part in (q, k, v)}
    lengths = {None if part.value.shape is None else part.value.shape[1] for part in (k, v)}
    shape = end.outputs[0].shape
    if len(batches) > 1 or len(lengths) > 1 or shape != (*_shape(q)[:2], v.heads * v.size):
        return
    known, mask = (True, _mask(uses, scores.masks)) if guard is None else _without_nan(uses, scores.masks)
    if not known:
        return
    factor = scores.factor * q.factor * k.factor
    uses.set_inputs(end, [q.value, k.value, v.value, mask])
    end.op, end.attributes = "dynq.Attention", {"heads": q.heads}
    if not close(factor, 1 / math.sqrt(q.size)):
        end.attributes["scale"] = factor


@dataclasses.dataclass
class _Scores:
    """The product of q and k behind the softmax, a factor on it, and then masks."""

    product: Node
    factor: float = 1.0
    masks: list[_Mask] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(frozen=True)
class _Mask:
    """A value to add; or a condition, and what is added where it is true and where it is false."""

    value: Value
    sides: tuple[float, float] | None = None


def _scores(uses: Uses, x: Value) -> _Scores | None:
    value: Value | None = x
    factor = 1.0
    masks: list[_Mask] = []
    known: _Known = {}
    for _ in range(5):
        node = is_op(value, "MatMul", "Add", "Mul", "Div", "Where")
        if node is None or value is None or uses.only_reader(value) is None:
            return None
        if node.op == "MatMul":
            return _Scores(node, factor, masks[::-1])
        if node.op in ("Mul", "Div"):
            step = _factor(node)
            if step is None:
                return None
            value, factor = step[0], factor * step[1]
            continue
        found = _added(node, known) if node.op == "Add" else _filled(node)
        if found is None or factor != 1:  # a mask under the factor would be another one
            return None
        value, mask = found
        masks.append(mask)
    return None


def _added(node: Node, known: _Known) -> tuple[Value, _Mask] | None:
    """The scores and the mask of an Add."""
    for value in node.inputs:
        mask = None if value is None else other_input(node, value)
        if value is not None and mask is not None and _leads_to_product(value, known) and _is_mask(mask, "float32"):
            return value, _Mask(mask)
    return None


def _filled(node: Node) -> tuple[Value, _Mask] | None:
    """The scores and the mask of a Where that puts a number so low that adding it to any score gives just that."""
    condition, yes, no = node.inputs
    if condition is None or not _is_mask(condition, "bool"):
        return None
    for value, filler, first in ((yes, no, False), (no, yes, True)):
        low = scalar(filler)
        if value is not None and low is not None and low <= _LOWEST:
            return value, _Mask(condition, (low, 0.0) if first else (0.0, low))
    return None


def _is_mask(value: Value, dtype: str) -> bool:
    return value.shape is not None and len(value.shape) <= 4 and value.dtype == dtype


def _mask(uses: Uses, masks: list[_Mask]) -> Value | None:
    """All masks as one value to add. What is filled in swallows what was added before."""
    result: Value | None = None
    for mask in masks:
        if mask.sides is not None:
            before = np.float32(0) if result is None else result
            sides = [np.float32(side) if side else before for side in mask.sides]
            result = uses.graph.node("Where", [mask.value, *sides])
        else:
            result = mask.value if result is None else uses.graph.node("Add", [result, mask.value])
    return result


def _zeros_for_nan(uses: Uses, softmax: Node) -> Node | None:
    """The Where of ``where(isnan(p), 0, p)``."""
    p = softmax.outputs[0]
    readers = [] if p is None or p in uses.outputs else uses.readers.get(p, [])
    test = next((node for node in readers if node.op == "IsNaN"), None)
    where = None if test is None or len(readers) != 2 else _next(uses, test, "Where")
    if test is None or where is None or where not in readers or where.inputs[0] is not test.outputs[0]:
        return None
    return where if scalar(where.inputs[1]) == 0 and where.inputs[2] is p else None


def _without_nan(uses: Uses, masks: list[_Mask]) -> tuple[bool, Value | None]:
    """Whether a mask can do what _zeros_for_nan does, and that mask: one of finite numbers leads to no NaN, and a bool
    one to zeros, if it stands for 0 where it is true and -infinity elsewhere.
    """
    if len(masks) != 1:
        return not masks, None
    value, numbers = masks[0].value, masks[0].sides
    where = is_op(value, "Where") if numbers is None else None
    if value.array is not None and numbers is None:
        if np.isfinite(value.array).all():
            return True, value
        return bool(np.isin(value.array, (0, -np.inf)).all()), uses.graph.constant(value.array == 0)
    if where is not None and where.inputs[0] is not None:
        sides = scalar(where.inputs[1]), scalar(where.inputs[2])
        numbers = None if sides[0] is None or sides[1] is None else (sides[0], sides[1])
        value = where.inputs[0]
    if numbers is None or not _is_mask(value, "bool"):
        return False, None
    if np.isfinite(numbers).all():
        return True, _mask(uses, masks)
    if numbers not in ((0, -math.inf), (-math.inf, 0)):
        return False, None
    return True, value if numbers[0] == 0 else uses.graph.node("Not", [value])


def _leads_to_product(value: Value, known: _Known) -> bool:
    if value not in known:
        known[value] = _finds_product(value, known)
    return known[value]


def _finds_product(value: Value, known: _Known) -> bool:
    node = is_op(value, "MatMul", "Mul", "Div", "Add", "Where")
    if node is None or node.op == "MatMul":
        return node is not None
    if node.op in ("Mul", "Div"):
        step = _factor(node)
        return step is not None and is_op(step[0], "MatMul") is not None
    if node.op == "Add":
        return _added(node, known) is not None
    found = _filled(node)
    return found is not None and _leads_to_product(found[0], known)


def _factor(node: Node) -> tuple[Value, float] | None:
    """``value`` and ``c`` of ``value * c`` or ``value / c``."""
    a, b = node.inputs
    number = scalar(b)
    if number is not None and a is not None and number != 0:
        return a, 1 / number if node.op == "Div" else number
    number = scalar(a)
    if node.op == "Mul" and number is not None and b is not None:
        return b, number
    return None


def _heads(value: Value | None, perm: list[int]) -> _Heads | None:
    """(B, S, H * D) behind a value with the order of dimensions ``perm`` of (B, S, H, D)."""
    factor = 1.0
    order = perm
    for _ in range(6):
        node = is_op(value, "Transpose", "Mul", "Div", "Reshape")
        if node is None:
            return None
        if node.op in ("Mul", "Div"):
            step = _factor(node)
            if step is None:
                return None
            value, factor = step[0], factor * step[1]
        elif node.op == "Transpose":
            moved = node.attributes.get("perm")
            if not isinstance(moved, list) or sorted(moved) != [0, 1, 2, 3]:
                return None
            inner = [0, 0, 0, 0]  # order[i] is dimension moved[i] of what comes in
            for i, axis in enumerate(moved):
                inner[int(axis)] = order[i]
            order, value = inner, node.input(0)
        else:
            return _split_heads(node, factor) if order == [0, 1, 2, 3] else None
    return None


def _split_heads(node: Node, factor: float) -> _Heads | None:
    x, output = node.input(0), node.outputs[0]
    if x is None or output is None or x.shape is None or output.shape is None:
        return None
    if len(x.shape) != 3 or len(output.shape) != 4 or None in output.shape[:2] or output.shape[:2] != x.shape[:2]:
        return None
    heads, size = output.shape[2:]
    if not isinstance(heads, int) or not isinstance(size, int) or x.shape[2] != heads * size or heads * size == 0:
        return None
    return _Heads(x, heads, size, factor)


def _next(uses: Uses, node: Node, op: str) -> Node | None:
    reader = uses.only_reader(node.outputs[0])
    return reader if reader is not None and reader.op == op else None


def _shape(heads: _Heads) -> tuple[int | str | None, ...]:
    return heads.value.shape or ()
