"""Ops of ONNX Runtime (domain com.microsoft) that its optimizer and quantizer write."""

from __future__ import annotations

from functools import partial

from ....graph import Value
from ..attributes import FLOAT, INT
from ..convert import Call, Result
from ..convert import converter as any_converter
from .pointwise import one
from .quantized import packed

converter = partial(any_converter, domain="com.microsoft")


@converter("Gelu")
def gelu(call: Call) -> Result:
    return call.emit("Gelu", [call.need(0)])


@converter("BiasGelu")
def bias_gelu(call: Call) -> Result:
    return call.emit("Gelu", [call.node("Add", [call.need(0), call.need(1)])])


@converter("FastGelu")
def fast_gelu(call: Call) -> Result:
    x = call.need(0) if call.input(1) is None else call.node("Add", [call.need(0), call.need(1)])
    return call.emit("Gelu", [x], approximate="tanh")


@converter("QuickGelu", alpha=FLOAT)
def quick_gelu(call: Call) -> Result:
    x = call.need(0)
    scaled = call.node("Mul", [x, one(call, call.attribute("alpha", 1.702))])
    return call.emit("Mul", [x, call.node("Sigmoid", [scaled])])


@converter("SkipLayerNormalization", epsilon=FLOAT)
def skip_layer_normalization(call: Call) -> Result:
    """input, skip, gamma, beta?, bias?: the sum is output 3."""
    x = call.node("Add", [call.need(0), call.need(1)])
    if call.input(4) is not None:
        x = call.node("Add", [x, call.need(4)])
    inputs = [x, call.need(2), *([] if call.input(3) is None else [call.need(3)])]
    if call.output_read(1) or call.output_read(2):
        call.outputs[3:] = []
        call.only_first_output()
    y = call.last("LayerNormalization", inputs, axis=-1, epsilon=call.attribute("epsilon", 1e-12))
    return [y, None, None, x]


@converter("FusedMatMul", alpha=FLOAT, transA=INT, transB=INT, transBatchA=INT, transBatchB=INT)
def fused_mat_mul(call: Call) -> Result:
    """Multiply matrices. transBatch: the rows are the first axis, before those of the batch."""
    a, b = _oriented(call, 0, "A"), _oriented(call, 1, "B")
    alpha = call.attribute("alpha", 1.0)
    if alpha == 1.0:
        return call.emit("MatMul", [a, b])
    return call.emit("Mul", [call.node("MatMul", [a, b]), one(call, alpha)])


def _oriented(call: Call, index: int, name: str) -> Value:
    x, swap, last = call.need(index), call.attribute(f"trans{name}", 0), call.attribute(f"transBatch{name}", 0)
    rank = call.rank(index) if swap or last else 0
    if rank < 2:  # a vector has nothing to exchange
        return x
    perm = [*range(1, rank - 1), 0, rank - 1] if last else list(range(rank))
    if swap:
        perm[-2:] = perm[:-3:-1]
    return x if perm == sorted(perm) else call.node("Transpose", [x], perm=perm)


@converter("MatMulIntegerToFloat")
def mat_mul_integer_to_float(call: Call) -> Result:
    """a, b, a_scale, b_scale, a_zero_point?, b_zero_point?, bias?"""
    return _scaled_product(
        call, call.need(0), call.need(1), call.need(2), call.need(3), call.input(4), call.input(5), call.input(6)
    )


@converter("DynamicQuantizeMatMul")
def dynamic_quantize_mat_mul(call: Call) -> Result:
    """a, b, b_scale, b_zero_point?, bias?"""
    q, scale, zero_point = call.nodes("DynamicQuantizeLinear", [call.need(0)], 3)
    return _scaled_product(call, q, call.need(1), scale, call.need(2), zero_point, call.input(3), call.input(4))


def _scaled_product(
    call: Call, a: Value, b: Value, a_scale: Value, b_scale: Value, a_zero_point: Value | None,
    b_zero_point: Value | None, bias: Value | None,
) -> Result:  # fmt: skip
    weight = packed(call, b, b_zero_point)
    if weight is None:
        y = call.node("MatMulInteger", [a, b, a_zero_point, b_zero_point])
    else:
        y = call.node("dynq.MatMulIntegerPacked", [a, weight, a_zero_point])
    factor = call.node("Mul", [a_scale, b_scale])
    y = call.node("Cast", [y], to=1)
    if bias is None:
        return call.emit("Mul", [y, factor])
    return call.emit("Add", [call.node("Mul", [y, factor]), bias])
