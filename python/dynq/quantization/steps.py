"""Find inputs of layers that a model has rounded to 256 steps already: with these as a fixed range, they are exact."""

from __future__ import annotations

import numpy as np

from ..core.arguments import FLOAT32
from ..ir import ops
from ..ir.values import Node, Value

__all__ = ["steps_of"]

_KEEP = ("Relu", "MaxPool")  # beside ops that move elements: what they give is an element, or 0
_LOWEST = {"uint8": 0, "int8": -128}


def steps_of(x: Value) -> tuple[float, float] | None:
    """Return the lowest and the highest number that x can have, if it has 256 steps; None if that is not known."""
    producer = x.producer
    while producer is not None and producer.op != "DequantizeLinear":
        source = _source(producer)
        producer = None if source is None else source.producer
    return None if producer is None else _range(producer)


def _source(node: Node) -> Value | None:
    """Return the input whose elements a node has, if it has those of one alone."""
    if not (ops.find(node.op).moves or node.op in _KEEP):
        return None
    if node.op == "Pad":
        filler = node.input("constant_value")
        if filler is not None and (filler.array is None or filler.array.any()):
            return None
    floats = [value for value in node.inputs if value is not None and value.dtype in (None, "float32")]
    return floats[0] if len(floats) == 1 or node.op == "Pad" else None


def _range(node: Node) -> tuple[float, float] | None:
    x, scale, point = node.need("x"), node.array("x_scale"), node.input("x_zero_point")
    zero = np.zeros((), np.int8) if point is None else point.array
    if x.dtype not in _LOWEST or scale is None or zero is None or scale.size != 1 or zero.size != 1:
        return None
    step, first = FLOAT32.type(scale.reshape(-1)[0]), _LOWEST[x.dtype] - int(zero.reshape(-1)[0])
    lo, hi = float(FLOAT32.type(first) * step), float(FLOAT32.type(first + 255) * step)
    return (lo, hi) if np.isfinite([lo, hi]).all() and lo < hi else None
