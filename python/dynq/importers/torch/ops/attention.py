"""Attention, in the parts in which the passes find it."""

from __future__ import annotations

import math

import numpy as np

from ....conversion import Unsupported
from ....graph import Value
from ..call import Call, Result, converter
from .products import transposed


@converter("scaled_dot_product_attention")
def scaled_dot_product_attention(call: Call) -> Result:
    """``softmax(q k^T * scale + mask) v``; a bool mask is true where a key is looked at, and a query that looks at none
    gets zeros."""
    if call.fixed("dropout_p"):
        raise Unsupported(f"{call.op} with dropout_p = {call.fixed('dropout_p')}")
    q, k, v = (call.value(name) for name in ("query", "key", "value"))
    rank, width = call.rank("query"), call.fake("query").shape[-1]
    if rank < 3:
        raise Unsupported(f"{call.op} of {rank} dimensions")
    if call.fixed("enable_gqa"):
        k, v = (_repeated(call, value, name) for value, name in ((k, "key"), (v, "value")))
    scale = call.fixed("scale")
    if scale is None:
        if not isinstance(width, int):
            raise Unsupported(f"{call.op} whose width depends on the run")
        scale = 1 / math.sqrt(width)
    scores = call.node("Mul", [call.node("MatMul", [q, transposed(call, k, rank)]), call.floats(scale)])
    mask = call.optional("attn_mask")
    guard = False
    if call.fixed("is_causal"):
        mask = _causal(call)
    if mask is not None:
        mask = call.narrow(mask)
        if mask.dtype == "bool":
            guard = not call.fixed("is_causal")
            mask = call.node("Where", [mask, call.floats(0), call.floats(-math.inf)])
        scores = call.node("Add", [scores, call.cast(mask, "float32")])
    weights = call.node("Softmax", [scores], axis=-1)
    if guard:
        weights = call.node("Where", [call.node("IsNaN", [weights]), call.floats(0), weights])
    return call.emit("MatMul", [weights, v])


def _causal(call: Call) -> Value:
    """(S, T): query i looks at the keys up to i."""
    rows, columns = call.fake("query").shape[-2], call.fake("key").shape[-2]
    if isinstance(rows, int) and isinstance(columns, int):
        return call.constant(np.tri(rows, columns, dtype=bool))
    numbers = [call.node("Range", [call.scalar(0), call.scalar(size), call.scalar(1)]) for size in (rows, columns)]
    for value, size in zip(numbers, (rows, columns), strict=True):
        value.dtype, value.shape = "int64", call.dims([size])
    return call.node("LessOrEqual", [call.unsqueeze(numbers[1], 0), call.unsqueeze(numbers[0], 1)])


def _repeated(call: Call, x: Value, name: str) -> Value:
    """Heads of keys and values that several heads of queries share."""
    sizes = list(call.fake(name).shape)
    times = call.fake("query").shape[-3] // sizes[-3]
    if times == 1:
        return x
    at = len(sizes) - 3
    wide = call.expand(call.unsqueeze(x, at + 1), [*sizes[: at + 1], times, *sizes[at + 1 :]])
    return call.reshape(wide, [*sizes[:at], sizes[at] * times, *sizes[at + 1 :]])
