"""Conv with a constant weight becomes dynq.Conv, which takes in a bias after it; its weight is float (M, C, ...) until
quantize_graph packs it."""

from __future__ import annotations

import numpy as np

from ..._arguments import FLOAT32, Array
from ..ir import Graph, Node
from ._rewrite import Uses, constant_of, is_open

__all__ = ["fuse_conv_bias", "make_conv", "rows", "why_conv_float"]

_LEAST_K = 32
_LEAST_OUTPUTS = 16


def make_conv(graph: Graph) -> None:
    for node in graph.nodes:
        weight = constant_of(node.input(1))
        if node.op != "Conv" or weight is None or weight.ndim not in (3, 4) or weight.dtype != FLOAT32:
            continue
        shape = list(weight.shape[2:])
        if node.inputs[0] is None or node.inputs[0].constant is not None:
            continue
        if node.attributes.get("kernel_shape", shape) != shape:
            continue  # the runtime says what is wrong
        node.op, node.attributes = "dynq.Conv", {**node.attributes, "kernel_shape": shape}


def fuse_conv_bias(graph: Graph) -> None:
    """``Add`` of a constant for each channel after a dynq.Conv without a bias."""
    uses = Uses(graph)
    for node in list(graph.nodes):
        for conv, _, bias in uses.addends(node, "dynq.Conv"):
            array, weight = constant_of(bias), conv.inputs[1]
            if array is None or weight is None or weight.shape is None:
                continue
            channels, spatial = weight.shape[0], len(weight.shape) - 2
            if conv.input(2) is not None or not is_open(conv):
                continue
            if array.shape not in ((channels, *[1] * spatial), (1, channels, *[1] * spatial)):
                continue
            uses.set_inputs(conv, [conv.inputs[0], weight, graph.constant_for(array.reshape(-1), bias)])
            uses.take_over(conv, node)
            break


def why_conv_float(node: Node, weight: Array) -> str | None:
    """Why a dynq.Conv is better off in float32; None: it is not."""
    outputs, k = weight.shape[0], int(np.prod(weight.shape[1:]))
    if node.attributes.get("group", 1) != 1:
        return f"it has {node.attributes['group']} groups"
    if k < _LEAST_K or outputs < _LEAST_OUTPUTS:
        return f"it is small: K = {k}, {outputs} outputs; int8 takes K >= {_LEAST_K} and {_LEAST_OUTPUTS} outputs"
    return None


def rows(weight: Array) -> Array:
    """(M, K): K counts the kernel's places row by row, and at each the channels."""
    return np.moveaxis(weight, 1, -1).reshape(weight.shape[0], -1)
