"""From a graph to a model: passes, quantization, the file's image."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from .._arguments import GRANULARITIES, SCHEMES, choice
from ..errors import FileFormatError
from ..model import Model, op_names
from ..report import Report
from .image import write_image
from .ir import Graph, Value
from .passes import optimize
from .passes.finer import Finer
from .passes.quantize import Options, quantize_graph

__all__ = ["build"]


def build(
    graph: Graph,
    outputs: tuple[Value | Mapping[str, Value], ...],
    *,
    quantize: bool,
    keep_float: Iterable[str],
    attention: str,
    embedding: str,
    scheme: str,
    granularity: str,
    first_layer: str,
    int16: Iterable[str],
    group_size: int | Mapping[str, int] | None,
    ranges: Mapping[str, tuple[float, float]] | None,
    smooth: Any,
    smooth_alpha: float | None,
    twin: bool = False,
) -> Model:
    """Graph.build. ``twin``: the float model of the same numbers: smoothed, and not quantized."""
    choice("scheme", scheme, SCHEMES)
    choice("granularity", granularity, GRANULARITIES)
    if smooth_alpha is not None and not 0 <= smooth_alpha <= 1:
        raise ValueError(f"smooth_alpha is {smooth_alpha}; expected 0 to 1, or None")
    options = Options(
        quantize=bool(quantize),
        keep_float=_patterns(keep_float),
        attention=bool(choice("attention", attention, {"float": False, "int8": True})),
        embedding=bool(choice("embedding", embedding, {"float": False, "int8": True})),
        scheme=scheme,
        granularity=granularity,
        first_layer=bool(choice("first_layer", first_layer, {"float": False, "int8": True})),
        finer=Finer.of(int16, group_size, ranges, granularity),
        smooth=smooth if quantize else None,
        smooth_alpha=smooth_alpha,
        twin=twin,
    )
    copy = graph.copy()
    if outputs:
        copy.outputs = _outputs(graph, copy, outputs)
    copy.validate()
    optimize(copy)
    rows = quantize_graph(copy, options)
    copy.claim_names()
    known = op_names()
    if unknown := [f"node {node.name!r}: {node.op}" for node in copy.nodes if node.op not in known]:
        raise ValueError(f"dynq does not have the ops of {', '.join(unknown)}")
    notes = {
        "name": copy.name,
        "outputs": json.dumps([(name, value.dtype, value.shape) for name, value in copy.outputs]),
        "report": Report(tuple(rows)).to_json(),
    }
    try:
        return Model._from_image(write_image(copy, notes))
    except FileFormatError as error:  # of a node that the graph's author wrote: no file is damaged
        text = str(error).removeprefix("damaged plan, ")
        raise ValueError(re.sub(r"^node (\d+)", lambda m: f"node {copy.nodes[int(m[1])].name!r}", text)) from error


def _patterns(keep_float: Any) -> tuple[str, ...]:
    patterns = (keep_float,) if isinstance(keep_float, str) else tuple(keep_float)
    for pattern in patterns:
        if not isinstance(pattern, str):
            raise TypeError(f"keep_float has {pattern!r}; expected names of nodes or patterns")
    return patterns


def _outputs(graph: Graph, copy: Graph, outputs: tuple[Any, ...]) -> list[tuple[str, Value]]:
    named: dict[str, Any] = {}
    for output in outputs:
        pairs = output.items() if isinstance(output, Mapping) else [(getattr(output, "name", ""), output)]
        for name, value in pairs:
            if not isinstance(value, Value):
                raise TypeError(f"output {name!r} is of type {type(value).__name__}; expected a value of the graph")
            if name in named:
                raise ValueError(f"two outputs have the name {name!r}")
            named[name] = value
    values = {value.name: value for value in copy.inputs}
    values |= {value.name: value for node in copy.nodes for value in node.outputs if value is not None}
    result = []
    for name, value in named.items():
        if value._graph is not graph or (value.constant is None and value.name not in values):
            raise ValueError(f"output {name!r}: {value.name!r} is not a value of this graph")
        new = values.get(value.name) if value.constant is None else None
        result.append((name, new or Value(copy, value.name, value.dtype, value.shape, value.constant)))
    return result
