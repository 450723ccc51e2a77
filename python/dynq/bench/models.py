"""``dynq bench models``: a whole sentence encoder through other runtimes."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich.table import Table

import dynq
from dynq.demo.minilm import SENTENCES, Encoder, find_model

from . import process
from ._tables import number, slim_table
from .linear import WIDE
from .model_peer import RUNTIMES
from .program import Record

Array = np.ndarray[Any, Any]
MODULE = "dynq.bench.model_peer"
NEEDED = {name: runtime.packages for name, runtime in RUNTIMES.items()}
OPENED = (1, 128)  # batch and length of the inferences that follow opening


class Size(NamedTuple):
    """Of an input."""

    batch: int
    length: int

    def __str__(self) -> str:
        return f"{self.batch}x{self.length}"


SIZES = (Size(1, 8), Size(1, 32), Size(1, 128), Size(8, 128), Size(32, 64))


def parse(text: str) -> Size:
    match = re.fullmatch(r"([1-9]\d{0,3})x([1-9]\d{0,2})", text)
    if match is None or int(match[2]) > 512:
        raise dynq.Error(f"--shape is {text!r}; expected BATCHxLENGTH, such as 8x128, with a length of at most 512")
    return Size(int(match[1]), int(match[2]))


def choose(names: tuple[str, ...]) -> tuple[list[str], dict[str, str]]:
    """Those that can run, dynq first, and for the others which package is missing."""
    return process.choose(names, NEEDED)


def versions(names: list[str]) -> dict[str, str]:
    return process.versions(names, NEEDED)


def measure(
    names: list[str],
    threads: list[int],
    sizes: list[Size],
    rounds: int,
    quick: bool,
    folder: Path,
    progress: Callable[[int, int], None],
) -> tuple[list[Record], list[Record]]:
    """Times of inferences; times to open, and memory. ``folder`` is empty and gets the files.

    Each runtime in a process of its own, in turn, ``rounds`` times; the best of its medians counts.
    """
    source = find_model()
    steps = [(i, count, name) for i in range(rounds) for name in names for count in (None, *threads)]
    steps.sort(key=lambda step: (step[0], step[1] or 0))  # takes turns: all runtimes, then the next number of threads
    progress(0, len(steps) + len(names) + 1)
    done = 0

    def advance() -> None:
        nonlocal done
        done += 1
        progress(done, len(steps) + len(names) + 1)

    _write_inputs(source, folder, list(dict.fromkeys([*sizes, Size(*OPENED)])), sizes)
    advance()
    job = {"source": str(source), "folder": str(folder)}
    for name in names:
        process.run(MODULE, name, max(threads), {**job, "do": "prepare"})
        advance()
    best: dict[tuple[str, int, Size], Record] = {}
    opened: dict[str, Record] = {}
    for i, count, name in steps:
        if count is None:
            (record,) = process.run(MODULE, name, 1, {**job, "do": "open"})
            _keep_best(opened.setdefault(name, {"peer": name, **record}), record)
        else:
            timing = {**job, "do": "time", "shapes": sizes, "with_cosine": i == 0, **_effort(quick)}
            for record in process.run(MODULE, name, count, timing):
                key = name, count, _size(record)
                _keep_best(best.setdefault(key, {"peer": name, "threads": count, **record}), record)
        advance()
    for (_, count, size), record in best.items():
        record["x_dynq"] = record["ms"] / best["dynq", count, size]["ms"]
    for name, record in opened.items():
        bare, resident = _bare_resident(name), record.pop("resident")
        record["resident_mb"] = None if resident is None or bare is None else (resident - bare) / 1e6
        file = folder / RUNTIMES[name].file if RUNTIMES[name].file else source / "model.safetensors"
        record["file_mb"] = file.stat().st_size / 1e6
    order = {name: i for i, name in enumerate(names)}
    return (
        sorted(best.values(), key=lambda r: (r["threads"], sizes.index(_size(r)), order[r["peer"]])),
        list(opened.values()),
    )


def _effort(quick: bool) -> dict[str, float]:
    """Seconds of a sample, samples, and seconds for all of them where a call takes long."""
    return {"seconds": 2e-4, "samples": 3, "patience": 0.1} if quick else {"seconds": 1e-2, "samples": 9, "patience": 1}


def _size(record: Record) -> Size:
    return Size(record["batch"], record["length"])


def _keep_best(best: Record, record: Record) -> None:
    for name in ("ms", "open_ms", "first_ms", "resident"):
        if record.get(name) is not None:
            best[name] = min(best[name], record[name])


def _write_inputs(source: Path, folder: Path, inputs: list[Size], references: list[Size]) -> None:
    """Token ids of each size, and what float32 in NumPy makes of them.

    Each row is a text of the sentences of the demo, one after the other, the first another one from row to row.
    """
    encoder = Encoder(source)
    sentences = [encoder.tokens(sentence) for sentence in SENTENCES]
    first, last = sentences[0][0], sentences[0][-1]  # [CLS] and [SEP]
    for size in inputs:
        ids = np.empty(size, np.int64)
        for i, row in enumerate(ids):
            turned = sentences[i % len(sentences) :] + sentences[: i % len(sentences)]
            row[:] = np.resize(np.concatenate([s[1:-1] for s in turned]), size.length)
        ids[:, 0] = first
        ids[:, -1] = last
        np.save(folder / f"ids-{size}.npy", ids)
        if size in references:
            hidden = np.stack([encoder.hidden(row, encoder.float_linear) for row in ids])
            np.save(folder / f"hidden-{size}.npy", hidden)


def _bare_resident(name: str) -> int | None:
    """Bytes of a Python with NumPy; for other runtimes than dynq with what starts them, too."""
    module = "numpy" if name == "dynq" else MODULE
    code = f"import os, {module}; print(int(open('/proc/self/statm').read().split()[1]) * os.sysconf('SC_PAGE_SIZE'))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    return int(done.stdout) if done.returncode == 0 else None


# ---- Tables


def heading(machine: Record, missing: dict[str, str]) -> str:
    installed = ", ".join(f"{package} {number}" for package, number in machine["versions"].items())
    lines = [
        f"{machine['cpu']}, {machine['isa']}",
        installed,
        f"all-MiniLM-L6-v2. Best of {machine['rounds']} medians in ms, and how many times dynq's time that is;",
        "cosine of the tokens' outputs to float32. Memory over a bare Python with NumPy.",
    ]
    if missing:
        absent = ", ".join(f"{name} (no {package})" for name, package in missing.items())
        lines.append(f"Not measured: {absent}. pip install 'dynq[peers]'")
    return "\n".join(lines)


def tables(results: list[Record], opened: list[Record], width: int) -> Iterator[Table]:
    """Of each number of threads: a row for each runtime, a column for each size; then opening and memory."""
    for threads, group in groupby(results, key=lambda r: r["threads"]):
        rows = list(group)
        table = slim_table(f"[bold]{threads} thread{'s' if threads > 1 else ''}[/bold]")
        table.add_column("batch x length")
        sizes = list(dict.fromkeys(map(_size, rows)))
        for size in sizes:
            table.add_column(str(size), justify="right")
        table.add_column("cosine", justify="right")
        for name, of_name in _by_peer(rows).items():
            cells = [
                number(r["ms"]) + ("" if name == "dynq" or width < WIDE else f" ({r['x_dynq']:.1f} x)") for r in of_name
            ]
            mean = sum(r["cosine"] for r in of_name) / len(of_name)
            table.add_row(name, *cells, f"{mean:.4f}")
        if others := [name for name in _by_peer(rows) if not name.startswith("dynq")]:
            table.add_section()
            ratios = [min(r["x_dynq"] for r in rows if _size(r) == size and r["peer"] in others) for size in sizes]
            table.add_row("the best / dynq", *(f"{ratio:.2f}" for ratio in ratios), "")
        yield table
    table = slim_table("[bold]file, opening it, memory after 10 inferences of 1x128[/bold]")
    table.add_column("")
    for column in ("file, MB", "open, ms", "with the first inference", "memory, MB"):
        table.add_column(column, justify="right")
    for r in opened:
        memory = "-" if r["resident_mb"] is None else number(r["resident_mb"])
        table.add_row(r["peer"], number(r["file_mb"]), number(r["open_ms"]), number(r["first_ms"]), memory)
    yield table


def _by_peer(rows: list[Record]) -> dict[str, list[Record]]:
    result: dict[str, list[Record]] = {}
    for row in rows:
        result.setdefault(row["peer"], []).append(row)
    return result
