"""dynq for PyTorch: modules that stand in for torch.nn's, operators of torch.library. Needs PyTorch 2.4 or newer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..errors import MissingPackageError

try:
    import torch  # noqa: F401
except ImportError as error:
    raise MissingPackageError("dynq.torch needs PyTorch; install it: pip install 'dynq[torch]'") from error

from .attention import MultiheadAttention
from .conv import Conv1d, Conv2d
from .convert import report
from .embedding import Embedding, EmbeddingBag, ScaledEmbedding
from .fake_quantize import FakeQuantize, finish_qat, prepare_qat
from .generation import as_transformers
from .linear import Linear, TransposedLinear
from .quantize import NotConvertedWarning, quantize_dynamic
from .recurrent import GRU, LSTM, RNN, GRUCell, LSTMCell, RNNCell
from .sentences import as_sentence_transformer

if TYPE_CHECKING:
    from .huggingface import DynqConfig

__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "Conv1d",
    "Conv2d",
    "DynqConfig",
    "Embedding",
    "EmbeddingBag",
    "FakeQuantize",
    "GRUCell",
    "LSTMCell",
    "Linear",
    "MultiheadAttention",
    "NotConvertedWarning",
    "RNNCell",
    "ScaledEmbedding",
    "TransposedLinear",
    "as_sentence_transformer",
    "as_transformers",
    "finish_qat",
    "prepare_qat",
    "quantize_dynamic",
    "report",
]


def __getattr__(name: str) -> Any:
    if name == "DynqConfig":  # it brings in transformers
        from .huggingface import DynqConfig

        return DynqConfig
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
