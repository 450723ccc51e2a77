"""Inputs of layers that are not quantized to 8 bits with one scale for each row: 16 bits, a scale for each group of
K, a fixed range, which convolutions can have too. docs/numerics.md has the rules."""

from __future__ import annotations

import dataclasses
import fnmatch
import math
import numbers
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from ..._arguments import FLOAT32
from ...weights import QuantizedWeight
from ..ir import Graph, Node
from .recurrent import PROJECTION

__all__ = ["Finer", "matches", "set_range"]

_GROUPS = range(32, 257, 32)


def matches(node: Node, pattern: str) -> bool:
    """Whether ``pattern`` names the node, or what it is a part of: a module, or a recurrent layer of its projection."""
    if node.name == pattern or node.name.startswith(f"{pattern}."):
        return True
    return any(fnmatch.fnmatchcase(name, pattern) for name in (node.name, node.name.removesuffix(PROJECTION)))


@dataclasses.dataclass(frozen=True)
class Finer:
    """The arguments int16, group_size and ranges of Graph.build, checked."""

    int16: tuple[str, ...] = ()
    group: int | None = None  # of every layer that no pattern names
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
        """Each pattern names a linear layer; one of ranges may name a convolution."""
        for argument, patterns in (("int16", self.int16), ("group_size", self.groups), ("ranges", self.ranges)):
            for pattern in patterns:
                found = [node for node in graph.nodes if matches(node, pattern)]
                if not found:
                    what = "which is no node that is left after the passes; report() lists them"
                    raise ValueError(f"{argument} has {pattern!r}, {what}")
                convolutions = argument == "ranges"
                if not any(node.op == "dynq.Linear" or (convolutions and node.op == "dynq.Conv") for node in found):
                    kind = found[0].op.removeprefix("dynq.")
                    layers = "linear layers" + " or convolutions" * convolutions
                    raise ValueError(f"{argument} has {pattern!r}, a node of the kind {kind}; expected {layers}")

    def names(self, node: Node) -> bool:
        """Whether the node is given by its own name, which overrules first_layer."""
        given = {*self.int16, *self.groups, *self.ranges}
        return node.name in given or node.name.removesuffix(PROJECTION) in given

    def apply(self, node: Node) -> str:
        """Sets the attributes of a dynq.Linear, and says what they are: the end of what it became."""
        wide = any(matches(node, pattern) for pattern in self.int16)
        named = next((n for pattern, n in self.groups.items() if matches(node, pattern)), None)
        bounds = self._bounds(node)
        group = self.group if named is None else named
        why_not = _why_8_bits(node)
        if why_not is not None and (wide or named is not None):
            raise ValueError(f"node {node.name!r}: {why_not}, which takes 8 bits and one scale for each block")
        said = ""
        if wide:
            node.attributes["bits"] = 16
            said += ", 16-bit activations"
        if group is not None and why_not is None:
            if bounds is not None:
                raise ValueError(
                    f"node {node.name!r}: ranges gives it a fixed range and group_size {group}; choose one"
                )
            node.attributes["group"] = group
            said += f", scales of {group}"
        return said + (set_range(node, bounds) if bounds is not None else "")

    def apply_range(self, node: Node) -> str:
        """The same for a dynq.Conv, of which 16 bits and groups do not speak."""
        bounds = self._bounds(node)
        return set_range(node, bounds) if bounds is not None else ""

    def _bounds(self, node: Node) -> tuple[float, float] | None:
        return next((bounds for pattern, bounds in self.ranges.items() if matches(node, pattern)), None)


def set_range(node: Node, bounds: tuple[float, float]) -> str:
    """A fixed range for a dynq.Linear or dynq.Conv, and how the report says it."""
    node.attributes["lo"], node.attributes["hi"] = bounds
    return f", fixed range {bounds[0]:.4g} to {bounds[1]:.4g}"


def _why_8_bits(node: Node) -> str | None:
    weight = node.inputs[1]
    if weight is not None and isinstance(weight.constant, QuantizedWeight) and weight.constant.zero_point is not None:
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
    """As float32, and with 0 inside, which every range holds."""
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
