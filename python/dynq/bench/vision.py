"""Time whole networks for pictures through dynq and other runtimes, for ``dynq bench models --suite vision``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import groupby
from pathlib import Path

from rich.table import Table

import dynq

from . import process
from ._tables import number, slim_table
from .linear import duration
from .peers import SHORT, packages
from .program import Record
from .vision_peer import PEERS, write

NAMES = ("ResNet-18", "ResNet-50", "MobileNetV2", "MobileNetV3", "EfficientNet-B0", "YOLOv8n")
NEEDED = {name: packages(name) for name in PEERS}


def choose(names: tuple[str, ...]) -> list[str]:
    """Return the networks whose names begin with one of ``names``; all of them, if none is named.

    Raises:
        Error: a name is not known, or a package is missing with which the networks are made.
    """
    if absent := [package for package in ("torch", "onnx") if not process.installed(package)]:
        raise dynq.Error(f"these networks are made with {' '.join(absent)}: pip install 'dynq[peers]'")
    for name in names:
        if not any(known.startswith(name) for known in NAMES):
            raise dynq.Error(f"--network is {name!r}; known: {', '.join(NAMES)}")
    return [known for known in NAMES if not names or known.startswith(names)]


def measure(
    names: list[str],
    threads: list[int],
    networks: list[str],
    rounds: int,
    quick: bool,
    folder: Path,
    progress: Callable[[int, int], None],
) -> list[Record]:
    """Time each peer in a process of its own, in turn, ``rounds`` times. ``folder`` gets the files."""
    for network in networks:
        write(network, folder)
    effort = {"seconds": 2e-4, "samples": 3} if quick else {"seconds": 1e-2, "samples": 7}
    jobs = [{"shape": {"network": network, "folder": str(folder)}, **effort} for network in networks]
    return process.take_turns("dynq.bench.vision_peer", names, threads, jobs, rounds, progress)


def tables(results: list[Record], names: list[str]) -> Iterator[Table]:
    """Yield a table for each number of threads: dynq's time, the size of its file over that of the ONNX file, and the
    others' share of that time.
    """
    for threads, group in groupby(results, key=lambda r: r["threads"]):
        rows = list(group)
        table = slim_table(f"{threads} thread{'s' if threads > 1 else ''}")
        table.add_column("\nnetwork")
        table.add_column("\ndynq", justify="right")
        table.add_column("\nfile", justify="right")
        for name in names[1:]:
            table.add_column("\n".join(SHORT.get(word, word) for word in name.split()), justify="right", min_width=5)
        for network, of_network in groupby(rows, key=lambda r: r["network"]):
            by_name = {r["peer"]: r for r in of_network}
            own = by_name["dynq"]
            others = (number(by_name[name]["x_dynq"]) if name in by_name else "-" for name in names[1:])
            table.add_row(network, duration(own["us"]), f"{own['size']:.2f}", *others)
        table.add_section()
        errors = []
        for name in names:
            of_peer = [r["error"] for r in rows if r["peer"] == name]
            errors.append(f"{sum(of_peer) / len(of_peer):.0e}" if of_peer else "-")
        table.add_row("error", errors[0], "", *errors[1:])
        yield table
