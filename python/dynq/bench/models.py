"""Time a whole sentence encoder through other runtimes, for ``dynq bench models``."""

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
    """The size of an input."""

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


def measure(
    names: list[str],
    threads: list[int],
    sizes: list[Size],
    rounds: int,
    quick: bool,
    folder: Path,
    progress: Callable[[int, int], None],
) -> tuple[list[Record], list[Record]]:
    """Measure times of inferences, times to open, and memory. ``folder`` is empty and gets the files.

    Each runtime has a process of its own. For each size they take turns, ``rounds`` times. They also open the model so
    often; the shortest time and the least memory of that count, since whatever comes between only adds.
    """
    source = find_model()
    done, total = 0, len(names) * (1 + rounds + len(threads) * len(sizes) * rounds) + 1
    progress(0, total)

    def advance() -> None:
        nonlocal done
        done += 1
        progress(done, total)

    _write_inputs(source, folder, list(dict.fromkeys([*sizes, Size(*OPENED)])), sizes)
    advance()
    job = {"source": str(source), "folder": str(folder)}
    for name in names:
        process.run(MODULE, name, max(threads), {**job, "do": "prepare"})
        advance()
    opened: dict[str, Record] = {}
    for _ in range(rounds):
        for name in names:
            record = process.run(MODULE, name, 1, {**job, "do": "open"}) or {}
            best = opened.setdefault(name, {"peer": name, **record})
            for field, value in record.items():
                best[field] = None if value is None else min(best[field], value)
            advance()
    for name, record in opened.items():
        bare, resident = _bare_resident(name), record.pop("resident")
        record["resident_mb"] = None if resident is None or bare is None else (resident - bare) / 1e6
        file = folder / RUNTIMES[name].file if RUNTIMES[name].file else source / "model.safetensors"
        record["file_mb"] = file.stat().st_size / 1e6
    effort = {"seconds": 2e-4, "samples": 3, "patience": 0.1}
    if not quick:  # the seconds of a sample, the samples, and the seconds for all of them if a call takes long
        effort = {"seconds": 1e-2, "samples": 9, "patience": 1}
    jobs = [{**job, "do": "time", "shape": list(size), **effort} for size in sizes]
    results = process.take_turns(
        MODULE, names, threads, jobs, rounds, lambda step, _: advance() if step else None, "ms"
    )
    return results, list(opened.values())


def _size(record: Record) -> Size:
    return Size(record["batch"], record["length"])


def _write_inputs(source: Path, folder: Path, inputs: list[Size], references: list[Size]) -> None:
    """Write token ids of each size, and the outputs of float32 in NumPy for them.

    Each row is a text of the demo's sentences, one after the other. Each row begins with another sentence.
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
    """Return the bytes of a Python with NumPy. For other runtimes than dynq, the modules that start them count too."""
    module = "numpy" if name == "dynq" else MODULE
    code = f"import os, {module}; print(int(open('/proc/self/statm').read().split()[1]) * os.sysconf('SC_PAGE_SIZE'))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    return int(done.stdout) if done.returncode == 0 else None


# ---- Tables


def heading(machine: Record, missing: dict[str, str]) -> str:
    return process.heading(
        machine,
        missing,
        f"all-MiniLM-L6-v2. Medians of {machine['rounds']} rounds in ms, and how many times dynq's time that is;",
        "cosine of the tokens' outputs to float32. Memory over a bare Python with NumPy.",
    )


def tables(results: list[Record], opened: list[Record], width: int) -> Iterator[Table]:
    """Yield a table for each number of threads, with a row for each runtime and a column for each size.

    The last table has the times to open, and memory.
    """
    for threads, group in groupby(results, key=lambda r: r["threads"]):
        rows = list(group)
        table = slim_table(f"{threads} thread{'s' if threads > 1 else ''}")
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
    table = slim_table("file, opening it, memory after 10 inferences of 1x128")
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
