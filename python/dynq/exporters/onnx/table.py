"""The table of the ops of a graph, with the function that writes each."""

from __future__ import annotations

from collections.abc import Callable

from ...conversion import Unsupported
from ...ir.graph import Graph
from ...ir.values import Node
from . import layers, quantized, recurrent
from .draft import Site

__all__ = ["WRITERS", "absorbed"]


def _grid_sample(site: Site) -> None:
    """Write GridSample with the names that its modes had until opset 20."""
    mode = str(site.node.attributes.get("mode", "linear"))
    words = {"mode": {"linear": "bilinear", "cubic": "bicubic"}.get(mode, mode)}
    site.gives(site.op("GridSample", site.need("X"), site.need("grid"), **{**site.node.attributes, **words}))


def _control(site: Site) -> None:
    raise Unsupported(f"op {site.node.op}, which runs graphs of its own")


def _state(site: Site) -> None:
    raise Unsupported(f"op {site.node.op}, which reads what a session keeps")


WRITERS: dict[str, Callable[[Site], None]] = {
    "dynq.Linear": quantized.linear,
    "dynq.LinearFloat": quantized.linear,
    "dynq.MatMulDynamic": quantized.matmul_dynamic,
    "dynq.MatMulIntegerPacked": quantized.matmul_integer,
    "dynq.Embedding": layers.embedding,
    "dynq.Attention": layers.attention,
    "dynq.Rotary": layers.rotary,
    "dynq.CachedAttention": _state,
    "dynq.Positions": _state,
    "dynq.Conv": layers.conv,
    "dynq.ConvFloat": layers.conv_float,
    "dynq.LSTM": recurrent.recurrent,
    "dynq.GRU": recurrent.recurrent,
    "dynq.RNN": recurrent.recurrent,
    "dynq.If": _control,
    "dynq.Loop": _control,
    "LSTM": recurrent.onnx_recurrent,
    "GRU": recurrent.onnx_recurrent,
    "RNN": recurrent.onnx_recurrent,
    "Gelu": layers.gelu,
    "Swish": layers.swish,
    "QuantizeLinear": layers.quantize_linear,
    "RMSNormalization": layers.rms_normalization,
    "ConstantOfShape": layers.constant_of_shape,
    "GridSample": _grid_sample,
}


def absorbed(graph: Graph) -> set[Node]:
    """Return the layers that only project the inputs of recurrent layers, and the Splits between: they become W."""
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
    return (recurrent_part or reader in known) and reader.first is value and reader.inputs.count(value) == 1
