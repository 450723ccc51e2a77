"""Quantize the inputs of single layers in another way than to 8 bits with one scale for each row.

The other ways are 16 bits, a scale for each group of K, and a fixed range. Convolutions can have a fixed range too.
docs/numerics.md has the rules.
"""

from __future__ import annotations

import dataclasses
import fnmatch
import math
import numbers
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from ..core.arguments import FLOAT32
from ..core.names import near
from ..ir.graph import Graph
from ..ir.values import Node
from ..passes.recurrent import PROJECTION
from ..report import Row
from ..weights import QuantizedWeight

__all__ = ["Finer", "matches", "no_node", "set_range", "why_8_bits"]

_GROUPS = range(32, 257, 32)


def matches(node: Node, pattern: str) -> bool:
    """Return whether ``pattern`` names the node or what it is part of: a module, or the recurrent layer of a
    projection.
    """
    if node.name == pattern or node.name.startswith(f"{pattern}."):
        return True
    return any(fnmatch.fnmatchcase(name, pattern) for name in (node.name, node.name.removesuffix(PROJECTION)))


@dataclasses.dataclass(frozen=True)
class Finer:
    """The arguments int16, group_size and ranges of Graph.build, checked."""

    int16: tuple[str, ...] = ()
    group: int | None = None  # for every layer that no pattern names
    groups: Mapping[str, int] = dataclasses.field(default_factory=dict)
    ranges: Mapping[str, tuple[float, float]] = dataclasses.field(default_factory=dict)

    @classmethod
    def of(cls, int16: Any, group_size: Any, ranges: Any, granularity: str) -> Finer:
        names = (int16,) if isinstance(int16, str) else tuple(int16)
        for name in names:
            if not isinstance(name, str):
                raise TypeError(f"int16 has {name!r}; expected names of nodes or patterns")
        by_pattern = isinstance(group_size, Mapping)
        groups = (
            {_pattern("group_size", p): _group(f"group_size[{p!r}]", n) for p, n in group_size.items()}
            if (by_pattern)
            else {}
        )
        group = None if by_pattern or group_size is None else _group("group_size", group_size)
        if (groups or group is not None) and granularity != "row":
            raise ValueError(f"granularity is {granularity!r} and group_size {group_size!r}; groups are parts of a row")
        if ranges is not None and not isinstance(ranges, Mapping):
            raise TypeError(f"ranges is of type {type(ranges).__name__}; expected a dict of (lo, hi) by name")
        return cls(names, group, groups, {_pattern("ranges", p): _range(p, r) for p, r in (ranges or {}).items()})

    def check(self, graph: Graph) -> None:
        """Check that each pattern names a linear layer; one of ranges may name a convolution."""
        for argument, patterns in (("int16", self.int16), ("group_size", self.groups), ("ranges", self.ranges)):
            for pattern in patterns:
                found = [node for node in graph.all_nodes() if matches(node, pattern)]
                if not found:
                    raise ValueError(no_node(argument, [pattern], graph))
                convolutions = argument == "ranges"
                if not any(node.op == "dynq.Linear" or (convolutions and node.op == "dynq.Conv") for node in found):
                    kind = found[0].op.removeprefix("dynq.")
                    layers = "linear layers" + " or convolutions" * convolutions
                    raise ValueError(f"{argument} has {pattern!r}, a node of the kind {kind}; expected {layers}")

    def names(self, node: Node) -> bool:
        """Return whether the node is given by its own name, which overrules first_layer."""
        given = {*self.int16, *self.groups, *self.ranges}
        return node.name in given or node.name.removesuffix(PROJECTION) in given

    def apply(self, node: Node, row: Row, chosen: bool = False) -> Row:
        """Set the attributes of a dynq.Linear, and return its row of the report with them.

        ``chosen`` gives it 16 bits even if int16 does not name it.
        """
        wide = chosen or self._wide(node)
        named = next((n for pattern, n in self.groups.items() if matches(node, pattern)), None)
        bounds = self._bounds(node)
        group = self.group if named is None else named
        why_not = why_8_bits(node)
        if why_not is not None and (wide or named is not None):
            raise ValueError(f"node {node.name!r}: {why_not}, which takes 8 bits and one scale for each block")
        if wide:
            node.attributes["bits"] = 16
            row = dataclasses.replace(row, bits=16)
        if group is not None and why_not is None:
            if bounds is not None:
                raise ValueError(
                    f"node {node.name!r}: ranges gives it a fixed range and group_size {group}; choose one"
                )
            node.attributes["group"] = group
            row = dataclasses.replace(row, group=group)
        return self.apply_range(node, row)

    def sets(self, node: Node) -> bool:
        """Return whether an option says how fine the input of a node is."""
        grouped = any(matches(node, pattern) for pattern in self.groups)
        return self._wide(node) or grouped or self._bounds(node) is not None

    def _wide(self, node: Node) -> bool:
        return any(matches(node, pattern) for pattern in self.int16)

    def apply_range(self, node: Node, row: Row) -> Row:
        """Do the same for a dynq.Conv, which has neither 16 bits nor groups."""
        bounds = self._bounds(node)
        if bounds is None:
            return row
        set_range(node, bounds)
        return dataclasses.replace(row, fixed_range=bounds)

    def _bounds(self, node: Node) -> tuple[float, float] | None:
        return next((bounds for pattern, bounds in self.ranges.items() if matches(node, pattern)), None)


def no_node(argument: str, patterns: list[str], graph: Graph) -> str:
    """Return the message about patterns that name no node of the graph."""
    names = [node.name for node in graph.all_nodes()]
    given, like = ", ".join(map(repr, patterns)), near(patterns[0], names)
    what = "which is no node that is left after the passes"
    return f"{argument} has {given}, {what}{like or '; dynq inspect and report() list them'}"


def set_range(node: Node, bounds: tuple[float, float]) -> None:
    """Give a dynq.Linear or dynq.Conv a fixed range."""
    node.attributes["lo"], node.attributes["hi"] = bounds


def why_8_bits(node: Node) -> str | None:
    """Return why the input of a linear layer takes neither 16 bits nor groups; None if it does."""
    weight = node.need("weight")
    if isinstance(weight.constant, QuantizedWeight) and weight.constant.zero_point is not None:
        return "its weight has zero-points"
    return "its model asks for one scale for all rows" if node.attributes.get("granularity") == "tensor" else None


def _pattern(argument: str, pattern: Any) -> str:
    if not isinstance(pattern, str):
        raise TypeError(f"{argument} has {pattern!r}; expected names of nodes or patterns")
    return pattern


def _group(what: str, size: Any) -> int:
    if isinstance(size, bool) or not isinstance(size, numbers.Integral):
        raise TypeError(f"{what} is {size!r}; expected an integer, or a dict of them by name")
    if size not in _GROUPS:
        raise ValueError(f"{what} is {size}; expected a multiple of 32 from 32 to 256")
    return int(size)


def _range(name: str, bounds: Any) -> tuple[float, float]:
    """Return the range as float32. It is widened to hold 0, as every range does."""
    if not isinstance(bounds, Iterable) or isinstance(bounds, str) or len(pair := list(bounds)) != 2:
        raise TypeError(f"ranges[{name!r}] is {bounds!r}; expected two numbers, (lo, hi)")
    try:
        with np.errstate(over="ignore"):  # an infinity is refused below
            lo, hi = (float(FLOAT32.type(bound)) for bound in pair)
    except (TypeError, ValueError):
        raise TypeError(f"ranges[{name!r}] is {bounds!r}; expected two numbers, (lo, hi)") from None
    if not (math.isfinite(lo) and math.isfinite(hi) and lo <= hi):
        raise ValueError(f"ranges[{name!r}] is ({lo:g}, {hi:g}); expected finite numbers, lo <= hi")
    return min(lo, 0.0), max(hi, 0.0)
