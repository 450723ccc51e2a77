"""Write tokens one after another: greedy, sampled, or by beams."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from ..core.arguments import Array
from .beams import Beams
from .feed import Feed
from .sampling import Uniform, greedy, log_probabilities, penalized, sampled
from .settings import Settings

__all__ = ["generate"]

LOGITS = "logits"


class Keeps(Protocol):
    """A state, as far as generating needs it."""

    def run(self, inputs: Mapping[str, Any]) -> dict[str, Array]:
        """Run behind what there is."""

    def reorder(self, places: Sequence[int]) -> None:
        """Make sequence i what ``places[i]`` was."""

    @property
    def lengths(self) -> list[int]:
        """Return how many positions each sequence has."""


def generate(state: Keeps, feed: Feed, settings: Settings, most: int, streamer: Any = None) -> list[list[int]]:
    """Return the new tokens of each prompt.

    Args:
        most: the positions that a sequence of the model can have.
        streamer: gets each step's tokens by ``put`` and the end by ``end``, as transformers' do; or is called.

    Raises:
        ValueError: a prompt and its new tokens have no room.
    """
    longest = max(map(len, feed.prompts))
    if longest + settings.max_new_tokens - 1 > most:
        raise ValueError(
            f"a prompt of {longest} tokens and max_new_tokens of {settings.max_new_tokens} take "
            f"{longest + settings.max_new_tokens - 1} positions; the model has {most}"
        )
    write = _beams if settings.num_beams > 1 else _single
    result = write(state, feed, settings, streamer)
    if streamer is not None and hasattr(streamer, "end"):
        streamer.end()
    return result


def _step(state: Keeps, feed: Feed, rows: Sequence[Sequence[int]]) -> Array:
    """Run new tokens of each sequence; return the logits behind the last of each. A row may be empty."""
    return np.asarray(state.run(feed.next(rows))[LOGITS][:, 0])


def _put(streamer: Any, tokens: list[int]) -> None:
    if streamer is not None:
        value = np.array(tokens, np.int64)
        streamer.put(value) if hasattr(streamer, "put") else streamer(value)


def _single(state: Keeps, feed: Feed, settings: Settings, streamer: Any) -> list[list[int]]:
    prompts = feed.prompts
    new: list[list[int]] = [[] for _ in prompts]
    numbers = [Uniform(settings.seed, i) for i in range(len(prompts))]
    going, rows = [True] * len(prompts), prompts
    for _ in range(settings.max_new_tokens):
        logits = _step(state, feed, rows)
        chosen = [settings.pad] * len(prompts)
        for i in (i for i, goes in enumerate(going) if goes):
            scores = penalized(logits[i], prompts[i] + new[i], settings, len(new[i]))
            chosen[i] = sampled(scores, settings, numbers[i]) if settings.do_sample else greedy(scores)
            new[i].append(chosen[i])
            going[i] = not settings.ends(new[i])
        _put(streamer, chosen)
        if not any(going):
            break
        rows = [[chosen[i]] if going[i] else [] for i in range(len(prompts))]
    return new


def _beams(state: Keeps, feed: Feed, settings: Settings, streamer: Any) -> list[list[int]]:
    """Search the beams of all prompts at once."""
    prompts, count = feed.prompts, settings.num_beams
    searches = [Beams(settings) for _ in prompts]
    logits = _step(state, feed, prompts)
    state.reorder([i for i in range(len(prompts)) for _ in range(count)])
    logits = np.repeat(logits, count, axis=0)
    for step in range(settings.max_new_tokens):
        rows, places = [], []
        for i, (search, prompt) in enumerate(zip(searches, prompts, strict=True)):
            if not search.done:
                own = logits[i * count : (i + 1) * count]
                search.step(
                    np.stack([
                        penalized(log_probabilities(x.astype(np.float64)), prompt + beam, settings, step)
                        for x, beam in zip(own, search.tokens, strict=True)
                    ]),
                    last=step + 1 == settings.max_new_tokens,
                )  # fmt: skip
            places += [i * count + place for place in search.places]
            rows += [[] if search.done else beam[-1:] for beam in search.tokens]
        if all(search.done for search in searches) or step + 1 == settings.max_new_tokens:
            break
        state.reorder(places)
        logits = _step(state, feed, rows)
    best = [search.best() for search in searches]
    for i in range(max(map(len, best))):
        _put(streamer, [row[i] if i < len(row) else settings.pad for row in best])
    return best
