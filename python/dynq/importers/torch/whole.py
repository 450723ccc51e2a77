"""Recurrent layers as one op each while a module is exported: torch.export writes LSTM, GRU and RNN out step by step,
for as many steps as the example has."""

from __future__ import annotations

from typing import Any

import torch
from torch.overrides import TorchFunctionMode

__all__ = ["KINDS", "NAMESPACE", "WholeLayers"]

NAMESPACE = "dynq_export"
KINDS = ("lstm", "gru", "rnn_tanh", "rnn_relu")

_library = torch.library.Library(NAMESPACE, "FRAGMENT")
_REST = (
    "Tensor[] params, bool has_biases, int num_layers, float dropout, bool train, bool bidirectional, bool batch_first"
)


def _outputs(x: Any, states: Any, *rest: Any) -> tuple[Any, ...]:
    """Return empty tensors in the shapes of a layer's outputs."""
    each = list(states) if isinstance(states, (list, tuple)) else [states]
    bidirectional = rest[5]
    width = each[0].shape[-1] * (2 if bidirectional else 1)
    return (x.new_empty((*x.shape[:-1], width)), *(torch.empty_like(state) for state in each))


def _define() -> dict[Any, Any]:
    """An op in the place of each of torch's functions."""
    instead = {}
    for kind in KINDS:
        states, results = (
            ("Tensor[] hx", "Tensor, Tensor, Tensor") if kind == "lstm" else ("Tensor hx", "Tensor, Tensor")
        )
        _library.define(f"{kind}(Tensor input, {states}, {_REST}) -> ({results})")
        torch.library.register_fake(f"{NAMESPACE}::{kind}", _outputs, lib=_library)
        instead[getattr(torch._VF, kind)] = getattr(getattr(torch.ops, NAMESPACE), kind)
    return instead


_instead = _define()


class WholeLayers(TorchFunctionMode):  # type: ignore[misc]
    """While it is active, torch's functions of recurrent layers become those ops; packed sequences, which have
    another signature, are left to torch."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        whole = _instead.get(func)
        packed = len(args) < 4 or not isinstance(args[3], bool)
        return func(*args, **kwargs) if whole is None or packed else whole(*args, **kwargs)
