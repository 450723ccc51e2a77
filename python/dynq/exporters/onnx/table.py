"""The table of the ops of a graph, with the function that writes each."""

from __future__ import annotations

from collections.abc import Callable, Collection

from ...ir.graph import Graph
from ...ir.values import Node
from .. import composed
from ..site import control, state
from . import layers, quantized, recurrent
from .draft import Edge, Site

__all__ = ["WRITERS", "absorbed"]


def _grid_sample(site: Site) -> None:
    """Write GridSample with the names that its modes had until opset 20."""
    mode = str(site.node.attributes.get("mode", "linear"))
    words = {"mode": {"linear": "bilinear", "cubic": "bicubic"}.get(mode, mode)}
    site.gives(site.op("GridSample", site.need("X"), site.need("grid"), **{**site.node.attributes, **words}))


def _attention(site: Site) -> None:
    with_integers = bool(site.integer("quantize", 0)) and site.draft.form == "dynamic"
    scheme, _ = quantized.scheme_of(site)

    def product(a: Edge, b: Edge) -> Edge:
        if not with_integers:
            return site.op("MatMul", a, b)
        return quantized.dynamic_product(site, a, b, scheme, site.draft.granularity != "tensor")

    site.gives(composed.attention(site, product))


def _gelu(site: Site) -> Edge:
    tanh = site.text("approximate", "none") == "tanh"
    return composed.activate(site, site.need("X"), "gelu_tanh" if tanh else "gelu")


def _gives(write: Callable[[Site], Edge]) -> Callable[[Site], None]:
    """Return a function that records what ``write`` returns."""
    return lambda site: site.gives(write(site))


WRITERS: dict[str, Callable[[Site], None]] = {
    "dynq.Linear": quantized.linear,
    "dynq.LinearFloat": quantized.linear,
    "dynq.MatMulDynamic": quantized.matmul_dynamic,
    "dynq.MatMulIntegerPacked": quantized.matmul_integer,
    "dynq.QuantizeRows": quantized.quantize_rows,
    "dynq.Embedding": layers.embedding,
    "dynq.Attention": _attention,
    "dynq.Rotary": _gives(composed.rotary),
    "dynq.CachedAttention": state,
    "dynq.CrossAttention": state,
    "dynq.Positions": state,
    "dynq.Conv": layers.conv,
    "dynq.ConvFloat": layers.conv_float,
    "dynq.LSTM": recurrent.recurrent,
    "dynq.GRU": recurrent.recurrent,
    "dynq.RNN": recurrent.recurrent,
    "dynq.If": control,
    "dynq.Loop": control,
    "LSTM": recurrent.onnx_recurrent,
    "GRU": recurrent.onnx_recurrent,
    "RNN": recurrent.onnx_recurrent,
    "Gelu": _gives(_gelu),
    "Swish": _gives(composed.swish),
    "QuantizeLinear": layers.quantize_linear,
    "RMSNormalization": _gives(composed.rms_normalization),
    "ConstantOfShape": layers.constant_of_shape,
    "GridSample": _grid_sample,
}


def absorbed(graph: Graph, own: Collection[Node]) -> set[Node]:
    """Return the layers that only project the inputs of recurrent layers, and the Splits between: they become W.

    Those of ``own``, which are written as dynq's ops, project nothing for ONNX's and take no W.
    """
    users, outputs = graph.users(), {value for _, value in graph.outputs}
    result: set[Node] = set()
    for node in reversed(graph.nodes):
        if node in own:
            continue
        readers = [(reader, value) for value in node.outputs if value is not None for reader in users.get(value, [])]
        if node.op not in ("dynq.Linear", "dynq.LinearFloat", "Split") or not readers:
            continue
        if any(value in outputs for value in node.outputs):
            continue
        if all(reader not in own and _projects(reader, value, result) for reader, value in readers):
            result.add(node)
    return result


def _projects(reader: Node, value: object, known: set[Node]) -> bool:
    recurrent_part = reader.op in ("dynq.LSTM", "dynq.GRU", "dynq.RNN")
    return (recurrent_part or reader in known) and reader.first is value and reader.inputs.count(value) == 1
