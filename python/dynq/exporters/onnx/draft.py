"""Build an ONNX graph.

Its edges get their names at the end. Its constants are made when the file is written, one at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from onnx import AttributeProto, GraphProto, NodeProto, TensorProto, ValueInfoProto, defs, helper

from ...conversion import Problems, Unsupported
from ...core.arguments import FLOAT32, Array
from ...core.names import TakenNames
from ...ir.given import ONNX_TYPES
from ...ir.graph import Graph
from ...ir.values import Node, Value
from .. import site
from ..site import array_of

__all__ = ["OWN_DOMAIN", "Constant", "Draft", "Edge", "Site"]

OPSET = 18  # the newest that nearly all runtimes read
_NEWER = 19  # the opset for what OPSET lacks
OWN_DOMAIN = "dynq"  # of the ops that ONNX Runtime runs with dynq's library


class Edge:
    """The value that an input, a constant or a node gives. ``name`` is a wish until the draft is finished."""

    __slots__ = ("fixed", "name")

    def __init__(self, name: str) -> None:
        self.name = name
        self.fixed = False  # whether it has the name of a value of the graph


class Constant:
    """An initializer whose array is made when it is needed."""

    def __init__(self, edge: Edge, dtype: str, shape: tuple[int, ...], make: Callable[[], Array]) -> None:
        self.edge = edge
        self.dtype = dtype
        self.shape = shape
        self.nbytes = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
        self._make = make

    def data(self) -> bytes:
        """Return the array's bytes, row-major and little-endian."""
        array = np.asarray(self._make())
        assert array.shape == self.shape and array.dtype == self.dtype
        return np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes()

    def proto(self) -> TensorProto:
        return TensorProto(name=self.edge.name, data_type=ONNX_TYPES[self.dtype], dims=self.shape)


class _Step:
    """A node of the draft."""

    def __init__(
        self, op: str, name: str, inputs: list[Edge | None], outputs: list[Edge | None], attributes: dict[str, Any],
        domain: str = "",
    ) -> None:  # fmt: skip
        self.op, self.name, self.inputs, self.outputs, self.attributes = op, name, inputs, outputs, attributes
        self.domain = domain  # "": ONNX's own

    def proto(self, opset: int) -> NodeProto:
        ins, outs = (["" if edge is None else edge.name for edge in edges] for edges in (self.inputs, self.outputs))
        node = helper.make_node(self.op, ins, outs, self.name, domain=self.domain)
        if self.domain:
            return node
        kinds = defs.get_schema(self.op, opset).attributes
        node.attribute.extend(_attribute(name, kinds[name].type, v) for name, v in self.attributes.items())
        return node


class Draft:
    """The ONNX graph that a graph becomes."""

    def __init__(self, graph: Graph, granularity: str | None, form: str) -> None:
        self.graph = graph
        self.granularity = granularity  # None: the one that each layer has
        self.form = form
        self.users = graph.users()
        self.problems = Problems()
        self.constants: dict[Any, Constant] = {}  # the key is what they are made from
        self.opset = OPSET
        self._edges: dict[Value, Edge] = {}
        self._steps: list[_Step] = []
        self._typed: dict[Edge, Value] = {}  # what ops give that ONNX's own inference does not know
        self._inputs: list[Edge] = []
        for value in graph.inputs:
            self._edges[value] = edge = Edge(value.name)
            edge.fixed = True
            self._inputs.append(edge)

    def edge(self, value: Value) -> Edge:
        """Return the edge that a value has become. A constant becomes an initializer when it is first read."""
        if value not in self._edges:
            array = array_of(value)
            if array is None:
                raise Unsupported("packed weights in a place that takes an array")
            shape = tuple(int(dim) for dim in value.shape or () if isinstance(dim, int))
            self._edges[value] = self.constant(value, value.name, value.dtype or "", shape, array)
        return self._edges[value]

    def constant(self, key: Any, name: str, dtype: str, shape: tuple[int, ...], make: Callable[[], Array]) -> Edge:
        """Return a constant. One of the same ``key`` is there only once."""
        if key not in self.constants:
            self.constants[key] = Constant(Edge(name), dtype, shape, make)
        return self.constants[key].edge

    def bind(self, value: Value, edge: Edge) -> None:
        """Record that ``edge`` gives ``value``."""
        if edge.fixed:
            edge = self.step("Identity", f"{value.name}/identity", [edge], [Edge("")])[0]  # type: ignore[assignment]
        edge.name, edge.fixed = value.name, True
        self._edges[value] = edge

    def step(
        self, op: str, name: str, inputs: Sequence[Edge | None], outputs: list[Edge | None], **attributes: Any
    ) -> list[Edge | None]:
        """Add a node, checked against the operator's own schema."""
        opset = _opset_of(op, attributes)
        if not defs.has(op):
            raise Unsupported(f"op {op}, which ONNX does not have")
        try:
            schema = defs.get_schema(op, opset)
        except defs.SchemaError:
            raise Unsupported(f"op {op}, which ONNX has after opset {opset}") from None
        if unknown := [key for key in attributes if key not in schema.attributes]:
            raise Unsupported(f"attribute {op}.{unknown[0]}, which ONNX does not have in opset {opset}")
        ins = list(inputs)
        while ins and ins[-1] is None:
            ins.pop()
        if len(ins) > schema.max_input:
            raise Unsupported(f"{op} of {len(ins)} inputs; in opset {opset} it has {schema.max_input} at most")
        self.opset = max(self.opset, opset)
        self._steps.append(_Step(op, name, ins, outputs, attributes))
        return outputs

    def own_step(
        self, op: str, name: str, inputs: Sequence[Edge], outputs: Sequence[Edge], types: Sequence[Value]
    ) -> None:
        """Add a node of dynq's own domain, whose outputs have the types and shapes of ``types``."""
        self._typed.update(zip(outputs, types, strict=True))
        self._steps.append(_Step(op, name, list(inputs), list(outputs), {}, OWN_DOMAIN))

    @property
    def has_own_ops(self) -> bool:
        """Tell whether a node is of dynq's own domain."""
        return any(step.domain == OWN_DOMAIN for step in self._steps)

    def give_up(self, node: Node) -> None:
        """Give up a node that cannot be written. Those behind it are still looked at."""
        for value in node.outputs:
            if value is not None:
                self._edges[value] = Edge(value.name)

    def finish(self) -> GraphProto:
        """Return the graph without its constants.

        Inputs and outputs keep their names. Then values get theirs, then all that is between.
        """
        outputs = self._outputs()
        taken = TakenNames(edge.name for edge in [*self._inputs, *outputs])
        seen = {*self._inputs, *outputs}
        edges = [edge for step in self._steps for edge in (*step.outputs, *step.inputs) if edge is not None]
        for edge in dict.fromkeys([*(e for e in edges if e.fixed), *edges]):
            if edge not in seen:
                edge.name = taken.take(edge.name or "value")
                seen.add(edge)
        read = {edge for step in self._steps for edge in step.inputs}
        self.constants = {key: c for key, c in self.constants.items() if c.edge in read}
        names = TakenNames()
        for step in self._steps:
            step.name = names.take(step.name)
        graph = GraphProto(name=self.graph.name)
        graph.node.extend(step.proto(self.opset) for step in self._steps)
        graph.input.extend(
            helper.make_tensor_value_info(edge.name, ONNX_TYPES[value.dtype or ""], value.shape)
            for edge, value in zip(self._inputs, self.graph.inputs, strict=True)
        )
        graph.output.extend(
            self._info(edge) if edge in self._typed else ValueInfoProto(name=edge.name) for edge in outputs
        )
        graph.value_info.extend(self._info(edge) for edge in self._typed if edge not in outputs)
        return graph

    def _info(self, edge: Edge) -> ValueInfoProto:
        value = self._typed[edge]
        return helper.make_tensor_value_info(edge.name, ONNX_TYPES[value.dtype or ""], value.shape)

    def _outputs(self) -> list[Edge]:
        """Return an edge for each output. Each comes from a node and belongs to no other output."""
        taken = TakenNames(edge.name for edge in self._inputs)
        computed = {edge for step in self._steps for edge in step.outputs}
        result: list[Edge] = []
        for name, value in self.graph.outputs:
            edge = self.edge(value)
            if edge in result or edge not in computed:
                edge = self.step("Identity", f"{name}/identity", [edge], [Edge("")])[0]  # type: ignore[assignment]
            final = taken.take(name if name not in taken else f"{name}.output")
            edge.name, edge.fixed = final, True
            result.append(edge)
        return result


class Site(site.Site[Edge]):
    """A node of the graph that becomes nodes of ONNX, with what these share."""

    def __init__(self, draft: Draft, node: Node) -> None:
        self.draft = draft
        self.node = node

    def input(self, name: str | int) -> Edge | None:
        value = self.node.input(name)
        return None if value is None else self.draft.edge(value)

    def ops(self, op: str, inputs: Sequence[Edge | None], outputs: int, **attributes: Any) -> list[Edge]:
        name = f"{self.node.name}/{op.lower()}"
        edges = [Edge(name if i == 0 else f"{name}.{i}") for i in range(outputs)]
        self.draft.step(op, name, inputs, list(edges), **attributes)
        return edges

    def array(self, array: Any, name: str = "constant") -> Edge:
        value = np.asarray(array)
        if not isinstance(array, (np.ndarray, np.generic)):
            value = value.astype(FLOAT32 if value.dtype.kind == "f" else np.int64)
        key = ("array", value.dtype.name, value.shape, value.tobytes())
        return self.draft.constant(key, f"{self.node.name}/{name}", value.dtype.name, value.shape, lambda: value)

    def gives(self, *edges: Edge) -> None:
        """Record the edges of the node's outputs."""
        for value, edge in zip(self.node.outputs, edges, strict=False):
            if value is not None:
                self.draft.bind(value, edge)


def _opset_of(op: str, attributes: dict[str, Any]) -> int:
    newer = (op == "Pad" and attributes.get("mode") == "wrap") or (
        op == "AveragePool" and any(step != 1 for step in attributes.get("dilations", []))
    )
    return _NEWER if newer else OPSET


def _attribute(name: str, kind: Any, value: Any) -> AttributeProto:
    """Return an attribute of the type that the operator's schema gives it."""
    kind = int(getattr(kind, "value", kind))
    if kind == AttributeProto.STRINGS:
        value = value.split(",")
    if kind in (AttributeProto.FLOAT, AttributeProto.FLOATS):
        value = [float(v) for v in value] if isinstance(value, list) else float(value)
    return helper.make_attribute(name, value, attr_type=kind)
