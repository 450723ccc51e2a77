"""``dynq bench recurrent``: LSTM and GRU layers of dynq and of other runtimes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from importlib import resources
from itertools import groupby

from rich.table import Table

from . import process
from ._tables import number, slim_table
from .linear import duration
from .peers import choose
from .program import Record
from .recurrent_peer import GATES, PEERS

SIZES = ("steps", "batch", "input", "hidden", "layers")


def load() -> list[dict[str, int]]:
    text = resources.files("dynq.bench").joinpath("recurrent.json").read_text("utf-8")
    shapes: list[dict[str, int]] = json.loads(text)
    return shapes


def choose_peers() -> tuple[list[str], dict[str, str]]:
    """Those that can run, and for the others which package is missing."""
    present, missing = choose(())
    return [name for name in present if name in PEERS], {n: p for n, p in missing.items() if n in PEERS}


def measure(
    names: list[str],
    threads: list[int],
    rounds: int,
    quick: bool,
    progress: Callable[[int, int], None],
    shapes: list[dict[str, int]] | None = None,
    answers: bool = False,
) -> list[Record]:
    """Each peer in a process of its own, in turn, ``rounds`` times; the best of a peer's medians counts."""
    layers = shapes or load()

    def run(name: str, given: Record, first: bool) -> list[Record]:
        return _run(name, given["kind"], given["threads"], layers, quick, answers)

    steps = [(name, {"kind": kind, "threads": count}) for kind in GATES for count in threads for name in names]
    return process.take_turns(steps, rounds, ("kind", "threads", *SIZES), run, progress)


def _run(name: str, kind: str, threads: int, shapes: list[dict[str, int]], quick: bool, answers: bool) -> list[Record]:
    if kind == "GRU" and name == "onnxruntime int8":
        return []  # it has none
    job = {
        "kind": kind,
        "shapes": shapes,
        "seconds": 2e-4 if quick else 2e-2,
        "samples": 3 if quick else 7,
        "answers": answers,
    }
    return process.run("dynq.bench.recurrent_peer", name, threads, job)


def tables(results: list[Record], names: list[str]) -> Iterator[Table]:
    """Of each kind and number of threads: dynq's time, and what the others take of it."""
    for (kind, threads), group in groupby(
        sorted(results, key=lambda r: (list(GATES).index(r["kind"]), r["threads"])),
        key=lambda r: (r["kind"], r["threads"]),
    ):
        table = slim_table(f"[bold]{kind}, {threads} thread{'s' if threads > 1 else ''}[/bold]")
        table.add_column("steps x batch,\ninput, hidden, layers", justify="right")
        table.add_column("\ndynq", justify="right")
        for name in names[1:]:
            table.add_column("\n".join(name.split()), justify="right")
        rows: dict[str, dict[str, Record]] = {}
        for record in group:
            shape = f"{record['steps']} x {record['batch']}, {record['input']}, {record['hidden']}, {record['layers']}"
            rows.setdefault(shape, {})[record["peer"]] = record
        for shape, by_name in rows.items():
            others = (number(by_name[name]["x_dynq"]) if name in by_name else "-" for name in names[1:])
            table.add_row(shape, duration(by_name["dynq"]["us"]), *others)
        yield table
