"""Training that sees dynq's quantization: FakeQuantize, and prepare_qat, which puts it on linear layers.

The numbers are those of docs/numerics.md to the bit, in float32 operations of PyTorch; the gradient goes through as if
nothing had been rounded (the straight-through estimator of Bengio et al., arXiv:1308.3432).
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ..core.arguments import GRANULARITIES, SCHEMES, Granularity, Scheme, choice
from ._module import FLOATS, copy_model

__all__ = ["FakeQuantize", "QatLinear", "finish_qat", "prepare_qat"]

_Granularity = Literal["row", "tensor", "channel"]
_GRANULARITIES: dict[_Granularity, int] = {"row": 0, "tensor": 1, "channel": 2}


class FakeQuantize(nn.Module):
    """``dequantize(quantize(x))``: what dynq's integers stand for, with the gradient of ``x``.

    Args:
        scheme: "asymmetric" or "symmetric".
        granularity: what has a range of its own: "row", each row of the last dimension, as inputs of linear layers;
            "tensor", all of it; "channel", each element of the first dimension, as weights (with "symmetric").

    Shapes: any, float32 -> the same; float16 and bfloat16 are computed in float32 and rounded to what they were. A NaN
    or an infinity makes its whole range NaN. Works on any device.
    """

    def __init__(self, scheme: Scheme = "asymmetric", granularity: _Granularity = "row") -> None:
        super().__init__()
        choice("scheme", scheme, SCHEMES)
        choice("granularity", granularity, _GRANULARITIES)
        self.scheme = scheme
        self.granularity = granularity

    def forward(self, x: Tensor) -> Tensor:
        if not isinstance(x, Tensor):
            raise TypeError(f"the input of FakeQuantize is of type {type(x).__name__}; expected a tensor")
        if x.dtype not in FLOATS:
            raise TypeError(f"the input of FakeQuantize is {x.dtype}; expected float32, float16 or bfloat16")
        result: Tensor = _Rounded.apply(x, self.scheme == "symmetric", self.granularity)
        return result

    def extra_repr(self) -> str:
        return f"scheme={self.scheme!r}, granularity={self.granularity!r}"


class _Rounded(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, symmetric: bool, granularity: str) -> Tensor:
        if x.numel() == 0:
            return x.clone()
        floats = x.float()
        dims = tuple(range(x.dim()))
        if granularity != "tensor" and x.dim() > 0:
            dims = dims[-1:] if granularity == "row" else dims[1:]
        low, high = (f(floats, dims, keepdim=True) if dims else floats for f in (torch.amin, torch.amax))
        low, high = low.clamp(max=0.0), high.clamp(min=0.0)  # a NaN stays one
        if symmetric:  # as uint8, whose zero is 128: so -0 becomes 0, as it does among integers
            scale, least = torch.maximum(-low, high) / 127, 1.0
        else:
            scale, least = (high - low) / 255, 0.0
            scale = torch.where(torch.isfinite(scale), scale, high / 255 - low / 255)
        scale = torch.where(scale == 0, 1.0, scale)
        zero_point = torch.full_like(scale, 128.0) if symmetric else (-low / scale).round().clamp(0.0, 255.0)
        scale = torch.where(torch.isfinite(low) & torch.isfinite(high), scale, torch.nan)
        q = ((floats / scale).round() + zero_point).clamp(least, 255.0)
        return ((q - zero_point) * scale).to(x.dtype)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        pass  # the gradient needs nothing

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[override]
        return grad, None, None


class QatLinear(nn.Linear):
    """nn.Linear between ``prepare_qat`` and ``finish_qat``: the same parameters, of which it computes what int8 will.

    In float32, also under autocast; float16 and bfloat16 come back as they were.
    """

    fake_input: FakeQuantize
    fake_weight: FakeQuantize

    def forward(self, input: Tensor) -> Tensor:
        x, weight = (fake(value.float()) for fake, value in ((self.fake_input, input), (self.fake_weight, self.weight)))
        bias = None if self.bias is None else self.bias.float()
        with torch.autocast(input.device.type, enabled=False):
            return nn.functional.linear(x, weight, bias).to(input.dtype)


def prepare_qat(
    module: nn.Module,
    *,
    keep_float: str | Iterable[str] = (),
    scheme: Scheme = "asymmetric",
    granularity: Granularity = "row",
    inplace: bool = False,
) -> nn.Module:
    """The model with fake quantization on the inputs and weights of its linear layers, to be trained.

    Parameters, their names and the ``state_dict`` stay. ``finish_qat`` comes before ``quantize_dynamic`` and
    ``dynq.from_torch``.

    Args:
        module: a model with nn.Linear layers. Those within nn.MultiheadAttention, which reads their weights itself,
            stay as they are.
        keep_float: names of modules (with all below them), or patterns (``"head.*"``), that stay as they are: what
            ``quantize_dynamic`` gets, too.
        scheme, granularity: of the inputs: "row" or "tensor".
        inplace: True: ``module`` itself is changed.

    Raises:
        ValueError, TypeError: an argument is wrong; ``keep_float`` names what is not there; there is no layer to
            prepare, or one is a subclass of nn.Linear.
    """
    choice("scheme", scheme, SCHEMES)
    choice("granularity", granularity, GRANULARITIES)
    _check_module(module)
    result = module if inplace else copy_model(module)
    layers = _layers(result, keep_float)
    if not layers:
        raise ValueError("module has no nn.Linear to prepare; expected at least one that keep_float does not name")
    for name, layer in layers:
        if isinstance(layer, QatLinear):
            raise ValueError(f"module {name!r} is prepared already; call finish_qat first")
        if type(layer) is not nn.Linear:
            raise ValueError(
                f"module {name!r} is a {type(layer).__name__}, a subclass of nn.Linear; keep_float=[{name!r}] leaves it"
            )
    for _, layer in layers:
        layer.__class__ = QatLinear
        layer.fake_input = FakeQuantize(scheme, granularity)
        layer.fake_weight = FakeQuantize("symmetric", "channel")
    for encoder in result.modules():  # its fused kernel for evaluation reads the weights itself
        if isinstance(encoder, nn.TransformerEncoderLayer) and _is_prepared(encoder):
            encoder._dynq_activation = encoder.activation_relu_or_gelu  # type: ignore[assignment]
            encoder.activation_relu_or_gelu = 0
    return result


def finish_qat(module: nn.Module, *, inplace: bool = False) -> nn.Module:
    """The model with plain float layers again, and the weights that were trained."""
    _check_module(module)
    if not _is_prepared(module):
        raise ValueError("module has no layer that prepare_qat has prepared")
    result = module if inplace else copy_model(module)
    for part in result.modules():
        if isinstance(part, nn.TransformerEncoderLayer) and hasattr(part, "_dynq_activation"):
            part.activation_relu_or_gelu = part._dynq_activation  # type: ignore[assignment]
            del part._dynq_activation
    for layer in [m for m in result.modules() if isinstance(m, QatLinear)]:
        del layer.fake_input, layer.fake_weight
        layer.__class__ = nn.Linear  # type: ignore[assignment]
    return result


def _is_prepared(module: nn.Module) -> bool:
    return any(isinstance(m, QatLinear) for m in module.modules())


def _check_module(module: Any) -> None:
    if not isinstance(module, nn.Module):
        raise TypeError(f"module is of type {type(module).__name__}; expected torch.nn.Module")


def _layers(root: nn.Module, keep_float: Any) -> list[tuple[str, nn.Linear]]:
    """Linear layers that are prepared, each once."""
    patterns = (keep_float,) if isinstance(keep_float, str) else tuple(keep_float)
    if wrong := [pattern for pattern in patterns if not isinstance(pattern, str)]:
        raise TypeError(f"keep_float has {wrong[0]!r}; expected names of modules or patterns")
    unused = set(patterns)
    kept: set[nn.Module] = set()
    for name, module in root.named_modules(remove_duplicate=False):
        for pattern in patterns:
            if name and (name == pattern or fnmatch.fnmatchcase(name, pattern)):
                unused.discard(pattern)
                kept.update(module.modules())
        if isinstance(module, nn.MultiheadAttention):
            kept.update(module.modules())
    if unused:
        raise ValueError(f"no module is called {', '.join(map(repr, sorted(unused)))}")
    return [(name, m) for name, m in root.named_modules() if isinstance(m, nn.Linear) and m not in kept]
