"""Ops that pick, join and repeat elements."""

from __future__ import annotations

from typing import Any

import numpy as np

from ....conversion import Unsupported
from ..call import Call, Result, converter
from ..sizes import is_symbolic
from .selections import by_mask

_END = 2**63 - 1


@converter("cat concat concatenate stack hstack")
def concatenate(call: Call) -> Result:
    """torch leaves tensors of shape (0,) out."""
    nodes, dtype, rank = call.get("tensors"), call.dtype, len(call.result.shape)
    if call.op == "aten.hstack":
        values = [call.cast(call.of(node), dtype) for node in nodes]
        values = [v if node.meta["val"].ndim else call.unsqueeze(v, 0) for v, node in zip(values, nodes, strict=True)]
        return call.emit("Concat", values, axis=min(rank - 1, 1))
    axis = call.axis("dim", rank)
    if call.op == "aten.stack":
        values = [call.unsqueeze(call.cast(call.of(node), dtype), axis) for node in nodes]
    else:
        nodes = [node for node in nodes if rank == 1 or tuple(node.meta["val"].shape) != (0,)]
        values = [call.cast(call.of(node), dtype) for node in nodes]
    return values[0] if len(values) == 1 else call.emit("Concat", values, axis=axis)


@converter("split split_with_sizes chunk unsafe_split unsafe_split_with_sizes unsafe_chunk tensor_split unbind")
def split(call: Call) -> Result:
    """torch has told the sizes of the parts already."""
    for name in ("split_size", "split_sizes", "chunks", "sections", "indices"):
        call.get(name)
    rank = call.rank("self")
    axis, parts = call.axis("dim", rank), call.result
    unbind = call.op == "aten.unbind"
    if unbind:
        values = call.split(call.value("self"), axis, [1] * len(parts))
        return [call.node("Squeeze", [value, call.axes([axis])]) for value in values]
    return call.split(call.value("self"), axis, [part.shape[axis] for part in parts])


@converter("slice slice_copy narrow narrow_copy")
def cut(call: Call) -> Result:
    x, rank = call.value("self"), call.rank("self")
    axis = call.axis("dim", rank)
    size = call.fake("self").shape[axis]
    if call.has("length"):
        start, length, step = call.get("start"), call.get("length"), 1
        end: Any = start + length
        if isinstance(start, int) and start < 0:
            start, end = start + size, start + size + length
    else:
        start, end, step = call.get("start") or 0, call.get("end"), call.fixed("step", 1)
        end = _END if end is None else end
    fixed = isinstance(end, int)
    whole = end >= (size if isinstance(size, int) else _END) if fixed else call.dims([end]) == call.dims([size])
    if isinstance(start, int) and start == 0 and step == 1 and whole:
        return x
    limits = [call.vector(start), call.axes([_END]) if whole else call.vector(end)]
    return call.emit("Slice", [x, *limits, call.axes([axis]), call.axes([step])])


@converter("select select_copy")
def select(call: Call) -> Result:
    x, rank = call.value("self"), call.rank("self")
    axis, index = call.axis("dim", rank), call.get("index")
    number = call.constant(np.array(index, np.int64)) if isinstance(index, int) else call.scalar(index)
    return call.emit("Gather", [x, number], axis=axis)


@converter("index_select")
def index_select(call: Call) -> Result:
    x, index = call.value("self"), call.value("index")
    axis = call.axis("dim", call.rank("self"))
    if call.rank("index") == 0:
        index = call.unsqueeze(index, 0)
    return call.emit("Gather", [x, index], axis=axis)


@converter("gather")
def gather(call: Call) -> Result:
    call.get("sparse_grad")
    return call.emit(
        "GatherElements", [call.value("self"), call.value("index")], axis=call.axis("dim", call.rank("self"))
    )


@converter("take_along_dim")
def take_along(call: Call) -> Result:
    if call.get("dim") is None:
        raise Unsupported("aten.take_along_dim without dim")
    return call.emit(
        "GatherElements", [call.value("self"), call.value("indices")], axis=call.axis("dim", call.rank("self"))
    )


@converter("embedding")
def embedding(call: Call) -> Result:
    """Look up rows; padding and scaling by frequency change gradients only."""
    for name in ("padding_idx", "scale_grad_by_freq", "sparse"):
        call.get(name)
    return call.emit("Gather", [call.value("weight"), call.value("indices")], axis=0)


@converter("index _unsafe_index")
def index(call: Call) -> Result:
    """``x[i]``, ``x[:, i]``, ``x[i, j]``, ``x[i, :, j]`` with integers in tensors."""
    x, rank = call.value("self"), call.rank("self")
    nodes = call.get("indices")
    at = [i for i, node in enumerate(nodes) if node is not None]
    fakes = [nodes[i].meta["val"] for i in at]
    if any(str(fake.dtype) in ("torch.bool", "torch.uint8") for fake in fakes):
        return by_mask(call, x, nodes)
    if not at:
        return x
    values = [call.of(nodes[i]) for i in at]
    if len(at) == 1:
        return call.emit("Gather", [x, values[0]], axis=at[0])
    order = [*at, *[axis for axis in range(rank) if axis not in at]]
    moved = call.transpose(x, order)
    total = len(call.result.shape)
    together = at == list(range(at[0], at[0] + len(at)))
    before = at[0] if together else 0  # what tensors apart from each other pick comes first
    result = call.result.shape[before : before + total - (rank - len(at))]
    parts = [call.unsqueeze(call.expand(call.cast(value, "int64"), result), len(result)) for value in values]
    picked = call.node("GatherND", [moved, call.node("Concat", parts, axis=len(result))])
    count = len(result)  # these come first; what was before them in x comes before them again
    return call.transpose(picked, [*range(count, count + before), *range(count), *range(count + before, total)])


@converter("repeat tile")
def repeat(call: Call) -> Result:
    x = call.value("self")
    counts = call.get("repeats" if call.has("repeats") else "dims")
    rank = call.rank("self")
    if len(counts) < rank:
        counts = [*[1] * (rank - len(counts)), *counts]
    if len(counts) > rank:
        x = call.unsqueeze(x, *range(len(counts) - rank))
    if all(isinstance(count, int) and count == 1 for count in counts):
        return x
    return call.emit("Tile", [x, call.shape(counts)])


@converter("repeat_interleave")
def repeat_interleave(call: Call) -> Result:
    """Each element so many times, one after the other."""
    times, dim = call.get("repeats"), call.get("dim")
    call.get("output_size")
    known = call.tensor("repeats")
    if known is not None and dim is not None:
        axis, counts = dim % call.rank("self"), known.numpy().reshape(-1)
        size = call.fake("self").shape[axis]
        if isinstance(size, int):
            places = np.repeat(np.arange(size, dtype=np.int64), counts)
            return call.emit("Gather", [call.value("self"), call.constant(places)], axis=axis)
    if not isinstance(times, int) and not is_symbolic(times):
        raise Unsupported("aten.repeat_interleave with a number for each element")
    x, sizes = call.value("self"), list(call.fake("self").shape)
    if dim is None:
        raise Unsupported("aten.repeat_interleave without dim")
    axis = dim % len(sizes)
    wide = call.expand(call.unsqueeze(x, axis + 1), [*sizes[: axis + 1], times, *sizes[axis + 1 :]])
    return call.reshape(wide, call.result.shape)


@converter("flip")
def flip(call: Call) -> Result:
    rank = call.rank("self")
    axes = [axis % rank for axis in call.fixed("dims")]
    if not axes:
        return call.value("self")
    count = len(axes)
    parts = ([-1] * count, [-(2**63) + 1] * count, axes, [-1] * count)
    return call.emit("Slice", [call.value("self"), *(call.axes(part) for part in parts)])


@converter("roll")
def roll(call: Call) -> Result:
    x, shifts, dims = call.value("self"), call.fixed("shifts"), call.fixed("dims")
    if not dims:
        raise Unsupported("aten.roll without dims")
    for shift, dim in zip(shifts, dims, strict=True):
        axes, step = call.axes([dim % call.rank("self")]), call.axes([1])
        head = call.node("Slice", [x, call.axes([-shift]), call.axes([_END]), axes, step])
        tail = call.node("Slice", [x, call.axes([0]), call.axes([-shift]), axes, step])
        size = call.fake("self").shape[dim]
        if not isinstance(size, int) or abs(shift) >= size:
            raise Unsupported("aten.roll along an open size")
        x = call.node("Concat", [head, tail], axis=dim % call.rank("self"))
    return x


@converter("select_scatter slice_scatter")
def scatter(call: Call) -> Result:
    """A part of a tensor that is written over: what comes before it, it, and what comes behind."""
    x, source, rank = call.value("self"), call.operand("src", call.dtype), call.rank("self")
    axis = call.axis("dim", rank)
    size = call.fake("self").shape[axis]
    if call.has("index"):
        start: Any = call.get("index")
        start = start + size if isinstance(start, int) and start < 0 else start
        end: Any = start + 1
        source = call.unsqueeze(source, axis)
    else:
        call.only("step", 1)
        start, end = call.get("start") or 0, call.get("end")
        length = call.fake("src").shape[axis]
        if isinstance(start, int) and start < 0:
            start = start + size
        end = start + length
    parts = []
    if not (isinstance(start, int) and start == 0):
        parts.append(call.node("Slice", [x, call.axes([0]), call.vector(start), call.axes([axis]), call.axes([1])]))
    parts.append(source)
    if call.dims([end]) != call.dims([size]):
        limits = [call.vector(end), call.axes([_END]), call.axes([axis]), call.axes([1])]
        parts.append(call.node("Slice", [x, *limits]))
    return source if len(parts) == 1 else call.emit("Concat", parts, axis=axis)


@converter("copy")
def copy(call: Call) -> Result:
    """The source in the shape and dtype of what it is written to."""
    call.get("self")
    return call.expand(call.operand("src", call.dtype), call.result.shape)


@converter("pad constant_pad_nd")
def pad(call: Call) -> Result:
    modes = {"constant": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}
    mode = call.fixed("mode") if call.has("mode") else "constant"
    if mode not in modes:
        raise Unsupported(f"aten.pad with mode {mode!r}")
    return _pad(call, modes[mode])


@converter("reflection_pad1d reflection_pad2d replication_pad1d replication_pad2d")
def edges(call: Call) -> Result:
    return _pad(call, "reflect" if "reflection" in call.op else "edge")


def _pad(call: Call, mode: str) -> Result:
    """torch's pads count from the last axis, two for each."""
    x, pads, rank = call.value("self"), call.get("pad" if call.has("pad") else "padding"), call.rank("self")
    number = call.get("value") if call.has("value") else None
    count = len(pads) // 2
    axes = [rank - 1 - i for i in range(count)]
    operands = [call.shape([*pads[0::2], *pads[1::2]])]
    operands.append(call.constant(np.array(0 if number is None else number).astype(x.dtype)))
    return call.emit("Pad", [x, *operands, call.axes(axes)], mode=mode)


@converter("pixel_shuffle pixel_unshuffle")
def pixel_shuffle(call: Call) -> Result:
    if call.rank("self") != 4:
        raise Unsupported(f"{call.op} of {call.rank('self')} dimensions")
    if call.op == "aten.pixel_shuffle":
        return call.emit("DepthToSpace", [call.value("self")], blocksize=call.fixed("upscale_factor"), mode="CRD")
    batch, channels, *sizes = call.fake("self").shape
    block = call.fixed("downscale_factor")
    parts = [part for size in sizes for part in (size // block, block)]
    x = call.reshape(call.value("self"), [batch, channels, *parts])
    return call.reshape(call.transpose(x, (0, 1, 3, 5, 2, 4)), call.result.shape)


@converter("diagonal")
def diagonal(call: Call) -> Result:
    """The diagonal of two axes becomes the last axis."""
    x, rank, offset = call.value("self"), call.rank("self"), call.fixed("offset")
    axes = [call.fixed(name) % rank for name in ("dim1", "dim2")]
    rest = [axis for axis in range(rank) if axis not in axes]
    count = call.result.shape[-1]
    if not isinstance(count, int):
        raise Unsupported(f"{call.op} of open sizes")
    steps = np.arange(count, dtype=np.int64)[:, None] + [max(-offset, 0), max(offset, 0)]
    picked = call.node("GatherND", [call.transpose(x, [*axes, *rest]), call.constant(steps)])
    return call.transpose(picked, [*range(1, rank - 1), 0])
