"""The inputs of a model that generates: new tokens, and for a model with an encoder the sources, once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..core.arguments import FLOAT32, Array
from .settings import Tokens

__all__ = ["Feed", "has_encoder", "is_generative"]

IDS, LENGTHS, PLACES = "input_ids", "lengths", "logits_at"
SOURCE_LENGTHS, DECODER_IDS = "source_lengths", "decoder_input_ids"


def has_encoder(names: Sequence[str]) -> bool:
    """Return whether a model with these inputs reads a source and writes a text."""
    return set(names) >= {DECODER_IDS, LENGTHS, PLACES}


def is_generative(names: Sequence[str]) -> bool:
    """Return whether a model with these inputs generates."""
    return has_encoder(names) or set(names) == {IDS, LENGTHS, PLACES}


class Feed:
    """Holds the inputs of the runs: the first one brings the sources, the later ones none.

    Args:
        names: those of the model's inputs.
        ids: prompts; or sources, if the model has an encoder: ids, or features (batch, ...) or of one source.
        begin: the tokens with which the texts of a model with an encoder begin; None: what its file says.
        tokens: those that mean something to the model.
        most: the rows that a source of ids can have.

    Raises:
        ValueError, TypeError: there are none, one is empty, or an id is out of range.
    """

    def __init__(self, names: Sequence[str], ids: Any, begin: Any, tokens: Tokens, most: int) -> None:
        self._ids_name, self._sources, self._empty = IDS, {}, {}
        if not has_encoder(names):
            if begin is not None:
                raise ValueError("decoder_input_ids is for models with an encoder; this one has none")
            self.prompts, self.is_even = prompts_of(ids, tokens)
            return
        self._ids_name = DECODER_IDS
        self._sources = _read(names, ids, tokens, most)
        self._empty = {name: value[:0] for name, value in self._sources.items()}
        if SOURCE_LENGTHS in names:
            self._empty[IDS] = np.zeros((0, 1), np.int64)
        count = len(next(iter(self._sources.values())))
        if begin is None and tokens.start is None:
            raise ValueError("decoder_input_ids is missing: the model does not say with which token a text begins")
        self.prompts, self.is_even = prompts_of([[tokens.start]] * count if begin is None else begin, tokens)
        if len(self.prompts) == 1 and count > 1:
            self.prompts = self.prompts * count
        if len(self.prompts) != count:
            raise ValueError(f"decoder_input_ids has {len(self.prompts)} rows; expected 1 or {count}, as ids has")

    def next(self, rows: Sequence[Sequence[int]]) -> Mapping[str, Array]:
        """Return the inputs of a run with new tokens of each sequence; a row may be empty."""
        lengths = np.array([len(row) for row in rows], np.int64)
        given, self._sources = self._sources, self._empty
        places = np.maximum(lengths - 1, 0)[:, None]
        return {**given, self._ids_name: _padded(rows, lengths), LENGTHS: lengths, PLACES: places}


def _read(names: Sequence[str], ids: Any, tokens: Tokens, most: int) -> dict[str, Array]:
    """Return sources by the names of their inputs."""
    if SOURCE_LENGTHS in names:
        rows, _ = prompts_of(ids, tokens)
        lengths = np.array([len(row) for row in rows], np.int64)
        if lengths.max() > most:
            raise ValueError(f"ids has a source of {lengths.max()} tokens; the model reads {most}")
        return {IDS: _padded(rows, lengths), SOURCE_LENGTHS: lengths}
    if hasattr(ids, "detach"):
        ids = ids.detach().cpu().numpy()
    features = np.asarray(ids)
    if features.dtype.kind != "f" or features.ndim not in (2, 3) or not len(features):
        raise TypeError(
            f"ids has {features.dtype} of shape {features.shape}; expected float features (batch, bins, frames)"
        )
    name = next(name for name in names if name not in (DECODER_IDS, LENGTHS, PLACES))
    return {name: features.astype(FLOAT32, copy=False).reshape((-1, *features.shape[-2:]))}


def _padded(rows: Sequence[Sequence[int]], lengths: Array) -> Array:
    ids: Array = np.zeros((len(rows), int(lengths.max())), np.int64)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = row
    return ids


def prompts_of(ids: Any, tokens: Tokens) -> tuple[list[list[int]], bool]:
    """Return prompts as lists of ids, and whether they came as an array or as lists of one length.

    Raises:
        ValueError, TypeError: there are none, one is empty, or an id is out of range.
    """
    if isinstance(ids, (str, bytes)):
        raise TypeError("ids is a text; expected token ids: a tokenizer makes them")
    if hasattr(ids, "detach"):  # a tensor of PyTorch
        ids = ids.detach().cpu().numpy()
    if isinstance(ids, np.ndarray) and ids.ndim not in (1, 2):
        raise ValueError(f"ids has shape {ids.shape}; expected (batch, length), or lists of ids")
    rows = list(ids)
    flat = bool(rows) and all(isinstance(row, (int, np.integer)) for row in rows)
    prompts = [np.asarray(row) for row in ([rows] if flat else rows)]
    if not prompts or any(prompt.size == 0 for prompt in prompts):
        raise ValueError("ids has an empty prompt; expected one token or more")
    for prompt in prompts:
        if prompt.ndim != 1 or prompt.dtype.kind not in "iu":
            raise TypeError(f"ids has a prompt of {prompt.dtype} and shape {prompt.shape}; expected a row of integers")
        outside = (prompt < 0) | (prompt >= (tokens.vocabulary or 2**62))
        if outside.any():
            raise ValueError(f"ids has {prompt[outside][0]}; expected 0 to {(tokens.vocabulary or 2**62) - 1}")
    return [prompt.astype(np.int64).tolist() for prompt in prompts], len({prompt.size for prompt in prompts}) == 1
