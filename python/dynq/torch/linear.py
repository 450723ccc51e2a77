"""torch.nn.Linear and transformers' Conv1D with int8 weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from . import ops
from ._live import Live
from ._module import SCALE, Entry, QuantizedModule, checked, is_eager, replace, seems_eager
from ._packed import pack, pack_integers, scales, unpack

__all__ = ["Linear", "TransposedLinear", "apply_linear", "pack_any"]

_float32 = torch.float32


def pack_any(tensors: Mapping[str, Tensor], name: str = "weight") -> Tensor:
    """Packed from an int8 weight and its scales, or from a float one."""
    w = tensors[name].reshape(tensors[name].shape[0], -1)
    return pack_integers(w, tensors[name + SCALE]) if name + SCALE in tensors else pack(w)


def apply_linear(x: Tensor, packed: Tensor, bias: Tensor | None, n: int, first: int = 0, count: int = -1) -> Tensor:
    """Call ops.linear if ``x`` is a tensor with memory, else the operator."""
    if bias is not None and bias.dtype is not _float32:  # a module that was converted as a whole
        bias = bias.float()
    linear = ops.linear if is_eager(x) else torch.ops.dynq.linear
    return linear(x, packed, bias, n, first, count)


class Linear(QuantizedModule):
    """``x @ w.T + bias`` with an int8 weight; rows of ``x`` are quantized as they come.

    Args:
        packed: of dynq.torch's packing, a weight (out_features, in_features).
        bias: float32 (out_features,).

    Shapes: float32 (..., in_features) -> (..., out_features); float16 and bfloat16 are computed in float32 and come
    back as they were.
    """

    packed: Tensor
    bias: Tensor | None
    weight = Live("The weight that it computes with, float32 (out_features, in_features): a new tensor at each call.")

    def __init__(self, in_features: int, out_features: int, packed: Tensor, bias: Tensor | None = None) -> None:
        super().__init__()
        self.in_features = in_features
        self.out_features = out_features
        self.register_buffer("packed", packed, persistent=False)
        self.register_buffer("bias", bias, persistent=False)
        self.training = False

    @classmethod
    def from_float(cls, module: nn.Linear, packed: Tensor | None = None) -> Linear:
        """``packed``: the module's weight, where it is packed already."""
        n, k = module.weight.shape
        bias = None if module.bias is None else module.bias.detach().float().clone()
        return cls(k, n, pack(module.weight) if packed is None else packed, bias)

    @property
    def weight_scale(self) -> Tensor:
        """float32 (out_features,)."""
        return scales(self.packed, self.out_features, self.in_features)

    def forward(self, input: Tensor) -> Tensor:
        # The usual call, in as few steps as it takes. Whatever is unusual, wrong things too, goes the long way.
        if seems_eager(input) and input.dtype is _float32 and input.is_cpu and not self.training:
            buffers = self._buffers
            bias = buffers["bias"]
            try:
                if input.shape[-1:] == (self.in_features,) and (bias is None or bias.dtype is _float32):
                    return ops.linear(input, buffers["packed"], bias, self.out_features)  # type: ignore[arg-type]
            except RuntimeError:  # a tensor without memory: sparse, nested, within vmap
                pass
        floats = checked(self, input)
        if input.dim() == 0 or input.shape[-1] != self.in_features:
            raise ValueError(
                f"the input has shape {tuple(input.shape)}; expected (..., {self.in_features}): "
                f"the weight is ({self.out_features}, {self.in_features})"
            )
        return apply_linear(floats, self.packed, self.bias, self.out_features).to(input.dtype)

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}, int8"

    def entries(self) -> dict[str, Entry]:
        result = {"weight": Entry((self.out_features, self.in_features), True)}
        return result if self.bias is None else {**result, "bias": Entry((self.out_features,), False)}

    def get_tensors(self) -> dict[str, Tensor]:
        integers, scale = unpack(self.packed, self.out_features, self.in_features)
        result = {"weight": integers, "weight" + SCALE: scale}
        return result if self.bias is None else {**result, "bias": self.bias}

    def set_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        replace(self, "packed", pack_any(tensors))
        if "bias" in tensors:
            replace(self, "bias", tensors["bias"].detach().float())


class TransposedLinear(Linear):
    """``x @ w + bias`` with an int8 weight: transformers' Conv1D, of GPT-2 and its kin.

    It computes as Linear does. Its ``weight``, in the ``state_dict`` too, is (in_features, out_features).
    """

    @classmethod
    def from_float(cls, module: Any, packed: Tensor | None = None) -> TransposedLinear:
        """Make it of a Conv1D; ``packed``: its weight, turned, where it is packed already."""
        k, n = module.weight.shape
        bias = None if module.bias is None else module.bias.detach().float().clone()
        return cls(k, n, pack(module.weight.t()) if packed is None else packed, bias)

    @property
    def nx(self) -> int:
        """Inputs, by Conv1D's name."""
        return self.in_features

    @property
    def nf(self) -> int:
        """Outputs, by Conv1D's name."""
        return self.out_features

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x)

    def entries(self) -> dict[str, Entry]:
        return {**super().entries(), "weight": Entry((self.in_features, self.out_features), True, 1)}

    def get_tensors(self) -> dict[str, Tensor]:
        tensors = super().get_tensors()
        return {**tensors, "weight": tensors["weight"].t().contiguous()}

    def set_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        super().set_tensors({**tensors, "weight": tensors["weight"].t().contiguous()})
