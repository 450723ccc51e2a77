"""The types of modules that can be converted, and what stands in the way of one of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from ._module import FLOATS, QuantizedModule
from .attention import MultiheadAttention
from .conv import Conv1d, Conv2d, why_float
from .recurrent import GRU, LSTM, RNN, GRUCell, LSTMCell, RNNCell

__all__ = ["Kind", "find_kind", "names_of_weights"]


@dataclasses.dataclass(frozen=True)
class Kind:
    """A type of torch.nn.

    ``convert(module, keep, first_layer)`` makes dynq's module; ``keep`` has names of weights that stay float.
    ``why_not`` says why a module cannot be converted, ``why_float`` why it is better off in float32; None: it is not.
    """

    base: type[nn.Module]
    convert: Callable[..., QuantizedModule]
    special: Callable[..., str | None] = lambda module: None
    why_float: Callable[..., str | None] = lambda module: None

    def why_not(self, module: nn.Module) -> str | None:
        if type(module).forward is not self.base.forward:
            return f"{type(module).__name__} is a subclass of {self.base.__name__} with a forward of its own"
        for name, weight in module.named_parameters():
            if is_lazy(weight):
                return "it is lazy and has no weights before its first call"
            if weight.device.type != "cpu":
                return f"its {name} is on {weight.device}; dynq runs on the CPU"
            if weight.dtype not in FLOATS:
                return f"its {name} is {weight.dtype}; dynq takes float32, float16 and bfloat16"
        return self.special(module)


def _why_not_embedding(module: nn.Embedding | nn.EmbeddingBag) -> str | None:
    return None if module.max_norm is None else "it has max_norm, which changes the table while it runs"


def _by_shared(module: nn.Module, keep: frozenset[str], first_layer: bool) -> QuantizedModule:
    raise AssertionError("a module whose weight may be shared")


def _why_not_recurrent(module: nn.RNNBase) -> str | None:
    return "it has proj_size, which dynq lacks" if getattr(module, "proj_size", 0) else None


def _why_not_conv(module: nn.Conv1d | nn.Conv2d) -> str | None:
    known = ("zeros", "reflect", "replicate", "circular")
    return None if module.padding_mode in known else f"its padding_mode is {module.padding_mode!r}"


_KINDS = (
    Kind(nn.Linear, _by_shared),
    Kind(nn.Embedding, _by_shared, _why_not_embedding),
    Kind(nn.EmbeddingBag, _by_shared, _why_not_embedding),
    Kind(nn.MultiheadAttention, lambda module, keep, first_layer: MultiheadAttention.from_float(module)),
    Kind(nn.Conv1d, Conv1d.from_float, _why_not_conv, why_float),
    Kind(nn.Conv2d, Conv2d.from_float, _why_not_conv, why_float),
    Kind(nn.LSTM, LSTM.from_float, _why_not_recurrent),
    Kind(nn.GRU, GRU.from_float),
    Kind(nn.RNN, RNN.from_float),
    Kind(nn.LSTMCell, LSTMCell.from_float),
    Kind(nn.GRUCell, GRUCell.from_float),
    Kind(nn.RNNCell, RNNCell.from_float),
)


def find_kind(module: nn.Module) -> Kind | None:
    """None: dynq has no module for it."""
    return next((kind for kind in _KINDS if isinstance(module, kind.base)), None)


def names_of_weights(module: nn.Module) -> list[str]:
    """Those that keep_float may name one by one: of recurrent modules."""
    if not isinstance(module, (nn.RNNBase, nn.RNNCellBase)):
        return []
    return [name for name, weight in module.named_parameters() if isinstance(weight, Tensor) and weight.dim() > 1]
