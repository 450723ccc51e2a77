"""The arguments of ``generate``, checked, and what a file says of its model's tokens."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import FileFormatError

__all__ = ["NOTE", "TOKENIZER", "Settings", "Tokens", "tokens_of"]

NOTE, TOKENIZER = "generation", "tokenizer.json"  # notes in the header of a file


@dataclasses.dataclass(frozen=True)
class Tokens:
    """Tokens that mean something to a model."""

    eos: tuple[int, ...] = ()
    pad: int | None = None
    vocabulary: int | None = None  # None: not known before a run
    start: int | None = None  # with which a text begins that is written about a source
    multilingual: bool = True  # whether a model of speech is told the language
    forced: Mapping[str, tuple[int, ...]] = dataclasses.field(default_factory=dict)  # defaults of Settings by name


def tokens_of(notes: Mapping[str, str]) -> Tokens:
    """Return what the notes of a file say of tokens.

    Raises:
        FileFormatError: the note is damaged.
    """
    try:
        note = json.loads(notes.get(NOTE, "{}"))
        return Tokens(
            _ids(note.get("eos_token_id")),
            note.get("pad_token_id"),
            note.get("vocab_size"),
            note.get("decoder_start_token_id"),
            note.get("is_multilingual") is not False,
            {name: _ids(note.get(name)) for name in _LISTS},
        )
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise FileFormatError(f"damaged header: note {NOTE!r}: {error}") from error


def _ids(value: Any) -> tuple[int, ...]:
    """Return one id or several as a tuple."""
    if value is None:
        return ()
    values = value if isinstance(value, (list, tuple)) else [value]
    if not all(isinstance(item, int) and not isinstance(item, bool) and item >= 0 for item in values):
        raise ValueError(f"a token id is {value!r}; expected a number of 0 or more, or a list of them")
    return tuple(values)


@dataclasses.dataclass(frozen=True)
class Settings:
    """The way in which tokens are chosen. Names, meanings and defaults are those of transformers."""

    max_new_tokens: int = 20
    min_new_tokens: int = 0
    do_sample: bool = False
    temperature: float = 1.0
    top_k: int = 0  # 0: all
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    num_beams: int = 1
    length_penalty: float = 1.0
    early_stopping: bool = False
    eos: tuple[int, ...] = ()
    pad: int = 0
    stop: tuple[tuple[int, ...], ...] = ()
    seed: int = 0
    forced_bos_token_id: tuple[int, ...] = ()
    forced_eos_token_id: tuple[int, ...] = ()
    suppress_tokens: tuple[int, ...] = ()
    begin_suppress_tokens: tuple[int, ...] = ()

    def ends(self, new: list[int]) -> bool:
        """Return whether a text ends behind its last new token."""
        return new[-1] in self.eos or any(tuple(new[-len(stop) :]) == stop for stop in self.stop)

    @classmethod
    def of(cls, given: Mapping[str, Any], tokens: Tokens) -> Settings:
        """Check arguments by name.

        Raises:
            ValueError, TypeError: one is unknown or out of range.
        """
        values = {name: value for name, value in given.items() if value is not None}
        lists: dict[str, Any] = {**tokens.forced, **{name: _ids(values.pop(name)) for name in _LISTS if name in values}}
        eos = _ids(values.pop("eos_token_id")) if "eos_token_id" in values else tokens.eos
        pad = values.pop("pad_token_id", tokens.pad if tokens.pad is not None else (eos or (0,))[0])
        stop = tuple(_ids(ids) for ids in _lists(values.pop("stop", ())))
        if unknown := [name for name in values if name not in _RANGES and name not in _FLAGS]:
            raise TypeError(
                f"generate() has no argument {unknown[0]!r}; it has {', '.join([*_RANGES, *_FLAGS, *_LISTS])}"
            )
        for name, value in values.items():
            _check(name, value)
        result = cls(**values, **lists, eos=eos, pad=int(pad), stop=stop)
        if result.num_beams > 1 and result.do_sample:
            raise ValueError("num_beams is over 1 and do_sample is true; beams are searched without sampling")
        return result


_WHOLE, _REAL = (int,), (int, float)
_RANGES: dict[str, tuple[tuple[type, ...], float, float, str]] = {
    "max_new_tokens": (_WHOLE, 1, 2**31, "1 or more"),
    "min_new_tokens": (_WHOLE, 0, 2**31, "0 or more"),
    "temperature": (_REAL, math.ulp(0.0), math.inf, "a number over 0"),
    "top_k": (_WHOLE, 0, 2**31, "0 (all) or more"),
    "top_p": (_REAL, 0, 1, "0 to 1"),
    "min_p": (_REAL, 0, 1, "0 to 1"),
    "repetition_penalty": (_REAL, math.ulp(0.0), math.inf, "a number over 0"),
    "num_beams": (_WHOLE, 1, 1024, "1 to 1024"),
    "length_penalty": (_REAL, -math.inf, math.inf, "a number"),
    "seed": (_WHOLE, 0, 2**64 - 1, "0 to 2**64 - 1"),
}
_FLAGS = ("do_sample", "early_stopping")
_LISTS = ("forced_bos_token_id", "forced_eos_token_id", "suppress_tokens", "begin_suppress_tokens")  # of token ids


def _check(name: str, value: Any) -> None:
    if name in _FLAGS:
        if not isinstance(value, bool):
            raise TypeError(f"{name} is {value!r}; expected True or False")
        return
    types, least, most, text = _RANGES[name]
    if isinstance(value, bool) or not isinstance(value, types):
        raise TypeError(f"{name} is of type {type(value).__name__}; expected {text}")
    number: Any = value
    if not least <= number <= most or not math.isfinite(number):
        raise ValueError(f"{name} is {value!r}; expected {text}")


def _lists(stop: Any) -> Sequence[Any]:
    """Return the sequences of ids that end a text: one, or several."""
    if isinstance(stop, (str, bytes)) or not isinstance(stop, Sequence):
        raise TypeError(f"stop is {stop!r}; expected a sequence of token ids, or several")
    result = [stop] if stop and all(isinstance(item, int) for item in stop) else list(stop)
    if any(not isinstance(ids, Sequence) or not ids for ids in result):
        raise ValueError(f"stop is {stop!r}; expected a sequence of token ids, or several")
    return result
