"""Move outliers in channels of activations into weights: SmoothQuant (G. Xiao et al., 2022, arXiv 2211.10438).

``x W^T = (x / s) (W s)^T`` with ``s[j] = max|x[:, j]|^alpha / max|W[:, j]|^(1 - alpha)``. The division goes into the
node that computes x, if that is exact but for float rounding. Such are a norm's scale and bias, a linear layer without
an activation or with relu, and the values of an attention. Else the division is a Mul of its own. A layer is smoothed
only if that promises a gain.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from ..core.arguments import FLOAT32, Array
from ..ir.graph import Graph
from ..ir.values import Node, Value
from ..passes.rewrite import Uses, is_op
from ..report import Smoothing

__all__ = ["Seen", "smooth_linear"]

_ALPHAS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
_WORTH_FOLDING = 0.6  # fold if at most this share of the noise is left: 2 dB
_WORTH_A_MUL = 0.5  # add a Mul if at most this share is left: 3 dB, for a pass over the activations
_MOST = 1e5  # the bound of s and of 1 / s
_OF_NORM = {"LayerNormalization": ("Scale", "B"), "RMSNormalization": ("scale",)}  # inputs that scale the output


@dataclasses.dataclass(frozen=True)
class Seen:
    """The input of a layer in samples."""

    largest: Array  # max |x| of each channel over all rows, (K,)
    rows: Array  # some of the rows, (rows, K)


def smooth_linear(
    graph: Graph, nodes: list[Node], seen: Mapping[Value, Seen], alpha: float | None
) -> dict[str, Smoothing]:
    """Smooth the inputs of ``nodes``, which are dynq.Linear with float weights; return what was done, by name.

    Args:
        seen: the inputs of these nodes.
        alpha: how far outliers move, 0 to 1. None picks the best of some values for each layer.
    """
    result: dict[str, Smoothing] = {}
    groups: dict[Value, list[Node]] = {}
    for node in nodes:
        groups.setdefault(node.need("x"), []).append(node)
    for x, readers in groups.items():
        weights = [array for node in readers if (array := node.array("weight")) is not None]
        scales = {a: _scale(seen[x], weights, a) for a in (_ALPHAS if alpha is None else (alpha,))}
        noises = {a: _noise(seen[x], weights, scale) for a, scale in scales.items()}
        best = min(noises, key=noises.__getitem__)
        scale, left = scales[best], noises[best] / _noise(seen[x], weights, np.ones_like(scales[best]))
        where = _foldable(Uses(graph), x, readers) if left <= _WORTH_FOLDING else None
        if left > (_WORTH_A_MUL if where is None else _WORTH_FOLDING):
            continue
        if where is None:
            _insert_mul(graph, x, readers, 1 / scale)
        else:
            _fold(graph, where, 1 / scale)
        for node in readers:
            _scale_weight(graph, node, 1, scale)
            result[node.name] = Smoothing(float(best), None if where is None else where.name)
    return result


def _scale(seen: Seen, weights: list[Array], alpha: float) -> Array:
    """Return s. It is 1 for channels that are 0 in the samples or in the weights."""
    x = seen.largest.astype(np.float64)
    w = np.max([np.abs(weight).max(axis=0) for weight in weights], axis=0).astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        s = x**alpha / w ** (1 - alpha)
    usable = (x > 0) & (w > 0) & np.isfinite(s)
    middle = np.exp(np.log(s[usable]).mean()) if usable.any() else 1.0
    return np.where(usable, np.clip(s / middle, 1 / _MOST, _MOST), 1.0).astype(FLOAT32)


def _noise(seen: Seen, weights: list[Array], s: Array) -> float:
    """Return, about, the power that quantizing adds to the outputs.

    It is the sum over rows and channels of a twelfth of the squared scales.
    """
    x = seen.rows.astype(np.float64) / s
    row_steps = ((np.maximum(x.max(axis=1, initial=0), 0) - np.minimum(x.min(axis=1, initial=0), 0)) / 255) ** 2
    power = (x**2).sum(axis=1).mean()
    total = 0.0
    for weight in weights:
        w = weight * s
        channel_steps = (np.abs(w).max(axis=1, initial=0).astype(np.float64) / 127) ** 2
        total += row_steps.mean() * float((w.astype(np.float64) ** 2).sum()) + power * channel_steps.sum()
    return max(total, 1e-300)


def _foldable(uses: Uses, x: Value, readers: list[Node]) -> Node | None:
    """Return the node that can compute x / s in place of x, if nobody else reads x."""
    alone = uses.inside(x, set(readers)) and all(node.inputs.count(x) == 1 for node in readers)
    if not alone:
        return None
    attention = is_op(x, "dynq.Attention")
    if attention is not None:
        v = attention.input("v")
        x_of_v = uses.only_reader(v)
        producer = is_op(v, "dynq.Linear")
        return producer if x_of_v is attention and producer is not None and _is_scalable(producer, ("none",)) else None
    norm = is_op(x, *_OF_NORM)
    if norm is not None:
        fixed = all(norm.input(name) is None or norm.array(name) is not None for name in _OF_NORM[norm.op])
        return norm if fixed and norm.attributes.get("axis", -1) == -1 else None
    producer = is_op(x, "dynq.Linear")
    return producer if producer is not None and _is_scalable(producer, ("none", "relu")) else None


def _is_scalable(node: Node, activations: tuple[str, ...]) -> bool:
    constant = node.array("weight") is not None and (node.input("bias") is None or node.array("bias") is not None)
    plain = node.input("residual") is None and "min" not in node.attributes
    return constant and plain and node.attributes.get("activation", "none") in activations


def _fold(graph: Graph, node: Node, factor: Array) -> None:
    """Multiply the output of ``node`` by ``factor``, channel by channel."""
    if node.op == "dynq.Linear":
        _scale_weight(graph, node, 0, factor)
    for name in _OF_NORM.get(node.op, ("bias",)):
        value = node.input(name)
        if value is not None and value.array is not None:
            node.set_input(name, graph.constant_for(value.array * factor, value))


def _scale_weight(graph: Graph, node: Node, axis: int, factor: Array) -> None:
    """Multiply the channels (axis 0) or the columns (axis 1) of a node's weight by ``factor``, in a copy."""
    weight = node.need("weight")
    assert weight.array is not None
    scaled = weight.array * (factor[:, None] if axis == 0 else factor)
    node.set_input("weight", graph.constant_for(scaled, weight))


def _insert_mul(graph: Graph, x: Value, readers: list[Node], factor: Array) -> None:
    first = min(readers, key=graph.nodes.index)
    name = graph.unique_node(f"{first.name}.smooth")
    y = Value(graph, graph.unique_value(name), "float32", x.shape)
    mul = Node("Mul", name, [x, graph.constant(factor, graph.unique_value(f"{name}.factor"))], [y], {})
    y.producer = mul
    graph.append(mul)
    graph.nodes.insert(graph.nodes.index(first), graph.nodes.pop())
    for node in readers:
        node.set_input("x", y)
