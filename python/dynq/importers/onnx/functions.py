"""A model's own functions: their bodies are put where they are called."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import onnx
from onnx import AttributeProto, FunctionProto, GraphProto, ModelProto, NodeProto

from ...conversion import InvalidModelError
from .check import check_names

__all__ = ["inline_functions", "rename_values"]

_MOST_NODES = 100_000  # that calls may become: functions that call functions twice grow as powers of two
_DEEPEST = 64  # calls within calls
_Key = tuple[str, str, str]


def inline_functions(model: ModelProto, opsets: dict[str, int]) -> None:
    """Put the body of each function where it is called, and drop the functions.

    Nodes and values of a body get the name of the call before theirs: ``layer1/mm``. An attribute that a call leaves
    out has the function's default. ``opsets``, those of the model, get what only functions import.
    """
    nodes = _Inliner(model, opsets).nodes(model.graph.node, (), "")
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    del model.functions[:]
    there = {_domain(opset) for opset in model.opset_import}
    for domain, version in opsets.items():
        if domain not in there:
            model.opset_import.append(onnx.helper.make_opsetid(domain, version))


class _Inliner:
    def __init__(self, model: ModelProto, opsets: dict[str, int]) -> None:
        self.model = str(model.graph.name) or "the model"
        self.opsets = opsets
        self.functions: dict[_Key, FunctionProto] = {}
        for function in model.functions:
            key = _domain(function), str(function.name), _overload(function)
            if key in self.functions:
                raise InvalidModelError(f"{self.model}: two functions have the name {function.name!r}")
            _check(function, self.model)
            self.functions[key] = function
        self.taken = set(_names(model.graph))
        self.paths: dict[str, int] = {}  # of calls, and how many have had it
        self.nodes_made = 0
        self.counts: dict[_Key, int] = {}  # nodes that a call of each function becomes
        self.known: set[_Key] = set()  # functions whose opsets fit

    def nodes(self, nodes: Iterable[NodeProto], around: tuple[_Key, ...], path: str) -> list[NodeProto]:
        """Return nodes with the bodies of calls in their place.

        ``around``: the functions that these nodes are in the bodies of; ``path``: what their names begin with.
        """
        result = []
        for i, node in enumerate(nodes):
            name = path + (str(node.name) or f"{node.op_type}_{i}")
            key = _domain(node), str(node.op_type), _overload(node)
            if key in self.functions:
                result += self._call(node, key, around, name)
                continue
            copy = NodeProto()
            copy.CopyFrom(node)
            copy.name = name
            for graph in _graphs(copy):
                inner = self.nodes(graph.node, around, "")  # whoever reads a branch puts its node's name before
                del graph.node[:]
                graph.node.extend(inner)
            result.append(copy)
        return result

    def _count(self, key: _Key, depth: int) -> int:
        """Return how many nodes a call becomes, without those of calls in branches and of calls too deep."""
        if key not in self.counts and depth < _DEEPEST:
            function = self.functions[key]
            self.counts[key] = len(function.node)  # for one that calls itself, which is refused when it does
            called = ((_domain(node), str(node.op_type), _overload(node)) for node in function.node)
            self.counts[key] += sum(self._count(inner, depth + 1) for inner in called if inner in self.functions)
        return self.counts.get(key, 0)

    def _call(self, call: NodeProto, key: _Key, around: tuple[_Key, ...], name: str) -> list[NodeProto]:
        function = self.functions[key]
        if key in around:
            raise self._error(function, "it calls itself")
        if len(around) >= _DEEPEST:
            raise self._error(function, f"calls are nested more than {_DEEPEST} deep")
        if self.nodes_made + self._count(key, len(around)) > _MOST_NODES:
            raise self._error(function, f"its calls become more than {_MOST_NODES} nodes")
        self.nodes_made += len(function.node)
        for what, given, own in (
            ("inputs", call.input, function.input),
            ("outputs", call.output, function.output),
        ):
            if len(given) > len(own):
                raise self._error(function, f"node {name!r} gives it {len(given)} {what}; it has {len(own)}")
        if key not in self.known:
            self._check_opsets(function)
            self.known.add(key)
        number = self.paths.get(name, 0)
        self.paths[name] = number + 1
        path = f"{name}_{number}/" if number else f"{name}/"

        values = dict.fromkeys(function.input, "")
        values.update(zip(function.input, call.input, strict=False))
        copied = []  # pairs of the call's output and what it is the same as
        for own, given in zip(function.output, call.output, strict=False):
            if given and own in values:
                copied.append((own, given))
            elif given:
                values[own] = given
        attributes = {
            a.name: a for a in (*function.attribute_proto, *call.attribute)
        }  # the call's in place of defaults
        body = []
        for node in function.node:
            copy = NodeProto()
            copy.CopyFrom(node)
            self._rename(copy, values, path)
            _bind(copy, attributes)
            body.append(copy)
        for own, given in copied:
            body.append(onnx.helper.make_node("Identity", [values[own]], [given]))
        return self.nodes(body, (*around, key), path)

    def _rename(self, node: NodeProto, values: dict[str, str], path: str) -> None:
        """Give the values of a node of a body the names that they have outside it."""
        node.input[:] = [self._value(name, values, path) for name in node.input]
        node.output[:] = [self._value(name, values, path) for name in node.output]
        for graph in _graphs(node):
            del graph.value_info[:]
            for named in (*graph.input, *graph.output, *graph.initializer):
                named.name = self._value(named.name, values, path)
            for inner in graph.node:
                self._rename(inner, values, path)

    def _value(self, name: str, values: dict[str, str], path: str) -> str:
        if not name:
            return ""
        if name not in values:
            new = path + name
            while new in self.taken:
                new += "_"
            self.taken.add(new)
            values[name] = new
        return values[name]

    def _check_opsets(self, function: FunctionProto) -> None:
        """Refuse ops whose meaning in the function's opset is another than in the model's."""
        own = {_domain(opset): int(opset.version) for opset in function.opset_import}
        for domain, version in own.items():
            self.opsets.setdefault(domain, version)
        for node in _all_nodes(function.node):
            domain = _domain(node)
            if (domain, str(node.op_type), _overload(node)) in self.functions:
                continue
            if domain not in own:
                raise self._error(function, f"it has an op {node.op_type} and imports no opset of its domain")
            mine, models = own[domain], self.opsets[domain]
            if mine != models and _since(domain, node, mine) != _since(domain, node, models):
                raise self._error(function, f"its op {node.op_type} is of opset {mine}, and the model has {models}")

    def _error(self, function: FunctionProto, why: str) -> InvalidModelError:
        return InvalidModelError(f"{self.model}: its function {function.name!r} cannot be inlined: {why}")


def rename_values(graph: GraphProto, around: Mapping[str, str], prefix: str) -> None:
    """Put ``prefix`` before the names of all values that a branch or body has of its own, at any depth.

    ``around`` has the new names of values around it.
    """
    values = dict(around)
    own = [
        *(value.name for value in (*graph.input, *graph.initializer)),
        *(o for node in graph.node for o in node.output),
    ]
    values.update({name: prefix + name for name in own if name})
    for named in (*graph.input, *graph.output, *graph.initializer):
        named.name = values.get(named.name, named.name)
    for node in graph.node:
        node.input[:] = [values.get(name, name) for name in node.input]
        node.output[:] = [values.get(name, name) for name in node.output]
        for inner in _graphs(node):
            rename_values(inner, values, prefix)


def _check(function: FunctionProto, model: str) -> None:
    """Check the names in a function as those of a graph."""
    graph = GraphProto(node=function.node)
    for name in (function.name, *function.input, *function.output):
        graph.input.add().name = name
    check_names(graph, model)


def _bind(node: NodeProto, attributes: Mapping[str, AttributeProto]) -> None:
    """Give attributes that refer to one of the call its value; one that nothing gives is left out."""
    kept = []
    for attribute in node.attribute:
        for graph in _graphs_of(attribute):
            for inner in graph.node:
                _bind(inner, attributes)
        if attribute.ref_attr_name:
            given = attributes.get(attribute.ref_attr_name)
            if given is None:
                continue
            name = attribute.name
            attribute.CopyFrom(given)
            attribute.name = name
        kept.append(attribute)
    if len(kept) < len(node.attribute):
        copies = [_copy(attribute) for attribute in kept]
        del node.attribute[:]
        node.attribute.extend(copies)


def _copy(attribute: AttributeProto) -> AttributeProto:
    result = AttributeProto()
    result.CopyFrom(attribute)
    return result


def _graphs_of(attribute: AttributeProto) -> list[GraphProto]:
    return [*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs]


def _graphs(node: NodeProto) -> list[GraphProto]:
    return [graph for attribute in node.attribute for graph in _graphs_of(attribute)]


def _all_nodes(nodes: Iterable[NodeProto]) -> Iterator[NodeProto]:
    for node in nodes:
        yield node
        for graph in _graphs(node):
            yield from _all_nodes(graph.node)


def _names(graph: GraphProto) -> Iterator[str]:
    for value in (*graph.input, *graph.output, *graph.initializer):
        yield value.name
    for node in graph.node:
        yield from (*node.input, *node.output)
        for inner in _graphs(node):
            yield from _names(inner)


def _domain(proto: Any) -> str:
    return "" if proto.domain == "ai.onnx" else str(proto.domain)


def _overload(proto: Any) -> str:
    return str(getattr(proto, "overload", ""))  # older versions of onnx have none


def _since(domain: str, node: NodeProto, opset: int) -> int:
    """Return the opset that gave the op the meaning that it has in ``opset``; where nothing tells, that one."""
    try:
        return int(onnx.defs.get_schema(str(node.op_type), opset, domain).since_version)
    except onnx.defs.SchemaError:
        return opset
