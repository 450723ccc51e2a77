"""A decoder of transformers that looks at a source, a text or sound: it and its encoder in one graph with state.

A run that brings sources computes the encoder, and the session keeps the keys and values of its rows. A later run
brings no source: there is nothing to encode, and the decoder looks at what is kept.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from ...conversion import Unsupported, UnsupportedModelError
from .decoder import NAMESPACE, Decoder, Mask, attention_shape, cache_name, new_cache

__all__ = ["EncoderDecoder"]

POSITIONS = "decoder_position_ids"  # the argument of models that take the numbers of rows
_ROWS = 7  # of an example
_FRAMES_OF_A_ROW = 2  # in Whisper
EMBEDDING = "embed_positions"  # the module of others that gives what is added to the rows

_library = torch.library.Library(NAMESPACE, "FRAGMENT")
_library.define(
    "cross_attention(Tensor q, Tensor k, Tensor v, Tensor? lengths, int layer, float scale, float softcap, int most)"
    " -> Tensor"
)
_library.define("source(Tensor hidden, Tensor ids) -> Tensor")


def _source_shape(hidden: Any, ids: Any) -> Any:
    """Return as many rows for each sequence, or none if there are no sources."""
    return hidden.new_empty((ids.shape[0], hidden.shape[0] * hidden.shape[1] // ids.shape[0], hidden.shape[2]))


torch.library.register_fake(f"{NAMESPACE}::cross_attention", attention_shape, lib=_library)
torch.library.register_fake(f"{NAMESPACE}::source", _source_shape, lib=_library)


class EncoderDecoder(Decoder):
    """A model of transformers with an encoder.

    It takes sources (sources, ...), as many as there are sequences or none, and for ids also how many rows of each
    count; and what a decoder takes.
    """

    def __init__(self, model: Any, most: int, most_of_source: int) -> None:
        super().__init__(model, most)
        self.most_of_source = most_of_source
        self.source_lengths: Any = None
        self._encoding = False
        self._ids: Any = None
        self._cross: list[Any] = []  # keys of the source, of layers that have called attention
        self._tables = {} if self._takes_positions() else self._embedded_positions()

    def inputs(self) -> dict[str, tuple[Any, dict[int, str]]]:
        """Return an example of each input by name, and the names of its open sizes."""
        name, config = self.model.main_input_name, self.model.config
        own = super().inputs()
        ids = own.pop("input_ids")
        if name == "input_ids":
            rows = min(_ROWS, self.most_of_source)
            source: dict[str, tuple[Any, dict[int, str]]] = {
                name: (torch.ones(2, rows, dtype=torch.int64), {0: "sources", 1: "source_rows"}),
                "source_lengths": (torch.full((2,), rows), {0: "sources"}),
            }
        elif name == "input_features" and hasattr(config, "num_mel_bins"):
            frames = _FRAMES_OF_A_ROW * self.most_of_source
            source = {name: (torch.zeros(2, config.num_mel_bins, frames), {0: "sources"})}
        else:
            raise UnsupportedModelError(
                f"{type(self.model).__name__} takes {name}; ids and log-mel frames are read", {}
            )
        return {**source, "decoder_input_ids": ids, **own}

    def forward(self, *inputs: Any) -> Any:
        from transformers.cache_utils import EncoderDecoderCache
        from transformers.modeling_outputs import BaseModelOutput

        source, *lengths, ids, self.lengths, self.places = inputs
        self._ids = ids
        self.source_lengths = lengths[0] if lengths else None
        self.layers, self._cross = 0, []
        self._encoding = True
        hidden = self.model.get_encoder()(**{self.model.main_input_name: source}, return_dict=True)[0]
        self._encoding = False
        hidden = torch.ops.dynq_export.source(hidden, ids)
        cache = EncoderDecoderCache(new_cache(), new_cache(self._cross.append))
        given: dict[str, Any] = {cache_name(inspect.signature(self.model.forward).parameters): cache, "use_cache": True}
        if self._takes_positions():
            given[POSITIONS] = torch.ops.dynq_export.positions(ids, self.lengths)
        output = BaseModelOutput(last_hidden_state=hidden)
        return self.model(encoder_outputs=output, decoder_input_ids=ids, return_dict=True, **given).logits

    def attention(
        self,
        module: Any,
        query: Any,
        key: Any,
        value: Any,
        attention_mask: Any,
        scaling: float | None = None,
        softcap: float | None = None,
        sliding_window: int | None = None,
        **others: Any,
    ) -> tuple[Any, None]:
        """Attend as transformers' functions do: in the encoder, to the source, or to the text."""
        bias = others.pop("position_bias", None)
        if self._encoding:
            return self._encode(query, key, value, attention_mask, bias, scaling), None
        if any(key is keys for keys in self._cross):
            if bias is not None and getattr(module, "has_relative_attention_bias", True):
                raise Unsupported(f"attention of {type(module).__name__} to a source with a bias of its own")
            y = torch.ops.dynq_export.cross_attention(
                query, key, value, self.source_lengths, self.layers - 1,
                query.shape[-1] ** -0.5 if scaling is None else float(scaling), float(softcap or 0.0),
                self.most_of_source,
            )  # fmt: skip
            return y.view(query.shape[0], query.shape[2], query.shape[1], value.shape[3]), None
        distances = bias.table if isinstance(bias, _Bias) else None
        if bias is not None and distances is None:
            raise Unsupported(f"attention of {type(module).__name__} with a bias of its own")
        return super().attention(
            module, query, key, value, attention_mask, scaling, softcap, sliding_window, distances=distances, **others
        )

    def _encode(self, query: Any, key: Any, value: Any, mask: Any, bias: Any, scale: Any) -> Any:
        if mask is not None and not (isinstance(mask, Mask) and not mask.causal):
            raise Unsupported("an encoder whose rows do not look at all others")
        if self.source_lengths is not None:
            counted = torch.arange(key.shape[2]).unsqueeze(0) < self.source_lengths.unsqueeze(1)
            counted = counted[:, None, None, :]
            bias = counted if bias is None else bias.masked_fill(~counted, float("-inf"))
        y = torch.nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=bias, scale=scale)
        return y.transpose(1, 2)

    @contextmanager
    def context(self) -> Iterator[None]:
        """Give embeddings of positions and biases by distance the numbers of the rows, which the session knows."""
        hooks, patched = [], []
        for name, part in self.model.get_decoder().named_modules():
            if name in self._tables:
                hooks.append(part.register_forward_hook(self._placed(self._tables[name])))
            elif hasattr(part, "compute_bias") and getattr(part, "has_relative_attention_bias", False):
                part.compute_bias = _Bias(part, self.most).give
                patched.append(part)
        if not hooks and not patched and not self._takes_positions():
            raise UnsupportedModelError(f"{type(self.model).__name__} does not say where its positions come from", {})
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()
            for part in patched:
                del part.compute_bias

    def _takes_positions(self) -> bool:
        return POSITIONS in inspect.signature(self.model.forward).parameters

    def _embedded_positions(self) -> dict[str, Any]:
        """Return what the decoder adds to its rows by their positions, (positions, width), by the module's name."""
        tables: dict[str, Any] = {}
        decoder, config = self.model.get_decoder(), self.model.config
        hooks = [
            part.register_forward_hook(
                lambda module, given, output, name=name: tables.update({name: output.reshape(-1, output.shape[-1])})
            )
            for name, part in decoder.named_modules()
            if name.split(".")[-1] == EMBEDDING
        ]
        try:
            if hooks:
                pad = getattr(config, "pad_token_id", None)
                ids = torch.full((1, self.most), 1 if pad == 0 else 0)  # padding may have no position
                with torch.no_grad():
                    decoder(input_ids=ids, encoder_hidden_states=torch.zeros(1, 1, config.hidden_size), use_cache=False)
        finally:
            for hook in hooks:
                hook.remove()
        return {name: table.detach().clone() for name, table in tables.items()}

    def _placed(self, table: Any) -> Any:
        """Return a hook that gives the rows of a table at the positions that the session counts."""

        def replaced(module: Any, given: Any, output: Any) -> Any:
            return torch.nn.functional.embedding(torch.ops.dynq_export.positions(self._ids, self.lengths), table)

        return replaced


class _Bias:
    """Holds what a module adds to scores by the distance back to a position: (heads, distances)."""

    def __init__(self, part: Any, most: int) -> None:
        with torch.no_grad():
            self.table = part.compute_bias(1, most, past_seen_tokens=most - 1)[0, :, 0].flip(1).contiguous()

    def give(self, *given: Any, **more: Any) -> _Bias:
        """Return it, whatever the rows are."""
        return self
