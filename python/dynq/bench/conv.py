"""``dynq bench conv``: convolutions of real models through dynq and other runtimes."""

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
    """Those of conv.json whose names begin so; all of them, if none is named."""
    text = resources.files("dynq.bench").joinpath("conv.json").read_text("utf-8")
    shapes: list[Shape] = json.loads(text)
    for layer in layers:
        if not any(shape["layer"].startswith(layer) for shape in shapes):
            raise dynq.Error(f"--layer is {layer!r}; known: {'; '.join(shape['layer'] for shape in shapes)}")
    return [shape for shape in shapes if not layers or shape["layer"].startswith(layers)]


def choose(names: tuple[str, ...]) -> tuple[list[str], dict[str, str]]:
    """Those that can run, dynq first, and for the others which package is missing."""
    return process.choose(names, NEEDED)


def versions(names: list[str]) -> dict[str, str]:
    return process.versions(names, NEEDED)


def measure(
    names: list[str],
    threads: list[int],
    shapes: list[Shape],
    rounds: int,
    quick: bool,
    progress: Callable[[int, int], None],
) -> list[Record]:
    """Each peer in a process of its own, in turn, ``rounds`` times; the best of a peer's medians counts."""

    def run(name: str, given: Record, first: bool) -> list[Record]:
        effort = {"seconds": 2e-4, "samples": 3} if quick else {"seconds": 1e-2, "samples": 7}
        job = {"shapes": shapes, "with_error": first, **effort}
        return process.run("dynq.bench.conv_peer", name, given["threads"], job)

    steps = [(name, {"threads": count}) for count in threads for name in names]
    results = process.take_turns(steps, rounds, ("threads", "layer"), run, progress)
    order = {shape["layer"]: i for i, shape in enumerate(shapes)}
    return sorted(results, key=lambda r: (r["threads"], order[r["layer"]], names.index(r["peer"])))


def tables(results: list[Record], names: list[str]) -> Iterator[Table]:
    """Of each number of threads: dynq's time, what became of the layer, and what the others take of that time."""
    for threads, group in groupby(results, key=lambda r: r["threads"]):
        rows = list(group)
        table = slim_table(f"[bold]{threads} thread{'s' if threads > 1 else ''}[/bold]")
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
