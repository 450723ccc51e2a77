"""Show an analysis as one self-contained page: tables, plots of text and SVG, no request to anywhere."""

from __future__ import annotations

import importlib.resources
import math
import re
from collections.abc import Iterable, Sequence
from html import escape

from .measure import OUTLIER, RANGES
from .results import AnalysisResult, LayerRow
from .table import POOR, cosine_text, decibels, duration, percent, summary, with_unit

__all__ = ["page"]

_LABELLED = 5  # points of the scatter plot that get a number
_WIDTH, _HEIGHT = 420, 300  # size of the scatter plot, in its own units
_LEFT, _RIGHT, _TOP, _BOTTOM = 40, 14, 12, 36
_RADIUS = 4  # of a point
_DIGIT = (4.5, 6.0)  # half the width and the height of a number beside it
_NEAREST = 11  # from a point to the middle of its number

_HEADS = (
    ("layer", "", ""),
    ("became", "", ""),
    ("output", "dB", "of the model's outputs where this layer alone is quantized"),
    ("own", "dB", "of the layer's output, on the float model's numbers"),
    ("in whole", "dB", "of the layer's output in the whole quantized model"),
    ("cosine", "", "of the layer's output to float, on the float model's numbers"),
    ("codes used", "%", "2^entropy of the codes of the layer's input, of 256: 100 % where each is as frequent"),
    ("outliers", "%", f"numbers beyond {OUTLIER} times the root mean square of their block"),
    ("weight error", "%", "of the int8 weights, relative to the float ones"),
    ("MACs", "%", "of all layers"),
    ("time", "%", "of all nodes"),
)


def page(analysis: AnalysisResult) -> str:
    """Return the page's text."""
    style, script = (
        importlib.resources.files(__package__).joinpath(name).read_text(encoding="utf-8")
        for name in ("page.css", "page.js")
    )
    quantized = [row for row in analysis.rows if row.quantized]
    parts = [
        f"<h1>What quantization does to {_name(analysis.model)}</h1>",
        f"<p>{escape(summary(analysis))}</p>",
        _tiles(analysis),
        _section("By layer", _RATIOS, _ratios(analysis.rows)),
        _section("Cost against error", _SCATTER, _scatter(quantized)),
        _section("How the codes are used", _CODES, _codes(quantized)),
        _section("Ranges", _RANGES, _ranges(quantized)),
        _section("All figures", _TABLE, _table(analysis)),
    ]
    body = "\n".join(parts)
    title = f"Analysis of {escape(analysis.model)}"
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<title>{title}</title>\n'
        f"<style>\n{style}</style>\n</head>\n<body>\n<main>\n{body}\n</main>\n<script>\n{script}</script>\n</body>\n</html>\n"
    )


_RATIOS = (
    "Signal-to-quantization-noise ratios in dB, in the order in which layers run: further right is better, and 20 dB "
    "is noise of a hundredth of the power. "
    '<span class="key output"></span> of the model\'s outputs where this layer alone is quantized, '
    "<span class=\"key own\"></span> of the layer's output on the float model's numbers, "
    '<span class="key whole"></span> of its output in the whole quantized model.'
)
_SCATTER = (
    "Each point is a quantized layer: its share of the time, and the ratio of the outputs where it alone is quantized. "
    "What lies low costs accuracy; what lies low and left is cheap to keep in float."
)
_CODES = (
    "Where the numbers that each layer quantizes lie between the smallest code and the largest. A few dark places and "
    "little else: most numbers share a few codes."
)
_RANGES = (
    "The widths of the ranges that are quantized: a row, or an output position of a convolution. A wide strip is where "
    "one fixed range for all would lose most."
)
_TABLE = "Worst first; a click on a head sorts by it. What stays float has no error of its own."


def _section(title: str, text: str, content: str) -> str:
    return f"<section>\n<h2>{title}</h2>\n<p>{text}</p>\n{content}\n</section>"


def _name(name: str) -> str:
    """Return a name that may be broken behind its dots and slashes."""
    return "<wbr>".join(escape(part) for part in re.findall(r"[^./_]*[./_]?", name) if part)


def _tiles(analysis: AnalysisResult) -> str:
    tiles = [
        (f"{_name(output.name)}", with_unit(output.sqnr_db), f"cosine {cosine_text(output.cosine)}")
        for output in analysis.outputs
    ]
    count = len(analysis.worst)
    worst = analysis.worst[0]
    tiles.append(("worst layer", with_unit(worst.output_sqnr_db), _name(worst.name)))
    tiles.append(("layers", f"{count} int8", f"{len(analysis.rows) - count} float"))
    ratio = analysis.float_seconds / max(analysis.seconds, 1e-12)
    times = f"{duration(analysis.seconds)}, float {duration(analysis.float_seconds)}"
    tiles.append(("time", f"{ratio:.1f} x", times))
    cells = (f'<div class="tile"><span>{a}</span><b>{b}</b><small>{c}</small></div>' for a, b, c in tiles)
    return f'<div class="tiles">{"".join(cells)}</div>'


def _finite(values: Iterable[float | None]) -> list[float]:
    return [value for value in values if value is not None and math.isfinite(value)]


def _ratios(rows: Sequence[LayerRow]) -> str:
    """Draw a line of dots for each layer, over one axis of dB."""
    kinds = ("output", "own", "whole")
    values = [(row.output_sqnr_db, row.sqnr_db, row.accumulated_sqnr_db) for row in rows]
    known = _finite(value for triple in values for value in triple)
    low, high = _tens(known)
    ticks = range(low, high + 1, 10 if high - low <= 70 else 20)

    def place(value: float) -> str:
        return f"{100 * (min(max(value, low), high) - low) / (high - low):.2f}%"

    grid = "".join(f'<i style="left:{place(tick)}"></i>' for tick in ticks)
    lines = []
    for row, triple in zip(rows, values, strict=True):
        dots = "".join(
            f'<b class="{kind}" style="left:{place(value)}"></b>'
            for kind, value in reversed([*zip(kinds, triple, strict=True)])
            if value is not None and not math.isnan(value)
        )
        told = [f"{kind} {with_unit(value)}" for kind, value in zip(kinds, triple, strict=True) if value is not None]
        label = decibels(row.output_sqnr_db) if row.quantized else "float"
        poor = " poor" if row.output_sqnr_db is not None and row.output_sqnr_db < POOR else ""
        lines.append(
            f'<div class="line" title="{escape(row.name)}: {", ".join(told)}">'
            f'<span class="name">{_name(row.name)}</span><span class="track">{grid}{dots}</span>'
            f'<span class="value{poor}">{label}</span></div>'
        )
    labels = "".join(f'<i style="left:{place(tick)}">{tick}</i>' for tick in ticks)
    return f'<div class="chart">{"".join(lines)}{_axis(labels, "dB")}</div>'


def _axis(labels: str, unit: str) -> str:
    return (
        f'<div class="line axis"><span class="name"></span><span class="track">{labels}</span>'
        f'<span class="value">{unit}</span></div>'
    )


def _tens(values: Sequence[float], least: float = 0.0) -> tuple[int, int]:
    """Return the multiples of 10 around all values, and around ``least`` to 40."""
    low, high = min([*values, least]), max([*values, 40.0])
    return math.floor(low / 10) * 10, math.ceil(high / 10) * 10


def _scatter(rows: Sequence[LayerRow]) -> str:
    points = [(row, row.time_share, row.output_sqnr_db) for row in rows if row.output_sqnr_db is not None]
    if not points:
        return ""
    known = _finite(y for _, _, y in points)
    low, high = _tens(known, POOR)
    right = _nice(max(x for _, x, _ in points))

    def at(x: float, y: float) -> tuple[float, float]:
        y = min(max(y, low), high)
        return (
            _LEFT + (_WIDTH - _LEFT - _RIGHT) * x / right,
            _TOP + (_HEIGHT - _TOP - _BOTTOM) * (high - y) / (high - low),
        )

    out = [f'<svg class="scatter" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="Cost against error">']
    bottom = at(0, low)[1]
    for tick in range(low, high + 1, 10 if high - low <= 70 else 20):
        y = at(0, tick)[1]
        out.append(f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        out.append(f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{tick}</text>')
    for i in range(5):
        x = at(right * i / 4, low)[0]
        share = 100 * right * i / 4
        anchor = "end" if i == 4 else "middle"
        out.append(f'<text x="{x:.1f}" y="{bottom + 16:.1f}" text-anchor="{anchor}">{share:.3g} %</text>')
    out.append(f'<text x="{_WIDTH - _RIGHT}" y="{_HEIGHT - 4}" text-anchor="end">share of the time</text>')
    out.append(f'<text x="{_LEFT}" y="{_HEIGHT - 4}">outputs, dB up</text>')
    worst = sorted(points, key=lambda point: point[2])[:_LABELLED]
    for row, share, y in points:
        cx, cy = at(share, y)
        told = f"{escape(row.name)}: {with_unit(y)}, {percent(share, 1)} of the time"
        out.append(f'<circle cx="{cx:.1f}" cy="{cy:.1f}" r="{_RADIUS}"><title>{told}</title></circle>')
    taken: list[tuple[float, float, float, float]] = [(*at(share, y), _RADIUS, _RADIUS) for _, share, y in points]
    for number, (_, share, y) in enumerate(worst, 1):
        cx, cy = at(share, y)
        x, y, distance = _free_place(cx, cy, taken)
        taken.append((x, y, _DIGIT[0], _DIGIT[1]))
        if distance > _NEAREST:
            near = 1 - _DIGIT[1] / distance
            a, b = cx + near * (x - cx), cy + near * (y - cy)
            out.append(f'<line class="leader" x1="{cx:.1f}" y1="{cy:.1f}" x2="{a:.1f}" y2="{b:.1f}"/>')
        out.append(f'<text class="number" x="{x:.1f}" y="{y + 4:.1f}" text-anchor="middle">{number}</text>')
    out.append("</svg>")
    names = "".join(
        f"<li>{_name(row.name)}: {with_unit(y)}, {percent(share, 1)} of the time</li>" for row, share, y in worst
    )
    return f'<div class="beside">{"".join(out)}<ol>{names}</ol></div>'


def _free_place(x: float, y: float, taken: Sequence[tuple[float, float, float, float]]) -> tuple[float, float, float]:
    """Return the middle of a place for a digit beside a point, and its distance: the nearest that meets nothing.

    ``taken`` are middles with half the widths and heights. Places lie within the plot.
    """
    for ring in range(12):
        distance = _NEAREST + 7 * ring
        for turn in (0, 4, 6, 2, 7, 5, 1, 3):  # eighths: right, left, above, below, and between them
            a = x + distance * math.cos(turn * math.pi / 4)
            b = y + distance * math.sin(turn * math.pi / 4)
            inside = _LEFT + _DIGIT[0] < a < _WIDTH - _DIGIT[0] and _DIGIT[1] < b < _HEIGHT - _BOTTOM - _DIGIT[1]
            if inside and not any(
                abs(a - c) < _DIGIT[0] + width and abs(b - d) < _DIGIT[1] + height for c, d, width, height in taken
            ):
                return a, b, distance
    return x, y, 0.0


def _nice(value: float) -> float:
    """Return the least of 1, 2, 4, 8, 20, 40, ... hundredths that is not under ``value``; 1 at most."""
    for step in (0.004, 0.01, 0.02, 0.04, 0.08, 0.12, 0.2, 0.4, 0.6, 0.8):
        if value <= step:
            return step
    return 1.0


def _strips(rows: Sequence[tuple[LayerRow, Sequence[int], str]], ticks: Sequence[tuple[float, str]], unit: str) -> str:
    """Draw a histogram for each layer as a strip of cells, dark for high counts, with a word beside it."""
    lines = []
    for row, counts, word in rows:
        if not counts or not any(counts):
            continue
        most = max(counts)
        cells = "".join(
            f'<rect x="{i}" width="1" height="1" fill-opacity="{(count / most) ** 0.5:.3f}"/>'
            for i, count in enumerate(counts)
            if count
        )
        lines.append(
            f'<div class="line" title="{escape(row.name)}"><span class="name">{_name(row.name)}</span>'
            f'<svg class="strip" viewBox="0 0 {len(counts)} 1" preserveAspectRatio="none" aria-hidden="true">'
            f'{cells}</svg><span class="value">{word}</span></div>'
        )
    labels = "".join(f'<i style="left:{100 * place:.2f}%">{text}</i>' for place, text in ticks)
    return f'<div class="chart">{"".join(lines)}{_axis(labels, unit)}</div>'


def _codes(rows: Sequence[LayerRow]) -> str:
    ticks = [(code / 256, str(code)) for code in (0, 64, 128, 192)] + [(1.0, "255")]
    return _strips([(row, row.codes, percent(row.code_use, 0)) for row in rows], ticks, "used")


def _ranges(rows: Sequence[LayerRow]) -> str:
    """Draw strips over the powers of 2 that occur."""
    used = [i for row in rows for i, count in enumerate(row.ranges) if count]
    if not used:
        return ""
    first, last = min(used), max(used) + 1
    step = -(-(last - first) // 5)
    ticks = [
        ((i - first) / (last - first), f"<span>2<sup>{RANGES[0] + i}</sup></span>")
        for i in range(first, last + 1, step)
    ]
    return _strips([(row, row.ranges[first:last], "") for row in rows], ticks, "")


def _table(analysis: AnalysisResult) -> str:
    heads = "".join(
        f'<th scope="col" title="{escape(told)}"><button type="button">{head} <small>{unit}</small></button></th>'
        for head, unit, told in _HEADS
    )
    floats = [row for row in analysis.rows if not row.quantized]
    lines = "\n".join(_line(row) for row in (*analysis.worst, *floats))
    return (
        f'<div class="scroll"><table>\n<thead><tr>{heads}</tr></thead>\n<tbody>\n{lines}\n</tbody></table></div>\n'
        + "<dl>"
        + "".join(f"<dt>{head}</dt><dd>{escape(told)}</dd>" for head, _, told in _HEADS if told)
        + "</dl>"
    )


def _line(row: LayerRow) -> str:
    ratios = (row.output_sqnr_db, row.sqnr_db, row.accumulated_sqnr_db)
    shares = ((row.code_use, 0), (row.outliers, 2), (row.weight_error, 2), (row.mac_share, 1), (row.time_share, 1))
    cells = [f'<th scope="row">{_name(row.name)}</th>', f'<td class="text" title="{escape(row.why)}">{row.became}</td>']
    cells += [_cell(value, decibels(value), poor=True) for value in ratios]
    cells.append(_cell(row.cosine, cosine_text(row.cosine)))
    cells += [_cell(share, percent(share, digits).removesuffix(" %")) for share, digits in shares]
    kind = "int8" if row.quantized else "float"
    return f'<tr class="{kind}">{"".join(cells)}</tr>'


def _cell(value: float | None, text: str, poor: bool = False) -> str:
    """Return a cell of a table, which is sorted by ``data-v``."""
    if value is None:
        return "<td></td>"
    mark = ' class="poor"' if poor and value < POOR else ""
    number = "1e9" if value == math.inf else f"{value:.6g}"
    return f'<td{mark} data-v="{number}">{text}</td>'
