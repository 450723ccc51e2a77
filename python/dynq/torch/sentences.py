"""dynq's models in the place of the network of a SentenceTransformer, whose tokenizer, pooling and norm stay."""

from __future__ import annotations

import os
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import Error, MissingPackageError
from ..model import Model

__all__ = ["as_sentence_transformer"]

_OUTPUT = "last_hidden_state"


def as_sentence_transformer(model: Model, folder: str | os.PathLike[str], **options: Any) -> Any:
    """Return the SentenceTransformer of a folder or a name, with ``model`` in the place of its network.

    Args:
        model: takes what the tokenizer gives (input_ids, attention_mask, ...), and has an output last_hidden_state,
            float32 (batch, time, hidden). from_torch or from_onnx make it of the network.
        folder: what SentenceTransformer takes as its first argument.
        options: more arguments of SentenceTransformer. It is on the CPU.

    Raises:
        ValueError: the model has no such output, or the first module of the folder is no network of transformers.
        MissingPackageError: sentence_transformers is not installed.
    """
    names = [value.name for value in model.outputs]
    if _OUTPUT not in names:
        raise ValueError(f"the model has the outputs {names}; expected {_OUTPUT}, as encoders of transformers have it")
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError as error:
        raise MissingPackageError(f"{error.name} is missing; install it: pip install sentence-transformers") from error
    result = SentenceTransformer(os.fspath(folder), device="cpu", **options)
    first = next(iter(result))
    places = [name for name in ("model", "auto_model") if name in first._modules]  # from version 6 on, and before
    if not places:
        raise ValueError(f"{folder} begins with a {type(first).__name__}; expected a network of transformers")
    first._modules[places[0]] = Encoder(model, first._modules[places[0]].config)
    return result.eval()


class Encoder(nn.Module):  # type: ignore[misc]
    """Runs a model of dynq as a network of transformers whose configuration it has."""

    device = torch.device("cpu")
    dtype = torch.float32

    def __init__(self, model: Model, config: Any) -> None:
        super().__init__()
        self.config = config
        self._model = model

    def forward(self, return_dict: bool = True, **inputs: Any) -> Any:
        """Return the outputs (batch, time, hidden) and others by their names.

        Options that are None or False, such as output_attentions, count as not given.
        """
        from transformers.utils.generic import ModelOutput

        given = {name: x for name, x in inputs.items() if isinstance(x, Tensor) or x}
        outputs = self._model.run(given)
        # The first is what versions before 6 of sentence_transformers take.
        return ModelOutput({_OUTPUT: None} | {name: torch.from_numpy(y) for name, y in outputs.items()})

    def save_pretrained(self, *arguments: Any, **options: Any) -> None:
        """Refuse: the weights are those of a .dynq file."""
        raise Error("the network is a model of dynq, which no folder keeps; model.save writes its .dynq file")
