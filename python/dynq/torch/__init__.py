"""dynq for PyTorch: modules that stand in for torch.nn's, operators of torch.library. Needs PyTorch 2.4 or newer."""

from __future__ import annotations

from ..errors import MissingPackageError

try:
    import torch  # noqa: F401
except ImportError as error:
    raise MissingPackageError("dynq.torch needs PyTorch; install it: pip install 'dynq[torch]'") from error

from .attention import MultiheadAttention
from .convert import NotConvertedWarning, quantize_dynamic, report
from .embedding import Embedding, EmbeddingBag
from .fake_quantize import FakeQuantize, finish_qat, prepare_qat
from .linear import Linear

__all__ = [
    "Embedding",
    "EmbeddingBag",
    "FakeQuantize",
    "Linear",
    "MultiheadAttention",
    "NotConvertedWarning",
    "finish_qat",
    "prepare_qat",
    "quantize_dynamic",
    "report",
]
