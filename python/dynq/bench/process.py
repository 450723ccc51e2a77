"""Which peers can run, and a process for each, on the same CPUs with as many threads."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import dynq

from .program import Record

# As -m, but nothing is imported from the current folder (Python 3.11 has -P for that).
RUN = """\
import sys
sys.path[:] = filter(None, sys.path)
from {module} import main
main(sys.argv[1], int(sys.argv[2]))
"""
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "DYNQ_NUM_THREADS")


def choose(names: tuple[str, ...], needed: Mapping[str, tuple[str, ...]]) -> tuple[list[str], dict[str, str]]:
    """Those that can run, dynq first, and for the others which of the packages they need is missing."""
    for name in names:
        if name not in needed:
            raise dynq.Error(f"--peer is {name!r}; known: {', '.join(needed)}")
    present: list[str] = []
    missing: dict[str, str] = {}
    for name, packages in needed.items():
        if names and name not in (*names, "dynq"):
            continue
        absent = [package for package in packages if not installed(package)]
        if absent and name in names:
            raise dynq.Error(f"{name} needs {' '.join(absent)}: pip install 'dynq[peers]'")
        if absent:
            missing[name] = " ".join(absent)
        else:
            present.append(name)
    return present, missing


def installed(package: str) -> bool:
    try:
        version(package)
    except PackageNotFoundError:
        return False
    return True


def versions(names: list[str], needed: Mapping[str, tuple[str, ...]]) -> dict[str, str]:
    """Of the first package of each peer."""
    return {package: version(package) for package in dict.fromkeys(needed[name][0] for name in names)}


def run(module: str, name: str, threads: int, job: Mapping[str, Any]) -> list[Record]:
    """What the peer's ``main`` in ``module`` prints about a job, which it reads from standard input."""
    environment = {**os.environ, **dict.fromkeys(THREAD_VARIABLES, str(threads))}
    command = [sys.executable, "-c", RUN.format(module=module), name, str(threads)]
    text = json.dumps({**job, "cpus": _first_cpus(threads)})
    done = subprocess.run(command, input=text, env=environment, capture_output=True, text=True)
    if done.returncode != 0:
        raise dynq.Error(f"{name} failed: {(done.stderr.strip().splitlines() or ['no message'])[-1]}")
    return [json.loads(line) for line in done.stdout.splitlines()]


def take_turns(
    steps: Sequence[tuple[str, Record]],
    rounds: int,
    same: Sequence[str],
    run_step: Callable[[str, Record, bool], list[Record]],
    progress: Callable[[int, int], None],
) -> list[Record]:
    """Runs the steps, each a peer and what it is given, ``rounds`` times; of a peer's times ``us`` the best counts.

    Args:
        same: the fields by which two records are of the same layer; ``x_dynq`` is the time over dynq's.
        run_step: gives the records of a step; it is told whether this is the first round.
    """
    best: dict[tuple[object, ...], Record] = {}
    progress(0, rounds * len(steps))
    for i in range(rounds):
        for step, (name, given) in enumerate(steps):
            for measured in run_step(name, given, i == 0):
                record = {"peer": name, **given, **measured}
                before = best.setdefault((*(record[field] for field in same), name), record)
                before["us"] = min(before["us"], record["us"])
            progress(i * len(steps) + step + 1, rounds * len(steps))
    for key, record in best.items():
        record["x_dynq"] = record["us"] / best[(*key[:-1], "dynq")]["us"]
    return list(best.values())


def _first_cpus(threads: int) -> list[int]:
    """Those that a peer may run on; empty: the system cannot be asked for that."""
    return sorted(os.sched_getaffinity(0))[:threads] if hasattr(os, "sched_getaffinity") else []
