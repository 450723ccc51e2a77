"""The architectures of transformers with small random weights, by rules that act on names of settings."""

from __future__ import annotations

import copy
import functools
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from .runner import Record

__all__ = ["architectures", "small_model", "transformer_cases"]

_LARGEST = 40_000_000  # parameters of a model that is small enough
_TOKENS = 500

# The first pattern that a setting's name matches gives its small value, unless it is smaller already.
_SMALL = (
    (r"num_hidden_groups|inner_group_num|num_quantizers|num_codebooks|n_codebooks", 2),
    (r"(pad|bos|eos|sep|cls|mask|unk|start|end|image|video|audio|vision|boi|eoi|forced\w*)"
     r"_(token_)?(id|index)\w*|num_feat_extract_layers", None),
    (r"\w*vocab_size|codebook_size|num_embeddings|\w*_vocab", _TOKENS + 12),
    (r"(num_)?key_value_heads|num_kv_heads|\w*num_key_value_heads", 2),
    (r"\w*(attention_)?heads|n_heads?|num_heads", 4),
    (r"\w*head_dim|d_kv|d_head|dim_head", 16),
    (r"\w*(intermediate|ffn|ff|mlp|feedforward)\w*_(size|dim)|d_ff|d_inner|dff|\w*linear_units|dim_ff", 128),
    (r"num_local_experts|num_experts|n_routed_experts", 4),
    (r"\w*num_conv_pos_embeddings", 16),
    (r"\w*num_conv_pos_embedding_groups", 4),
    (r"(\w*_)?(layers|n_layer|num_layers|depth|num_blocks|num_encoder_blocks)|num_\w*layers", 2),
    (r"\w*(hidden|embed|embedding|d_model|projection|model|width|channels)_?(size|dim)|d_model|n_embd|embed_dim|"
     r"emb_dim|dim|embedding_size|pooler_output_size|codebook_dim|upsample_initial_channel|decoder_hidden_size", 64),
    (r"\w*(image|img|pretrain_image)_size|resolution", 64),
    (r"patch_size|\w*_patch_size", 8),
    (r"max_(source|target)_positions", 64),
    (r"\w*max_\w*position\w*|n_positions|n_ctx|context_length|max_seq_len", 256),
    (r"num_mel_bins", 80),
    (r"num_frames", 4),
    (r"num_queries|num_query_tokens", 16),
)  # fmt: skip
_DEEP = r"(depths?|block_repeats|num_block_repeats|layers|num_layers)"
_WIDE = r"(\w*hidden_sizes|embed_dims?|conv_dim|\w*channels|\w*feature_dims|out_channels|tdnn_dim)"


def architectures() -> dict[str, Any]:
    """Return the class of settings and of the model for each architecture that the library wrote on its own.

    One that the library derives from another in a file ``modular_*.py`` is that other one with a few changes.
    """
    import transformers
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING, model_type_to_module_name
    from transformers.models.auto.modeling_auto import MODEL_MAPPING_NAMES

    root = Path(transformers.__file__).parent / "models"
    found = {}
    for kind, names in MODEL_MAPPING_NAMES.items():
        if not any((root / model_type_to_module_name(kind)).glob("modular_*.py")):
            name = names if isinstance(names, str) else names[0]
            found[kind] = functools.partial(_classes, CONFIG_MAPPING, kind, name)
    return found


def _classes(mapping: Any, kind: str, name: str) -> tuple[Any, Any]:
    import transformers

    return mapping[kind], getattr(transformers, name)


def small_model(kind: str) -> tuple[Any, dict[str, Any], dict[str, dict[int, str]]]:
    """Return a small model of an architecture, inputs that it runs on, and the names of their open sizes.

    Raises:
        ValueError: no small settings were found with which it runs; the text has the last reason.
    """
    import torch

    from .inputs import candidates

    config_class, model_class = architectures()[kind]()
    reasons = []
    for settings in _settings(config_class):
        try:
            config = config_class(**settings)
            with torch.device("meta"):
                count = sum(p.numel() for p in model_class(copy.deepcopy(config)).parameters())
            if count > _LARGEST:
                reasons.append(f"{count:,} parameters")
                continue
            torch.manual_seed(0)
            model = model_class(config).eval()
        except Exception as error:  # of many types: settings that do not go together
            reasons.append(f"{type(error).__name__}: {error}")
            continue
        for inputs, names in candidates(model):
            try:
                with torch.no_grad():
                    model(**inputs)
                return model, inputs, names
            except Exception as error:  # of many types: inputs that do not fit
                reasons.append(f"{type(error).__name__}: {error}")
    raise ValueError(f"no small settings: {reasons[0]}")


def _settings(config_class: Any) -> Iterator[dict[str, Any]]:
    """Yield settings from small to large."""
    given = config_class().to_dict()
    for lists, widths in ((True, True), (False, True), (True, False), (False, False)):
        yield _shrunk(given, lists, widths)
    yield given


def _shrunk(given: dict[str, Any], lists: bool, widths: bool) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for name, value in given.items():
        if isinstance(value, dict) and "label" not in name:
            result[name] = _shrunk(value, lists, widths)
        elif isinstance(value, int) and not isinstance(value, bool):
            result[name] = _small(name, value, widths)
        elif isinstance(value, (list, tuple)) and value and all(type(item) is int for item in value):
            result[name] = _small_list(name, list(value)) if lists else value
        elif re.fullmatch(r"layers?_(block_)?types?", name) and value:
            result[name] = [value[0], value[-1]]
        else:
            result[name] = value
    for name in (
        "transformers_version",
        "architectures",
        "torch_dtype",
        "dtype",
        "out_features",
        "out_indices",
        "stage_names",
    ):
        result.pop(name, None)
    return result


def _small(name: str, value: int, widths: bool) -> int:
    for pattern, small in _SMALL:
        if re.fullmatch(pattern, name):
            if small is None:
                return value if value < _TOKENS else 4 + value % 17
            if not widths and small >= 16 and "vocab" not in name:
                return value
            return min(value, small)
    return value


def _small_list(name: str, value: list[int]) -> list[int]:
    if re.fullmatch(_DEEP, name):
        return [min(item, 2) for item in value]
    if re.fullmatch(r"\w*num_attention_heads|\w*heads", name):
        return [min(item, 2) for item in value]
    if re.fullmatch(_WIDE, name) and max(value) > 64:
        return [max(16, round(item * 8 / max(value)) * 16) for item in value]
    return value


def transformer_cases(names: list[str]) -> dict[str, Callable[[Record], None]]:
    """Return a case for each architecture, or for those given."""
    import torch

    import dynq

    from .paths import case, warm

    torch.set_num_threads(1)
    dynq.set_num_threads(1)
    known = architectures()
    if unknown := [name for name in names if name not in known]:
        raise SystemExit(f"no architecture {', '.join(unknown)}")
    warm()
    return {kind: functools.partial(case, kind) for kind in names or known}
