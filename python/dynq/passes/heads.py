"""Find what q, k and v of attention are cut from, and their forms: rows of all heads, or heads of rows."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..ir.given import Attributes
from ..ir.values import Dim, Value
from .axes import Axes, before
from .rewrite import Uses, is_op
from .scores import factor_of

__all__ = ["FLAT", "ROWS", "Rows", "form_of", "heads_of", "new_node", "reshaped", "rows_of", "transposed"]

ROWS: list[Axes] = [[["b"], ["s"], ["h", "d"]], [["s"], ["b"], ["h", "d"]]]
FLAT: list[Axes] = [[["b", "s"], ["h", "d"]], [["s", "b"], ["h", "d"]]]
_DEEPEST = 8  # nodes between heads and what they are cut from


@dataclasses.dataclass(frozen=True)
class Rows:
    """A value (B, S, H * D) or (S, B, H * D) that is split into heads, and a factor on it."""

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


def new_node(uses: Uses, op: str, inputs: Sequence[Any], name: str, shape: Any = None, **attributes: Any) -> Value:
    """Add a node that ``uses`` knows, and return its output."""
    given: Attributes = attributes
    result: Value = uses.graph.node(op, inputs, 1, uses.graph.unique_node(name), bodies=None, **given)
    uses.readers.setdefault(result, [])
    node = result.producer
    assert node is not None
    for value in node.inputs:
        if value is not None:
            uses.readers.setdefault(value, []).append(node)
    if shape is not None:
        result.shape = tuple(shape)
    return result


def rows_of(value: Value, axes: Axes, sizes: Mapping[str, Dim]) -> Rows | None:
    """Return the (B, S, H * D) or (S, B, H * D) from which a value with these axes is made."""
    heads, size = sizes["h"], sizes["d"]
    if not isinstance(heads, int) or not isinstance(size, int) or heads * size == 0:
        return None
    factor = 1.0
    for _ in range(_DEEPEST):
        form = form_of(axes, sizes, ROWS)
        if form is not None:
            return Rows(value, form == ROWS[1], heads, size, factor)
        scaled = is_op(value, "Mul", "Div")
        step = factor_of(scaled) if scaled is not None else before(value, axes, sizes)
        if step is None:
            return None
        if isinstance(step[1], list):
            value, axes = step[0], step[1]
        else:
            value, factor = step[0], factor * step[1]
    return None


def form_of(axes: Axes, sizes: Mapping[str, Dim], forms: list[Axes]) -> Axes | None:
    """Return the form that the axes have. Parts of size 1 may be anywhere."""

    def wide(axes: Axes) -> Axes:
        return [[part for part in axis if sizes.get(part) != 1] for axis in axes]

    return next((form for form in forms if wide(form) == wide(axes)), None)


def heads_of(value: Value, size: Dim) -> int | None:
    """Return the number of heads that share an axis with the batch: the last axis before the Reshape is theirs."""
    for _ in range(_DEEPEST):
        node = is_op(value, "Transpose", "Mul", "Div", "Reshape")
        x = (
            None
            if node is None
            else (factor_of(node) or (None,))[0]
            if node.op in ("Mul", "Div")
            else node.need("data")
        )
        if node is None or x is None or x.shape is None:
            return None
        width = x.shape[-1] if node.op == "Reshape" and x.shape else None
        if isinstance(width, int) and isinstance(size, int) and size and width % size == 0:
            return width // size
        value = x
    return None


def transposed(uses: Uses, value: Value, perm: list[int]) -> Value:
    """Return a value with its axes in another order; where it is a Transpose already, one takes the place of both."""
    source = is_op(value, "Transpose")
    first = None if source is None else source.attributes.get("perm")
    if source is not None and isinstance(first, list):
        value, perm = source.need("data"), [int(first[i]) for i in perm]
    if perm == list(range(len(perm))):
        return value
    shape = None if value.shape is None else [value.shape[i] for i in perm]
    result = new_node(uses, "Transpose", [value], "transpose", shape, perm=perm)
    result.dtype = value.dtype
    return result


def reshaped(uses: Uses, value: Value, dims: Sequence[Dim]) -> Value | None:
    """Return a value with other sizes, each a number or that of an axis of ``value``; None if they are not known."""
    old = value.shape or ()
    if old == tuple(dims):
        return value
    back = is_op(value, "Reshape")
    if back is not None and back.need("data").shape == tuple(dims) and None not in dims:
        return back.need("data")
    if 0 in dims or value.shape is None:
        return None
    target: list[int] = []
    left = []
    for i, dim in enumerate(dims):
        if isinstance(dim, int):
            target.append(dim)
        elif dim is not None and i < len(old) and old[i] == dim:
            target.append(0)
        else:
            left.append(i)
            target.append(-1)
    if len(left) > 1:
        return _by_sizes(uses, value, dims)
    result = new_node(uses, "Reshape", [value, np.array(target, np.int64)], "reshape", dims)
    result.dtype = value.dtype
    return result


def _by_sizes(uses: Uses, value: Value, dims: Sequence[Dim]) -> Value | None:
    """Reshape with sizes that a run reads from the value. One of them may be left."""
    old = value.shape or ()
    shape = new_node(uses, "Shape", [value], "shape")
    parts: list[Any] = []
    free = False
    for dim in dims:
        if isinstance(dim, int):
            parts.append(np.array([dim], np.int64))
        elif dim is not None and dim in old:
            parts.append(new_node(uses, "Gather", [shape, np.array([old.index(dim)], np.int64)], "size"))
        elif free:
            return None
        else:
            free = True
            parts.append(np.array([-1], np.int64))
    target = new_node(uses, "Concat", parts, "sizes", axis=0)
    result = new_node(uses, "Reshape", [value, target], "reshape", dims)
    result.dtype = value.dtype
    return result
