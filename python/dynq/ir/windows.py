"""Shapes of what convolutions, pools, resizing and their like give, as far as they are easy to infer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .elements import elements
from .values import Dim, Node, Shape

__all__ = ["RULES"]

_Result = list[tuple[str | None, "Shape | None"]]


def _sizes(node: Node, x: Shape, kernel: Any) -> list[Dim]:
    """Return the sizes of the spatial axes of a convolution or a pool."""
    a: Any = node.attributes
    count = len(x) - 2
    strides, dilations = (a.get(name) or [1] * count for name in ("strides", "dilations"))
    pads, pad = a.get("pads") or [0] * 2 * count, a.get("auto_pad", "NOTSET")
    sizes: list[Dim] = []
    for i, size in enumerate(x[2:]):
        same, reach = pad.startswith("SAME"), (kernel[i] - 1) * dilations[i]
        both = reach if same else 0 if pad == "VALID" else pads[i] + pads[count + i]
        if strides[i] == 1 and both == reach:
            sizes.append(size)
        elif isinstance(size, int) and not a.get("ceil_mode"):
            sizes.append((size - 1 + both - reach) // strides[i] + 1)
        else:
            sizes.append(None)
    return sizes


def _conv(node: Node) -> _Result | None:
    x, weight = (node.inputs[i] for i in (0, 1))
    if x is None or weight is None or x.shape is None or weight.shape is None:
        return None
    kernel: Any = node.attributes.get("kernel_shape") or weight.shape[2:]
    channels: Any = node.attributes["channels"] if node.op == "dynq.ConvFloat" else weight.shape[0]
    dtype = "int32" if node.op == "ConvInteger" else "float32"
    return [(dtype, (x.shape[0], channels, *_sizes(node, x.shape, kernel)))]


def _conv_transpose(node: Node) -> _Result | None:
    x, weight = node.need("X").shape, node.need("W").shape
    if x is None or weight is None or not isinstance(weight[1], int):
        return None
    a: Any = node.attributes
    count = len(x) - 2
    wanted: Any = a.get("output_shape")
    sizes: list[Dim] = [None] * count if wanted is None else list(wanted)
    if wanted is None and a.get("auto_pad", "NOTSET") == "NOTSET":
        strides, dilations = (a.get(name) or [1] * count for name in ("strides", "dilations"))
        more, pads = a.get("output_padding") or [0] * count, a.get("pads") or [0] * 2 * count
        kernel = a.get("kernel_shape") or weight[2:]
        for i, (size, extent) in enumerate(zip(x[2:], kernel, strict=False)):
            if isinstance(size, int) and isinstance(extent, int):
                reach = (extent - 1) * dilations[i] + 1
                sizes[i] = strides[i] * (size - 1) + more[i] + reach - pads[i] - pads[count + i]
    return [("float32", (x[0], weight[1] * a.get("group", 1), *sizes))]


def _pool(node: Node) -> _Result | None:
    x = node.need("X")
    if x.shape is None:
        return None
    shape = (*x.shape[:2], *_sizes(node, x.shape, node.attributes["kernel_shape"]))
    return [(x.dtype, shape), ("int64", shape)]


def _global_pool(node: Node) -> _Result | None:
    x = node.need("X")
    return None if x.shape is None else [(x.dtype, (*x.shape[:2], *[1] * (len(x.shape) - 2)))]


def _resize(node: Node) -> _Result | None:
    """Return the sizes that are given, or those that factors give, rounded down as in the C code."""
    x = node.need("X")
    if x.shape is None:
        return None
    axes: Any = node.attributes.get("axes") or range(len(x.shape))
    shape: list[Dim] = list(x.shape)
    sizes = None if node.input("sizes") is None else elements(node.need("sizes"))
    scales = None if node.input("scales") is None else node.array("scales")
    exact = node.attributes.get("keep_aspect_ratio_policy", "stretch") == "stretch"
    for i, axis in enumerate(axes):
        if sizes is not None:
            shape[axis] = sizes[i] if exact else None
        elif scales is None or scales.size <= i:
            shape[axis] = None
        elif scales[i] != 1:
            dim = shape[axis]
            shape[axis] = int(float(scales[i]) * dim) if isinstance(dim, int) else None
    return [(x.dtype, tuple(shape))]


def _grid_sample(node: Node) -> _Result | None:
    x, grid = node.need("X"), node.need("grid")
    if x.shape is None or grid.shape is None:
        return None
    return [(x.dtype, (*x.shape[:2], *grid.shape[1:-1]))]


def _depth_to_space(node: Node) -> _Result | None:
    x = node.need("input")
    if x.shape is None:
        return None
    block: Any = node.attributes["blocksize"]
    batch, channels, *sizes = x.shape
    known = [dim if isinstance(dim, int) else None for dim in (channels, *sizes)]
    if node.op == "DepthToSpace":
        new = [None if dim is None else dim * block for dim in known[1:]]
        return [(x.dtype, (batch, None if known[0] is None else known[0] // block**2, *new))]
    new = [None if dim is None else dim // block for dim in known[1:]]
    return [(x.dtype, (batch, None if known[0] is None else known[0] * block**2, *new))]


RULES: dict[str, Callable[[Node], _Result | None]] = {
    **dict.fromkeys(("Conv", "ConvInteger", "dynq.Conv", "dynq.ConvFloat"), _conv),
    "ConvTranspose": _conv_transpose,
    **dict.fromkeys(("MaxPool", "AveragePool"), _pool),
    **dict.fromkeys(("GlobalMaxPool", "GlobalAveragePool"), _global_pool),
    "Resize": _resize,
    "GridSample": _grid_sample,
    **dict.fromkeys(("DepthToSpace", "SpaceToDepth"), _depth_to_space),
}
