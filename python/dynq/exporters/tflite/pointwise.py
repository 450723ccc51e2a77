"""Write ops that compute each element by itself, and those that make one number of many."""

from __future__ import annotations

import numpy as np

from ...conversion import Unsupported
from ...ir.given import ONNX_NAMES
from ...ir.values import axis_of
from .draft import Edge, Place, Quantized, last_perm

__all__ = [
    "ARITHMETIC", "COMPARISONS", "LOGIC", "REDUCTIONS", "UNARY", "arg", "arithmetic", "bitwise", "cast", "clip",
    "comparison", "cumsum", "dequantize", "gelu", "is_nan", "leaky_relu", "mod", "prelu", "quantize",
    "reduce", "softmax", "top_k", "unary", "where",
]  # fmt: skip

# By op: the operator, and the class of its options.
UNARY: dict[str, tuple[str, str | None]] = {
    "Abs": ("ABS", None), "Neg": ("NEG", "NegOptions"), "Sign": ("SIGN", None), "Floor": ("FLOOR", None),
    "Ceil": ("CEIL", None), "Round": ("ROUND", None), "Sqrt": ("SQRT", None), "Exp": ("EXP", "ExpOptions"),
    "Log": ("LOG", None), "Sin": ("SIN", None), "Cos": ("COS", "CosOptions"), "Tanh": ("TANH", None),
    "Sigmoid": ("LOGISTIC", None), "Relu": ("RELU", None), "Elu": ("ELU", None), "HardSwish": ("HARD_SWISH", None),
    "Not": ("LOGICAL_NOT", "LogicalNotOptions"),
}  # fmt: skip
ARITHMETIC: dict[str, tuple[str, str]] = {
    "Add": ("ADD", "AddOptions"), "Sub": ("SUB", "SubOptions"), "Mul": ("MUL", "MulOptions"),
    "Div": ("DIV", "DivOptions"), "Max": ("MAXIMUM", "MaximumMinimumOptions"),
    "Min": ("MINIMUM", "MaximumMinimumOptions"), "Pow": ("POW", "PowOptions"),
}  # fmt: skip
COMPARISONS: dict[str, tuple[str, str]] = {
    "Equal": ("EQUAL", "EqualOptions"), "Less": ("LESS", "LessOptions"),
    "LessOrEqual": ("LESS_EQUAL", "LessEqualOptions"),
    "Greater": ("GREATER", "GreaterOptions"), "GreaterOrEqual": ("GREATER_EQUAL", "GreaterEqualOptions"),
}  # fmt: skip
LOGIC: dict[str, tuple[str, str]] = {
    "And": ("LOGICAL_AND", "LogicalAndOptions"), "Or": ("LOGICAL_OR", "LogicalOrOptions"),
    "Xor": ("NOT_EQUAL", "NotEqualOptions"),
}  # fmt: skip
REDUCTIONS: dict[str, str] = {
    "ReduceSum": "SUM", "ReduceMean": "MEAN", "ReduceMax": "REDUCE_MAX", "ReduceMin": "REDUCE_MIN",
    "ReduceProd": "REDUCE_PROD",
}  # fmt: skip


def unary(place: Place) -> None:
    (x,), last = place.together([0])
    op, options = UNARY[place.node.op]
    place.gives(place.op(op, [x], x.dims, options=options), last=last)


def gelu(place: Place) -> None:
    (x,), last = place.together([0])
    tanh = place.text("approximate", "none") == "tanh"
    place.gives(place.op("GELU", [x], x.dims, options="GeluOptions", Approximate=tanh), last=last)


def leaky_relu(place: Place) -> None:
    (x,), last = place.together([0])
    alpha = place.number("alpha", 0.01)
    place.gives(place.op("LEAKY_RELU", [x], x.dims, options="LeakyReluOptions", Alpha=alpha), last=last)


def prelu(place: Place) -> None:
    """Write PRELU, whose slopes have no batch."""
    (x, slope), last = place.together([0, 1])
    if len(slope.dims) == len(x.dims) and slope.dims[:1] == (1,) and len(x.dims) > 1:
        slope = place.reshaped(slope, slope.dims[1:])
    place.gives(place.op("PRELU", [x, slope], x.dims), last=last)


def arithmetic(place: Place) -> None:
    (a, b), last = place.together([0, 1])
    op, options = ARITHMETIC[place.node.op]
    if a.dtype not in ("float32", "int32", "int64"):
        raise Unsupported(f"{place.node.op} of {a.dtype}")
    if op == "DIV" and a.dtype == "int64":
        raise Unsupported("Div of int64")
    place.gives(place.op(op, [a, b], place.result_dims(last), options=options), last=last)


def mod(place: Place) -> None:
    """Write FLOOR_MOD: the rest has the sign of the divisor, as ONNX has it of integers."""
    if place.integer("fmod", 0):
        raise Unsupported("Mod with fmod")
    (a, b), last = place.together([0, 1])
    place.gives(place.op("FLOOR_MOD", [a, b], place.result_dims(last), options="FloorModOptions"), last=last)


def comparison(place: Place) -> None:
    (a, b), last = place.together([0, 1])
    op, options = {**COMPARISONS, **LOGIC}[place.node.op]
    place.gives(place.op(op, [a, b], place.result_dims(last), "bool", options=options), last=last)


def is_nan(place: Place) -> None:
    (x,), last = place.together([0])
    place.gives(place.op("NOT_EQUAL", [x, x], x.dims, "bool", options="NotEqualOptions"), last=last)


def where(place: Place) -> None:
    edges, last = place.together([0, 1, 2])
    place.gives(
        place.op("SELECT_V2", edges, place.result_dims(last), edges[1].dtype, options="SelectV2Options"), last=last
    )


def clip(place: Place) -> None:
    (x,), last = place.together([0])
    for name, op in (("min", "MAXIMUM"), ("max", "MINIMUM")):
        bound = place.maybe(name)
        if bound is not None and not _is_infinite(bound):
            x = place.op(op, [x, bound], x.dims, options="MaximumMinimumOptions")
    place.gives(x, last=last)


def _is_infinite(bound: Edge) -> bool:
    return bound.make is not None and bound.dtype == "float32" and bool(np.isinf(bound.make()).all())


def cast(place: Place) -> None:
    (x,), last = place.together([0])
    place.gives(place.cast(x, ONNX_NAMES[place.integer("to", 1)]), last=last)


def quantize(place: Place) -> None:
    """Write QUANTIZE, whose result knows its scale and zero-point."""
    (x,), last = place.together([0])
    dtype = place.out().dtype or ""
    made = place.op("QUANTIZE", [x], x.dims, dtype, options="QuantizeOptions")
    made.quantized = _steps(place, "y_scale", "y_zero_point", dtype)
    place.gives(made, last=last)


def dequantize(place: Place) -> None:
    """Write DEQUANTIZE, whose operand knows its scale and zero-point."""
    (x,), last = place.together([0])
    steps = _steps(place, "x_scale", "x_zero_point", x.dtype)
    if x.quantized is None:
        x.quantized = steps
    elif not x.quantized.is_as(steps):
        raise Unsupported("DequantizeLinear of integers that stand for other numbers elsewhere")
    place.gives(place.op("DEQUANTIZE", [x], x.dims, "float32", options="DequantizeOptions"), last=last)


def _steps(place: Place, scale: str, point: str, dtype: str) -> Quantized:
    if dtype not in ("int8", "uint8"):
        raise Unsupported(f"{place.node.op} of {dtype}")
    scales = place.known(scale, "scales").reshape(-1)
    points = np.zeros(1, np.int64) if place.node.input(point) is None else place.known(point, "zero-points").reshape(-1)
    if scales.size != 1 or points.size != 1:
        raise Unsupported(f"{place.node.op} with several scales")
    return Quantized(scales, int(points[0]))


def softmax(place: Place) -> None:
    """Write SOFTMAX and LOG_SOFTMAX, which are over the last axis."""
    rank, op = len(place.shape(0)), "SOFTMAX" if place.node.op == "Softmax" else "LOG_SOFTMAX"
    axis = axis_of(place.integer("axis", -1), rank)
    options = {"options": "SoftmaxOptions", "Beta": 1.0} if op == "SOFTMAX" else {"options": "LogSoftmaxOptions"}
    if axis == 1 and rank >= 3:
        x = place.last(0)
        place.gives(place.op(op, [x], x.dims, **options), last=True)
        return
    x = place.plain(0)
    if axis == rank - 1:
        place.gives(place.op(op, [x], x.dims, **options))
        return
    perm = [i for i in range(rank) if i != axis] + [axis]
    back = [perm.index(i) for i in range(rank)]
    turned = place.op("TRANSPOSE", [x, place.ints(perm)], tuple(x.dims[i] for i in perm), options="TransposeOptions")
    made = place.op(op, [turned], turned.dims, **options)
    place.gives(place.op("TRANSPOSE", [made, place.ints(back)], x.dims, options="TransposeOptions"))


def reduce(place: Place) -> None:
    rank, keep = len(place.shape(0)), bool(place.integer("keepdims", 1))
    given = place.node.input(1)
    axes = list(range(rank))
    if given is not None:
        axes = sorted(axis_of(axis, rank) for axis in place.known(1, "axes").reshape(-1).tolist())
    if not axes or (given is None and place.integer("noop_with_empty_axes", 0)):
        axes = [] if place.integer("noop_with_empty_axes", 0) else list(range(rank))
    (x,), last = place.together([0])
    if last and not keep:  # what is left has to be in dynq's order
        x, last = place.plain(0), False
    order = last_perm(rank) if last else list(range(rank))
    places = sorted(order.index(axis) for axis in axes)
    dims = tuple(1 if i in places else size for i, size in enumerate(x.dims) if keep or i not in places)
    y = place.op(REDUCTIONS[place.node.op], [x, place.ints(places)], dims, options="ReducerOptions", KeepDims=keep)
    place.gives(y, last=last)


def arg(place: Place) -> None:
    """Write ARG_MAX and ARG_MIN."""
    if place.integer("select_last_index", 0):
        raise Unsupported(f"{place.node.op} with select_last_index")
    x = place.plain(0)
    axis = axis_of(place.integer("axis", 0), len(x.dims))
    op, options = ("ARG_MAX", "ArgMaxOptions") if place.node.op == "ArgMax" else ("ARG_MIN", "ArgMinOptions")
    dims = x.dims[:axis] + x.dims[axis + 1 :]
    y = place.op(op, [x, place.scalar(axis, "int32")], dims, "int64", options=options, OutputType=4)
    if not place.integer("keepdims", 1):
        place.gives(y)
        return
    place.gives(place.op("EXPAND_DIMS", [y, place.scalar(axis, "int32")], (*dims[:axis], 1, *dims[axis:]),
                         options="ExpandDimsOptions"))  # fmt: skip


def top_k(place: Place) -> None:
    """Write TOPK_V2: the largest of the last axis, in their order."""
    x = place.plain(0)
    axis = axis_of(place.integer("axis", -1), len(x.dims))
    if axis != len(x.dims) - 1 or not place.integer("largest", 1):
        raise Unsupported("TopK of the smallest, or of another axis than the last")
    k = int(place.known("K", "counts").reshape(-1)[0])
    dims = (*x.dims[:-1], k)
    values, places = place.ops("TOPK_V2", [x, place.scalar(k, "int32")], [(x.dtype, dims), ("int32", dims)],
                               options="TopKV2Options")  # fmt: skip
    place.gives(values, place.cast(places, "int64"))


def cumsum(place: Place) -> None:
    axis = int(place.known("axis", "axes").reshape(-1)[0])
    x = place.plain("x")
    y = place.op("CUMSUM", [x, place.scalar(axis_of(axis, len(x.dims)), "int32")], x.dims, options="CumsumOptions",
                 Exclusive=bool(place.integer("exclusive", 0)), Reverse=bool(place.integer("reverse", 0)))  # fmt: skip
    place.gives(y)


def bitwise(place: Place) -> None:
    (a, b), last = place.together([0, 1])
    if a.dtype == "int64":
        raise Unsupported("BitwiseXor of int64")
    place.gives(place.op("BITWISE_XOR", [a, b], place.result_dims(last)), last=last)
