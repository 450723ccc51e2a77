"""Make one dynq.Rotary of ``x * cos + half_turned(x) * sin``, as models with rotary embeddings write it.

half_turned(x) is x with its halves swapped, or its neighbours, the first of both negated. The bits stay the same.
"""

from __future__ import annotations

import numpy as np

from ..ir.graph import Graph
from ..ir.values import Node, Value
from .rewrite import Uses, is_op, other_input

__all__ = ["find_rotary"]


def find_rotary(graph: Graph) -> None:
    uses = Uses(graph)
    for node in [node for node in graph.nodes if node.op == "Add"]:
        found = _rotary(node)
        if found is not None:
            x, c, s, interleaved = found
            uses.set_inputs(node, [x, c, s])
            node.op, node.attributes = "dynq.Rotary", {"interleaved": 1} if interleaved else {}


def _rotary(node: Node) -> tuple[Value, Value, Value, bool] | None:
    """Return x, the cosines, the sines, and whether neighbours are pairs."""
    products = [is_op(value, "Mul") for value in node.inputs]
    if len(products) != 2 or None in products:
        return None
    for direct, turned in ((products[0], products[1]), (products[1], products[0])):
        assert direct is not None and turned is not None
        for rotated in turned.inputs:
            source = None if rotated is None else _turned(rotated)
            if source is None or rotated is None:
                continue
            x, interleaved = source
            c, s = other_input(direct, x) if x in direct.inputs else None, other_input(turned, rotated)
            if c is not None and s is not None and _fits(x, c, s):
                return x, c, s, interleaved
    return None


def _fits(x: Value, c: Value, s: Value) -> bool:
    """Return whether cosines and sines have one shape that x is as wide as, and that broadcasts to x."""
    a, b = x.shape, c.shape
    if a is None or b is None or s.shape != b or not 1 <= len(b) <= len(a) or a[-1] != b[-1] or b[-1] is None:
        return False
    pairs = zip(a[len(a) - len(b) :], b, strict=True)
    return x.dtype == "float32" and all(dim is not None and dim in (size, 1) for size, dim in pairs)


def _turned(value: Value) -> tuple[Value, bool] | None:
    """Return x and whether neighbours are pairs, if the value is x with the columns of its pairs swapped so."""
    halves = is_op(value, "Concat")
    if halves is not None and len(halves.inputs) == 2:
        rank = len(value.shape or ())
        negated, first = is_op(halves.inputs[0], "Neg"), _part(halves.inputs[1])
        second = None if negated is None else _part(negated.first)
        if (
            first is None
            or second is None
            or first[0] is not second[0]
            or halves.attributes["axis"] not in (-1, rank - 1)
        ):
            return None
        width = (first[0].shape or (None,))[-1]
        if not isinstance(width, int) or width % 2 or first[1:] != (0, width // 2, 1):
            return None
        return (first[0], False) if second[1:] == (width // 2, width, 1) else None
    return _neighbours(value)


def _neighbours(value: Value) -> tuple[Value, bool] | None:
    """Return x of ``stack((-x[1::2], x[::2]), -1).flatten(-2)``."""
    flat = is_op(value, "Reshape", "Flatten")
    stacked = None if flat is None else is_op(flat.first, "Concat")
    if flat is None or stacked is None or len(stacked.inputs) != 2 or stacked.outputs[0] is None:
        return None
    deep, shape = stacked.outputs[0].shape, value.shape
    if deep is None or shape is None or deep[-1] != 2 or stacked.attributes["axis"] not in (-1, len(deep) - 1):
        return None
    parts = [is_op(item, "Unsqueeze", "Reshape") for item in stacked.inputs]
    if None in parts:
        return None
    values = [part.first for part in parts if part is not None]
    for part, item in zip(parts, values, strict=True):
        output = None if part is None else part.outputs[0]
        if output is None or item is None or item.shape is None or output.shape != (*item.shape, 1):
            return None
    negated, even = is_op(values[0], "Neg"), _part(values[1])
    odd = None if negated is None else _part(negated.first)
    if even is None or odd is None or even[0] is not odd[0] or even[0].shape != shape:
        return None
    width = shape[-1]
    same = even[1:] == (0, width, 2) and odd[1:] == (1, width, 2)
    return (even[0], True) if same and isinstance(width, int) and width % 2 == 0 else None


def _part(value: Value | None) -> tuple[Value, int, int, int] | None:
    """Return what a value is a part of along the last axis, and its first column, its end and its step."""
    node = None if value is None else value.producer
    if node is None or value is None or node.first is None or node.first.shape is None:
        return None
    x, shape = node.first, node.first.shape
    width, last = shape[-1] if shape else None, len(shape) - 1
    if not isinstance(width, int):
        return None
    if node.op == "Split" and node.attributes.get("axis", 0) in (-1, last):
        sizes = [None if output is None else (output.shape or (None,))[-1] for output in node.outputs]
        at = node.outputs.index(value)
        if not all(isinstance(size, int) for size in sizes):
            return None
        ends = np.cumsum([size for size in sizes if isinstance(size, int)]).tolist()
        return x, ends[at] - int(sizes[at] or 0), ends[at], 1
    if node.op != "Slice":
        return None
    numbers = [node.array(name) for name in ("starts", "ends", "axes", "steps")]
    if any(array is None or array.size != 1 for array in numbers[:3]):
        return None
    start, end, axis, step = (1 if array is None else int(array.reshape(-1)[0]) for array in numbers)
    if axis not in (-1, last) or step < 1:
        return None
    begin, stop, _ = slice(start, end, step).indices(width)
    return x, begin, stop, step
