"""quantize_dynamic: PyTorch's function, with its arguments and dynq's."""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn
from torch.nn.modules.dropout import _DropoutNd
from torch.nn.parallel import DataParallel, DistributedDataParallel

from ..errors import NotConvertedWarning
from ..quantization.options import FloatOrInt8
from .convert import convert

__all__ = ["NotConvertedWarning", "quantize_dynamic"]


def quantize_dynamic(
    module: nn.Module,
    qconfig_spec: Any = None,
    dtype: Any = torch.qint8,
    mapping: None = None,
    inplace: bool = False,
    *,
    keep_float: str | Iterable[str] = (),
    first_layer: FloatOrInt8 | None = None,
    strict: bool = False,
) -> nn.Module:
    """The model with int8 weights, whose layers quantize their inputs as they come: torch.ao.quantization's function.

    Args:
        module: a model on the CPU, in evaluation mode: its layers with weights and its dropouts.
        qconfig_spec: what to convert. A set of types (``{nn.Linear, nn.LSTM}``; a type of a larger module stands for
            what is in it) and names of modules, or a dict of them with None for what stays float. None: all
            that dynq has: Linear, LSTM, GRU, RNN and their cells, Embedding, EmbeddingBag, Conv1d, Conv2d and
            MultiheadAttention, also within the layers of nn.Transformer.
        dtype: torch.qint8; dynq has no other.
        mapping: None.
        inplace: True: the modules of ``module`` itself are replaced, each float weight is freed when it is converted,
            and ``module`` comes back. False: ``module`` stays as it is; what stays float is copied.
        keep_float: names of modules (with all below them) or of weights of recurrent modules
            (``"lstm.weight_ih_l0"``), or patterns (``"encoder.layer.0.*"``), that stay float.
        first_layer: "int8" or "float", what the projection of a recurrent module's inputs becomes. None: what runs
            of the module on made-up inputs tell (docs/pytorch.md).
        strict: True: a module that was asked for and cannot be converted is an error, and nothing is converted. If
            ``qconfig_spec`` is None, so are modules without a counterpart in dynq that have over 5 % of the weights.

    Returns:
        The converted model. Where ``module`` itself is of such a type, the module that takes its place. Of a
        DistributedDataParallel or DataParallel, the converted model within it.

    Raises:
        UnsupportedModelError: ``strict``, and some modules cannot be converted; the error lists all of them.
        ValueError, TypeError: an argument is wrong; ``keep_float`` or ``qconfig_spec`` names what is not there.

    Warns:
        NotConvertedWarning: some modules cannot be converted, or none was, or over 5 % of the weights stay float though
            neither ``keep_float`` nor ``qconfig_spec`` says so; ``report`` tells of each.
    """
    _check(module, dtype, mapping, first_layer)
    spec, patterns = _spec(qconfig_spec), _patterns(keep_float)
    if isinstance(module, (DataParallel, DistributedDataParallel)):
        module, spec, patterns = _within(module, spec, patterns)
    result, texts = convert(module, spec, patterns, first_layer, inplace, strict)
    _mark(result)
    if texts:
        warnings.warn("\n".join(texts), NotConvertedWarning, stacklevel=2)
    return result


def _mark(result: nn.Module) -> None:
    """Have models of transformers save what they became, if there are any."""
    models = sys.modules.get("transformers.modeling_utils")
    if models is None or not any(isinstance(module, models.PreTrainedModel) for module in result.modules()):
        return
    if hasattr(importlib.import_module("transformers.quantizers.auto"), "register_quantizer"):
        from .huggingface import mark_models

        mark_models(result)


# ---- Arguments


def _check(module: Any, dtype: Any, mapping: Any, first_layer: Any) -> None:
    if not isinstance(module, nn.Module):
        raise TypeError(f"module is of type {type(module).__name__}; expected torch.nn.Module")
    if dtype != torch.qint8:
        raise ValueError(f"dtype is {dtype}; expected torch.qint8: dynq has int8 weights alone")
    if mapping is not None:
        raise ValueError(
            "mapping is given; expected None: each type has one module in dynq (qconfig_spec chooses types)"
        )
    if first_layer not in (None, "float", "int8"):
        raise ValueError(f"first_layer is {first_layer!r}; expected 'float', 'int8' or None")
    if module.training and (name := _trains(module)) is not None:
        where = f"module {name!r}" if name else "module"
        raise ValueError(f"{where} is in training mode; expected evaluation mode: call module.eval() first")


def _trains(root: nn.Module) -> str | None:
    """Return the name of a module with weights, or of a dropout, that is in training mode.

    That of a wrapper alone says nothing: sentence_transformers' is in training mode until its first ``encode``.
    """
    for name, module in root.named_modules():
        if module.training and (module._parameters or isinstance(module, _DropoutNd)):
            return name
    return None


def _spec(spec: Any) -> dict[Any, bool] | None:
    """Types and names, and whether they are converted."""
    if spec is None:
        return None
    if isinstance(spec, (str, type)) or not isinstance(spec, Iterable):
        raise TypeError(f"qconfig_spec is {spec!r}; expected a set of types and names, or a dict of them")
    result = {}
    for key in spec:
        if not isinstance(key, str) and not (isinstance(key, type) and issubclass(key, nn.Module)):
            raise TypeError(f"qconfig_spec has {key!r}; expected types of modules and names")
        result[key] = not isinstance(spec, Mapping) or _is_int8(key, spec[key])
    return result


def _is_int8(key: Any, qconfig: Any) -> bool:
    if qconfig is None:
        return False
    try:
        weight = qconfig.weight().dtype
    except (AttributeError, TypeError) as error:
        raise TypeError(f"qconfig_spec[{key!r}] is {qconfig!r}; expected a QConfig or None") from error
    if weight not in (torch.qint8, torch.quint8):
        raise ValueError(f"qconfig_spec[{key!r}] has weights of {weight}; expected torch.qint8: dynq has int8 alone")
    return True


def _patterns(keep_float: Any) -> tuple[str, ...]:
    patterns = (keep_float,) if isinstance(keep_float, str) else tuple(keep_float)
    for pattern in patterns:
        if not isinstance(pattern, str):
            raise TypeError(f"keep_float has {pattern!r}; expected names of modules or patterns")
    return patterns


def _within(
    wrapper: Any, spec: dict[Any, bool] | None, patterns: tuple[str, ...]
) -> tuple[nn.Module, dict[Any, bool] | None, tuple[str, ...]]:
    """Return the module in a wrapper of data parallelism, and names without its ``module.``."""

    def name(text: Any) -> Any:
        return text.removeprefix("module.") if isinstance(text, str) else text

    short = None if spec is None else {name(key): value for key, value in spec.items()}
    return wrapper.module, short, tuple(map(name, patterns))
