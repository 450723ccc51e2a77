"""The BERT encoder in PyTorch, for model_peer.py, which imports it in its process only."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


class Layer(nn.Module):
    def __init__(self, hidden: int, wide: int, heads: int, epsilon: float) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.out = (nn.Linear(hidden, hidden) for _ in range(4))
        self.up, self.down = nn.Linear(hidden, wide), nn.Linear(wide, hidden)
        self.first_norm, self.second_norm = (nn.LayerNorm(hidden, epsilon) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (
            layer(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for layer in (self.query, self.key, self.value)
        )
        attended = functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        x = self.first_norm(x + self.out(attended))
        y: Tensor = self.second_norm(x + self.down(functional.gelu(self.up(x))))
        return y


class Encoder(nn.Module):
    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        hidden, epsilon = config["hidden_size"], config["layer_norm_eps"]
        self.word = nn.Embedding(config["vocab_size"], hidden)
        self.position = nn.Embedding(config["max_position_embeddings"], hidden)
        self.token_type = nn.Embedding(config["type_vocab_size"], hidden)
        self.norm = nn.LayerNorm(hidden, epsilon)
        self.layers = nn.ModuleList(
            Layer(hidden, config["intermediate_size"], config["num_attention_heads"], epsilon)
            for _ in range(config["num_hidden_layers"])
        )

    def forward(self, ids: Tensor) -> Tensor:
        x = self.word(ids) + self.position.weight[: ids.shape[1]] + self.token_type.weight[0]
        x = self.norm(x)
        for layer in self.layers:
            x = layer(x)
        return x


# Names of the checkpoint, and those of the modules above.
NAMES = {
    "embeddings.word_embeddings": "word",
    "embeddings.position_embeddings": "position",
    "embeddings.token_type_embeddings": "token_type",
    "embeddings.LayerNorm": "norm",
    "attention.self.": "",
    "attention.output.dense": "out",
    "attention.output.LayerNorm": "first_norm",
    "intermediate.dense": "up",
    "output.dense": "down",
    "output.LayerNorm": "second_norm",
    "encoder.layer.": "layers.",
}


def load(folder: Path) -> nn.Module:
    """Return the encoder from config.json and model.safetensors."""
    from safetensors.torch import load_file

    with torch.device("meta"):  # no memory and no random numbers for weights that are replaced
        module = Encoder(json.loads((folder / "config.json").read_text("utf-8")))
    tensors = {}
    for name, tensor in load_file(folder / "model.safetensors").items():
        for theirs, ours in NAMES.items():
            name = name.replace(theirs, ours)
        tensors[name] = tensor
    wanted = module.state_dict().keys()
    module.load_state_dict({name: tensors[name] for name in wanted}, assign=True)
    return module.eval()
