"""Multi-head attention as torch and transformers export it becomes one dynq.Attention.

q, k and v (B, S, H * D), or (S, B, H * D), are reshaped and transposed to (B, H, S, D), or to (B * H, S, D); then come
q k^T, a scale (on the scores or on q and k before), masks that are added or fill in a very low number, Softmax, the
product with v, and the way back. With a bool mask torch makes zeros of the NaN that Softmax gives where no key is left.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping

import numpy as np

from ..ir import Attributes, Dim, Graph, Node, Value
from ._axes import Axes, before, behind
from ._rewrite import Uses, close, constant_of, is_op, other_input, scalar

__all__ = ["find_attention"]


_ROWS: list[Axes] = [[["b"], ["s"], ["h", "d"]], [["s"], ["b"], ["h", "d"]]]
_FLAT: list[Axes] = [[["b", "s"], ["h", "d"]], [["s", "b"], ["h", "d"]]]
_DEEPEST = 8  # nodes between heads and what they are cut from
_LOWEST = -1e30  # and below: such a number swallows any score
_Known = dict[Value, bool]  # whether a value leads to the product: both inputs of an Add are asked


@dataclasses.dataclass(frozen=True)
class _Heads:
    """A value (B, S, H * D) that is split into heads, or (S, B, H * D), and the factor on it."""

    value: Value
    swapped: bool
    heads: int
    size: int
    factor: float

    @property
    def batch(self) -> Dim:
        return (self.value.shape or ())[1 if self.swapped else 0]

    @property
    def length(self) -> Dim:
        return (self.value.shape or ())[0 if self.swapped else 1]


def find_attention(graph: Graph) -> None:
    uses = Uses(graph)
    for softmax in [node for node in graph.nodes if node.op == "Softmax"]:
        _rewrite(uses, softmax)
    graph.sort()


def _rewrite(uses: Uses, softmax: Node) -> None:
    x = softmax.input(0)
    if x is None or x.shape is None or len(x.shape) not in (3, 4):
        return
    rank = len(x.shape)
    if softmax.attributes.get("axis", -1) not in (-1, rank - 1):
        return
    scores = _scores(uses, x)
    guard = _zeros_for_nan(uses, softmax)
    weights = softmax if guard is None else guard
    product = _next(uses, weights, "MatMul")
    back = None if product is None else _next(uses, product, "Transpose")
    end = None if back is None else _next(uses, back, "Reshape")
    if scores is None or product is None or back is None or end is None or end.outputs[0] is None:
        return
    if product.inputs[0] is not weights.outputs[0]:
        return
    outer: Axes = [["b"], ["h"]] if rank == 4 else [["b", "h"]]
    q, k, v = (
        _heads(scores.product.inputs[0], [*outer, ["s"], ["d"]]),
        _heads(scores.product.inputs[1], [*outer, ["d"], ["s"]]),
        _heads(product.inputs[1], [*outer, ["s"], ["d"]]),
    )
    if q is None or k is None or v is None or v.factor != 1 or not q.heads == k.heads == v.heads or q.size != k.size:
        return
    if not q.batch == k.batch == v.batch or k.length != v.length or None in (q.batch, q.length, k.length):
        return
    if rank == 3 and any(len(mask.value.shape or ()) > 2 for mask in scores.masks):
        return  # for each batch and head at once
    sizes: dict[str, Dim] = {"b": q.batch, "h": q.heads, "s": q.length, "d": v.size}
    axes = behind(back, [*outer, ["s"], ["d"]], sizes)
    axes = None if axes is None else behind(end, axes, sizes)
    form = None if axes is None else _form(axes, sizes, _ROWS + _FLAT)
    if form is None:
        return
    target = constant_of(end.input(1))
    if form in _FLAT and (target is None or 0 in target):
        return
    known, mask = (True, _mask(uses, scores.masks)) if guard is None else _without_nan(uses, scores.masks)
    if not known:
        return
    attributes: Attributes = {"heads": q.heads}
    factor = scores.factor * q.factor * k.factor
    if not close(factor, 1 / math.sqrt(q.size)):
        attributes["scale"] = factor
    inputs: list[Value | None] = [_in_order(uses, part) for part in (q, k, v)]
    if form == _ROWS[0]:
        uses.set_inputs(end, [*inputs, mask])
        end.op, end.attributes = "dynq.Attention", attributes
        return
    y = _node(uses, "dynq.Attention", [*inputs, mask], uses.graph.unique_node(f"{product.name}.attention"), attributes)
    y.dtype, y.shape = "float32", (q.batch, q.length, q.heads * v.size)
    if form[0][0] == "s":
        y = _swapped(uses, y)
    if form in _FLAT:
        uses.set_inputs(end, [y, end.inputs[1]])
    else:
        uses.replace(end.outputs[0], y)
        uses.remove(end)


def _in_order(uses: Uses, part: _Heads) -> Value:
    """(B, S, H * D)."""
    return _swapped(uses, part.value) if part.swapped else part.value


def _swapped(uses: Uses, value: Value) -> Value:
    """The first two of three dimensions exchanged."""
    return _node(uses, "Transpose", [value], uses.graph.unique_node("transpose"), {"perm": [1, 0, 2]})


def _node(uses: Uses, op: str, inputs: list[Value | None], name: str, attributes: Attributes) -> Value:
    """A node that ``uses`` knows."""
    result: Value = uses.graph.node(op, inputs, 1, name, **attributes)
    uses.readers.setdefault(result, [])
    for value in inputs:
        if value is not None and result.producer is not None:
            uses.readers.setdefault(value, []).append(result.producer)
    return result


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


def _heads(value: Value | None, axes: Axes) -> _Heads | None:
    """(B, S, H * D) or (S, B, H * D) behind a value with these axes."""
    if value is None or value.shape is None or len(value.shape) != len(axes):
        return None
    sizes: dict[str, Dim] = {axis[0]: dim for axis, dim in zip(axes, value.shape, strict=True)}
    if ["b", "h"] in axes:
        both, heads = sizes["b"], _count(value, sizes["d"])
        known = isinstance(both, int) and isinstance(heads, int) and heads > 0
        sizes["b"], sizes["h"] = both // heads if known else None, heads  # type: ignore[operator]
    heads, size = sizes["h"], sizes["d"]
    if not isinstance(heads, int) or not isinstance(size, int) or heads * size == 0:
        return None
    factor = 1.0
    for _ in range(_DEEPEST):
        form = _form(axes, sizes, _ROWS)
        if form is not None:
            return _Heads(value, form == _ROWS[1], heads, size, factor)
        scaled = is_op(value, "Mul", "Div")
        step = _factor(scaled) if scaled is not None else before(value, axes, sizes)
        if step is None:
            return None
        if isinstance(step[1], list):
            value, axes = step[0], step[1]
        else:
            value, factor = step[0], factor * step[1]
    return None


def _form(axes: Axes, sizes: Mapping[str, Dim], forms: list[Axes]) -> Axes | None:
    """Which of the forms the axes have, but for parts of size 1, which may be anywhere."""

    def wide(axes: Axes) -> Axes:
        return [[part for part in axis if sizes.get(part) != 1] for axis in axes]

    return next((form for form in forms if wide(form) == wide(axes)), None)


def _count(value: Value, size: Dim) -> Dim:
    """The heads that are one axis with the batch: the last axis before the Reshape is theirs."""
    for _ in range(_DEEPEST):
        node = is_op(value, "Transpose", "Mul", "Div", "Reshape")
        x = None if node is None else (_factor(node) or (None,))[0] if node.op in ("Mul", "Div") else node.input(0)
        if node is None or x is None or x.shape is None:
            return None
        width = x.shape[-1] if node.op == "Reshape" and x.shape else None
        if isinstance(width, int) and isinstance(size, int) and size and width % size == 0:
            return width // size
        value = x
    return None


def _next(uses: Uses, node: Node, op: str) -> Node | None:
    reader = uses.only_reader(node.outputs[0])
    return reader if reader is not None and reader.op == op else None
