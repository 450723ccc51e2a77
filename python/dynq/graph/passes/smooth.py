"""Outliers in channels of activations move into weights: SmoothQuant (G. Xiao et al., 2022, arXiv 2211.10438).

``x W^T = (x / s) (W s)^T`` with ``s[j] = max|x[:, j]|^alpha / max|W[:, j]|^(1 - alpha)``. The division goes into what
computes x where that is exact but for float rounding: a norm's scale and bias, a linear layer without an activation or
with relu, the values of an attention. Else it is a Mul of its own. A layer is smoothed only where that promises a gain.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from ..._arguments import FLOAT32, Array
from ..ir import Graph, Node, Value
from ._rewrite import Uses, constant_of, is_op

__all__ = ["Seen", "smooth_linear"]

_ALPHAS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
_WORTH_FOLDING = 0.6  # of the noise may be left: 2 dB
_WORTH_A_MUL = 0.5  # 3 dB, for a pass over the activations
_MOST = 1e5  # s and 1 / s
_NORMS = ("LayerNormalization", "RMSNormalization")


@dataclasses.dataclass(frozen=True)
class Seen:
    """What the input of a layer is in samples."""

    largest: Array  # (K) of |x|, of all rows
    rows: Array  # (rows, K), some of them


def smooth_linear(graph: Graph, nodes: list[Node], seen: dict[Value, Seen], alpha: float | None) -> dict[str, str]:
    """Smooths the inputs of ``nodes``, which are dynq.Linear with float weights; tells of each what was done, by name.

    Args:
        seen: the inputs of these nodes.
        alpha: None: for each layer the best of some.
    """
    said: dict[str, str] = {}
    groups: dict[Value, list[Node]] = {}
    for node in nodes:
        if node.inputs[0] is not None:
            groups.setdefault(node.inputs[0], []).append(node)
    for x, readers in groups.items():
        weights = [array for node in readers if (array := constant_of(node.inputs[1])) is not None]
        scales = {a: _scale(seen[x], weights, a) for a in (_ALPHAS if alpha is None else (alpha,))}
        noises = {a: _noise(seen[x], weights, scale) for a, scale in scales.items()}
        best = min(noises, key=noises.__getitem__)
        scale, left = scales[best], noises[best] / _noise(seen[x], weights, np.ones_like(scales[best]))
        where = _foldable(Uses(graph), x, readers) if left <= _WORTH_FOLDING else None
        if left > (_WORTH_A_MUL if where is None else _WORTH_FOLDING):
            continue
        done = f"; smoothed with alpha {best:g}, "
        if where is None:
            _insert_mul(graph, x, readers, 1 / scale)
            done += "by a Mul before it"
        else:
            _fold(graph, where, 1 / scale)
            done += f"in {where.name}"
        for node in readers:
            _scale_weight(graph, node, 1, scale)
            said[node.name] = done
    return said


def _scale(seen: Seen, weights: list[Array], alpha: float) -> Array:
    """s, 1 for channels that are 0 in the samples or in the weights."""
    x = seen.largest.astype(np.float64)
    w = np.max([np.abs(weight).max(axis=0) for weight in weights], axis=0).astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        s = x**alpha / w ** (1 - alpha)
    usable = (x > 0) & (w > 0) & np.isfinite(s)
    middle = np.exp(np.log(s[usable]).mean()) if usable.any() else 1.0
    return np.where(usable, np.clip(s / middle, 1 / _MOST, _MOST), 1.0).astype(FLOAT32)


def _noise(seen: Seen, weights: list[Array], s: Array) -> float:
    """What quantizing adds to the outputs' power, about: a twelfth of squared scales, of rows and of channels."""
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
    """The node that can give x / s in the place of x: nobody else reads it."""
    alone = uses.inside(x, set(readers)) and all(value is not x for node in readers for value in node.inputs[1:])
    if not alone:
        return None
    attention = is_op(x, "dynq.Attention")
    if attention is not None:
        v = attention.input(2)
        x_of_v = uses.only_reader(v)
        producer = is_op(v, "dynq.Linear")
        return producer if x_of_v is attention and producer is not None and _is_scalable(producer, ("none",)) else None
    norm = is_op(x, *_NORMS)
    if norm is not None:
        fixed = all(value is None or value.array is not None for value in norm.inputs[1:])
        return norm if fixed and norm.input(1) is not None and norm.attributes.get("axis", -1) == -1 else None
    producer = is_op(x, "dynq.Linear")
    return producer if producer is not None and _is_scalable(producer, ("none", "relu")) else None


def _is_scalable(node: Node, activations: tuple[str, ...]) -> bool:
    bias = node.input(2)
    constant = constant_of(node.input(1)) is not None and (bias is None or bias.array is not None)
    plain = node.input(3) is None and "min" not in node.attributes
    return constant and plain and node.attributes.get("activation", "none") in activations


def _fold(graph: Graph, node: Node, factor: Array) -> None:
    """What ``node`` gives is multiplied by ``factor``, channel by channel."""
    if node.op == "dynq.Linear":
        _scale_weight(graph, node, 0, factor)
    for at in (2,) if node.op == "dynq.Linear" else (1, 2):
        value = node.input(at)
        if value is not None and value.array is not None:
            node.inputs[at] = graph.constant_for(value.array * factor, value)


def _scale_weight(graph: Graph, node: Node, axis: int, factor: Array) -> None:
    """Its channels (axis 0) or columns (axis 1), in a copy."""
    weight = node.inputs[1]
    assert weight is not None and weight.array is not None
    node.inputs[1] = graph.constant_for(weight.array * (factor[:, None] if axis == 0 else factor), weight)


def _insert_mul(graph: Graph, x: Value, readers: list[Node], factor: Array) -> None:
    first = min(readers, key=graph.nodes.index)
    name = graph.unique_node(f"{first.name}.smooth")
    y = Value(graph, graph.unique_value(name), "float32", x.shape)
    mul = Node("Mul", name, [x, graph.constant(factor, graph.unique_value(f"{name}.factor"))], [y], {})
    y.producer = mul
    graph.append(mul)
    graph.nodes.insert(graph.nodes.index(first), graph.nodes.pop())
    for node in readers:
        node.inputs[0] = y
