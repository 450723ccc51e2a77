"""Attention of ONNX Runtime, each kind as dynq.Attention on (batch, length, heads * size)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np

from ....conversion import Unsupported
from ....graph import Value
from ....ir.given import ONNX_TYPES
from ..attributes import FLOAT, INT, INTS, Rule, one_of
from ..convert import Call, Result
from ..convert import converter as any_converter
from .dequantized import number, product_of_scales
from .pointwise import one
from .quantized import packed

converter = partial(any_converter, domain="com.microsoft")
_LOWEST = float(np.finfo(np.float32).min)
_common = {"num_heads": INT, "mask_filter_value": FLOAT, "scale": FLOAT, "unidirectional": one_of(0, 1)}
_merged = {**_common, "do_rotary": one_of(0), "past_present_share_buffer": one_of(0)}


@converter("Attention", also=_merged, qkv_hidden_sizes=INTS, rotary_embedding_dim=one_of(0))
def attention(call: Call) -> Result:
    """x, weights, bias?, mask?, past?, attention_bias?, past_sequence_length?"""
    if call.input(6) is not None:
        raise Unsupported("Attention with past_sequence_length")
    qkv = call.node("MatMul", [call.need(0), call.need(1)])
    if call.input(2) is not None:
        qkv = call.node("Add", [qkv, call.need(2)])
    return _of_all(call, qkv, call.input(3), call.input(4), call.input(5))


@converter("QAttention", also=_merged)
def quantized_attention(call: Call) -> Result:
    """x, weights, bias, x_scale, weights_scale, mask?, x_zero_point?, weights_zero_point?, past?

    Integers are multiplied as they are: the products are exact.
    """
    x, weight, zero = call.need(0), call.need(1), call.input(7)
    scale = product_of_scales(call, number(call, call.need(3)), number(call, call.need(4)))
    whole = packed(call, weight, zero)
    x_zero = None if call.input(6) is None else number(call, call.need(6))
    if whole is None:
        product = call.node("MatMulInteger", [x, weight, x_zero, None if zero is None else number(call, zero)])
    else:
        product = call.node("dynq.MatMulIntegerPacked", [x, whole, x_zero])
    y = call.node("Mul", [call.node("Cast", [product], to=ONNX_TYPES["float32"]), scale])
    qkv = call.node("Add", [y, call.need(2)])
    return _of_all(call, qkv, call.input(5), call.input(8), None)


def _of_all(call: Call, qkv: Value, mask: Value | None, past: Value | None, added: Value | None) -> Result:
    """Split queries, keys and values that lie side by side."""
    width = qkv.shape[-1] if qkv.shape else None
    if not isinstance(width, int):
        raise Unsupported(f"{call.op} with weights whose size is not known")
    sizes = call.attribute("qkv_hidden_sizes", []) or [width // 3] * 3
    if sum(sizes) != width or len(sizes) != 3:
        raise ValueError(f"weights have {width} columns; expected the sum of three sizes, {sizes}")
    q, k, v = call.nodes("Split", [qkv, call.constant(np.array(sizes, np.int64), "sizes")], 3, axis=-1)
    cache = None
    if past is not None:
        cache = _Cache(*(call.node("Gather", [past, call.constant(np.array(i))], axis=0) for i in range(2)))
    return _attend(call, q, k, v, mask, added, cache, stacked=True)


@converter("MultiHeadAttention", also=_common)
def multi_head_attention(call: Call) -> Result:
    """query, key?, value?, bias?, key_padding_mask?, attention_bias?, past_key?, past_value?, ...

    Queries, keys and values are three, or two with keys and values side by side in each head, or one of all.
    """
    for index, name in ((8, "past_sequence_length"), (9, "cache_indirection")):
        if call.input(index) is not None:
            raise Unsupported(f"MultiHeadAttention with {name}")
    if call.output_read(3):
        raise Unsupported("output 3 of MultiHeadAttention")
    q, k, v = call.need(0), call.input(1), call.input(2)
    done = False  # keys and values are those of all heads, without a bias
    if k is None:
        q, k, v = _unpacked(call, q, 3)
    elif v is None:
        k, v = _unpacked(call, k, 2)
    elif call.rank(1) == 4:
        k, v, done = _joined(call, k), _joined(call, v), True
    bias = call.input(3)
    if bias is not None:
        q, k, v = _biased(call, q, k, v, bias, done)
    if (call.input(6) is None) != (call.input(7) is None):
        raise ValueError("has past_key without past_value, or the other way round")
    cache = None if call.input(6) is None else _Cache(call.need(6), call.need(7))
    return _attend(call, q, k, v, call.input(4), call.input(5), cache)


def _unpacked(call: Call, x: Value, parts: int) -> list[Value]:
    """Split (batch, length, heads, parts, size) into parts (batch, length, heads * size)."""
    if x.shape is None or len(x.shape) != 5:
        raise Unsupported(f"{call.op} of packed inputs that do not have 5 dimensions")
    shape = call.constant(np.array([0, 0, -1], np.int64), "shape")
    cut = call.nodes("Split", [x], parts, axis=3, num_outputs=parts)
    return [call.node("Reshape", [part, shape]) for part in cut]


def _biased(call: Call, q: Value, k: Value, v: Value, bias: Value, only_q: bool) -> tuple[Value, Value, Value]:
    """Add the parts of one bias to queries, keys and values."""
    width = q.shape[-1] if q.shape else None
    total = bias.shape[0] if bias.shape else None
    if not isinstance(width, int) or not isinstance(total, int):
        raise Unsupported(f"{call.op} with a bias, of sizes that are not known")
    sizes = [width, width, total - 2 * width]
    parts = call.nodes("Split", [bias, call.constant(np.array(sizes, np.int64), "sizes")], 3, axis=0)
    q = call.node("Add", [q, parts[0]])
    if only_q:
        return q, k, v
    return q, call.node("Add", [k, parts[1]]), call.node("Add", [v, parts[2]])


@dataclass(frozen=True)
class _Cache:
    """Keys and values of earlier runs, (batch, heads, length, size)."""

    key: Value
    value: Value


def _attend(
    call: Call, q: Value, k: Value, v: Value, mask: Value | None, added: Value | None, cache: _Cache | None,
    stacked: bool = False,
) -> Result:  # fmt: skip
    """Emit the attention of (batch, length, heads * size), and keys and values of all so far as further outputs."""
    heads = _heads(call)
    offset = None
    present: list[Value | None] = [None, None]
    if cache is not None or call.output_read(1) or call.output_read(2):
        wide = [_parted(call, x, heads) for x in (k, v)]
        if cache is not None:
            offset = size_of(call, cache.key, 2)
            pairs = zip((cache.key, cache.value), wide, strict=True)
            wide = [call.node("Concat", [past, x], axis=2) for past, x in pairs]
            k, v = (_joined(call, x) for x in wide)
        present = list(wide)
        if stacked:
            zero = call.constant(np.array([0], np.int64), "axes")
            present = [call.node("Concat", [call.node("Unsqueeze", [x, zero]) for x in wide], axis=0)]
    causal = _causal(call, q, k, offset) if call.attribute("unidirectional", 0) else None
    mask = _mask(call, mask, q, k, causal)
    if added is not None:
        mask = added if mask is None else call.node("Add", [floats_of(call, mask), added])
    call.outputs[1:] = []
    return [_emitted(call, q, k, v, mask, heads), *present]


def _emitted(call: Call, q: Value, k: Value, v: Value, mask: Value | None, heads: int) -> Value:
    scale = call.attribute("scale", 0.0)
    return call.last("dynq.Attention", [q, k, v, mask], heads=heads, **({"scale": scale} if scale else {}))


def _heads(call: Call) -> int:
    heads = int(call.attribute("num_heads", 0))
    if heads < 1:
        raise ValueError(f"num_heads is {heads}; expected 1 or more")
    return heads


def _parted(call: Call, x: Value, heads: int) -> Value:
    """Return (batch, heads, length, size) of (batch, length, heads * size)."""
    shape = call.constant(np.array([0, 0, heads, -1], np.int64), "shape")
    return call.node("Transpose", [call.node("Reshape", [x, shape])], perm=[0, 2, 1, 3])


def _joined(call: Call, x: Value) -> Value:
    """Return (batch, length, heads * size) of (batch, heads, length, size)."""
    heads, size = (x.shape[i] if x.shape else None for i in (1, 3))
    if not isinstance(heads, int) or not isinstance(size, int):
        raise Unsupported(f"{call.op} of heads whose sizes are not known")
    shape = call.constant(np.array([0, 0, heads * size], np.int64), "shape")
    return call.node("Reshape", [call.node("Transpose", [x], perm=[0, 2, 1, 3]), shape])


def size_of(call: Call, x: Value, axis: int) -> Value:
    """Return the size of an axis, without dimensions."""
    return call.node("Gather", [call.node("Shape", [x]), call.constant(np.array(axis))], axis=0)


def numbers_to(call: Call, size: Value) -> Value:
    zero, step = (call.constant(np.array(i)) for i in (0, 1))
    return call.node("Range", [zero, size, step])


def unsqueezed(call: Call, x: Value, *axes: int) -> Value:
    return call.node("Unsqueeze", [x, call.constant(np.array(axes, np.int64), "axes")])


def floats_of(call: Call, mask: Value) -> Value:
    """Return what a mask adds."""
    return mask if mask.dtype != "bool" else call.node("Where", [mask, one(call, 0.0), one(call, _LOWEST)])


def _causal(call: Call, q: Value, k: Value, offset: Value | None) -> Value:
    """Return (length of q, length of k), true where a key is not after the query."""
    rows, columns = (x.shape[1] if x.shape else None for x in (q, k))
    if offset is None and isinstance(rows, int) and isinstance(columns, int):
        return call.constant(np.tri(rows, columns, dtype=np.bool_), "causal")
    at = unsqueezed(call, numbers_to(call, size_of(call, q, 1)), 1)
    if offset is not None:
        at = call.node("Add", [at, offset])
    return call.node("LessOrEqual", [unsqueezed(call, numbers_to(call, size_of(call, k, 1)), 0), at])


def _mask(call: Call, mask: Value | None, q: Value, k: Value, causal: Value | None) -> Value | None:
    """Return what is added to the scores: a number where the mask is not positive, and the lowest after the query."""
    if mask is None:
        return causal
    seen = _seen(call, mask, q, k)
    low = one(call, call.attribute("mask_filter_value", -10000.0))
    result = call.node("Where", [seen, one(call, 0.0), low])
    return result if causal is None else call.node("Where", [causal, result, one(call, _LOWEST)])


def _seen(call: Call, mask: Value, q: Value, k: Value) -> Value:
    """Return where keys are looked at, (batch, 1, 1 or length of q, length of k)."""
    rank = None if mask.shape is None else len(mask.shape)
    if rank in (2, 3):
        positive = call.node("Greater", [mask, call.constant(np.zeros((), mask.dtype))])
        return unsqueezed(call, positive, *([1, 2] if rank == 2 else [1]))
    if rank != 1 or mask.shape is None:
        raise Unsupported(f"{call.op} with a mask of {'unknown' if rank is None else rank} dimensions")
    length, batch = mask.shape[0], q.shape[0] if q.shape else None
    ends = mask if mask.dtype == "int64" else call.node("Cast", [mask], to=ONNX_TYPES["int64"])
    starts = None
    if length is not None and length != batch and isinstance(length, int) and isinstance(batch, int):
        if length != 2 * batch:
            raise Unsupported(f"{call.op} with a mask of {length} numbers for {batch} rows")
        ends, starts = call.nodes("Split", [ends], 2, axis=0, num_outputs=2)
    elif length is None or length != batch:
        raise Unsupported(f"{call.op} with a mask of one dimension whose size is not that of the batch")
    places = numbers_to(call, size_of(call, k, 1))
    seen = call.node("Less", [places, unsqueezed(call, ends, 1, 2, 3)])
    if starts is not None:
        seen = call.node("And", [seen, call.node("GreaterOrEqual", [places, unsqueezed(call, starts, 1, 2, 3)])])
    return seen


@converter(
    "RotaryEmbedding",
    interleaved=one_of(0, 1), num_heads=INT, rotary_embedding_dim=INT, scale=Rule("float", (1.0,), keep=False),
    is_packed_batching=one_of(0),
)  # fmt: skip
def rotary_embedding(call: Call) -> Result:
    """x, position_ids, cos_cache, sin_cache: one position id is that of the first column."""
    x, places, cos = call.need(0), call.need(1), call.need(2)
    rank = call.rank(0)
    half = cos.shape[-1] if cos.shape else None
    if not isinstance(half, int) or rank not in (3, 4) or places.shape is None:
        raise Unsupported("RotaryEmbedding of shapes that are not known")
    turned = call.attribute("rotary_embedding_dim", 0)
    heads = call.attribute("num_heads", 0)
    if turned and not heads and rank == 3:
        raise ValueError("rotary_embedding_dim without num_heads")
    if rank == 4:
        x = call.node("Transpose", [x], perm=[0, 2, 1, 3])
    else:
        split = [0, 0, heads, -1] if heads else [0, 0, -1, 2 * half]
        x = call.node("Reshape", [x, call.constant(np.array(split, np.int64), "shape")])
    if len(places.shape) == 1:
        if places.shape[0] != 1:
            raise Unsupported("RotaryEmbedding with a number of position_ids that is not known to be 1")
        places = unsqueezed(call, call.node("Add", [numbers_to(call, size_of(call, x, 1)), places]), 0)
    y = rotated(call, x, places, cos, call.need(3), bool(call.attribute("interleaved", 0)))
    if rank == 4:
        return call.last("Transpose", [y], perm=[0, 2, 1, 3])
    return call.last("Reshape", [y, call.node("Shape", [call.need(0)])], allowzero=1)


def rotated(call: Call, x: Value, places: Value, cos: Value, sin: Value, interleaved: bool) -> Value:
    """Turn pairs of (batch, length, heads, size) by the angles at places (batch or 1, length); what is left stays."""
    half, size = (value.shape[-1] if value.shape else None for value in (cos, x))
    if not isinstance(half, int) or not isinstance(size, int) or 2 * half > size:
        raise Unsupported(f"{call.op} that turns {half} pairs of {size} numbers")
    rest: list[Value] = []
    if 2 * half < size:
        sizes = call.constant(np.array([2 * half, size - 2 * half], np.int64), "sizes")
        x, *rest = call.nodes("Split", [x, sizes], 2, axis=-1)
    c, s = (call.node("Gather", [_with_heads(call, table), places], axis=0) for table in (cos, sin))
    if interleaved:
        pairs = call.node("Reshape", [x, call.constant(np.array([0, 0, 0, half, 2], np.int64), "pairs")])
        cut = call.nodes("Split", [pairs], 2, axis=-1, num_outputs=2)
        axis = call.constant(np.array([-1], np.int64), "axes")
        a, b = (call.node("Squeeze", [part, axis]) for part in cut)
    else:
        a, b = call.nodes("Split", [x], 2, axis=-1, num_outputs=2)
    left = call.node("Sub", [call.node("Mul", [a, c]), call.node("Mul", [b, s])])
    right = call.node("Add", [call.node("Mul", [b, c]), call.node("Mul", [a, s])])
    if interleaved:
        pairs = call.node("Concat", [unsqueezed(call, left, -1), unsqueezed(call, right, -1)], axis=-1)
        turned = call.node("Reshape", [pairs, call.constant(np.array([0, 0, 0, 2 * half], np.int64), "shape")])
        return call.node("Concat", [turned, *rest], axis=-1) if rest else turned
    return call.node("Concat", [left, right, *rest], axis=-1)


def _with_heads(call: Call, table: Value) -> Value:
    """Return (positions, 1, pairs) of (positions, pairs), which no pass takes for an embedding and quantizes."""
    if table.array is None:
        return unsqueezed(call, table, 1)
    return call.constant(np.expand_dims(table.array, 1), "table")
