"""Measure one process with all threads against many with one: rows a second, and the memory that processes share.

python -m bench.scaling [--file MODEL.dynq --shape input_ids=8x128 ...]
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import re
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

import dynq
from dynq.runs import random_sample

SECONDS = 3.0


def write_model(path: Path) -> None:
    """Write six layers of 384 x 1536 and back, the linear layers of a small sentence encoder."""
    rng = np.random.default_rng(0)
    g = dynq.Graph()
    y = g.input("x", ("rows", 384))
    for _ in range(6):
        h = g.linear(y, rng.standard_normal((1536, 384), np.float32) / 20, activation="gelu")
        y = g.linear(h, rng.standard_normal((384, 1536), np.float32) / 40, residual=y)
    g.build({"y": y}, default="int8").save(path)


def work(path: str, shapes: dict[str, tuple[int, ...]], threads: int, start: Any, results: Any) -> None:
    """Run the model for some seconds from ``start`` on, and tell the rows and the memory."""
    dynq.set_num_threads(threads)
    model = dynq.load(path)
    sample = random_sample(model, shapes)
    rows = next(iter(sample.values())).shape[0]
    model.run(sample)
    start.wait()
    end, done = time.monotonic() + SECONDS, 0
    while time.monotonic() < end:
        model.run(sample)
        done += rows
    results.put((done / SECONDS, *mapped(path)))
    start.wait()  # all are alive while memory is read


def mapped(path: str) -> tuple[int, int]:
    """Return KiB of the file that are resident, and those that are this process's share (Pss)."""
    text = Path("/proc/self/smaps").read_text()
    resident = share = 0
    for block in re.split(r"(?m)^(?=[0-9a-f]+-[0-9a-f]+ )", text):
        if path in block.partition("\n")[0]:
            resident += int(re.findall(r"^Rss: +(\d+)", block, re.MULTILINE)[0])
            share += int(re.findall(r"^Pss: +(\d+)", block, re.MULTILINE)[0])
    return resident, share


def measure(path: str, shapes: dict[str, tuple[int, ...]], processes: int, threads: int) -> None:
    context = multiprocessing.get_context("spawn")
    start, results = context.Barrier(processes), context.Queue()
    workers = [context.Process(target=work, args=(path, shapes, threads, start, results)) for _ in range(processes)]
    for worker in workers:
        worker.start()
    found = [results.get() for _ in workers]
    for worker in workers:
        worker.join()
    rates, residents, shares = zip(*found, strict=True)
    print(
        f"{processes} x {threads} threads: {sum(rates):8.0f} rows/s; of the file each has "
        f"{residents[0] / 1024:.1f} MiB resident, all together {sum(shares) / 1024:.1f} MiB"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--file")
    parser.add_argument("--shape", action="append", default=[], help="NAME=8x128")
    given = parser.parse_args()
    shapes = {name: tuple(map(int, dims.split("x"))) for name, dims in (text.split("=", 1) for text in given.shape)}
    cpus = len(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as folder:
        path = given.file or os.path.join(folder, "m.dynq")
        if not given.file:
            write_model(Path(path))
            shapes = {"x": (32, 384)}
        print(f"{os.path.getsize(path) / 2**20:.1f} MiB, {cpus} CPUs, {dynq.isa.selected()}")
        for processes, threads in ((1, cpus), (1, 1), (cpus, 1), (cpus, cpus), (2 * cpus, 1)):
            measure(path, shapes, processes, threads)


if __name__ == "__main__":
    main()
