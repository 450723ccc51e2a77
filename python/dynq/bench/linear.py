"""Make the tables of ``dynq bench linear``."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

from rich.table import Table

from . import shapes
from ._tables import number, share, slim_table
from .program import Record

SHARES = ("range", "quantize", "gemm", "epilogue", "rest")
WIDE = 120  # columns of a terminal that are enough to name the layers


def heading(machine: Record) -> str:
    return (
        f"{machine['cpu']}, medians of {machine['rounds']} rounds\n"
        "Limit: the int8 peak, or the bandwidth (mem) of where the weights lie.\n"
        "Shares: range, quantize, GEMM, epilogue, rest (calls, waiting for threads)."
    )


def tables(results: list[Record], width: int) -> Iterator[Table]:
    """Yield a table for each instruction set and number of threads."""
    layers = shapes.load() if width >= WIDE else {}
    for (isa, threads), rows in groupby(results, key=lambda r: (r["isa"], r["threads"])):
        yield _table(isa, threads, list(rows), layers)


def _table(isa: str, threads: int, rows: list[Record], layers: dict[shapes.Shape, str]) -> Table:
    peak = rows[0]["peak_gops"]
    more = f": int8 peak {peak:,.0f} GOP/s" if peak is not None else ": no int8 instructions"
    table = slim_table(f"{isa}, {threads} thread{'s' if threads > 1 else ''}", more)
    table.add_column("M x N x K", justify="right", width=14)
    for name, width in (("time", 8), ("GOP/s", 5), ("GB/s", 5)):
        table.add_column(name, justify="right", width=width)
    table.add_column("of limit", justify="right", width=9)
    for name in ("ran", "qua", "gem", "epi", "rest"):
        table.add_column(name, justify="right", width=4)
    if layers:
        table.add_column("layer")
    for row in rows:
        shape = shapes.of(row)
        table.add_row(
            str(shape),
            duration(row["us"]),
            number(row["gops"]),
            number(row["gb_per_s"]),
            share(row["of_limit"], "peak" if row["limit"] == "peak" else "mem"),
            *(f"{100 * row['share_' + part]:.0f}%" for part in SHARES),
            *([layers.get(shape, "")] if layers else []),
        )
    return table


def duration(microseconds: float) -> str:
    """Return a duration with three digits and its unit."""
    if microseconds < 1e3:
        return f"{number(microseconds)} µs"
    return f"{number(microseconds / 1e3)} ms" if microseconds < 1e6 else f"{number(microseconds / 1e6)} s"
