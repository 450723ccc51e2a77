"""Other shapes of the same elements."""

from __future__ import annotations

from typing import Any

from ..call import Call, Result, converter


@converter("view reshape _unsafe_view flatten unflatten view_as reshape_as _reshape_alias view_copy")
def reshape(call: Call) -> Result:
    """torch has told the shape of the result already."""
    for name in ("size", "shape", "start_dim", "end_dim", "sizes", "dim", "other", "stride", "dtype"):
        call.get(name)
    return call.reshape(call.value("self"), call.result.shape, last=True)


@converter("squeeze squeeze_copy")
def squeeze(call: Call) -> Result:
    x, shape, rank = call.value("self"), call.fake("self").shape, call.rank("self")
    dims = call.fixed("dim", list(range(rank)))
    axes = sorted({axis % max(rank, 1) for axis in (dims if isinstance(dims, list) else [dims])})
    axes = [axis for axis in axes if axis < rank and isinstance(shape[axis], int) and shape[axis] == 1]
    return call.emit("Squeeze", [x, call.axes(axes)]) if axes else x


@converter("unsqueeze unsqueeze_copy")
def unsqueeze(call: Call) -> Result:
    return call.emit("Unsqueeze", [call.value("self"), call.axes([call.axis("dim", call.rank("self") + 1)])])


@converter("permute permute_copy")
def permute(call: Call) -> Result:
    rank = call.rank("self")
    return _transpose(call, [axis % rank for axis in call.fixed("dims")])


@converter("transpose transpose_copy swapaxes swapdims")
def transpose(call: Call) -> Result:
    rank = call.rank("self")
    names = ("axis0", "axis1") if call.has("axis0") else ("dim0", "dim1")
    a, b = (call.axis(name, rank) for name in names)
    perm = list(range(rank))
    if rank:
        perm[a], perm[b] = perm[b], perm[a]
    return _transpose(call, perm)


@converter("t t_copy numpy_T matrix_H mT adjoint")
def transposed(call: Call) -> Result:
    rank = call.rank("self")
    perm = list(range(rank))
    if call.op == "aten.numpy_T":
        return _transpose(call, perm[::-1])
    return _transpose(call, [*perm[:-2], *perm[-2:][::-1]])


@converter("movedim moveaxis")
def movedim(call: Call) -> Result:
    rank = call.rank("self")
    source, target = (_ints(call.fixed(name), rank) for name in ("source", "destination"))
    rest = iter([axis for axis in range(rank) if axis not in source])
    return _transpose(call, [source[target.index(i)] if i in target else next(rest) for i in range(rank)])


def _ints(axes: Any, rank: int) -> list[int]:
    return [int(axis) % rank for axis in (axes if isinstance(axes, list) else [axes])]


def _transpose(call: Call, perm: list[int]) -> Result:
    x = call.value("self")
    return x if perm == list(range(len(perm))) else call.emit("Transpose", [x], perm=perm)


@converter("expand expand_as broadcast_to expand_copy")
def expand(call: Call) -> Result:
    for name in ("size", "other"):
        call.get(name)
    return call.expand(call.value("self"), call.result.shape, last=True)
