"""Analyze what quantization did to each layer of a model. docs/analysis.md explains how to read the result."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ..choice.hybrid import OWN, one_quantized, side_by_side
from ..choice.layers import Layer, find_layers, join_merged, macs, original_outputs, weight_error
from ..core import files
from ..errors import Error, NonFiniteError
from ..ir.graph import Graph
from ..ir.values import Node
from ..isa import selected
from ..model import Model, notes_of
from ..report import as_text
from ..runs import Sample, as_samples, random_sample
from ..threads import get_num_threads
from .measure import Difference, Filling, blocks
from .page import page
from .results import AnalysisResult, LayerRow, OutputRow
from .source import Source
from .table import render

__all__ = ["Analysis", "analyze", "output_differences"]

_HARM_SAMPLES = 4  # samples on which each layer is quantized alone: a model for each is built and run


class Analysis(AnalysisResult):
    """The result of an analysis. Print it; ``rows`` has the facts, in the order in which layers run."""

    def to_html(self, path: str | os.PathLike[str]) -> None:
        """Write one self-contained page with tables and plots."""
        try:
            files.write_text(path, page(self))
        except OSError as error:
            raise Error(f"{os.fspath(path)} cannot be written: {error.strerror}") from error

    def __rich_console__(self, console: Any, options: Any) -> Iterator[Any]:
        yield from render(self, options.max_width)

    def __str__(self) -> str:
        return as_text(self, 140)


def analyze(
    source: Any,
    samples: Any = None,
    *,
    shapes_of_samples: Mapping[str, Sequence[int]] | None = None,
    repeat: int = 5,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
    **options: Any,
) -> Analysis:
    """Compare each layer of a quantized model with the float model's.

    Args:
        source: a path to an ONNX file, an onnx.ModelProto or a dynq.Graph. It may also be a function that takes
            ``quantize=`` and the options below and returns a Model. Or it is a pair of Models of the same network: the
            float one (``quantize=False``) and the quantized one.
        samples: inputs of a few runs, unlabelled: a dict of arrays by name, an array if the model has one input, or
            several of these. None: random ones, which show ranges and costs but not the errors of real inputs.
        shapes_of_samples: shapes of the inputs of random samples, by name.
        repeat: runs over which the median of each node's time is taken.
        seed: the seed of random samples.
        progress: a function that is called meanwhile, with how much is done and how much there is to do.
        options: those of Graph.build, and for ONNX the ``inputs`` and ``shapes`` of from_onnx. For a Graph that names
            no outputs, ``outputs`` gives them.

    Raises:
        ValueError: the samples do not fit the inputs or hold a NaN, or the model has no quantized layer.
        NonFiniteError: a layer computes a NaN or an infinity from a sample.
    """
    floating, model, name = _models(source, options)
    given = samples is not None
    runs = as_samples(model, samples) if given else [random_sample(model, shapes_of_samples, seed)]
    graph = floating.graph()
    nodes = {node.name: node for node in graph.nodes}
    layers = find_layers(model.graph(), model.report().rows, nodes)
    if not any(layer.quantized for layer in layers):
        raise ValueError(f"{name} has no quantized layer, so there is nothing to analyze; report() says what it has")
    tally = _Tally(floating, model, graph, layers)
    steps = len(runs) + len(layers)

    def told(done: int) -> None:
        if progress is not None:
            progress(done, steps)

    for i, run in enumerate(runs):
        try:
            tally.add(run)
        except (ValueError, NonFiniteError) as error:
            what = (
                f"sample {i}"
                if given
                else "random inputs of the shapes "
                + ", ".join(f"{key} {value.shape}" for key, value in run.items())
                + " do not go through the model, give samples"
            )
            raise type(error)(f"{what}: {error}") from error
        told(i + 1)
    times = {node.name: node.seconds for node in model.profile(runs[0], repeat)}
    rows = _rows(layers, tally, times, nodes, tally.harms(lambda done: told(len(runs) + done)))
    return Analysis(
        model=name,
        rows=tuple(rows),
        outputs=tuple(OutputRow(key, d.sqnr, d.cosine) for key, d in tally.outputs.items()),
        samples=len(runs),
        random=not given,
        isa=selected(),
        threads=get_num_threads(),
        seconds=sum(times.values()),
        float_seconds=sum(node.seconds for node in floating.profile(runs[0], repeat)),
    )


def _models(source: Any, options: dict[str, Any]) -> tuple[Model, Model, str]:
    """Return the float model, the quantized one, and what to call them."""
    if isinstance(source, tuple):
        if len(source) != 2 or not all(isinstance(model, Model) for model in source):
            kinds = ", ".join(type(item).__name__ for item in source)
            raise TypeError(f"source is a tuple of {kinds}; expected a float and a quantized dynq.Model")
        if options:
            raise TypeError(f"a pair of models takes no options; {', '.join(options)} came")
        floating, model = source
        inputs = [[(value.name, value.dtype) for value in each.inputs] for each in source]
        if inputs[0] != inputs[1]:
            raise ValueError(f"the float model has the inputs {inputs[0]}, the quantized one {inputs[1]}")
        _check_smoothing(model)
        return floating, model, notes_of(model).get("name", "model")
    known = Source(source, options)
    floating, model = known.floating(), known.quantized()
    if not known.is_smoothed_alike:
        _check_smoothing(model)
    return floating, model, known.name


def _check_smoothing(model: Model) -> None:
    """Refuse smoothing that went into the node before, since it changes the numbers between two layers."""
    folded = [row.node for row in model.report().rows if row.smoothed is not None and row.smoothed.node is not None]
    if folded:
        raise ValueError(
            f"the inputs of {', '.join(folded[:3])} are smoothed, so they are other numbers than in the float model; "
            "give the ONNX model or the Graph with smooth=, whose float model is smoothed too"
        )


class _Tally:
    """The sums over all samples."""

    def __init__(self, floating: Model, model: Model, graph: Graph, layers: list[Layer]) -> None:
        self._floating, self._model, self._graph, self._layers = floating, model, graph, layers
        self._nodes = {node.name: node for node in graph.nodes}
        self._known: list[Sample] = []  # what the float model computes in the first samples
        self._alone: Model | None = None
        self.macs: list[int] = []  # for the first sample
        self.own = [Difference() for _ in layers]
        self.accumulated = [Difference() for _ in layers]
        self.matched = [False] * len(layers)  # whether the float model has the layer's output
        self.filling = [Filling() for _ in layers]
        self.outputs = {value.name: Difference() for value in model.outputs}

    def add(self, sample: Sample) -> None:
        known = {**sample, **self._floating.tensors(sample)}
        got = {**sample, **self._model.tensors(sample)}
        join_merged(self._layers, self._nodes, known)
        if self._alone is None:
            self._alone = side_by_side(self._layers, known)
            self.macs = [macs(layer, got) for layer in self._layers]
        alone = self._alone.run({value.name: known[value.name] for value in self._alone.inputs})
        for i, layer in enumerate(self._layers):
            self._add_layer(i, layer, known, got, alone)
        expected = self._floating.run(sample)
        for name, array in self._model.run(sample).items():
            if name not in expected:
                raise ValueError(f"the float model has no output {name!r}; it has {', '.join(expected)}")
            self.outputs[name].add(array, expected[name])
        if len(self._known) < _HARM_SAMPLES:
            self._known.append(known)

    def harms(self, told: Callable[[int], None]) -> list[float | None]:
        """Return the signal-to-quantization-noise ratio of the model's outputs if only one layer is quantized, for each
        layer. ``told`` is called with how many are done.
        """
        expected = [{name: known[value.name] for name, value in self._graph.outputs} for known in self._known]
        result = []
        for layer in self._layers:
            result.append(self._harm(layer, expected) if layer.quantized else None)
            told(len(result))
        return result

    def _harm(self, layer: Layer, expected: list[Sample]) -> float | None:
        if layer.name not in self._nodes:
            return None
        outputs = original_outputs(layer, self._nodes)
        model = one_quantized(self._graph, layer, outputs, self._known[0])
        if model is None:
            return math.inf
        differences = {value.name: Difference() for value in model.outputs}
        for known, wanted in zip(self._known, expected, strict=True):
            for name, array in model.run({value.name: known[value.name] for value in model.inputs}).items():
                differences[name].add(array, wanted[name])
        return min(difference.sqnr for difference in differences.values())

    def _add_layer(self, i: int, layer: Layer, known: Sample, got: Sample, alone: Sample) -> None:
        for at, value in enumerate(layer.node.outputs):
            if value is None or value.name not in known:
                continue
            self.matched[i] = True
            expected = layer.of(known[value.name])
            _check_finite(layer, "float", expected)
            whole = layer.of(got[value.name])
            _check_finite(layer, "quantized", whole)
            self.accumulated[i].add(whole, expected)
            if layer.quantized:
                self.own[i].add(layer.of(alone[OWN.format(layer.node.name, at)]), expected)
        first = layer.node.first
        reads_int8 = layer.quantized and layer.row.bits != 32
        if reads_int8 and first is not None and first.name in known:
            states = alone.get(OWN.format(layer.node.name, 0))
            x = blocks(layer, known[first.name], states)
            if x is not None:
                attributes = layer.node.attributes
                fixed = (attributes["lo"], attributes["hi"]) if "lo" in attributes else None
                self.filling[i].add(x, attributes.get("scheme") == "symmetric", fixed)  # type: ignore[arg-type]


def _check_finite(layer: Layer, model: str, array: Any) -> None:
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise NonFiniteError(f"layer {layer.name!r} of the {model} model computes a NaN or an infinity")


def _rows(
    layers: list[Layer],
    tally: _Tally,
    times: Mapping[str, float],
    nodes: Mapping[str, Node],
    harms: list[float | None],
) -> Iterator[LayerRow]:
    all_macs, all_seconds = max(sum(tally.macs), 1), max(sum(times.values()), 1e-12)
    of_node: dict[str, int] = {}
    for layer, count in zip(layers, tally.macs, strict=True):
        of_node[layer.node.name] = of_node.get(layer.node.name, 0) + count
    for i, layer in enumerate(layers):
        own, accumulated, filling = tally.own[i], tally.accumulated[i], tally.filling[i]
        seconds = times[layer.node.name]
        if layer.part is not None:  # only its share, if a node is several layers
            seconds *= tally.macs[i] / max(of_node[layer.node.name], 1)
        has_own = layer.quantized and tally.matched[i]
        yield LayerRow(
            name=layer.name,
            became=layer.row.became,
            why=layer.row.why,
            quantized=layer.quantized,
            sqnr_db=own.sqnr if has_own else None,
            cosine=own.cosine if has_own else None,
            output_sqnr_db=harms[i],
            accumulated_sqnr_db=accumulated.sqnr if tally.matched[i] else None,
            accumulated_cosine=accumulated.cosine if tally.matched[i] else None,
            code_use=filling.code_use,
            outliers=filling.outlier_share,
            weight_error=weight_error(layer, nodes.get(layer.name)) if layer.quantized else None,
            macs=tally.macs[i],
            mac_share=tally.macs[i] / all_macs,
            seconds=seconds,
            time_share=seconds / all_seconds,
            codes=tuple(int(n) for n in filling.codes) if filling.blocks else (),
            ranges=tuple(int(n) for n in filling.ranges) if filling.blocks else (),
        )


def output_differences(floating: Model, model: Model, samples: Sequence[Sample]) -> dict[str, Difference]:
    """Return the difference of each output of the whole model."""
    result = {value.name: Difference() for value in model.outputs}
    for sample in samples:
        expected = floating.run(sample)
        for name, array in model.run(sample).items():
            result[name].add(array, expected[name])
    return result
