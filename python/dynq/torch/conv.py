"""torch.nn.Conv1d and Conv2d with int8 weights: each output position is quantized as it comes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from ..graph import Graph
from ..graph.ir import Node
from ..graph.passes.conv import rows, why_conv_float
from ..weights import QuantizedWeight
from . import ops
from ._model import constants, make_image
from ._module import SCALE, Entry, QuantizedModule, checked, is_eager, replace
from ._packed import quantize_rows

__all__ = ["Conv1d", "Conv2d", "why_float"]


def why_float(module: nn.Conv1d | nn.Conv2d) -> str | None:
    """Why a convolution is better off in float32 (docs/models.md); None: it is not."""
    return why_conv_float(
        Node("dynq.Conv", "", [], [], {"group": module.groups}), module.weight.detach().float().numpy()
    )


class _Conv(QuantizedModule):
    """``image``: the model, with the weight and the bias in it."""

    packed_names = ("image",)
    image: Tensor
    bias: Tensor | None

    def __init__(self, module: nn.Conv1d | nn.Conv2d) -> None:
        super().__init__()
        self.in_channels = module.in_channels
        self.out_channels = module.out_channels
        self.kernel_size = module.kernel_size
        self.stride = module.stride
        self.padding = module.padding
        self.dilation = module.dilation
        self.groups = 1
        self.padding_mode = module.padding_mode
        self.pads = _pads(module)
        bias = None if module.bias is None else module.bias.detach().float().clone()
        self.register_buffer("bias", bias, persistent=False)
        self.register_buffer("image", None, persistent=False)
        self._make_image(*_quantized(module.weight.detach()))
        self.training = False

    @classmethod
    def from_float(cls, module: Any, keep: frozenset[str] = frozenset(), first_layer: bool = False) -> Any:
        return cls(module)

    def _make_image(self, integers: Tensor, scale: Tensor) -> None:
        """From int8 (M, C, ...) and float32 (M,)."""
        graph, spatial = Graph("conv"), len(self.kernel_size)
        x = graph.input("x", ("batch", self.in_channels, *("height", "width")[-spatial:]))
        weight = QuantizedWeight.from_integers(rows(integers.numpy()), scale.numpy())
        bias = None if self.bias is None else self.bias.float().numpy()
        y = graph.node(
            "dynq.Conv",
            [x, graph.constant(weight, "weight"), None if bias is None else graph.constant(bias, "bias")],
            1,
            "conv",
            kernel_shape=list(self.kernel_size),
            strides=list(self.stride),
            dilations=list(self.dilation),
            pads=self._image_pads(),
            scheme="asymmetric",
            granularity="row",
        )
        replace(self, "image", make_image(graph, {"y": y}))

    def _image_pads(self) -> list[int]:
        return [0] * len(self.pads) if self.padding_mode != "zeros" else self.pads

    @property
    def weight(self) -> Tensor:
        """The weight that it computes with, float32 (M, C, ...): a new tensor at each call."""
        integers, scale = self._integers()
        return integers.float().mul_(scale.view(-1, *[1] * (integers.dim() - 1)))

    def _integers(self) -> tuple[Tensor, Tensor]:
        weight = constants(self.image)["weight"]
        assert isinstance(weight, QuantizedWeight)
        integers = weight.integers().reshape(self.out_channels, *self.kernel_size, self.in_channels)
        return (
            torch.from_numpy(np.ascontiguousarray(np.moveaxis(integers, -1, 1))),
            torch.from_numpy(np.array(weight.scale)),
        )

    def forward(self, x: Tensor) -> Tensor:
        floats, spatial = checked(self, x), len(self.kernel_size)
        batched = x.dim() == spatial + 2
        if x.dim() not in (spatial + 1, spatial + 2) or x.shape[-spatial - 1] != self.in_channels:
            sizes = ", ".join(("height", "width")[-spatial:])
            raise ValueError(
                f"the input has shape {tuple(x.shape)}; expected (batch, {self.in_channels}, {sizes}), "
                "or the same without a batch"
            )
        floats = floats if batched else floats.unsqueeze(0)
        if self.padding_mode != "zeros":
            both = zip(self.pads[:spatial], self.pads[spatial:], strict=True)
            floats = functional.pad(floats, [n for pair in reversed(list(both)) for n in pair], self.padding_mode)
        operator = ops.conv if is_eager(floats) else torch.ops.dynq.conv
        y = operator(
            floats, self.image, self.out_channels, self.kernel_size, self.stride, self._image_pads(), self.dilation
        )
        return (y if batched else y.squeeze(0)).to(x.dtype)

    def extra_repr(self) -> str:
        text = f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"
        return f"{text}, padding={self.padding}, dilation={self.dilation}, int8"

    def entries(self) -> dict[str, Entry]:
        result = {"weight": Entry((self.out_channels, self.in_channels, *self.kernel_size), True)}
        return result if self.bias is None else {**result, "bias": Entry((self.out_channels,), False)}

    def get_tensors(self) -> dict[str, Tensor]:
        integers, scale = self._integers()
        result = {"weight": integers, "weight" + SCALE: scale}
        return result if self.bias is None else {**result, "bias": self.bias}

    def set_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        weight = tensors["weight"].detach()
        scale = tensors.get("weight" + SCALE)
        if "bias" in tensors:
            replace(self, "bias", tensors["bias"].detach().float())
        self._make_image(*(_quantized(weight) if scale is None else (weight, scale.detach().float())))


class Conv1d(_Conv):
    """torch.nn.Conv1d of one group: float32 (N, C, W) or (C, W)."""


class Conv2d(_Conv):
    """torch.nn.Conv2d of one group: float32 (N, C, H, W) or (C, H, W)."""


def _quantized(weight: Tensor) -> tuple[Tensor, Tensor]:
    integers, scale = quantize_rows(weight.reshape(weight.shape[0], -1))
    return integers.view(weight.shape), scale


def _pads(module: nn.Conv1d | nn.Conv2d) -> list[int]:
    """Before each axis, then behind each."""
    if module.padding == "valid":
        return [0] * 2 * len(module.kernel_size)
    if module.padding == "same":
        total = [d * (k - 1) for d, k in zip(module.dilation, module.kernel_size, strict=True)]
        return [n // 2 for n in total] + [n - n // 2 for n in total]
    return [int(n) for n in module.padding] * 2
