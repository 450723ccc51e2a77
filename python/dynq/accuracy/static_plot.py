"""Draw the picture of `dynq compare --static` (matplotlib, extra ``dynq[plot]``)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..figure import check, save
from .results import StaticResult, StaticRow

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["draw"]

_COLORS = {"float32": "0.6", "dynamic": "C0", "static": "C3"}
_LEAST = -5.0  # dB: nothing of the signal is left


def draw(result: StaticResult, path: str) -> None:
    """Draw errors over gain and noise, and times."""
    check(path)
    from matplotlib.figure import Figure

    like = [row for row in result.rows if row.kind == "samples"]
    parts = {kind: [row for row in result.rows if row.kind == kind] for kind in ("gain", "noise", "other")}
    shown = {kind: rows for kind, rows in parts.items() if rows} or {"other": []}
    figure = Figure(figsize=(3.6 * (len(shown) + 1), 3.9), layout="constrained", dpi=120)
    axes: Any = figure.subplots(1, len(shown) + 1, squeeze=False)[0]
    for ax, (kind, rows) in zip(axes, shown.items(), strict=False):
        _draw_error(ax, kind, like + rows)
    _draw_times(axes[-1], result)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.suptitle(f"Dynamic and static quantization; ranges by {result.method} of {result.samples} runs")
    figure.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False)
    save(figure, path)


def _draw_error(ax: Axes, kind: str, rows: list[StaticRow]) -> None:
    if kind == "other":
        at: list[float] = [float(i) for i in range(len(rows))]
        ax.set_xticks(at, [row.label for row in rows], rotation=20, ha="right")
        ax.set_xlim(-0.5, max(len(rows), 1) - 0.5)
        ax.set_title("Other inputs")
    else:
        unchanged = {"gain": 1.0, "noise": 0.0}[kind]
        rows = sorted(rows, key=lambda row: unchanged if row.kind == "samples" else float(row.amount))
        at = [unchanged if row.kind == "samples" else float(row.amount) for row in rows]
        if kind == "gain":
            ax.set_xscale("log")
        ax.axvline(unchanged, color="0.85", zorder=0)
        ax.set_title("Gain of the inputs" if kind == "gain" else "Noise added to the inputs")
        ax.set_xlabel("factor (1: the samples)" if kind == "gain" else "share of their root mean square")
    for name in ("dynamic", "static"):
        values = [max(_LEAST, min(getattr(row, f"{name}_sqnr"), 99.0)) for row in rows]
        ax.plot(at, values, "o-" if kind != "other" else "o", color=_COLORS[name], label=name)
    ax.set_ylabel("SQNR of the outputs, dB")
    low, high = ax.get_ylim()
    ax.set_ylim(min(0.0, low), high + 0.05 * (high - low))
    ax.grid(True, axis="y", color="0.9")


def _draw_times(ax: Axes, result: StaticResult) -> None:
    times = {
        "float32": result.float_seconds,
        "dynamic": result.dynamic_seconds,
        "static": result.static_seconds,
    }
    bars = ax.bar(list(times), [1e3 * t for t in times.values()], color=[_COLORS[name] for name in times], width=0.6)
    ax.bar_label(bars, [f"{1e3 * t:.3g}" for t in times.values()], padding=2)
    ax.set_title("Time of a run")
    ax.set_ylabel("ms")
    ax.set_ylim(top=1.12e3 * float(np.max(list(times.values()))))
