"""Compare two files that ``dynq bench ... --json`` wrote, for ``dynq bench compare``."""

from __future__ import annotations

import json
import math
from pathlib import Path
from statistics import geometric_mean
from typing import Any

from rich.table import Table

import dynq

from ._tables import number, slim_table

# The fields that identify a row, and the field of its time, by the command that measured it.
KEYS = {
    "isa": (("kernel", "level", "isa"), "ns_per_1000", "ns/1000"),
    "linear": (("isa", "threads", "m", "n", "k"), "us", "µs"),
    "peers": (("peer", "threads", "m", "n", "k"), "us", "µs"),
    "models": (("peer", "threads", "batch", "length"), "ms", "ms"),
    "models --suite vision": (("network", "peer", "threads"), "us", "µs"),
    "generate": (("peer", "what", "threads"), "ms", "ms"),
    "conv": (("layer", "peer", "threads"), "us", "µs"),
}


def load(path: str) -> dict[str, Any]:
    try:
        facts = json.loads(Path(path).read_text("utf-8"))
        machine = facts["machine"]
        if machine["command"] in KEYS and {"dynq", "cpu"} <= machine.keys() and isinstance(facts["results"], list):
            for i, row in enumerate(facts["results"]):
                _check_row(f"{path}: result {i + 1}", machine["command"], row)
            return dict(facts)
    except OSError as error:
        raise dynq.Error(f"{path}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError):
        pass
    raise dynq.Error(f"{path}: expected what 'dynq bench isa, linear, peers, models, generate or conv --json' prints")


def _check_row(which: str, command: str, row: Any) -> None:
    names, time, _ = KEYS[command]
    if not isinstance(row, dict) or (lacking := [name for name in (*names, time) if name not in row]):
        raise dynq.Error(f"{which} has no {', '.join(lacking) if isinstance(row, dict) else 'names'}")
    for name in names:
        if not isinstance(row[name], str | int):
            raise dynq.Error(f"{which} has the {name} {row[name]!r}; expected a name or a whole number")
    if not isinstance(row[time], int | float) or not 0 < row[time] < math.inf:
        raise dynq.Error(f"{which} has the time {time} {row[time]!r}; expected a number above 0")


def compare(a: dict[str, Any], b: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the rows that both have: ``a`` and ``b``, the times, and ``ratio``, how many times faster b is."""
    command = a["machine"]["command"]
    if command != b["machine"]["command"]:
        raise dynq.Error(f"one is of 'bench {command}', the other of 'bench {b['machine']['command']}'")
    names, time, _ = KEYS[command]
    before = {tuple(row[name] for name in names): row[time] for row in a["results"]}
    rows = []
    for row in b["results"]:
        key = tuple(row[name] for name in names)
        if key in before:
            rows.append({**dict(zip(names, key, strict=True)), "a": before[key], "b": row[time]})
            rows[-1]["ratio"] = rows[-1]["a"] / rows[-1]["b"]
    if not rows:
        raise dynq.Error("the two files have no row in common")
    return rows


def heading(a: dict[str, Any], b: dict[str, Any]) -> str:
    machines = [
        f"{name}: dynq {facts['machine']['dynq']}, {facts['machine']['cpu']}"
        for name, facts in zip("AB", (a, b), strict=True)
    ]
    return "\n".join(machines) + "\nTwo runs: small differences are the machine's mood. A / B over 1: B is faster."


def table(command: str, rows: list[dict[str, Any]]) -> Table:
    names, _, unit = KEYS[command]
    shaped = len(names) > 3
    result = slim_table("")
    for name in names[:2] if shaped else names:
        result.add_column(name)
    if shaped:
        result.add_column("M x N x K" if "m" in names else "batch x length", justify="right")
    for name in (f"A, {unit}", f"B, {unit}", "A / B"):
        result.add_column(name, justify="right")
    for row in rows:
        what = [str(row[name]) for name in names]
        what = [*what[:2], "x".join(what[2:])] if shaped else what
        result.add_row(*what, number(row["a"]), number(row["b"]), f"{row['ratio']:.2f}")
    result.add_section()
    mean = geometric_mean(row["ratio"] for row in rows)
    result.add_row("geometric mean", *[""] * (len(result.columns) - 2), f"{mean:.2f}")
    return result
