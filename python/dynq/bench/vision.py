"""Time whole networks for pictures through dynq and other runtimes, for ``dynq bench models --suite vision``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from rich.table import Table

import dynq

from . import process
from .peers import packages, tables_of
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
    """Return a table for each number of threads: dynq's time, the size of its file over that of the ONNX file, and the
    others' share of that time.
    """
    return tables_of(results, names, "network", "file", lambda own: f"{own['size']:.2f}")
