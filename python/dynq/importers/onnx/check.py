"""Check what ONNX's schemas ask of each node, and that sizes fit into memory, before anything computes with them."""

from __future__ import annotations

from typing import Any

import onnx
from onnx import GraphProto, NodeProto

from ...conversion import InvalidModelError

__all__ = ["check_names", "check_nodes", "check_sizes"]

_LARGEST = 2**60  # elements


def check_sizes(graph: GraphProto, where: str) -> None:
    """Check the shapes that a graph and its branches declare."""
    for kind, values in (("input", graph.input), ("output", graph.output)):
        for value in values:
            if not value.type.HasField("tensor_type"):
                continue
            sizes = [dim.dim_value for dim in value.type.tensor_type.shape.dim if dim.HasField("dim_value")]
            _check_size(f"{where}{kind} {value.name!r}", [1 if size == -1 else size for size in sizes])  # -1: open
    for tensor in graph.initializer:
        _check_size(f"{where}initializer {tensor.name!r}", list(tensor.dims))
    for node in graph.node:
        for attribute in node.attribute:
            for inner in _graphs(attribute):
                check_sizes(inner, f"{where}{node.name or node.op_type}/")


def check_nodes(graph: GraphProto, opsets: dict[str, int]) -> None:
    """Check that each of ONNX's own nodes has the inputs and attributes that its op needs, in branches too."""
    _Checker(opsets).graph(graph)


def check_names(graph: GraphProto, where: str) -> None:
    """Check that all names of a graph are texts without a zero byte, which ends a name in C."""
    for value in (*graph.input, *graph.output):
        _check_names(where, "value", value.name)
        if value.type.HasField("tensor_type"):
            _check_names(where, "size", *(dim.dim_param for dim in value.type.tensor_type.shape.dim))
    _check_names(where, "initializer", *(tensor.name for tensor in graph.initializer))
    for node in graph.node:
        _check_names(where, "node", node.name, node.op_type, node.domain)
        _check_names(where, "value", *node.input, *node.output)
        for attribute in node.attribute:
            _check_names(where, "attribute", attribute.name)
            for inner in _graphs(attribute):
                check_names(inner, where)


def _check_names(where: str, kind: str, *names: Any) -> None:
    for name in names:
        if not isinstance(name, str) or "\0" in name:  # protobuf passes on bytes that are no UTF-8
            raise InvalidModelError(f"{where}: the name of a {kind} is {name!r}; expected UTF-8 without a zero byte")


def _check_size(what: str, sizes: list[int]) -> None:
    count = 1
    for i, size in enumerate(sizes):
        if size < 0:
            raise InvalidModelError(f"{what}: dimension {i} is {size}; expected 0 or more")
        count *= max(size, 1)
    if count >= _LARGEST:
        raise InvalidModelError(f"{what} has shape ({', '.join(map(str, sizes))}), too large for any memory")


def _graphs(attribute: Any) -> list[GraphProto]:
    return [attribute.g] if attribute.HasField("g") else list(attribute.graphs)


class _Checker:
    def __init__(self, opsets: dict[str, int]) -> None:
        self._opsets = opsets
        self._schemas: dict[tuple[str, str], Any] = {}

    def graph(self, graph: GraphProto) -> None:
        for index, node in enumerate(graph.node):
            schema = self._schema(node)
            if schema is not None:
                _check(node, f"node {node.name or f'{node.op_type}_{index}'!r} ({node.op_type})", schema)
            for attribute in node.attribute:
                for inner in _graphs(attribute):
                    self.graph(inner)

    def _schema(self, node: NodeProto) -> Any:
        domain = "" if node.domain == "ai.onnx" else str(node.domain)
        key = str(node.op_type), domain
        if key not in self._schemas:
            try:
                self._schemas[key] = onnx.defs.get_schema(key[0], self._opsets[domain], domain)
            except (onnx.defs.SchemaError, KeyError):
                self._schemas[key] = None  # an op that cannot be converted is reported elsewhere
        return self._schemas[key]


def _check(node: NodeProto, what: str, schema: Any) -> None:
    single = onnx.defs.OpSchema.FormalParameterOption.Single
    for kind, values, formals in (("input", node.input, schema.inputs), ("output", node.output, schema.outputs)):
        most = schema.max_input if kind == "input" else schema.max_output
        if len(values) > most:
            raise InvalidModelError(f"{what} has {len(values)} {kind}s; expected {most} at most")
        for i, formal in enumerate(formals):
            needed = kind == "input" and formal.option == single
            if needed and (i >= len(values) or not values[i]):
                raise InvalidModelError(f"{what} has no input {i}, {formal.name!r}")
    least = schema.min_input
    if len(node.input) < least:
        raise InvalidModelError(f"{what} has {len(node.input)} inputs; expected {least} at least")
    given = {attribute.name for attribute in node.attribute}
    for name, attribute in schema.attributes.items():
        if attribute.required and name not in given:
            raise InvalidModelError(f"{what} has no attribute {name!r}")
