"""Write what is said in sound of any length, window by window, as section 4.5 of Whisper's paper says."""

from __future__ import annotations

import dataclasses
import math
import os
import zlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypedDict

import numpy as np

from ..core.arguments import FLOAT32, Array
from ..errors import UnsupportedModelError
from ..generation.sampling import Uniform, greedy, penalized, sampled
from ..generation.settings import Settings, tokens_of
from ..generation.text import read_tokenizer
from ..model import Model, notes_of
from ..state import State
from .log_mel import HOP, RATE, log_mel
from .resample import resample
from .tokens import STEP, Marks, allowed, log_probability, marks_of
from .wav import read_wav

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["Segment", "Transcript", "segments", "transcribe"]

TASKS = ("transcribe", "translate")
TEMPERATURES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
_MOST_REPEATED = 2.4  # bytes of a text to bytes of it compressed: beyond, it repeats itself
_LEAST_LIKELY = -1.0  # the mean log probability of the tokens of a text that is kept
_MOST_SILENT = 0.6  # the probability of silence, beyond which an unlikely text is dropped
_FRAMES_A_SECOND = RATE / HOP


@dataclasses.dataclass(frozen=True)
class Segment:
    """A part of what is said: from ``start`` to ``end`` in seconds, with its text and its tokens."""

    start: float
    end: float
    text: str
    tokens: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Transcript:
    """Holds what is said in a sound: all the text, the code of its language, and the segments."""

    text: str
    language: str | None
    segments: tuple[Segment, ...]


class Options(TypedDict, total=False):
    """The options of ``segments`` and ``transcribe``, for the types of keyword arguments."""

    sampling_rate: int
    language: str | None
    task: str
    timestamps: bool
    temperature: float | Sequence[float]
    seed: int


def transcribe(model: Model, sound: Any, **options: Unpack[Options]) -> Transcript:
    """Write what is said in sound of any length. Needs ``pip install 'dynq[text]'``.

    Args:
        model: a Whisper model of ``from_transformers`` that has its tokenizer.
        sound: the path of a WAV file, or samples from -1 to 1, (samples,).
        options: those of ``dynq.speech.segments``.

    Raises:
        UnsupportedModelError: the model is not one of Whisper.
        SoundFileError, OSError: the file cannot be read.
        ValueError, TypeError: an argument does not fit.
    """
    work = _Transcription(model, **options)
    parts = tuple(work.run(sound))
    return Transcript("".join(part.text for part in parts).strip(), work.language, parts)


def segments(model: Model, sound: Any, **options: Unpack[Options]) -> Iterator[Segment]:
    """Return an iterator over what is said in sound, segment by segment as they are written.

    A window of 30 s is heard at once, and the next begins where the last whole segment ended. A text that repeats
    itself, or that is unlikely, is written again by drawing tokens, at higher and higher temperatures.

    Args:
        model: as of ``transcribe``.
        sound: as of ``transcribe``. It is resampled to 16,000 Hz.
        options: ``sampling_rate``: of samples, in Hz (16,000). A file says its own.
            ``language``: the code of the language, such as "de". None, the default: what the first window sounds like.
            ``task``: "transcribe", the default, or "translate" into English.
            ``timestamps``: with False each window is one segment. True is the default.
            ``temperature``: the temperatures that are tried (0 to 1 in steps of .2); 0 takes the likeliest token.
            ``seed``: of tokens that are drawn (0).

    Raises:
        as ``transcribe``.
    """
    return _Transcription(model, **options).run(sound)


@dataclasses.dataclass(frozen=True)
class _Text:
    """Holds what was written about a window: its tokens, and how likely they and silence are."""

    tokens: list[int]
    likely: float  # the mean log probability
    repeated: float
    silence: float

    @property
    def is_silent(self) -> bool:
        return self.silence > _MOST_SILENT and self.likely < _LEAST_LIKELY

    @property
    def is_good(self) -> bool:
        return self.is_silent or (self.repeated <= _MOST_REPEATED and self.likely >= _LEAST_LIKELY)


class _Transcription:
    """A model at work on one sound."""

    def __init__(
        self,
        model: Model,
        *,
        sampling_rate: int = RATE,
        language: str | None = None,
        task: str = "transcribe",
        timestamps: bool = True,
        temperature: float | Sequence[float] = TEMPERATURES,
        seed: int = 0,
    ) -> None:
        heard = next((value for value in model.inputs if value.name == "input_features"), None)
        if heard is None or not model.has_encoder or heard.shape is None:
            names = ", ".join(value.name for value in model.inputs)
            raise UnsupportedModelError(f"the model takes {names}; only a Whisper model of from_transformers hears", {})
        self._feature, self._bins, self._frames = heard.name, int(heard.shape[1] or 0), int(heard.shape[2] or 0)
        known = tokens_of(notes_of(model))
        self._tokenizer = read_tokenizer(model.tokenizer, "the model")
        self._marks: Marks = marks_of(self._tokenizer, known.eos)
        self._multilingual = known.multilingual and bool(self._marks.languages)
        _check(sampling_rate, language, task, timestamps, self._marks if self._multilingual else None)
        self._rate, self._task, self._times = sampling_rate, task, timestamps
        self._temperatures = _temperatures(temperature)
        self._settings = Settings.of({"seed": seed, "max_new_tokens": max(model.positions // 2, 1)}, known)
        self.language = language or (None if self._multilingual else "en")
        self._state: State = model.state()
        self._windows = 0

    def run(self, sound: Any) -> Iterator[Segment]:
        """Return an iterator over the segments."""
        if isinstance(sound, (str, os.PathLike)):
            samples, rate = read_wav(sound)
        else:
            samples, rate = _samples(sound), self._rate
        return self._segments(resample(samples, rate, RATE))

    def _segments(self, samples: Array) -> Iterator[Segment]:
        total = len(samples) // HOP
        if total < 1:
            return
        features = log_mel(samples, self._bins, total + self._frames)  # with silence behind the end
        seek = 0
        while seek < total:
            size = min(self._frames, total - seek)
            text = self._window(np.ascontiguousarray(features[:, seek : seek + self._frames]))
            if text.is_silent:
                seek += size
                continue
            parts, step = _cut(text.tokens, size, self._marks)
            for begin, end, tokens in parts:
                words = [token for token in tokens if self._marks.is_word(token)]
                written = self._tokenizer.decode(words)
                if written.strip() and end > begin:
                    at = [(seek + frame) / _FRAMES_A_SECOND for frame in (begin, end)]
                    yield Segment(at[0], at[1], written, tuple(words))
            seek += step

    def _window(self, features: Array) -> _Text:
        """Write about a window, at the first temperature whose text is good; else at the last."""
        self._state.reset()
        marks, begin = self._marks, [self._marks.start]
        sources = {self._feature: features[None]}
        logits = self._step(begin, sources)
        silence = 0.0 if marks.no_speech is None else np.exp(log_probability(logits, marks.no_speech))
        if self._multilingual:
            if self.language is None:
                codes = list(marks.languages)
                self.language = codes[int(np.argmax(logits[[marks.languages[code] for code in codes]]))]
            begin += [marks.languages[self.language], marks.tasks[self._task]]
        if not self._times:
            begin.append(marks.no_times)
        if len(begin) > 1:
            logits = self._step(begin[1:])
        uniform = Uniform(self._settings.seed, self._windows)
        self._windows += 1
        for temperature in self._temperatures:
            self._state.truncate(len(begin))
            text = self._write(begin, logits, temperature, uniform, float(silence))
            if text.is_good:
                break
        return text

    def _write(self, begin: list[int], logits: Array, temperature: float, uniform: Uniform, silence: float) -> _Text:
        new: list[int] = []
        total = 0.0
        settings = dataclasses.replace(self._settings, temperature=temperature or 1.0)
        while True:
            scores = allowed(penalized(logits, begin + new, settings, len(new)), new, self._marks, self._times)
            token = greedy(scores) if temperature == 0.0 else sampled(scores, settings, uniform)
            total += log_probability(scores, token)
            if token in settings.eos:
                break
            new.append(token)
            if len(new) == settings.max_new_tokens:
                break
            logits = self._step([token])
        written = self._tokenizer.decode([token for token in new if self._marks.is_word(token)]).encode()
        return _Text(new, total / (len(new) + 1), len(written) / max(len(zlib.compress(written)), 1), silence)

    def _step(self, tokens: Sequence[int], sources: dict[str, Array] | None = None) -> Array:
        """Run behind what there is; return the logits of the last token, as float64."""
        none = {self._feature: np.zeros((0, self._bins, self._frames), FLOAT32)}
        rows = {
            "decoder_input_ids": np.array([tokens], np.int64),
            "lengths": np.array([len(tokens)], np.int64),
            "logits_at": np.array([[len(tokens) - 1]], np.int64),
        }
        return np.asarray(self._state.run({**(sources or none), **rows})["logits"][0, 0].astype(np.float64))


def _cut(tokens: list[int], size: int, marks: Marks) -> tuple[list[tuple[int, int, list[int]]], int]:
    """Return the parts of a window's text with their first and last frames, and the frames to the next window.

    A text between two times is a part. Behind the last pair of times a part may have no end: it is heard again in the
    next window.
    """
    first = marks.first_time
    is_time = [token >= first for token in tokens]
    cuts = [i for i in range(1, len(tokens)) if is_time[i] and is_time[i - 1]]
    ends_once = is_time[-2:] == [False, True]
    if not cuts:
        said = [token for token, time in zip(tokens, is_time, strict=True) if time and token > first]
        end = min((said[-1] - first) * STEP, size) if said else size
        return [(0, end, tokens)], size
    if ends_once:
        cuts.append(len(tokens))
    parts, begin = [], 0
    for cut in cuts:
        part = tokens[begin:cut]
        parts.append(((part[0] - first) * STEP, (part[-1] - first) * STEP, part))
        begin = cut
    return parts, size if ends_once else max((tokens[begin - 1] - first) * STEP, STEP)


def _check(rate: Any, language: Any, task: Any, timestamps: Any, marks: Marks | None) -> None:
    """Check arguments; without marks, the model knows English alone."""
    if isinstance(rate, bool) or not isinstance(rate, int) or rate < 1:
        raise ValueError(f"sampling_rate is {rate!r}; expected a whole number of Hz over 0")
    if not isinstance(timestamps, bool):
        raise TypeError(f"timestamps is {timestamps!r}; expected True or False")
    if task not in TASKS:
        raise ValueError(f"task is {task!r}; expected {' or '.join(map(repr, TASKS))}")
    if marks is None:
        if language not in (None, "en") or task != TASKS[0]:
            raise ValueError("the model transcribes English alone; language and task are for those of many languages")
    elif language is not None and language not in marks.languages:
        raise ValueError(f"language is {language!r}; expected one of {', '.join(sorted(marks.languages))}")
    elif task not in marks.tasks:
        raise ValueError(f"task is {task!r}; the model has {', '.join(marks.tasks) or 'none'}")


def _temperatures(given: Any) -> tuple[float, ...]:
    values = tuple(given) if isinstance(given, (list, tuple)) else (given,)
    for value in values:
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < math.inf:
            raise ValueError(f"temperature has {value!r}; expected numbers of 0 or more")
    if not values:
        raise ValueError("temperature is empty; expected a number or several")
    return values


def _samples(sound: Any) -> Array:
    if hasattr(sound, "detach"):  # a tensor of PyTorch
        sound = sound.detach().cpu().numpy()
    samples = np.asarray(sound)
    if samples.ndim != 1 or samples.dtype.kind != "f":
        raise TypeError(
            f"sound has {samples.dtype} of shape {samples.shape}; expected float samples from -1 to 1, (samples,)"
        )
    if not np.isfinite(samples).all():
        raise ValueError("sound has a NaN or an infinity")
    return samples.astype(FLOAT32, copy=False)
