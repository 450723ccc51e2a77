"""Write dynq's own ops by operators that every format has. site.py says what a format gives for it.

A function returns what the node's output has become.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

import numpy as np

from ..conversion import Unsupported
from ..core.arguments import FLOAT32
from ..ir.values import Value
from .site import Site

__all__ = ["activate", "activate_layer", "attention", "rms_normalization", "rotary", "swish"]

T = TypeVar("T")


def rotary(site: Site[T]) -> T:
    """Write dynq.Rotary: x * cos + turned * sin, where turned has the other column of each pair, the first negated."""
    x, shape, turned = site.need("x"), site.node.need("x").shape, site.node.need("cos").shape
    width = shape[-1] if shape else None
    if not isinstance(width, int) or not turned or turned[-1] != width:
        raise Unsupported("dynq.Rotary of some of the columns, or of a width that is not known")

    def part(start: int, end: int, step: int) -> T:
        return site.op("Slice", x, *(site.array([number]) for number in (start, end, -1, step)))

    if site.integer("interleaved", 0):
        first, second = part(0, width, 2), part(1, width, 2)
        parts = [site.op("Unsqueeze", edge, site.array([-1])) for edge in (site.op("Neg", second), first)]
        other = site.op("Reshape", site.op("Concat", *parts, axis=-1), site.op("Shape", x))
    else:
        first, second = part(0, width // 2, 1), part(width // 2, width, 1)
        other = site.op("Concat", site.op("Neg", second), first, axis=-1)
    products = site.op("Mul", x, site.need("cos")), site.op("Mul", other, site.need("sin"))
    return site.op("Add", *products)


def attention(site: Site[T], product: Callable[[T, T], T]) -> T:
    """Write dynq.Attention: softmax(q k^T scale + mask) v for each head.

    Args:
        product: writes the product of two matrices.
    """
    heads = site.integer("heads", 1)
    values = {name: site.node.input(name) for name in ("q", "k", "v")}
    q, k, v, mask = (site.input(name) for name in ("q", "k", "v", "mask"))
    size, shared = _sizes(values, heads)
    if k is None or v is None:
        q, k, v = site.ops("Split", [q], 3, axis=-1, num_outputs=3)
    if size is None and "scale" not in site.node.attributes:
        raise Unsupported("dynq.Attention without a scale and of a width that is not known")
    scale = FLOAT32.type(site.number("scale", 0.0))
    if "scale" not in site.node.attributes:
        scale = FLOAT32.type(1) / np.sqrt(FLOAT32.type(size or 0))
    softcap = FLOAT32.type(site.number("softcap", 0.0))
    of_v = values["v"]
    q = _heads(site, q, values["q"], heads, heads)
    v = _heads(site, v, of_v or values["q"], heads, shared)
    k = site.op("Transpose", _heads(site, k, values["k"] or values["q"], heads, shared), perm=[0, 1, 3, 2])
    factor = scale if softcap == 0 else scale / softcap
    scores = site.op("Mul", product(q, k), site.array(FLOAT32.type(factor), "scale"))
    if softcap != 0:
        scores = site.op("Mul", site.op("Tanh", scores), site.array(softcap, "softcap"))
    of_mask = site.node.input("mask")
    boolean = of_mask is not None and of_mask.dtype == "bool"
    if mask is not None and of_mask is not None and of_mask.dtype is None:
        raise Unsupported("dynq.Attention whose mask is of a dtype that is not known")
    if mask is not None:
        minus = site.array(FLOAT32.type(-np.inf), "minus_infinity")
        scores = site.op("Where", mask, scores, minus) if boolean else site.op("Add", scores, mask)
    weights = site.op("Softmax", scores, axis=-1)
    if boolean:  # a query without any key gets zeros
        weights = site.op("Where", mask, weights, site.array(0.0))
    y = site.op("Transpose", product(weights, v), perm=[0, 2, 1, 3])
    return site.op("Reshape", y, site.array([0, 0, -1], "joined"))


def _sizes(values: Mapping[str, Value | None], heads: int) -> tuple[int | None, int]:
    """Return the size of a head of q, if it is known, and the heads of k and v."""
    q, k = (None if value is None else value.shape for value in (values["q"], values["k"]))
    width = q[-1] if q else None
    size = None if not isinstance(width, int) or q is None else width if len(q) == 4 else width // heads
    if values["k"] is None:
        return None if size is None else size // 3, heads
    if k is not None and len(k) == 4:
        return size, k[1] if isinstance(k[1], int) else heads
    of_k = k[-1] if k else None
    return size, of_k // size if isinstance(of_k, int) and size else heads


def _heads(site: Site[T], x: T | None, value: Value | None, heads: int, shared: int) -> T:
    """Write (B, H, S, D) of that, or of rows (B, S, G * D): each of the G heads again for those that share it."""
    assert x is not None and value is not None
    if value.shape is None or len(value.shape) == 3:
        rows = site.op("Reshape", x, site.array([0, 0, shared, -1], "heads" if shared == heads else "shared_heads"))
        x = site.op("Transpose", rows, perm=[0, 2, 1, 3])
    if shared == heads:
        return x
    width = value.shape[-1] if value.shape else None
    if not isinstance(width, int) or value.shape is None:
        raise Unsupported("dynq.Attention that shares heads of a width that is not known")
    size = width if len(value.shape) == 4 else width // shared
    wide = site.op("Expand", site.op("Unsqueeze", x, site.array([2])), site.array([1, 1, heads // shared, 1, 1]))
    return site.op("Reshape", wide, site.array([0, heads, -1, size]))


def swish(site: Site[T]) -> T:
    """Write ``x * sigmoid(alpha * x)``."""
    x, alpha = site.need("X"), site.number("alpha", 1.0)
    scaled = x if alpha == 1 else site.op("Mul", x, site.array(FLOAT32.type(alpha)))
    return site.op("Mul", x, site.op("Sigmoid", scaled))


def rms_normalization(site: Site[T]) -> T:
    """Write ``x / sqrt(mean of x^2 + epsilon) * scale`` over the dimensions from ``axis`` on."""
    x, axis = site.need("X"), site.integer("axis", -1)
    if axis >= 0:
        shape = site.node.need("X").shape
        if shape is None:
            raise Unsupported("RMSNormalization of a tensor whose rank is not known")
        axis -= len(shape)
    mean = site.op("ReduceMean", site.op("Mul", x, x), site.array(list(range(axis, 0))), keepdims=1)
    root = site.op("Sqrt", site.op("Add", mean, site.array(FLOAT32.type(site.number("epsilon", 1e-5)))))
    return site.op("Mul", site.op("Div", x, root), site.need("scale"))


def activate(site: Site[T], x: T, activation: str, alpha: float = 0.0, beta: float = 0.0) -> T:
    """Write an activation with its numbers. gelu is written in pieces that every runtime has."""
    if activation in ("relu", "sigmoid", "tanh"):
        return site.op(activation.capitalize(), x)
    if activation == "leaky_relu":
        return site.op("LeakyRelu", x, alpha=alpha)
    if activation == "hard_sigmoid":
        return site.op("HardSigmoid", x, alpha=alpha, beta=beta)
    if activation == "silu":
        return site.op("Mul", x, site.op("Sigmoid", x))
    if activation == "mish":
        return site.op("Mul", x, site.op("Tanh", site.op("Softplus", x)))
    if activation == "hard_swish":
        gate = site.op("Add", site.op("Mul", x, site.array(FLOAT32.type(1 / 6))), site.array(0.5))
        return site.op("Mul", x, site.op("Clip", gate, site.array(0.0), site.array(1.0)))
    if activation == "gelu":
        erf = site.op("Erf", site.op("Div", x, site.array(FLOAT32.type(np.sqrt(2.0)))))
        return site.op("Mul", site.op("Mul", x, site.op("Add", erf, site.array(1.0))), site.array(0.5))
    if activation == "gelu_tanh":
        cube = site.op("Mul", site.op("Mul", x, x), x)
        inner = site.op("Add", x, site.op("Mul", cube, site.array(FLOAT32.type(0.044715))))
        inner = site.op("Tanh", site.op("Mul", inner, site.array(FLOAT32.type(np.sqrt(2 / np.pi)))))
        return site.op("Mul", site.op("Mul", x, site.op("Add", inner, site.array(1.0))), site.array(0.5))
    return x


def activate_layer(site: Site[T], y: T, activate: Callable[[Site[T], T, str, float, float], T] = activate) -> T:
    """Write the activation and the clamp of a layer.

    Args:
        activate: writes an activation with its two numbers.
    """
    y = activate(site, y, site.text("activation", "none"), site.number("alpha", 0.0), site.number("beta", 0.0))
    low, high = site.number("min", 0), site.number("max", 0)
    if low < high:
        y = site.op("Clip", y, site.array(FLOAT32.type(low)), site.array(FLOAT32.type(high)))
    return y
