"""Measure what the errors of layers do to the outputs of a model.

Every layer runs by itself, quantized, on what the float model computes: that tells its error. The float model gets an
input for the error of each layer, which is added to the layer's output. A run of it with the errors of some layers
tells what these layers do to the outputs, with nothing quantized anew.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ..core.arguments import FLOAT32, Array
from ..ir.graph import Graph
from ..ir.values import Node, Value
from ..model import Model, open_image
from ..passes.dead_code import dead_code
from ..plan.write import write_image
from ..report import Row
from ..runs import Sample
from .hybrid import OWN, side_by_side
from .layers import Layer, find_layers, macs

__all__ = ["FLOAT", "INT8", "INT16", "Lower", "Probe", "as_model", "decides", "is_open"]

INT8, INT16, FLOAT = "int8", "int16", "float"
Lower = Callable[[Graph, str], list[Row]]  # makes the layers of a graph "int8", "int16" or "float", where they can be
# What may stand between the numbers that a model decides by and its outputs.
_BEHIND = frozenset(
    ["Softmax", "LogSoftmax", "ArgMax", "ArgMin", "TopK", "Cast", "Clip", "Squeeze", "Unsqueeze", "Reshape", "Identity"]
)
_SIGMOIDS = frozenset(("Sigmoid", "HardSigmoid"))
_DECIDED = 4.0  # before a sigmoid, numbers beyond count as this: errors of a decision that is clear do no harm
_Errors = list[list[Array | None]]  # of a layer, by sample and output


def as_model(graph: Graph) -> Model:
    """Return the model of a graph whose layers are float or int8 already."""
    return open_image(write_image(graph, {"name": graph.name}))


def is_open(row: Row) -> bool:
    """Return whether a layer of a graph that is int8 could be float instead."""
    return row.quantized and row.bytes_before > 0


class Probe:
    """A graph behind the passes, its int8 copy with the copy's rows, and what its float model computed in some runs."""

    def __init__(self, graph: Graph, quantized: Graph, rows: list[Row], runs: list[Sample], lower: Lower) -> None:
        self._graph, self._lower, self._known = graph, lower, runs
        layers = find_layers(quantized, tuple(rows), {})
        self.floats = sum(macs(layer, self._known[0]) for layer in layers if not layer.quantized)
        weights = {row.node: _weight(graph, row.node) for row in rows if is_open(row)}
        layers = [layer for layer in layers if weights.get(layer.name) is not None]
        self.rows = {layer.name: layer.row for layer in layers}
        self.macs = {layer.name: macs(layer, self._known[0]) for layer in layers}
        units: dict[object, list[str]] = {}
        for layer in layers:
            units.setdefault(weights[layer.name], []).append(layer.name)
        self.units = list(units.values())  # layers that share a weight
        self.own: dict[str, tuple[float, ...]] = {}  # the noise at each layer's output as int8, by sample
        self._errors = {INT8: self._alone(layers, INT8)}
        self._exact, self._inputs = self._with_error_inputs(layers)

    def widen(self) -> None:
        """Make the form "int16" known, too."""
        copy = self._graph.copy()
        layers = find_layers(copy, tuple(self._lower(copy, INT16)), {})
        self._errors[INT16] = self._alone([layer for layer in layers if layer.row.bits == 16], INT16)

    def has(self, name: str, form: str) -> bool:
        """Return whether a layer has a form."""
        return name in self._errors[form]

    @property
    def samples(self) -> int:
        return len(self._known)

    def use(self, samples: int) -> None:
        """Leave out the samples behind the first ones."""
        del self._known[samples:]

    def noise(self, forms: Mapping[str, str]) -> tuple[float, ...]:
        """Return the power of the errors at the worst output, as a share of the output's own, in each sample.

        Args:
            forms: the layers that are quantized, and how.
        """
        return tuple(self._worst(got, known) for got, known in zip(self._run(forms), self._known, strict=True))

    def _worst(self, got: Sample, known: Sample) -> float:
        shares = (_share(got[name] - known[name], known[name].clip(-most, most)) for name, most in self._ends.items())
        return max(shares, default=0.0)

    def _alone(self, layers: list[Layer], form: str) -> dict[str, _Errors]:
        """Return the errors of layers on what the float model computes."""
        result: dict[str, _Errors] = {layer.name: [] for layer in layers}
        if not layers:
            return result
        model = side_by_side(layers, self._known[0])
        powers: dict[str, list[float]] = {layer.name: [] for layer in layers}
        for known in self._known:
            got = model.run({value.name: known[value.name] for value in model.inputs})
            for layer in layers:
                errors: list[Array | None] = []
                for i, value in enumerate(layer.node.outputs):
                    exact = None if value is None else known[value.name]
                    errors.append(None if exact is None else got[OWN.format(layer.name, i)] - exact)
                    if exact is not None and errors[-1] is not None:
                        powers[layer.name].append(_share(errors[-1], exact))
                result[layer.name].append(errors)
        if form == INT8:
            self.own = {name: tuple(shares) for name, shares in powers.items()}
        return result

    def _with_error_inputs(self, layers: list[Layer]) -> tuple[Model, dict[str, list[str | None]]]:
        """Return the float model with an input for each output of each layer, and the inputs' names by layer."""
        copy, inputs = self._graph.copy(), {layer.name: [] for layer in layers}  # type: ignore[var-annotated]
        for node in [node for node in copy.nodes if node.name in inputs]:
            for at, output in enumerate(node.outputs):
                inputs[node.name].append(None if output is None else self._add_error(copy, node, at, output))
        ends = _ends(copy)
        self._ends = {value.name: most for value, most in ends.items()}
        copy.outputs = [(value.name, value) for value in ends]
        dead_code(copy)
        self._lower(copy, FLOAT)
        return as_model(copy), inputs

    def _add_error(self, graph: Graph, node: Node, at: int, output: Value) -> str:
        rank = self._known[0][output.name].ndim
        name = graph.unique_value(f"{output.name}.error")
        error = graph.input(name, [f"{name} {i}" for i in range(rank)])
        node.outputs[at] = Value(graph, graph.unique_value(f"{output.name}.exact"), "float32", output.shape, None, node)
        output.producer = Node("Add", graph.unique_node(f"{node.name}.error"), [node.outputs[at], error], [output], {})
        graph.insert_after(node, output.producer)
        return name

    def _run(self, forms: Mapping[str, str]) -> list[Sample]:
        given = {value.name: np.zeros((1,) * len(value.shape or ()), np.float32) for value in self._exact.inputs}
        result = []
        for i, known in enumerate(self._known):
            inputs = {name: known.get(name, zero) for name, zero in given.items()}
            for layer, form in forms.items():
                pairs = zip(self._inputs[layer], self._errors[form][layer][i], strict=True)
                inputs.update((name, error) for name, error in pairs if name is not None and error is not None)
            result.append(self._exact.run(inputs))
        return result


def decides(graph: Graph) -> bool:
    """Return whether a float output, or what outputs are made of, can be compared."""
    return bool(_ends(graph))


def _weight(graph: Graph, name: str) -> tuple[object, ...] | None:
    """Return what tells the float weights of a layer from those of others; None if they came as int8."""
    node = next(node for node in graph.nodes if node.name == name)
    arrays = [value.array for value in node.inputs if value is not None and value.array is not None]
    weights = [array for array in arrays if array.ndim > 1 and array.dtype == FLOAT32]
    return (weights[0].ctypes.data, weights[0].shape, weights[0].strides) if weights else None


def _ends(graph: Graph) -> dict[Value, float]:
    """Return the float outputs, and what is behind them, each with the size beyond which numbers are alike."""
    ends: dict[Value, float] = {}
    for _, value in graph.outputs:
        end, most = value, math.inf
        while (node := end.producer) is not None and node.op in _BEHIND | _SIGMOIDS and node.first is not None:
            most = _DECIDED if node.op in _SIGMOIDS else most
            end = node.first
        for found in (end, *[value] * math.isinf(most)):
            if found.dtype in (None, "float32") and found.constant is None:
                ends[found] = most
    return ends


def _share(error: Any, exact: Any) -> float:
    """Return the power of an error as a share of what it is an error of, at most 1."""
    noise, signal = (float(np.square(x.reshape(-1), dtype=np.float64).sum()) for x in (error, exact))
    if not np.isfinite(noise) or noise >= signal:
        return 1.0 if noise else 0.0
    return noise / signal
