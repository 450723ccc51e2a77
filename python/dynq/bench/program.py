"""Run dynq-bench, the program in C that lies in the package and measures."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dynq import Error, _native  # type: ignore[attr-defined]

Record = dict[str, Any]


def find_program() -> Path:
    """Return the path of dynq-bench, which lies beside the compiled module."""
    program = Path(_native.__file__).parent / "bin" / "dynq-bench"
    if not program.is_file():
        raise Error(f"{program} is missing; this dynq was built without it (CMake: -DDYNQ_BUILD_BENCH=ON)")
    return program


def measure(arguments: list[str], progress: Callable[[int, int], None]) -> tuple[Record, list[Record]]:
    """Run ``dynq-bench ARGUMENTS --json``, and return what it reports about the machine, and its results.

    ``progress`` is called with how much is done and how much there is to do.
    """
    machine: Record = {}
    results: list[Record] = []
    program = find_program()
    command = [str(program), *arguments, "--json"]
    try:
        started = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    except OSError as error:
        raise Error(f"{program} cannot be started: {error.strerror}") from error
    with started as child:
        try:
            assert child.stdout is not None and child.stderr is not None
            for line in child.stdout:
                record = json.loads(line)
                kind = record.pop("record")
                if kind == "machine":
                    machine = record
                elif kind != "progress":
                    results.append(record)
                if "steps" not in machine:
                    progress(len(results), machine["lines"])
                elif kind == "progress":
                    progress(record["done"], machine["steps"])
            message = child.stderr.read().strip()
        except BaseException:
            child.kill()  # its measurement is of no use without this process
            raise
    if child.returncode != 0:
        raise Error(message.removeprefix("dynq-bench: ") or f"dynq-bench ended with status {child.returncode}")
    return machine, results
