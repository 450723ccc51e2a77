"""Packed weights in tensors: one of bytes, which holds what a QuantizedWeight does, so that modules share and copy it
as they do any buffer.

Of a weight (N, K), with N16 and K4 the next multiples of 16 and of 4: the panels (N16 * K4 bytes of int8), the scales
(N16 of float32), the column sums (N16 of int32).
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..core.arguments import FLOAT32, INT32, Array
from ..core.call import NULL, check, ffi, lib
from ..weights import QuantizedWeight, packed_arrays, quantize_weight

__all__ = ["handle", "pack", "pack_integers", "packed_bytes", "panels", "quantize_rows", "scales", "unpack"]

_ELEMENTS_AT_ONCE = 1 << 20
_MOST_HANDLES = 4096
_ALIGNMENT = 64  # bytes
_copies: dict[int, tuple[weakref.ref[Tensor], int, Tensor]] = {}  # of weights that lie elsewhere, by address
_handles: dict[tuple[int, int, int, int, int], Any] = {}


def packed_bytes(n: int, k: int) -> int:
    """Bytes of the tensor of a weight (n, k)."""
    return _up(n, 16) * (_up(k, 4) + 8)


def pack(w: Tensor) -> Tensor:
    """Float (N, K), symmetric per channel: uint8 (packed_bytes(N, K),)."""
    return _in_pieces(w, lambda begin, end: quantize_weight(w[begin:end].detach().float().numpy()))


def pack_integers(w: Tensor, scale: Tensor) -> Tensor:
    """int8 (N, K) and float32 (N,) scales: uint8 (packed_bytes(N, K),)."""
    scale = scale.detach().float()
    return _in_pieces(
        w,
        lambda begin, end: QuantizedWeight.from_integers(w[begin:end].detach().numpy(), scale[begin:end].numpy()),
    )


def quantize_rows(w: Tensor) -> tuple[Tensor, Tensor]:
    """Float (N, K), symmetric per row: int8 (N, K) and float32 (N,), not packed."""
    n, k = w.shape
    rows, scale = torch.empty((n, k), dtype=torch.int8), torch.empty(n, dtype=torch.float32)
    for begin, end in _pieces(n, k):
        weight = quantize_weight(w[begin:end].detach().float().numpy())
        rows[begin:end] = torch.from_numpy(weight.integers())
        scale.numpy()[begin:end] = weight.scale
    return rows, scale


def unpack(packed: Tensor, n: int, k: int) -> tuple[Tensor, Tensor]:
    """int8 (n, k) and float32 (n,)."""
    integers = panels(packed, n, k).permute(0, 2, 1, 3).reshape(_up(n, 16), _up(k, 4))[:n, :k]
    return integers.contiguous(), scales(packed, n, k).clone()


def panels(packed: Tensor, n: int, k: int) -> Tensor:
    """A view, int8 (N16 / 16, K4 / 4, 16, 4): the panel layout."""
    return packed[: _up(n, 16) * _up(k, 4)].view(torch.int8).view(_up(n, 16) // 16, _up(k, 4) // 4, 16, 4)


def scales(packed: Tensor, n: int, k: int) -> Tensor:
    """A view, float32 (n,); a copy if the weight lies where float32 cannot."""
    begin = _up(n, 16) * _up(k, 4)
    part = packed[begin : begin + 4 * n]
    return (part.clone() if part.storage_offset() % 4 else part).view(torch.float32)


def handle(packed: Tensor, n: int, k: int, first: int = 0, count: int = -1) -> Any:
    """``dynq_weight *`` of ``count`` channels from ``first`` on, a multiple of 16; -1: of all that follow.

    It looks into ``packed`` and is good as long as that is alive and stays where it is. Handles are kept by address:
    one that was made for a tensor that is gone serves the next tensor at its place, since all that it knows are places.
    """
    key = (packed.data_ptr(), n, k, first, count)
    found = _handles.get(key)
    return _new_handle(packed, key) if found is None else found


def _new_handle(packed: Tensor, key: tuple[int, int, int, int, int]) -> Any:
    address, n, k, first, count = key
    if address % _ALIGNMENT:
        return handle(_aligned(packed), n, k, first, count)
    count = n - first if count < 0 else count
    if packed.dtype != torch.uint8 or not packed.is_contiguous() or packed.numel() != packed_bytes(n, k):
        raise ValueError(
            f"packed is {packed.dtype} {tuple(packed.shape)}; expected uint8 ({packed_bytes(n, k)},): "
            f"a weight of {n} channels and {k} inputs"
        )
    if first % 16 or not 0 <= first <= first + count <= n:
        raise ValueError(f"first is {first} and count {count}; expected channels of {n}, from a multiple of 16 on")
    data, rows = _up(n, 16) * _up(k, 4), _up(count, 16)
    info = ffi.new(
        "dynq_weight_info *",
        {
            "n": count, "k": k, "n_padded": rows, "data_bytes": rows * _up(k, 4),
            "data": ffi.cast("int8_t *", address + first * _up(k, 4)),
            "scale": ffi.cast("float *", address + data + 4 * first),
            "column_sum": ffi.cast("int32_t *", address + data + 4 * (_up(n, 16) + first)),
            "zero_point": NULL,
        },
    )  # fmt: skip
    result = ffi.new("dynq_weight **")
    check(lib.dynq_weight_view(info, result))
    if len(_handles) >= _MOST_HANDLES:
        _handles.clear()
    _handles[key] = ffi.gc(result[0], lib.dynq_weight_free)
    return _handles[key]


def _aligned(packed: Tensor) -> Tensor:
    """Return a copy where the kernels can read it; the same as long as ``packed`` is, and is not written to.

    Weights lie anywhere in a file that torch.load maps, and among the constants of AOTInductor.
    """
    address, version = packed.data_ptr(), -1 if packed.is_inference() else packed._version
    known = _copies.get(address)
    if known is not None and known[0]() is packed and known[1] == version:
        return known[2]
    memory = torch.empty(packed.numel() + _ALIGNMENT, dtype=torch.uint8)
    begin = -memory.data_ptr() % _ALIGNMENT
    result = memory[begin : begin + packed.numel()]
    result.copy_(packed.detach())

    def forget(gone: weakref.ref[Tensor]) -> None:
        if (entry := _copies.get(address)) is not None and entry[0] is gone:
            del _copies[address]

    _copies[address] = weakref.ref(packed, forget), version, result
    return result


def _in_pieces(w: Tensor, quantize: Callable[[int, int], QuantizedWeight]) -> Tensor:
    """Packed from what ``quantize`` makes of ranges of channels: no second copy of the whole is in memory."""
    n, k = w.shape
    packed = torch.empty(packed_bytes(n, k), dtype=torch.uint8)
    memory: Array = packed.numpy()
    data, rows, width = _up(n, 16) * _up(k, 4), _up(n, 16), _up(k, 4)
    scale = memory[data : data + 4 * rows].view(FLOAT32)
    column_sum = memory[data + 4 * rows :].view(INT32)
    for begin, end in _pieces(n, k):
        piece, up = quantize(begin, end), _up(end, 16)
        memory[begin * width : up * width], scale[begin:up], column_sum[begin:up] = (
            packed_arrays(piece)[0].view(np.uint8),
            *packed_arrays(piece)[1:3],
        )
    return packed


def _pieces(n: int, k: int) -> Iterator[tuple[int, int]]:
    step = _up(max(_ELEMENTS_AT_ONCE // max(k, 1), 1), 16)
    for begin in range(0, n, step):
        yield begin, min(begin + step, n)


def _up(n: int, to: int) -> int:
    return -(-n // to) * to
