"""Normalizations of ONNX Runtime: before opset 17 it has them in ONNX's own domain too."""

from __future__ import annotations

import numpy as np

from ....graph import Value
from ....ir.given import ONNX_TYPES
from ..attributes import FLOAT, INT, one_of
from ..convert import Call, Result, converter
from .dequantized import dequantized

_norm = {"axis": INT, "epsilon": FLOAT, "stash_type": one_of(1)}


@converter("LayerNormalization", domain="com.microsoft", also=_norm)
@converter("LayerNormalization", until=17, also=_norm)
def layer_normalization(call: Call) -> Result:
    return call.emit()


@converter("SimplifiedLayerNormalization", domain="com.microsoft", also=_norm)
@converter("SimplifiedLayerNormalization", also=_norm)
def simplified_layer_normalization(call: Call) -> Result:
    """x, scale"""
    call.only_first_output()
    return call.emit("RMSNormalization", [call.need(0), call.need(1)], **call.attributes)


@converter("SkipSimplifiedLayerNormalization", domain="com.microsoft", epsilon=FLOAT)
def skip_simplified_layer_normalization(call: Call) -> Result:
    """input, skip, gamma, bias?: the sum is output 3."""
    x = call.node("Add", [call.need(0), call.need(1)])
    if call.input(3) is not None:
        x = call.node("Add", [x, call.need(3)])
    call.outputs[3:] = []
    call.only_first_output()
    y = call.last("RMSNormalization", [x, call.need(2)], axis=-1, epsilon=call.attribute("epsilon", 1e-12))
    return [y, None, None, x]


@converter("EmbedLayerNormalization", domain="com.microsoft", epsilon=FLOAT, mask_index_type=one_of(0, 1))
def embed_layer_normalization(call: Call) -> Result:
    """ids, segment ids?, words, positions, segments?, gamma, beta, mask?, position ids?

    Output 1 counts the ones of the mask in each row; it is 0 without a mask. Output 2 is the sum before the norm.
    """
    segments = None if call.input(1) is None else call.need(4)
    tables = call.need(2), call.need(3), segments
    return _embedded(call, *tables, call.need(5), call.need(6), call.input(8))


@converter("QEmbedLayerNormalization", domain="com.microsoft", epsilon=FLOAT)
def quantized_embed_layer_normalization(call: Call) -> Result:
    """Take the floats that the integers stand for: ids, segment ids?, words, positions, segments?, gamma, beta, mask?.

    Scales of words, positions, segments?, gamma and beta follow, and then their zero points.
    """

    def table(index: int) -> Value:
        return dequantized(call, call.need(index), call.need(index + 6), call.need(index + 11), 0)

    segments = None if call.input(1) is None else table(4)
    return _embedded(call, table(2), table(3), segments, table(5), table(6), None)


def _embedded(
    call: Call, words: Value, places: Value, segments: Value | None, gamma: Value, beta: Value, at: Value | None
) -> Result:
    """Emit the norm of the sum of rows of tables. ``at``: position ids."""
    ids = call.need(0)
    x = call.node("Gather", [words, ids], axis=0)
    x = call.node("Add", [x, _first(call, places, ids) if at is None else call.node("Gather", [places, at], axis=0)])
    if segments is not None:
        x = call.node("Add", [x, call.node("Gather", [segments, call.need(1)], axis=0)])
    count = _count(call, ids) if call.output_read(1) else None
    call.outputs[1:] = []
    y = call.last("LayerNormalization", [x, gamma, beta], epsilon=call.attribute("epsilon", 1e-12))
    return [y, count, x]


def _first(call: Call, table: Value, ids: Value) -> Value:
    """Return as many rows of a table as ``ids`` (batch, length) has columns."""
    zero, end = (call.constant(np.array([i], np.int64)) for i in (0, 1))
    length = call.node("Shape", [ids], start=1, end=2)
    return call.node("Slice", [table, zero, length, zero, end])


def _count(call: Call, ids: Value) -> Value:
    axes = call.constant(np.array([1], np.int64), "axes")
    mask = call.input(7)
    if mask is None:
        zeros = call.node("Mul", [ids, call.constant(np.zeros((), ids.dtype))])
        return call.node("ReduceSum", [call.node("Cast", [zeros], to=ONNX_TYPES["int32"]), axes], keepdims=0)
    ones = call.node("Equal", [mask, call.constant(np.ones((), mask.dtype))])
    return call.node("ReduceSum", [call.node("Cast", [ones], to=ONNX_TYPES["int32"]), axes], keepdims=0)
