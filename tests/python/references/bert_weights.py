"""Weights of a small encoder of the BERT family."""

from __future__ import annotations

import numpy as np


def bert_weights(rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Return random weights, by the names that the encoder of dynq.demo.bert has for them."""
    width, inner = 16, 32
    shapes = {
        "embeddings.word_embeddings": (50, width), "embeddings.position_embeddings": (12, width),
        "embeddings.token_type_embeddings": (2, width),
    }  # fmt: skip

    def normal(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape, np.float32)

    result = {f"{name}.weight": normal(*shape) for name, shape in shapes.items()}
    norms = ["embeddings.LayerNorm"]
    for i in range(2):
        at = f"encoder.layer.{i}."
        norms += [f"{at}attention.output.LayerNorm", f"{at}output.LayerNorm"]
        for name in ("attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"):
            result |= {f"{at}{name}.weight": normal(width, width) / 4, f"{at}{name}.bias": normal(width)}
        result |= {f"{at}intermediate.dense.weight": normal(inner, width) / 4}
        result |= {f"{at}intermediate.dense.bias": normal(inner), f"{at}output.dense.bias": normal(width)}
        result |= {f"{at}output.dense.weight": normal(width, inner) / 6}
    for name in norms:
        result |= {f"{name}.weight": np.ones(width, np.float32), f"{name}.bias": np.zeros(width, np.float32)}
    return result
