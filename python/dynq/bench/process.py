"""Find the peers that can run, start a process for each with as many threads, and let them take turns.

No process is kept off a CPU: a runtime that is may choose other kernels than those that its users get.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from importlib.metadata import PackageNotFoundError, version
from itertools import count as numbers
from statistics import median
from typing import Any

import dynq

from .program import Record

# Like -m, but nothing is imported from the current folder (Python 3.11 has -P for that).
RUN = """\
import sys
sys.path[:] = filter(None, sys.path)
from {module} import main
main(sys.argv[1], int(sys.argv[2]))
"""
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "DYNQ_NUM_THREADS")


def choose(names: tuple[str, ...], needed: Mapping[str, tuple[str, ...]]) -> tuple[list[str], dict[str, str]]:
    """Return the peers that can run, dynq first, and for the others which of the packages they need is missing."""
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
    """Return the versions of the first package of each peer."""
    return {package: version(package) for package in dict.fromkeys(needed[name][0] for name in names)}


def heading(machine: Record, missing: Mapping[str, str], *told: str) -> str:
    """Return the heading of the tables of peers: machine, versions, what the numbers are, how busy the machine was
    otherwise, and which peers are missing.
    """
    installed = ", ".join(f"{package} {number}" for package, number in machine["versions"].items())
    lines = [f"{machine['cpu']}, {machine['isa']}", installed, *told]
    if machine.get("others") is not None:
        lines.append(
            f"Meanwhile, of all CPU time, other processes had {machine['others']:.0%}, other machines of the same host "
            f"{machine['stolen']:.0%}."
        )
    if missing:
        absent = ", ".join(f"{name} (no {package})" for name, package in missing.items())
        lines.append(f"Not measured: {absent}. pip install 'dynq[peers]'")
    return "\n".join(lines)


class Peer:
    """A peer's process: the ``main`` of ``module``, which answers one job after another."""

    def __init__(self, module: str, name: str, threads: int) -> None:
        environment = {**os.environ, **dict.fromkeys(THREAD_VARIABLES, str(threads))}
        self.name = name
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - close() closes it
        self._process = subprocess.Popen(
            [sys.executable, "-c", RUN.format(module=module), name, str(threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            env=environment,
            text=True,
        )

    def ask(self, job: Mapping[str, Any]) -> Record | None:
        """Return what the peer answers; None if it has no such layer.

        Raises:
            Error: the process ended; the text has its last line.
        """
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(job) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            self._process.wait()
            self._said.seek(0)
            said = self._said.read().decode("utf-8", "replace").strip().splitlines()
            raise dynq.Error(f"{self.name} failed: {(said or ['no message'])[-1]}")
        answer: Record | None = json.loads(line)
        return answer

    def close(self) -> None:
        """End the process at once, and wait for its end."""
        self._process.kill()
        self._process.communicate()
        self._said.close()


@contextmanager
def started(module: str, names: Sequence[str], threads: int) -> Iterator[dict[str, Peer]]:
    """Start a process for each peer, which lives as long as the context."""
    with ExitStack() as stack:
        peers = {}
        for name in names:
            peers[name] = Peer(module, name, threads)
            stack.callback(peers[name].close)
        yield peers


def run(module: str, name: str, threads: int, job: Mapping[str, Any]) -> Record | None:
    """Return what a peer answers to one job, in a process of its own."""
    with started(module, [name], threads) as peers:
        return peers[name].ask(job)


def take_turns(
    module: str,
    names: Sequence[str],
    threads: Sequence[int],
    jobs: Sequence[Mapping[str, Any]],
    rounds: int,
    progress: Callable[[int, int], None],
    time_field: str = "us",
) -> list[Record]:
    """Time each job through all peers, which take turns ``rounds`` times before the next job.

    Returns:
        A record for each number of threads, job and peer that has the job's layer, in this order: what the peer
        answered first, with the median of its times. ``x_dynq`` is the median over the rounds of the time over dynq's
        in the same round.
    """
    steps = len(threads) * len(jobs) * rounds * len(names)
    done = numbers(1)
    records: list[Record] = []
    progress(0, steps)
    for count in threads:
        with started(module, names, count) as peers:
            for job in jobs:
                answers: dict[str, list[Record]] = {name: [] for name in names}
                for i in range(rounds):
                    # Who comes after whom changes: a peer may leave threads that spin for a while.
                    for name in names if i % 2 == 0 else reversed(names):
                        answer = peers[name].ask(job)
                        if answer is not None:
                            answers[name].append(answer)
                        progress(next(done), steps)
                own = [answer[time_field] for answer in answers["dynq"]]
                for name, given in answers.items():
                    if given:
                        times = [answer[time_field] for answer in given]
                        record = {"peer": name, "threads": count, **given[0], time_field: median(times)}
                        record["x_dynq"] = median(t / o for t, o in zip(times, own, strict=True))
                        records.append(record)
    return records


@contextmanager
def neighbours(machine: Record) -> Iterator[None]:
    """Add to ``machine`` the shares of all CPU time that others had meanwhile: ``others`` and ``stolen``.

    The first is that of processes but this one and those that it started and that ended, the second that of other
    machines of the same host. Nothing is added if the system does not count them.
    """
    before = _cpu_time()
    start = time.perf_counter()
    yield
    after = _cpu_time()
    if before is not None and after is not None:
        whole = (time.perf_counter() - start) * (os.cpu_count() or 1)
        busy, stolen, own = (b - a for a, b in zip(before, after, strict=True))
        machine["others"] = min(max((busy - own) / whole, 0.0), 1.0)
        machine["stolen"] = min(max(stolen / whole, 0.0), 1.0)


def _cpu_time() -> tuple[float, float, float] | None:
    """Return seconds of all CPUs: those at work, those stolen by other machines, and those of this process."""
    try:
        with open("/proc/stat", encoding="ascii") as file:
            fields = [int(field) / os.sysconf("SC_CLK_TCK") for field in file.readline().split()[1:]]
    except (OSError, ValueError):
        return None
    user, nice, system, _, _, irq, softirq, stolen = fields[:8]
    return user + nice + system + irq + softirq, stolen, sum(os.times()[:4])
