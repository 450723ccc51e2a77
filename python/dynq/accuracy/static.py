"""Dynamic beside static quantization: accuracy on data like the samples, and on data that differ from them."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from .._arguments import FLOAT32, Array
from ..model import Model
from .calibrate import calibrate
from .measure import Difference
from .samples import as_samples

__all__ = ["StaticComparison", "StaticRow", "compare_static"]

GAINS = (0.01, 0.1, 10.0, 100.0)
NOISES = (0.3, 1.0)

_Sample = dict[str, Array]


@dataclasses.dataclass(frozen=True)
class StaticRow:
    """How near the float32 outputs both models are, on one kind of data."""

    kind: str  # "samples", "gain", "noise" or "other"
    amount: float | str  # the gain, the noise's share of the input's root mean square, the other data's name
    dynamic_sqnr: float  # dB
    static_sqnr: float
    dynamic_cosine: float
    static_cosine: float

    @property
    def label(self) -> str:
        return {
            "samples": "like the samples",
            "gain": f"gain {self.amount}",
            "noise": f"noise of {self.amount} x the input",
            "other": str(self.amount),
        }[self.kind]


@dataclasses.dataclass(frozen=True)
class StaticComparison:
    """Print it with rich, or as text; ``plot`` draws it."""

    method: str
    samples: int  # that the ranges are of
    tested: int
    float_seconds: float  # medians, of one run
    dynamic_seconds: float
    static_seconds: float
    rows: tuple[StaticRow, ...]

    def to_json(self) -> str:
        """Numbers that are not finite as null."""
        facts = dataclasses.asdict(self)
        for row in facts["rows"]:
            row.update((k, None) for k, v in row.items() if isinstance(v, float) and not np.isfinite(v))
        return json.dumps(facts, indent=2)

    def plot(self, path: str) -> None:
        """A picture: error over gain and noise, and times. Needs ``pip install 'dynq[plot]'``."""
        from .static_plot import plot

        plot(self, path)

    def __rich_console__(self, console: Any, options: Any) -> Iterator[Any]:
        from rich.table import Table

        table = Table("inputs", "dynamic, dB", "static, dB", "dynamic, cosine", "static, cosine")
        table.title = f"SQNR and cosine to float32; ranges by {self.method} of {_runs(self.samples)}"
        for column in table.columns[1:]:
            column.justify = "right"
        for row in self.rows:
            table.add_row(
                row.label, f"{row.dynamic_sqnr:.1f}", f"{row.static_sqnr:.1f}",
                f"{row.dynamic_cosine:.5f}", f"{row.static_cosine:.5f}",
            )  # fmt: skip
        yield table
        times = (self.float_seconds, self.dynamic_seconds, self.static_seconds)
        yield "float32 {:.3f} ms, dynamic {:.3f} ms, static {:.3f} ms".format(*(1e3 * t for t in times)) + (
            f": static takes {self.static_seconds / max(self.dynamic_seconds, 1e-12):.2f} of dynamic's time"
        )

    def __str__(self) -> str:
        from rich.console import Console

        console = Console(width=120, force_terminal=False, no_color=True)
        with console.capture() as capture:
            console.print(self)
        return capture.get()


def compare_static(
    floating: Model,
    model: Model,
    samples: Any,
    method: str = "minmax",
    *,
    test: Any = None,
    gains: Sequence[float] = GAINS,
    noises: Sequence[float] = NOISES,
    others: Mapping[str, Any] | None = None,
    percentile: float = 99.99,
    repeat: int = 10,
    seed: int = 0,
) -> StaticComparison:
    """Calibrate ``model`` on samples, and compare it with itself where the data change.

    Args:
        floating: the same network with ``quantize=False``.
        model: quantized; see calibrate, which takes ``samples``, ``method`` and ``percentile``.
        test: inputs of runs that the models are compared on. None: the samples themselves.
        gains: factors of the float32 inputs.
        noises: normal noise that is added to them, as a share of their root mean square.
        others: more inputs, by a name for each set.
        repeat: timed runs of each model.
        seed: of the noise.

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
    sets: list[tuple[str, float | str, list[_Sample]]] = [("samples", "", tested)]
    if any(value.dtype == "float32" for value in model.inputs):
        rng = np.random.default_rng(seed)
        sets += [("gain", gain, [_scaled(sample, gain) for sample in tested]) for gain in gains]
        sets += [("noise", share, [_noisy(sample, share, rng) for sample in tested]) for share in noises]
    sets += [("other", name, as_samples(model, other)) for name, other in (others or {}).items()]
    rows = tuple(_row(kind, amount, runs, floating, model, static) for kind, amount, runs in sets)
    seconds = _times([floating, model, static], tested[0], repeat)
    return StaticComparison(method, len(given), len(tested), seconds[0], seconds[1], seconds[2], rows)


def _scaled(sample: _Sample, gain: float) -> _Sample:
    return {name: x * FLOAT32.type(gain) if x.dtype == FLOAT32 else x for name, x in sample.items()}


def _noisy(sample: _Sample, share: float, rng: np.random.Generator) -> _Sample:
    def noisy(x: Array) -> Array:
        rms = float(np.sqrt((x.astype(np.float64) ** 2).mean())) if x.size else 0.0
        return x + rng.standard_normal(x.shape, np.float32) * FLOAT32.type(share * rms)

    return {name: noisy(x) if x.dtype == FLOAT32 else x for name, x in sample.items()}


def _row(
    kind: str, amount: float | str, runs: list[_Sample], floating: Model, dynamic: Model, static: Model
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


def _times(models: list[Model], sample: _Sample, repeat: int) -> tuple[float, ...]:
    """Medians of seconds; the models take turns, so that what else the machine does meets all of them."""
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


def _runs(count: int) -> str:
    return f"{count} run{'s' * (count != 1)}"
