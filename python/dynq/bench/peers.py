"""``dynq bench peers``: the same layers through other runtimes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import groupby
from statistics import geometric_mean

from rich.table import Table

from . import process, shapes
from ._tables import number, slim_table
from .linear import WIDE, duration
from .peer import PEERS
from .program import Record
from .shapes import Shape


def packages(name: str) -> tuple[str, ...]:
    """Those that a peer needs; onnxruntime's models are written with onnx."""
    package = name.split()[0]
    return ("onnxruntime", "onnx") if package == "onnxruntime" else (package,)


NEEDED = {name: packages(name) for name in PEERS}


def choose(names: tuple[str, ...]) -> tuple[list[str], dict[str, str]]:
    """Those that can run, dynq first, and for the others which package is missing."""
    return process.choose(names, NEEDED)


def versions(names: list[str]) -> dict[str, str]:
    return process.versions(names, NEEDED)


def measure(
    names: list[str],
    threads: list[int],
    layers: list[Shape],
    rounds: int,
    quick: bool,
    progress: Callable[[int, int], None],
) -> list[Record]:
    """Each peer in a process of its own, in turn, ``rounds`` times; the best of a peer's medians counts."""

    def run(name: str, given: Record, first: bool) -> list[Record]:
        return _run(name, given["threads"], layers, quick, with_error=first)

    steps = [(name, {"threads": count}) for count in threads for name in names]
    results = process.take_turns(steps, rounds, ("threads", "m", "n", "k"), run, progress)
    order = {name: i for i, name in enumerate(names)}
    return sorted(results, key=lambda r: (r["threads"], layers.index(shapes.of(r)), order[r["peer"]]))


def _run(name: str, threads: int, layers: list[Shape], quick: bool, with_error: bool) -> list[Record]:
    job = {
        "shapes": layers,
        "seconds": 2e-4 if quick else 5e-3,
        "samples": 3 if quick else 7,
        "with_error": with_error,
    }
    return process.run("dynq.bench.peer", name, threads, job)


# ---- Tables


def heading(machine: Record, missing: dict[str, str]) -> str:
    installed = ", ".join(f"{package} {number}" for package, number in machine["versions"].items())
    lines = [
        f"{machine['cpu']}, {machine['isa']}",
        installed,
        f"Best of {machine['rounds']} medians; of the others, how many times dynq's time they take.",
    ]
    if missing:
        absent = ", ".join(f"{name} (no {package})" for name, package in missing.items())
        lines.append(f"Not measured: {absent}. pip install 'dynq[peers]'")
    return "\n".join(lines)


SHORT = {"numpy": "NumPy", "onnxruntime": "ORT", "torch": "Torch", "openvino": "OV", "float32": "f32", "int8": "int8"}


def tables(results: list[Record], width: int) -> Iterator[Table]:
    """Of each number of threads: a row for each shape, dynq's time and what the others take of it; then errors."""
    for threads, group in groupby(results, key=lambda r: r["threads"]):
        rows = list(group)
        names = list(dict.fromkeys(r["peer"] for r in rows))
        table = slim_table(f"[bold]{threads} thread{'s' if threads > 1 else ''}[/bold]")
        table.add_column("\nM x N x K", justify="right", width=14)
        table.add_column("\ndynq", justify="right", width=8)
        for name in names[1:]:
            words = name.split() if width >= WIDE else [SHORT[word] for word in name.split()]
            table.add_column("\n".join(words), justify="right", min_width=5)
        for shape, of_shape in groupby(rows, key=shapes.of):
            by_name = {r["peer"]: r for r in of_shape}
            table.add_row(
                str(shape), duration(by_name["dynq"]["us"]), *(number(by_name[name]["x_dynq"]) for name in names[1:])
            )
        table.add_section()
        table.add_row("geometric mean", "", *(number(value) for value in means(rows, names[1:])))
        table.add_row("error", *(f"{_mean_error(rows, name):.0e}" for name in names))
        yield table


def means(rows: list[Record], names: list[str]) -> list[float]:
    return [geometric_mean(r["x_dynq"] for r in rows if r["peer"] == name) for name in names]


def _mean_error(rows: list[Record], name: str) -> float:
    errors = [r["error"] for r in rows if r["peer"] == name]
    return float(sum(errors) / len(errors))
