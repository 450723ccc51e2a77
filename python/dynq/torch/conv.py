"""torch.nn.Conv1d and Conv2d with int8 weights: each output position is quantized as it comes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from ..graph import Graph
from ..ir.values import Node
from ..passes.conv import rows, why_conv_float
from ..weights import QuantizedWeight
from . import ops
from ._live import Live
from ._model import constants, make_image
from ._module import SCALE, Entry, QuantizedModule, checked, is_eager, replace
from ._packed import quantize_rows

__all__ = ["Conv1d", "Conv2d", "why_float"]


def why_float(module: nn.Conv1d | nn.Conv2d) -> str | None:
    """Why a convolution is better off in float32 (docs/models.md); None: it is not."""
    outputs, *each = module.weight.shape
    return why_conv_float(Node("dynq.Conv", "", [], [], {"group": module.groups}), outputs, math.prod(each))


class _Conv(QuantizedModule):
    """``image``: the model, with the weight and the bias in it."""

    packed_names = ("image",)
    image: Tensor
    weight = Live("The weight that it computes with, float32 (M, C, ...): a new tensor at each call.")
    bias = Live("The bias, float32 (M,): a new tensor at each call.")

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
        self.has_bias = module.bias is not None
        self.register_buffer("image", None, persistent=False)
        self._make_image(*_quantized(module.weight.detach()), module.bias)
        self.training = False

    @classmethod
    def from_float(cls, module: Any) -> Any:
        return cls(module)

    def _make_image(self, integers: Tensor, scale: Tensor, bias: Tensor | None) -> None:
        """From int8 (M, C, ...), float32 (M,) and a float bias (M,)."""
        graph, spatial = Graph("conv"), len(self.kernel_size)
        x = graph.input("x", ("batch", self.in_channels, *("height", "width")[-spatial:]))
        weight = QuantizedWeight.from_integers(rows(integers.numpy()), scale.numpy())
        biases = None if bias is None else bias.detach().float().numpy()
        y = graph.node(
            "dynq.Conv",
            [x, graph.constant(weight, "weight"), None if biases is None else graph.constant(biases, "bias")],
            1,
            "conv",
            kernel_shape=list(self.kernel_size),
            strides=list(self.stride),
            dilations=list(self.dilation),
            pads=self._image_pads(),
            scheme="asymmetric",
            granularity="row",
        )
        graph.output(y, "y")
        replace(self, "image", make_image(graph))

    def _image_pads(self) -> list[int]:
        return [0] * len(self.pads) if self.padding_mode != "zeros" else self.pads

    def _integers(self) -> tuple[Tensor, Tensor]:
        weight = constants(self.image)["weight"]
        assert isinstance(weight, QuantizedWeight)
        integers = weight.integers().reshape(self.out_channels, *self.kernel_size, self.in_channels)
        return (
            torch.from_numpy(np.ascontiguousarray(np.moveaxis(integers, -1, 1))),
            torch.from_numpy(np.array(weight.scale)),
        )

    def forward(self, input: Tensor) -> Tensor:
        floats, spatial = checked(self, input), len(self.kernel_size)
        batched = input.dim() == spatial + 2
        if input.dim() not in (spatial + 1, spatial + 2) or input.shape[-spatial - 1] != self.in_channels:
            sizes = ", ".join(("height", "width")[-spatial:])
            raise ValueError(
                f"the input has shape {tuple(input.shape)}; expected (batch, {self.in_channels}, {sizes}), "
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
        return (y if batched else y.squeeze(0)).to(input.dtype)

    def extra_repr(self) -> str:
        text = f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"
        return f"{text}, padding={self.padding}, dilation={self.dilation}, int8"

    def entries(self) -> dict[str, Entry]:
        result = {"weight": Entry((self.out_channels, self.in_channels, *self.kernel_size), True)}
        return {**result, "bias": Entry((self.out_channels,), False)} if self.has_bias else result

    def get_tensors(self) -> dict[str, Tensor]:
        integers, scale = self._integers()
        result = {"weight": integers, "weight" + SCALE: scale}
        if self.has_bias:
            bias = constants(self.image)["bias"]
            assert isinstance(bias, np.ndarray)
            result["bias"] = torch.from_numpy(bias.copy())
        return result

    def set_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        weight = tensors["weight"].detach()
        scale = tensors.get("weight" + SCALE)
        self._make_image(
            *(_quantized(weight) if scale is None else (weight, scale.detach().float())), tensors.get("bias")
        )


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
