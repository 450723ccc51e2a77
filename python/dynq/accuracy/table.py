"""Show an analysis as tables in the terminal, as wide as it is."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any

from rich import box
from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

from .results import FLOAT_MODEL, AnalysisResult, CulpritsResult, LayerRow, StaticResult

__all__ = [
    "POOR",
    "cosine_text",
    "decibels",
    "duration",
    "percent",
    "render",
    "render_culprits",
    "render_static",
    "summary",
    "with_unit",
]

_WIDE = 110  # columns that are enough for the whole table
_LEAST_ROOM = 12  # the fewest columns for a name
_SHOWN = 3  # names that are shown of a model that was tried
POOR, _FAIR = 20.0, 30.0  # dB under which a ratio is red, yellow


def render(analysis: AnalysisResult, width: int) -> Iterator[Any]:
    """Yield tables: quantized layers, the worst first; what stays float; the outputs."""
    wide = width >= _WIDE
    columns = ["layer", *(["became"] if wide else []), "out-\nput", "own", "in\nwhole"]
    columns += [*(["cosine"] if wide else []), "codes\nused", "out-\nliers", "weight\nerror", "MACs", "time"]
    floats = [row for row in analysis.rows if not row.quantized]
    cells = [_cells(row, wide) for row in (*analysis.worst, *floats)]
    widths = [max(map(cell_len, column.split("\n"))) for column in columns]
    taken = [max([widths[i], *(cell_len(str(row[i])) for row in cells)]) for i in range(1, len(columns))]
    room = max(width - sum(taken) - len(taken), _LEAST_ROOM)
    title = f"Layers of {analysis.model}: signal-to-quantization-noise ratios, dB; the worst first"
    table = Table(*columns, title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=0, show_edge=False)
    table.columns[0].overflow = "fold"  # do not cut names
    for column in table.columns[2 if wide else 1 :]:
        column.justify = "right"
    for column in table.columns[1:]:
        column.no_wrap = True
    for i, (name, *rest) in enumerate(cells):
        if i == len(analysis.worst):
            table.add_section()
        table.add_row(_folded(str(name), room), *rest, style="dim" if i >= len(analysis.worst) else None)
    yield table
    yield ""
    outputs = Table("output", "SQNR, dB", "cosine", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
    for column in outputs.columns[1:]:
        column.justify = "right"
    for output in analysis.outputs:
        outputs.add_row(Text(output.name), decibels(output.sqnr_db), cosine_text(output.cosine))
    yield outputs
    yield ""
    yield summary(analysis)


def summary(analysis: AnalysisResult) -> str:
    """Return what was run, in a sentence or two."""
    count = f"{analysis.samples} sample{'s' if analysis.samples != 1 else ''}"
    threads = f"{analysis.threads} thread{'s' if analysis.threads != 1 else ''}"
    text = (
        f"{'1 random sample' if analysis.random else count}, {analysis.isa}, {threads}: "
        f"{duration(analysis.seconds)}, all in float {duration(analysis.float_seconds)}."
    )
    if analysis.random:
        text += " Random inputs show ranges and costs; how accurate the model is, real samples tell."
    return text


def _cells(row: LayerRow, wide: bool) -> list[str | Text]:
    out, own = (decibels(row.output_sqnr_db), decibels(row.sqnr_db)) if row.quantized else ("", "float")
    cells: list[str | Text] = [row.name, *([row.became] if wide else []), _coloured(out, row.output_sqnr_db)]
    cells.append(_coloured(own, row.sqnr_db))
    cells.append(_coloured(decibels(row.accumulated_sqnr_db), row.accumulated_sqnr_db))
    cells += [cosine_text(row.cosine)] if wide else []
    cells += [percent(row.code_use, 0), percent(row.outliers, 2), percent(row.weight_error, 2)]
    return [*cells, percent(row.mac_share, 1), percent(row.time_share, 1)]


def _folded(name: str, room: int) -> Text:
    """Return a name in lines. It is broken behind its dots and slashes, if that is enough."""
    lines = [""]
    for part in re.findall(r"[^./]*[./]?", name):
        if lines[-1] and len(lines[-1]) + len(part) > room:
            lines.append("")
        lines[-1] += part
    return Text("\n".join(lines))


def _coloured(text: str, value: float | None) -> str | Text:
    if value is None or not math.isfinite(value) or value >= _FAIR:
        return text
    return Text(text, "red" if value < POOR else "yellow")


def decibels(value: float | None) -> str:
    if value is None:
        return ""
    return "exact" if value == math.inf else f"{value:.1f}"


def with_unit(value: float | None) -> str:
    return f"{decibels(value)} dB" if value is not None and math.isfinite(value) else decibels(value)


def cosine_text(value: float | None) -> str:
    return "" if value is None else f"{value:.5f}"


def duration(seconds: float) -> str:
    return f"{seconds * 1e6:.1f} µs" if seconds < 1e-3 else f"{seconds * 1e3:.2f} ms"


def percent(share: float | None, digits: int) -> str:
    return "" if share is None else f"{100 * share:.{digits}f} %"


def render_culprits(culprits: CulpritsResult) -> Iterator[Any]:
    """Yield the layers that were found, and every model that was tried."""
    trials = Table("tried", "layers in float", "with 16 bits", "score", title=culprits.metric, title_justify="left")
    for at in (1, 2):
        trials.columns[at].overflow = "fold"
    trials.columns[3].justify = "right"
    for i, trial in enumerate(culprits.trials):
        names = [
            "all" if trial.what == FLOAT_MODEL else _few(trial.keep_float),
            _few(trial.int16),
        ]
        style = "bold" if trial.score >= culprits.target and names[0] != "all" else None
        trials.add_row(str(i + 1), *names, f"{trial.score:.4g}", style=style)
    yield trials
    scores = f"{culprits.base_score:.4g} quantized, {culprits.score:.4g} now, {culprits.float_score:.4g} in float"
    if not culprits.keep_float and not culprits.int16:
        yield f"The target of {culprits.target:.4g} is reached as it is: {scores}."
        return
    for option, names in (("keep_float", culprits.keep_float), ("int16", culprits.int16)):
        if names:
            yield f"{option}={names}"
    reached = "reached" if culprits.reached else "not reached within the evaluations that were allowed"
    yield f"The target of {culprits.target:.4g} is {reached}: {scores}. {culprits.cost:.1%} of the work and weights."


def _few(names: tuple[str, ...]) -> str:
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")


def render_static(result: StaticResult) -> Iterator[Any]:
    """Yield the errors on each kind of data, and the times."""
    table = Table("inputs", "dynamic, dB", "static, dB", "dynamic, cosine", "static, cosine")
    runs = f"{result.samples} run{'s' * (result.samples != 1)}"
    table.title = f"SQNR and cosine to float32; ranges by {result.method} of {runs}"
    for column in table.columns[1:]:
        column.justify = "right"
    for row in result.rows:
        table.add_row(
            row.label, f"{row.dynamic_sqnr:.1f}", f"{row.static_sqnr:.1f}",
            f"{row.dynamic_cosine:.5f}", f"{row.static_cosine:.5f}",
        )  # fmt: skip
    yield table
    times = (result.float_seconds, result.dynamic_seconds, result.static_seconds)
    yield "float32 {:.3f} ms, dynamic {:.3f} ms, static {:.3f} ms".format(*(1e3 * t for t in times)) + (
        f": static takes {result.static_seconds / max(result.dynamic_seconds, 1e-12):.2f} of dynamic's time"
    )
