"""Quantize a model statically, to compare dynamic quantization with it.

The ranges of activations are fixed and found in samples. Kernels and weights are the same.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, Literal

import numpy as np

from ..core.arguments import FLOAT32, Array, choice
from ..ir.graph import Graph
from ..ir.values import Node
from ..model import Model, notes_of, open_image
from ..plan.write import write_image
from ..quantization.finer import set_range
from ..report import Report
from ..runs import as_samples
from .histogram import Histogram

__all__ = ["METHODS", "Method", "calibrate"]

Method = Literal["minmax", "percentile", "entropy", "mse"]

_LAYERS = ("dynq.Linear", "dynq.Conv")


def calibrate(model: Model, samples: Any, method: Method = "minmax", *, percentile: float = 99.99) -> Model:
    """Return the same model with fixed activation ranges: static quantization.

    Each int8 linear layer and convolution gets one range for all that it will ever see. It replaces the range that the
    model computes for each row as it runs. The products of attention, the states of recurrent layers and layers with
    scales of groups stay as they are. A value outside of its range is clamped. So a model that meets other data than
    its samples loses accuracy, which ``dynq compare --static`` shows.

    Args:
        model: a quantized model. Its weights are not touched.
        samples: the inputs of some runs, like those that are to come: dicts of arrays by name, or arrays.
        method: how a range follows from the values that a layer's input has in all samples:

            - "minmax": the smallest and the largest.
            - "percentile": the range that holds ``percentile`` percent of them, with as many left out at either end.
            - "entropy": the range around 0 with the least Kullback-Leibler divergence of the quantized distribution
              from the one before (S. Migacz, 8-bit inference with TensorRT, 2017).
            - "mse": the range with the least squared error of clamping and rounding.
        percentile: over 50, up to 100.

    Raises:
        ValueError, TypeError: there are no samples, or one does not fit the inputs; the model has no int8 layers; an
            argument is out of its range.
    """
    find = choice("method", method, METHODS)
    if not isinstance(model, Model):
        raise TypeError(f"model is of type {type(model).__name__}; expected a dynq.Model")
    if not 50 < percentile <= 100:
        raise ValueError(f"percentile is {percentile}; expected over 50, up to 100")
    graph = model.graph()
    layers = [node for node in graph.nodes if node.op in _LAYERS and not node.attributes.get("group")]
    if not layers:
        raise ValueError("model has no int8 linear layer or convolution; nothing in it can have a fixed range")
    histograms = _observe(model, as_samples(model, samples), layers)
    ranges = {}
    for node in layers:
        steps = 65535 if node.attributes.get("bits") == 16 else 255
        symmetric = node.attributes.get("scheme") == "symmetric"
        ranges[node.name] = find(histograms[_input(node)], steps, symmetric, percentile)
        set_range(node, ranges[node.name])
    return _with_report(model, graph, ranges)


def _input(node: Node) -> str:
    return node.need("x").name


def _observe(model: Model, samples: list[dict[str, Array]], layers: list[Node]) -> dict[str, Histogram]:
    """Return the values that the inputs of layers have in all samples, by the names of their tensors."""
    histograms = {_input(node): Histogram() for node in layers}
    for i, sample in enumerate(samples):
        for name, tensor in model.tensors(sample, histograms).items():
            if not np.isfinite(tensor).all():
                raise ValueError(f"sample {i} makes tensor {name!r} hold a NaN or an infinity")
            histograms[name].add(tensor)
    if empty := [name for name, seen in histograms.items() if not seen.counts.sum() + seen.zeros]:
        raise ValueError(f"samples have no values in tensor {empty[0]!r}; expected inputs that are not empty")
    return histograms


def _with_report(model: Model, graph: Graph, ranges: dict[str, tuple[float, float]]) -> Model:
    """Return the model of ``graph``, which differs from ``model``'s only in ranges. Its report shows them."""
    rows = [
        dataclasses.replace(row, fixed_range=ranges[row.node]) if row.node in ranges else row
        for row in model.report().rows
    ]
    notes = {name: text for name, text in notes_of(model).items() if name not in ("dynq", "crc32")}
    return open_image(write_image(graph, {**notes, "report": Report(tuple(rows)).to_json()}))


# ---- Methods: (histogram, steps, symmetric, percentile) -> lo, hi ----


def _minmax(h: Histogram, steps: int, symmetric: bool, percentile: float) -> tuple[float, float]:
    return h.lo, h.hi


def _percentile(h: Histogram, steps: int, symmetric: bool, percentile: float) -> tuple[float, float]:
    left_out = (100 - percentile) / 200 * (h.counts.sum() + h.zeros)
    if left_out == 0:
        return h.lo, h.hi
    counts = h.counts.astype(np.float64)
    counts[len(counts) // 2] += h.zeros
    below, above = np.cumsum(counts), np.cumsum(counts[::-1])
    lo, hi = h.edges[np.searchsorted(below, left_out, "right")], -h.edges[np.searchsorted(above, left_out, "right")]
    return _inside(h, lo, hi)


def _mse(h: Histogram, steps: int, symmetric: bool, percentile: float) -> tuple[float, float]:
    """Find the range with the least squared error.

    Clamping costs the squared distance to the range, rounding a twelfth of the squared scale. A 0 costs nothing.
    """
    shares = np.geomspace(1 / 256, 1, 128)
    x, n = h.centers, h.counts.astype(np.float64)
    if symmetric:
        ends = np.maximum(-h.lo, h.hi) * shares
        clamped = np.array([(n * np.maximum(np.abs(x) - end, 0) ** 2).sum() for end in ends])
        end = float(ends[np.argmin(clamped + n.sum() * (ends / (steps // 2)) ** 2 / 12)])
        return _inside(h, -end, end)
    los, his = (shares * end if end else np.zeros(1) for end in (h.lo, h.hi))
    below = np.array([(n * np.maximum(lo - x, 0) ** 2).sum() for lo in los])
    above = np.array([(n * np.maximum(x - hi, 0) ** 2).sum() for hi in his])
    rounding = n.sum() * ((his[None] - los[:, None]) / steps) ** 2 / 12
    i, j = np.unravel_index(np.argmin(below[:, None] + above[None] + rounding), rounding.shape)
    return _inside(h, los[i], his[j])


def _entropy(h: Histogram, steps: int, symmetric: bool, percentile: float) -> tuple[float, float]:
    """Find the range with the least divergence. Zeros are left out, since they are exact in any range."""
    half, levels = len(h.counts) // 2, min(steps, 255)
    seen = np.flatnonzero(h.counts)
    if not seen.size:
        return h.lo, h.hi
    widest = int(max(half - seen[0], seen[-1] + 1 - half))
    best, found = np.inf, (h.lo, h.hi)
    for width in range(widest, levels // 2, -max(1, widest // 128)):
        begin, end = max(half - width, int(seen[0])), min(half + width, int(seen[-1]) + 1)
        begin, end = min(begin, half), max(end, half)
        if end - begin < 2:
            break
        divergence = _divergence(h.counts, begin, end, levels)
        if divergence < best:
            best, found = divergence, (float(h.edges[begin]), float(h.edges[end]))
    return _inside(h, *found)


def _divergence(counts: Array, begin: int, end: int, levels: int) -> float:
    """Return the divergence if bins [begin, end) get ``levels`` levels.

    It is taken from all bins. Those outside count in the first or the last bin inside.
    """
    inside = counts[begin:end].astype(np.float64)
    whole = inside.copy()
    whole[0] += counts[:begin].sum()
    whole[-1] += counts[end:].sum()
    level = np.arange(inside.size) * levels // inside.size
    sums = np.bincount(level, inside, levels)
    occupied = np.bincount(level, inside > 0, levels)
    spread = np.where(inside > 0, sums[level] / np.maximum(occupied[level], 1), 0.0)
    if spread.sum() == 0:
        return float(np.inf)
    p, q = whole / whole.sum(), np.maximum(spread / spread.sum(), 1e-12)
    some = p > 0
    return float((p[some] * np.log(p[some] / q[some])).sum())


def _inside(h: Histogram, lo: float, hi: float) -> tuple[float, float]:
    """Return a range that does not go beyond the values that were seen, as float32 and with 0 inside."""
    ends = float(FLOAT32.type(max(lo, h.lo))), float(FLOAT32.type(min(hi, h.hi)))
    return min(ends[0], 0.0), max(ends[1], 0.0)


METHODS: dict[Method, Callable[[Histogram, int, bool, float], tuple[float, float]]] = {
    "minmax": _minmax,
    "percentile": _percentile,
    "entropy": _entropy,
    "mse": _mse,
}
