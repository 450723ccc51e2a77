"""Fold constants: compute with NumPy, once, what is known before a run, if NumPy's result is exact.

The runtime does the same when it plans a shape; this is for the passes after it, which look for constants. Only ops
that move data or round each element once (IEEE) are folded. No folded constant has more bytes than the inputs of its
node, unless it is small: an Expand stays a node.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ..core.arguments import Array
from ..ir import ops
from ..ir.elements import elements
from ..ir.given import DTYPES, ONNX_NAMES
from ..ir.graph import Graph
from ..ir.values import Node

__all__ = ["fold_constants"]

_SMALL = 1 << 12  # bytes that a folded constant may always have


def fold_constants(graph: Graph) -> None:
    graph.sort()
    keep: list[Node] = []
    for node in graph.nodes:
        result = _fold(node)
        if result is None:
            keep.append(node)
            continue
        for value, array in zip(node.outputs, result, strict=False):
            if value is not None:
                value.constant, value.producer = array, None
                value.dtype, value.shape = array.dtype.name, array.shape
    graph.nodes = keep


def _fold(node: Node) -> list[Array] | None:
    known = _known_integers(node)
    if known is not None:
        return known
    function = _FUNCTIONS.get(node.op)
    if function is None or not node.inputs:
        return None
    arrays = []
    for value in node.inputs:
        if value is not None and value.array is None:
            return None
        arrays.append(None if value is None else value.array)
    if not _fits(node):
        return None
    try:
        with np.errstate(all="ignore"):
            result = function(node.attributes, *arrays)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
        return None  # the runtime says what is wrong with the node
    results = [np.asarray(array) for array in (result if isinstance(result, list) else [result])]
    total = sum(array.nbytes for array in arrays if array is not None)
    if any(array.dtype.name not in DTYPES or array.nbytes > max(total, _SMALL) for array in results):
        return None
    return results


def _known_integers(node: Node) -> list[Array] | None:
    """Return the sizes that the shapes of the graph give: for Shape, and for arithmetic on it."""
    output = node.outputs[0] if len(node.outputs) == 1 else None
    if output is None or output.dtype != "int64":
        return None
    numbers = elements(output)
    if numbers is None or not all(isinstance(number, int) for number in numbers):
        return None
    if output.shape is None or len(output.shape) > 1 or any(not isinstance(dim, int) for dim in output.shape):
        return None
    return [np.array(numbers, np.int64).reshape([dim for dim in output.shape if isinstance(dim, int)])]


def _fits(node: Node) -> bool:
    """Return whether the result is small, before it is made. This is for the ops that can make much of little."""
    known = [value.array for value in node.inputs if value is not None and value.array is not None]
    if ops.find(node.op).shape_rule in ("BROADCAST", "COMPARE", "CHOOSE"):
        try:
            count = math.prod(np.broadcast_shapes(*(array.shape for array in known)))
        except ValueError:
            return False
        return count <= max(sum(array.nbytes for array in known), _SMALL)
    if node.op == "Gather" and len(known) == 2:
        axis = node.attributes.get("axis", 0)
        if not isinstance(axis, int) or not -known[0].ndim <= axis < known[0].ndim:
            return False
        count = known[0].size // max(int(known[0].shape[axis]), 1) * known[1].size
        return bool(count * known[0].itemsize <= max(known[0].nbytes + known[1].nbytes, _SMALL))
    name = {"Expand": "shape", "ConstantOfShape": "input", "Tile": "repeats"}.get(node.op)
    if name is None:
        return True
    sizes = node.array(name)
    count = 1
    for size in [] if sizes is None else sizes.reshape(-1).tolist():
        count *= size
    return 0 <= count <= _SMALL // 8


def _ints(array: Array | None, default: list[int]) -> list[int]:
    return default if array is None else [int(i) for i in array.reshape(-1)]


def _reshape(attributes: Any, x: Array, shape: Array) -> Array:
    dims = _ints(shape, [])
    if not attributes.get("allowzero"):
        dims = [x.shape[i] if dim == 0 else dim for i, dim in enumerate(dims)]
    return x.reshape(dims)


def _slice(
    attributes: Any, x: Array, starts: Array, ends: Array, axes: Array | None = None, steps: Array | None = None
) -> Array:
    index = [slice(None)] * x.ndim
    first, last = _ints(starts, []), _ints(ends, [])
    for start, end, axis, step in zip(
        first, last, _ints(axes, list(range(len(first)))), _ints(steps, [1] * len(first)), strict=True
    ):
        if step < 0 and end < -x.shape[axis]:
            index[axis] = slice(start, None, step)
        else:
            index[axis] = slice(start, end, step)
    return x[tuple(index)]


def _gather(attributes: Any, x: Array, indices: Array) -> Array:
    result: Array = np.take(x, indices, axis=attributes.get("axis", 0))
    return result


def _unsqueeze(attributes: Any, x: Array, axes: Array) -> Array:
    rank = x.ndim + axes.size
    at = sorted(axis % rank for axis in _ints(axes, []))
    for axis in at:
        x = np.expand_dims(x, axis)
    return x


def _squeeze(attributes: Any, x: Array, axes: Array | None = None) -> Array:
    return np.squeeze(x, None if axes is None else tuple(_ints(axes, [])))


def _split(attributes: Any, x: Array, sizes: Array) -> list[Array]:
    return np.split(x, np.cumsum(sizes)[:-1].tolist(), axis=attributes.get("axis", 0))


def _cast(attributes: Any, x: Array) -> Array | list[Array]:
    to: np.dtype[Any] = np.dtype(ONNX_NAMES[attributes["to"]])
    if x.dtype.kind == "f" and to.kind in "iu" and not np.all(np.abs(x) < 2.0**31):
        raise ValueError("out of range: what that gives is the runtime's to say")
    return x.astype(to)


def _divide(attributes: Any, a: Array, b: Array) -> Array:
    if a.dtype.kind == "f":
        return np.divide(a, b)
    if not np.all(b):
        raise ValueError("a division by 0: the runtime names the node")
    result: Array = a // b + ((a % b != 0) & ((a < 0) != (b < 0)))  # towards 0, as in C
    return result


def _range(attributes: Any, start: Array, limit: Array, delta: Array) -> Array:
    if start.dtype.kind == "f" or len(range(int(start), int(limit), int(delta))) > _SMALL // 8:
        raise ValueError("not folded")
    return np.arange(int(start), int(limit), int(delta), dtype=start.dtype)


def _power(attributes: Any, x: Array, exponent: Array) -> Array:
    if x.dtype.kind != "f" or x.size * exponent.size > 1:
        raise ValueError("not folded")
    return np.power(x.astype(np.float64), exponent.astype(np.float64)).astype(x.dtype)


def _binary(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda attributes, a, b: function(a, b)


def _unary(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda attributes, x: function(x)


_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "Identity": _unary(lambda x: x),
    "Cast": _cast,
    "Reshape": _reshape,
    "Transpose": lambda attributes, x: np.transpose(x, attributes.get("perm")),
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Flatten": lambda attributes, x: x.reshape(int(np.prod(x.shape[: attributes.get("axis", 1)], dtype=np.int64)), -1),
    "Concat": lambda attributes, *xs: np.concatenate(xs, attributes["axis"]),
    "Slice": _slice,
    "Split": _split,
    "Gather": _gather,
    "Expand": lambda attributes, x, shape: x * np.ones(_ints(shape, []), x.dtype),
    "Range": _range,
    "Where": lambda attributes, condition, a, b: np.where(condition, a, b),
    "Shape": lambda attributes, x: np.array(x.shape[attributes.get("start", 0) : attributes.get("end")], np.int64),
    "Size": lambda attributes, x: np.array(x.size, np.int64),
    "Add": _binary(np.add),
    "Sub": _binary(np.subtract),
    "Mul": _binary(np.multiply),
    "Div": _divide,
    "Pow": _power,  # attention has powers of scales
    "Neg": _unary(np.negative),
    "Abs": _unary(np.abs),
    "Sqrt": _unary(np.sqrt),
    "Reciprocal": _unary(lambda x: np.float32(1) / x),
    "Floor": _unary(np.floor),
    "Ceil": _unary(np.ceil),
    "Equal": _binary(np.equal),
    "Less": _binary(np.less),
    "Greater": _binary(np.greater),
    "And": _binary(np.logical_and),
    "Or": _binary(np.logical_or),
    "Not": _unary(np.logical_not),
}
