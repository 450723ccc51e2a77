"""How tables and numbers of the benchmarks look."""

from __future__ import annotations

from rich import box
from rich.table import Table


def slim_table(title: str) -> Table:
    """Empty, without a frame, so that much fits into 80 columns."""
    return Table(
        title=title,
        title_justify="left",
        title_style="",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )


def number(value: float) -> str:
    """Three digits, as many of them before the point as there are."""
    return f"{value:.{2 if value < 10 else 1 if value < 100 else 0}f}"


def share(value: float | None, of: str) -> str:
    """``"97% peak"``; a dash where it is not known."""
    return "-" if value is None else f"{100 * value:.0f}% {of}"
