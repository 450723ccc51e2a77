"""Tensors of which some places are written over, and windows that overlap."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from ....conversion import Unsupported
from ....graph import Value
from ..call import Call, Result, converter
from .selections import places

_REDUCTIONS = {"sum": "add", "prod": "mul", "amax": "max", "amin": "min", "add": "add", "multiply": "mul",
               "mean": "mean"}  # fmt: skip


def _reduction(call: Call) -> str:
    """Return how numbers that go to one place are put together, as ScatterElements calls it."""
    if call.op == "aten.scatter_add":
        return "add"
    name = call.fixed("reduce") if call.has("reduce") else None
    if name is None:
        return "none"
    if name not in _REDUCTIONS:
        raise Unsupported(f"{call.op} with reduce = {name!r}")
    return _REDUCTIONS[name]


@converter("scatter scatter_add scatter_reduce")
def scatter(call: Call) -> Result:
    """Each number of a source, or one number, goes to the place that an index says."""
    x, index, rank = call.value("self"), call.value("index"), call.rank("self")
    if rank == 0 or call.rank("index") != rank:
        raise Unsupported(f"{call.op} of {rank} dimensions by an index of {call.rank('index')}")
    axis, sizes = call.axis("dim", rank), list(call.fake("index").shape)
    if call.has("value"):
        source = call.expand(call.operand("value", call.dtype), sizes)
    else:
        source = call.value("src")
        given = list(call.fake("src").shape)
        short = [i for i in range(rank) if call.dims([given[i]]) != call.dims([sizes[i]])]
        if short:
            ends = call.shape([sizes[i] for i in short])
            source = call.node("Slice", [source, call.axes([0] * len(short)), ends, call.axes(short)])
    index = call.cast(index, "int64")
    reduction = _reduction(call)
    if call.has("include_self") and not call.fixed("include_self"):
        start = call.expand(call.constant(_neutral(reduction, call.dtype)), sizes)
        x = call.node("ScatterElements", [x, index, start], axis=axis, reduction="none")
    if reduction == "mean":
        return _mean(call, x, index, source, axis)
    return call.emit("ScatterElements", [x, index, source], axis=axis, reduction=reduction)


def _neutral(reduction: str, dtype: str) -> Any:
    """Return the number that does not change what it is put together with."""
    if reduction in ("add", "mean", "mul"):
        return np.array(reduction == "mul").astype(dtype)
    limits = (-np.inf, np.inf) if dtype == "float32" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    return np.array(limits[reduction == "min"], dtype)


def _mean(call: Call, x: Value, index: Value, source: Value, axis: int) -> Value:
    """Return the means of what goes to each place, and of what is there if it counts."""
    if call.dtype != "float32":
        raise Unsupported(f"{call.op} with reduce = 'mean' of {call.dtype}")
    one = call.constant_like(1)
    total = call.node("ScatterElements", [x, index, source], axis=axis, reduction="add")
    ones = call.expand(one, call.fake("index").shape)
    before = call.expand(call.constant_like(int(call.fixed("include_self"))), call.fake("self").shape)
    counts = call.node("ScatterElements", [before, index, ones], axis=axis, reduction="add")
    return call.emit("Div", [total, call.node("Max", [counts, one])])


@converter("index_copy")
def index_copy(call: Call) -> Result:
    """Rows along one axis are written over by those of a source."""
    x, source, rank = call.value("self"), call.value("source"), call.rank("self")
    index = call.cast(call.value("index"), "int64")
    if rank == 0 or call.rank("index") != 1 or call.rank("source") != rank:
        raise Unsupported(f"{call.op} of {rank} dimensions by an index of {call.rank('index')}")
    order = _first(rank, [call.axis("dim", rank)])
    return _written(call, x, order, call.unsqueeze(index, 1), call.transpose(source, order), "none")


@converter("index_add")
def index_add(call: Call) -> Result:
    """Rows of a source, times alpha, are added to those along one axis."""
    x, source, rank = call.value("self"), call.value("source"), call.rank("self")
    index, alpha = call.cast(call.value("index"), "int64"), call.fixed("alpha", 1)
    if rank == 0 or call.rank("index") != 1 or call.rank("source") != rank:
        raise Unsupported(f"{call.op} of {rank} dimensions by an index of {call.rank('index')}")
    if alpha != 1:
        source = call.node("Mul", [source, call.constant_like(alpha)])
    order = _first(rank, [call.axis("dim", rank)])
    return _written(call, x, order, call.unsqueeze(index, 1), call.transpose(source, order), "add")


@converter("index_put _unsafe_index_put")
def index_put(call: Call) -> Result:
    """``x[i, j] = values`` or ``+=``: by tensors of integers next to each other, or by a mask."""
    reduction = "add" if call.fixed("accumulate") else "none"
    x, rank = call.value("self"), call.rank("self")
    nodes = call.get("indices")
    at = [i for i, node in enumerate(nodes) if node is not None]
    values = call.operand("values", call.dtype)
    fakes = [nodes[i].meta["val"] for i in at]
    sizes = list(call.fake("values").shape)
    if len(at) == 1 and fakes[0].dtype == torch.bool:
        if at[0] != 0 or reduction != "none":
            raise Unsupported(f"{call.op} by a bool mask behind other axes, or one that adds")
        mask = call.of(nodes[at[0]])
        behind = rank - fakes[0].ndim
        if all(isinstance(size, int) and size == 1 for size in sizes):
            mask = call.unsqueeze(mask, *range(rank - behind, rank)) if behind else mask
            return call.emit("Where", [mask, call.reshape(values, []), x])
        if len(sizes) != 1 + behind or isinstance(sizes[0], int):
            raise Unsupported(f"{call.op} by a bool mask with neither one number nor as many as it picks")
        return call.emit("ScatterND", [x, places(call, mask), values], reduction="none")
    if not at or any(fake.dtype == torch.bool for fake in fakes):
        raise Unsupported(f"{call.op} by bool masks and others")
    if at != list(range(at[0], at[-1] + 1)):
        raise Unsupported(f"{call.op} by tensors that are not next to each other")
    common = list(torch.broadcast_shapes(*(fake.shape for fake in fakes)))
    order, old = _first(rank, at), list(call.fake("self").shape)
    parts = [call.unsqueeze(call.expand(call.cast(call.of(nodes[i]), "int64"), common), len(common)) for i in at]
    index = parts[0] if len(parts) == 1 else call.node("Concat", parts, axis=len(common))
    whole = [*old[: at[0]], *common, *old[at[-1] + 1 :]]  # what x[i, j] has
    values = call.expand(values, whole)
    count, before = len(common), at[0]
    values = call.transpose(
        values, [*range(before, before + count), *range(before), *range(before + count, len(whole))]
    )
    return _written(call, x, order, index, values, reduction)


def _first(rank: int, axes: list[int]) -> list[int]:
    return [*axes, *[axis for axis in range(rank) if axis not in axes]]


def _written(call: Call, x: Value, order: list[int], index: Value, values: Value, reduction: str) -> Value:
    """Write values over places of the first axes of x, which is transposed for that, or add them there."""
    if order == list(range(len(order))):
        return call.emit("ScatterND", [x, index, values], reduction=reduction)
    result = call.node("ScatterND", [call.transpose(x, order), index, values], reduction=reduction)
    return call.emit("Transpose", [result], perm=[order.index(i) for i in range(len(order))])


@converter("embedding_bag _embedding_bag _embedding_bag_forward_only")
def embedding_bag(call: Call) -> Result:
    """Rows of a table, looked up and put together by bags: their sum, mean or largest. Offsets say where bags begin."""
    for name in ("scale_grad_by_freq", "sparse"):  # they change gradients only
        call.get(name)
    if any(call.reads_output(i) for i in (1, 2, 3)):
        raise Unsupported(f"{call.op} whose further outputs are used")
    indices, mode = call.cast(call.value("indices"), "int64"), call.fixed("mode", 0)
    bags, sizes = _bags(call)
    rows = call.node("Gather", [call.value("weight"), indices], axis=0)
    padding = call.fixed("padding_idx", None)
    weights = call.optional("per_sample_weights")
    counted = None  # 1 for what belongs to its bag, 0 for padding
    if padding is not None and padding >= 0:
        counted = call.cast(call.node("Not", [call.node("Equal", [indices, call.scalar(padding)])]), "float32")
    for factor in (weights, counted if mode != 2 else None):
        if factor is not None:
            rows = call.node("Mul", [rows, call.unsqueeze(factor, 1)])
    places = call.unsqueeze(bags, 1)
    zeros = call.expand(call.floats(0), sizes)
    if mode == 0:
        return [call.emit("ScatterND", [zeros, places, rows], reduction="add"), None, None, None]
    ones = call.expand(call.floats(1), call.fake("indices").shape) if counted is None else counted
    counts = call.node("ScatterND", [call.expand(call.floats(0), sizes[:1]), places, ones], reduction="add")
    counts = call.unsqueeze(counts, 1)
    if mode == 1:
        sums = call.node("ScatterND", [zeros, places, rows], reduction="add")
        return [call.emit("Div", [sums, call.node("Max", [counts, call.floats(1)])]), None, None, None]
    least = call.floats(float(np.finfo(np.float32).min))
    if counted is not None:
        rows = call.node("Where", [call.node("Greater", [call.unsqueeze(counted, 1), call.floats(0)]), rows, least])
    most = call.node("ScatterND", [call.expand(least, sizes), places, rows], reduction="max")
    return [call.emit("Where", [call.node("Greater", [counts, call.floats(0)]), most, zeros]), None, None, None]


def _bags(call: Call) -> tuple[Value, list[Any]]:
    """Return the bag of each index, and the sizes (bags, width) of the result."""
    offsets, (width,) = call.cast(call.value("offsets"), "int64"), call.fake("weight").shape[1:]
    (count,) = call.fake("offsets").shape
    if call.fixed("include_last_offset", False):  # the last one says where the last bag ends
        count = count - 1
        offsets = call.node("Slice", [offsets, call.axes([0]), call.axes([-1]), call.axes([0])])
    (length,) = call.fake("indices").shape
    places = call.node("Range", [call.scalar(0), call.scalar(length), call.scalar(1)])
    places.dtype, places.shape = "int64", call.dims([length])
    begun = call.node("GreaterOrEqual", [call.unsqueeze(places, 1), call.unsqueeze(offsets, 0)])
    number = call.node("ReduceSum", [call.cast(begun, "int64"), call.axes([1])], keepdims=0)
    return call.node("Sub", [number, call.scalar(1)]), [count, width]


@converter("unfold")
def unfold(call: Call) -> Result:
    """Windows along an axis, so many steps apart; their elements become the last axis."""
    x, rank = call.value("self"), call.rank("self")
    axis, size, step = call.axis("dimension", rank), call.fixed("size"), call.fixed("step")
    if rank == 0:
        raise Unsupported(f"{call.op} of a single number")
    count: Any = call.result.shape[axis]
    inner = np.arange(size, dtype=np.int64)
    if isinstance(count, int):
        index = call.constant(np.arange(count, dtype=np.int64)[:, None] * step + inner)
    else:
        starts = call.node("Range", [call.scalar(0), call.scalar(count), call.scalar(1)])
        starts.dtype, starts.shape = "int64", call.dims([count])
        index = call.node(
            "Add", [call.node("Mul", [call.unsqueeze(starts, 1), call.axes([step])]), call.constant(inner)]
        )
    windows = call.node("Gather", [x, index], axis=axis)
    return call.transpose(windows, [*range(axis + 1), *range(axis + 2, rank + 1), axis + 1])
