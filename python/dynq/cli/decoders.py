"""The commands about decoders: generate, and quantize for a folder of transformers."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import click
from rich.table import Table

from ..core.arguments import Array
from ..errors import Error
from ..generation.text import read_tokenizer
from ..importers.decoders import from_transformers
from ..model import load
from ..terminal import visible
from .options import existing_file
from .output import console, json_option, print_json, refused

__all__ = ["generate", "is_decoder", "quantize_decoder"]


def is_decoder(source: Path) -> bool:
    """Return whether a path is a folder or a GGUF file, which transformers reads."""
    return source.is_dir() or source.suffix == ".gguf"


def quantize_decoder(source: Path, output: Path, quantize: bool, options: dict[str, Any], as_json: bool) -> None:
    """Make a .dynq file of a decoder, and say what it has become."""
    if options.pop("smooth", None):
        raise click.UsageError("--smooth is for ONNX models and .pt2 files")
    given = {name: value for name, value in options.items() if value is not None}
    model = refused(lambda: from_transformers(source, quantize=quantize, **given))
    try:
        model.save(output)
    except OSError as error:
        raise Error(f"{output} cannot be written: {error.strerror}") from error
    report = model.report()
    facts = {
        "bytes_before": report.bytes_before,
        "bytes_after": report.bytes_after,
        "bytes": model.nbytes,
        "tokenizer": model.tokenizer is not None,
    }
    if as_json:
        print_json(facts)
        return
    table = Table("", "before", "after", title=f"{source.name} -> {output.name}", title_justify="left")
    table.add_row("weights", f"{report.bytes_before:,} bytes", f"{report.bytes_after:,} bytes")
    table.add_row("tokenizer", "", "kept" if facts["tokenizer"] else "none found")
    console().print(table)


@click.command()
@click.argument("file", metavar="MODEL.dynq", type=existing_file)
@click.option("--prompt", required=True, metavar="TEXT", help="What the text begins with.")
@click.option("--max-new-tokens", type=int, default=100, show_default=True)
@click.option("--do-sample", is_flag=True, help="Draw tokens by their probability.")
@click.option("--temperature", type=float)
@click.option("--top-k", type=int)
@click.option("--top-p", type=float)
@click.option("--min-p", type=float)
@click.option("--repetition-penalty", type=float)
@click.option("--num-beams", type=int)
@click.option("--seed", type=int)
@json_option
def generate(file: Path, prompt: str, as_json: bool, **settings: Any) -> None:
    """Write text with a decoder that dynq quantize made of a folder. Needs the package tokenizers."""
    model = load(file)
    tokenizer = read_tokenizer(model.tokenizer, str(file))
    ids = tokenizer.encode(prompt).ids
    before = 0 if model.has_encoder else len(ids)  # tokens of the prompt that the text begins with
    writer = _Writer(tokenizer, ids[:before], silent=as_json)
    begin = time.perf_counter()
    result = refused(lambda: model.generate(ids, streamer=writer, **settings))[0]
    seconds = time.perf_counter() - begin
    if as_json:
        new = result[before or 1 :].tolist()  # an encoder's text begins with a token that is none of its words
        print_json({"prompt": ids, "tokens": new, "text": tokenizer.decode(new), "seconds": seconds})


class _Writer:
    """Shows a text as it grows: whole characters alone."""

    def __init__(self, tokenizer: Any, ids: list[int], silent: bool) -> None:
        self._tokenizer, self._ids, self._silent = tokenizer, list(ids), silent
        self._shown = 0  # characters
        self._show()

    def put(self, tokens: Array) -> None:
        self._ids.append(int(tokens[0]))
        self._show()

    def end(self) -> None:
        if not self._silent:
            click.echo()

    def _show(self) -> None:
        if self._silent:
            return
        text = self._tokenizer.decode(self._ids)
        if not text.endswith("\N{REPLACEMENT CHARACTER}"):
            click.echo(visible(text[self._shown :]), nl=False)
            sys.stdout.flush()
            self._shown = len(text)
