"""Build a BERT encoder (Devlin et al., 2018) as a dynq.Graph, from the weights of a transformers checkpoint."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..graph import Graph, Value

Array = np.ndarray[Any, Any]

__all__ = ["bert_graph", "load_bert"]


def load_bert(folder: Path) -> Graph:
    """Return the graph of ``config.json`` and ``model.safetensors`` in ``folder``."""
    from safetensors.numpy import load_file

    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return bert_graph(load_file(folder / "model.safetensors"), config)


def bert_graph(tensors: Mapping[str, Array], config: Mapping[str, Any]) -> Graph:
    """Return the graph of an encoder.

    From ``input_ids`` and ``attention_mask``, int64 (batch, time), it computes ``last_hidden_state`` (batch, time,
    hidden) and ``sentence_embedding`` (batch, hidden). The latter is the mean over the tokens of the mask, scaled to
    length 1.
    """
    g = Graph("bert")
    heads, epsilon = int(config["num_attention_heads"]), float(config["layer_norm_eps"])
    ids = g.input("input_ids", ("batch", "time"), "int64")
    attention_mask = g.input("attention_mask", ("batch", "time"), "int64")
    seen = g.cast(attention_mask, "bool")
    mask = g.unsqueeze(seen, [1, 2])

    def norm(x: Value, name: str) -> Value:
        return g.layer_norm(x, tensors[f"{name}.weight"], tensors[f"{name}.bias"], epsilon=epsilon, name=name)

    def dense(x: Value, name: str, **more: Any) -> Value:
        return g.linear(x, tensors[f"{name}.weight"], tensors[f"{name}.bias"], name=name, **more)

    table = "embeddings.{}_embeddings.weight"
    time = g.node("Shape", [ids], start=1, end=2)
    beside = tensors[table.format("position")] + tensors[table.format("token_type")][0]
    words = g.embedding(tensors[table.format("word")], ids, name="embeddings.word_embeddings")
    x = norm(words + g.node("Slice", [beside, [0], time, [0]]), "embeddings.LayerNorm")
    for i in range(int(config["num_hidden_layers"])):
        prefix = f"encoder.layer.{i}."
        q, k, v = (dense(x, f"{prefix}attention.self.{name}") for name in ("query", "key", "value"))
        attended = g.attention(q, k, v, heads, mask, name=f"{prefix}attention.self")
        x = norm(dense(attended, f"{prefix}attention.output.dense", residual=x), f"{prefix}attention.output.LayerNorm")
        hidden = dense(x, f"{prefix}intermediate.dense", activation=config.get("hidden_act", "gelu"))
        x = norm(dense(hidden, f"{prefix}output.dense", residual=x), f"{prefix}output.LayerNorm")
    weight = g.unsqueeze(g.cast(seen, "float32"), [2])
    mean = g.reduce_sum(x * weight, [1], keepdims=False) / g.reduce_sum(weight, [1], keepdims=False)
    g.output(x, "last_hidden_state")
    g.output(mean / g.node("Sqrt", [g.reduce_sum(mean * mean, [-1])]), "sentence_embedding")
    return g
