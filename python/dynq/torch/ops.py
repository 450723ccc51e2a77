"""The operators ``torch.ops.dynq.*``: what the modules call, and what torch.compile and torch.export keep in a graph.

    linear(x, packed, bias, n, first=0, count=-1)     x (..., K) float32 -> (..., count) float32

Each runs on the CPU without a copy between torch and dynq, with at most torch.get_num_threads() threads of dynq's own
pool; none has a gradient. ``packed`` is a weight of ``n`` channels as dynq.torch packs it, of which linear takes
``count`` from ``first`` on.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .._call import NONFINITE, OK, check, lib
from ._packed import handle
from ._threads import use_openmp

__all__ = ["linear"]

_float32 = torch.float32
_empty = torch.empty
_threads = torch.get_num_threads
_call = lib.torch_linear

use_openmp()
_library = torch.library.Library("dynq", "DEF")


def linear(x: Tensor, packed: Tensor, bias: Tensor | None, n: int, first: int = 0, count: int = -1) -> Tensor:
    """``x @ w.T + bias`` with ``x`` quantized to 8 bits as it comes: dynq.linear on tensors that the CPU has.

    Args:
        x: float32 (..., K).
        packed: a weight (n, K), whose channels from ``first`` on, ``count`` of them (-1: all), are taken.
        bias: float32 (count,).
    """
    shape = x.shape
    y = _empty((*shape[:-1], n - first if count < 0 else count), dtype=_float32)
    return _linear_into(x, packed, bias, n, first, count, y)


def _linear_out(
    x: Tensor, packed: Tensor, bias: Tensor | None, n: int, first: int = 0, count: int = -1, *, out: Tensor
) -> Tensor:
    shape = (*x.shape[:-1], n - first if count < 0 else count)
    if out.dtype != _float32 or out.shape != shape or not out.is_contiguous():
        raise ValueError(f"out is {out.dtype} {tuple(out.shape)}; expected contiguous float32 {shape}")
    return _linear_into(x, packed, bias, n, first, count, out)


def _linear_into(x: Tensor, packed: Tensor, bias: Tensor | None, n: int, first: int, count: int, y: Tensor) -> Tensor:
    if x.dtype is not _float32 or (bias is not None and bias.dtype is not _float32):
        raise TypeError(f"x is {x.dtype} and bias {None if bias is None else bias.dtype}; expected float32")
    if not x.is_contiguous():
        x = x.contiguous()
    k = x.shape[-1]
    weight = handle(packed, n, k, first, count)
    m = x.numel() // k if k else y.numel() // max(y.shape[-1], 1)
    status = _call(weight, _threads(), m, x.data_ptr(), 0 if bias is None else bias.data_ptr(), y.data_ptr())
    if status != OK and status != NONFINITE:
        check(status)
    return y


def _linear_fake(x: Tensor, packed: Tensor, bias: Tensor | None, n: int, first: int = 0, count: int = -1) -> Tensor:
    return x.new_empty((*x.shape[:-1], n - first if count < 0 else count))


def _below_autograd(operator: Any) -> Any:
    """Without a gradient, and so without the warning that one is missing."""

    def call(*arguments: Any, **keywords: Any) -> Any:
        with torch._C._AutoDispatchBelowAutograd():
            return operator(*arguments, **keywords)

    return call


def _define(schema: str, function: Any, fake: Any) -> None:
    name = schema.partition("(")[0]
    _library.define(schema)
    _library.impl(name, function, "CPU")
    packet, _, overload = name.partition(".")
    operator = getattr(getattr(torch.ops.dynq, packet), overload or "default")
    _library.impl(name, _below_autograd(operator), "Autograd")
    torch.library.register_fake(f"dynq::{name}", fake, lib=_library)


_LINEAR = "Tensor x, Tensor packed, Tensor? bias, int n, int first=0, int count=-1"
_define(f"linear({_LINEAR}) -> Tensor", linear, _linear_fake)
_define(f"linear.out({_LINEAR}, *, Tensor(a!) out) -> Tensor(a!)", _linear_out, lambda *arguments, out: out)
