"""Turn a graph into a model: passes, quantization, the file's image."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Mapping
from functools import partial
from typing import Any

from ..choice.choose import choose
from ..errors import FileFormatError, NotConvertedWarning
from ..ir import ops
from ..ir.graph import Graph
from ..ir.values import Value
from ..model import Model, open_image
from ..passes import keep_caches, name_lengths, optimize
from ..plan.write import write_image
from ..quantization.lower import quantize_graph
from ..quantization.options import BuildOptions, Options
from ..report import Report
from .observe import observe

__all__ = ["WrongNode", "build", "named_outputs"]

_WORTH_A_WARNING = 2**20  # bytes of float weights from which on it matters what stays float


def build(
    graph: Graph,
    outputs: tuple[Value | Mapping[str, Value], ...],
    given: BuildOptions,
    *,
    twin: bool = False,
    notes: Mapping[str, str] | None = None,
) -> Model:
    """Build a model, as Graph.build does.

    Args:
        twin: return the float model with the same numbers: smoothed, but not quantized.
        notes: more texts for the header of the file, by name.
    """
    options = Options.of(given, twin)
    copy = graph.copy()
    if outputs:
        copy.outputs = named_outputs(graph, copy, outputs)
    copy.validate()
    if given.state is not None:
        name_lengths(copy, given.state)
    try:
        optimize(copy)
    except ValueError as error:
        raise WrongNode(str(error)) from error
    if given.state is not None:
        keep_caches(copy, given.state, options.max_positions)
    observing = None if given.smooth is None or not options.quantize else partial(observe, samples=given.smooth)
    choosing = partial(choose, given=given.samples) if options.measured and not twin else None
    rows = quantize_graph(copy, options, observing, choosing)
    copy.claim_names()
    known = ops.names()
    if unknown := [f"node {node.name!r}: {node.op}" for node in copy.all_nodes() if node.op not in known]:
        raise WrongNode(f"dynq does not have the ops of {', '.join(unknown)}")
    report = Report(tuple(rows))
    if not twin and report.bytes_before >= _WORTH_A_WARNING and (text := report.float_weights()):
        warnings.warn(text, NotConvertedWarning, stacklevel=4)
    all_notes = {
        **(notes or {}),
        "name": copy.name,
        "outputs": json.dumps([(name, value.dtype, value.shape) for name, value in copy.outputs]),
        "report": report.to_json(),
    }
    try:
        return open_image(write_image(copy, all_notes))
    except FileFormatError as error:  # a node that the graph's author wrote is wrong: no file is damaged
        text = str(error).removeprefix("damaged plan, ")
        raise WrongNode(re.sub(r"^node (\d+)", lambda m: f"node {copy.nodes[int(m[1])].name!r}", text)) from error


class WrongNode(ValueError):
    """An error in a node of the graph, not in an option."""


def named_outputs(graph: Graph, copy: Graph, outputs: tuple[Any, ...]) -> list[tuple[str, Value]]:
    """Return the outputs of ``copy`` that are those of ``graph``, given as Graph.build takes them."""
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
        if value.graph is not graph or (value.constant is None and value.name not in values):
            raise ValueError(f"output {name!r}: {value.name!r} is not a value of this graph")
        new = values.get(value.name) if value.constant is None else None
        result.append((name, new or Value(copy, value.name, value.dtype, value.shape, value.constant)))
    return result
