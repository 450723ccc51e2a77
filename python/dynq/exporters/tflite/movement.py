"""Write ops that move elements, look at them in another shape, or make them of nothing."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...conversion import Unsupported
from ...ir.elements import elements
from ...ir.values import Dim, axis_of
from .draft import KINDS, OPEN, Edge, Place, last_dims, last_perm
from .windows import pad as pad_edge

__all__ = [
    "concat", "constant_of_shape", "expand", "gather", "gather_nd", "identity", "one_hot", "pad", "range_", "reshape",
    "reverse_sequence", "shape", "size", "slice_", "split", "tile", "transpose",
]  # fmt: skip

_LARGEST = 2**31 - 1


def identity(place: Place) -> None:
    """Write nothing: the result is the input, in whatever form it is."""
    value = place.value(0)
    last = place.draft.is_last(value)
    place.gives(place.draft.last(value) if last else place.draft.plain(value), last=last)


def transpose(place: Place) -> None:
    """Write TRANSPOSE, or nothing if it only changes between the two forms of an image."""
    rank = len(place.shape(0))
    perm = [axis_of(axis, rank) for axis in place.numbers("perm", list(range(rank))[::-1])]
    if rank >= 3 and [last_perm(rank)[i] for i in perm] == list(range(rank)):  # to channels first
        place.gives(place.plain(0), last=True)
    elif rank >= 3 and perm == last_perm(rank):
        place.gives(place.last(0))
    else:
        x = place.plain(0)
        dims = tuple(x.dims[i] for i in perm)
        place.gives(place.op("TRANSPOSE", [x, place.ints(perm)], dims, options="TransposeOptions"))


def reshape(place: Place) -> None:
    """Write Reshape, Flatten, Squeeze and Unsqueeze, all as RESHAPE."""
    value, out = place.value(0), place.out_dims()
    have = tuple(dim if isinstance(dim, int) else OPEN for dim in place.shape(0))
    if len(have) == len(out) >= 3 and OPEN not in have[1:]:  # a change of form that moves no element
        if out == last_dims(have) and (set(have[2:]) == {1} or have[1] == 1):
            place.gives(place.draft.last(value))
            return
        if last_dims(out) == have and (set(have[1:-1]) == {1} or have[-1] == 1):
            place.gives(place.plain(0), last=True)
            return
    x = place.plain(0)
    if out.count(OPEN) <= 1:
        place.gives(place.reshaped(x, out))
        return
    if place.node.op in ("Squeeze", "Unsqueeze") and place.node.input("axes") is not None:
        place.gives(_of_axes(place, x, len(out)))
        return
    sizes = place.out().shape or ()
    wanted = place.node.input("shape") if place.node.op == "Reshape" else None
    if wanted is None or wanted.array is not None or all(isinstance(dim, (int, str)) for dim in sizes):
        place.gives(place.reshaped(x, out, place.draft.sizes(sizes, f"{place.node.name}/shape")))
        return
    known = elements(wanted)
    if known is None or 0 in known:
        raise Unsupported("Reshape to sizes that are computed")
    place.gives(place.reshaped(x, out, place.cast(place.draft.plain(wanted), "int32")))


def _of_axes(place: Place, x: Edge, rank: int) -> Edge:
    """Write SQUEEZE or EXPAND_DIMS, which ask for no sizes."""
    squeezes = place.node.op == "Squeeze"
    given = place.known("axes", "axes").reshape(-1).tolist()
    axes = sorted(axis_of(axis, len(x.dims) if squeezes else rank) for axis in given)
    if squeezes:
        return place.squeezed(x, axes)
    for axis in axes:
        x = place.expanded(x, axis)
    return x


def shape(place: Place) -> None:
    x, rank = place.plain(0), len(place.shape(0))
    start, end = place.integer("start", 0), place.integer("end", rank)
    y = place.op("SHAPE", [x], (rank,), "int64", options="ShapeOptions", OutType=KINDS["int64"])
    start, end = (min(max(i + rank if i < 0 else i, 0), rank) for i in (start, end))
    if (start, end) != (0, rank):
        y = place.op("SLICE", [y, place.ints([start]), place.ints([max(end - start, 0)])], (max(end - start, 0),),
                     options="SliceOptions")  # fmt: skip
    place.gives(y)


def size(place: Place) -> None:
    x = place.plain(0)
    shape = place.op("SHAPE", [x], (len(x.dims),), "int64", options="ShapeOptions", OutType=KINDS["int64"])
    place.gives(place.op("REDUCE_PROD", [shape, place.ints([0])], (), options="ReducerOptions"))


def concat(place: Place) -> None:
    edges, last = place.together(list(range(len(place.node.inputs))))
    rank = len(place.shape(0))
    axis = axis_of(place.integer("axis", 0), rank)
    axis = last_perm(rank).index(axis) if last else axis
    y = place.op("CONCATENATION", edges, place.result_dims(last), options="ConcatenationOptions", Axis=axis)
    place.gives(y, last=last)


def split(place: Place) -> None:
    """Write SPLIT_V. Outputs that nobody reads are there too."""
    (x,), last = place.together([0])
    rank, node = len(x.dims), place.node
    axis = axis_of(place.integer("axis", 0), rank)
    axis = last_perm(rank).index(axis) if last else axis
    given, whole = node.array("split"), x.dims[axis]
    if given is not None:
        sizes = given.reshape(-1).tolist()
    elif node.input("split") is not None or whole == OPEN:
        raise Unsupported("Split into sizes that are computed")
    else:
        count = place.integer("num_outputs", len(node.outputs))
        part = -(-whole // count)
        sizes = [min(part, whole - i * part) for i in range(count)]
    kinds = [(x.dtype, (*x.dims[:axis], size, *x.dims[axis + 1 :])) for size in sizes]
    parts = place.ops(
        "SPLIT_V", [x, place.ints(sizes), place.scalar(axis, "int32")], kinds, version=2, options="SplitVOptions",
        NumSplits=len(sizes),
    )  # fmt: skip
    place.gives(*parts, last=last)


def slice_(place: Place) -> None:
    """Write STRIDED_SLICE over all axes; an end beyond the last element is a bit of its mask."""
    (x,), last = place.together([0])
    rank = len(x.dims)
    starts, ends = (_bounds(place, name) for name in ("starts", "ends"))
    axes = list(range(len(starts))) if place.node.input("axes") is None else place.known("axes", "axes").tolist()
    steps = [1] * len(starts) if place.node.input("steps") is None else place.known("steps", "steps").tolist()
    strides = [1] * rank
    whole: dict[str, set[int]] = {"begin": set(range(rank)), "end": set(range(rank))}
    begin: list[Dim] = [0] * rank
    end: list[Dim] = [0] * rank
    for start, stop, axis, step in zip(starts, ends, axes, steps, strict=True):
        axis = axis_of(axis, rank)
        i = last_perm(rank).index(axis) if last else axis
        strides[i] = step
        if not _is_open(start, step < 0):
            begin[i] = start
            whole["begin"].remove(i)
        size = x.dims[i]
        before_all = isinstance(stop, int) and step < 0 and size != OPEN and stop < -size
        if not before_all and not _is_open(stop, step > 0):
            end[i] = stop
            whole["end"].remove(i)
    vectors = [place.draft.sizes(part, f"{place.node.name}/{name}") for name, part in (("begin", begin), ("end", end))]
    masks = {name: sum(1 << i for i in axes) for name, axes in whole.items()}
    y = place.op(
        "STRIDED_SLICE", [x, *vectors, place.ints(strides)], place.result_dims(last), options="StridedSliceOptions",
        BeginMask=masks["begin"], EndMask=masks["end"],
    )  # fmt: skip
    place.gives(y, last=last)


def _bounds(place: Place, name: str) -> Sequence[Dim]:
    """Return the numbers of the bounds of a Slice; of those that a run computes, names of sizes."""
    known = elements(place.value(name))
    if known is None:
        raise Unsupported("Slice whose bounds are computed")
    return known


def _is_open(bound: Dim, at_end: bool) -> bool:
    """Return whether a bound lies beyond all elements: at the end, or else at the begin."""
    if not isinstance(bound, int) or abs(bound) < _LARGEST:
        return False
    if (bound > 0) != at_end:
        raise Unsupported("Slice of nothing")
    return True


def pad(place: Place) -> None:
    """Write PAD, PADV2 and MIRROR_PAD."""
    (x,), last = place.together([0])
    rank, mode = len(x.dims), place.text("mode", "constant")
    pads = place.known("pads", "paddings").reshape(-1).tolist()
    axes = list(range(rank)) if place.node.input("axes") is None else place.known("axes", "axes").tolist()
    if min(pads, default=0) < 0:
        raise Unsupported("Pad that cuts off")
    around = [(0, 0)] * rank
    for i, axis in enumerate(axes):
        axis = axis_of(axis, rank)
        around[last_perm(rank).index(axis) if last else axis] = pads[i], pads[i + len(axes)]
    if mode == "constant":
        value = place.node.input("constant_value")
        number = 0 if value is None else place.known("constant_value", "numbers").reshape(-1)[0].item()
        place.gives(pad_edge(place, x, around, number), last=last)
    elif mode == "reflect":
        paddings = place.draft.array(np.array(around, np.int32), f"{place.node.name}/pads")
        y = place.op("MIRROR_PAD", [x, paddings], place.result_dims(last), options="MirrorPadOptions", Mode=0)
        place.gives(y, last=last)
    else:
        raise Unsupported(f"Pad in mode {mode}")


def expand(place: Place) -> None:
    x, out = place.plain(0), place.out()
    if out.shape is None:
        raise Unsupported("Expand to sizes that are computed")
    if x.dtype == "bool" and len(out.shape) > 4:
        raise Unsupported("Expand of bool to more than 4 dimensions")
    shape = place.draft.sizes(out.shape, f"{place.node.name}/shape")
    place.gives(place.op("BROADCAST_TO", [x, shape], place.out_dims(), version=2, options="BroadcastToOptions"))


def tile(place: Place) -> None:
    x, repeats = place.plain(0), place.known("repeats", "counts").reshape(-1).tolist()
    place.gives(place.op("TILE", [x, place.ints(repeats)], place.out_dims(), options="TileOptions"))


def gather(place: Place) -> None:
    """Write GATHER, which counts from the first element alone."""
    x, rank = place.plain(0), len(place.shape(0))
    axis = axis_of(place.integer("axis", 0), rank)
    array, size = place.node.array("indices"), x.dims[axis]
    indices = place.plain(1)
    if array is not None and (array < 0).any():
        if size == OPEN:
            raise Unsupported("Gather from the end of a size that is open")
        indices = place.draft.array(np.where(array < 0, array + size, array), f"{place.node.name}/indices")
    place.gives(place.op("GATHER", [x, indices], place.out_dims(), options="GatherOptions", Axis=axis))


def gather_nd(place: Place) -> None:
    if place.integer("batch_dims", 0):
        raise Unsupported("GatherND with batch_dims")
    place.gives(place.op("GATHER_ND", [place.plain(0), place.plain(1)], place.out_dims(), options="GatherNdOptions"))


def one_hot(place: Place) -> None:
    depth, values = int(place.known("depth", "depths").reshape(-1)[0]), place.known("values", "values")
    indices = place.cast(place.plain("indices"), "int32")
    rank = len(indices.dims) + 1
    axis = axis_of(place.integer("axis", -1), rank)
    dims = (*indices.dims[:axis], depth, *indices.dims[axis:])
    numbers = [place.scalar(values[i], values.dtype.name) for i in (1, 0)]
    place.gives(place.op("ONE_HOT", [indices, place.scalar(depth, "int32"), *numbers], dims, values.dtype.name,
                         options="OneHotOptions", Axis=-1 if axis == rank - 1 else axis))  # fmt: skip


def range_(place: Place) -> None:
    numbers = [place.node.array(name) for name in ("start", "limit", "delta")]
    if all(number is not None for number in numbers):
        made = np.arange(*(number.reshape(-1)[0] for number in numbers if number is not None))
        if made.size == 0:
            raise Unsupported("Range without elements")
        place.gives(place.draft.array(made.astype(place.out().dtype or made.dtype), place.node.name))
        return
    edges = [place.plain(name) for name in ("start", "limit", "delta")]
    edges = [_number(place, edge) for edge in edges]
    version = 2 if edges[0].dtype == "int64" else 1
    place.gives(place.op("RANGE", edges, place.out_dims(), version=version, options="RangeOptions"))


def _number(place: Place, edge: Edge) -> Edge:
    return edge if edge.dims == () else place.reshaped(edge, ())


def constant_of_shape(place: Place) -> None:
    out, value = place.out(), place.node.input("value")
    if out.shape is None:
        raise Unsupported("ConstantOfShape of sizes that are computed")
    number = np.zeros((), np.float32) if value is None else place.known("value", "numbers").reshape(-1)[0]
    shape = place.draft.sizes(out.shape, f"{place.node.name}/shape")
    fill = place.scalar(number, np.asarray(number).dtype.name)
    place.gives(place.op("FILL", [shape, fill], place.out_dims(), fill.dtype, options="FillOptions"))


def reverse_sequence(place: Place) -> None:
    x, lengths = place.plain(0), place.plain(1)
    place.gives(
        place.op("REVERSE_SEQUENCE", [x, lengths], x.dims, options="ReverseSequenceOptions",
                 SeqDim=place.integer("time_axis", 0), BatchDim=place.integer("batch_axis", 1))
    )  # fmt: skip
