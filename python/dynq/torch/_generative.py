"""A model that generates, as transformers' GenerationMixin takes it: ``as_transformers`` imports this module."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from transformers import GenerationConfig, GenerationMixin, PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput, CausalLMOutputWithPast, Seq2SeqLMOutput

from ..model import Model
from ..state import State

__all__ = ["wrapped"]

_CACHE = "cache" if "cache" in CausalLMOutputWithPast.__dataclass_fields__ else "past_key_values"  # the older name


class Kept:
    """Stands for a cache: a state, and how many columns of ids it has read."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.columns = 0

    def get_seq_length(self, *layer: int) -> int:
        """Return the columns."""
        return self.columns

    def reorder_cache(self, beam_idx: torch.Tensor) -> None:
        """Make sequence i what ``beam_idx[i]`` was."""
        self.state.reorder(beam_idx.tolist())


class _Generative(PreTrainedModel, GenerationMixin):  # type: ignore[misc]
    """Runs a model of dynq. The mask may leave columns of padding out, on either side."""

    config_class = PreTrainedConfig
    _is_stateful = True  # what a state has read cannot be taken back by columns
    _supports_sdpa = True  # the words for how it attends: it is not asked

    def __init__(self, config: Any, model: Model) -> None:
        super().__init__(config)
        self._model = model

    @property
    def device(self) -> torch.device:
        return torch.device("cpu")

    @property
    def dtype(self) -> torch.dtype:
        return torch.float32

    @classmethod
    def _supports_default_dynamic_cache(cls) -> bool:
        return False

    def prepare_inputs_for_generation(self, input_ids: Any, cache: Any = None, **kwargs: Any) -> dict[str, Any]:
        kept = cache if cache is not None else kwargs.get("past_key_values")
        names = ("attention_mask", "encoder_outputs", "logits_to_keep")
        given = {name: kwargs[name] for name in names if kwargs.get(name) is not None}
        ids = input_ids if kept is None else input_ids[:, kept.columns :]
        return {self._ids_name: ids, "past_key_values": kept, **given}

    @property
    def _ids_name(self) -> str:
        return "decoder_input_ids" if self.config.is_encoder_decoder else "input_ids"

    def _write(self, ids: Any, mask: Any, kept: Kept | None, source: dict[str, Any], last: int) -> tuple[Any, Kept]:
        """Return the logits of the ``last`` columns, or of all if it is 0, and what is kept."""
        kept = kept or Kept(self._model.state())
        columns = ids.shape[1]
        counted = np.ones(ids.shape, bool) if mask is None else mask[:, -columns:].cpu().numpy() != 0
        lengths = counted.sum(1)
        rows = np.zeros((len(ids), max(int(lengths.max()), 1)), np.int64)
        for row, own, seen in zip(rows, ids.cpu().numpy(), counted, strict=True):
            row[: seen.sum()] = own[seen]
        wanted = np.maximum(np.cumsum(counted, 1) - 1, 0)[:, -last:]
        given = {self._ids_name: rows, "lengths": lengths, "logits_at": wanted}
        logits = kept.state.run({**source, **given})["logits"]
        kept.columns += columns
        return torch.from_numpy(logits), kept


class Decoder(_Generative):
    """A model that goes on with ids."""

    def forward(
        self,
        input_ids: Any,
        attention_mask: Any = None,
        past_key_values: Kept | None = None,
        logits_to_keep: int = 0,
        return_dict: bool = True,
    ) -> Any:
        """Return logits (batch, columns, words) as transformers' models do."""
        logits, kept = self._write(input_ids, attention_mask, past_key_values, {}, logits_to_keep)
        more: dict[str, Any] = {_CACHE: kept}
        output = CausalLMOutputWithPast(logits=logits, **more)
        return output if return_dict else output.to_tuple()


class EncoderDecoder(_Generative):
    """A model that writes about sources. Its encoder only hands them on: one run computes everything."""

    def __init__(self, config: Any, model: Model) -> None:
        super().__init__(config, model)
        self.encoder = _Sources()
        self.main_input_name = model.inputs[0].name

    def get_encoder(self, *rest: Any, **more: Any) -> Any:
        return self.encoder

    def forward(
        self,
        encoder_outputs: Any = None,
        decoder_input_ids: Any = None,
        attention_mask: Any = None,
        past_key_values: Kept | None = None,
        logits_to_keep: int = 0,
        return_dict: bool = True,
    ) -> Any:
        """Return logits (batch, columns, words) as transformers' models do."""
        sources = encoder_outputs[0].cpu().numpy()
        if past_key_values is not None:
            sources = sources[:0]
        given = {self.main_input_name: sources}
        if self.main_input_name == "input_ids":
            counted = np.ones(sources.shape, bool) if attention_mask is None else attention_mask.cpu().numpy() != 0
            counted = counted[: len(sources)]
            if (np.sort(~counted, 1) != ~counted).any():
                raise ValueError("attention_mask has padding before a source; expected it behind: padding_side='right'")
            given["source_lengths"] = counted.sum(1)
        logits, kept = self._write(decoder_input_ids, None, past_key_values, given, logits_to_keep)
        more: dict[str, Any] = {_CACHE: kept}
        output = Seq2SeqLMOutput(logits=logits, **more)
        return output if return_dict else output.to_tuple()


class _Sources(torch.nn.Module):  # type: ignore[misc]
    """Gives its input as what an encoder returns."""

    main_input_name = "input_ids"

    def forward(self, input_ids: Any = None, input_features: Any = None, **more: Any) -> Any:
        return BaseModelOutput(last_hidden_state=input_features if input_ids is None else input_ids)


def wrapped(model: Model, notes: dict[str, Any]) -> Any:
    """Return the model with a configuration of what its file says."""
    noted = {name: value for name, value in notes.items() if value is not None}
    kind = EncoderDecoder if model.has_encoder else Decoder
    given: dict[str, Any] = {"is_encoder_decoder": model.has_encoder, "vocab_size": noted.pop("vocab_size", None)}
    config = PreTrainedConfig(**given)
    result = kind(config, model).eval()
    result.generation_config = GenerationConfig(**noted)
    return result
