"""Write products of int8 weights: with integers of ONNX (form "dynamic"), or of the dequantized weight (form "qdq").

Form "dynamic" computes docs/numerics.md to the bit, as far as ONNX's operators are exact. One range for a tensor
becomes DynamicQuantizeLinear. A range for each row is written in its parts. Its zero-points are taken off the sums
after the product, since MatMulInteger takes only one of them.
"""

from __future__ import annotations

import numpy as np

from ...conversion import Unsupported
from ...core.arguments import FLOAT32, INT32, UINT8
from ...ir.given import ONNX_TYPES
from ...ir.values import Value
from ...weights import QuantizedWeight
from ..composed import activate_layer
from ..site import weight_of
from .draft import Edge, Site

__all__ = [
    "dequantized",
    "dynamic_product",
    "fixed",
    "linear",
    "matmul_dynamic",
    "matmul_integer",
    "quantize",
    "quantize_rows",
    "scheme_of",
]

_LARGEST_K = 65536  # a sum of more may not fit into int32


class Quantized:
    """An operand as ONNX's integers: ``float = (q - zero_point) * scale``."""

    def __init__(self, q: Edge, scale: Edge, zero_point: Edge | None, rows: Edge | None = None) -> None:
        self.q = q  # uint8 or int8
        self.scale = scale  # a scalar, or one for each row with a last dimension of 1
        self.zero_point = zero_point  # a scalar of q's type that MatMulInteger takes
        self.rows = rows  # or int32 zero-points for each row, which are subtracted from the sums


def linear(site: Site) -> None:
    """Write dynq.Linear and dynq.LinearFloat."""
    weight = site.node.need("weight")
    if site.node.op == "dynq.LinearFloat":
        y = site.op("MatMul", site.need("x"), site.need("weight"))
    elif weight_of(weight) is None:  # a graph that is not built: float (N, K)
        y = site.op("MatMul", site.need("x"), _transposed(site, weight))
    elif site.draft.form == "qdq":
        y = site.op("MatMul", site.need("x"), dequantized(site, weight))
    else:
        y = _dynamic_linear(site, weight)
    for name in ("bias", "residual"):
        added = site.input(name)
        y = y if added is None else site.op("Add", y, added)
    site.gives(activate_layer(site, y))


def _transposed(site: Site, weight: Value) -> Edge:
    array = weight.array
    if array is None:
        raise Unsupported("a weight that is not constant")
    return site.draft.constant((weight, "transposed"), weight.name, "float32", array.shape[::-1], lambda: array.T)


def _dynamic_linear(site: Site, weight: Value) -> Edge:
    x = site.need("x")
    packed = weight_of(weight)
    assert packed is not None
    scheme, per_row = scheme_of(site)
    if site.integer("bits", 8) != 8:
        raise Unsupported("inputs of 16 bits in form 'dynamic'")
    if site.integer("group", 0):
        raise Unsupported("a scale for each group of the inputs in form 'dynamic'")
    a = fixed(site, x, scheme) if "lo" in site.node.attributes else quantize(site, x, scheme, per_row)
    return _scaled(site, integer_product(site, a, weight, packed), a.scale, _scales(site, weight, packed))


def scheme_of(site: Site) -> tuple[str, bool]:
    """Return the scheme, and whether each row has a range of its own."""
    granularity = site.draft.granularity or site.text("granularity", "row")
    return site.text("scheme", "asymmetric"), granularity == "row"


def quantize(site: Site, x: Edge, scheme: str, per_row: bool) -> Quantized:
    """Quantize x: find its range, and return x as integers."""
    if scheme == "asymmetric" and not per_row:
        q, scale, zero = site.ops("DynamicQuantizeLinear", [x], 3)
        return Quantized(q, scale, zero)
    axes = [site.array([-1])] if per_row else []
    if scheme == "symmetric":
        largest = site.op("ReduceMax", site.op("Abs", x), *axes, keepdims=int(per_row))
        scale = _not_zero(site, site.op("Div", largest, site.array(127.0)))
        return Quantized(_rounded(site, x, scale, None, -127.0, 127.0, "int8"), scale, None)
    zero = site.array(0.0)
    low = site.op("Min", site.op("ReduceMin", x, *axes, keepdims=1), zero)
    high = site.op("Max", site.op("ReduceMax", x, *axes, keepdims=1), zero)
    scale = _not_zero(site, site.op("Div", site.op("Sub", high, low), site.array(255.0)))
    point = site.op("Round", site.op("Div", site.op("Neg", low), scale))
    point = site.op("Clip", point, zero, site.array(255.0))
    q = _rounded(site, x, scale, point, 0.0, 255.0, "uint8")
    return Quantized(q, scale, None, site.op("Cast", point, to=ONNX_TYPES["int32"]))


def _not_zero(site: Site, scale: Edge) -> Edge:
    return site.op("Where", site.op("Equal", scale, site.array(0.0)), site.array(1.0), scale)


def _rounded(site: Site, x: Edge, scale: Edge, point: Edge | None, low: float, high: float, dtype: str) -> Edge:
    q = site.op("Round", site.op("Div", x, scale))
    q = q if point is None else site.op("Add", q, point)
    return site.op("Cast", site.op("Clip", q, site.array(low), site.array(high)), to=ONNX_TYPES[dtype])


def fixed(site: Site, x: Edge, scheme: str) -> Quantized:
    """Quantize x with a range that the model fixes: scale and zero-point are constants."""
    low, high = (FLOAT32.type(site.number(name, 0.0)) for name in ("lo", "hi"))
    low, high = min(low, FLOAT32.type(0)), max(high, FLOAT32.type(0))
    with np.errstate(over="ignore"):
        scale = high - low
    scale = scale / FLOAT32.type(255) if np.isfinite(scale) else high / FLOAT32.type(255) - low / FLOAT32.type(255)
    if scheme == "symmetric":
        scale = max(-low, high) / FLOAT32.type(127)
    scale = FLOAT32.type(1) if scale == 0 else FLOAT32.type(scale)
    step = site.array(scale, "scale")
    if scheme == "symmetric":
        return Quantized(_rounded(site, x, step, None, -127.0, 127.0, "int8"), step, None)
    zero = site.array(np.clip(np.rint(-low / scale), 0, 255).astype(UINT8), "zero_point")
    return Quantized(site.op("QuantizeLinear", x, step, zero), step, zero)


def integer_product(site: Site, a: Quantized, weight: Value, packed: QuantizedWeight) -> Edge:
    """Return ``Σ (q - zero_point) * (w - w_zero_point)``, int32."""
    n, k = packed.shape
    if k > _LARGEST_K:
        raise Unsupported(f"K over {_LARGEST_K} in form 'dynamic'")
    w = site.draft.constant((weight, "integers"), weight.name, "int8", (k, n), lambda: packed.integers().T)
    points = packed.zero_point
    zeros = None if points is None else site.array(points.astype(np.int8), "weight_zero_point")
    y = site.op("MatMulInteger", a.q, w, a.zero_point, zeros)
    if a.rows is None:
        return y
    sums = packed.integers().sum(axis=1, dtype=INT32)
    sums = sums if points is None else sums - INT32.type(k) * points
    return site.op("Sub", y, site.op("Mul", a.rows, site.array(sums.astype(INT32), "column_sum")))


def _scales(site: Site, weight: Value, packed: QuantizedWeight) -> Edge:
    scale = packed.scale
    return site.draft.constant(
        (weight, "scale"), f"{weight.name}.scale", "float32", scale.shape, lambda: np.array(scale)
    )


def _scaled(site: Site, sums: Edge, a_scale: Edge, w_scale: Edge) -> Edge:
    """Return ``float32(acc) * (scale_a * scale_w)``."""
    return site.op("Mul", site.op("Cast", sums, to=ONNX_TYPES["float32"]), site.op("Mul", a_scale, w_scale))


def dequantized(site: Site, weight: Value) -> Edge:
    """Return the weight as floats (K, N): DequantizeLinear of the integers."""
    packed = weight_of(weight)
    assert packed is not None
    n, k = packed.shape
    w = site.draft.constant((weight, "integers"), weight.name, "int8", (k, n), lambda: packed.integers().T)
    points = packed.zero_point
    zeros = None if points is None else site.array(points.astype(np.int8), "weight_zero_point")
    return site.op("DequantizeLinear", w, _scales(site, weight, packed), zeros, axis=1)


def matmul_integer(site: Site) -> None:
    """Write dynq.MatMulIntegerPacked."""
    weight = site.node.need("weight")
    packed = weight_of(weight)
    assert packed is not None
    a = Quantized(site.need("a"), site.need("a"), site.input("a_zero_point"))
    site.gives(integer_product(site, a, weight, packed))


def quantize_rows(site: Site) -> None:
    """Write dynq.QuantizeRows, whose ties go away from zero."""
    x, last = site.need("x"), site.array([-1])
    zero, one = site.array(0.0), site.array(1.0)
    lo = site.op("Min", site.op("ReduceMin", x, last, keepdims=1), zero)
    hi = site.op("Max", site.op("ReduceMax", x, last, keepdims=1), zero)
    if site.text("scheme", "asymmetric") == "symmetric":
        most, steps = site.op("Max", site.op("Neg", lo), hi), site.array(127.0)
        nothing = site.op("Equal", most, zero)
        scale, inverse = site.op("Div", most, steps), site.op("Div", steps, most)
        zero_point, least = site.op("Mul", lo, zero), -127.0
    else:
        nothing, least = site.op("Equal", lo, hi), -128.0
        scale = site.op("Div", site.op("Sub", hi, lo), site.array(255.0))
        inverse, below, above = (site.op("Div", value, scale) for value in (one, lo, hi))
        at_low = site.op("Add", site.op("Abs", below), site.array(128.0))
        at_high = site.op("Add", site.op("Abs", above), site.array(127.0))
        ends = site.op("Sub", site.array(-128.0), below), site.op("Sub", site.array(127.0), above)
        zero_point = site.op("Where", site.op("Less", at_low, at_high), *ends)
        zero_point = _rounded_away(site, site.op("Where", nothing, zero, zero_point))
        zero_point = site.op("Clip", zero_point, site.array(least), site.array(127.0))
    scale, inverse = (site.op("Where", nothing, one, value) for value in (scale, inverse))
    value = site.op("Add", _rounded_away(site, site.op("Mul", x, inverse)), zero_point)
    value = site.op("Clip", value, site.array(least), site.array(127.0))
    rows = [site.op("Squeeze", value, last) for value in (scale, zero_point)]
    site.gives(site.op("Cast", value, to=ONNX_TYPES["int8"]), rows[0], site.op("Cast", rows[1], to=ONNX_TYPES["int8"]))


def _rounded_away(site: Site, x: Edge) -> Edge:
    """Return the nearest whole numbers; a half goes away from zero."""
    x = site.op("Clip", x, site.array(-512.0), site.array(512.0))
    whole = site.op("Cast", site.op("Cast", x, to=ONNX_TYPES["int32"]), to=ONNX_TYPES["float32"])
    rest = site.op("Sub", x, whole)
    up = site.op("Cast", site.op("GreaterOrEqual", rest, site.array(0.5)), to=ONNX_TYPES["float32"])
    down = site.op("Cast", site.op("LessOrEqual", rest, site.array(-0.5)), to=ONNX_TYPES["float32"])
    return site.op("Sub", site.op("Add", whole, up), down)


def matmul_dynamic(site: Site) -> None:
    """Write dynq.MatMulDynamic: both sides are quantized while the model runs."""
    a, b = site.need("a"), site.need("b")
    if site.draft.form == "qdq":
        site.gives(site.op("MatMul", a, b))
    else:
        site.gives(dynamic_product(site, a, b, *scheme_of(site)))


def dynamic_product(site: Site, a: Edge, b: Edge, scheme: str, per_row: bool) -> Edge:
    """Return ``a b``. a is quantized like the input of a linear layer, b symmetrically for each column."""
    left = quantize(site, a, scheme, per_row)
    axes = site.array([-2])
    largest = site.op("ReduceMax", site.op("Abs", b), axes, keepdims=1)
    scale = _not_zero(site, site.op("Div", largest, site.array(127.0)))
    q = _rounded(site, b, scale, None, -127.0, 127.0, "int8")
    y = site.op("MatMulInteger", left.q, q, left.zero_point)
    if left.rows is not None:
        sums = site.op("ReduceSum", site.op("Cast", q, to=ONNX_TYPES["int32"]), axes, keepdims=1)
        y = site.op("Sub", y, site.op("Mul", left.rows, sums))
    return _scaled(site, y, left.scale, scale)
