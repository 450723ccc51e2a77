"""GELU as exporters write it, in a dozen nodes of any arrangement, becomes one Gelu.

A group of elementwise nodes with constant numbers that ends in a Mul and reads one value is a function of one number.
It is GELU if it gives GELU's values: that holds for every way to write it, where patterns of nodes know a few.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ..._arguments import Array
from ..ir import Graph, Node, Value
from ._rewrite import Uses, scalar

__all__ = ["find_gelu"]

_LARGEST = 14  # nodes of a group
_TOLERANCE = 1e-6  # constants are rounded to float32


def _erf(x: Array) -> Array:
    return np.array([math.erf(value) for value in x.tolist()])


_UNARY: dict[str, Callable[[Array], Array]] = {"Erf": _erf, "Tanh": np.tanh, "Neg": np.negative}
_BINARY: dict[str, Callable[[Any, Any], Array]] = {
    "Add": np.add,
    "Sub": np.subtract,
    "Mul": np.multiply,
    "Div": np.divide,
    "Pow": np.power,
}
_X = np.concatenate([np.linspace(-12, 12, 481), [-1e4, -100.0, -30.0, 30.0, 100.0, 1e4, 1e-3, -1e-3]])
_GELU = 0.5 * _X * (1 + _erf(_X / math.sqrt(2)))
_GELU_TANH = 0.5 * _X * (1 + np.tanh(math.sqrt(2 / math.pi) * (_X + 0.044715 * _X**3)))


def find_gelu(graph: Graph) -> None:
    uses = Uses(graph)
    for core in [node for node in graph.nodes if node.op in ("Erf", "Tanh")]:
        end: Node | None = core
        for _ in range(_LARGEST):  # along the readers, up to the Mul that ends the group
            end = uses.only_reader(None if end is None else end.outputs[0])
            if end is None or end.op not in _BINARY:
                break
            if end.op == "Mul" and (found := _group(uses, end, core)) is not None:
                x, approximate = found
                uses.set_inputs(end, [x])
                end.op, end.attributes = "Gelu", {"approximate": approximate}
                break


def _group(uses: Uses, end: Node, core: Node) -> tuple[Value, str] | None:
    """What a group that ends in ``end`` computes GELU of, and which GELU."""
    group, leaves = {end}, _leaves({end})
    while len(group) < _LARGEST:
        if len(leaves) == 1 and core in group:
            kind = _kind(end, leaves[0], group)
            if kind is not None:
                return leaves[0], kind
        grown = next((leaf.producer for leaf in leaves if _can_join(uses, leaf, group)), None)
        if grown is None:
            return None
        group.add(grown)
        leaves = _leaves(group)
    return None


def _can_join(uses: Uses, leaf: Value, group: set[Node]) -> bool:
    node = leaf.producer
    known = node is not None and (node.op in _UNARY or node.op in _BINARY)
    return known and uses.inside(leaf, group)


def _leaves(group: set[Node]) -> list[Value]:
    made = {node.outputs[0] for node in group}
    inputs = [value for node in group for value in node.inputs if value is not None]
    return [value for value in dict.fromkeys(inputs) if value not in made and scalar(value) is None]


def _kind(end: Node, x: Value, group: set[Node]) -> str | None:
    """``approximate`` of the Gelu that the group is; None where it is none."""
    values: dict[Value, Any] = {x: _X}

    def compute(value: Value | None) -> Any:
        number = scalar(value)
        if number is not None:
            return number
        assert value is not None
        if value not in values:
            node = value.producer
            assert node is not None and node in group
            arguments = [compute(argument) for argument in node.inputs]
            function = _UNARY.get(node.op) or _BINARY[node.op]
            values[value] = function(*arguments)
        return values[value]

    with np.errstate(all="ignore"):
        result = compute(end.outputs[0])
    for expected, kind in ((_GELU, "none"), (_GELU_TANH, "tanh")):
        if np.all(np.abs(result - expected) <= _TOLERANCE * (1 + np.abs(expected))):
            return kind
    return None
