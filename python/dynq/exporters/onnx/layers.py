"""Write dynq's other ops, and ONNX's that are newer than the opset, as operators that runtimes have."""

from __future__ import annotations

import numpy as np

from ...conversion import Unsupported
from ...core.arguments import Array
from ...ir.conv_panels import conv_float_rows
from ...ir.given import ONNX_NAMES, ONNX_TYPES, Attributes
from ..composed import activate_layer
from ..site import weight_of
from .draft import Edge, Site
from .quantized import fixed, quantize

__all__ = [
    "constant_of_shape",
    "conv",
    "conv_float",
    "embedding",
    "quantize_linear",
    "same",
]

_WINDOW = ("auto_pad", "dilations", "kernel_shape", "pads", "strides")


def quantize_linear(site: Site) -> None:
    """Write QuantizeLinear. The type of its result, an attribute from opset 21 on, is that of a zero-point."""
    zero = site.input("y_zero_point")
    if zero is None:
        dtype = ONNX_NAMES[site.integer("output_dtype", 0) or ONNX_TYPES["uint8"]]
        shape = site.node.need("y_scale").shape
        if shape is None or not all(isinstance(dim, int) for dim in shape):
            raise Unsupported("QuantizeLinear without a zero-point and with a scale of unknown shape")
        zero = site.array(np.zeros(shape, dtype), "zero_point")
    axis = {"axis": site.node.attributes["axis"]} if "axis" in site.node.attributes else {}
    site.gives(site.op("QuantizeLinear", site.need("x"), site.need("y_scale"), zero, **axis))


def same(site: Site) -> None:
    """Write an op of ONNX by its name."""
    node = site.node
    inputs = [site.input(i) for i in range(len(node.inputs))]
    count = len(node.outputs)
    if node.op == "Split":  # a file may leave out the last outputs, if nobody reads them
        sizes = node.array("split")
        number = node.attributes.get("num_outputs", count)
        count = sizes.size if sizes is not None else int(number)  # type: ignore[arg-type]
    given = [*node.outputs, *[None] * (count - len(node.outputs))]
    edges: list[Edge | None] = [Edge(f"{node.name}.{i}") for i in range(count)]
    if node.op in ("LSTM", "GRU", "RNN"):
        edges = [edge if value is not None else None for edge, value in zip(edges, given, strict=True)]
    site.draft.step(node.op, node.name, inputs, edges, **node.attributes)
    for value, edge in zip(given, edges, strict=True):
        if value is not None and edge is not None:
            site.draft.bind(value, edge)


def embedding(site: Site) -> None:
    """Write dynq.Embedding: rows of integers, each with its scale."""
    indices = site.need("indices")
    rows = site.op("Cast", site.op("Gather", site.need("rows"), indices, axis=0), to=ONNX_TYPES["float32"])
    scale = site.op("Unsqueeze", site.op("Gather", site.need("scale"), indices, axis=0), site.array([-1]))
    site.gives(site.op("Mul", rows, scale))


def conv(site: Site) -> None:
    """Write dynq.Conv. Its weight is packed, or float (M, C, ...) if the graph is not built."""
    weight = site.node.need("weight")
    attributes = {name: site.node.attributes[name] for name in _WINDOW if name in site.node.attributes}
    packed = weight_of(weight)
    if packed is None:
        group = site.integer("group", 1)
        y = site.op("Conv", site.need("x"), site.need("weight"), site.input("bias"), **attributes, group=group)
    else:
        kernel = [int(size) for size in attributes["kernel_shape"]]  # type: ignore[union-attr]
        m, k = packed.shape
        shape = (m, k // max(int(np.prod(kernel)), 1), *kernel)
        integers, key = packed.integers(), (weight, "conv")
        w = site.draft.constant(key, weight.name, "int8", shape, lambda: _unpacked(integers, shape))
        scale = site.draft.constant(
            (weight, "scale"), f"{weight.name}.scale", "float32", (m,), lambda: np.array(packed.scale)
        )
        if site.draft.form == "qdq":
            w = site.op("DequantizeLinear", w, scale, axis=0)
            y = site.op("Conv", site.need("x"), w, site.input("bias"), **attributes)
        else:
            y = _dynamic_conv(site, w, scale, attributes, len(kernel))
    site.gives(activate_layer(site, y))


def _dynamic_conv(site: Site, w: Edge, scale: Edge, attributes: Attributes, spatial: int) -> Edge:
    """Write a convolution of integers. ConvInteger takes one zero-point for all of x."""
    of_x = site.node.need("x").shape
    images = of_x[0] if of_x else None
    is_fixed = "lo" in site.node.attributes
    if site.draft.granularity != "tensor" and not is_fixed:
        if site.text("granularity", "row") == "row":
            raise Unsupported("dynq.Conv with a range for each output position; granularity='tensor' gives it one")
        if images != 1:
            raise Unsupported("dynq.Conv with a range for each image; granularity='tensor' gives all of them one")
    if site.text("scheme", "asymmetric") != "asymmetric":
        raise Unsupported("dynq.Conv with scheme 'symmetric' in form 'dynamic'")
    x = site.need("x")
    a = fixed(site, x, "asymmetric") if is_fixed else quantize(site, x, "asymmetric", False)
    x_scale = a.scale
    sums = site.op("ConvInteger", a.q, w, a.zero_point, **attributes)
    place = site.array([-1] + [1] * spatial, "channels")
    factor = site.op("Reshape", site.op("Mul", x_scale, scale), place)
    y = site.op("Mul", site.op("Cast", sums, to=ONNX_TYPES["float32"]), factor)
    bias = site.input("bias")
    return y if bias is None else site.op("Add", y, site.op("Reshape", bias, place))


def _unpacked(rows: Array, shape: tuple[int, ...]) -> Array:
    """Return (M, C, ...) from (M, K). K counts the kernel's places, and at each the channels."""
    return np.moveaxis(rows.reshape(shape[0], *shape[2:], shape[1]), -1, 1)


def conv_float(site: Site) -> None:
    """Write dynq.ConvFloat, whose weight is in panels of outputs of a group."""
    weight = site.node.need("weight")
    attributes = {name: site.node.attributes[name] for name in _WINDOW if name in site.node.attributes}
    rows = conv_float_rows(site.node)
    if rows is None or "kernel_shape" not in attributes:
        raise Unsupported("dynq.ConvFloat whose weight is not constant, or without kernel_shape")
    kernel = [int(size) for size in attributes["kernel_shape"]]  # type: ignore[union-attr]
    shape = (len(rows), rows.shape[1] // max(int(np.prod(kernel)), 1), *kernel)
    w = site.draft.constant((weight, shape), weight.name, "float32", shape, lambda: _unpacked(rows, shape))
    y = site.op("Conv", site.need("x"), w, site.input("bias"), **attributes, group=site.integer("group", 1))
    site.gives(activate_layer(site, y))


def constant_of_shape(site: Site) -> None:
    """Write ConstantOfShape, whose value is an input in dynq."""
    value = site.input("value")
    value = site.array(0.0) if value is None else site.op("Reshape", value, site.array(np.empty(0, np.int64)))
    site.gives(site.op("Expand", value, site.need("input")))
