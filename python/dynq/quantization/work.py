"""The work of layers, from the shapes that are known before a run."""

from __future__ import annotations

import math

from ..ir.values import Node, Shape, Value

__all__ = ["multiply_adds"]


def multiply_adds(node: Node) -> int | None:
    """Return how often a node multiplies a number by a weight, or two numbers, before it is quantized.

    Sizes that inputs leave open count as 1. None: other sizes are not known. Tables do not multiply.
    """
    if node.op in ("Gather", "dynq.Embedding"):
        return 0
    output = _size(node.outputs[0] if node.outputs else None)
    if node.op == "dynq.Linear":
        return _product(output, _dims(node.need("weight"), 1))
    if node.op in ("dynq.Conv", "Conv"):
        return _product(output, _dims(node.inputs[1], 1))
    if node.op == "ConvTranspose":
        return _product(_size(node.first), _dims(node.need("W"), 1))
    if node.op in ("MatMul", "Gemm"):
        shape = None if node.first is None else node.first.shape
        across = node.op == "Gemm" and bool(node.attributes.get("transA", 0))
        return None if not shape else _product(output, _count((shape[0 if across else -1],)))
    return None


def _dims(value: Value | None, begin: int) -> int | None:
    shape = None if value is None else value.shape
    return None if shape is None else _count(shape[begin:])


def _size(value: Value | None) -> int | None:
    return _dims(value, 0)


def _count(shape: Shape) -> int | None:
    if None in shape:
        return None
    return math.prod(dim if isinstance(dim, int) else 1 for dim in shape)


def _product(a: int | None, b: int | None) -> int | None:
    return None if a is None or b is None else a * b
