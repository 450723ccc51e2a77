"""Make the tables of ``dynq bench isa``."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

from rich.table import Table

from ._tables import number, share, slim_table
from .program import Record

DESCRIPTIONS = {
    "range": "4 bytes read an element",
    "quantize": "4 bytes read, 1 written an element",
    "dequantize": "1 byte read, 4 written an element",
    "gemm_tile": "a full tile of the GEMM, K = 512; GB/s of weights",
    "gemv": "one row, K = 512; GB/s of weights",
}


def heading(machine: Record) -> str:
    caches = " · ".join(f"{name} {size(machine[name.lower()])}" for name in ("L1", "L2", "L3") if machine[name.lower()])
    return (
        f"{machine['cpu']}, {machine['ghz']:.2f} GHz, 1 thread\n"
        f"Caches ({machine['caches_from']}): {caches}. Medians of {machine['rounds']} rounds."
    )


def tables(results: list[Record]) -> Iterator[Table]:
    """Yield a table for each kernel."""
    for kernel, rows in groupby(results, key=lambda r: r["kernel"]):
        yield _table(str(kernel), list(rows))


def _table(kernel: str, rows: list[Record]) -> Table:
    of_gemm = rows[0]["unit"] == "MAC"
    description = DESCRIPTIONS.get(kernel, "4 bytes read, 4 written an element")
    table = slim_table(kernel, f": {description}")
    table.add_column("level", width=6)
    table.add_column("isa", width=12)
    for name in ("ns/kMAC", "MAC/cycle") if of_gemm else ("ns/1000", "per cycle"):
        table.add_column(name, justify="right", width=9)
    table.add_column("GB/s", justify="right", width=6)
    table.add_column("x scalar", justify="right", width=8)
    table.add_column("of bound", justify="right", width=11)
    for level, group in groupby(rows, key=lambda r: r["level"]):
        for i, row in enumerate(group):
            table.add_row(
                level if i == 0 else "",
                row["isa"],
                number(row["ns_per_1000"]),
                number(row["per_cycle"]),
                number(row["gb_per_s"]),
                number(row["x_scalar"]),
                share(row["of_bound"], "peak" if row["bound"] == "peak" else row["level"]),
            )
        table.add_section()
    return table


def size(count: int) -> str:
    """Return a number of bytes as people write it."""
    return f"{count >> 20} MiB" if count >= 1 << 20 and count % (1 << 20) == 0 else f"{count / 1024:.0f} KiB"
