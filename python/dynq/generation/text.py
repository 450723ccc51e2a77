"""Texts of tokens, by the package tokenizers."""

from __future__ import annotations

from typing import Any

from ..errors import Error, MissingPackageError

__all__ = ["read_tokenizer"]


def read_tokenizer(text: str | None, name: str) -> Any:
    """Return the tokenizer of a tokenizer.json.

    Args:
        text: that of the file, as ``Model.tokenizer`` has it.
        name: what has it, for errors.

    Raises:
        Error: there is none, or it is damaged.
        MissingPackageError: tokenizers is missing.
    """
    if text is None:
        raise Error(f"{name} has no tokenizer; dynq quantize keeps the tokenizer.json of a folder")
    try:
        import tokenizers
    except ImportError as error:
        raise MissingPackageError("tokenizers is missing; install it: pip install 'dynq[text]'") from error
    try:
        return tokenizers.Tokenizer.from_str(text)
    except Exception as error:  # whatever the reader of a damaged text raises
        raise Error(f"{name}: its tokenizer cannot be read: {error}") from error
