"""Choose tokens by their logits, with operations that every machine rounds alike: no exp or log of a math library."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..core.arguments import Array
from .settings import Settings

__all__ = ["Uniform", "greedy", "log_probabilities", "penalized", "probabilities", "sampled"]

_LN2_HIGH, _LN2_LOW = 0.693147180369123816490, 1.90821492927058770002e-10  # their sum is ln 2 to 1e-26
_FACTORIALS = [1.0 / math.factorial(i) for i in range(14)]


class Uniform:
    """Numbers from 0 to 1, without 1, for one sequence of a batch."""

    def __init__(self, seed: int, sequence: int) -> None:
        self._bits = np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(sequence,)))

    def next(self) -> float:
        """Return the next one."""
        return float(int(self._bits.random_raw()) >> 11) * 2.0**-53


def exp(x: Array) -> Array:
    """Return e^x of float64 x <= 0, by products and sums of float64 alone; 0 below -700."""
    n = np.rint(np.maximum(x, -700.0) * (1 / math.log(2)))
    r = (np.maximum(x, -700.0) - n * _LN2_HIGH) - n * _LN2_LOW
    y = np.full_like(r, _FACTORIALS[-1])
    for factor in reversed(_FACTORIALS[:-1]):
        y = y * r + factor
    return np.where(x < -700.0, 0.0, np.ldexp(y, n.astype(np.int32)))


def log(x: float) -> float:
    """Return the logarithm of x > 0, by products, sums and quotients of float64 alone."""
    fraction, exponent = math.frexp(x)
    if fraction < math.sqrt(0.5):
        fraction, exponent = 2 * fraction, exponent - 1
    t = (fraction - 1) / (fraction + 1)
    total, power = 0.0, t
    for i in range(1, 40, 2):
        total += power / i
        power *= t * t
    return exponent * _LN2_HIGH + (2 * total + exponent * _LN2_LOW)


def _total(values: Array) -> float:
    """Return a sum in the order of the elements."""
    return float(np.cumsum(values)[-1])


def penalized(logits: Array, seen: Sequence[int], settings: Settings, produced: int) -> Array:
    """Return logits as float64: those of tokens that came before are lowered, and the end is put off.

    Tokens that the settings suppress cannot be chosen, and where they force one, no other can.
    """
    scores: Array = logits.astype(np.float64)
    if settings.repetition_penalty != 1.0 and len(seen):
        at = np.unique(np.asarray(seen, np.int64))
        found = scores[at]
        scores[at] = np.where(found < 0, found * settings.repetition_penalty, found / settings.repetition_penalty)
    if produced < settings.min_new_tokens and settings.eos:
        scores[list(settings.eos)] = -np.inf
    first = len(seen) - produced == 1 and bool(settings.forced_bos_token_id)
    scores[list(settings.suppress_tokens)] = -np.inf
    if produced == int(first):
        scores[list(settings.begin_suppress_tokens)] = -np.inf
    if first and produced == 0:
        scores = _forced(scores, settings.forced_bos_token_id)
    if produced + 1 == settings.max_new_tokens and settings.forced_eos_token_id:
        scores = _forced(scores, settings.forced_eos_token_id)
    return scores


def _forced(scores: Array, tokens: Sequence[int]) -> Array:
    result: Array = np.full_like(scores, -np.inf)
    result[list(tokens)] = 0
    return result


def greedy(scores: Array) -> int:
    """Return the token of the largest score; the first of several."""
    return int(np.argmax(scores))


def probabilities(scores: Array) -> Array:
    """Return the softmax of scores."""
    weights = exp(scores - scores.max())
    return np.asarray(weights / _total(weights))


def log_probabilities(scores: Array) -> Array:
    """Return the logarithm of their softmax."""
    shifted = scores - scores.max()
    return np.asarray(shifted - log(_total(exp(shifted))))


def _kept(scores: Array, settings: Settings) -> Array:
    """Return scores, of which those that cannot be chosen are -infinity: temperature, top_k, top_p, min_p."""
    scores = scores / settings.temperature
    if 0 < settings.top_k < scores.size:
        least = np.partition(scores, -settings.top_k)[-settings.top_k]
        scores = np.where(scores < least, -np.inf, scores)
    if settings.top_p < 1.0:
        order = np.argsort(scores, kind="stable")  # ascending
        unlikely = np.cumsum(probabilities(scores)[order]) <= 1 - settings.top_p
        unlikely[-1] = False
        scores[order[unlikely]] = -np.inf
    if settings.min_p > 0.0:
        likely = probabilities(scores)
        scores = np.where(likely < settings.min_p * likely.max(), -np.inf, scores)
    return scores


def sampled(scores: Array, settings: Settings, uniform: Any) -> int:
    """Return a token, drawn by its probability."""
    ends = np.cumsum(probabilities(_kept(scores, settings)))
    return int(
        min(
            np.searchsorted(ends, uniform.next() * ends[-1], side="right"), np.flatnonzero(np.diff(ends, prepend=0))[-1]
        )
    )
