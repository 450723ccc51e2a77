"""Choose for each layer between int8, 16-bit inputs and float, by what its error does to the outputs of the model.

The search splits the layers in halves, and again those halves whose errors matter, down to the layers that matter.
"""

from __future__ import annotations

import dataclasses
import heapq
import itertools
import math
import warnings
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from ..errors import Error, NonFiniteError
from ..ir.graph import Graph
from ..model import Model
from ..report import Choice
from ..runs import Sample, as_samples
from .probe import FLOAT, INT8, INT16, Lower, Probe, as_model, decides, is_open
from .synthetic import sizes_to_try, synthetic

__all__ = ["choose"]

TARGET = 30.0  # dB at the outputs at which all is well
TOO_LITTLE = 6.0  # if one layer alone brings the outputs to less, it gets another form whatever that costs
MORE_TIME, MORE_BYTES = 0.15, 0.05  # what other forms may cost in all, ...
FREE_BYTES = 2**18  # ... or so many bytes, if that is more
FLOAT_TIME, INT16_TIME = 4.0, 2.0  # the time of a product beside that of int8
_SEEN = 0.05  # dB: a layer that costs less is not looked at by itself
_LEAST = 0.3  # dB: a form that promises less is not taken
_WORK = 2**34  # products that the search may take, about, counted as the time of int8
_TRIALS = 16, 48  # the least and the most runs of all samples
_GROUPS = 8  # the parts that the layers are divided into at first
_FEWEST = 2  # samples are left out, down to so many, if their runs take long
_LARGEST = 2**30  # float bytes; a larger model is not measured
_BYTES = 2**30  # that a run may take

_Noise = tuple[float, ...]  # of each sample


@dataclasses.dataclass(frozen=True)
class _Form:
    """A form that layers of one weight can have instead of int8."""

    unit: int
    form: str
    left: _Noise  # at the outputs, as the only quantized ones
    time: float  # more, as a share of the model's
    bytes: int  # more

    @property
    def cost(self) -> float:
        return self.time + 1e-3


def choose(graph: Graph, lower: Lower, given: Any = None) -> dict[str, Choice]:
    """Return the layers that matter most, or all if few matter, each with its form.

    Args:
        graph: a graph behind the passes; it stays as it is.
        lower: makes the layers of a graph int8, int16 or float.
        given: samples; without them, inputs are made up.

    Raises:
        ValueError, TypeError: the samples do not fit the model.

    If made-up inputs do not go through the parts, a warning says so, and no form is chosen.
    """
    if sum(value.array.nbytes for value in graph.constants() if value.array is not None) > _LARGEST:
        return {}
    if not decides(graph):
        return {}
    quantized = graph.copy()
    rows = lower(quantized, INT8)
    if not any(is_open(row) for row in rows):
        return {}
    copy = graph.copy()
    lower(copy, FLOAT)
    floating = as_model(copy)
    runs = list(_runs(floating, as_samples(floating, given))) if given is not None else _made_up(floating)
    if not runs:
        return {}
    try:
        probe = Probe(graph, quantized, rows, runs, lower)
        return _Search(probe).choices() if probe.rows else {}
    except (Error, ValueError, MemoryError) as error:
        if given is not None or isinstance(error, NonFiniteError):  # of a weight: the conversion refuses it, too
            raise
        warnings.warn(f"the layers were not measured, and all are int8: {error}", stacklevel=2)
        return {}


def _made_up(floating: Model) -> list[Sample]:
    """Return what made-up inputs of the first size that goes through become; nothing if no size does."""
    floating.max_bytes = _BYTES
    for size in sizes_to_try(floating):
        try:
            if found := list(_runs(floating, synthetic(floating, size))):
                return found
        except (Error, ValueError, MemoryError):
            continue
    return []


def _runs(floating: Model, samples: Iterable[Sample]) -> Iterator[Sample]:
    """Yield the tensors of runs, with their inputs, if the outputs are finite and not empty."""
    names = [value.name for _, value in floating.graph().outputs]
    for sample in samples:
        tensors = {**sample, **floating.tensors(sample)}
        outputs = [tensors[name] for name in names if name in tensors]
        if all(y.size and (y.dtype != np.float32 or np.isfinite(y).all()) for y in outputs):
            yield tensors


class _Search:
    """The noise of groups of layers, and of single ones, and the forms that were taken.

    A unit is the layers of one weight, as most weights have but one layer.
    """

    def __init__(self, probe: Probe) -> None:
        work = max(int(FLOAT_TIME) * (sum(probe.macs.values()) + probe.floats), 1)  # the runs are in float
        probe.use(max(min(_WORK // (work * _TRIALS[0]), probe.samples), _FEWEST))
        self._left = max(min(_WORK // (work * probe.samples), _TRIALS[1]), _TRIALS[0])
        self._probe = probe
        self._forms = dict.fromkeys(probe.rows, INT8)
        self._all_time = max(sum(probe.macs.values()) + FLOAT_TIME * probe.floats, 1)
        self._all_bytes = sum(row.bytes_after for row in probe.rows.values())

    def choices(self) -> dict[str, Choice]:
        total = self._noise(self._forms)
        singles: dict[int, _Noise] = {}
        forms: list[_Form] = []
        if decibels(total) < TARGET:
            singles = self._singles(total)
            self._probe.widen()
            forms = [form for unit, noise in singles.items() for form in self._forms_of(unit, noise)]
            self._take(total, singles, forms)
        return {
            name: self._choice(name, unit, singles, forms)
            for unit, names in enumerate(self._probe.units)
            for name in names
        }

    def _noise(self, forms: dict[str, str]) -> _Noise:
        self._left -= 1
        return self._probe.noise(forms)

    def _noise_of(self, units: list[int]) -> _Noise:
        return self._noise({name: INT8 for unit in units for name in self._probe.units[unit]})

    def _singles(self, total: _Noise) -> dict[int, _Noise]:
        """Return the units that cost the most, each with its noise at the outputs as the only quantized one."""
        groups: list[tuple[float, list[int], _Noise]] = []
        found: dict[int, _Noise] = {}

        def split(units: list[int], parts: int) -> None:
            bounds = [i * len(units) // parts for i in range(parts + 1)]
            for begin, end in itertools.pairwise(bounds):
                noise = self._noise_of(units[begin:end])
                heapq.heappush(groups, (-_gain(total, noise), units[begin:end], noise))

        count = len(self._probe.units)
        split(list(range(count)), min(count, _GROUPS))
        while groups and -groups[0][0] >= _SEEN:
            _, units, noise = heapq.heappop(groups)
            if len(units) == 1:
                found[units[0]] = noise
            elif self._left < 2:
                break
            else:
                split(units, 2)
        return found

    def _forms_of(self, unit: int, noise: _Noise) -> Iterator[_Form]:
        """Yield the forms that a unit can have instead of int8."""
        names = self._probe.units[unit]
        rows = [self._probe.rows[name] for name in names]
        share = sum(self._probe.macs[name] for name in names) / self._all_time
        more = rows[0].bytes_before - rows[0].bytes_after
        yield _Form(unit, FLOAT, (0.0,) * len(noise), (FLOAT_TIME - 1) * share, more)
        if all(self._probe.has(name, INT16) for name in names):
            left = self._noise(dict.fromkeys(names, INT16))
            yield _Form(unit, INT16, left, (INT16_TIME - 1) * share, 0)

    def _take(self, total: _Noise, singles: dict[int, _Noise], forms: list[_Form]) -> None:
        """Take forms, that with the most gain for its cost first, until the target is reached.

        The noise that is left is what the units add up to, since errors that hide each other here need not do so
        with other inputs.
        """
        bad = {unit for unit, alone in singles.items() if decibels(alone) < TOO_LITTLE}
        time, size = MORE_TIME, max(int(MORE_BYTES * self._all_bytes), FREE_BYTES)
        alone, taken = dict(singles), (0.0,) * len(total)

        def removed(form: _Form) -> _Noise:
            return tuple(a - b for a, b in zip(alone[form.unit], form.left, strict=True))

        def fits(form: _Form) -> bool:
            if form.unit in bad:
                return decibels(form.left) >= TOO_LITTLE
            enough = decibels(noise) >= TARGET or _gain(noise, removed(form)) < _LEAST
            return not enough and form.time <= time and form.bytes <= size

        while True:
            added = [sum(column) for column in zip(*alone.values(), strict=True)] or taken
            noise = tuple(max(a - b, c) for a, b, c in zip(total, taken, added, strict=True))
            fitting = [form for form in forms if fits(form)]
            if not fitting:
                break
            best = min(fitting, key=lambda form: (-_gain(noise, removed(form)) / form.cost, form.unit, form.form))
            for name in self._probe.units[best.unit]:
                self._forms[name] = best.form
            taken = tuple(a + b for a, b in zip(taken, removed(best), strict=True))
            alone[best.unit] = best.left
            forms = [form for form in forms if form.unit != best.unit]
            time, size = time - best.time, size - best.bytes

    def _choice(self, name: str, unit: int, singles: dict[int, _Noise], forms: list[_Form]) -> Choice:
        others = tuple(
            (form.form, _rounded(decibels(form.left)), round(form.time, 4), form.bytes)
            for form in forms
            if form.unit == unit
        )
        at_outputs = _rounded(decibels(singles[unit])) if unit in singles else None
        return Choice(self._forms[name], _rounded(decibels(self._probe.own[name])), at_outputs, others)


def decibels(noise: _Noise) -> float:
    """Return the mean of the samples' signal-to-noise ratios, each from 0 to 80 dB."""
    return math.fsum(-10 * math.log10(min(max(share, 1e-8), 1.0)) for share in noise) / len(noise)


def _gain(total: _Noise, part: _Noise) -> float:
    """Return what is gained if a part of the noise goes away, in dB."""
    rest = tuple(max(a - b, 1e-3 * a) for a, b in zip(total, part, strict=True))
    return _rounded(decibels(rest) - decibels(total))


def _rounded(ratio: float) -> float:
    """Return a ratio that is the same with every library of functions."""
    return round(ratio, 2) + 0.0
