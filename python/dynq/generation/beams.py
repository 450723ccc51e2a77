"""The beams of one prompt, as transformers searches them."""

from __future__ import annotations

import numpy as np

from ..core.arguments import Array
from .settings import Settings

__all__ = ["Beams"]


class Beams:
    """Texts that are written at once: those of the best sums of log probabilities go on."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        count = settings.num_beams
        self.tokens: list[list[int]] = [[] for _ in range(count)]
        self.places = list(range(count))  # the beam that each goes on from
        self.done = False
        self._scores = np.full(count, -1e9)
        self._scores[0] = 0.0  # at first all beams are one
        self._finished: list[tuple[float, list[int]]] = []

    def step(self, scores: Array, last: bool) -> None:
        """Go on by one token, by log probabilities (beams, vocabulary)."""
        s, count = self._settings, self._settings.num_beams
        sums = (scores + self._scores[:, None]).reshape(-1)
        wanted = min(count * max(2, 1 + len(s.eos)), sums.size)
        order = np.argsort(-sums, kind="stable")[:wanted]
        vocabulary = scores.shape[1]
        going: list[tuple[float, int, int]] = []
        for rank, at in enumerate(order):
            beam, token = divmod(int(at), vocabulary)
            text = [*self.tokens[beam], token]
            if last or s.ends(text):
                if rank < count:
                    self._finish(float(sums[at]), text)
            elif len(going) < count:
                going.append((float(sums[at]), beam, token))
        if last or len(going) < count:  # all that could go on have ended
            self.done = True
            return
        before = self.tokens
        self.places = [beam for _, beam, _ in going]
        self.tokens = [[*before[beam], token] for _, beam, token in going]
        self._scores = np.array([score for score, _, _ in going])
        self.done = self._enough()

    def best(self) -> list[int]:
        """Return the text of the best score."""
        if not self._finished:
            return self.tokens[0]
        return max(self._finished, key=lambda item: item[0])[1]

    def _value(self, score: float, length: int) -> float:
        divisor: float = float(length) ** self._settings.length_penalty
        return score / divisor

    def _finish(self, score: float, text: list[int]) -> None:
        self._finished.append((self._value(score, len(text)), text))
        self._finished.sort(key=lambda item: -item[0])
        del self._finished[self._settings.num_beams :]

    def _enough(self) -> bool:
        """Return whether no beam that goes on can become better than those that have ended."""
        if len(self._finished) < self._settings.num_beams:
            return False
        if self._settings.early_stopping:
            return True
        return self._finished[-1][0] >= self._value(float(self._scores[0]), len(self.tokens[0]))
