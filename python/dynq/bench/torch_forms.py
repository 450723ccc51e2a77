"""Make the linear layers of a PyTorch model int8, by PyTorch or by dynq, in a peer's process."""

from __future__ import annotations

import warnings
from typing import Any

__all__ = ["in_form"]


def in_form(module: Any, form: str) -> Any:
    """Return a module whose linear layers are int8 by ``"dynq"`` or ``"torch"``; any other form leaves it as it is."""
    import torch

    if form == "dynq":
        import dynq.torch

        return dynq.torch.quantize_dynamic(module, {torch.nn.Linear}, inplace=True)
    if form == "torch":
        quantize: Any = torch.ao.quantization.quantize_dynamic
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it is deprecated
            return quantize(module, {torch.nn.Linear}, torch.qint8)
    return module
