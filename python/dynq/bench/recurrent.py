"""Time LSTM and GRU layers of dynq and of other runtimes, for ``dynq bench recurrent``."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from importlib import resources
from itertools import groupby

from rich.table import Table

from . import process
from ._tables import number, slim_table
from .linear import duration
from .peers import packages
from .program import Record
from .recurrent_peer import GATES, PEERS

NEEDED = {name: packages(name) for name in PEERS}


def load() -> list[dict[str, int]]:
    text = resources.files("dynq.bench").joinpath("recurrent.json").read_text("utf-8")
    shapes: list[dict[str, int]] = json.loads(text)
    return shapes


def measure(
    names: list[str],
    threads: list[int],
    rounds: int,
    quick: bool,
    progress: Callable[[int, int], None],
    shapes: list[dict[str, int]] | None = None,
    answers: bool = False,
) -> list[Record]:
    """Time each peer in a process of its own, in turn, ``rounds`` times."""
    effort = {"seconds": 2e-4, "samples": 3} if quick else {"seconds": 2e-2, "samples": 7}
    jobs = [{"shape": [kind, sizes], "answers": answers, **effort} for kind in GATES for sizes in shapes or load()]
    return process.take_turns("dynq.bench.recurrent_peer", names, threads, jobs, rounds, progress)


def tables(results: list[Record], names: list[str]) -> Iterator[Table]:
    """Yield a table for each kind and number of threads: dynq's time, and the others' multiples of it."""
    for (kind, threads), group in groupby(
        sorted(results, key=lambda r: (list(GATES).index(r["kind"]), r["threads"])),
        key=lambda r: (r["kind"], r["threads"]),
    ):
        table = slim_table(f"{kind}, {threads} thread{'s' if threads > 1 else ''}")
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
