"""Observe the inputs of linear layers in samples, for smoothing."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..core.arguments import Array
from ..ir.graph import Graph
from ..ir.values import Node, Value
from ..model import open_image
from ..plan.write import write_image
from ..quantization.lower import quantize_graph
from ..quantization.options import Options
from ..quantization.smooth import Seen
from ..runs import as_samples

__all__ = ["observe"]

_ROWS = 256  # rows that are kept of each input


def observe(graph: Graph, nodes: list[Node], samples: Any) -> dict[Value, Seen]:
    """Return the inputs of ``nodes``, linear layers, in runs of the float model of ``graph``, which stays as it is.

    Raises:
        ValueError, TypeError: there are no samples, or one does not fit.
    """
    copy = graph.copy()
    quantize_graph(copy, Options(quantize=False))
    copy.claim_names()
    floating = open_image(write_image(copy, {}))
    values = list(dict.fromkeys(node.need("x") for node in nodes))
    runs = as_samples(floating, samples)
    largest: dict[Value, Array] = {}
    kept: dict[Value, list[Array]] = {value: [] for value in values}
    each = max(1, _ROWS // len(runs))
    for i, sample in enumerate(runs):
        tensors = floating.tensors(sample, [value.name for value in values])
        for value in values:
            rows = tensors[value.name].reshape(-1, tensors[value.name].shape[-1])
            if not np.isfinite(rows).all():
                raise ValueError(f"smooth: sample {i} makes tensor {value.name!r} hold a NaN or an infinity")
            sizes = np.abs(rows).max(axis=0, initial=0)
            largest[value] = sizes if value not in largest else np.maximum(largest[value], sizes)
            kept[value].append(rows[:: -(-max(len(rows), 1) // each)].copy())
    if empty := [value.name for value in values if not any(map(len, kept[value]))]:
        raise ValueError(f"smooth: samples have no values in tensor {empty[0]!r}; expected inputs that are not empty")
    return {value: Seen(largest[value], np.concatenate(kept[value])) for value in values}
