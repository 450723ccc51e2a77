"""Read weights that a file keeps as integers, and that its nodes scale, turn or reshape before a layer reads them."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np

from ..core.arguments import FLOAT32, Array
from ..ir.deferred import QuantizedRows
from ..ir.values import Node, Value
from ..weights import QuantizedWeight
from .rewrite import constant_of

__all__ = ["Integers", "integers_of"]

_DEEPEST = 16  # nodes between the integers and their layer
_VIEWS = ("Reshape", "Squeeze", "Unsqueeze", "Flatten")


@dataclasses.dataclass(frozen=True)
class Integers:
    """A matrix ``(q - zero) * scale``. ``scale`` and ``zero`` have its rank and broadcast to it."""

    q: Array
    scale: Array
    zero: Array | None

    def transposed(self, perm: list[int]) -> Integers:
        zero = None if self.zero is None else self.zero.transpose(perm)
        return Integers(self.q.transpose(perm), self.scale.transpose(perm), zero)

    def times(self, factor: Array) -> Integers:
        return Integers(self.q, (self.scale * factor).astype(FLOAT32), self.zero)

    def floats(self) -> Array:
        q = self.q.astype(FLOAT32)
        result: Array = (q if self.zero is None else q - self.zero) * self.scale
        return result

    def weight(self) -> QuantizedRows | QuantizedWeight | None:
        """Return the weight (N, K) with these integers; None if no weight has such scales."""
        n = self.q.shape[0]
        zero = None if self.zero is None or not self.zero.any() else self.zero
        parts = [self.scale] if zero is None else [self.scale, zero]
        right = all(part.shape[1] == 1 and part.shape[0] in (1, n) for part in parts)
        if not right or not np.isfinite(self.scale).all() or not (self.scale > 0).all():
            return None
        scale = np.ascontiguousarray(np.broadcast_to(self.scale[:, 0], (n,)))
        if zero is None and self.q.dtype == np.int8:
            return QuantizedRows(self.q, scale)
        zeros = np.zeros(n, np.int32) if zero is None else np.broadcast_to(zero[:, 0], (n,)).astype(np.int32)
        return QuantizedWeight.from_integers(self.q, scale, zeros)


def integers_of(value: Value | None) -> Integers | None:
    """Return the integers from which ``value`` is computed, of which all is constant; None if it is not so."""
    nodes: list[Node] = []
    for _ in range(_DEEPEST):
        node = None if value is None else value.producer
        if node is None or value is None:
            return None
        nodes.insert(0, node)
        if node.op in ("Cast", "DequantizeLinear"):
            q = constant_of(node.first)
            if q is not None and q.dtype.name in ("int8", "uint8"):
                break
            if node.op == "DequantizeLinear" or value.dtype != "float32":
                return None
        value = next((x for x in node.inputs if x is not None and x.array is None), None)
    else:
        return None
    try:
        result = _first(nodes[0])
        for node in nodes[1:]:
            result = None if result is None else _next(result, node)
    except (LookupError, TypeError, ValueError):
        return None  # the runtime says what is wrong with a node
    return result


def _first(node: Node) -> Integers | None:
    q = constant_of(node.first)
    output = node.outputs[0]
    if q is None or output is None or output.dtype != "float32":
        return None
    ones = [1] * q.ndim
    if node.op == "Cast":
        return Integers(q, np.ones(ones, FLOAT32), None)
    scale, zero = node.array("x_scale"), node.array("x_zero_point")
    if scale is None or (node.input("x_zero_point") is not None and zero is None) or node.attributes.get("block_size"):
        return None
    axis: Any = node.attributes.get("axis", 1)
    if scale.size > 1:
        if scale.ndim != 1 or q.shape[axis] != scale.size:
            return None
        ones[axis] = scale.size
    zero = None if zero is None else np.broadcast_to(zero.reshape(-1), (scale.size,)).reshape(ones).astype(np.int32)
    return Integers(q, scale.reshape(ones), zero)


def _next(x: Integers, node: Node) -> Integers | None:
    """Return what a node makes of integers; None if they are none any more."""
    if node.op == "Cast":
        return x
    if node.op == "Transpose":
        perm: Any = node.attributes.get("perm", list(range(x.q.ndim))[::-1])
        return x.transposed([int(i) for i in perm])
    if node.op in _VIEWS:
        shape = None if node.outputs[0] is None else node.outputs[0].shape
        return None if shape is None else _reshaped(x, shape)
    arrays = [constant_of(value) for value in node.inputs]
    number = next((array for array in arrays if array is not None), None)
    if number is None or len(arrays) != 2 or number.dtype != FLOAT32 or number.ndim > x.q.ndim:
        return None
    number = number.reshape([1] * (x.q.ndim - number.ndim) + list(number.shape))
    if any(a not in (1, b) for a, b in zip(number.shape, x.q.shape, strict=True)):
        return None
    if node.op == "Mul" or (node.op == "Div" and arrays[0] is None):
        return x.times(number if node.op == "Mul" else 1 / number)
    if node.op in ("Sub", "Add") and (arrays[0] is None or node.op == "Add") and (x.scale == 1).all():
        zero = number if node.op == "Sub" else -number
        limits = np.iinfo(x.q.dtype)
        whole = np.array_equal(zero, np.rint(zero)) and limits.min <= zero.min() and zero.max() <= limits.max
        return Integers(x.q, x.scale, zero.astype(np.int32)) if whole and x.zero is None else None
    return None


def _reshaped(x: Integers, shape: tuple[Any, ...]) -> Integers | None:
    """Reshape integers with their scales, whose one axis has to stay one."""
    if not all(isinstance(dim, int) for dim in shape) or math.prod(shape) != x.q.size:
        return None

    def of(part: Array) -> Array | None:
        wide = [i for i, size in enumerate(part.shape) if size != 1]
        if not wide:
            return part.reshape([1] * len(shape))
        if len(wide) > 1:
            return None
        at, size = wide[0], part.shape[wide[0]]
        before = math.prod(x.q.shape[:at])
        for i, dim in enumerate(shape):
            if dim == size and math.prod(shape[:i]) == before:
                return part.reshape([size if j == i else 1 for j in range(len(shape))])
        return None

    scale, zero = of(x.scale), None if x.zero is None else of(x.zero)
    if scale is None or (x.zero is not None and zero is None):
        return None
    return Integers(x.q.reshape(shape), scale, zero)
