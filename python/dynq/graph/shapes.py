"""Shapes and dtypes as far as they are easy to tell while a graph is written.

The runtime infers all of them from the inputs of a run; these are for print() and for passes, and None is always a
right answer.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from .elements import elements
from .given import ONNX_NAMES

if TYPE_CHECKING:
    from .ir import Dim, Graph, Node, Shape, Value

__all__ = ["broadcast", "infer", "infer_all"]

_TIMES = " * "  # between the names of sizes in that of their product

_SAME = """
    Abs BatchNormalization Ceil Celu Clip CumSum Elu Erf Exp Floor Gelu GroupNormalization HardSigmoid HardSwish
    Identity InstanceNormalization LayerNormalization LeakyRelu Log LogSoftmax Mish Neg Not PRelu RMSNormalization
    Reciprocal Relu Round ScatterElements ScatterND Selu Sigmoid Sign Sin Cos Softmax Softplus Softsign Sqrt Tanh
    ThresholdedRelu Trilu
"""
_BINARY = "Add Sub Mul Div Pow Mod Min Max Mean Sum"
_COMPARE = "Equal Less LessOrEqual Greater GreaterOrEqual And Or Xor"


def infer(node: Node) -> None:
    """Set the dtype and the shape of the outputs of ``node`` where a rule knows them."""
    rule = _RULES.get(node.op)
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


def infer_all(graph: Graph) -> None:
    """Infer again, in the order of the nodes; what no rule knows stays as it was."""
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
    """The shape that all are broadcast to; None where a rank is not known."""
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
    """What open sizes that are broadcast together are: the same name, or n with min(n, ...), which can only be n."""
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


@_rule(*_SAME.split())
def _same(node: Node) -> _Result:
    x = _in(node, 0)
    return [(x.dtype, x.shape)]


@_rule(*_BINARY.split())
def _binary(node: Node) -> _Result:
    values = [value for value in node.inputs if value is not None]
    return [(values[0].dtype or values[-1].dtype, broadcast(*(value.shape for value in values)))]


@_rule(*_COMPARE.split())
def _compare(node: Node) -> _Result:
    return [("bool", broadcast(_in(node, 0).shape, _in(node, 1).shape))]


@_rule("IsInf", "IsNaN")
def _is(node: Node) -> _Result:
    return [("bool", _in(node, 0).shape)]


@_rule("Where")
def _where(node: Node) -> _Result:
    values = [_in(node, i) for i in range(3)]
    return [(values[1].dtype or values[2].dtype, broadcast(*(value.shape for value in values)))]


@_rule("Conv", "dynq.Conv", "dynq.ConvFloat")
def _conv(node: Node) -> _Result | None:
    x, weight = _in(node, 0).shape, _in(node, 1).shape
    a: Any = node.attributes
    if x is None or weight is None:
        return None
    count = len(x) - 2
    kernel: Any = a.get("kernel_shape") or weight[2:]
    strides, dilations = (a.get(name) or [1] * count for name in ("strides", "dilations"))
    pads, pad = a.get("pads") or [0] * 2 * count, a.get("auto_pad", "NOTSET")
    sizes: list[Dim] = []
    for i, size in enumerate(x[2:]):
        same, reach = pad.startswith("SAME"), (kernel[i] - 1) * dilations[i]
        both = reach if same else 0 if pad == "VALID" else pads[i] + pads[count + i]
        if strides[i] == 1 and both == reach:
            sizes.append(size)
        elif isinstance(size, int):
            sizes.append((size - 1 + both - reach) // strides[i] + 1)
        else:
            sizes.append(None)
    return [("float32", (x[0], a["channels"] if node.op == "dynq.ConvFloat" else weight[0], *sizes))]


@_rule("DequantizeLinear")
def _dequantize_linear(node: Node) -> _Result:
    return [("float32", _in(node, 0).shape)]


@_rule("QuantizeLinear")
def _quantize_linear(node: Node) -> _Result:
    zero_point = node.input(2)
    names = {0: "uint8", 2: "uint8", 3: "int8"}  # ONNX's TensorProto.DataType
    dtype = names[int(node.attributes.get("output_dtype", 0))] if zero_point is None else zero_point.dtype  # type: ignore[arg-type]
    return [(dtype, _in(node, 0).shape)]


@_rule("DynamicQuantizeLinear")
def _dynamic_quantize_linear(node: Node) -> _Result:
    return [("uint8", _in(node, 0).shape), ("float32", ()), ("uint8", ())]


@_rule("MatMulInteger")
def _matmul_integer(node: Node) -> _Result:
    return [("int32", shape) for _, shape in _matmul(node) or []]


@_rule("Cast")
def _cast(node: Node) -> _Result:
    return [(ONNX_NAMES[int(node.attributes["to"])], _in(node, 0).shape)]  # type: ignore[arg-type]


@_rule("dynq.Linear", "dynq.LinearFloat", "dynq.MatMulIntegerPacked")
def _linear(node: Node) -> _Result:
    x, weight = _in(node, 0), _in(node, 1)
    assert weight.shape is not None
    n = weight.shape[1 if node.op == "dynq.LinearFloat" else 0]
    dtype = "int32" if node.op == "dynq.MatMulIntegerPacked" else "float32"
    return [(dtype, None if x.shape is None else (*x.shape[:-1], n))]


@_rule("MatMul", "dynq.MatMulDynamic")
def _matmul(node: Node) -> _Result:
    a, b = _in(node, 0), _in(node, 1)
    shape = None
    if a.shape is not None and b.shape is not None and len(a.shape) > 1 and len(b.shape) > 1:
        batch = broadcast(a.shape[:-2], b.shape[:-2])
        shape = None if batch is None else (*batch, a.shape[-2], b.shape[-1])
    return [(a.dtype, shape)]


@_rule("Gemm")
def _gemm(node: Node) -> _Result:
    a, b = _in(node, 0), _in(node, 1)
    assert a.shape is not None and b.shape is not None
    m = a.shape[1 if node.attributes.get("transA") else 0]
    return [(a.dtype, (m, b.shape[0 if node.attributes.get("transB") else 1]))]


@_rule("dynq.Attention")
def _attention(node: Node) -> _Result:
    q, v = _in(node, 0).shape, node.input(2)
    width = q[2] // 3 if v is None and q is not None and isinstance(q[2], int) else None  # q, k and v side by side
    if v is not None and v.shape is not None:
        width = v.shape[2]  # type: ignore[assignment]
    return [("float32", None if q is None or width is None else (q[0], q[1], width))]


@_rule("LSTM", "GRU", "RNN", "dynq.LSTM", "dynq.GRU", "dynq.RNN")
def _recurrent(node: Node) -> _Result:
    x, weight = _in(node, 0).shape, node.input(2)
    hidden: Any = node.attributes.get("hidden_size")
    if hidden is None and weight is not None and weight.shape is not None:
        hidden = weight.shape[2]
    if x is None or hidden is None or node.input(9) is not None or node.input(11) is not None:
        return [("float32", None)] * 3
    directions = 2 if node.attributes.get("direction") == "bidirectional" else 1
    projection = node.input(8) if node.op == "LSTM" else None
    outer, inner = (x[0], directions) if node.attributes.get("layout") else (directions, x[1])
    of_h, of_c = hidden, hidden
    if projection is not None and projection.shape is not None:
        _, of_h, of_c = projection.shape
    y: Shape = (x[0], x[1], directions, of_h) if node.attributes.get("layout") else (x[0], directions, x[1], of_h)
    return [("float32", y), ("float32", (outer, inner, of_h)), ("float32", (outer, inner, of_c))]


@_rule("dynq.Embedding")
def _embedding(node: Node) -> _Result:
    rows, indices = _in(node, 0), _in(node, 2)
    assert rows.shape is not None
    return [("float32", None if indices.shape is None else (*indices.shape, rows.shape[1]))]


@_rule("Gather")
def _gather(node: Node) -> _Result:
    x, indices = _in(node, 0), _in(node, 1)
    if x.shape is None or indices.shape is None:
        return [(x.dtype, None)]
    axis = _axis(node.attributes.get("axis", 0), len(x.shape))
    return [(x.dtype, (*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :]))]


@_rule("Transpose")
def _transpose(node: Node) -> _Result:
    x = _in(node, 0)
    if x.shape is None:
        return [(x.dtype, None)]
    perm: Any = node.attributes.get("perm", list(range(len(x.shape)))[::-1])
    return [(x.dtype, tuple(x.shape[i] for i in perm))]


@_rule("Reshape")
def _reshape(node: Node) -> _Result:
    x, target = _in(node, 0), elements(_in(node, 1))
    if target is None:
        return [(x.dtype, None)]
    dims = list(target)
    if not node.attributes.get("allowzero"):
        for i, dim in enumerate(dims):
            if dim == 0:
                dims[i] = None if x.shape is None else x.shape[i]
    if -1 in dims:
        at = dims.index(-1)
        dims[at] = None if x.shape is None else _rest(list(x.shape), dims[:at] + dims[at + 1 :])
    return [(x.dtype, tuple(dims))]


def _rest(left: list[Dim], right: list[Dim]) -> Dim:
    """What -1 stands for: ``left``, all sizes, over ``right``, the others; the same name on both sides cancels."""
    left, right = ([part for dim in dims for part in _factors(dim)] for dims in (left, right))
    for dim in [dim for dim in right if isinstance(dim, str)]:
        if dim in left:
            left.remove(dim)
            right.remove(dim)
    ints = [math.prod(dim for dim in dims if isinstance(dim, int)) for dims in (left, right)]
    names = [dim for dim in left if isinstance(dim, str)]
    if None in left or any(not isinstance(dim, int) for dim in right) or ints[1] == 0 or ints[0] % ints[1]:
        return None
    if not names:
        return ints[0] // ints[1]
    return _TIMES.join(sorted(names)) if ints[0] == ints[1] else None


def _factors(dim: Dim) -> list[Dim]:
    return [*dim.split(_TIMES)] if isinstance(dim, str) else [dim]


@_rule("Unsqueeze")
def _unsqueeze(node: Node) -> _Result:
    x, axes = _in(node, 0), _in(node, 1).array
    if x.shape is None or axes is None:
        return [(x.dtype, None)]
    rank = len(x.shape) + axes.size
    dims = list(x.shape)
    for axis in sorted({_axis(axis, rank) for axis in axes.reshape(-1)}):
        dims.insert(axis, 1)
    return [(x.dtype, tuple(dims) if len(dims) == rank else None)]


@_rule("Squeeze")
def _squeeze(node: Node) -> _Result:
    x = _in(node, 0)
    axes = None if node.input(1) is None else _in(node, 1).array
    if x.shape is None or axes is None:
        return [(x.dtype, None)]
    at = {_axis(axis, len(x.shape)) for axis in axes.reshape(-1)}
    return [(x.dtype, tuple(dim for i, dim in enumerate(x.shape) if i not in at))]


@_rule("Concat")
def _concat(node: Node) -> _Result:
    values = [value for value in node.inputs if value is not None]
    shapes = [value.shape for value in values if value.shape is not None]
    if len(shapes) != len(values):
        return [(values[0].dtype, None)]
    axis = _axis(node.attributes["axis"], len(shapes[0]))
    total: Dim = 0
    for shape in shapes:
        dim = shape[axis]
        total = total + dim if isinstance(total, int) and isinstance(dim, int) else None
    return [(values[0].dtype, (*shapes[0][:axis], total, *shapes[0][axis + 1 :]))]


@_rule("Pad")
def _pad(node: Node) -> _Result:
    x, pads = _in(node, 0), _in(node, 1).array
    if x.shape is None:
        return [(x.dtype, None)]
    rank = len(x.shape)
    axes = np.arange(rank) if node.input(3) is None else _in(node, 3).array
    if pads is None or axes is None:
        return [(x.dtype, (None,) * rank)]
    padded = [_axis(int(axis), rank) for axis in axes.reshape(-1)]
    shape = list(x.shape)
    for i, axis in enumerate(padded):
        more, dim = int(pads[i]) + int(pads[i + len(padded)]), shape[axis]
        shape[axis] = dim + more if isinstance(dim, int) else dim if more == 0 else None
    return [(x.dtype, tuple(shape))]


@_rule("Split")
def _split(node: Node) -> _Result:
    x = _in(node, 0)
    if x.shape is None:
        return [(x.dtype, None) for _ in node.outputs]
    axis, number = _axis(node.attributes.get("axis", 0), len(x.shape)), node.attributes.get("num_outputs")
    sizes = None if node.input(1) is None else _in(node, 1).array
    dim = x.shape[axis]
    parts: list[Dim] = [None] * len(node.outputs)
    if sizes is not None:
        parts = [int(size) for size in sizes]
    elif isinstance(number, int) and number > 0 and isinstance(dim, int) and dim % number == 0:
        parts = [dim // number] * number
    return [(x.dtype, (*x.shape[:axis], part, *x.shape[axis + 1 :])) for part in parts]


@_rule("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2", "ReduceSumSquare")
def _reduce(node: Node) -> _Result:
    x = _in(node, 0)
    axes = None if node.input(1) is None else _in(node, 1).array
    if x.shape is None or axes is None:
        return [(x.dtype, None)]
    at = {_axis(axis, len(x.shape)) for axis in axes.reshape(-1)}
    keep = bool(node.attributes.get("keepdims", 1))
    return [(x.dtype, tuple(1 if i in at else dim for i, dim in enumerate(x.shape) if keep or i not in at))]


@_rule("ArgMax", "ArgMin")
def _arg(node: Node) -> _Result:
    x = _in(node, 0)
    if x.shape is None:
        return [("int64", None)]
    axis, keep = _axis(node.attributes.get("axis", 0), len(x.shape)), node.attributes.get("keepdims", 1)
    return [("int64", tuple(1 if i == axis else dim for i, dim in enumerate(x.shape) if keep or i != axis))]


@_rule("Shape")
def _shape(node: Node) -> _Result:
    output = node.outputs[0]
    sizes = None if output is None else elements(output)
    return [("int64", (None if sizes is None else len(sizes),))]


@_rule("Slice")
def _slice(node: Node) -> _Result:
    x = _in(node, 0)
    bounds = [None if node.input(i) is None else elements(_in(node, i)) for i in range(1, 5)]
    starts, ends, axes, steps = bounds
    if x.shape is None:
        return [(x.dtype, None)]
    if starts is None or ends is None or (axes is None and node.input(3) is not None):
        return [(x.dtype, (None,) * len(x.shape))]
    dims = list(x.shape)
    for i, (start, end) in enumerate(zip(starts, ends, strict=True)):
        axis = _axis(i if axes is None else axes[i], len(dims))
        step = 1 if node.input(4) is None else None if steps is None else steps[i]
        dims[axis] = _cut(dims[axis], start, end, step)
    return [(x.dtype, tuple(dims))]


def _cut(dim: Dim, start: Dim, end: Dim, step: Dim) -> Dim:
    """The size of ``[start:end:step]`` of a dimension."""
    if isinstance(dim, int) and isinstance(start, int) and isinstance(end, int) and isinstance(step, int) and step:
        return len(range(dim)[start : None if step < 0 and end < -dim else end : step])
    if start != 0 or step != 1:
        return None
    if isinstance(end, int):
        return dim if isinstance(dim, str) and end >= 2**31 - 1 else None
    if isinstance(end, str) and (isinstance(dim, int) or dim == end):
        return end if dim == end else f"min({end}, {dim})"
    return None


@_rule("Expand")
def _expand(node: Node) -> _Result:
    x, target = _in(node, 0), elements(_in(node, 1))
    return [(x.dtype, None if target is None else broadcast(x.shape, target))]


@_rule("ConstantOfShape")
def _constant_of_shape(node: Node) -> _Result:
    return [(None, elements(_in(node, 0)))]


def _in(node: Node, index: int) -> Value:
    value = node.inputs[index]
    assert value is not None
    return value


def _axis(axis: Any, rank: int) -> int:
    result = int(axis) + (rank if axis < 0 else 0)
    if not 0 <= result < rank:
        raise ValueError(f"axis {axis} of rank {rank}")
    return result
