"""Each op of a graph and how it is written."""

from __future__ import annotations

from collections.abc import Callable

from ...graph import Graph, Node
from . import layers, quantized, recurrent
from .draft import Site

__all__ = ["WRITERS", "absorbed"]

WRITERS: dict[str, Callable[[Site], None]] = {
    "dynq.Linear": quantized.linear,
    "dynq.LinearFloat": quantized.linear,
    "dynq.MatMulDynamic": quantized.matmul_dynamic,
    "dynq.MatMulIntegerPacked": quantized.matmul_integer,
    "dynq.Embedding": layers.embedding,
    "dynq.Attention": layers.attention,
    "dynq.Conv": layers.conv,
    "dynq.ConvFloat": layers.conv_float,
    "dynq.LSTM": recurrent.recurrent,
    "dynq.GRU": recurrent.recurrent,
    "dynq.RNN": recurrent.recurrent,
    "LSTM": recurrent.onnx_recurrent,
    "GRU": recurrent.onnx_recurrent,
    "RNN": recurrent.onnx_recurrent,
    "Gelu": layers.gelu,
    "Swish": layers.swish,
    "QuantizeLinear": layers.quantize_linear,
    "RMSNormalization": layers.rms_normalization,
    "ConstantOfShape": layers.constant_of_shape,
}


def absorbed(graph: Graph) -> set[Node]:
    """Layers that project the inputs of recurrent layers, and nothing else, and the Splits between: they become W."""
    users, outputs = graph.users(), {value for _, value in graph.outputs}
    result: set[Node] = set()
    for node in reversed(graph.nodes):
        readers = [(reader, value) for value in node.outputs if value is not None for reader in users.get(value, [])]
        if node.op not in ("dynq.Linear", "dynq.LinearFloat", "Split") or not readers:
            continue
        if any(value in outputs for value in node.outputs):
            continue
        if all(_projects(reader, value, result) for reader, value in readers):
            result.add(node)
    return result


def _projects(reader: Node, value: object, known: set[Node]) -> bool:
    recurrent_part = reader.op in ("dynq.LSTM", "dynq.GRU", "dynq.RNN")
    return (recurrent_part or reader in known) and reader.inputs[0] is value and reader.inputs.count(value) == 1
