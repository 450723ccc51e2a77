"""Normalizations that dynq writes as means, products and quotients."""

from __future__ import annotations

import numpy as np

from ....conversion import Unsupported
from ....graph import Value
from ..attributes import FLOAT, INT, one_of
from ..convert import Call, Result, converter
from .pointwise import one
from .shapes import axes


@converter("InstanceNormalization", epsilon=FLOAT)
def instance_normalization(call: Call) -> Result:
    """Emit ``scale * normalized + B``, normalized over the spatial axes of each channel."""
    rank = call.rank("input")
    if rank < 3:
        raise ValueError(f"the input has {rank} dimensions; expected 3 or more")
    normalized = _normalized(call, call.need("input"), list(range(2, rank)))
    return _scaled(call, normalized, "B", list(range(1, rank - 1)))


@converter("GroupNormalization", since=18, epsilon=FLOAT, num_groups=INT, stash_type=one_of(1))
def group_normalization(call: Call) -> Result:
    """Emit ``scale * normalized + bias``, over groups of channels. Before opset 21 a scale is one of a group."""
    x, rank, groups = call.need("X"), call.rank("X"), call.attribute("num_groups", None)
    if groups is None or groups < 1 or rank < 3:
        raise ValueError(f"num_groups is {groups} of {rank} dimensions; expected 1 or more, of 3 or more")
    grouped = call.node("Reshape", [x, call.constant(np.array([0, groups, -1], np.int64), "groups")])
    normalized = _normalized(call, grouped, [2])
    if call.opset < 21:
        normalized = _scaled(call, normalized, "bias", [1], last=False)
    y = call.node("Reshape", [normalized, call.node("Shape", [x])])
    return call.last("Identity", [y]) if call.opset < 21 else _scaled(call, y, "bias", list(range(1, rank - 1)))


def _normalized(call: Call, x: Value, over: list[int]) -> Value:
    """Subtract the mean and divide by ``sqrt(variance + epsilon)``."""
    spatial = axes(call, over)
    centred = call.node("Sub", [x, call.node("ReduceMean", [x, spatial], keepdims=1)])
    variance = call.node("ReduceMean", [call.node("Mul", [centred, centred]), spatial], keepdims=1)
    epsilon = one(call, call.attribute("epsilon", 1e-5))
    return call.node("Div", [centred, call.node("Sqrt", [call.node("Add", [variance, epsilon])])])


def _scaled(call: Call, x: Value, bias: str, spatial: list[int], last: bool = True) -> Value:
    """Multiply by the input scale and add the input ``bias``, which have a number for each channel."""
    scale, shift = (call.node("Unsqueeze", [call.need(name), axes(call, spatial)]) for name in ("scale", bias))
    make = call.last if last else call.node
    return make("Add", [call.node("Mul", [x, scale]), shift])


@converter("LpNormalization", axis=INT, p=one_of(1, 2))
def lp_normalization(call: Call) -> Result:
    """Emit ``x / norm``, and 0 if the norm is 0."""
    x, along = call.need("input"), axes(call, [call.attribute("axis", -1)])
    norm = call.node("ReduceL1" if call.attribute("p", 2) == 1 else "ReduceL2", [x, along], keepdims=1)
    is_zero = call.node("Equal", [norm, one(call, 0.0)])
    return call.last("Div", [x, call.node("Where", [is_zero, one(call, 1.0), norm])])


@converter("LRN", alpha=FLOAT, beta=FLOAT, bias=FLOAT, size=INT)
def local_response(call: Call) -> Result:
    """Emit ``x / (bias + alpha / size * sum of squares) ** beta``, over ``size`` channels around each."""
    x, rank, size = call.need("X"), call.rank("X"), call.attribute("size", None)
    if rank < 2 or size is None or size < 1:
        raise ValueError(f"size is {size} of {rank} dimensions; expected 1 or more, of 2 or more")
    before, after = (size - 1) // 2, size // 2
    pads = [0] * (2 * rank)
    pads[1], pads[rank + 1] = before, after
    squares = call.node("Pad", [call.node("Mul", [x, x]), call.constant(np.array(pads, np.int64), "pads")])
    if not isinstance(x.shape[1] if x.shape else None, int):
        raise Unsupported(f"{call.op} of channels that are not known before the run")
    channels = int(x.shape[1])  # type: ignore[index, arg-type]
    parts = [
        call.node("Slice", [squares, *(call.constant(np.array([v], np.int64)) for v in (i, i + channels, 1))])
        for i in range(size)
    ]
    total = call.node("Sum", parts) if size > 1 else parts[0]
    scaled = call.node("Mul", [total, one(call, call.attribute("alpha", 1e-4) / size)])
    base = call.node("Add", [scaled, one(call, call.attribute("bias", 1.0))])
    return call.last("Div", [x, call.node("Pow", [base, one(call, call.attribute("beta", 0.75))])])


@converter("Hardmax", since=13, axis=INT)
def hardmax(call: Call) -> Result:
    """Emit 1 at the first largest element along ``axis``, and 0 elsewhere."""
    return _hardmax(call, call.need("input"), call.attribute("axis", -1))


@converter("Hardmax", until=13, axis=INT)
def hardmax_of_two_dimensions(call: Call) -> Result:
    """Emit Hardmax over all axes from ``axis`` on, as one."""
    x, rank, axis = call.need("input"), call.rank("input"), call.attribute("axis", 1)
    axis += rank if axis < 0 else 0
    if axis == rank - 1:
        return _hardmax(call, x, -1)
    flat = call.node("Flatten", [x], axis=axis)
    return call.last("Reshape", [_hardmax(call, flat, -1, last=False), call.node("Shape", [x])])


def _hardmax(call: Call, x: Value, axis: int, last: bool = True) -> Value:
    index = call.node("ArgMax", [x], axis=axis, keepdims=0)
    depth = call.node("Gather", [call.node("Shape", [x]), call.constant(np.array([axis], np.int64))])
    values = call.constant(np.array([0, 1], np.float32), "values")
    make = call.last if last else call.node
    return make("OneHot", [index, depth, values], axis=axis)
