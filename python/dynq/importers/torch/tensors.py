"""torch's tensors as NumPy's arrays, on the same memory where the dtype stays."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from ...conversion import InvalidModelError, Unsupported
from ...core.arguments import Array

__all__ = ["dtype_of", "to_array"]

# What dynq computes with: float32 for every kind of float.
_DTYPES = {
    torch.float32: "float32",
    torch.float16: "float32",
    torch.bfloat16: "float32",
    torch.float64: "float32",
    torch.int64: "int64",
    torch.int32: "int32",
    torch.bool: "bool",
    torch.uint8: "uint8",
    torch.int8: "int8",
}


def dtype_of(dtype: Any) -> str:
    """dynq's dtype for one of torch's."""
    if dtype not in _DTYPES:
        raise Unsupported(f"dtype {dtype}")
    return _DTYPES[dtype]


def to_array(tensor: Any, what: str) -> Array:
    """A dense tensor on the CPU; ``what`` is its name in messages."""
    dtype_of(tensor.dtype)
    if tensor.layout != torch.strided or tensor.device.type != "cpu" or tensor.is_quantized:
        raise Unsupported(f"a tensor that is {tensor.layout} on {tensor.device}")
    plain = tensor.detach().resolve_conj().resolve_neg()
    if plain.dtype in (torch.float16, torch.bfloat16):
        plain = plain.to(torch.float32)
    array: Array = plain.numpy()
    if array.dtype != np.float64:
        return array
    with np.errstate(over="ignore"):
        result = array.astype(np.float32)
    if not np.array_equal(np.isfinite(array), np.isfinite(result)):
        raise InvalidModelError(f"{what} has float64 values that are beyond float32")
    return result
