"""A BatchNormalization goes into the weights of the dynq.Linear or dynq.Conv before it."""

from __future__ import annotations

import numpy as np

from ..._arguments import FLOAT32
from ..ir import Graph, Node
from ._rewrite import Uses, constant_of, is_op, is_open

__all__ = ["fold_batch_norm"]


def fold_batch_norm(graph: Graph) -> None:
    uses = Uses(graph)
    for node in list(graph.nodes):
        if node.op == "BatchNormalization" and not node.attributes.get("training_mode"):
            _fold(uses, node)


def _fold(uses: Uses, node: Node) -> None:
    before = is_op(node.input(0), "dynq.Linear", "dynq.Conv")
    scale, shift, mean, variance = (constant_of(node.input(i)) for i in range(1, 5))
    if before is None or uses.only_reader(before.outputs[0]) is not node:
        return
    if scale is None or shift is None or mean is None or variance is None:
        return
    weight, bias = constant_of(before.input(1)), constant_of(before.input(2))
    if weight is None or (before.input(2) is not None and bias is None):
        return
    if before.op == "dynq.Linear":  # channels are dimension 1: the last one of a matrix alone
        shape = None if before.inputs[0] is None else before.inputs[0].shape
        plain = before.input(3) is None and not before.attributes
        if not plain or shape is None or len(shape) != 2:
            return
    if not is_open(before):
        return
    epsilon = node.attributes.get("epsilon", 1e-5)
    assert isinstance(epsilon, (int, float))
    factor = scale.astype(np.float64) / np.sqrt(variance.astype(np.float64) + epsilon)
    old = 0.0 if bias is None else bias.astype(np.float64)
    new_weight = weight * factor.reshape(-1, *[1] * (weight.ndim - 1))
    new_bias = (old - mean) * factor + shift
    graph = uses.graph

    old_weight = before.inputs[1]
    assert old_weight is not None
    weight_value = graph.constant_for(new_weight.astype(FLOAT32), old_weight)
    bias_value = graph.constant_for(new_bias.astype(FLOAT32), before.input(2) or old_weight, ".bias" * (bias is None))
    uses.set_inputs(before, [before.inputs[0], weight_value, bias_value])
    uses.take_over(before, node)
