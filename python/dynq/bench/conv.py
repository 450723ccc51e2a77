"""Time convolutions of real models through dynq and other runtimes, for ``dynq bench conv``."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from importlib import resources
from itertools import groupby
from typing import Any

from rich.table import Table

import dynq

from . import process
from ._tables import number, slim_table
from .conv_peer import PEERS
from .linear import duration
from .peers import SHORT, packages
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
    """Yield a table for each number of threads: dynq's time, what became of the layer, and the others' share of that
    time.
    """
    for threads, group in groupby(results, key=lambda r: r["threads"]):
        rows = list(group)
        table = slim_table(f"{threads} thread{'s' if threads > 1 else ''}")
        table.add_column("\nlayer", width=17)
        table.add_column("\ndynq", justify="right", width=8)
        table.add_column("\nas")
        for name in names[1:]:
            table.add_column("\n".join(SHORT.get(word, word) for word in name.split()), justify="right", min_width=5)
        for layer, of_layer in groupby(rows, key=lambda r: r["layer"]):
            by_name = {r["peer"]: r for r in of_layer}
            own = by_name["dynq"]
            others = (number(by_name[name]["x_dynq"]) for name in names[1:])
            table.add_row(layer, duration(own["us"]), own["became"].split()[0], *others)
        table.add_section()
        errors = [sum(of_peer) / len(of_peer) for of_peer in
                  ([r["error"] for r in rows if r["peer"] == name] for name in names)]  # fmt: skip
        table.add_row("error", f"{errors[0]:.0e}", "", *(f"{error:.0e}" for error in errors[1:]))
        yield table
