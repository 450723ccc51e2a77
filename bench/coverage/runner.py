"""Runs cases in child processes with limits of time and memory, and keeps what each step of them gave as JSON."""

from __future__ import annotations

import json
import multiprocessing
import os
import resource
import signal
import time
import traceback
from collections.abc import Callable, Iterable
from multiprocessing import connection
from pathlib import Path
from typing import Any

__all__ = ["Record", "run_cases"]

_TEXT = 600  # characters of an error that are kept


class Record:
    """The steps of one case, each with what it gave or how it failed. The file is written after each."""

    def __init__(self, path: Path, wanted: Iterable[str] = ()) -> None:
        self.path = path
        self.wanted = tuple(wanted)  # all if empty
        self.steps: dict[str, dict[str, Any]] = json.loads(path.read_text()) if path.exists() else {}

    def step(self, name: str, work: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
        """Do a step unless its result is there. ``work`` fills the row; ``row["stage"]`` says how far it came."""
        if name in self.steps or (self.wanted and name not in self.wanted):
            return self.steps.get(name, {})
        row = self.steps[name] = {"stage": "start", "error": "unfinished"}
        self.write()
        start = time.process_time()
        try:
            work(row)
            row.pop("error", None)
            row.pop("stage", None)
        except Exception as error:  # of any library that takes part
            row["error"] = _text(error)
        row["seconds"] = round(time.process_time() - start, 2)
        self.write()
        return row

    def note(self, row: dict[str, Any], stage: str) -> None:
        """Say how far a step has come, for the case that the process ends here."""
        row["stage"] = stage
        self.write()

    def forget(self, what: str) -> None:
        """Forget all steps, or those that failed."""
        if what == "all":
            self.steps = {}
        elif what == "failed":
            self.steps = {name: row for name, row in self.steps.items() if "error" not in row and not row.get("wrong")}
        if self.path.exists():
            self.write()

    def write(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        partial = self.path.with_suffix(".partial")
        partial.write_text(json.dumps(self.steps, indent=1, default=float))
        partial.replace(self.path)


def run_cases(
    cases: dict[str, Callable[[Record], None]],
    folder: Path,
    *,
    seconds: int,
    megabytes: int,
    jobs: int = 1,
    again: str = "",
    wanted: Iterable[str] = (),
    tell: Callable[[str], None] = print,
) -> None:
    """Run each case in a child process, and again after a step that ended it.

    Args:
        cases: a function for each name. It gets the record and calls its ``step``.
        seconds, megabytes: the limits of one child: processor time (ten times as long on the clock), address space.
        jobs: how many children run at once.
        again: "all": forget earlier results; "failed": those that failed.
        wanted: the names of steps to do; all unless given.
    """
    waiting = list(cases)
    for name in waiting:
        Record(_path(folder, name)).forget(again)
    active: list[_Child] = []
    while waiting or active:
        while waiting and len(active) < jobs:
            name = waiting.pop(0)
            active.append(_Child(name, cases[name], Record(_path(folder, name), wanted), seconds, megabytes))
        connection.wait([child.process.sentinel for child in active], 1)
        for child in [child for child in active if child.has_ended()]:
            active.remove(child)
            if child.marks_unfinished():
                waiting.insert(0, child.name)  # for the steps behind the one that ended it
            else:
                steps = child.record.steps
                failed = [step for step, row in steps.items() if "error" in row]
                tell(f"{child.name}: {len(steps)} steps" + (f", failed: {', '.join(failed)}" if failed else ""))


def _path(folder: Path, name: str) -> Path:
    return folder / f"{name.replace('/', '__')}.json"


class _Child:
    """A child process that runs a case."""

    def __init__(self, name: str, work: Callable[[Record], None], record: Record, seconds: int, megabytes: int) -> None:
        self.name = name
        self.record = record
        self.seconds = seconds
        self.deadline = time.monotonic() + 10 * seconds
        context = multiprocessing.get_context("fork")
        self.process = context.Process(target=_child, args=(work, record, seconds, megabytes))
        self.process.start()

    def has_ended(self) -> bool:
        """Return whether it came to an end. One that is over its time on the clock does."""
        if self.process.is_alive() and time.monotonic() > self.deadline:
            self.process.kill()
        self.process.join(0.01)
        return not self.process.is_alive()

    def marks_unfinished(self) -> bool:
        """Note why the process ended in the step that it left, and return whether there is one."""
        code = self.process.exitcode
        late = code == -signal.SIGXCPU or time.monotonic() > self.deadline
        ended = f"over the limit of {self.seconds} s" if late else f"the process ended with {code}" if code else ""
        self.record = Record(self.record.path, self.record.wanted)
        unfinished = [row for row in self.record.steps.values() if row.get("error") == "unfinished"]
        for row in unfinished:
            row["error"] = ended or "the process ended"
        if ended and not unfinished:
            self.record.steps["child"] = {"error": ended}
        self.record.write()
        return bool(unfinished)


def _child(work: Callable[[Record], None], record: Record, seconds: int, megabytes: int) -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 5))
    resource.setrlimit(resource.RLIMIT_AS, (megabytes << 20, megabytes << 20))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    silence = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):  # exporters print whole graphs
        os.dup2(silence, stream)
    try:
        work(record)
        code = 0
    except BaseException as error:
        record.steps.setdefault("setup", {})["error"] = _text(error)
        record.write()
        code = 0
    os._exit(code)


def _text(error: BaseException) -> str:
    """Return the type and the text of an error, and where it arose if it has no text."""
    text = str(error).strip()
    if not text:
        last = traceback.extract_tb(error.__traceback__)[-1]
        text = f"in {last.name}: {last.line}"
    return f"{type(error).__name__}: {text}"[:_TEXT]
