"""The layers of a quantized model beside those of its float original: which there are, their work and their weights."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping

import numpy as np

from .._arguments import FLOAT32, Array
from ..graph import Graph
from ..graph.ir import Node, Value
from ..report import Row
from ..weights import QuantizedWeight

__all__ = ["RECURRENT", "Layer", "find_layers", "join_merged", "macs", "number", "original_outputs", "weight_error"]

RECURRENT = ("dynq.LSTM", "dynq.GRU", "dynq.RNN")
_KINDS = {
    "dynq.Linear": "int8 linear",
    "dynq.LinearFloat": "float linear",
    "dynq.Conv": "int8 conv",
    "dynq.ConvFloat": "float conv",
    "Conv": "float conv",
    "ConvTranspose": "float conv transpose",
    "dynq.Embedding": "int8 embedding",
    "dynq.Attention": "float attention",
    "dynq.MatMulDynamic": "int8 matmul",
    "dynq.MatMulIntegerPacked": "int8 matmul",
    "MatMul": "float matmul",
    "Gemm": "float matmul",
    **{op: f"int8 {op.removeprefix('dynq.')}" for op in RECURRENT},
}
_MERGED = "; one product for "  # in why of a report's row: the names of layers that became one


@dataclasses.dataclass(frozen=True)
class Layer:
    """A layer of the quantized model. ``part``: the channels of its node's output, where the node is several layers."""

    name: str  # as keep_float takes it
    became: str  # of the model's report: "int8 linear"
    why: str
    node: Node
    part: slice | None

    @property
    def quantized(self) -> bool:
        return not self.became.startswith("float ")

    @property
    def op(self) -> str:
        return self.node.op

    def of(self, output: Array) -> Array:
        """This layer's channels of what its node computes."""
        return output if self.part is None else output[..., self.part]


def find_layers(graph: Graph, report: tuple[Row, ...], originals: Mapping[str, Node]) -> list[Layer]:
    """In the order in which they run. ``originals``: nodes of the float model, by name."""
    rows = {row.node: row for row in report}
    result = []
    for node in graph.nodes:
        row = rows.get(node.name)
        if node.op == "Gather" and not (row is not None and row.became == "float embedding"):
            continue
        if node.op not in _KINDS and node.op != "Gather":
            continue
        became = row.became if row is not None and row.became != node.op else _KINDS.get(node.op, "float embedding")
        why, _, merged = (row.why if row is not None else "").partition(_MERGED)
        names = _split_names(merged, originals)
        sizes = [_channels(originals[name]) for name in names]
        if len(names) < 2 or None in sizes:
            result.append(Layer(node.name, became, row.why if row is not None else "", node, None))
            continue
        begin = 0
        for name, size in zip(names, sizes, strict=True):
            assert size is not None
            result.append(Layer(name, became, why, node, slice(begin, begin + size)))
            begin += size
    return result


def _split_names(text: str, known: Mapping[str, Node]) -> list[str]:
    """Names with commas between, each of a node; a name may have a comma itself."""
    names: list[str] = []
    rest = text
    while rest:
        for name in sorted((name for name in known if rest == name or rest.startswith(f"{name}, ")), key=len):
            names.append(name)
            rest = rest[len(name) + 2 :]
            break
        else:
            return []
    return names


def _channels(node: Node) -> int | None:
    """Outputs of a linear layer."""
    weight = node.input(1)
    if weight is None or weight.shape is None or node.op not in ("dynq.Linear", "dynq.LinearFloat"):
        return None
    size = weight.shape[0 if node.op == "dynq.Linear" else -1]
    return size if isinstance(size, int) else None


def original_outputs(layer: Layer, floating: Graph, originals: Mapping[str, Node]) -> list[str | None]:
    """The names that the outputs of the layer have in the float model."""
    if layer.part is None:
        return [None if value is None else value.name for value in layer.node.outputs]
    output = originals[layer.name].outputs[0]
    assert output is not None
    if output.name == f"{layer.name}.linear":  # a clamp is a node of its own in float
        output = next((n.outputs[0] for n in floating.nodes if n.op == "Clip" and n.input(0) is output), output)
    return [None if output is None else output.name]


def join_merged(layers: list[Layer], floating: Graph, originals: Mapping[str, Node], tensors: dict[str, Array]) -> None:
    """To the float model's tensors add what merged nodes compute there: their layers' outputs side by side."""
    parts: dict[str, list[Array]] = {}
    for layer in layers:
        output = layer.node.outputs[0]
        if layer.part is not None and output is not None:
            (name,) = original_outputs(layer, floating, originals)
            assert name is not None
            parts.setdefault(output.name, []).append(tensors[name])
    tensors.update((name, np.concatenate(arrays, -1)) for name, arrays in parts.items())


def macs(layer: Layer, tensors: Mapping[str, Array]) -> int:
    """Multiplications of a number by a weight, or of two numbers, in a run with these tensors; tables have none."""
    node = layer.node
    arrays = [None if value is None else _array(value, tensors) for value in node.inputs]
    first = next((value for value in node.outputs if value is not None), None)
    if first is None or first.name not in tensors:
        return 0
    output = layer.of(tensors[first.name])
    weight = node.input(1)
    if node.op in ("dynq.Linear", "dynq.LinearFloat", "dynq.Conv", "dynq.MatMulIntegerPacked"):
        assert weight is not None and weight.shape is not None
        k = weight.shape[0] if node.op == "dynq.LinearFloat" else weight.shape[1]
        return output.size * int(k or 0)
    if node.op == "dynq.ConvFloat":
        assert weight is not None and weight.shape is not None
        return output.size * int(weight.shape[2] or 0)
    if node.op in ("Conv", "ConvTranspose") and arrays[0] is not None and arrays[1] is not None:
        return int((output if node.op == "Conv" else arrays[0]).size * np.prod(arrays[1].shape[1:]))
    if node.op in RECURRENT and arrays[0] is not None:
        projects = any(value is not None for value in arrays[9:12])
        return int(arrays[0].size * output.shape[-1] + projects * output.size * number(node, "hidden_size"))
    if node.op == "dynq.Attention" and arrays[0] is not None:
        batch, time, width = arrays[0].shape
        keys = arrays[1] if len(arrays) > 1 else None
        seen, query = (time, width // 3) if keys is None else (keys.shape[1], width)
        return int(batch * time * seen * (query + output.shape[-1]))
    if node.op in ("MatMul", "Gemm", "dynq.MatMulDynamic") and arrays[0] is not None:
        across = bool(node.op == "Gemm" and node.attributes.get("transA", 0))
        return int(output.size * arrays[0].shape[0 if across else -1])
    return 0


def number(node: Node, name: str) -> int:
    """An integer attribute."""
    value = node.attributes[name]
    assert isinstance(value, int), (node, name)
    return value


def _array(value: Value, tensors: Mapping[str, Array]) -> Array | None:
    return value.array if value.array is not None else tensors.get(value.name)


def weight_error(layer: Layer, original: Node | None) -> float | None:
    """``|W' - W| / |W|`` in the Frobenius norm; None where the layer has no weights or the float model not the same."""
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
    """Pieces of a quantized layer's weights, dequantized, and of the float ones, in the same order of rows."""
    node = layer.node
    if node.op == "dynq.Embedding":
        rows, scale, table = (node.inputs[0], node.inputs[1], original.input(0))
        if rows is None or scale is None or table is None or table.array is None:
            return
        assert rows.array is not None and scale.array is not None
        for i in range(0, len(rows.array), 4096):
            part = slice(i, i + 4096)
            yield rows.array[part] * scale.array[part, None], table.array[part]
        return
    inputs = node.inputs[:3] if node.op in RECURRENT else node.inputs  # those behind project the states
    packed = [v.constant for v in inputs if v is not None and isinstance(v.constant, QuantizedWeight)]
    float_weight = _float_weight(original)
    if packed and float_weight is not None:
        got = np.concatenate([weight.dequantize() for weight in packed])
        yield (got if layer.part is None else got[layer.part]), float_weight


def _float_weight(node: Node) -> Array | None:
    """The float weight (N, K) of a layer; of one with panels, without their padding."""
    at = 3 if node.op in RECURRENT else 1
    value = node.input(at)
    if value is None or value.array is None or value.dtype != FLOAT32.name:
        return None
    array = value.array
    if node.op == "dynq.LinearFloat":
        return array.T
    if node.op == "dynq.ConvFloat":
        return _rows_of_panels(array, number(node, "channels") // array.shape[0])
    if node.op in RECURRENT:
        gates = {"dynq.LSTM": 4, "dynq.GRU": 3, "dynq.RNN": 1}[node.op]
        return _rows_of_panels(array, gates * number(node, "hidden_size"))
    return None


def _rows_of_panels(array: Array, outputs: int) -> Array:
    """(groups, panels, K, 16) as (groups * outputs, K)."""
    groups, _, k, _ = array.shape
    rows = array.swapaxes(2, 3).reshape(groups, -1, k)[:, :outputs]
    return rows.reshape(-1, k)
