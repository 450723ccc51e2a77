"""dynq.linear for JAX: traced, compiled, and mapped over batches."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_batching import custom_vmap

from ..core.arguments import ACTIVATIONS, GRANULARITIES, SCHEMES, Activation, Granularity, Scheme, choice
from ..weights import QuantizedWeight, packed_arrays
from ..weights import quantize_weight as quantize
from ._handler import TARGET, register

__all__ = ["Weight", "linear", "quantize_weight"]

_FLOATS = (jnp.float32, jnp.float16, jnp.bfloat16)


@jax.tree_util.register_pytree_node_class
class Weight:
    """A packed int8 weight (N, K) as arrays of JAX: a pytree, so an argument of functions that are traced.

    Attributes:
        shape: (N, K), output channels and inputs.
    """

    def __init__(self, arrays: tuple[Any, ...], shape: tuple[int, int]) -> None:
        self._arrays, self.shape = arrays, shape

    def tree_flatten(self) -> tuple[tuple[Any, ...], tuple[int, int]]:
        """Return the arrays, and the shape."""
        return self._arrays, self.shape

    @classmethod
    def tree_unflatten(cls, shape: tuple[int, int], arrays: tuple[Any, ...]) -> Weight:
        """Return what ``tree_flatten`` took apart."""
        return cls(tuple(arrays), shape)


def quantize_weight(w: Any) -> Weight:
    """Quantize a float weight (N, K), symmetric for each channel; or take a dynq.QuantizedWeight as it is.

    Raises:
        TypeError, ValueError: ``w`` is no matrix of finite floats, or it is traced.
    """
    if isinstance(w, jax.core.Tracer):
        raise TypeError("w is traced; expected an array: quantize weights before jax.jit or jax.vmap")
    packed = w if isinstance(w, QuantizedWeight) else quantize(np.asarray(w))
    *arrays, zeros = packed_arrays(packed)
    arrays.append(np.empty(0, np.int32) if zeros is None else zeros)
    return Weight(tuple(jnp.asarray(array) for array in arrays), packed.shape)


def linear(
    x: Any,
    weight: Weight,
    bias: Any = None,
    *,
    activation: Activation | None = None,
    scheme: Scheme = "asymmetric",
    granularity: Granularity = "row",
) -> Any:
    """Compute ``activation(x @ w.T + bias)`` as dynq.linear does, with its bits, under jax.jit and jax.vmap too.

    It has no gradient. NaNs and infinities in ``x`` make the outputs that depend on them NaN.

    Args:
        x: float32, float16 or bfloat16 (..., K).
        weight: (N, K), of quantize_weight.
        bias: (N,), or None.
        activation: as dynq.linear takes it.
        scheme: how ``x`` is quantized, "asymmetric" or "symmetric".
        granularity: "row", a scale for each row of ``x``, or "tensor", one for all.

    Returns:
        float32 (..., N).

    Raises:
        TypeError, ValueError: an argument has another type or shape.
    """
    if not isinstance(weight, Weight):
        raise TypeError(
            f"weight is of type {type(weight).__name__}; expected dynq.jax.Weight: quantize_weight makes it"
        )
    n, k = weight.shape
    x = jnp.asarray(x)
    if x.dtype not in _FLOATS:
        raise TypeError(f"x has dtype {x.dtype}; expected float32, float16 or bfloat16")
    if x.ndim == 0 or x.shape[-1] != k:
        raise ValueError(f"x has shape {x.shape}; expected (..., {k}): weight is ({n}, {k})")
    bias = jnp.zeros(0, jnp.float32) if bias is None else jnp.asarray(bias, jnp.float32)
    if bias.shape not in ((0,), (n,)):
        raise ValueError(f"bias has shape {bias.shape}; expected ({n},)")
    choice("activation", activation, ACTIVATIONS)
    choice("scheme", scheme, SCHEMES)
    choice("granularity", granularity, GRANULARITIES)
    call = _call(n, ACTIVATIONS[activation], SCHEMES[scheme], GRANULARITIES[granularity])
    arrays, _ = weight.tree_flatten()
    return call(x.astype(jnp.float32), *arrays, bias)


@functools.lru_cache(maxsize=256)
def _call(n: int, activation: int, scheme: int, granularity: int) -> Any:
    """Return the traced function of x, the arrays of a weight, and a bias."""
    register()
    attributes = {"activation": activation, "scheme": scheme, "granularity": granularity}

    @custom_vmap
    def call(x: Any, *arrays: Any) -> Any:
        result = jax.ShapeDtypeStruct((*x.shape[:-1], n), jnp.float32)
        return jax.ffi.ffi_call(TARGET, result)(x, *arrays, **{key: np.int64(i) for key, i in attributes.items()})

    def over(size: int, mapped: list[bool], *arguments: Any) -> tuple[Any, bool]:
        if not any(mapped[1:]) and granularity == GRANULARITIES["row"]:  # more rows of one product
            return call(*arguments), True

        def one(parts: list[Any]) -> Any:
            each = iter(parts)
            return call(*[next(each) if own else a for a, own in zip(arguments, mapped, strict=True)])

        return jax.lax.map(one, [a for a, own in zip(arguments, mapped, strict=True) if own]), True

    call.def_vmap(over)
    return call
