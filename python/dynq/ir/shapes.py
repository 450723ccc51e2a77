"""Shapes and dtypes, as far as they are easy to infer while a graph is written.

The runtime infers all of them from the inputs of a run. The ones here serve print() and the passes, and None is always
a right answer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from . import ops, selections, windows
from .dims import product, quotient
from .elements import elements
from .given import ONNX_NAMES
from .recurrent import STATE_PROJECTION
from .values import Dim, Node, Shape, Value, axis_of

__all__ = ["broadcast", "infer", "infer_all"]


class HasNodes(Protocol):
    """A graph, as far as this module needs it: its nodes."""

    nodes: list[Node]


def infer(node: Node) -> None:
    """Set the dtype and the shape of the outputs of ``node``, if a rule knows them."""
    op = ops.table().get(node.op)
    rule = None if op is None else _RULES.get(node.op) or _COMMON.get(op.shape_rule)
    if rule is None or not node.outputs:
        return
    try:
        result = rule(node)
    except (ArithmeticError, AssertionError, AttributeError, LookupError, TypeError, ValueError):
        return  # the runtime says what is wrong with the node
    if result is None:
        return
    for output, (dtype, shape) in zip(node.outputs, result, strict=False):
        if output is not None:
            output.dtype, output.shape = dtype, shape


def infer_all(graph: HasNodes) -> None:
    """Infer again, in the order of the nodes. What no rule knows stays as it was."""
    for node in graph.nodes:
        before = [None if value is None else (value.dtype, value.shape) for value in node.outputs]
        infer(node)
        for value, old in zip(node.outputs, before, strict=True):
            if value is None or old is None:
                continue
            value.dtype = value.dtype or old[0]
            if value.shape is None:
                value.shape = old[1]
            elif old[1] is not None and len(old[1]) == len(value.shape):
                value.shape = tuple(a if a is not None else b for a, b in zip(value.shape, old[1], strict=True))


def broadcast(*shapes: Shape | None) -> Shape | None:
    """Return the shape that all are broadcast to; None if a rank is not known."""
    known = [shape for shape in shapes if shape is not None]
    if len(known) != len(shapes):
        return None
    rank = max((len(shape) for shape in known), default=0)
    result: list[Dim] = []
    for i in range(rank):
        dims = {shape[i - rank + len(shape)] for shape in known if i - rank + len(shape) >= 0} - {1}
        sizes = {dim for dim in dims if isinstance(dim, int)}
        if len(sizes) > 1:
            raise ValueError(f"shapes {known} do not broadcast")
        result.append(sizes.pop() if sizes else 1 if not dims else _common(dims))
    return tuple(result)


def _common(dims: set[Dim]) -> Dim:
    """Return the size that open sizes have when they are broadcast together.

    It is the name that they share. For n with min(n, ...) it is n: the other one is n or 1.
    """
    names = [dim for dim in dims if isinstance(dim, str)]
    if len(names) != len(dims):
        return None
    for name in names:
        if all(other == name or other.startswith(f"min({name}, ") for other in names):
            return name
    return None


_Result = list[tuple[str | None, "Shape | None"]]
_RULES: dict[str, Callable[[Any], _Result | None]] = {}


def _rule(*ops: str) -> Callable[[Callable[[Any], _Result | None]], Callable[[Any], _Result | None]]:
    def register(function: Callable[[Any], _Result | None]) -> Callable[[Any], _Result | None]:
        for op in ops:
            _RULES[op] = function
        return function

    return register


# ---- The rules that the table of ops names ----


def _same(node: Node) -> _Result:
    x = _first(node)
    return [(x.dtype, x.shape)]


def _same_bool(node: Node) -> _Result:
    return [("bool", _first(node).shape)]


def _same_float(node: Node) -> _Result:
    return [("float32", _first(node).shape)]


def _broadcast(node: Node) -> _Result:
    values = _given(node)
    return [(values[0].dtype or values[-1].dtype, broadcast(*(value.shape for value in values)))]


def _compare(node: Node) -> _Result:
    return [("bool", broadcast(node.need("A").shape, node.need("B").shape))]


def _choose(node: Node) -> _Result:
    condition, x, y = node.need("condition"), node.need("X"), node.need("Y")
    return [(x.dtype or y.dtype, broadcast(condition.shape, x.shape, y.shape))]


def _matmul(node: Node) -> _Result:
    a, b, *_ = _given(node)
    shape = None
    if a.shape is not None and b.shape is not None and len(a.shape) > 1 and len(b.shape) > 1:
        batch = broadcast(a.shape[:-2], b.shape[:-2])
        shape = None if batch is None else (*batch, a.shape[-2], b.shape[-1])
    return [(a.dtype, shape)]


def _matmul_int32(node: Node) -> _Result:
    return [("int32", shape) for _, shape in _matmul(node) or []]


def _axes_taken(node: Node) -> set[int] | None:
    """Return the axes that a reduction takes, all if it names none; None if they are not known."""
    x = node.need("data")
    axes = () if node.input("axes") is None else node.array("axes")
    if x.shape is None or axes is None:
        return None
    at = {axis_of(axis, len(x.shape)) for axis in np.reshape(axes, -1)}
    return at if at or node.attributes.get("noop_with_empty_axes", 0) else set(range(len(x.shape)))


def _reduce(node: Node) -> _Result:
    x = node.need("data")
    at = _axes_taken(node)
    if x.shape is None or at is None:
        return [(x.dtype, None)]
    keep = bool(node.attributes.get("keepdims", 1))
    return [(x.dtype, tuple(1 if i in at else dim for i, dim in enumerate(x.shape) if keep or i not in at))]


def _arg_reduce(node: Node) -> _Result:
    x = node.need("data")
    if x.shape is None:
        return [("int64", None)]
    axis, keep = axis_of(node.attributes.get("axis", 0), len(x.shape)), node.attributes.get("keepdims", 1)
    return [("int64", tuple(1 if i == axis else dim for i, dim in enumerate(x.shape) if keep or i != axis))]


_COMMON: dict[str, Callable[[Any], _Result | None]] = {
    "SAME": _same,
    "SAME_BOOL": _same_bool,
    "SAME_FLOAT": _same_float,
    "BROADCAST": _broadcast,
    "COMPARE": _compare,
    "CHOOSE": _choose,
    "REDUCE": _reduce,
    "ARG_REDUCE": _arg_reduce,
    "MATMUL": _matmul,
    "MATMUL_INT32": _matmul_int32,
}

# ---- Ops with a rule of their own ----


_RULES.update(windows.RULES)
_RULES.update(selections.RULES)


@_rule("QuantizeLinear")
def _quantize_linear(node: Node) -> _Result:
    zero_point = node.input("y_zero_point")
    names = {0: "uint8", 2: "uint8", 3: "int8"}  # ONNX's TensorProto.DataType
    dtype = names[int(node.attributes.get("output_dtype", 0))] if zero_point is None else zero_point.dtype  # type: ignore[arg-type]
    return [(dtype, node.need("x").shape)]


@_rule("DynamicQuantizeLinear")
def _dynamic_quantize_linear(node: Node) -> _Result:
    return [("uint8", node.need("x").shape), ("float32", ()), ("uint8", ())]


@_rule("dynq.QuantizeRows")
def _quantize_rows(node: Node) -> _Result:
    shape = node.need("x").shape
    rows = None if shape is None else shape[:-1]
    return [("int8", shape), ("float32", rows), ("int8", rows)]


@_rule("Cast")
def _cast(node: Node) -> _Result:
    return [(ONNX_NAMES[int(node.attributes["to"])], node.need("input").shape)]  # type: ignore[arg-type]


@_rule("dynq.Linear", "dynq.LinearFloat", "dynq.MatMulIntegerPacked")
def _linear(node: Node) -> _Result:
    x, weight = _first(node), node.need("weight")
    assert weight.shape is not None
    n = weight.shape[1 if node.op == "dynq.LinearFloat" else 0]
    dtype = "int32" if node.op == "dynq.MatMulIntegerPacked" else "float32"
    return [(dtype, None if x.shape is None else (*x.shape[:-1], n))]


@_rule("Gemm")
def _gemm(node: Node) -> _Result:
    a, b = node.need("A"), node.need("B")
    assert a.shape is not None and b.shape is not None
    m = a.shape[1 if node.attributes.get("transA") else 0]
    return [(a.dtype, (m, b.shape[0 if node.attributes.get("transB") else 1]))]


@_rule("dynq.Attention")
def _attention(node: Node) -> _Result:
    q, k, v = node.need("q").shape, node.input("k"), node.input("v")
    if q is None:
        return [("float32", None)]
    heads, rows = node.attributes["heads"], q[2] if len(q) == 4 else q[1]
    width: Dim = None
    if v is None:  # q, k and v side by side
        width = q[2] // 3 if isinstance(q[2], int) else None
    elif v.shape is not None and len(v.shape) == 4:
        width = heads * v.shape[3] if isinstance(heads, int) and isinstance(v.shape[3], int) else None
    elif v.shape is not None and k is not None and k.shape is not None:
        width = _values_of_heads(heads, q, k.shape, v.shape[2])
    return [("float32", (q[0], rows, width))]


def _values_of_heads(heads: Any, q: Shape, k: Shape, width: Dim) -> Dim:
    """Return the columns that all heads of q give, if ``width`` is that of the heads of v."""
    if len(q) == 3 and len(k) == 3 and q[2] == k[2]:
        return width  # no head is shared
    size = q[3] if len(q) == 4 else q[2] // heads if isinstance(q[2], int) else None
    shared = k[1] if len(k) == 4 else k[2] // size if isinstance(k[2], int) and isinstance(size, int) and size else None
    return heads // shared * width if isinstance(shared, int) and shared and isinstance(width, int) else None


@_rule("dynq.CachedAttention")
def _cached_attention(node: Node) -> _Result:
    q, values = node.need("q").shape, node.need("values").shape
    if q is None or values is None:
        return [("float32", None)]
    heads, size = node.attributes["heads"], values[2]
    width = heads * size if isinstance(heads, int) and isinstance(size, int) else None
    return [("float32", (q[0], q[2] if len(q) == 4 else q[1], width))]


@_rule("dynq.Positions")
def _positions(node: Node) -> _Result:
    ids = node.need("ids").shape
    return [("int64", None if ids is None else ids[:2])]


@_rule("LSTM", "GRU", "RNN", "dynq.LSTM", "dynq.GRU", "dynq.RNN")
def _recurrent(node: Node) -> _Result:
    x, weight = _first(node).shape, None if node.op.startswith("dynq.") else node.input("R")
    hidden: Any = node.attributes.get("hidden_size")
    if hidden is None and weight is not None and weight.shape is not None:
        hidden = weight.shape[2]
    own = ("projection_forward", "projection_panels") if node.op == "dynq.LSTM" else ()
    if x is None or hidden is None or any(node.input(name) is not None for name in own):
        return [("float32", None)] * 3
    directions = 2 if node.attributes.get("direction") == "bidirectional" else 1
    projection = node.input(STATE_PROJECTION) if node.op == "LSTM" else None
    outer, inner = (x[0], directions) if node.attributes.get("layout") else (directions, x[1])
    of_h, of_c = hidden, hidden
    if projection is not None and projection.shape is not None:
        _, of_h, of_c = projection.shape
    y: Shape = (x[0], x[1], directions, of_h) if node.attributes.get("layout") else (x[0], directions, x[1], of_h)
    return [("float32", y), ("float32", (outer, inner, of_h)), ("float32", (outer, inner, of_c))]


@_rule("dynq.Embedding")
def _embedding(node: Node) -> _Result:
    rows, indices = node.need("rows"), node.need("indices")
    assert rows.shape is not None
    return [("float32", None if indices.shape is None else (*indices.shape, rows.shape[1]))]


@_rule("Transpose")
def _transpose(node: Node) -> _Result:
    x = node.need("data")
    if x.shape is None:
        return [(x.dtype, None)]
    perm: Any = node.attributes.get("perm", list(range(len(x.shape)))[::-1])
    return [(x.dtype, tuple(x.shape[i] for i in perm))]


@_rule("Reshape")
def _reshape(node: Node) -> _Result:
    x, target = node.need("data"), elements(node.need("shape"))
    if target is None:
        return [(x.dtype, None)]
    dims = list(target)
    if not node.attributes.get("allowzero"):
        for i, dim in enumerate(dims):
            if dim == 0:
                dims[i] = None if x.shape is None else x.shape[i]
    if -1 in dims:
        at = dims.index(-1)
        dims[at] = None if x.shape is None else quotient(x.shape, dims[:at] + dims[at + 1 :])
    return [(x.dtype, tuple(dims))]


@_rule("Unsqueeze")
def _unsqueeze(node: Node) -> _Result:
    x, axes = node.need("data"), node.array("axes")
    if x.shape is None or axes is None:
        return [(x.dtype, None)]
    rank = len(x.shape) + axes.size
    dims = list(x.shape)
    for axis in sorted({axis_of(axis, rank) for axis in axes.reshape(-1)}):
        dims.insert(axis, 1)
    return [(x.dtype, tuple(dims) if len(dims) == rank else None)]


@_rule("Squeeze")
def _squeeze(node: Node) -> _Result:
    x = node.need("data")
    if x.shape is None:
        return [(x.dtype, None)]
    if node.input("axes") is None:  # all axes of size 1, and an open size may be 1
        known = all(isinstance(dim, int) for dim in x.shape)
        return [(x.dtype, tuple(dim for dim in x.shape if dim != 1) if known else None)]
    axes = node.array("axes")
    if axes is None:
        return [(x.dtype, None)]
    at = {axis_of(axis, len(x.shape)) for axis in axes.reshape(-1)}
    return [(x.dtype, tuple(dim for i, dim in enumerate(x.shape) if i not in at))]


@_rule("Concat")
def _concat(node: Node) -> _Result:
    values = _given(node)
    shapes = [value.shape for value in values if value.shape is not None]
    if len(shapes) != len(values):
        return [(values[0].dtype, None)]
    axis = axis_of(node.attributes["axis"], len(shapes[0]))
    total: Dim = 0
    for shape in shapes:
        dim = shape[axis]
        total = total + dim if isinstance(total, int) and isinstance(dim, int) else None
    return [(values[0].dtype, (*shapes[0][:axis], total, *shapes[0][axis + 1 :]))]


@_rule("Pad")
def _pad(node: Node) -> _Result:
    x, pads = node.need("data"), node.array("pads")
    if x.shape is None:
        return [(x.dtype, None)]
    rank = len(x.shape)
    axes = np.arange(rank) if node.input("axes") is None else node.array("axes")
    if pads is None or axes is None:
        return [(x.dtype, (None,) * rank)]
    padded = [axis_of(int(axis), rank) for axis in axes.reshape(-1)]
    shape = list(x.shape)
    for i, axis in enumerate(padded):
        more, dim = int(pads[i]) + int(pads[i + len(padded)]), shape[axis]
        shape[axis] = dim + more if isinstance(dim, int) else dim if more == 0 else None
    return [(x.dtype, tuple(shape))]


@_rule("Split")
def _split(node: Node) -> _Result:
    x, sizes = node.need("input"), node.array("split")
    if x.shape is None:
        return [(x.dtype, None) for _ in node.outputs]
    axis, number = axis_of(node.attributes.get("axis", 0), len(x.shape)), node.attributes.get("num_outputs")
    dim = x.shape[axis]
    parts: list[Dim] = [None] * len(node.outputs)
    if sizes is not None:
        parts = [int(size) for size in sizes]
    elif isinstance(number, int) and number > 0 and isinstance(dim, int) and dim % number == 0:
        parts = [dim // number] * number
    return [(x.dtype, (*x.shape[:axis], part, *x.shape[axis + 1 :])) for part in parts]


@_rule("Shape")
def _shape(node: Node) -> _Result:
    output = node.outputs[0]
    sizes = None if output is None else elements(output)
    return [("int64", (None if sizes is None else len(sizes),))]


@_rule("Slice")
def _slice(node: Node) -> _Result:
    x = node.need("data")
    names = ("starts", "ends", "axes", "steps")
    starts, ends, axes, steps = (None if node.input(name) is None else elements(node.need(name)) for name in names)
    if x.shape is None:
        return [(x.dtype, None)]
    if (axes is None and node.input("axes") is not None) or (starts is None and axes is None):
        return [(x.dtype, (None,) * len(x.shape))]
    dims = list(x.shape)
    count = len(axes if starts is None else starts)  # type: ignore[arg-type]
    starts, ends = ((None,) * count if bounds is None else bounds for bounds in (starts, ends))
    for i, (start, end) in enumerate(zip(starts, ends, strict=True)):
        axis = axis_of(i if axes is None else axes[i], len(dims))
        step = 1 if node.input("steps") is None else None if steps is None else steps[i]
        dims[axis] = _cut(dims[axis], start, end, step)
    return [(x.dtype, tuple(dims))]


def _cut(dim: Dim, start: Dim, end: Dim, step: Dim) -> Dim:
    """Return the size of ``[start:end:step]`` of a dimension."""
    if isinstance(dim, int) and isinstance(start, int) and isinstance(end, int) and isinstance(step, int) and step:
        return len(range(dim)[start : None if step < 0 and end < -dim else end : step])
    if isinstance(start, str) and isinstance(dim, str) and (dim == start[1:] or dim.startswith(f"min({start[1:]}, ")):
        start = 0 if start.startswith("-") else start  # as many from the end as there are, at least
    if start != 0 or step != 1:
        return None
    if isinstance(end, int):
        return dim if isinstance(dim, str) and end >= 2**31 - 1 else None
    if isinstance(end, str) and (isinstance(dim, int) or dim == end):
        return end if dim == end else f"min({end}, {dim})"
    return None


@_rule("Expand")
def _expand(node: Node) -> _Result:
    x, target = node.need("input"), elements(node.need("shape"))
    return [(x.dtype, None if target is None else broadcast(x.shape, target))]


@_rule("Det")
def _det(node: Node) -> _Result:
    x = node.need("X")
    return [("float32", None if x.shape is None else x.shape[:-2])]


@_rule("ConstantOfShape")
def _constant_of_shape(node: Node) -> _Result:
    return [(None, elements(node.need("input")))]


@_rule("CastLike")
def _cast_like(node: Node) -> _Result:
    return [(node.need("target_type").dtype, node.need("input").shape)]


@_rule("Size")
def _size(node: Node) -> _Result:
    return [("int64", ())]


@_rule("Range")
def _range(node: Node) -> _Result:
    bounds = [elements(node.need(name)) for name in ("start", "limit", "delta")]
    first, last, step = (bound[0] if bound else None for bound in bounds)
    count: Dim = None
    if isinstance(first, int) and isinstance(last, int) and isinstance(step, int):
        count = len(range(first, last, step))
    elif first == 0 and step == 1 and isinstance(last, str) and not last.startswith("-"):
        count = last  # a size
    return [(node.need("start").dtype, (count,))]


@_rule("Flatten")
def _flatten(node: Node) -> _Result:
    x = node.need("input")
    if x.shape is None:
        return [(x.dtype, (None, None))]
    axis: Any = node.attributes.get("axis", 1)
    at = axis + len(x.shape) if axis < 0 else axis
    return [(x.dtype, (product(x.shape[:at]), product(x.shape[at:])))]


@_rule("Tile")
def _tile(node: Node) -> _Result:
    x, repeats = node.need("input"), elements(node.need("repeats"))
    if x.shape is None or repeats is None:
        return [(x.dtype, None if x.shape is None else (None,) * len(x.shape))]
    pairs = zip(x.shape, repeats, strict=True)
    return [
        (
            x.dtype,
            tuple(a * b if isinstance(a, int) and isinstance(b, int) else a if b == 1 else None for a, b in pairs),
        )
    ]


def _first(node: Node) -> Value:
    """Return the first input of a node, for rules of ops that call it by different names."""
    value = node.first
    assert value is not None
    return value


def _given(node: Node) -> list[Value]:
    """Return the inputs of a node that are not left out."""
    return [value for value in node.inputs if value is not None]
