"""dynq: neural networks on CPUs with dynamic INT8 quantization.

>>> import dynq, numpy as np
>>> rng = np.random.default_rng(0)
>>> w, x = rng.standard_normal((256, 64), np.float32), rng.standard_normal((8, 64), np.float32)
>>> qw = dynq.quantize_weight(w)
>>> y = dynq.linear(x, qw, activation="relu")
>>> bool(np.abs(y - np.maximum(x @ w.T, 0)).max() < 0.5)
True
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from . import isa
from .accuracy.calibrate import calibrate
from .arrays import dequantize, matmul, minmax, quantize
from .core.call import library_version
from .errors import (
    AccumulatorOverflowError,
    Error,
    FileAccessError,
    FileFormatError,
    InvalidModelError,
    IsaError,
    IsaNotBuiltError,
    IsaNotSupportedError,
    IsaUnknownError,
    MissingPackageError,
    NonFiniteError,
    NotConvertedWarning,
    OutOfMemoryError,
    SoundFileError,
    UnsupportedModelError,
)
from .exporters.onnx import export_onnx, ort_library
from .exporters.tflite import export_tflite
from .graph import Graph
from .importers.decoders import from_transformers
from .importers.onnx import from_onnx
from .importers.sklearn import SklearnEstimator, from_sklearn
from .importers.tflite import from_tflite
from .importers.torch import from_torch
from .model import Model, load
from .recurrent import RecurrentWeights, gru, gru_weights, lstm, lstm_weights, rnn, rnn_weights
from .speech import Transcript, transcribe
from .threads import get_num_threads, set_num_threads
from .verification import verify
from .weights import QuantizedWeight, gemm_s32, linear, quantize_weight

if TYPE_CHECKING:
    from . import jax as jax
    from . import torch as torch

__version__ = library_version()

__all__ = [
    "AccumulatorOverflowError",
    "Error",
    "FileAccessError",
    "FileFormatError",
    "Graph",
    "InvalidModelError",
    "IsaError",
    "IsaNotBuiltError",
    "IsaNotSupportedError",
    "IsaUnknownError",
    "MissingPackageError",
    "Model",
    "NonFiniteError",
    "NotConvertedWarning",
    "OutOfMemoryError",
    "QuantizedWeight",
    "RecurrentWeights",
    "SklearnEstimator",
    "SoundFileError",
    "Transcript",
    "UnsupportedModelError",
    "__version__",
    "calibrate",
    "dequantize",
    "export_onnx",
    "export_tflite",
    "from_onnx",
    "from_sklearn",
    "from_tflite",
    "from_torch",
    "from_transformers",
    "gemm_s32",
    "get_num_threads",
    "gru",
    "gru_weights",
    "isa",
    "linear",
    "load",
    "lstm",
    "lstm_weights",
    "matmul",
    "minmax",
    "ort_library",
    "quantize",
    "quantize_weight",
    "rnn",
    "rnn_weights",
    "set_num_threads",
    "transcribe",
    "verify",
]

if not TYPE_CHECKING:  # at run time only: otherwise type checkers would take every name to exist

    def __getattr__(name: str) -> Any:
        if name in ("torch", "jax"):  # importing PyTorch takes a second
            return importlib.import_module(f".{name}", __name__)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
