"""The command transcribe."""

from __future__ import annotations

import dataclasses
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from ..model import load
from ..speech import Segment, segments, transcribe
from ..terminal import visible
from .options import existing_file
from .output import json_option, print_json, refused

__all__ = ["transcribe_command"]


def _clock(seconds: float, mark: str = ".") -> str:
    thousandths = round(seconds * 1000)
    minutes, rest = divmod(thousandths, 60_000)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{rest // 1000:02}{mark}{rest % 1000:03}"


_FORMATS: dict[str, tuple[str, Callable[[int, Segment], str]]] = {
    "lines": ("", lambda i, s: f"[{_clock(s.start)} --> {_clock(s.end)}] {s.text.strip()}\n"),
    "text": ("", lambda i, s: f"{s.text.strip()}\n"),
    "srt": ("", lambda i, s: f"{i}\n{_clock(s.start, ',')} --> {_clock(s.end, ',')}\n{s.text.strip()}\n\n"),
    "vtt": ("WEBVTT\n\n", lambda i, s: f"{_clock(s.start)} --> {_clock(s.end)}\n{s.text.strip()}\n\n"),
}


@click.command("transcribe")
@click.argument("file", metavar="MODEL.dynq", type=existing_file)
@click.argument("sound", metavar="SOUND.wav", type=existing_file)
@click.option("--language", metavar="CODE", help="Such as de.  [default: what the sound is like]")
@click.option("--task", help='"transcribe", or "translate" into English.', default="transcribe", show_default=True)
@click.option("--no-timestamps", is_flag=True, help="Each 30 seconds are one segment.")
@click.option("--format", "kind", type=click.Choice(list(_FORMATS)), default="lines", show_default=True)
@json_option
def transcribe_command(file: Path, sound: Path, no_timestamps: bool, kind: str, as_json: bool, **options: Any) -> None:
    """Write what is said in a WAV file, with a Whisper model that dynq quantize made. Needs the package tokenizers."""
    model = load(file)
    options["timestamps"] = not no_timestamps
    if as_json:
        begin = time.perf_counter()
        facts = dataclasses.asdict(refused(lambda: transcribe(model, sound, **options)))
        print_json({**facts, "seconds": time.perf_counter() - begin})
        return
    head, line = _FORMATS[kind]
    parts = refused(lambda: segments(model, sound, **options))
    click.echo(head, nl=False)
    for i, part in enumerate(iter(lambda: refused(lambda: next(parts, None)), None), 1):
        click.echo(visible(line(i, part)), nl=False)
        sys.stdout.flush()
