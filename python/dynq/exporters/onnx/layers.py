"""Write dynq's other ops, and ONNX's that are newer than the opset, as operators that runtimes have."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ...conversion import Unsupported
from ...core.arguments import FLOAT32, Array
from ...ir.conv_panels import conv_float_rows
from ...ir.given import ONNX_NAMES, ONNX_TYPES, Attributes
from ...ir.values import Value
from .draft import Edge, Site, weight_of
from .quantized import activate, activate_layer, dynamic_product, fixed, quantize, scheme_of

__all__ = [
    "attention",
    "constant_of_shape",
    "conv",
    "conv_float",
    "embedding",
    "gelu",
    "quantize_linear",
    "rms_normalization",
    "rotary",
    "same",
    "swish",
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


def rotary(site: Site) -> None:
    """Write dynq.Rotary: x * cos + turned * sin, where turned has the other column of each pair, the first negated."""
    x, shape, turned = site.need("x"), site.node.need("x").shape, site.node.need("cos").shape
    width = shape[-1] if shape else None
    if not isinstance(width, int) or not turned or turned[-1] != width:
        raise Unsupported("dynq.Rotary of some of the columns, or of a width that is not known")

    def part(start: int, end: int, step: int) -> Edge:
        return site.op("Slice", x, *(site.array([number]) for number in (start, end, -1, step)))

    if site.integer("interleaved", 0):
        first, second = part(0, width, 2), part(1, width, 2)
        parts = [site.op("Unsqueeze", edge, site.array([-1])) for edge in (site.op("Neg", second), first)]
        other = site.op("Reshape", site.op("Concat", *parts, axis=-1), site.op("Shape", x))
    else:
        first, second = part(0, width // 2, 1), part(width // 2, width, 1)
        other = site.op("Concat", site.op("Neg", second), first, axis=-1)
    products = site.op("Mul", x, site.need("cos")), site.op("Mul", other, site.need("sin"))
    site.gives(site.op("Add", *products))


def attention(site: Site) -> None:
    """Write dynq.Attention: softmax(q k^T scale + mask) v for each head."""
    heads = site.integer("heads", 1)
    values = {name: site.node.input(name) for name in ("q", "k", "v")}
    q, k, v, mask = (site.input(name) for name in ("q", "k", "v", "mask"))
    size, shared = _sizes(values, heads)
    if k is None or v is None:
        q, k, v = site.ops("Split", [q], 3, axis=-1, num_outputs=3)
    if size is None and "scale" not in site.node.attributes:
        raise Unsupported("dynq.Attention without a scale and of a width that is not known")
    scale = FLOAT32.type(site.number("scale", 0.0))
    if "scale" not in site.node.attributes:
        scale = FLOAT32.type(1) / np.sqrt(FLOAT32.type(size or 0))
    softcap = FLOAT32.type(site.number("softcap", 0.0))
    of_v = values["v"]
    q = _heads(site, q, values["q"], heads, heads)
    v = _heads(site, v, of_v or values["q"], heads, shared)
    k = site.op("Transpose", _heads(site, k, values["k"] or values["q"], heads, shared), perm=[0, 1, 3, 2])
    quantized = bool(site.integer("quantize", 0)) and site.draft.form == "dynamic"
    factor = scale if softcap == 0 else scale / softcap
    scores = site.op("Mul", _product(site, q, k, quantized), site.array(FLOAT32.type(factor), "scale"))
    if softcap != 0:
        scores = site.op("Mul", site.op("Tanh", scores), site.array(softcap, "softcap"))
    of_mask = site.node.input("mask")
    boolean = of_mask is not None and of_mask.dtype == "bool"
    if mask is not None and of_mask is not None and of_mask.dtype is None:
        raise Unsupported("dynq.Attention whose mask is of a dtype that is not known")
    if mask is not None:
        minus = site.array(FLOAT32.type(-np.inf), "minus_infinity")
        scores = site.op("Where", mask, scores, minus) if boolean else site.op("Add", scores, mask)
    weights = site.op("Softmax", scores, axis=-1)
    if boolean:  # a query without any key gets zeros
        weights = site.op("Where", mask, weights, site.array(0.0))
    y = site.op("Transpose", _product(site, weights, v, quantized), perm=[0, 2, 1, 3])
    site.gives(site.op("Reshape", y, site.array([0, 0, -1], "joined")))


def _sizes(values: Mapping[str, Value | None], heads: int) -> tuple[int | None, int]:
    """Return the size of a head of q, if it is known, and the heads of k and v."""
    q, k = (None if value is None else value.shape for value in (values["q"], values["k"]))
    width = q[-1] if q else None
    size = None if not isinstance(width, int) or q is None else width if len(q) == 4 else width // heads
    if values["k"] is None:
        return None if size is None else size // 3, heads
    if k is not None and len(k) == 4:
        return size, k[1] if isinstance(k[1], int) else heads
    of_k = k[-1] if k else None
    return size, of_k // size if isinstance(of_k, int) and size else heads


def _heads(site: Site, x: Edge | None, value: Value | None, heads: int, shared: int) -> Edge:
    """Write (B, H, S, D) of that, or of rows (B, S, G * D): each of the G heads again for those that share it."""
    assert x is not None and value is not None
    if value.shape is None or len(value.shape) == 3:
        rows = site.op("Reshape", x, site.array([0, 0, shared, -1], "heads" if shared == heads else "shared_heads"))
        x = site.op("Transpose", rows, perm=[0, 2, 1, 3])
    if shared == heads:
        return x
    width = value.shape[-1] if value.shape else None
    if not isinstance(width, int) or value.shape is None:
        raise Unsupported("dynq.Attention that shares heads of a width that is not known")
    size = width if len(value.shape) == 4 else width // shared
    wide = site.op("Expand", site.op("Unsqueeze", x, site.array([2])), site.array([1, 1, heads // shared, 1, 1]))
    return site.op("Reshape", wide, site.array([0, heads, -1, size]))


def _product(site: Site, a: Edge, b: Edge, quantized: bool) -> Edge:
    if not quantized:
        return site.op("MatMul", a, b)
    scheme, _ = scheme_of(site)
    return dynamic_product(site, a, b, scheme, site.draft.granularity != "tensor")


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


def gelu(site: Site) -> None:
    tanh = site.text("approximate", "none") == "tanh"
    site.gives(activate(site, site.need("X"), "gelu_tanh" if tanh else "gelu"))


def swish(site: Site) -> None:
    x, alpha = site.need("X"), site.number("alpha", 1.0)
    scaled = x if alpha == 1 else site.op("Mul", x, site.array(FLOAT32.type(alpha)))
    site.gives(site.op("Mul", x, site.op("Sigmoid", scaled)))


def rms_normalization(site: Site) -> None:
    """Write ``x / sqrt(mean of x^2 + epsilon) * scale`` over the dimensions from ``axis`` on."""
    x, axis = site.need("X"), site.integer("axis", -1)
    if axis >= 0:
        shape = site.node.need("X").shape
        if shape is None:
            raise Unsupported("RMSNormalization of a tensor whose rank is not known")
        axis -= len(shape)
    mean = site.op("ReduceMean", site.op("Mul", x, x), site.array(list(range(axis, 0))), keepdims=1)
    root = site.op("Sqrt", site.op("Add", mean, site.array(FLOAT32.type(site.number("epsilon", 1e-5)))))
    site.gives(site.op("Mul", site.op("Div", x, root), site.need("scale")))


def constant_of_shape(site: Site) -> None:
    """Write ConstantOfShape, whose value is an input in dynq."""
    value = site.input("value")
    value = site.array(0.0) if value is None else site.op("Reshape", value, site.array(np.empty(0, np.int64)))
    site.gives(site.op("Expand", value, site.need("input")))
