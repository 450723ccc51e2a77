"""Compare dynamic with static quantization: accuracy on data like the samples, and on data that differ from them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ..core.arguments import FLOAT32, Array
from ..model import Model
from ..report import as_text
from ..runs import Sample, as_samples
from .calibrate import Method, calibrate
from .measure import Difference
from .results import StaticResult, StaticRow
from .static_plot import draw
from .table import render_static

__all__ = ["StaticComparison", "compare_static"]

GAINS = (0.01, 0.1, 10.0, 100.0)
NOISES = (0.3, 1.0)


class StaticComparison(StaticResult):
    """The result of a comparison. Print it with rich, or as text; ``plot`` draws it."""

    def plot(self, path: str) -> None:
        """Draw errors over gain and noise, and times. Needs ``pip install 'dynq[plot]'``."""
        draw(self, path)

    def __rich_console__(self, console: Any, options: Any) -> Iterator[Any]:
        yield from render_static(self)

    def __str__(self) -> str:
        return as_text(self, 120)


def compare_static(
    floating: Model,
    model: Model,
    samples: Any,
    method: Method = "minmax",
    *,
    test: Any = None,
    gains: Sequence[float] = GAINS,
    noises: Sequence[float] = NOISES,
    others: Mapping[str, Any] | None = None,
    percentile: float = 99.99,
    repeat: int = 10,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> StaticComparison:
    """Calibrate ``model`` on samples, and compare it with itself on changed data.

    Args:
        floating: the same network with ``quantize=False``.
        model: quantized; see calibrate, which takes ``samples``, ``method`` and ``percentile``.
        test: inputs of runs that the models are compared on. None: the samples themselves.
        gains: factors of the float32 inputs.
        noises: normal noise that is added to them, as a share of their root mean square.
        others: more inputs, by a name for each set.
        repeat: timed runs of each model.
        seed: the seed of the noise.
        progress: a function that is called meanwhile, with how much is done and how much there is to do.

    Raises:
        ValueError, TypeError: as calibrate does; a set of inputs is empty; a gain, a noise or ``repeat`` is wrong.
    """
    for name, amounts in (("gains", gains), ("noises", noises)):
        for amount in amounts:
            if not (np.isfinite(amount) and (amount > 0)):
                raise ValueError(f"{name} has {amount}; expected numbers over 0")
    if repeat < 1:
        raise ValueError(f"repeat is {repeat}; expected at least 1")
    given = as_samples(model, samples)
    tested = given if test is None else as_samples(model, test)
    static = calibrate(model, given, method, percentile=percentile)
    sets: list[tuple[str, float | str, list[Sample]]] = [("samples", "", tested)]
    if any(value.dtype == "float32" for value in model.inputs):
        rng = np.random.default_rng(seed)
        sets += [("gain", gain, [_scaled(sample, gain) for sample in tested]) for gain in gains]
        sets += [("noise", share, [_noisy(sample, share, rng) for sample in tested]) for share in noises]
    sets += [("other", name, as_samples(model, other)) for name, other in (others or {}).items()]
    rows: list[StaticRow] = []
    for each in sets:
        rows.append(_row(*each, floating, model, static))
        if progress is not None:
            progress(len(rows), len(sets))
    seconds = _times([floating, model, static], tested[0], repeat)
    return StaticComparison(method, len(given), len(tested), seconds[0], seconds[1], seconds[2], tuple(rows))


def _scaled(sample: Sample, gain: float) -> Sample:
    return {name: x * FLOAT32.type(gain) if x.dtype == FLOAT32 else x for name, x in sample.items()}


def _noisy(sample: Sample, share: float, rng: np.random.Generator) -> Sample:
    def noisy(x: Array) -> Array:
        rms = float(np.sqrt((x.astype(np.float64) ** 2).mean())) if x.size else 0.0
        return x + rng.standard_normal(x.shape, np.float32) * FLOAT32.type(share * rms)

    return {name: noisy(x) if x.dtype == FLOAT32 else x for name, x in sample.items()}


def _row(
    kind: str, amount: float | str, runs: list[Sample], floating: Model, dynamic: Model, static: Model
) -> StaticRow:
    differences = Difference(), Difference()
    for sample in runs:
        expected = floating.run(sample)
        for model, difference in zip((dynamic, static), differences, strict=True):
            for name, got in model.run(sample).items():
                if got.dtype == FLOAT32:
                    difference.add(got, expected[name])
    a, b = differences
    return StaticRow(kind, amount, a.sqnr, b.sqnr, a.cosine, b.cosine)


def _times(models: list[Model], sample: Sample, repeat: int) -> tuple[float, ...]:
    """Return the medians of seconds. The models take turns, so that other work of the machine slows all of them
    alike.
    """
    runs: list[Callable[[], Any]] = [lambda model=model: model.run(sample) for model in models]  # type: ignore[misc]
    seconds = np.empty((repeat, len(runs)))
    for run in runs:
        run()
    for row in seconds:
        for i, run in enumerate(runs):
            start = time.perf_counter()
            run()
            row[i] = time.perf_counter() - start
    return tuple(float(median) for median in np.median(seconds, axis=0))
