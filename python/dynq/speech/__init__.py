"""Speech to text: sound files, what a model hears of them, and windows that cover sound of any length."""

from __future__ import annotations

from .log_mel import RATE, log_mel
from .resample import resample
from .wav import read_wav
from .windows import Segment, Transcript, segments, transcribe

__all__ = ["RATE", "Segment", "Transcript", "log_mel", "read_wav", "resample", "segments", "transcribe"]
