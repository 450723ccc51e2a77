"""Ops that pick as many elements as there are values of a kind: sizes of the results are known in the run alone."""

from __future__ import annotations

from typing import Any

import torch

from ....conversion import Unsupported
from ....graph import Value
from ..call import Call, Result, converter

__all__ = ["by_mask", "places"]


def places(call: Call, x: Value) -> Value:
    """Return the places that are not zero, (count, rank)."""
    return call.transpose(call.node("NonZero", [x]), (1, 0))


@converter("nonzero argwhere")
def nonzero(call: Call) -> Result:
    result = places(call, call.value("self"))
    call.names_sizes(result, call.result)
    return result


@converter("nonzero_numpy")
def nonzero_numpy(call: Call) -> Result:
    """One vector for each axis: what torch.where gives for a condition alone."""
    return nonzero_by_axis(call, call.value("self"))


def nonzero_by_axis(call: Call, x: Value) -> list[Value]:
    """Return the places that are not zero, a vector for each axis."""
    rank = len(call.result)
    rows = call.split(call.node("NonZero", [x]), 0, [1] * rank)
    results = [call.node("Squeeze", [row, call.axes([0])]) for row in rows]
    for value, fake in zip(results, call.result, strict=True):
        call.names_sizes(value, fake)
    return results


@converter("masked_select")
def masked_select(call: Call) -> Result:
    sizes = torch.broadcast_shapes(call.fake("self").shape, call.fake("mask").shape)
    x, mask = (call.expand(call.value(name), sizes) for name in ("self", "mask"))
    flat = call.node("Reshape", [mask, call.axes([-1])])
    result = call.emit("Compress", [x, flat])
    call.names_sizes(result, call.result)
    return result


def by_mask(call: Call, x: Value, nodes: list[Any]) -> Value:
    """Return ``x[mask]``, ``x[:, mask]``: what a mask of one dimension picks along an axis, one of more in front."""
    (at,) = [i for i, node in enumerate(nodes) if node is not None] if sum(n is not None for n in nodes) == 1 else [-1]
    if at < 0:
        raise Unsupported(f"{call.op} by a mask and other tensors")
    fake, mask = nodes[at].meta["val"], call.of(nodes[at])
    if fake.ndim == 1:
        result = call.emit("Compress", [x, call.cast(mask, "bool")], axis=at)
    elif at == 0 and fake.ndim > 1:
        result = call.emit("GatherND", [x, places(call, mask)])
    else:
        raise Unsupported(f"{call.op} by a mask of {fake.ndim} dimensions behind others")
    call.names_sizes(result, call.result)
    return result


@converter("masked_scatter")
def masked_scatter(call: Call) -> Result:
    """The elements of a source, one after the other, go where a mask is true."""
    sizes = call.result.shape
    x, mask = call.expand(call.value("self"), sizes), call.expand(call.value("mask"), sizes)
    flat = call.cast(call.node("Reshape", [mask, call.axes([-1])]), "int64")
    count = call.node("CumSum", [flat, call.scalar(0)])
    place = call.node("Max", [call.node("Sub", [count, call.scalar(1)]), call.scalar(0)])
    source = call.node("Reshape", [call.cast(call.value("source"), call.dtype), call.axes([-1])])
    source = call.node("Concat", [source, call.node("Expand", [call.constant_like(0), call.axes([1])])], axis=0)
    last = call.node("Sub", [call.node("Size", [source]), call.scalar(1)])  # where nothing is picked, any place will do
    picked = call.node("Gather", [source, call.node("Min", [place, last])], axis=0)
    return call.emit("Where", [mask, call.reshape(picked, sizes), x])


@converter("_unique2 unique_dim")
def unique(call: Call) -> Result:
    """Values in ascending order, the place of each element among them, and how often each comes."""
    for name in ("sorted", "return_inverse", "return_counts"):
        call.get(name)
    rank = call.rank("self")
    axis = {"axis": call.axis("dim", rank)} if call.has("dim") else {}
    values, _, inverse, counts = call.emit_several("Unique", [call.value("self")], 4, **axis)
    call.names_sizes(values, call.result[0])
    if not axis:
        inverse = call.reshape(inverse, call.fake("self").shape)
    return [values, inverse, counts]
