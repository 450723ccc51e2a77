"""The layers of a quantized model beside those of its float original: which there are, their work and their weights."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping

import numpy as np

from ..core.arguments import FLOAT32, Array
from ..ir.conv_panels import conv_float_k, conv_float_rows
from ..ir.graph import Graph
from ..ir.values import Node, Value
from ..passes.rewrite import panel_rows
from ..report import Row
from ..weights import QuantizedWeight

__all__ = ["RECURRENT", "Layer", "find_layers", "join_merged", "macs", "number", "original_outputs", "weight_error"]

RECURRENT = ("dynq.LSTM", "dynq.GRU", "dynq.RNN")
_KINDS = {
    "dynq.Linear": ("linear", True),
    "dynq.LinearFloat": ("linear", False),
    "dynq.Conv": ("conv", True),
    "dynq.ConvFloat": ("conv", False),
    "Conv": ("conv", False),
    "ConvTranspose": ("conv transpose", False),
    "dynq.Embedding": ("embedding", True),
    "dynq.Attention": ("attention", False),
    "dynq.MatMulDynamic": ("matmul", True),
    "dynq.MatMulIntegerPacked": ("matmul", True),
    "MatMul": ("matmul", False),
    "Gemm": ("matmul", False),
    **{op: (op.removeprefix("dynq."), True) for op in RECURRENT},
}  # kinds of layers, and whether they are quantized, for reports that lack that
_K_AXIS = {
    "dynq.Linear": 1,
    "dynq.LinearFloat": 0,
    "dynq.MatMulIntegerPacked": 1,
    "dynq.Conv": 1,
}  # the axis of the weight whose size is the number of products for each element of the output
_STATE_PROJECTIONS = ("projection_forward", "projection_backward", "projection_panels")


@dataclasses.dataclass(frozen=True)
class Layer:
    """A layer of the quantized model. ``part`` has its channels in its node's output, if the node is several layers."""

    row: Row  # of the model's report, or of this layer alone, if several were merged
    node: Node
    part: slice | None

    @property
    def name(self) -> str:
        """Return the name, as keep_float takes it."""
        return self.row.node

    @property
    def quantized(self) -> bool:
        return self.row.quantized

    @property
    def op(self) -> str:
        return self.node.op

    def of(self, output: Array) -> Array:
        """Return this layer's channels in the output of its node."""
        return output if self.part is None else output[:, self.part] if self.axis == 1 else output[..., self.part]

    @property
    def axis(self) -> int:
        """Return the axis of the output that the channels lie along."""
        return 1 if self.op == "dynq.Conv" else -1


def find_layers(graph: Graph, report: tuple[Row, ...], originals: Mapping[str, Node]) -> list[Layer]:
    """Return the layers in the order in which they run. ``originals`` has nodes of the float model, by name."""
    rows = {row.node: row for row in report}
    result = []
    for node in graph.nodes:
        row = rows.get(node.name)
        if (row is None or not row.layer) and node.op in _KINDS:
            kind, quantized = _KINDS[node.op]
            row = Row(node.name, kind, "" if row is None else row.reason, quantized=quantized)
        if row is None or not row.layer or (node.op not in _KINDS and node.op != "Gather"):
            continue
        sizes = [_channels(originals[name]) if name in originals else None for name in row.merged]
        if None in sizes or not sizes:
            result.append(Layer(row, node, None))
            continue
        begin = 0
        for name, size in zip(row.merged, sizes, strict=True):
            assert size is not None
            part = slice(begin, begin + size)
            result.append(Layer(dataclasses.replace(row, node=name, merged=()), node, part))
            begin += size
    return result


def _channels(node: Node) -> int | None:
    """Return the number of outputs of a linear layer or a convolution."""
    if node.op == "dynq.ConvFloat":
        return number(node, "channels")
    weight = node.need("weight") if node.op in ("dynq.Linear", "dynq.LinearFloat") else None
    if weight is None or weight.shape is None:
        return None
    size = weight.shape[0 if node.op == "dynq.Linear" else -1]
    return size if isinstance(size, int) else None


def original_outputs(layer: Layer, originals: Mapping[str, Node]) -> list[str | None]:
    """Return the names that the outputs of the layer have in the float model."""
    if layer.part is None:
        return [None if value is None else value.name for value in layer.node.outputs]
    output = originals[layer.name].outputs[0]
    return [None if output is None else output.name]


def join_merged(layers: list[Layer], originals: Mapping[str, Node], tensors: dict[str, Array]) -> None:
    """Add the outputs of merged nodes to the float model's tensors: the outputs of their layers side by side."""
    parts: dict[str, list[Array]] = {}
    axes = {layer.node.outputs[0].name: layer.axis for layer in layers if layer.node.outputs[0] is not None}
    for layer in layers:
        output = layer.node.outputs[0]
        if layer.part is not None and output is not None:
            (name,) = original_outputs(layer, originals)
            assert name is not None
            parts.setdefault(output.name, []).append(tensors[name])
    tensors.update((name, np.concatenate(arrays, axes[name])) for name, arrays in parts.items())


def macs(layer: Layer, tensors: Mapping[str, Array]) -> int:
    """Return how often a run with these tensors multiplies a number by a weight, or two numbers. Tables do not
    multiply.
    """
    node = layer.node
    made = next((value for value in node.outputs if value is not None), None)
    if made is None or made.name not in tensors:
        return 0
    output = layer.of(tensors[made.name])
    if node.op == "dynq.ConvFloat":
        return output.size * conv_float_k(node)
    if node.op in _K_AXIS:
        shape = node.need("weight").shape
        assert shape is not None
        return output.size * int(shape[_K_AXIS[node.op]] or 0)
    x = _array(node.first, tensors)
    if x is None:
        return 0
    if node.op in ("Conv", "ConvTranspose"):
        weight = _array(node.need("W"), tensors)
        return 0 if weight is None else int((output if node.op == "Conv" else x).size * np.prod(weight.shape[1:]))
    if node.op in RECURRENT:
        projects = node.op == "dynq.LSTM" and any(node.input(name) is not None for name in _STATE_PROJECTIONS)
        return int(x.size * output.shape[-1] + projects * output.size * number(node, "hidden_size"))
    if node.op == "dynq.Attention":
        keys = _array(node.input("k"), tensors)
        batch, time = output.shape[:2]
        seen = time if keys is None else keys.shape[-2]
        query = x.size // max(batch * time, 1) // (3 if keys is None else 1)
        return int(batch * time * seen * (query + output.shape[-1]))
    if node.op in ("MatMul", "Gemm", "dynq.MatMulDynamic"):
        across = bool(node.op == "Gemm" and node.attributes.get("transA", 0))
        return int(output.size * x.shape[0 if across else -1])
    return 0


def number(node: Node, name: str) -> int:
    """Return an integer attribute."""
    value = node.attributes[name]
    assert isinstance(value, int), (node, name)
    return value


def _array(value: Value | None, tensors: Mapping[str, Array]) -> Array | None:
    if value is None:
        return None
    return value.array if value.array is not None else tensors.get(value.name)


def weight_error(layer: Layer, original: Node | None) -> float | None:
    """Return ``|W' - W| / |W|`` in the Frobenius norm.

    It is None if the layer has no weights, or if the float model does not have the same ones.
    """
    if original is None:
        return None
    noise = signal = 0.0
    found = False
    for got, expected in _weights(layer, original):
        if got.shape != expected.shape:
            return None
        found = True
        noise += float(np.square(got.astype(np.float64) - expected).sum())
        signal += float(np.square(expected.astype(np.float64)).sum())
    if not found:
        return None
    return float(np.sqrt(noise / signal)) if signal else 0.0  # zeros are exact


def _weights(layer: Layer, original: Node) -> Iterator[tuple[Array, Array]]:
    """Yield pieces of a quantized layer's weights, dequantized, and of the float ones, in the same order of rows."""
    node = layer.node
    if node.op == "dynq.Embedding":
        rows, scale, table = node.array("rows"), node.array("scale"), original.first
        if table is None or table.array is None:
            return
        assert rows is not None and scale is not None
        for i in range(0, len(rows), 4096):
            part = slice(i, i + 4096)
            yield rows[part] * scale[part, None], table.array[part]
        return
    if node.op == "dynq.ConvFloat" and node.input("scale") is not None:
        got, expected = conv_float_rows(node), _float_weight(original)
        if got is not None and expected is not None:
            yield got, expected
        return
    # The weights of a recurrent layer that project its states are not compared.
    inputs = [node.input(name) for name in ("R_forward", "R_backward")] if node.op in RECURRENT else node.inputs
    packed = [v.constant for v in inputs if v is not None and isinstance(v.constant, QuantizedWeight)]
    float_weight = _float_weight(original)
    if packed and float_weight is not None:
        got = np.concatenate([weight.dequantize() for weight in packed])
        yield (got if layer.part is None else got[layer.part]), float_weight


def _float_weight(node: Node) -> Array | None:
    """Return the float weight (N, K) of a layer. If it is in panels, their padding is cut off."""
    if node.op not in ("dynq.LinearFloat", "dynq.ConvFloat", *RECURRENT):
        return None
    array = node.array("R_panels" if node.op in RECURRENT else "weight")
    if array is None or array.dtype != FLOAT32:
        return None
    if node.op == "dynq.LinearFloat":
        return array.T
    if node.op == "dynq.ConvFloat":
        return conv_float_rows(node)
    gates = {"dynq.LSTM": 4, "dynq.GRU": 3, "dynq.RNN": 1}[node.op]
    return panel_rows(array, gates * number(node, "hidden_size")).reshape(-1, array.shape[2])
