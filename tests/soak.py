"""Runs models of many shapes in many threads for a long time, and watches what the process holds.

``soak.py [--minutes 30] [--threads 8] [--shapes 10000] [--warm-up MINUTES]``: each thread calls a few models with
inputs of random shapes; now and then it saves a model, opens the file, calls that and drops it, or meets a limit of
bytes. Every few seconds all threads rest, sessions that are idle are dropped, and memory is measured. After the
warm-up (a sixth of the time) it stays within 2 %, and the numbers of threads and of open files stay as they are; else
the exit status is 1. Memory is what the process has written for itself: a mapped file's pages are the system's.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import gc
import os
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

import dynq

WIDTH, LIMIT = 48, 0.02


def models() -> list[dynq.Model]:
    """A linear stack with attention, a convolution, an LSTM, and shapes that are computed."""
    rng = np.random.default_rng(0)

    def weight(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape, np.float32) / np.float32(WIDTH)

    g = dynq.Graph()
    x = g.input("x", ("batch", "length", WIDTH))
    h = g.linear(x, weight(96, WIDTH))
    y = g.node("Softmax", [h @ g.node("Transpose", [h], perm=[0, 2, 1])], axis=-1) @ h
    stack = g.build(g.linear(y, weight(WIDTH, 96)) + x)

    g = dynq.Graph()
    x = g.input("x", ("batch", "length", WIDTH))
    conv = g.node("Conv", [g.node("Transpose", [x], perm=[0, 2, 1]), weight(32, WIDTH, 3)], pads=[1, 1])
    pooled = g.node("AveragePool", [conv], kernel_shape=[3], pads=[1, 1])
    ones = g.node("ConstantOfShape", [g.node("Shape", [pooled])])
    convolution = g.build(g.node("Add", [pooled, ones]))

    g = dynq.Graph()
    x = g.input("x", ("length", "batch", WIDTH))
    lstm = g.node("LSTM", [x, weight(1, 128, WIDTH), weight(1, 128, 32)], outputs=["y"], hidden_size=32)[0]
    return [stack, convolution, g.build(lstm)]


def held_bytes() -> int:
    """Memory that is this process's own."""
    fields: dict[str, int] = {}
    with open("/proc/self/smaps_rollup", encoding="ascii") as file:
        for line in file:
            parts = line.split()
            if len(parts) == 3:
                fields[parts[0]] = int(parts[1]) * 1024
    return fields["Private_Dirty:"]


def counts() -> tuple[int, int]:
    """Threads and open files."""
    return len(os.listdir("/proc/self/task")), len(os.listdir("/proc/self/fd"))


class Rest:
    """A time when no thread works."""

    def __init__(self, threads: int) -> None:
        self.over = False
        self._asked = threading.Event()
        self._barrier = threading.Barrier(threads + 1)

    def here(self) -> None:
        """Rest, if that is asked for."""
        if self._asked.is_set():
            self._barrier.wait()  # all have come
            self._barrier.wait()  # it has ended

    def leave(self) -> None:
        """Let nobody wait for this thread, which has failed."""
        self.over = True
        self._barrier.abort()

    def measure(self) -> tuple[int, tuple[int, int]]:
        """Bytes, threads and files while all others rest."""
        self._asked.set()
        self._barrier.wait()
        self._asked.clear()
        for model in SHARED:
            model.max_bytes = None  # drops the idle sessions
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)  # what was freed goes back to the system
        result = held_bytes(), counts()
        self._barrier.wait()
        return result


class Worker(threading.Thread):
    """One thread's calls, until ``stop`` is set."""

    def __init__(self, seed: int, shapes: np.ndarray, folder: Path, rest: Rest) -> None:
        super().__init__(daemon=True)
        self.rest = rest
        self.rng = np.random.default_rng(seed)
        self.shapes = shapes
        self.path = folder / f"{seed}.dynq"
        self.calls = self.opened = 0
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            while not self.rest.over:
                self.step()
                self.rest.here()
        except BaseException as error:
            self.error = error
            self.rest.leave()

    def step(self) -> None:
        own = SHARED[self.rng.integers(len(SHARED))]
        if self.calls % 500 == 499:  # a model's whole life
            own.save(self.path)
            own = dynq.load(self.path, max_bytes=1 << 28)
            self.opened += 1
        first, second = self.shapes[self.rng.integers(len(self.shapes))]
        x = np.full((int(first), int(second), WIDTH), 0.5, np.float32)
        own(x)
        if self.calls % 1000 == 7:
            with contextlib.suppress(dynq.OutOfMemoryError):
                dynq.load(self.path, max_bytes=100)(x) if self.path.exists() else None
        self.calls += 1


SHARED: list[dynq.Model] = []


def watch(minutes: float, warm_up: float, rest: Rest, workers: list[Worker]) -> bool:
    """False if something grew after the warm-up."""
    begin = time.monotonic()
    every = max(2.0, minutes * 60 / 60)
    held: list[int] = []
    first: tuple[int, int] | None = None
    while (passed := (time.monotonic() - begin) / 60) < minutes:
        time.sleep(every)
        working = held_bytes()
        try:
            resting, now = rest.measure()
        except threading.BrokenBarrierError:
            print("a thread failed:", [worker.error for worker in workers])
            return False
        calls = sum(worker.calls for worker in workers)
        print(
            f"{passed:6.2f} min  {resting / 2**20:7.1f} MiB ({working / 2**20:7.1f} at work)  {now[0]:3} threads"
            f"  {now[1]:3} files  {calls} calls",
            flush=True,
        )
        if passed >= warm_up:
            held.append(resting)
            first = first or now
            if now != first:
                print(f"threads and files were {first}; now they are {now}")
                return False
    edge = max(1, len(held) // 5)
    start, end = float(np.median(held[:edge])), float(np.median(held[-edge:]))
    change = 100 * (end / start - 1)
    print(f"memory after the warm-up {start / 2**20:.1f} MiB, at the end {end / 2**20:.1f} MiB: {change:+.2f} %")
    return end <= start * (1 + LIMIT)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--threads", type=int, default=8)
    parser.add_argument("--shapes", type=int, default=10_000)
    parser.add_argument("--warm-up", type=float, default=None, help="minutes; a sixth of the time otherwise")
    options = parser.parse_args()
    libc = ctypes.CDLL(None)
    libc.mallopt(-3, 256 * 1024)  # M_MMAP_THRESHOLD: what is large goes back when it is freed,
    libc.mallopt(-8, 1)  # M_ARENA_MAX: and what is small leaves no holes in a heap for each thread
    sides = int(np.ceil(np.sqrt(options.shapes)))
    shapes = np.array([(i % sides + 1, i // sides + 1) for i in range(options.shapes)])
    SHARED.extend(models())
    gc.collect()
    rest = Rest(options.threads)
    with tempfile.TemporaryDirectory() as folder:
        workers = [Worker(seed, shapes, Path(folder), rest) for seed in range(options.threads)]
        for worker in workers:
            worker.start()
        warm_up = options.minutes / 6 if options.warm_up is None else options.warm_up
        good = watch(options.minutes, warm_up, rest, workers)
        rest.over = True
        for worker in workers:
            worker.join()
    print(
        f"{sum(w.calls for w in workers)} calls, {sum(w.opened for w in workers)} files opened:",
        "fine" if good else "FAILED",
    )
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
