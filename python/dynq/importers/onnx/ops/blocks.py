"""Weights of few bits with a scale for each block: constants of the floats that they stand for.

Layers of them are quantized as any other, to int8, which the report says.
"""

from __future__ import annotations

import math

import numpy as np
from onnx import TensorProto

from ....conversion import Unsupported
from ....core.arguments import Array
from ..attributes import INT, Rule, one_of, unused
from ..convert import Call, Result, converter
from .dequantized import blocked, constant_of
from .quantized import dequantize_linear

_FLOATS = Rule("int", (0, 1, 10, 16), keep=False)  # all of them are float32


@converter("DequantizeLinear", since=21, axis=INT, block_size=INT, output_dtype=_FLOATS)
def dequantize_linear_with_blocks(call: Call) -> Result:
    block = call.attributes.pop("block_size", 0)
    if block == 0:
        return dequantize_linear(call)
    if block < 0:
        raise ValueError(f"block_size is {block}; expected 0 or more")
    q, scale = constant_of(call, 0, "blocks of integers"), constant_of(call, 1, "blocks and a scale")
    zero_point = None if call.input(2) is None else constant_of(call, 2, "blocks and a zero point")
    axis = call.attribute("axis", 1)
    if not -q.ndim <= axis < q.ndim:
        raise ValueError(f"axis {axis} of a tensor with {q.ndim} dimensions")
    return call.own_constant(blocked(q, scale, zero_point, axis, block))


@converter(
    "MatMulNBits", domain="com.microsoft",
    K=INT, N=INT, bits=one_of(2, 4, 8), block_size=INT, accuracy_level=unused(), weight_prepacked=one_of(0),
)  # fmt: skip
def mat_mul_n_bits(call: Call) -> Result:
    """a, b, scales, zero_points?, g_idx?, bias?: b has rows of blocks, (N, blocks, bytes of a block)."""
    k, n, block = (call.attribute(name, 0) for name in ("K", "N", "block_size"))
    bits = call.attribute("bits", 4)
    if min(k, n, block) < 1 or block * bits % 8:
        raise ValueError(f"K, N and block_size are {k}, {n} and {block}; expected 1 or more, and blocks of whole bytes")
    blocks = math.ceil(k / block)
    order = None if call.input(4) is None else constant_of(call, 4, "g_idx")
    if order is not None and not np.array_equal(order, np.arange(order.size) // block):
        raise Unsupported("MatMulNBits with g_idx that is not in order")
    q = _bytes(call, 1, "B", n * blocks * block * bits // 8)
    scale = constant_of(call, 2, "scales")
    if scale.size != n * blocks:
        raise ValueError(f"scales has {scale.size} elements; expected {n} * {blocks}")
    zero = np.full((n, blocks), 1 << (bits - 1), np.float32)
    if call.input(3) is not None:
        zero = _zero_points(call, n, blocks, bits)
    weight = _unpacked(q.reshape(n, -1), bits).reshape(n, blocks, block).astype(np.float32)
    weight -= zero[..., None]
    weight *= scale.reshape(n, blocks, 1)
    weight = weight.reshape(n, -1)[:, :k]
    inputs = [call.need(0), call.constant(weight.T, "weight")]
    if call.input(5) is None:
        return call.emit("MatMul", inputs)
    return call.emit("Add", [call.node("MatMul", inputs), call.need(5)])


def _zero_points(call: Call, n: int, blocks: int, bits: int) -> Array:
    """Return (n, blocks) of zero-points that are floats, or integers packed row by row."""
    zero = constant_of(call, 3, "zero_points")
    if zero.dtype == np.float32:
        if zero.size != n * blocks:
            raise ValueError(f"zero_points has {zero.size} elements; expected {n} * {blocks}")
        return zero.reshape(n, blocks)
    packed = _bytes(call, 3, "zero_points", n * math.ceil(blocks * bits / 8))
    return _unpacked(packed.reshape(n, -1), bits)[:, :blocks].astype(np.float32)


def _bytes(call: Call, index: int, name: str, size: int) -> Array:
    array = constant_of(call, index, name)
    if array.dtype != np.uint8 or array.size != size:
        raise ValueError(f"{name} is {array.dtype} with {array.size} elements; expected uint8 with {size}")
    return array


def _unpacked(packed: Array, bits: int) -> Array:
    """Return the integers of bytes along the last axis, those of the lowest bits first."""
    if bits == 8:
        return packed
    parts = [packed >> shift & ((1 << bits) - 1) for shift in range(0, 8, bits)]
    return np.stack(parts, -1).reshape(*packed.shape[:-1], -1)


@converter(
    "GatherBlockQuantized", domain="com.microsoft",
    bits=one_of(4, 8), block_size=INT, gather_axis=INT, quantize_axis=INT,
)  # fmt: skip
def gather_block_quantized(call: Call) -> Result:
    """data, indices, scales, zero_points?: bytes hold numbers of 4 bits along the last axis, of 8 bits one each.

    Without zero points bytes count from their middle, and types of 4 bits from 0.
    """
    data, scale = constant_of(call, 0, "data"), constant_of(call, 2, "scales")
    zero = None if call.input(3) is None else constant_of(call, 3, "zero_points")
    bits, block = call.attribute("bits", 4), call.attribute("block_size", 128)
    if block < 1:
        raise ValueError(f"block_size is {block}; expected 1 or more")
    in_bytes = call.onnx_type(0) == TensorProto.UINT8
    if in_bytes:
        data = _unpacked(data, bits)
        zero = np.full(scale.shape, 1 << (bits - 1), np.uint8) if zero is None else _unpacked(zero, bits)
    axis = call.attribute("quantize_axis", 1)
    if not -data.ndim <= axis < data.ndim or scale.ndim != data.ndim:
        raise ValueError(f"quantize_axis is {axis} and scales has {scale.ndim} dimensions of {data.ndim}")
    if zero is not None:
        zero = zero[..., : scale.shape[-1]]  # a last byte may be half full
    table = call.constant(blocked(data, scale, zero, axis, block), "table")
    return call.emit("Gather", [table, call.need(1)], axis=call.attribute("gather_axis", 0))
