"""Format the tables and numbers of the benchmarks."""

from __future__ import annotations

from rich import box
from rich.table import Table
from rich.text import Text


def slim_table(title: str, more: str = "") -> Table:
    """Return an empty table without a frame, so that much fits into 80 columns: its title is bold, ``more`` is not."""
    return Table(
        title=Text.assemble((title, "bold"), more),
        title_justify="left",
        title_style="",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )


def number(value: float) -> str:
    """Return a number as text: with two decimals below 10, one below 100, and none above."""
    return f"{value:.{2 if value < 10 else 1 if value < 100 else 0}f}"


def share(value: float | None, of: str) -> str:
    """Return ``"97% peak"``, for example; a dash if the share is not known."""
    return "-" if value is None else f"{100 * value:.0f}% {of}"
