"""A graph as the build of a model leaves it, and the report on each node."""

from typing import Any

from dynq.graph import Graph, Value
from dynq.passes import optimize
from dynq.quantization.lower import quantize_graph
from dynq.quantization.options import Options
from dynq.report import Row


def quantized(g: Graph, *outputs: Value, **options: Any) -> tuple[Graph, dict[str, Row]]:
    after = g.copy()
    names = {value.name: value for node in after.nodes for value in node.outputs if value is not None}
    for value in outputs:
        after.output(names[value.name])
    optimize(after)
    rows = quantize_graph(after, Options(**options))
    after.validate()
    assert [row.node for row in rows] == [node.name for node in after.nodes]
    return after, {row.node: row for row in rows}
