"""What the inputs of linear layers are in samples: what smoothing goes by."""

from __future__ import annotations

from typing import Any

import numpy as np

from .._arguments import Array
from ..graph.ir import Graph, Node, Value
from ..graph.passes.smooth import Seen

__all__ = ["observe"]

_ROWS = 256  # that are kept of each input


def observe(graph: Graph, nodes: list[Node], samples: Any) -> dict[Value, Seen]:
    """The inputs of ``nodes`` in runs of the float model of ``graph``, which stays as it is.

    Raises ValueError or TypeError where there are no samples or one does not fit.
    """
    from ..graph.image import write_image
    from ..graph.passes.quantize import Options, quantize_graph
    from ..model import Model
    from .samples import as_samples

    copy = graph.copy()
    quantize_graph(copy, Options(quantize=False))
    copy.claim_names()
    floating = Model._from_image(write_image(copy, {}))
    values = list(dict.fromkeys(value for node in nodes if (value := node.inputs[0]) is not None))
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
