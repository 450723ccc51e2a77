"""The tokens of Whisper that are no words, and which token may follow which."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..core.arguments import Array
from ..errors import UnsupportedModelError
from ..generation.sampling import exp, log

__all__ = ["STEP", "Marks", "allowed", "log_probability", "marks_of"]

STEP = 2  # frames from one time to the next: 20 ms
_FIRST_AT_MOST = 50  # steps: the first text begins within a second
_FAR = 40.0  # e^-40 of the largest: less than the sums round


@dataclasses.dataclass(frozen=True)
class Marks:
    """Ids of tokens that are no words."""

    start: int
    end: int
    tasks: Mapping[str, int]
    languages: Mapping[str, int]
    no_speech: int | None
    no_times: int  # the last before the times

    @property
    def first_time(self) -> int:
        """Return the token of 0 seconds; those behind it are 20 ms apart."""
        return self.no_times + 1

    def is_word(self, token: int) -> bool:
        """Return whether a token is part of the text."""
        return token < min(self.start, self.end)


def marks_of(tokenizer: Any, end: Sequence[int]) -> Marks:
    """Return the marks that a tokenizer has.

    Raises:
        UnsupportedModelError: it is not one of Whisper.
    """

    def find(*names: str) -> Any:
        return next((i for name in names if (i := tokenizer.token_to_id(f"<|{name}|>")) is not None), None)

    start, no_times = find("startoftranscript"), find("notimestamps")
    tasks = {task: i for task in ("transcribe", "translate") if (i := find(task)) is not None}
    if start is None or no_times is None or not end:
        raise UnsupportedModelError("the model's tokenizer is not Whisper's: it has no <|startoftranscript|>", {})
    languages = {}
    for i in range(start + 1, no_times):
        if match := re.fullmatch(r"<\|([a-z]{2,4})\|>", tokenizer.id_to_token(i) or ""):
            languages[match[1]] = i
    return Marks(start, end[0], tasks, languages, find("nospeech", "nocaptions"), no_times)


def allowed(scores: Array, new: Sequence[int], marks: Marks, times: bool) -> Array:
    """Return scores, of which those of tokens that cannot follow are -infinity.

    The rules are those of section 4.5 of Whisper's paper. A text begins with a time and ends with one, and the next
    text begins at that time or later. Where times together are more likely than each word, a time follows.

    Args:
        new: the tokens before, without those that begin a window.
        times: whether there are times at all.
    """
    scores = scores.copy()
    first = marks.first_time
    scores[marks.start : first] = -np.inf
    if not times:
        scores[first:] = -np.inf
        return scores
    if not new:
        scores[:first] = -np.inf
        scores[first + _FIRST_AT_MOST + 1 :] = -np.inf
        return scores
    last_is_time = new[-1] >= first
    if last_is_time and (len(new) < 2 or new[-2] >= first):
        scores[first:] = -np.inf  # two times in a row: words follow
        return scores
    if last_is_time:
        scores[: marks.end] = -np.inf  # the time at which a text ended: another one, or the end
    said = max((token for token in new if token >= first), default=first - 1)
    scores[first : said + (0 if last_is_time else 1)] = -np.inf
    words = scores[:first].max()
    if np.isfinite(words):
        together = np.cumsum(exp(np.minimum(scores[first:] - words, 0.0)))[-1]
        if scores[first:].max() > words or together > 1.0:
            scores[:first] = -np.inf
    return scores


def log_probability(scores: Array, token: int) -> float:
    """Return the logarithm of the probability of a token by the softmax of scores."""
    shifted = scores - scores.max()
    return float(shifted[token]) - log(float(np.cumsum(exp(shifted[shifted > -_FAR]))[-1]))
