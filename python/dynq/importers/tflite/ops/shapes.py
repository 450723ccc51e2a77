"""Ops that move elements, or look at them in another shape."""

from __future__ import annotations

import numpy as np

from ....conversion import Unsupported
from ....graph import Value
from ....ir.values import Shape
from ..convert import Call, Result, converter
from ..layout import Planes, planes_axis, planes_perm
from ..together import like, together
from . import fourier


@converter("RESHAPE", "ReshapeOptions")
def reshape(call: Call) -> Result:
    """x, shape?: the shape of the options counts if there is no input."""
    if call.is_complex(0):
        return fourier.reshaped(call)
    wanted: Shape = call.dims(1) if call.has(1) else tuple(call.option_list("NewShape") or [])
    if wanted == (0,) and not call.output().shape:
        wanted = ()  # an old way to write the shape of a number
    if call.in_planes(0) and (kept := _of_planes(call.planes(0), wanted)) is not None:
        return Planes(call.node("Reshape", [call.planes(0), call.integers(kept)]))
    sizes = [size for size in wanted if isinstance(size, int)]
    if len(sizes) < len(wanted) or (call.has(1) and call.array(1) is None):
        return call.node("Reshape", [call.value(0), call.long(1)], allowzero=1)
    return call.node("Reshape", [call.value(0), call.integers(sizes)], allowzero=int(0 in sizes and -1 not in sizes))


def _of_planes(x: Value, wanted: Shape) -> list[int] | None:
    """Return the sizes for planes if only sizes of 1 come and go between the batch and the channels."""
    shape = x.shape
    if shape is None or len(wanted) < 3 or wanted[0] not in (-1, shape[0]) or wanted[-1] != shape[1]:
        return None
    sizes, inner = (tuple(dim for dim in dims if dim != 1) for dims in (shape[2:], wanted[1:-1]))
    channels, between = wanted[-1], [dim for dim in wanted[1:-1] if isinstance(dim, int) and dim > 0]
    if sizes != inner or len(between) < len(wanted) - 2 or not isinstance(channels, int) or channels < 1:
        return None
    return [-1 if wanted[0] == -1 else 0, channels, *between]


@converter("SQUEEZE", "SqueezeOptions")
def squeeze(call: Call) -> Result:
    rank = call.rank(0) - call.is_complex(0)
    axes = sorted({call.axis(axis, rank) for axis in call.option_list("SqueezeDims") or []})
    if not axes:
        sizes = call.sizes(call.value(0))
        axes = [i for i, size in enumerate(sizes) if size == 1]
    if call.in_planes(0) and rank > 3 and axes and set(axes) <= set(range(1, rank - 1)) and rank - len(axes) >= 3:
        return Planes(call.node("Squeeze", [call.planes(0), call.integers([axis + 1 for axis in axes])]))
    return (
        call.node("Squeeze", [call.value(0), call.integers(axes)]) if axes else call.node("Identity", [call.value(0)])
    )


@converter("EXPAND_DIMS")
def expand_dims(call: Call) -> Result:
    """x, axis"""
    axes, rank = call.numbers(1, "axis"), call.rank(0) + 1
    if len(axes) != 1:
        raise ValueError(f"its axis is {axes}")
    axis = call.axis(axes[0], rank)
    if call.in_planes(0) and 1 <= axis < rank - 1:
        return Planes(call.node("Unsqueeze", [call.planes(0), call.integers([axis + 1])]))
    return call.node("Unsqueeze", [call.value(0), call.integers([axis])])


@converter("TRANSPOSE")
def transpose(call: Call) -> Result:
    """x, perm"""
    rank = call.rank(0)
    perm = [call.axis(axis, rank) for axis in call.numbers(1, "permutation")]
    if sorted(perm) != list(range(rank)):
        raise ValueError(f"its permutation is {perm}")
    if rank >= 3 and perm == planes_perm(rank):  # from channels last to channels first
        return call.node("Identity", [call.planes(0)])
    if rank >= 3 and [perm[axis] for axis in planes_perm(rank)] == list(range(rank)):  # and back
        return Planes(call.node("Identity", [call.value(0)]))
    return call.node("Transpose", [call.value(0)], perm=perm)


@converter("CONCATENATION", "ConcatenationOptions")
def concatenation(call: Call) -> Result:
    if call.count == 0:
        raise ValueError("it has no inputs")
    ranks = {call.rank(i) for i in range(call.count)}
    if len(ranks) != 1:
        raise ValueError(f"parts of {sorted(ranks)} dimensions")
    values, planes = together(call, range(call.count))
    axis = call.axis(call.option("Axis"), *ranks)
    axis = planes_axis(axis, *ranks) if planes else axis
    return like(call.activated(call.node("Concat", values, axis=axis)), planes)


@converter("PACK", "PackOptions")
def pack(call: Call) -> Result:
    if call.count == 0:
        raise ValueError("it has no inputs")
    axis = call.axis(call.option("Axis"), call.rank(0) + 1)
    parts = [call.node("Unsqueeze", [call.value(i), call.integers([axis])]) for i in range(call.count)]
    return call.node("Concat", parts, axis=axis)


@converter("UNPACK", "UnpackOptions")
def unpack(call: Call) -> Result:
    axis, count = call.axis(call.option("Axis"), call.rank(0)), len(call.operator.outputs)
    if call.option("Num", count) != count:
        raise ValueError(f"{count} outputs of {call.option('Num')} parts")
    x = call.value(0)
    parts = call.nodes("Split", [x, call.integers([1] * count)], count, axis=axis)
    return [call.node("Squeeze", [part, call.integers([axis])]) for part in parts]


@converter("SPLIT", "SplitOptions")
def split(call: Call) -> Result:
    """axis, x"""
    count = len(call.operator.outputs)
    if call.option("NumSplits", count) != count or count == 0:
        raise ValueError(f"{count} outputs of {call.option('NumSplits')} parts")
    return _split(call, 1, 0, None)


@converter("SPLIT_V", "SplitVOptions")
def split_v(call: Call) -> Result:
    """x, sizes, axis"""
    return _split(call, 0, 2, call.numbers(1, "sizes"))


def _split(call: Call, index: int, at: int, sizes: list[int] | None) -> Result:
    (axis,), rank, count = call.numbers(at, "axis"), call.rank(index), len(call.operator.outputs)
    (x,), planes = together(call, [index])
    axis = call.axis(axis, rank)
    axis = planes_axis(axis, rank) if planes else axis
    size = None if x.shape is None else x.shape[axis]
    if sizes is None:
        if not isinstance(size, int):
            raise Unsupported(f"{call.op} of a size that is open")
        if size % count:
            raise ValueError(f"{size} does not have {count} equal parts")
        sizes = [size // count] * count
    if -1 in sizes:
        if not isinstance(size, int) or sizes.count(-1) > 1:
            raise Unsupported(f"{call.op} into sizes that are open")
        sizes = [size - sum(sizes) - 1 if part == -1 else part for part in sizes]
    if len(sizes) != count:
        raise ValueError(f"{count} outputs of {len(sizes)} parts")
    if count == 1:
        return [like(call.node("Identity", [x]), planes)]
    parts = call.nodes("Split", [x, call.integers(sizes)], count, axis=axis)
    return [like(part, planes) for part in parts]


@converter("PAD PADV2 MIRROR_PAD")
def pad(call: Call) -> Result:
    """x, paddings (rank, 2), value?"""
    rank, array = call.rank(0), call.array(1)
    if array is None:
        pads = call.node("Reshape", [call.node("Transpose", [call.long(1)], perm=[1, 0]), call.integers([-1])])
        x, planes = call.value(0), False
    else:
        if array.shape != (rank, 2):
            raise ValueError(f"paddings of shape {array.shape} for {rank} dimensions")
        (x,), planes = together(call, [0])
        order = planes_perm(rank) if planes else list(range(rank))
        pads = call.number(array[order].T.reshape(-1), np.int64)
    if call.op == "MIRROR_PAD":
        if call.option("Mode") not in (0, 1):
            raise ValueError(f"mode {call.option('Mode')}")
        if call.option("Mode") == 1:
            return like(_symmetric(call, x, array, planes, rank), planes)
        return like(call.node("Pad", [x, pads], mode="reflect"), planes)
    return like(call.node("Pad", [x, pads, call.value(2)] if call.has(2) else [x, pads]), planes)


def _symmetric(call: Call, x: Value, array: np.ndarray | None, planes: bool, rank: int) -> Value:
    """Pad with a mirror that repeats the border: the parts at both ends, turned around."""
    if array is None:
        raise Unsupported("MIRROR_PAD by paddings that are computed")
    for i, (before, after) in enumerate(array.tolist()):
        axis = planes_axis(i, rank) if planes else i
        parts = []
        if before:
            parts.append(_slice(call, x, before - 1, -(2**31), axis, -1))
        parts.append(x)
        if after:
            parts.append(_slice(call, x, -1, -after - 1, axis, -1))
        x = call.node("Concat", parts, axis=axis) if len(parts) > 1 else x
    return x if array.any() else call.node("Identity", [x])


def _slice(call: Call, x: Value, begin: int, end: int, axis: int, step: int) -> Value:
    return call.node("Slice", [x, *(call.integers([number]) for number in (begin, end, axis, step))])


@converter("REVERSE_V2")
def reverse(call: Call) -> Result:
    """x, axes"""
    axes = [call.axis(axis, call.rank(0)) for axis in call.numbers(1, "axes")]
    if not axes:
        return call.node("Identity", [call.value(0)])
    count = len(axes)
    parts = [call.integers(part) for part in ([-1] * count, [-(2**63) + 1] * count, axes, [-1] * count)]
    return call.node("Slice", [call.value(0), *parts])


@converter("REVERSE_SEQUENCE", "ReverseSequenceOptions")
def reverse_sequence(call: Call) -> Result:
    """x, lengths"""
    rank = call.rank(0)
    axes = [call.axis(call.option(name), rank) for name in ("SeqDim", "BatchDim")]
    if sorted(axes) != [0, 1]:
        raise Unsupported(f"REVERSE_SEQUENCE of the axes {axes}")
    return call.node("ReverseSequence", [call.value(0), call.long(1)], time_axis=axes[0], batch_axis=axes[1])
