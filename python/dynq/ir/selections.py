"""Shapes of what takes elements of tensors by number or by value, and of nodes that run graphs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .elements import elements
from .values import Node, Shape, axis_of

__all__ = ["RULES", "agreed"]

_Result = list[tuple[str | None, "Shape | None"]]


def _gather(node: Node) -> _Result:
    x, indices = node.need("data"), node.need("indices")
    if x.shape is None or indices.shape is None:
        return [(x.dtype, None)]
    axis = axis_of(node.attributes.get("axis", 0), len(x.shape))
    return [(x.dtype, (*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :]))]


def _roi_align(node: Node) -> _Result:
    x, rois = node.need("X"), node.need("rois")
    if x.shape is None or rois.shape is None:
        return [("float32", None)]
    attributes: dict[str, Any] = node.attributes
    sizes = (attributes.get("output_height", 1), attributes.get("output_width", 1))
    return [("float32", (rois.shape[0], x.shape[1], *sizes))]


def _gather_elements(node: Node) -> _Result:
    return [(node.need("data").dtype, node.need("indices").shape)]


def _gather_nd(node: Node) -> _Result:
    x, indices = node.need("data"), node.need("indices").shape
    if x.shape is None or indices is None or not isinstance(indices[-1], int):
        return [(x.dtype, None)]
    batch: Any = node.attributes.get("batch_dims", 0)
    return [(x.dtype, (*indices[:-1], *x.shape[batch + indices[-1] :]))]


def _one_hot(node: Node) -> _Result:
    indices, depth, dtype = node.need("indices").shape, elements(node.need("depth")), node.need("values").dtype
    if indices is None:
        return [(dtype, None)]
    at = axis_of(node.attributes.get("axis", -1), len(indices) + 1)
    return [(dtype, (*indices[:at], depth[0] if depth else None, *indices[at:]))]


def _top_k(node: Node) -> _Result:
    x, k = node.need("X"), elements(node.need("K"))
    shape: Shape | None = None
    if x.shape is not None:
        at = axis_of(node.attributes.get("axis", -1), len(x.shape))
        shape = (*x.shape[:at], k[0] if k else None, *x.shape[at + 1 :])
    return [(x.dtype, shape), ("int64", shape)]


def _nonzero(node: Node) -> _Result:
    x = node.need("X")
    return [("int64", (None if x.shape is None else len(x.shape), None))]


def _compress(node: Node) -> _Result:
    x, axis = node.first, node.attributes.get("axis")
    assert x is not None
    if axis is None:
        return [(x.dtype, (None,))]
    at = None if x.shape is None else axis_of(axis, len(x.shape))
    return [(x.dtype, None if x.shape is None else tuple(None if i == at else d for i, d in enumerate(x.shape)))]


def _unique(node: Node) -> _Result:
    return [*(_compress(node) or []), *[("int64", (None,))] * 3]


def _non_max_suppression(node: Node) -> _Result:
    return [("int64", (None, 3))]


def _if(node: Node) -> _Result:
    branches = ([value for _, value in body.outputs] for body in node.bodies.values())
    return [(a.dtype or b.dtype, agreed(a.shape, b.shape)) for a, b in zip(*branches, strict=False)]


def _loop(node: Node) -> _Result:
    carried, (body,) = int(node.attributes["carried"]), node.bodies.values()  # type: ignore[arg-type]
    outputs = [value for _, value in body.outputs[1:]]
    result: _Result = []
    for first, value in zip(node.inputs[2:], outputs[:carried], strict=False):
        assert first is not None
        result.append((first.dtype or value.dtype, agreed(first.shape, value.shape)))
    return result + [(v.dtype, None if v.shape is None else (None, *v.shape)) for v in outputs[carried:]]


def agreed(a: Shape | None, b: Shape | None) -> Shape | None:
    """Return what two shapes have in common, of which a run has one."""
    if a is None or b is None or len(a) != len(b):
        return None
    return tuple(one if one == other else None for one, other in zip(a, b, strict=True))


RULES: dict[str, Callable[[Node], _Result | None]] = {
    "Gather": _gather,
    "RoiAlign": _roi_align,
    "GatherElements": _gather_elements,
    "GatherND": _gather_nd,
    "OneHot": _one_hot,
    "TopK": _top_k,
    "NonZero": _nonzero,
    "Compress": _compress,
    "Unique": _unique,
    "NonMaxSuppression": _non_max_suppression,
    "dynq.If": _if,
    "dynq.Loop": _loop,
}
