"""The kinds of modules that can be converted, and what stands in the way of one of them.

A new kind is one entry of ``_KINDS``: its type, the weights that it holds, how they are packed, what it takes.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable
from types import FunctionType
from typing import Any, Protocol

from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.parameter import is_lazy

from ._module import FLOATS, QuantizedModule
from .attention import MultiheadAttention
from .conv import Conv1d, Conv2d, why_float
from .embedding import Embedding, EmbeddingBag, ScaledEmbedding
from .linear import Linear, TransposedLinear
from .recurrent import GRU, LSTM, RNN, GRUCell, LSTMCell, RNNCell

__all__ = ["Kind", "Packing", "find_kind"]


class Packing(Protocol):
    """The way a conversion quantizes weights: those that several modules share, once."""

    @property
    def keep(self) -> frozenset[str]:
        """Give names of the module's weights that stay float."""

    @property
    def first_layer(self) -> str | None:
        """Tell what the projections of inputs become; None: what was measured."""

    def linear(self, weight: Tensor) -> Tensor:
        """Pack a float (N, K) for a linear layer."""

    def table(self, weight: Tensor) -> dict[str, Tensor]:
        """Quantize a float (N, D) for an embedding: ``rows`` and ``row_scale``, or ``packed`` if a layer shares it."""


Why = Callable[..., str | None]
Names = Callable[[Any], tuple[str, ...]]


@dataclasses.dataclass(frozen=True)
class Kind:
    """A kind of modules.

    Args:
        base: the type, or the name of one of a package that may not be there.
        convert: makes dynq's module.
        weights: names of what becomes int8.
        tied: its one weight may be another module's, too.
        forwards: ways of writing a subclass's ``forward`` that are known to compute what ``convert`` makes.
        subclass: only subclasses with one of ``forwards`` are of this kind.
        special: why a module cannot be converted; None: it can.
        why_float: why it is better off in float32; None: it is not.
    """

    base: type[nn.Module] | str
    convert: Callable[[Any, Packing], QuantizedModule]
    weights: Names = lambda module: ("weight",)
    tied: bool = False
    forwards: tuple[Callable[..., Any], ...] = ()
    subclass: bool = False
    special: Why = lambda module: None
    why_float: Why = lambda module: None

    def find_base(self) -> type[nn.Module] | None:
        """Return the type; None if its package is not loaded, so that no module can be of it."""
        if not isinstance(self.base, str):
            return self.base
        package, _, name = self.base.rpartition(".")
        return getattr(sys.modules.get(package), name, None)

    def fits(self, module: nn.Module) -> bool:
        base = self.find_base()
        return base is not None and isinstance(module, base) and (not self.subclass or self._knows(module, base))

    def _knows(self, module: nn.Module, base: type[nn.Module]) -> bool:
        """Tell whether the module's forward is one of ``forwards``, and calls the base's by ``super()``."""
        order = type(module).__mro__
        owner = next(cls for cls in order if "forward" in vars(cls))
        behind = next((cls for cls in order[order.index(owner) + 1 :] if "forward" in vars(cls)), None)
        return behind is base and any(_same_code(vars(owner)["forward"], forward) for forward in self.forwards)

    def why_not(self, module: nn.Module) -> str | None:
        base = self.find_base()
        assert base is not None
        if "forward" in vars(module):
            return "its forward was replaced"
        if type(module).forward is not base.forward and not self._knows(module, base):
            return f"{type(module).__name__} is a subclass of {base.__name__} with a forward of its own"
        for name, weight in module.named_parameters():
            if is_lazy(weight):
                return "it is lazy and has no weights before its first call"
            if weight.device.type != "cpu":
                return f"its {name} is on {weight.device}; dynq runs on the CPU"
            if weight.dtype not in FLOATS:
                return f"its {name} is {weight.dtype}; dynq takes float32, float16 and bfloat16"
        return self.special(module)


def find_kind(module: nn.Module) -> Kind | None:
    """Return the kind of a module; None: dynq has no module for it."""
    return next((kind for kind in _KINDS if kind.fits(module)), None)


# ---- What kinds take


def _why_not_embedding(module: nn.Embedding | nn.EmbeddingBag) -> str | None:
    return None if module.max_norm is None else "it has max_norm, which changes the table while it runs"


def _why_not_scaled(module: Any) -> str | None:
    scale = module.embed_scale
    if not isinstance(scale, (int, float)) and not (isinstance(scale, Tensor) and scale.numel() == 1):
        return f"its embed_scale is no number but a {type(scale).__name__}"
    return _why_not_embedding(module)


def _why_not_conv(module: nn.Conv1d | nn.Conv2d) -> str | None:
    known = ("zeros", "reflect", "replicate", "circular")
    return None if module.padding_mode in known else f"its padding_mode is {module.padding_mode!r}"


def _attention_weights(module: nn.MultiheadAttention) -> tuple[str, ...]:
    separate = ("q_proj_weight", "k_proj_weight", "v_proj_weight")
    return ("in_proj_weight",) if getattr(module, "in_proj_weight", None) is not None else separate


def _layer_weights(module: nn.RNNBase) -> tuple[str, ...]:
    return tuple(name for names in module._all_weights for name in names if name.startswith("weight"))


def _cell_weights(module: nn.RNNCellBase) -> tuple[str, ...]:
    return ("weight_ih", "weight_hh")


def _recurrent(new: Any) -> Callable[[Any, Packing], QuantizedModule]:
    def convert(module: Any, packing: Packing) -> QuantizedModule:
        made: QuantizedModule = new.from_float(module, packing.keep, packing.first_layer)
        return made

    return convert


# ---- Forwards of subclasses. What counts is their code, whatever the class and its arguments are called.


class _Linears(nn.Linear):
    def functional(self, input: Any) -> Any:
        return nn.functional.linear(input, self.weight, self.bias)

    def imported(self, input: Any) -> Any:
        return F.linear(input, self.weight, self.bias)

    def matmul(self, input: Any) -> Any:  # Falcon's
        hidden_states = input @ self.weight.T
        if self.bias is None:
            return hidden_states
        return hidden_states + self.bias


class _Scaled(nn.Embedding):
    embed_scale: Any

    def by_number(self, input_ids: Any) -> Any:
        return super().forward(input_ids) * self.embed_scale

    def by_tensor(self, input_ids: Any) -> Any:
        return super().forward(input_ids) * self.embed_scale.to(self.weight.dtype)


def _same_code(a: Any, b: Any) -> bool:
    """Tell whether two functions do the same to their arguments: names of arguments and variables do not count."""
    if not isinstance(a, FunctionType) or not isinstance(b, FunctionType):
        return False
    same_globals = all(a.__globals__.get(name) is b.__globals__.get(name) for name in b.__code__.co_names)
    return same_globals and a.__defaults__ == b.__defaults__ and _code(a) == _code(b)


def _code(function: FunctionType) -> tuple[Any, ...]:
    code = function.__code__
    constants = code.co_consts[1:] if function.__doc__ else code.co_consts
    return code.co_code, tuple(c for c in constants if c is not None), code.co_names, code.co_argcount, code.co_freevars


# ---- The table


_KINDS = (
    Kind(
        nn.Linear,
        lambda module, packing: Linear.from_float(module, packing.linear(module.weight)),
        tied=True,
        forwards=(_Linears.functional, _Linears.imported, _Linears.matmul),
    ),
    Kind(
        "transformers.pytorch_utils.Conv1D",  # GPT-2's linear layer
        lambda module, packing: TransposedLinear.from_float(module, packing.linear(module.weight.t())),
        tied=True,
    ),
    Kind(
        nn.Embedding,
        lambda module, packing: ScaledEmbedding.from_float(module, **packing.table(module.weight)),
        tied=True,
        forwards=(_Scaled.by_number, _Scaled.by_tensor),
        subclass=True,
        special=_why_not_scaled,
    ),
    Kind(
        nn.Embedding,
        lambda module, packing: Embedding.from_float(module, **packing.table(module.weight)),
        tied=True,
        special=_why_not_embedding,
    ),
    Kind(
        nn.EmbeddingBag,
        lambda module, packing: EmbeddingBag.from_float(module, **packing.table(module.weight)),
        tied=True,
        special=_why_not_embedding,
    ),
    Kind(
        nn.MultiheadAttention,
        lambda module, packing: MultiheadAttention.from_float(module),
        weights=_attention_weights,
    ),
    Kind(nn.Conv1d, lambda module, packing: Conv1d.from_float(module), special=_why_not_conv, why_float=why_float),
    Kind(nn.Conv2d, lambda module, packing: Conv2d.from_float(module), special=_why_not_conv, why_float=why_float),
    Kind(nn.LSTM, _recurrent(LSTM), weights=_layer_weights),
    Kind(nn.GRU, _recurrent(GRU), weights=_layer_weights),
    Kind(nn.RNN, _recurrent(RNN), weights=_layer_weights),
    Kind(nn.LSTMCell, _recurrent(LSTMCell), weights=_cell_weights),
    Kind(nn.GRUCell, _recurrent(GRUCell), weights=_cell_weights),
    Kind(nn.RNNCell, _recurrent(RNNCell), weights=_cell_weights),
)
