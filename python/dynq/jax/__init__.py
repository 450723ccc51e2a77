"""dynq for JAX on the CPU: int8 layers as custom calls of XLA. Needs JAX 0.5 or newer and a C compiler."""

from __future__ import annotations

from ..errors import MissingPackageError

try:
    import jax  # noqa: F401
except ImportError as error:
    raise MissingPackageError("dynq.jax needs JAX; install it: pip install 'dynq[jax]'") from error

from ._linear import Weight, linear, quantize_weight

__all__ = ["Weight", "linear", "quantize_weight"]
