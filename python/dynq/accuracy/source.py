"""The source of an analysis: it gives the float model, and quantized ones with any options."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..graph import Graph
from ..graph.build import build, named_outputs
from ..importers.onnx import to_graph
from ..model import Model
from ..quantization.options import BuildOptions
from ..weights import QuantizedWeight

__all__ = ["Source"]


class Source:
    """An ONNX model, a Graph, or a function that takes options of Graph.build and returns a Model."""

    def __init__(self, source: Any, options: dict[str, Any]) -> None:
        self.options = dict(options)
        self._graph: Graph | None = None
        self._function: Callable[..., Model] | None = None
        if isinstance(source, Graph):
            self._graph, self.name = source, source.name
        elif isinstance(source, Model):
            raise TypeError(
                "source is a Model, which does not know its float original; expected an ONNX model, a Graph, a "
                "function that builds a model, or a pair of a float and a quantized Model"
            )
        elif callable(source):
            self._function, self.name = source, getattr(source, "__name__", "model")
        else:
            self.name = Path(source).name if isinstance(source, (str, os.PathLike)) else "model"
            self._graph = to_graph(source, self.options.pop("inputs", None), self.options.pop("shapes", None))
        if self.options.get("quantize", True) is not True:
            raise ValueError("quantize is False; expected options that quantize: the float model is built beside it")

    def floating(self) -> Model:
        """Return the model with all in float32.

        Weights that came quantized are dequantized, so that only what dynq does makes a difference.
        """
        if self._function is not None:
            return self._checked(self._function(quantize=False))
        assert self._graph is not None
        outputs, graph = self._outputs(), self._graph
        if any(isinstance(value.constant, QuantizedWeight) for value in graph.constants()):
            outputs, graph = (), self._dequantized(outputs)
        if self.options.get("smooth") is None:
            return graph.build(*outputs, quantize=False)
        options = {name: value for name, value in self.options.items() if name != "outputs"}
        return build(graph, outputs, BuildOptions.of(options), twin=True)

    @property
    def is_smoothed_alike(self) -> bool:
        """Return whether the float model has the numbers of a quantized one that is smoothed."""
        return self._function is None

    def quantized(self, **more: Any) -> Model:
        """Return a model with the options of the analysis, and ``more``, whose names add to those of keep_float and
        int16.
        """
        options = {name: value for name, value in self.options.items() if name != "outputs"}
        for name, value in more.items():
            options[name] = [*_names(options.get(name, ())), *value]
        if self._function is not None:
            return self._checked(self._function(**options))
        assert self._graph is not None
        return self._graph.build(*self._outputs(), **options)

    def _outputs(self) -> tuple[Any, ...]:
        outputs = self.options.get("outputs", ())
        return tuple(outputs) if isinstance(outputs, (tuple, list)) else (outputs,)

    def _dequantized(self, outputs: tuple[Any, ...]) -> Graph:
        """Return a copy with float weights in linear layers.

        ``outputs`` are those that Graph.build takes; if there are none, the graph's own.
        """
        assert self._graph is not None
        copy = self._graph.copy()
        if outputs:
            copy.outputs = named_outputs(self._graph, copy, outputs)
        made: dict[Any, Any] = {}
        for node in copy.nodes:
            weight = node.need("weight") if node.op == "dynq.Linear" else None
            if weight is not None and isinstance(weight.constant, QuantizedWeight):
                if weight not in made:
                    made[weight] = copy.constant(
                        weight.constant.dequantize(), copy.unique_value(f"{weight.name}.float")
                    )
                node.set_input("weight", made[weight])
        return copy

    def _checked(self, model: Any) -> Model:
        if not isinstance(model, Model):
            raise TypeError(f"source returned a {type(model).__name__}; expected a dynq.Model")
        return model


def _names(given: Any) -> tuple[str, ...]:
    return (given,) if isinstance(given, str) else tuple(given)
