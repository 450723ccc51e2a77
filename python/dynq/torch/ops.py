"""The operators ``torch.ops.dynq.*``: what the modules call, and what torch.compile and torch.export keep in a graph.

    - linear(x, packed, bias, n, first=0, count=-1) -> y
    - lstm(x, h, c, lengths, image, directions) -> y, h, c
    - gru(x, h, lengths, image, directions) -> y, h
    - rnn(x, h, lengths, image, directions) -> y, h
    - conv(x, image, channels, kernel, stride, pads, dilation) -> y

All take float32 on the CPU and run without a copy between torch and dynq on PyTorch's threads; none has a gradient.
``packed`` and ``image`` are tensors of bytes that the modules make: a packed weight, a small model.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..core.call import NONFINITE, OK, check, lib
from ._model import run_model
from ._packed import handle
from ._threads import use_openmp

__all__ = ["conv", "gru", "linear", "lstm", "rnn"]

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
    if x.is_neg() or not x.is_contiguous():
        x = x.resolve_neg().contiguous()
    k = x.shape[-1]
    weight = handle(packed, n, k, first, count)
    if bias is not None:
        if bias.shape != (n - first if count < 0 else count,):
            raise ValueError(f"bias has shape {tuple(bias.shape)}; expected {tuple(y.shape[-1:])}")
        if bias.is_neg() or not bias.is_contiguous():
            bias = bias.resolve_neg().contiguous()
    m = x.numel() // k if k else y.numel() // max(y.shape[-1], 1)
    status = _call(weight, _threads(), m, x.data_ptr(), 0 if bias is None else bias.data_ptr(), y.data_ptr())
    if status != OK and status != NONFINITE:
        check(status)
    return y


def _linear_fake(x: Tensor, packed: Tensor, bias: Tensor | None, n: int, first: int = 0, count: int = -1) -> Tensor:
    return x.new_empty((*x.shape[:-1], n - first if count < 0 else count))


def _recurrent(*inputs: Tensor | None, image: Tensor) -> tuple[Tensor, ...]:
    """Run a model of network_graph: the steps of each sequence come before the states."""
    return tuple(run_model(image, [x.contiguous() for x in inputs if x is not None]))


def lstm(x: Tensor, h: Tensor, c: Tensor, lengths: Tensor | None, image: Tensor, directions: int) -> tuple[Tensor, ...]:
    """The layers of an LSTM on (T, B, I), or (B, T, I) as ``image`` has it.

    Args:
        x: float32.
        h, c: (layers * directions, B, H); h has P columns if the states are projected to so many.
        lengths: int32 (B,), of an image that takes it.

    Returns:
        y, as ``x`` with ``directions`` times the columns of h at its end; the last h and c.
    """
    return _recurrent(x, lengths, h, c, image=image)


def gru(x: Tensor, h: Tensor, lengths: Tensor | None, image: Tensor, directions: int) -> tuple[Tensor, ...]:
    """Run the layers of a GRU or an RNN, like ``lstm`` without c."""
    return _recurrent(x, lengths, h, image=image)


rnn = gru


def _recurrent_fake(x: Tensor, h: Tensor, *rest: Any) -> tuple[Tensor, ...]:
    """``rest`` ends with the number of directions; before lengths and image stands c, where there is one."""
    y = x.new_empty((*x.shape[:2], rest[-1] * h.shape[-1]))
    return (y, *(torch.empty_like(state) for state in (h, *rest[:-3])))


def conv(
    x: Tensor,
    image: Tensor,
    channels: int,
    kernel: Sequence[int],
    stride: Sequence[int],
    pads: Sequence[int],
    dilation: Sequence[int],
) -> Tensor:
    """A convolution of (N, C, W) or (N, C, H, W), float32; what follows ``image`` says what is in it.

    Args:
        channels: of the output.
        pads: places before each axis, then behind each.
    """
    (y,) = run_model(image, [x.contiguous()])
    return y


def _conv_fake(
    x: Tensor,
    image: Tensor,
    channels: int,
    kernel: Sequence[int],
    stride: Sequence[int],
    pads: Sequence[int],
    dilation: Sequence[int],
) -> Tensor:
    spatial = len(kernel)
    sizes = [
        (x.shape[2 + i] + pads[i] + pads[spatial + i] - dilation[i] * (kernel[i] - 1) - 1) // stride[i] + 1
        for i in range(spatial)
    ]
    return x.new_empty((x.shape[0], channels, *sizes))


def _one_by_one(operator: Any) -> Any:
    """Give the rule of torch.vmap: each element by itself, so that its bits are those that it has alone."""

    def rule(info: Any, dims: tuple[int | None, ...], *arguments: Any) -> tuple[Any, Any]:
        dims = (*dims, *[None] * (len(arguments) - len(dims)))
        pairs = [(a, d if isinstance(d, int) else None) for a, d in zip(arguments, dims, strict=True)]
        results = [operator(*(a if d is None else a.select(d, i) for a, d in pairs)) for i in range(info.batch_size)]
        if isinstance(results[0], Tensor):
            return torch.stack(results), 0
        return tuple(map(torch.stack, zip(*results, strict=True))), (0,) * len(results[0])

    return rule


def _rows_together(operator: Any) -> Any:
    """Give the rule of torch.vmap for linear: rows are quantized each by itself anyway."""

    def rule(info: Any, dims: tuple[int | None, ...], x: Tensor, packed: Tensor, bias: Any, *rest: Any) -> Any:
        if dims[0] is None or any(d is not None for d in dims[1:]):
            return _one_by_one(operator)(info, dims, x, packed, bias, *rest)
        return operator(x.movedim(dims[0], 0), packed, bias, *rest), 0

    return rule


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
    if not overload:
        rule = _rows_together(operator) if name == "linear" else _one_by_one(operator)
        torch.library.register_vmap(f"dynq::{name}", rule, lib=_library)


_LINEAR = "Tensor x, Tensor packed, Tensor? bias, int n, int first=0, int count=-1"
_define(f"linear({_LINEAR}) -> Tensor", linear, _linear_fake)
_define(f"linear.out({_LINEAR}, *, Tensor(a!) out) -> Tensor(a!)", _linear_out, lambda *arguments, out: out)
_REST = "Tensor? lengths, Tensor image, int directions"
_define(f"lstm(Tensor x, Tensor h, Tensor c, {_REST}) -> (Tensor, Tensor, Tensor)", lstm, _recurrent_fake)
_define(f"gru(Tensor x, Tensor h, {_REST}) -> (Tensor, Tensor)", gru, _recurrent_fake)
_define(f"rnn(Tensor x, Tensor h, {_REST}) -> (Tensor, Tensor)", rnn, _recurrent_fake)
_define(
    "conv(Tensor x, Tensor image, int channels, int[] kernel, int[] stride, int[] pads, int[] dilation) -> Tensor",
    conv,
    _conv_fake,
)
