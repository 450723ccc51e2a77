"""dynq's models in the place of transformers' models that generate."""

from __future__ import annotations

import json
from typing import Any

from ..errors import MissingPackageError
from ..generation.feed import is_generative
from ..generation.settings import NOTE
from ..model import Model, notes_of

__all__ = ["as_transformers"]


def as_transformers(model: Model) -> Any:
    """Return a model of transformers that runs a model of ``dynq.from_transformers``: its ``generate`` and pipelines.

    Each ``generate`` has a state of its own. Encoders take padding on the right, decoders on either side.

    Raises:
        ValueError: the model does not generate.
        MissingPackageError: transformers is not installed.
    """
    if not is_generative([value.name for value in model.inputs]):
        raise ValueError("the model does not generate; expected one of dynq.from_transformers")
    try:
        import transformers  # noqa: F401
    except ImportError as error:
        raise MissingPackageError("transformers is missing; install it: pip install transformers") from error
    from ._generative import wrapped

    return wrapped(model, json.loads(notes_of(model).get(NOTE, "{}")))
