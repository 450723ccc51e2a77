"""Show a graph as text and as a drawing."""

from __future__ import annotations

from typing import Protocol

from .values import Node, Value, describe_type

__all__ = ["to_dot", "to_text"]

_SHOWN_ELEMENTS = 6


class Shown(Protocol):
    """The parts of a graph that are shown."""

    name: str
    inputs: list[Value]
    nodes: list[Node]
    outputs: list[tuple[str, Value]]
    states: list[Value]


def to_text(graph: Shown) -> str:
    """Return a line for each input, node and output: ``name: type = Op(inputs, attributes)``."""
    lines = [f"graph {graph.name}"]
    lines += [f"  {value.name}: {describe_type(value)}  # input" for value in graph.inputs]
    lines += [f"  {value.name}: {describe_type(value)}  # state" for value in graph.states]
    for node in graph.nodes:
        lines.append(f"  {_node(node)}")
        for attribute, body in node.bodies.items():
            lines += [f"    {line}" for line in to_text(body).replace("graph", attribute, 1).splitlines()]
    for name, value in graph.outputs:
        lines.append(f"  return {name}" if name == value.name else f"  return {name}={value.name}")
    return "\n".join(lines)


def to_dot(graph: Shown) -> str:
    """Return the graph for Graphviz: a box for each node, an edge for each value that another node computes."""
    lines = [f"digraph {_quote(graph.name)} {{", "  node [shape=box, fontname=Helvetica];"]
    for value in graph.inputs:
        lines.append(f"  {_quote('value ' + value.name)} [label={_label(value)}, shape=ellipse];")
    for value in graph.states:
        lines.append(f"  {_quote('value ' + value.name)} [label={_label(value)}, shape=cylinder];")
    for node in graph.nodes:
        constants = [_operand(value) for value in node.inputs if value is not None and value.constant is not None]
        lines.append(f"  {_quote('node ' + node.name)} [label={_quote(node.op, node.name, *constants)}];")
    for node in graph.nodes:
        lines += [_edge(v, f"node {node.name}") for v in node.inputs if v is not None and v.constant is None]
    for name, value in graph.outputs:
        lines.append(f"  {_quote('output ' + name)} [label={_quote(name)}, shape=ellipse];")
        if value.constant is None:
            lines.append(_edge(value, f"output {name}"))
    return "\n".join([*lines, "}"])


def _node(node: Node) -> str:
    outputs = ", ".join("_" if value is None else f"{value.name}: {describe_type(value)}" for value in node.outputs)
    arguments = ["None" if value is None else _operand(value) for value in node.inputs]
    arguments += [f"{name}={value!r}" for name, value in node.attributes.items()]
    single = len(node.outputs) == 1 and node.outputs[0] is not None and node.outputs[0].name == node.name
    return f"{outputs} = {node.op}({', '.join(arguments)})" + ("" if single else f"  # {node.name}")


def _operand(value: Value) -> str:
    array = value.array
    if array is not None and array.size <= _SHOWN_ELEMENTS:
        return str(array.tolist())
    return f"{value.name}: {describe_type(value)}" if value.constant is not None else value.name


def _label(value: Value) -> str:
    return _quote(value.name, describe_type(value))


def _edge(value: Value, to: str) -> str:
    origin = f"value {value.name}" if value.producer is None else f"node {value.producer.name}"
    return f"  {_quote(origin)} -> {_quote(to)} [label={_quote(describe_type(value))}];"


def _quote(*lines: str) -> str:
    return '"' + "\\n".join(line.replace("\\", "\\\\").replace('"', '\\"') for line in lines) + '"'
