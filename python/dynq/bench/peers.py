"""Time the same layers through other runtimes, for ``dynq bench peers``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
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
    """Return the packages that a peer needs, its own first. Some runtimes' models are written with others."""
    package = {"litert": "ai-edge-litert"}.get(name.split()[0], name.split()[0])
    more = {"onnxruntime": ("onnx",), "torchao": ("torch",), "ai-edge-litert": ("tflite", "flatbuffers")}
    return (package, *more.get(package, ()))


NEEDED = {name: packages(name) for name in PEERS}


def measure(
    names: list[str],
    threads: list[int],
    layers: list[Shape],
    rounds: int,
    quick: bool,
    progress: Callable[[int, int], None],
    drawn: Sequence[Shape] = (),
) -> list[Record]:
    """Time each peer in a process of its own, in turn, ``rounds`` times. Records of shapes in ``drawn`` say so."""
    effort = {"seconds": 2e-4, "samples": 3} if quick else {"seconds": 5e-3, "samples": 7}
    jobs = [{"shape": layer, **effort} for layer in (*layers, *drawn)]
    results = process.take_turns("dynq.bench.peer", names, threads, jobs, rounds, progress)
    return [{**record, "drawn": shapes.of(record) not in layers} for record in results]


# ---- Tables


def heading(machine: Record, missing: dict[str, str]) -> str:
    told = f"Medians of {machine['rounds']} rounds; of the others, how many times dynq's time they take."
    return process.heading(machine, missing, told)


SHORT = {
    "numpy": "NumPy", "onnxruntime": "ORT", "torch": "Torch", "torchao": "Torch", "openvino": "OV", "litert": "LRT",
    "float32": "f32",
}  # fmt: skip


def tables_of(
    results: list[Record], names: list[str], what: str, fact: str, of_own: Callable[[Record], str]
) -> Iterator[Table]:
    """Yield a table for each number of threads: dynq's time, a fact about what it ran, and the others' share of that
    time.

    Args:
        what: the field of a record that tells one row from another.
        fact: the heading of what ``of_own`` says of dynq's record.
    """
    for threads, group in groupby(results, key=lambda r: r["threads"]):
        rows = list(group)
        table = slim_table(f"{threads} thread{'s' if threads > 1 else ''}")
        table.add_column(f"\n{what}", width=17)
        table.add_column("\ndynq", justify="right", width=8)
        table.add_column(f"\n{fact}")
        for name in names[1:]:
            table.add_column("\n".join(SHORT.get(word, word) for word in name.split()), justify="right", min_width=5)
        for one, of_one in groupby(rows, key=lambda r: r[what]):
            by_name = {r["peer"]: r for r in of_one}
            own = by_name["dynq"]
            others = (number(by_name[name]["x_dynq"]) if name in by_name else "-" for name in names[1:])
            table.add_row(one, duration(own["us"]), of_own(own), *others)
        table.add_section()
        errors = []
        for name in names:
            of_peer = [r["error"] for r in rows if r["peer"] == name]
            errors.append(f"{sum(of_peer) / len(of_peer):.0e}" if of_peer else "-")
        table.add_row("error", errors[0], "", *errors[1:])
        yield table


def tables(results: list[Record], width: int) -> Iterator[Table]:
    """Yield a table for each number of threads: a row for each shape, with dynq's time and the others' multiples of it.

    The last column is the fastest of the others. If the terminal is narrow, a column stands for all forms of a
    runtime's int8, with the fastest of them, and one for all that is float32. The last rows have geometric means, over
    the shapes of the list and over those that were drawn, the number of shapes at which dynq is behind, and the errors.
    """
    for threads, group in groupby(results, key=lambda r: r["threads"]):
        rows = list(group)
        names = list(dict.fromkeys(r["peer"] for r in rows))
        columns: dict[str, list[str]] = {}
        for name in names[1:]:
            words = [SHORT.get(word, word) for word in name.split()]
            if width < WIDE:
                words = ["all", "f32"] if words[1:] == ["f32"] else words[:2]
            columns.setdefault("\n".join(words), []).append(name)
        others = [name for name in names if not name.startswith("dynq")]
        if others:
            columns["best"] = others
        table = slim_table(f"{threads} thread{'s' if threads > 1 else ''}")
        table.add_column("\nM x N x K", justify="right", width=13)
        table.add_column("\ndynq", justify="right", width=7)
        for column in columns:
            table.add_column(column, justify="right", min_width=4)
        for drawn, part in groupby(rows, key=lambda r: r["drawn"]):
            ratios: dict[str, list[float]] = {column: [] for column in columns}
            for shape, of_shape in groupby(part, key=shapes.of):
                by_name = {r["peer"]: r for r in of_shape}
                for column, merged in columns.items():
                    ratios[column].append(min(by_name[name]["x_dynq"] for name in merged))
                last = (number(ratio[-1]) for ratio in ratios.values())
                table.add_row(str(shape), duration(by_name["dynq"]["us"]), *last)
            table.add_section()
            which = "drawn, mean" if drawn else "geom. mean"
            table.add_row(which, "", *(number(geometric_mean(ratio)) for ratio in ratios.values()))
            table.add_row("dynq behind", "", *(str(sum(r < 1 for r in ratio)) for ratio in ratios.values()))
            table.add_section()
        errors = (_mean_error(rows, merged) for merged in columns.values())
        table.add_row("error", _mean_error(rows, ["dynq"]), *errors)
        yield table


def _mean_error(rows: list[Record], names: list[str]) -> str:
    """Return the mean error of the most exact of some peers, as "5e-3"."""
    errors = ([r["error"] for r in rows if r["peer"] == name] for name in names)
    return f"{min(sum(of_peer) / len(of_peer) for of_peer in errors):.0e}".replace("e-0", "e-")
