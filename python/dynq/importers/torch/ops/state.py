"""Attention to what a session keeps, and the positions of new rows: ops of a decoder of transformers."""

from __future__ import annotations

from typing import Any

from ....conversion import Unsupported
from ....graph import Value
from ..call import Call, Result, converter
from ..decoder import NAMESPACE


@converter(f"{NAMESPACE}.cached_attention")
def cached_attention(call: Call) -> Result:
    sinks, distances = call.optional("sinks"), call.optional("distances")
    operands, attributes = _attention(call, "")
    return call.emit(
        "dynq.CachedAttention", [*operands, None, None, sinks, distances], window=call.fixed("window"), **attributes
    )


@converter(f"{NAMESPACE}.cross_attention")
def cross_attention(call: Call) -> Result:
    operands, attributes = _attention(call, "source_")
    return call.emit("dynq.CrossAttention", operands, **attributes)


def _attention(call: Call, prefix: str) -> tuple[list[Value | None], dict[str, Any]]:
    """Return q, k, v, new states and lengths, and the attributes that all attention to what is kept has."""
    softcap, layer = call.fixed("softcap"), call.fixed("layer")
    shapes = [call.fake(name).shape for name in ("q", "k", "v")]
    heads, shared = shapes[0][1], shapes[1][1]
    if not all(isinstance(size, int) for size in (heads, shared, shapes[1][3], shapes[2][3])):
        raise Unsupported(f"{call.op} whose heads depend on the run")
    states = [
        call.graph.state(f"{prefix}{kind}.{layer}", (shared, call.fixed("most"), shape[3]))
        for kind, shape in (("keys", shapes[1]), ("values", shapes[2]))
    ]
    operands = [*(call.value(name) for name in ("q", "k", "v")), *states, call.optional("lengths")]
    return operands, {"heads": heads, "scale": call.fixed("scale"), "softcap": softcap or None}


@converter(f"{NAMESPACE}.source")
def source(call: Call) -> Result:
    batch, width = call.result.shape[0], call.result.shape[2]
    call.value("ids")  # for its shape alone
    return call.emit("Reshape", [call.value("hidden"), call.shape([batch, -1, width])])


@converter(f"{NAMESPACE}.positions")
def positions(call: Call) -> Result:
    return call.emit("dynq.Positions", [call.value("ids"), call.value("lengths")])
