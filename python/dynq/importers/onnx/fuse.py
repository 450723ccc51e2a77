"""Replace the nodes that ONNX Runtime's quantize_dynamic writes for a linear layer by a dynq.Linear by tensor.

It gives the same bits.
"""

from __future__ import annotations

import numpy as np

from ...core.arguments import FLOAT32, Array
from ...graph import Graph, Node, Value
from ...passes.dead_code import dead_code
from ...passes.rewrite import Uses, constant_of, is_op, other_input
from ...weights import QuantizedWeight
from .ops.quantized import PackedIntegers

__all__ = ["fuse_dynamic_linear"]


def fuse_dynamic_linear(graph: Graph) -> None:
    """Find ``Cast(MatMulInteger(q, w, z)) * (s * scale)`` with q, s and z from the DynamicQuantizeLinear of one x.

    The product of scales, the conversion to float and the one rounding after it are those of dynq.Linear's rule.
    """
    uses = Uses(graph)
    for node in list(graph.nodes):
        cast = next((n for n in (is_op(v, "Cast") for v in node.inputs) if n is not None), None)
        if node.op != "Mul" or cast is None or cast.attributes["to"] != 1:
            continue
        product = is_op(cast.need("input"), "dynq.MatMulIntegerPacked")
        factor = is_op(other_input(node, _output(cast)), "Mul")
        if product is None or factor is None or uses.only_reader(cast.outputs[0]) is not node:
            continue
        if uses.only_reader(product.outputs[0]) is not cast:
            continue
        source = _quantizer(product)
        scale = None if source is None else _scale(factor, source)
        weight = product.need("weight")
        if source is None or scale is None or weight.shape is None:
            continue
        scaled = _scaled(weight.constant, scale)
        if scaled is None:
            continue
        linear = product
        uses.set_inputs(linear, [source.need("x"), graph.constant_for(scaled, weight)])
        linear.op, linear.attributes = "dynq.Linear", {"scheme": "asymmetric", "granularity": "tensor"}
        uses.take_over(linear, node)
    graph.sort()
    dead_code(graph)


def _output(node: Node) -> Value:
    output = node.outputs[0]
    assert output is not None
    return output


def _quantizer(product: Node) -> Node | None:
    """Return the DynamicQuantizeLinear whose integers and zero-point a product takes."""
    source, zero_point = is_op(product.need("a"), "DynamicQuantizeLinear"), product.input("a_zero_point")
    if source is None or zero_point is None or len(source.outputs) < 3:
        return None
    return source if source.outputs[2] is zero_point else None


def _scale(factor: Node, source: Node) -> Array | None:
    """Return the constant that the scale of the input is multiplied by: one number, or one for each channel."""
    scale = source.outputs[1]
    if scale is None or scale not in factor.inputs:
        return None
    other = constant_of(other_input(factor, scale))
    return other if other is not None and other.dtype == FLOAT32 and other.ndim <= 1 else None


def _scaled(weight: object, scale: Array) -> QuantizedWeight | PackedIntegers | None:
    """Return the weight with ``scale``; None if no weight can have that scale."""
    if not np.isfinite(scale).all() or not (scale > 0).all():
        return None
    if isinstance(weight, PackedIntegers):
        return weight.scaled(scale) if scale.size in (1, weight.shape[0]) else None
    if isinstance(weight, QuantizedWeight) and scale.size in (1, weight.shape[0]):
        scales = scale.reshape(-1) if scale.size > 1 else scale.reshape(())
        return QuantizedWeight.from_integers(weight.integers(), scales, weight.zero_point)
    return None
