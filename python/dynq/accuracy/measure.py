"""Sum over samples how far a layer's output is from float, and how its input fills the range that is quantized."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..choice.layers import Layer, number
from ..core.arguments import Array

__all__ = ["CODES", "OUTLIER", "RANGES", "Difference", "Filling", "blocks"]

OUTLIER = 8  # a number beyond this many times the root mean square of its block is an outlier
CODES = 32  # bins of the histogram of codes, 8 codes each
RANGES = range(-14, 18)  # bins of the histogram of ranges: powers of 2
_ROWS = 2048  # rows of an input that are looked at in one sample


class Difference:
    """A quantized output beside the float one, over all elements of all samples."""

    def __init__(self) -> None:
        self.signal = self.noise = self.product = self.power = 0.0

    def add(self, got: Array, expected: Array) -> None:
        a, b = (np.asarray(x, np.float64).reshape(-1) for x in (got, expected))
        self.signal += float(b @ b)
        self.noise += float((a - b) @ (a - b))
        self.product += float(a @ b)
        self.power += float(a @ a)

    @property
    def sqnr(self) -> float:
        """Return ``10 log10(sum y^2 / sum (y' - y)^2)`` in dB. It is infinite if nothing differs."""
        if self.noise == 0:
            return math.inf
        return 10 * math.log10(self.signal / self.noise) if self.signal else -math.inf

    @property
    def cosine(self) -> float:
        """Return ``sum y y' / sqrt(sum y^2 sum y'^2)``. For two zeros it is 1."""
        norms = math.sqrt(self.signal * self.power)
        return self.product / norms if norms else float(self.noise == 0)


class Filling:
    """The way that the blocks of a layer's input, each quantized with its own range, fill the codes."""

    def __init__(self) -> None:
        self.blocks = self.elements = self.outliers = 0
        self._codes: Any = np.zeros(256, np.int64)
        self.ranges: Any = np.zeros(len(RANGES), np.int64)

    def add(self, x: Array, symmetric: bool, fixed: tuple[float, float] | None = None) -> None:
        """Add ``x``: (blocks, elements) float32, finite. Blocks of zeros fill no range and do not count.

        ``fixed`` is the range of all blocks, if they do not have their own.
        """
        x = x[(x != 0).any(1)].astype(np.float64)
        if x.size == 0:
            return
        low, high = np.minimum(x.min(1), 0), np.maximum(x.max(1), 0)
        if symmetric:
            high = np.maximum(-low, high)
            low = -high
        if fixed is not None:
            low, high = (np.full(len(x), bound) for bound in fixed)
        width = high - low
        self.blocks += len(x)
        self.elements += x.size
        rms = np.sqrt(np.square(x).mean(1))
        self.outliers += int((np.abs(x) > OUTLIER * rms[:, None]).sum())
        place = (x - low[:, None]) / width[:, None]
        codes = np.rint(np.clip(place, 0, 1) * 255).astype(np.int64)
        self._codes += np.bincount(codes.reshape(-1), minlength=256)
        power = np.floor(np.log2(np.maximum(width, 2.0 ** RANGES[0]))).astype(np.int64)
        self.ranges += np.bincount(np.clip(power - RANGES[0], 0, len(RANGES) - 1), minlength=len(RANGES))

    @property
    def codes(self) -> Any:
        """Return a histogram of the codes in CODES bins."""
        return self._codes.reshape(CODES, -1).sum(1)

    @property
    def code_use(self) -> float | None:
        """Return ``2^H / 256``, where H is the entropy in bits of the codes of all blocks. It is 1 if all are equally
        frequent.
        """
        if self.elements == 0:
            return None
        shares = self._codes[self._codes > 0] / self.elements
        return float(2.0 ** -(shares * np.log2(shares)).sum() / 256)

    @property
    def outlier_share(self) -> float | None:
        """Return the share of numbers beyond OUTLIER times the root mean square of their block."""
        return self.outliers / self.elements if self.elements else None


def blocks(layer: Layer, x: Array, states: Array | None) -> Array | None:
    """Return what a layer quantizes while it runs, (blocks, elements). Of very many blocks, some are taken, evenly
    spaced.

    Args:
        x: the layer's first input.
        states: the states of all steps, if the layer is recurrent.
    """
    node = layer.node
    if node.op in ("dynq.LSTM", "dynq.GRU", "dynq.RNN"):
        return None if states is None else _some(states.reshape(-1, states.shape[-1]))
    if node.op in ("dynq.Embedding", "dynq.MatMulIntegerPacked") or x.dtype != np.float32 or x.ndim == 0:
        return None
    if node.op == "dynq.Conv":
        return _some(x.reshape(len(x), -1)) if node.attributes.get("granularity") == "image" else _patches(node, x)
    if node.op == "dynq.Attention":
        heads = number(node, "heads")
        queries = x if node.input("k") is not None else x[..., : x.shape[-1] // 3]
        return _some(queries.reshape(-1, queries.shape[-1] // (heads if queries.ndim == 3 else 1)))
    if node.attributes.get("granularity") == "tensor":
        return x.reshape(1, -1)
    group = node.attributes.get("group") if node.op == "dynq.Linear" else 0
    if isinstance(group, int) and group and x.shape[-1] % group == 0:
        return _some(x.reshape(-1, group))
    return _some(x.reshape(-1, x.shape[-1]))


def _some(rows: Array) -> Array:
    step = -(-len(rows) // _ROWS)
    return rows[:: max(step, 1)]


def _patches(node: Any, x: Array) -> Array:
    """Return the numbers of x that each output position of a convolution sees. Zeros outside are left out."""
    spatial = x.ndim - 2
    kernel = [int(size) for size in node.attributes["kernel_shape"]]
    strides, dilations = (
        [int(n) for n in node.attributes.get(name) or [1] * spatial] for name in ("strides", "dilations")
    )
    pads = [int(n) for n in node.attributes.get("pads") or [0] * 2 * spatial]
    padded = np.pad(x, [(0, 0), (0, 0), *zip(pads[:spatial], pads[spatial:], strict=True)])
    spans = [(size - 1) * step + 1 for size, step in zip(kernel, dilations, strict=True)]
    if any(size < span for size, span in zip(padded.shape[2:], spans, strict=True)):
        return np.empty((0, 1), x.dtype)
    axes = tuple(range(2, 2 + spatial))
    windows = np.lib.stride_tricks.sliding_window_view(padded, spans, axes)
    places = (slice(None), slice(None), *(slice(None, None, step) for step in strides))
    windows = windows[(*places, *(slice(None, None, step) for step in dilations))]
    windows = np.moveaxis(windows, 1, 1 + spatial)  # (n, positions..., channels, kernel...)
    counts = windows.shape[: 1 + spatial]
    total = int(np.prod(counts))
    at = np.unravel_index(np.arange(0, total, max(-(-total // _ROWS), 1)), counts)
    chosen = windows[at]
    return np.ascontiguousarray(chosen.reshape(len(chosen), -1))
