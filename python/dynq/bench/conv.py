"""Time convolutions of real models through dynq and other runtimes, for ``dynq bench conv``."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from importlib import resources
from typing import Any

from rich.table import Table

import dynq

from . import process
from .conv_peer import PEERS
from .peers import packages, tables_of
from .program import Record

Shape = dict[str, Any]
NEEDED = {name: packages(name) for name in PEERS}


def load(layers: tuple[str, ...] = ()) -> list[Shape]:
    """Return the layers of conv.json whose names begin with one of ``layers``; all of them, if none is named."""
    text = resources.files("dynq.bench").joinpath("conv.json").read_text("utf-8")
    shapes: list[Shape] = json.loads(text)
    for layer in layers:
        if not any(shape["layer"].startswith(layer) for shape in shapes):
            raise dynq.Error(f"--layer is {layer!r}; known: {'; '.join(shape['layer'] for shape in shapes)}")
    return [shape for shape in shapes if not layers or shape["layer"].startswith(layers)]


def measure(
    names: list[str],
    threads: list[int],
    shapes: list[Shape],
    rounds: int,
    quick: bool,
    progress: Callable[[int, int], None],
) -> list[Record]:
    """Time each peer in a process of its own, in turn, ``rounds`` times."""
    effort = {"seconds": 2e-4, "samples": 3} if quick else {"seconds": 1e-2, "samples": 7}
    jobs = [{"shape": shape, **effort} for shape in shapes]
    return process.take_turns("dynq.bench.conv_peer", names, threads, jobs, rounds, progress)


def tables(results: list[Record], names: list[str]) -> Iterator[Table]:
    """Return a table for each number of threads: dynq's time, what became of the layer, and the others' share of that
    time.
    """
    return tables_of(results, names, "layer", "as", lambda own: own["became"].split()[0])
