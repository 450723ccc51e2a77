"""dynq's other ops, and ONNX's that are newer than the opset that is written, as operators that runtimes have."""

from __future__ import annotations

import numpy as np

from ..._arguments import FLOAT32, Array
from ...graph.given import ONNX_NAMES, ONNX_TYPES, Attributes
from ...importers.errors import Unsupported
from .draft import Edge, Site, weight_of
from .quantized import activate, dynamic_product, fixed, quantize, scheme_of

__all__ = [
    "attention",
    "constant_of_shape",
    "conv",
    "conv_float",
    "embedding",
    "gelu",
    "quantize_linear",
    "rms_normalization",
    "same",
    "swish",
]

_WINDOW = ("auto_pad", "dilations", "kernel_shape", "pads", "strides")


def quantize_linear(site: Site) -> None:
    """The type of its result, an attribute from opset 21 on, is that of a zero-point."""
    zero = site.input(2)
    if zero is None:
        dtype = ONNX_NAMES[site.integer("output_dtype", 0) or ONNX_TYPES["uint8"]]
        of_scale = site.node.inputs[1]
        if of_scale is None or of_scale.shape is None or not all(isinstance(dim, int) for dim in of_scale.shape):
            raise Unsupported("QuantizeLinear without a zero-point and with a scale of unknown shape")
        zero = site.array(np.zeros(of_scale.shape, dtype), "zero_point")
    axis = {"axis": site.node.attributes["axis"]} if "axis" in site.node.attributes else {}
    site.gives(site.op("QuantizeLinear", site.need(0), site.need(1), zero, **axis))


def same(site: Site) -> None:
    """An op of ONNX by its name."""
    node = site.node
    inputs = [site.input(i) for i in range(len(node.inputs))]
    count = len(node.outputs)
    if node.op == "Split":  # a file may leave out those at the end that nobody reads
        sizes = node.input(1)
        number = node.attributes.get("num_outputs", count)
        count = sizes.array.size if sizes is not None and sizes.array is not None else int(number)  # type: ignore[arg-type]
    given = [*node.outputs, *[None] * (count - len(node.outputs))]
    edges: list[Edge | None] = [Edge(f"{node.name}.{i}") for i in range(count)]
    if node.op in ("LSTM", "GRU", "RNN"):
        edges = [edge if value is not None else None for edge, value in zip(edges, given, strict=True)]
    site.draft.step(node.op, node.name, inputs, edges, **node.attributes)
    for value, edge in zip(given, edges, strict=True):
        if value is not None and edge is not None:
            site.draft.bind(value, edge)


def embedding(site: Site) -> None:
    """dynq.Embedding: rows of integers, each with its scale."""
    indices = site.need(2)
    rows = site.op("Cast", site.op("Gather", site.need(0), indices, axis=0), to=ONNX_TYPES["float32"])
    scale = site.op("Unsqueeze", site.op("Gather", site.need(1), indices, axis=0), site.array([-1]))
    site.gives(site.op("Mul", rows, scale))


def attention(site: Site) -> None:
    """dynq.Attention: softmax(q k^T scale + mask) v for each head."""
    heads = site.integer("heads", 1)
    q, k, v, mask = (site.input(i) for i in range(4))
    of_query = site.node.inputs[0]
    width = of_query.shape[-1] if of_query is not None and of_query.shape else None
    if k is None or v is None:
        q, k, v = site.ops("Split", [q], 3, axis=-1, num_outputs=3)
        width = width // 3 if isinstance(width, int) else None
    if not isinstance(width, int) and "scale" not in site.node.attributes:
        raise Unsupported("dynq.Attention without a scale and of a width that is not known")
    scale = FLOAT32.type(site.number("scale", 0.0))
    if "scale" not in site.node.attributes:
        scale = FLOAT32.type(1) / np.sqrt(FLOAT32.type(int(width or 0) // heads))
    split = site.array([0, 0, heads, -1], "heads")
    q, k, v = (
        site.op("Transpose", site.op("Reshape", x, split), perm=perm)
        for x, perm in ((q, [0, 2, 1, 3]), (k, [0, 2, 3, 1]), (v, [0, 2, 1, 3]))
    )
    quantized = bool(site.integer("quantize", 0)) and site.draft.form == "dynamic"
    scores = site.op("Mul", _product(site, q, k, quantized), site.array(FLOAT32.type(scale), "scale"))
    of_mask = site.node.input(3)
    boolean = of_mask is not None and of_mask.dtype == "bool"
    if mask is not None and of_mask is not None and of_mask.dtype is None:
        raise Unsupported("dynq.Attention whose mask is of a dtype that is not known")
    if mask is not None:
        minus = site.array(FLOAT32.type(-np.inf), "minus_infinity")
        scores = site.op("Where", mask, scores, minus) if boolean else site.op("Add", scores, mask)
    weights = site.op("Softmax", scores, axis=-1)
    if boolean:  # a query that looks at nothing gets zeros
        weights = site.op("Where", mask, weights, site.array(0.0))
    y = site.op("Transpose", _product(site, weights, v, quantized), perm=[0, 2, 1, 3])
    site.gives(site.op("Reshape", y, site.array([0, 0, -1], "joined")))


def _product(site: Site, a: Edge, b: Edge, quantized: bool) -> Edge:
    if not quantized:
        return site.op("MatMul", a, b)
    scheme, _ = scheme_of(site)
    return dynamic_product(site, a, b, scheme, site.draft.granularity != "tensor")


def conv(site: Site) -> None:
    """dynq.Conv: its weight is packed, or float (M, C, ...) where the graph is not built."""
    weight = site.node.inputs[1]
    assert weight is not None
    attributes = {name: site.node.attributes[name] for name in _WINDOW if name in site.node.attributes}
    packed = weight_of(weight)
    if packed is None:
        group = site.integer("group", 1)
        y = site.op("Conv", site.need(0), site.need(1), site.input(2), **attributes, group=group)
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
            y = site.op("Conv", site.need(0), w, site.input(2), **attributes)
        else:
            y = _dynamic_conv(site, w, scale, attributes, len(kernel))
    site.gives(activate(site, y, site.text("activation", "none")))


def _dynamic_conv(site: Site, w: Edge, scale: Edge, attributes: Attributes, spatial: int) -> Edge:
    """ConvInteger takes one zero-point for all of x."""
    of_x = site.node.inputs[0]
    images = of_x.shape[0] if of_x is not None and of_x.shape else None
    is_fixed = "lo" in site.node.attributes
    if site.draft.granularity != "tensor" and not is_fixed:
        if site.text("granularity", "row") == "row":
            raise Unsupported("dynq.Conv with a range for each output position; granularity='tensor' gives it one")
        if images != 1:
            raise Unsupported("dynq.Conv with a range for each image; granularity='tensor' gives all of them one")
    if site.text("scheme", "asymmetric") != "asymmetric":
        raise Unsupported("dynq.Conv with scheme 'symmetric' in form 'dynamic'")
    x = site.need(0)
    a = fixed(site, x, "asymmetric") if is_fixed else quantize(site, x, "asymmetric", False)
    x_scale = a.scale
    sums = site.op("ConvInteger", a.q, w, a.zero_point, **attributes)
    place = site.array([-1] + [1] * spatial, "channels")
    factor = site.op("Reshape", site.op("Mul", x_scale, scale), place)
    y = site.op("Mul", site.op("Cast", sums, to=ONNX_TYPES["float32"]), factor)
    bias = site.input(2)
    return y if bias is None else site.op("Add", y, site.op("Reshape", bias, place))


def _unpacked(rows: Array, shape: tuple[int, ...]) -> Array:
    """(M, C, ...) of (M, K): K counts the kernel's places, and at each the channels."""
    return np.moveaxis(rows.reshape(shape[0], *shape[2:], shape[1]), -1, 1)


def conv_float(site: Site) -> None:
    """dynq.ConvFloat: panels of 16 outputs of a group."""
    weight = site.node.inputs[1]
    attributes = {name: site.node.attributes[name] for name in _WINDOW if name in site.node.attributes}
    panels = None if weight is None else weight.array
    assert weight is not None
    if panels is None or "kernel_shape" not in attributes:
        raise Unsupported("dynq.ConvFloat whose weight is not constant, or without kernel_shape")
    groups, count, k, width = panels.shape
    kernel = [int(size) for size in attributes["kernel_shape"]]  # type: ignore[union-attr]
    m = site.integer("channels", groups * count * width)
    shape = (m, k // max(int(np.prod(kernel)), 1), *kernel)

    def make() -> Array:
        rows = panels.swapaxes(2, 3).reshape(groups, count * width, k)[:, : m // groups]
        return _unpacked(rows.reshape(m, k), shape)

    w = site.draft.constant((weight, shape), weight.name, "float32", shape, make)
    y = site.op("Conv", site.need(0), w, site.input(2), **attributes, group=groups)
    site.gives(activate(site, y, site.text("activation", "none")))


def gelu(site: Site) -> None:
    tanh = site.text("approximate", "none") == "tanh"
    site.gives(activate(site, site.need(0), "gelu_tanh" if tanh else "gelu"))


def swish(site: Site) -> None:
    x, alpha = site.need(0), site.number("alpha", 1.0)
    scaled = x if alpha == 1 else site.op("Mul", x, site.array(FLOAT32.type(alpha)))
    site.gives(site.op("Mul", x, site.op("Sigmoid", scaled)))


def rms_normalization(site: Site) -> None:
    """``x / sqrt(mean of x^2 + epsilon) * scale`` over the dimensions from ``axis`` on."""
    x, axis = site.need(0), site.integer("axis", -1)
    of_x = site.node.inputs[0]
    if axis >= 0:
        if of_x is None or of_x.shape is None:
            raise Unsupported("RMSNormalization of a tensor whose rank is not known")
        axis -= len(of_x.shape)
    mean = site.op("ReduceMean", site.op("Mul", x, x), site.array(list(range(axis, 0))), keepdims=1)
    root = site.op("Sqrt", site.op("Add", mean, site.array(FLOAT32.type(site.number("epsilon", 1e-5)))))
    site.gives(site.op("Mul", site.op("Div", x, root), site.need(1)))


def constant_of_shape(site: Site) -> None:
    """Its value is an input in dynq."""
    value = site.input(1)
    value = site.array(0.0) if value is None else site.op("Reshape", value, site.array(np.empty(0, np.int64)))
    site.gives(site.op("Expand", value, site.need(0)))
