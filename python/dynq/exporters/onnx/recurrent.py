"""Write dynq.LSTM, dynq.GRU and dynq.RNN, with the layer before them that projects their inputs, as one node of ONNX.

ONNX has no recurrent op of integers: in both forms W and R are dequantized, and the layer runs in float.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ...conversion import Unsupported
from ...core.arguments import FLOAT32, Array
from ...graph import Value
from ...ir.recurrent import CELLS
from ...passes.rewrite import panel_rows
from ...weights import QuantizedWeight
from ..site import weight_of
from .draft import Edge, Site

__all__ = ["onnx_recurrent", "recurrent"]

_ATTRIBUTES = (
    "activation_alpha", "activation_beta", "activations", "clip", "direction", "hidden_size", "input_forget",
    "linear_before_reset",
)  # fmt: skip


def recurrent(site: Site) -> None:
    node = site.node
    cell = CELLS[node.op.removeprefix("dynq.")]
    gates, hidden = len(cell.gates), site.integer("hidden_size", 0)
    directions = 2 if site.text("direction", "forward") == "bidirectional" else 1
    ends = ("forward", "backward", "panels")
    if any(node.input(f"{name}_{end}") is not None for name in cell.weights[1:] for end in ends):
        raise Unsupported("LSTM whose states are projected")
    width = gates * hidden
    x, w, bias = _projection(site, directions, width)
    r = _state_weight(site, directions, width)
    of_state = _vector(site, "bias", directions * width)
    if bias is None and of_state is None:
        b = None
    else:
        parts = [np.zeros(directions * width, FLOAT32) if part is None else part for part in (bias, of_state)]
        b = site.array(np.concatenate([part.reshape(directions, width) for part in parts], axis=1), "bias")
    first = node.position("initial_h")
    states = [site.input(i) for i in range(first, first + 3)]
    lengths = site.input(node.position("sequence_lens"))
    of_lengths = node.input("sequence_lens")
    if of_lengths is not None and of_lengths.dtype != "int32" and lengths is not None:
        lengths = site.op("Cast", lengths, to=6)
    _emit(site, x, [w, r, b, lengths, *states])


def onnx_recurrent(site: Site) -> None:
    """Write ONNX's own LSTM, GRU and RNN."""
    _emit(site, site.need(0), [site.input(i) for i in range(1, 8)])


def _emit(site: Site, x: Edge, inputs: list[Edge | None]) -> None:
    """Write the node. ``layout`` is written with Transpose, since few runtimes have it."""
    node = site.node
    batch_first = bool(site.integer("layout", 0))
    if batch_first:
        x = site.op("Transpose", x, perm=[1, 0, 2])
        for i in (4, 5):
            state = inputs[i]
            inputs[i] = None if state is None else site.op("Transpose", state, perm=[1, 0, 2])
    attributes = {name: node.attributes[name] for name in _ATTRIBUTES if name in node.attributes}
    if "hidden_size" not in attributes:
        attributes["hidden_size"] = _hidden(site)
    count = 3 if node.op.endswith("LSTM") else 2
    outputs: list[Edge | None] = [Edge(f"{node.name}.{i}") for i in range(count)]
    read = [value is not None for value in node.outputs] + [False] * (count - len(node.outputs))
    outputs = [edge if used else None for edge, used in zip(outputs, read, strict=True)]
    if node.op.endswith(("GRU", "RNN")):
        inputs = inputs[:5]
    site.draft.step(node.op.removeprefix("dynq."), node.name, [x, *inputs], outputs, **attributes)
    for i, (value, edge) in enumerate(zip(node.outputs, outputs, strict=False)):
        if value is None or edge is None:
            continue
        if batch_first:
            edge = site.op("Transpose", edge, perm=[2, 0, 1, 3] if i == 0 else [1, 0, 2])
        site.draft.bind(value, edge)


def _hidden(site: Site) -> int:
    """Return the hidden size of one of ONNX's own ops, from R (directions, width, hidden).

    It is written as an attribute, since runtimes do not read it from R.
    """
    r = site.node.input("R")
    size = r.shape[2] if r is not None and r.shape is not None and len(r.shape) == 3 else None
    if not isinstance(size, int):
        raise Unsupported(f"{site.node.op} without hidden_size")
    return size


def _projection(site: Site, directions: int, width: int) -> tuple[Edge, Edge, Array | None]:
    """Return x, W (directions, width, I) and a bias of the layer that projects. A Split may follow that layer."""
    value = site.node.inputs[0]
    begin, end = 0, directions * width
    producer = None if value is None else value.producer
    if producer is not None and producer.op == "Split" and producer.inputs[0] is not None:
        sizes = None if producer.input(1) is None else producer.inputs[1].array  # type: ignore[union-attr]
        axis = producer.attributes.get("axis", 0)
        if sizes is None or axis not in (-1, 2) or value is None:
            raise Unsupported(f"{site.node.op} whose inputs are not those of one linear layer")
        begin = int(sizes[: producer.outputs.index(value)].sum())
        end = begin + directions * width
        producer = producer.inputs[0].producer
    plain = {"none", None}
    if (
        producer is None
        or producer.op not in ("dynq.Linear", "dynq.LinearFloat")
        or producer.attributes.get("activation") not in plain
        or "min" in producer.attributes
        or producer.input(3) is not None
    ):
        raise Unsupported(f"{site.node.op} whose inputs are not those of one linear layer")
    weight, x = producer.inputs[1], producer.inputs[0]
    assert weight is not None and x is not None
    w = _rows(site, weight, producer.op == "dynq.LinearFloat", begin, end, directions)
    bias = producer.input(2)
    if bias is not None and bias.array is None:
        raise Unsupported(f"{site.node.op} with a bias that is not constant")
    return site.draft.edge(x), w, None if bias is None or bias.array is None else bias.array[begin:end]


def _rows(site: Site, weight: Value, columns: bool, begin: int, end: int, directions: int) -> Edge:
    """Return channels [begin, end) of a weight, as (directions, width, K)."""
    packed = weight_of(weight)
    if packed is None:
        array = weight.array
        if array is None:
            raise Unsupported("a weight that is not constant")
        part = (array.T if columns else array)[begin:end]
        shape = (directions, part.shape[0] // directions, part.shape[1])
        key = (weight, "rows", begin, end)
        return site.draft.constant(key, weight.name, "float32", shape, lambda: part.reshape(shape))
    return _dequantized(site, [packed], (weight, "rows", begin, end), weight.name, begin, end, directions)


def _dequantized(
    site: Site, parts: list[QuantizedWeight], key: object, name: str, begin: int, end: int, directions: int
) -> Edge:
    """Return rows of weights, stacked and dequantized: (directions, width, K)."""
    k = parts[0].shape[1]
    scale = np.concatenate([part.scale for part in parts])[begin:end]
    if any(part.zero_point is not None for part in parts):
        raise Unsupported("zero-points of weights of a recurrent layer")
    make: Callable[[], Array] = lambda: np.concatenate([part.integers() for part in parts])[begin:end]  # noqa: E731
    w = site.draft.constant((key, "integers"), name, "int8", (end - begin, k), make)
    scales = site.draft.constant((key, "scale"), f"{name}.scale", "float32", scale.shape, lambda: scale)
    w = site.op("DequantizeLinear", w, scales, axis=0)
    return site.op("Reshape", w, site.array([directions, (end - begin) // directions, k], "gates"))


def _state_weight(site: Site, directions: int, width: int) -> Edge:
    """Return R (directions, width, hidden)."""
    node = site.node
    panels = node.input("R_panels")
    if panels is not None and panels.array is not None:
        rows = panel_rows(panels.array, width)
        key = (panels, "rows")
        return site.draft.constant(key, panels.name, "float32", rows.shape, lambda: rows)
    values = [node.input(f"R_{end}") for end in ("forward", "backward")[:directions]]
    parts = [packed for value in values if value is not None and (packed := weight_of(value)) is not None]
    if len(parts) != directions or values[0] is None:
        raise Unsupported(f"{node.op} without a weight of its states")
    return _dequantized(site, parts, tuple(values), values[0].name, 0, directions * width, directions)


def _vector(site: Site, name: str, size: int) -> Array | None:
    value = site.node.input(name)
    if value is None:
        return None
    if value.array is None:
        raise Unsupported(f"{site.node.op} with a bias that is not constant")
    return value.array.reshape(size)
