"""Follow the axes of a value back to where they come from.

Transpose and views, such as Reshape and Squeeze, move whole parts of axes. A value's axes are lists of parts, each by a
name: (B * H, T, D) is [[b, h], [t], [d]].
"""

from __future__ import annotations

import functools
import re
from collections import Counter
from collections.abc import Mapping, Sequence

from ..ir import ops
from ..ir.values import Dim, Node, Shape, Value
from .rewrite import is_op

__all__ = ["Axes", "Sizes", "before", "behind", "regroup"]

Axes = list[list[str]]
Sizes = Mapping[str, Dim]  # of the parts; None: not known
_Product = tuple[int, Counter[str]]


def before(value: Value, axes: Axes, sizes: Sizes) -> tuple[Value, Axes] | None:
    """Return the value that a node reshapes or transposes to ``value``, and its axes; None if it is no such node, or
    not known.
    """
    node = is_op(value, "Transpose", *_views())
    x = None if node is None else node.first
    if node is None or x is None:
        return None
    if node.op == "Transpose":
        perm = _order(node, len(axes))
        return None if perm is None else (x, [axes[perm.index(i)] for i in range(len(axes))])
    found = None if x.shape is None else regroup([part for axis in axes for part in axis], x.shape, sizes)
    return None if found is None else (x, found)


def behind(node: Node, axes: Axes, sizes: Sizes) -> Axes | None:
    """Return the axes of the output of a Transpose or a Reshape."""
    if node.op == "Transpose":
        perm = _order(node, len(axes))
        return None if perm is None else [axes[i] for i in perm]
    shape = None if node.outputs[0] is None else node.outputs[0].shape
    return None if shape is None else regroup([part for axis in axes for part in axis], shape, sizes)


@functools.cache
def _views() -> tuple[str, ...]:
    return tuple(name for name, op in ops.table().items() if op.is_view)


def _order(node: Node, rank: int) -> list[int] | None:
    perm = node.attributes.get("perm", list(range(rank))[::-1])
    return [int(i) for i in perm] if isinstance(perm, list) and sorted(perm) == list(range(rank)) else None


def regroup(parts: Sequence[str], shape: Shape, sizes: Sizes) -> Axes | None:
    """Group parts, in their order, into the axes of a shape with as many elements. One axis may have an unknown
    size.
    """
    count = len(parts)
    left: Axes = []
    at = 0
    for dim in shape:
        taken = _take(parts[at:], dim, sizes)
        if taken is None:
            break
        left.append(list(parts[at : at + taken]))
        at += taken
    right: Axes = []
    for dim in shape[len(left) :][::-1]:
        taken = _take(parts[at:count][::-1], dim, sizes)
        if taken is None:
            break
        right.insert(0, list(parts[count - taken : count]))
        count -= taken
    rest = list(parts[at:count])
    missing = len(shape) - len(left) - len(right)
    if missing == 1:
        return [*left, rest, *right]
    if missing or not shape or any(sizes.get(part) != 1 for part in rest):
        return None
    groups = left + right
    groups[-1] += rest
    return groups


def _take(parts: Sequence[str], dim: Dim, sizes: Sizes) -> int | None:
    """Return how many parts make up a size; None if none do, or if it is not known."""
    wanted = _product(dim)
    if wanted is None or wanted[0] == 0:
        return None
    number, names = 1, Counter[str]()
    for i in range(len(parts) + 1):
        if (number, names) == wanted:
            return i
        size = _product(sizes.get(parts[i])) if i < len(parts) else None
        if size is None:
            return None
        number, names = number * size[0], names + size[1]
    return None


def _product(dim: Dim) -> _Product | None:
    """Return a size as a number times names. The name of a product has a * between its factors."""
    if dim is None or isinstance(dim, int):
        return None if dim is None else (dim, Counter())
    factors = [factor.strip() for factor in dim.split("*")]
    if not all(re.fullmatch(r"\w+", factor) for factor in factors):
        return 1, Counter([dim])
    number = 1
    for factor in factors:
        number *= int(factor) if factor.isdecimal() else 1
    return number, Counter(factor for factor in factors if not factor.isdecimal())
