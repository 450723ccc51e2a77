"""Arrange weights of convolutions as dynq.ConvFloat has them: panels of 16 outputs of a group, without padding."""

from __future__ import annotations

import numpy as np

from ..core.arguments import Array
from .values import Node

__all__ = ["conv_float_k", "conv_float_rows", "conv_panels"]

_PANEL = 16


def conv_panels(rows: Array) -> Array:
    """Return rows (groups, outputs, K) as (groups, outputs * K): panels (K, 16), the last one (K, outputs left)."""
    groups, outputs, _ = rows.shape
    panels = [rows[:, i : i + _PANEL].swapaxes(1, 2).reshape(groups, -1) for i in range(0, outputs, _PANEL)]
    return np.concatenate(panels, axis=1) if panels else np.zeros((groups, 0), rows.dtype)


def conv_float_rows(node: Node) -> Array | None:
    """Return the weight (channels, K) of a dynq.ConvFloat, as float32; None if it is not constant.

    In files of earlier versions it is (groups, panels, K, 16), and the last panel is filled up with zeros.
    """
    array, scale = node.array("weight"), node.array("scale")
    if array is None or (node.input("scale") is not None and scale is None):
        return None
    channels, groups = node.attributes["channels"], len(array)
    assert isinstance(channels, int)
    outputs = channels // max(groups, 1)
    if array.ndim == 4:
        rows = array.swapaxes(2, 3).reshape(groups, -1, array.shape[2])[:, :outputs]
    else:
        k = conv_float_k(node)
        panels = [
            array[:, i * k : min(i + _PANEL, outputs) * k].reshape(groups, k, -1).swapaxes(1, 2)
            for i in range(0, outputs, _PANEL)
        ]
        rows = np.concatenate(panels, axis=1) if panels else array
    rows = rows.reshape(channels, -1)
    return rows if scale is None else rows * scale[:, None]


def conv_float_k(node: Node) -> int:
    """Return how many products each output of a dynq.ConvFloat is the sum of."""
    shape, channels = node.need("weight").shape, node.attributes["channels"]
    assert shape is not None and isinstance(channels, int)
    sizes = [size for size in shape if isinstance(size, int)]
    return sizes[2] if len(sizes) == 4 else sizes[0] * sizes[1] // max(channels, 1)
