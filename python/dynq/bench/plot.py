"""Pictures of what was measured (matplotlib, extra ``dynq[plot]``)."""

from __future__ import annotations

import os
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dynq

from .program import Record

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLUMNS = 4


def check(path: str) -> None:
    """Raises dynq.Error where no picture can be drawn into ``path``: ask before measuring for minutes."""
    try:
        from matplotlib.backend_bases import FigureCanvasBase
    except ImportError as error:
        raise dynq.Error("--plot needs matplotlib: pip install 'dynq[plot]'") from error
    known = FigureCanvasBase.get_supported_filetypes()
    if Path(path).suffix[1:].lower() not in known:
        raise dynq.Error(f"--plot is {path!r}; expected a name that ends in one of {' '.join(sorted(known))}")
    if not os.access(Path(path).absolute().parent, os.W_OK):
        raise dynq.Error(f"--plot is {path!r}, in a folder that is not there or cannot be written to")


def plot_isa(machine: Record, results: list[Record], path: str) -> None:
    """One small chart for each kernel: over the levels of memory, a line for each instruction set and its bound."""
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    kernels = {kernel: list(rows) for kernel, rows in groupby(results, key=lambda r: r["kernel"])}
    isas = sorted({r["isa"] for r in results}, key=dynq.isa.names().index)
    colors = {isa: f"C{i}" for i, isa in enumerate(isas)}
    columns = min(COLUMNS, len(kernels))
    rows_count = -(-len(kernels) // columns)
    layout = ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.08)  # inches
    figure = Figure(figsize=(max(7.0, 3.6 * columns), 2.8 * rows_count + 1.4), layout=layout, dpi=110)
    axes = figure.subplots(rows_count, columns, squeeze=False)
    for ax in axes.flat[len(kernels) :]:
        ax.set_axis_off()
    for ax, (kernel, rows) in zip(axes.flat, kernels.items(), strict=False):
        _draw_kernel(ax, kernel, rows, colors)
    lines: list[Any] = [axes.flat[0].plot([], [], "o-", color=colors[isa], label=isa)[0] for isa in isas]
    lines.append(axes.flat[0].plot([], [], "--", color="0.4", label="bound: bandwidth, or peak of the GEMM")[0])
    figure.suptitle(f"Kernels of dynq {machine['dynq']}, 1 thread: {machine['cpu']}, {machine['ghz']:.2f} GHz")
    figure.legend(handles=lines, loc="outside lower center", ncols=min(len(lines), 4), frameon=False)
    figure.savefig(path)


def _draw_kernel(ax: Axes, kernel: str, rows: list[Record], colors: dict[str, str]) -> None:
    from matplotlib.ticker import LogLocator

    levels = list(dict.fromkeys(r["level"] for r in rows))
    of_gemm = rows[0]["unit"] == "MAC"
    value = "per_cycle" if of_gemm else "gb_per_s"
    for isa in dict.fromkeys(r["isa"] for r in rows):
        own = [r for r in rows if r["isa"] == isa]
        at = [levels.index(r["level"]) for r in own]
        ax.plot(at, [r[value] for r in own], "o-", color=colors[isa], markersize=4)
        bound = [r[value] / r["of_bound"] if r["of_bound"] else float("nan") for r in own]
        ax.plot(at, bound, "--", color=colors[isa], linewidth=1, alpha=0.6)
    ax.set_title(kernel)
    ax.set_yscale("log")
    ax.set_ylabel("MAC/cycle" if of_gemm else "GB/s")
    ax.set_xticks(range(len(levels)), levels)
    ax.set_xlim(-0.3, len(levels) - 0.7)
    ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    ax.yaxis.set_major_formatter("{x:g}")
    ax.yaxis.set_minor_formatter("")
    ax.grid(True, axis="y", color="0.9")
