"""Draw measurements (matplotlib, extra ``dynq[plot]``)."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Any

import dynq

from ..figure import save
from .program import Record

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

COLUMNS = 4


def plot_isa(machine: Record, results: list[Record], path: str) -> None:
    """Draw one small chart for each kernel.

    Over the levels of memory, it has a line for each instruction set and its bound.
    """
    kernels = {kernel: list(rows) for kernel, rows in groupby(results, key=lambda r: r["kernel"])}
    isas = sorted({r["isa"] for r in results}, key=dynq.isa.names().index)
    colors = {isa: f"C{i}" for i, isa in enumerate(isas)}
    columns = min(COLUMNS, len(kernels))
    rows_count = -(-len(kernels) // columns)
    figure = _figure(max(7.0, 3.6 * columns), 2.8 * rows_count + 1.4)
    axes = figure.subplots(rows_count, columns, squeeze=False)
    for ax in axes.flat[len(kernels) :]:
        ax.set_axis_off()
    for ax, (kernel, rows) in zip(axes.flat, kernels.items(), strict=False):
        _draw_kernel(ax, kernel, rows, colors)
    lines: list[Any] = [axes.flat[0].plot([], [], "o-", color=colors[isa], label=isa)[0] for isa in isas]
    lines.append(axes.flat[0].plot([], [], "--", color="0.4", label="bound: bandwidth, or peak of the GEMM")[0])
    figure.suptitle(f"Kernels of dynq {machine['dynq']}, 1 thread: {machine['cpu']}, {machine['ghz']:.2f} GHz")
    figure.legend(handles=lines, loc="outside lower center", ncols=min(len(lines), 4), frameon=False)
    save(figure, path)


def _draw_kernel(ax: Axes, kernel: str, rows: list[Record], colors: dict[str, str]) -> None:
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
    _plain_numbers(ax.yaxis)
    ax.grid(True, axis="y", color="0.9")


def plot_linear(machine: Record, results: list[Record], path: str) -> None:
    """Draw a roofline for each instruction set and number of threads.

    It shows, over the operations for each byte that a call touches, what was reached and what the limit of that shape
    is. The limit depends on the level of memory that its weights lie in.
    """
    charts = [(key, list(rows)) for key, rows in groupby(results, key=lambda r: (r["isa"], r["threads"]))]
    columns = min(2 if len(charts) in (2, 4) else 3, len(charts))
    rows_count = -(-len(charts) // columns)
    figure = _figure(max(6.5, 5.0 * columns), 3.8 * rows_count + 1.0)
    axes = figure.subplots(rows_count, columns, squeeze=False)
    for ax in axes.flat[len(charts) :]:
        ax.set_axis_off()
    for ax, ((isa, threads), rows) in zip(axes.flat, charts, strict=False):
        _draw_roofline(ax, rows)
        ax.set_title(f"{isa}, {threads} thread{'s' if threads > 1 else ''}")
    figure.suptitle(f"Linear layers of dynq {machine['dynq']}: {machine['cpu']}")
    handles, labels = axes.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(len(labels), 4), frameon=False)
    save(figure, path)


def _draw_roofline(ax: Axes, rows: list[Record]) -> None:
    at = [r["gops"] / r["gb_per_s"] for r in rows]
    known = [(x, r["gops"], r["gops"] / r["of_limit"]) for x, r in zip(at, rows, strict=True) if r["of_limit"]]
    edge = [min(at) / 1.5, max(at) * 1.5]
    for x, reached, limit in known:
        ax.plot([x, x], [reached, limit], color="0.8", linewidth=1, zorder=1)
    if rows[0]["peak_gops"] is not None:
        ax.axhline(rows[0]["peak_gops"], color="C3", linewidth=1, label="int8 peak, measured")
    for pick, style, name in ((max, "--", "highest"), (min, ":", "lowest")):
        bandwidth = pick(r["bandwidth_gb_per_s"] for r in rows)
        ax.plot(
            edge, [bandwidth * x for x in edge], style, color="C0", linewidth=1, label=f"{name} bandwidth of weights"
        )
    ax.plot(
        [k[0] for k in known], [k[2] for k in known], "o", color="0.6", fillstyle="none", label="limit of the shape"
    )
    ax.plot(at, [r["gops"] for r in rows], "o", color="C2", markersize=5, label="reached")
    ax.set_xscale("log")
    ax.set_yscale("log")
    top = max([r["gops"] for r in rows] + [k[2] for k in known])
    ax.set_ylim(min(r["gops"] for r in rows) / 2, 2 * top)
    ax.set_xlim(*edge)
    ax.set_xlabel("operations a byte")
    ax.set_ylabel("GOP/s")
    _plain_numbers(ax.xaxis)
    _plain_numbers(ax.yaxis)
    ax.grid(True, color="0.93")


def plot_peers(machine: Record, results: list[Record], path: str) -> None:
    """Draw bars of each peer over the shapes: how many times dynq's time it takes."""
    charts = [(threads, list(rows)) for threads, rows in groupby(results, key=lambda r: r["threads"])]
    names = [name for name in dict.fromkeys(r["peer"] for r in results) if name != "dynq"]
    layers = list(dict.fromkeys((r["m"], r["n"], r["k"]) for r in results))
    figure = _figure(min(max(7.0, 0.12 * len(layers) * (len(names) + 1) + 2.0), 16.0), 3.8 * len(charts) + 1.2)
    axes = figure.subplots(len(charts), 1, squeeze=False)
    for ax, (threads, rows) in zip(axes.flat, charts, strict=True):
        width = 0.85 / max(len(names), 1)
        for i, name in enumerate(names):
            own = {(r["m"], r["n"], r["k"]): r["x_dynq"] for r in rows if r["peer"] == name}
            places = [at + (i - (len(names) - 1) / 2) * width for at in range(len(layers))]
            ax.bar(places, [own[layer] for layer in layers], width, color=f"C{i}", label=name)
        ax.axhline(1, color="black", linewidth=1, label="dynq")
        ax.set_yscale("log")
        _plain_numbers(ax.yaxis)
        ax.set_xticks(range(len(layers)), ["x".join(map(str, layer)) for layer in layers], rotation=45, ha="right")
        ax.set_xlim(-0.6, len(layers) - 0.4)
        ax.set_ylabel("time / time of dynq")
        ax.set_title(f"{threads} thread{'s' if threads > 1 else ''}")
        ax.grid(True, axis="y", color="0.9")
        ax.set_axisbelow(True)
    figure.suptitle(f"Linear layers (M x N x K) beside dynq {machine['dynq']}, {machine['isa']}: {machine['cpu']}")
    handles, labels = axes.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(len(labels), 4), frameon=False)
    save(figure, path)


def _figure(width: float, height: float) -> Figure:
    """Return a figure of a size in inches."""
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    return Figure(figsize=(width, height), layout=ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.08), dpi=110)


def _plain_numbers(axis: Axis) -> None:
    """Label an axis with 1, 2, 5, 10, ... instead of powers."""
    from matplotlib.ticker import LogLocator

    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter("")
