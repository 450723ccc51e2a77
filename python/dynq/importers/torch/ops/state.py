"""Attention to what a session keeps, and the positions of new rows: ops of a decoder of transformers."""

from __future__ import annotations

from ....conversion import Unsupported
from ..convert import Call, Result, converter
from ..decoder import NAMESPACE


@converter(f"{NAMESPACE}.cached_attention")
def cached_attention(call: Call) -> Result:
    q, k, v, lengths = (call.value(name) for name in ("q", "k", "v", "lengths"))
    sinks, softcap, layer = call.optional("sinks"), call.fixed("softcap"), call.fixed("layer")
    shapes = [call.fake(name).shape for name in ("q", "k", "v")]
    heads, shared = shapes[0][1], shapes[1][1]
    if not all(isinstance(size, int) for size in (heads, shared, shapes[1][3], shapes[2][3])):
        raise Unsupported(f"{call.op} whose heads depend on the run")
    states = [
        call.graph.state(f"{kind}.{layer}", (shared, call.fixed("most"), shape[3]))
        for kind, shape in (("keys", shapes[1]), ("values", shapes[2]))
    ]
    return call.emit(
        "dynq.CachedAttention", [q, k, v, *states, lengths, None, None, sinks], heads=heads,
        scale=call.fixed("scale"), softcap=softcap or None, window=call.fixed("window"),
    )  # fmt: skip


@converter(f"{NAMESPACE}.positions")
def positions(call: Call) -> Result:
    return call.emit("dynq.Positions", [call.value("ids"), call.value("lengths")])
