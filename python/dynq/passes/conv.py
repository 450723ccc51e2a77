"""Replace a Conv with a constant weight by a dynq.Conv.

Its weight is float (M, C, ...), or QuantizedRows of that shape, until quantize_graph packs it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..core.arguments import FLOAT32, Array
from ..ir.deferred import QuantizedRows
from ..ir.graph import Graph
from ..ir.values import Node, axis_of
from .rewrite import Uses, is_op, scalar

__all__ = ["check_groups", "fuse_pads", "make_conv", "rows", "why_conv_float"]

_LEAST_K = 32
_LEAST_OUTPUTS = 16
_MOST_PADDED = 2**30


def make_conv(graph: Graph) -> None:
    for node in graph.nodes:
        weight = node.need("W").constant if node.op == "Conv" else None
        if not isinstance(weight, QuantizedRows) and (not isinstance(weight, np.ndarray) or weight.dtype != FLOAT32):
            continue
        if len(weight.shape) not in (3, 4):
            continue
        shape = list(weight.shape[2:])
        if node.need("X").constant is not None:
            continue
        if node.attributes.get("kernel_shape", shape) != shape:
            continue  # the runtime says what is wrong
        check_groups(node, weight.shape[0])
        node.op, node.attributes = "dynq.Conv", {**node.attributes, "kernel_shape": shape}


def check_groups(node: Node, outputs: int) -> None:
    """Raise ValueError if the groups of a convolution do not share its outputs evenly."""
    groups: Any = node.attributes.get("group", 1)
    if groups < 1 or outputs % groups != 0:
        raise ValueError(
            f"node {node.name!r}: its weight has {outputs} outputs, which {groups} groups do not share evenly"
        )


def fuse_pads(graph: Graph) -> None:
    """Move a Pad with zeros into the dynq.Conv behind it, which pads by itself."""
    uses = Uses(graph)
    for node in list(graph.nodes):
        pad = is_op(node.first, "Pad") if node.op == "dynq.Conv" else None
        if pad is None or uses.only_reader(pad.outputs[0]) is not node:
            continue
        spatial = len(node.need("weight").shape or ()) - 2
        given = node.attributes.get("pads", [0] * 2 * spatial)
        more = _zeros_around(pad, spatial)
        if more is None or node.attributes.get("auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
            continue
        if not isinstance(given, list) or len(given) != 2 * spatial or max([*given, *more]) > _MOST_PADDED:
            continue  # the runtime says what is wrong
        node.attributes |= {"pads": [int(a) + b for a, b in zip(given, more, strict=True)], "auto_pad": "NOTSET"}
        uses.set_input(node, "x", pad.need("data"))
        uses.remove(pad)


def _zeros_around(pad: Node, spatial: int) -> list[int] | None:
    """Return how many zeros a Pad puts before and behind the spatial axes; None if it does anything else."""
    pads, axes, shape = pad.array("pads"), pad.array("axes"), pad.need("data").shape
    number = 0.0 if pad.input("constant_value") is None else scalar(pad.input("constant_value"))
    if pads is None or number != 0 or pad.attributes.get("mode", "constant") != "constant":
        return None
    if shape is None or len(shape) != spatial + 2 or (axes is None and pad.input("axes") is not None):
        return None
    rank = len(shape)
    places = list(range(rank)) if axes is None else [axis_of(axis, rank) for axis in axes.reshape(-1).tolist()]
    if pads.size != 2 * len(places) or len(set(places)) != len(places) or (pads < 0).any():
        return None
    both = np.zeros((2, rank), np.int64)
    both[:, places] = pads.reshape(2, -1)
    return None if both[:, :2].any() else [int(n) for n in both[:, 2:].reshape(-1)]


def why_conv_float(node: Node, outputs: int, k: int) -> str | None:
    """Return why a dynq.Conv with a weight of ``outputs`` x ``k`` should stay in float32; None if it should not."""
    if node.attributes.get("group", 1) != 1:
        return f"it has {node.attributes['group']} groups"
    if k < _LEAST_K or outputs < _LEAST_OUTPUTS:
        return f"it is small: K = {k}, {outputs} outputs; int8 takes K >= {_LEAST_K} and {_LEAST_OUTPUTS} outputs"
    return None


def rows(weight: Array) -> Array:
    """Return the weight as (M, K). K goes over the kernel's places row by row, and at each over the channels."""
    return np.moveaxis(weight, 1, -1).reshape(weight.shape[0], -1)
