"""Inputs for models of transformers, by the names that their forward has."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Iterator
from typing import Any

import torch

__all__ = ["candidates", "resized"]

_TEXT, _TARGET = 14, 10  # lengths of inputs and of what a decoder reads
_IDS = ("input_ids", "decoder_input_ids")
_SOMETIMES = ("bbox", "encoder_hidden_states", "input_features", "input_values")  # that some models need, unsaid
_Names = dict[str, dict[int, str]]


def candidates(model: Any) -> Iterator[tuple[dict[str, Any], _Names]]:
    """Yield inputs that a model may run on, with the names of their open sizes."""
    parameters = inspect.signature(model.forward).parameters
    config = model.config
    main = getattr(model, "main_input_name", "input_ids")
    choices = []
    for name in parameters:
        required = parameters[name].default is inspect.Parameter.empty
        optional = name in ("input_ids", "decoder_input_ids", "attention_mask", "pixel_values")
        if parameters[name].kind is inspect.Parameter.VAR_KEYWORD or name == "args":
            continue
        if name == main or required or optional or name in _SOMETIMES:
            options = list(_options(name, config))
            if name in _SOMETIMES and not required and name != main:
                options.insert(0, None)
            if optional and name not in (main, "attention_mask") and not required:
                options.append(None)  # some take one of two inputs
            if name == "attention_mask" and "input_ids" not in parameters:
                continue
            if options:
                choices.append([(name, option) for option in options])
    for chosen in itertools.islice(itertools.product(*choices), 60):
        given = {name: option for name, option in chosen if option is not None}
        yield {name: value for name, (value, _) in given.items()}, {name: names for name, (_, names) in given.items()}


def _options(name: str, config: Any) -> Iterator[Any]:
    torch.manual_seed(1)
    batch = {0: "batch"}
    if name in _IDS:
        length, axis = (_TARGET, "target") if name.startswith("decoder") else (_TEXT, "sequence")
        yield torch.randint(30, _vocabulary(config), (2, length)), {**batch, 1: axis}
    elif name == "attention_mask":
        mask = torch.ones(2, _TEXT, dtype=torch.int64)
        mask[1, -3:] = 0
        yield mask, {**batch, 1: "sequence"}
    elif name == "bbox":
        yield torch.randint(0, 9, (2, _TEXT, 1)).repeat(1, 1, 4), {**batch, 1: "sequence"}
    elif name in ("pixel_values", "pixel_values_videos"):
        size, channels = _setting(config, "image_size", 64), _setting(config, "num_channels", 3)
        frames = _setting(config, "num_frames", _setting(config, "frames_per_clip", 0))
        for height, width in dict.fromkeys([_pair(size), (64, 64), (96, 96), (224, 224)]):
            if frames:
                yield torch.randn(2, frames, channels, height, width), batch
            yield torch.randn(2, channels, height, width), batch
    elif name in ("input_values", "past_values", "waveform"):
        yield torch.randn(2, 4000), {**batch, 1: "samples"}
        yield torch.randn(2, 1, 4000), {**batch, 2: "samples"}
        length = _setting(config, "context_length", 32)
        yield torch.randn(2, length, _setting(config, "num_input_channels", 1)), batch
        yield torch.randn(2, _setting(config, "max_length", 64), _setting(config, "num_mel_bins", 80)), batch
    elif name == "input_features":
        mels = _setting(config, "num_mel_bins", _setting(config, "feature_size", 80))
        yield torch.randn(2, mels, 2 * _setting(config, "max_source_positions", 64)), batch
        yield torch.randn(2, 64, _setting(config, "input_feat_per_channel", mels)), {**batch, 1: "frames"}
        yield torch.randn(2, 1, 128, mels), batch
        yield torch.randn(2, 64, _setting(config, "feature_projection_input_dim", 160)), {**batch, 1: "frames"}
    elif name in ("inputs_embeds", "hidden_states", "encoder_hidden_states", "query_embeds"):
        yield torch.randn(2, _TEXT, _setting(config, "hidden_size", 64)), {**batch, 1: "sequence"}


def resized(inputs: dict[str, Any], names: _Names) -> dict[str, Any]:
    """Return inputs of another batch and other lengths, where their sizes are open."""
    result = {}
    generator = torch.Generator().manual_seed(2)
    for name, value in inputs.items():
        for axis, size in names.get(name, {}).items():
            length = 3 if size == "batch" else value.shape[axis] + (800 if size == "samples" else 5)
            index = torch.randint(0, value.shape[axis], (length,), generator=generator)
            value = value.index_select(axis, index)
        if name == "attention_mask":
            value = torch.ones_like(value)
            value[1, -2:] = 0
        result[name] = value.contiguous()
    return result


def _vocabulary(config: Any) -> int:
    return min(int(_setting(config, "vocab_size", 400)), 500)


def _pair(size: Any) -> tuple[int, int]:
    return (int(size), int(size)) if isinstance(size, int) else (int(size[0]), int(size[1]))


def _setting(config: Any, name: str, default: Any) -> Any:
    """Return a setting, of the parts of a config too."""
    found = getattr(config, name, None)
    if found is not None:
        return found
    for part in vars(config).values():
        if hasattr(part, "to_dict") and (inner := _setting(part, name, None)) is not None:
            return inner
    return default
