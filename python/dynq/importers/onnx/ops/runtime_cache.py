"""GroupQueryAttention: attention of decoders, with rotated positions and the keys and values of earlier runs."""

from __future__ import annotations

import numpy as np

from ....conversion import Unsupported
from ....graph import Value
from ....ir.given import ONNX_TYPES
from ..attributes import FLOAT, INT, Rule, one_of, unused
from ..convert import Call, Result, converter
from .runtime_attention import floats_of, numbers_to, rotated, size_of, unsqueezed


@converter(
    "GroupQueryAttention", domain="com.microsoft",
    num_heads=INT, kv_num_heads=INT, scale=FLOAT, do_rotary=one_of(0, 1), rotary_interleaved=one_of(0, 1),
    local_window_size=INT, softcap=Rule("float", (0.0,), keep=False), smooth_softmax=one_of(0), causal=one_of(1),
    kv_cache_bit_width=one_of(0), sliding_window_cache=one_of(0), qk_output=one_of(0), k_quant_type=one_of("NONE"),
    v_quant_type=one_of("NONE"), qk_norm_epsilon=unused("float"), q_norm_epsilon=unused("float"),
    k_norm_epsilon=unused("float"),
)  # fmt: skip
def group_query_attention(call: Call) -> Result:
    """query, key?, value?, past_key?, past_value?, seqlens_k, total_sequence_length, cos?, sin?, places?, bias?

    Row b has ``seqlens_k[b] + 1`` keys, the last of them new. Keys and values grow by those of this run.
    """
    for i in range(11, len(call.inputs)):
        if call.input(i) is not None:
            raise Unsupported(f"input {i} of GroupQueryAttention")
    if call.output_read(3):
        raise Unsupported("output 3 of GroupQueryAttention")
    heads, groups = (int(call.attribute(name, 0)) for name in ("num_heads", "kv_num_heads"))
    if groups < 1 or heads % groups:
        raise ValueError(f"num_heads and kv_num_heads are {heads} and {groups}; expected a multiple of 1 or more")
    _not_shared(call)
    q, k, v, size = _parts(call, heads, groups)
    length = size_of(call, q, 1)
    zero = call.constant(np.array(0))
    ends = call.node("Reshape", [_int64(call, call.need(5)), call.constant(np.array([-1], np.int64), "rows")])
    ends = call.node("Add", [ends, call.constant(np.array(1))])
    before = unsqueezed(call, call.node("Max", [call.node("Sub", [ends, length]), zero]), 1)  # (batch, 1)
    at = call.node("Add", [before, numbers_to(call, length)])  # (batch, length): places of the queries
    if call.attribute("do_rotary", 0):
        places = at if call.input(9) is None else _places(call, call.need(9), length)
        tables = call.need(7), call.need(8)
        turned = bool(call.attribute("rotary_interleaved", 0))
        q, k = (rotated(call, x, places, *tables, turned) for x in (q, k))
    present = [call.node("Transpose", [x], perm=[0, 2, 1, 3]) for x in (k, v)]
    if call.input(3) is not None:
        present = _grown(call, present, before, groups, size)
    mask = _seen(call, at, numbers_to(call, size_of(call, present[0], 2)))
    if call.input(10) is not None:
        mask = call.node("Add", [floats_of(call, mask), call.need(10)])
    wide = [_repeated(call, x, groups, heads, size) for x in present]
    call.outputs[1:] = []
    scale = call.attribute("scale", 0.0)
    rows = call.node("Reshape", [q, call.constant(np.array([0, 0, heads * size], np.int64), "shape")])
    y = call.last("dynq.Attention", [rows, *wide, mask], heads=heads, **({"scale": scale} if scale else {}))
    return [y, *present]


def _places(call: Call, places: Value, length: Value) -> Value:
    """Return given places. In the first run, whose keys are all new, they count from the very first."""
    empty = call.constant(np.array([], np.int64), "shape")
    total = call.node("Reshape", [_int64(call, call.need(6)), empty])
    first = call.node(
        "Gather", [call.node("Reshape", [places, call.constant(np.array([-1]))]), call.constant(np.array(0))]
    )
    counted = call.node("Add", [numbers_to(call, length), first])
    return call.node("Where", [call.node("Equal", [total, length]), counted, places])


def _not_shared(call: Call) -> None:
    """Refuse a buffer of one size that holds keys before and after: here they grow."""
    past = call.input(3)
    if (past is None) != (call.input(4) is None):
        raise ValueError("has past_key without past_value, or the other way round")
    if past is None or past.shape is None or len(call.proto.output) < 2:
        return
    for value in call.source.graph.output:
        dims = value.type.tensor_type.shape.dim
        if value.name == call.proto.output[1] and len(dims) == 4 and past.shape[2] is not None:
            declared = dims[2].dim_value if dims[2].HasField("dim_value") else dims[2].dim_param
            if declared == past.shape[2]:
                raise Unsupported("GroupQueryAttention whose past and present are one buffer")


def _parts(call: Call, heads: int, groups: int) -> tuple[Value, Value, Value, int]:
    """Return queries, keys and values (batch, length, heads, size), and the size."""
    x = call.need(0)
    width = x.shape[-1] if x.shape else None
    packed = call.input(1) is None
    count = heads + 2 * groups if packed else heads
    if not isinstance(width, int) or width % count:
        raise Unsupported(f"GroupQueryAttention of {width} columns for {count} heads")
    size = width // count
    parts = [x, call.input(1), call.input(2)]
    if packed:
        sizes = call.constant(np.array([heads * size, groups * size, groups * size], np.int64), "sizes")
        parts = [*call.nodes("Split", [x, sizes], 3, axis=-1)]
    q, k, v = (
        call.node("Reshape", [part, call.constant(np.array([0, 0, n, size], np.int64), "shape")])
        for part, n in zip(parts, (heads, groups, groups), strict=True)
    )
    return q, k, v, size


def _grown(call: Call, new: list[Value], before: Value, groups: int, size: int) -> list[Value]:
    """Put new keys and values behind those of earlier runs, of which row b has ``before[b]``."""
    pasts = call.need(3), call.need(4)
    both = [call.node("Concat", [past, x], axis=2) for past, x in zip(pasts, new, strict=True)]
    old, total = size_of(call, pasts[0], 2), size_of(call, both[0], 2)
    places, one = numbers_to(call, total), call.constant(np.array(1))
    later = call.node(
        "Min", [call.node("Add", [call.node("Sub", [places, before]), old]), call.node("Sub", [total, one])]
    )
    source = call.node("Where", [call.node("Less", [places, before]), places, later])  # (batch, total)
    rows = call.node("Mul", [size_of(call, both[0], 0), call.constant(np.array(groups))])
    first = call.node("Mul", [numbers_to(call, rows), total])
    first = call.node("Reshape", [first, call.constant(np.array([-1, groups, 1], np.int64), "shape")])
    index = call.node("Add", [first, unsqueezed(call, source, 1)])  # (batch, groups, total)
    result = []
    for x in both:
        flat = call.node("Reshape", [x, call.constant(np.array([-1, size], np.int64), "shape")])
        result.append(call.node("Gather", [flat, index], axis=0))
    return result


def _seen(call: Call, at: Value, places: Value) -> Value:
    """Return (batch, 1, length, total): keys up to the query, and not before its window."""
    at = unsqueezed(call, at, 1, 3)
    seen = call.node("LessOrEqual", [places, at])
    window = call.attribute("local_window_size", -1)
    if window < 0:
        return seen
    begin = call.node("Sub", [at, call.constant(np.array(window))])
    return call.node("And", [seen, call.node("Greater", [places, begin])])


def _repeated(call: Call, x: Value, groups: int, heads: int, size: int) -> Value:
    """Return (batch, total, heads * size) of (batch, groups, total, size): several heads share one of a group."""
    x = call.node("Transpose", [x], perm=[0, 2, 1, 3])
    if heads != groups:
        times = call.constant(np.array([1, 1, 1, heads // groups, 1], np.int64), "times")
        x = call.node("Expand", [unsqueezed(call, x, 3), times])
    return call.node("Reshape", [x, call.constant(np.array([0, 0, heads * size], np.int64), "shape")])


def _int64(call: Call, x: Value) -> Value:
    return x if x.dtype == "int64" else call.node("Cast", [x], to=ONNX_TYPES["int64"])
