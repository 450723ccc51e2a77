"""Find the layers that cost a model its accuracy: the few that restore it if they stay float or take 16-bit inputs.

The search is greedy, by gain per cost, and halves the model again and again. It splits the layers that are still
quantized in two halves, and keeps the half whose return to float gains more for its cost. It goes on until one layer is
left. It can be that neither half gains anything, since each has an error that hides the other's. Then the search keeps
the half that does more harm as the only quantized one.

With the layer that was found in float the search begins anew, until the target is reached. That takes about 2
log2(layers) evaluations of the metric for each culprit.

If such a layer gains little of what is missing, the error is spread over many layers. Then each is tried as the only
quantized one, and the fewest that are enough are taken, in the order of their harm per cost. At the end each layer is
tried once more as it was, and with 16 bits in place of float.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Literal

from ..choice.layers import Layer, find_layers, macs
from ..errors import Error
from ..model import Model
from ..passes.recurrent import PROJECTION
from ..report import as_text
from ..runs import Sample, as_samples, random_sample
from .analysis import output_differences
from .results import FLOAT_MODEL, CulpritsResult, Trial
from .source import Source
from .table import render_culprits

__all__ = ["Culprits", "MetricError", "find_culprits"]

LessQuantized = Literal["int16", "float"]
_SQNR_TARGET = 20.0  # dB: the noise has a hundredth of the outputs' power
_RESTORED = 0.9  # share to restore of what quantization cost a metric of the user's, if no other target is given
_SEEN = 0.01  # a gain under this share of what quantization cost counts as none
_SPREAD = 0.25  # if the best layer gains less than this share of what is missing, the error is spread over many
_LEAST_COST = 1e-3
_EXACT = 200.0  # dB that stand for an infinite ratio
_QUANTIZED = "the quantized model"


class MetricError(Error):
    """The metric raised an error, which is this one's cause, or did not return a finite number."""


class Culprits(CulpritsResult):
    """The result of a search. Print it. ``keep_float`` and ``int16`` fit from_onnx, from_torch and Graph.build as they
    are.
    """

    def __rich_console__(self, console: Any, options: Any) -> Iterator[Any]:
        yield from render_culprits(self)

    def __str__(self) -> str:
        return as_text(self, 120)


@dataclasses.dataclass(frozen=True)
class _Unit:
    """A layer that can stay float, and the cost of that."""

    name: str
    cost: float
    linear: bool  # can take 16-bit inputs


def find_culprits(
    source: Any,
    samples: Any = None,
    *,
    metric: Callable[[Model], float] | None = None,
    target: float | None = None,
    options: LessQuantized | Sequence[LessQuantized] = ("int16", "float"),
    max_evaluations: int = 100,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
    **build: Any,
) -> Culprits:
    """Find the layers that restore a metric if they are less than fully quantized.

    Args:
        source: as in analyze, but not a pair of models.
        samples: as in analyze; not needed if there is a metric.
        metric: a function of a model; higher is better: accuracy on labelled data, or minus an error rate. None: the
            lowest signal-to-quantization-noise ratio of the outputs, in dB, 200 at most.
        target: the score to reach. None: 20 dB, or with a metric of yours nine tenths of the way back to float's score.
        options: what a layer may become: "int16" (inputs of 16 bits, weights still int8) and "float". If both are
            given, a layer that was found takes 16 bits if the target is reached with them too.
        max_evaluations: how often the metric may be called. If that is used up, the best result so far is returned, and
            ``result.reached`` is False.
        progress: a function that is called meanwhile, with the evaluations so far and ``max_evaluations``.
        build: options of Graph.build. The search begins with their ``keep_float`` and ``int16``, and all else int8:
            ``default`` is "int8" if it is not given.

    Raises:
        MetricError: the metric raised an error, or did not return a finite number.
        ValueError: an argument is wrong, the model has no quantized layer, or float itself does not reach the target.
    """
    chosen = _options(options)
    if isinstance(source, tuple):
        raise TypeError("source is a tuple; expected what models with other options can be built from, as in analyze")
    if metric is not None and not callable(metric):
        raise TypeError(f"metric is of type {type(metric).__name__}; expected a function of a model")
    if max_evaluations < 4:
        raise ValueError(f"max_evaluations is {max_evaluations}; expected at least 4")
    if target is not None and not math.isfinite(target):
        raise ValueError(f"target is {target}; expected a finite number")
    known = Source(source, {"default": "int8", **build})
    floating, base = known.floating(), known.quantized()
    units = _units(floating, base, samples, seed, known.name)
    if metric is None:
        runs = as_samples(base, samples) if samples is not None else [random_sample(base, None, seed)]
        search = _Search(known, _sqnr(floating, runs), _noise, units, max_evaluations, chosen, progress)
        name = "SQNR of the outputs, dB"
    else:
        search = _Search(known, metric, _minus, units, max_evaluations, chosen, progress)
        name = getattr(metric, "__name__", type(metric).__name__)
    start = search.score_of(base, _QUANTIZED)
    best = search.score_of(floating, FLOAT_MODEL, tuple(unit.name for unit in units))
    if target is None:
        target = _SQNR_TARGET if metric is None else start + _RESTORED * (best - start)
    if best < target:
        raise ValueError(f"target is {target:g}; the float model itself reaches {best:g}, quantized it is {start:g}")
    search.run(start, best, float(target))
    return Culprits(
        keep_float=list(search.floats),
        int16=list(search.wide),
        score=search.score,
        target=float(target),
        base_score=start,
        float_score=best,
        metric=name,
        cost=_cost(units, {*search.floats, *search.wide}),
        trials=tuple(search.trials),
    )


def _options(options: LessQuantized | Sequence[LessQuantized]) -> tuple[str, ...]:
    result = (options,) if isinstance(options, str) else tuple(options)
    if not result or any(option not in ("int16", "float") for option in result):
        raise ValueError(f"options is {options!r}; expected 'int16', 'float' or both")
    return result


def _units(floating: Model, base: Model, samples: Any, seed: int, name: str) -> list[_Unit]:
    """Return the quantized layers, in the order in which they run, with their costs."""
    nodes = {node.name: node for node in floating.graph().nodes}
    layers = [layer for layer in find_layers(base.graph(), base.report().rows, nodes) if layer.quantized]
    if not layers:
        raise ValueError(f"{name} has no quantized layer, so none can cost its accuracy; report() says what it has")
    sample = as_samples(base, samples)[0] if samples is not None else random_sample(base, None, seed)
    tensors = {**sample, **base.tensors(sample)}
    work = {layer.name: macs(layer, tensors) for layer in layers}
    size = {layer.name: _weights(layer, nodes.get(layer.name)) for layer in layers}
    all_work, all_size = max(sum(work.values()), 1), max(sum(size.values()), 1)
    costs = {key: max((work[key] / all_work + size[key] / all_size) / 2, _LEAST_COST) for key in work}
    units = []
    for layer in layers:
        with_projection = costs[layer.name] + costs.get(
            f"{layer.name}{PROJECTION}", 0
        )  # the projection becomes float with its layer
        units.append(_Unit(layer.name, with_projection, layer.op == "dynq.Linear"))
    return units


def _cost(units: list[_Unit], names: set[str]) -> float:
    """Return the cost of layers. That of a recurrent layer has its projection's in it."""
    within = {f"{name}{PROJECTION}" for name in names}
    return min(sum(unit.cost for unit in units if unit.name in names - within), 1.0)


def _weights(layer: Layer, original: Any) -> int:
    """Return how many numbers are in the constants that the layer's float original reads."""
    if original is None:
        return 0
    return sum(int(value.array.size) for value in original.inputs if value is not None and value.array is not None)


def _sqnr(floating: Model, samples: list[Sample]) -> Callable[[Model], float]:
    def sqnr(model: Model) -> float:
        ratios = [difference.sqnr for difference in output_differences(floating, model, samples).values()]
        return max(min([*ratios, _EXACT]), -_EXACT)

    return sqnr


def _noise(decibels: float) -> float:
    """Return the power relative to the signal's. That of several layers adds up."""
    return float(10 ** (-decibels / 10))


def _minus(score: float) -> float:
    return -score


class _Search:
    """The state of a search: which layers are float and which have 16 bits so far, and all that was tried."""

    def __init__(
        self,
        source: Source,
        metric: Callable[[Model], float],
        loss: Callable[[float], float],
        units: list[_Unit],
        max_evaluations: int,
        options: tuple[str, ...],
        progress: Callable[[int, int], None] | None,
    ) -> None:
        self._source, self._metric, self._units, self._left = source, metric, units, max_evaluations
        self._most, self._progress = max_evaluations, progress
        self._loss, self._options = loss, options  # gains and harms are differences of losses
        self._scores: dict[tuple[frozenset[str], frozenset[str]], float] = {}
        self.floats: list[str] = []
        self.wide: list[str] = []
        self.score = -math.inf
        self.trials: list[Trial] = []

    def run(self, start: float, best: float, target: float) -> None:
        self._scores[frozenset(), frozenset()] = self.score = start
        self._best, self._target, self._seen = best, target, _SEEN * self._gain(start, best)
        try:
            while self.score < target and (rest := self._rest()):
                before = self.score
                self._take(self._descend(rest))
                if self._gain(before, self.score) < _SPREAD * self._gain(before, target) and self._left > len(rest):
                    self._take_many()
            self._drop_needless()
            self._widen()
        except _NoneLeft:
            pass

    def _gain(self, before: float, after: float) -> float:
        return self._loss(before) - self._loss(after)

    def score_of(self, model: Model, what: str, floats: tuple[str, ...] = (), wide: tuple[str, ...] = ()) -> float:
        """Return the metric of a model. This counts as an evaluation."""
        if self._left <= 0:
            raise _NoneLeft
        self._left -= 1
        if self._progress is not None:
            self._progress(self._most - self._left, self._most)
        try:
            value = self._metric(model)
        except Exception as error:
            raise MetricError(f"the metric raised {type(error).__name__} on {what}: {error}") from error
        try:
            score = float(value)
        except (TypeError, ValueError) as error:
            text = f"the metric returned a {type(value).__name__} for {what}; expected a number"
            raise MetricError(text) from error
        if not math.isfinite(score):
            raise MetricError(f"the metric returned {score} for {what}; expected a finite number")
        self.trials.append(Trial(floats, wide, score, what))
        return score

    def _try(self, floats: Iterable[str], wide: Iterable[str] = ()) -> float:
        floats, wide = tuple(dict.fromkeys(floats)), tuple(dict.fromkeys(wide))
        key = frozenset(floats), frozenset(wide)
        if key not in self._scores:
            if self._left <= 0:
                raise _NoneLeft
            more = {"keep_float": floats} | ({"int16": wide} if wide else {})
            parts = [f"{_some(names)} {how}" for names, how in ((floats, "float"), (wide, "16 bits")) if names]
            self._scores[key] = self.score_of(
                self._source.quantized(**more), f"the model with {', '.join(parts)}", floats, wide
            )
        return self._scores[key]

    def _rest(self) -> list[_Unit]:
        taken = {*self.floats, *self.wide}
        return [unit for unit in self._units if unit.name not in taken and ("float" in self._options or unit.linear)]

    def _with(self, group: Iterable[_Unit]) -> float:
        """Return the score if a group is less quantized than before: in float, if that is allowed."""
        names = [unit.name for unit in group]
        if "float" in self._options:
            return self._try([*self.floats, *names], self.wide)
        return self._try(self.floats, [*self.wide, *names])

    def _descend(self, group: list[_Unit]) -> _Unit:
        hidden = False
        while len(group) > 1:
            halves = group[: len(group) // 2], group[len(group) // 2 :]
            costs = [sum(unit.cost for unit in half) for half in halves]
            gains = [0.0, 0.0]
            if not hidden:
                scores = [self._with(half) for half in halves]
                if enough := [at for at in (0, 1) if scores[at] >= self._target]:
                    group = halves[min(enough, key=lambda at: costs[at])]
                    continue
                gains = [self._gain(self.score, score) for score in scores]
                hidden = "float" in self._options and max(gains) <= self._seen
            if hidden:
                harms = [self._harm(half) for half in halves]
                gains = harms if max(harms) > self._seen else gains
            group = halves[max((0, 1), key=lambda at: _per_cost(gains[at], costs[at]))]
        return group[0]

    def _harm(self, group: list[_Unit]) -> float:
        """Return the harm that a group does as the only quantized one.

        A projection is float if its cell is, so the two are one group.
        """
        names = {unit.name for unit in group}
        names |= {name.removesuffix(PROJECTION) for name in names}
        alone = self._with(unit for unit in self._rest() if unit.name not in names)
        return self._gain(alone, self._best)

    def _take_many(self) -> None:
        """Take the fewest layers that reach the target, in the order of their harm per cost."""
        order = sorted(self._rest(), key=lambda unit: _per_cost(self._harm([unit]), unit.cost), reverse=True)
        few, many = 0, len(order)  # the target is reached with ``many`` layers, and not with ``few``
        while many - few > 1:
            half = (few + many) // 2
            few, many = (few, half) if self._with(order[:half]) >= self._target else (half, many)
        self.score = self._with(order[:many])
        (self.floats if "float" in self._options else self.wide).extend(unit.name for unit in order[:many])

    def _take(self, unit: _Unit) -> None:
        self.score = self._with([unit])
        (self.floats if "float" in self._options else self.wide).append(unit.name)

    def _drop_needless(self) -> None:
        """Drop layers that were taken first, if they are not needed beside those that came later."""
        for name in [*self.floats, *self.wide][-2::-1]:
            floats, wide = ([other for other in names if other != name] for names in (self.floats, self.wide))
            self._keep_if_enough(floats, wide)

    def _widen(self) -> None:
        """Give layers 16 bits in place of float, which costs less, if that is enough."""
        linear = {unit.name for unit in self._units if unit.linear}
        for name in [name for name in self.floats if "int16" in self._options and name in linear]:
            self._keep_if_enough([other for other in self.floats if other != name], [*self.wide, name])

    def _keep_if_enough(self, floats: list[str], wide: list[str]) -> None:
        if self.score >= self._target and (score := self._try(floats, wide)) >= self._target:
            self.floats, self.wide, self.score = floats, wide, score


class _NoneLeft(Exception):
    """All evaluations are used up."""


def _per_cost(gain: float, cost: float) -> float:
    return gain / cost if gain > 0 else gain  # a layer that loses accuracy is not better for being costly


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:2]) + (f" and {len(names) - 2} more" if len(names) > 2 else "")
