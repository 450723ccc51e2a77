"""Write layers as dynq's own ops (form "dynq"), which ONNX Runtime runs with the library of ``dynq.ort_library``.

Each node brings the bytes of a ``.dynq`` file of its layer alone as a constant. native/src/onnxruntime runs that.
"""

from __future__ import annotations

from ...conversion import Unsupported
from ...core.arguments import Array
from ...ir.graph import Graph
from ...ir.values import Node, Value
from ...plan.write import write_image
from ..site import weight_of
from .draft import Edge, Site

__all__ = ["layer", "runs_as_layer"]

# Those of native/src/onnxruntime/custom_ops.c.
_OPS = {
    "dynq.Linear": "DynqLinear",
    "dynq.Conv": "DynqConv",
    "dynq.LSTM": "DynqLSTM",
    "dynq.GRU": "DynqGRU",
    "dynq.RNN": "DynqRNN",
    "dynq.MatMulDynamic": "DynqMatMul",
    "dynq.Attention": "DynqAttention",
}


def runs_as_layer(node: Node) -> bool:
    """Tell whether a node computes with integers, and so is one of dynq's ops in form "dynq".

    A recurrent layer is one too if the layer before it, which projects its inputs, is.
    """
    if node.op not in _OPS:
        return False
    if node.op == "dynq.Attention":
        return bool(node.attributes.get("quantize", 0))
    if node.op == "dynq.MatMulDynamic" or any(_is_packed(value) for value in node.inputs):
        return True
    source = None if node.first is None else node.first.producer
    while source is not None and source.op == "Split":
        source = None if source.first is None else source.first.producer
    return node.op != "dynq.Linear" and source is not None and source.op == "dynq.Linear" and runs_as_layer(source)


def layer(site: Site) -> None:
    """Write the node as one of dynq's ops: the bytes of its model first, then the inputs that are not constant."""
    node = site.node
    given = list(dict.fromkeys(value for value in node.inputs if value is not None and value.constant is None))
    if unknown := [value.name for value in given if value.shape is None or value.dtype is None]:
        raise Unsupported(f"an input of {node.op} in form 'dynq' whose rank is not known: {unknown[0]}")
    key = ("image", node.op, repr(sorted(node.attributes.items())), *(_key(value, given) for value in node.inputs))
    key += tuple(value is not None for value in node.outputs)
    size = _image(node, given).size
    image = site.draft.constant(key, f"{node.name}/layer", "uint8", (size,), lambda: _image(node, given))
    outputs = [value for value in node.outputs if value is not None]
    edges = [Edge(value.name) for value in outputs]
    site.draft.own_step(_OPS[node.op], node.name, [image, *(site.draft.edge(value) for value in given)], edges, outputs)
    for value, edge in zip(outputs, edges, strict=True):
        site.draft.bind(value, edge)


def _is_packed(value: Value | None) -> bool:
    return value is not None and value.dtype is None and weight_of(value) is not None


def _key(value: Value | None, given: list[Value]) -> object:
    """Return what the bytes of a layer depend on: a constant, or the number, type and shape of an input."""
    return (given.index(value), value.dtype, value.shape) if value in given else value


def _image(node: Node, given: list[Value]) -> Array:
    """Return the bytes of a model of the node alone, whose inputs are ``given``."""
    graph = Graph(node.op)
    values: dict[Value, Value] = {}
    for i, value in enumerate(given):
        dims = [f"size{i}.{axis}" if dim is None else dim for axis, dim in enumerate(value.shape or ())]
        values[value] = graph.input(f"input{i}", dims, value.dtype)
    for i, constant in enumerate(node.inputs):
        if constant is not None and constant not in values:
            values[constant] = Value(graph, f"constant{i}", constant.dtype, constant.shape, constant.constant)
    inputs = [None if value is None else values[value] for value in node.inputs]
    copy = Node(node.op, "layer", inputs, [], node.attributes)
    copy.outputs = [
        None if value is None else Value(graph, f"output{i}", value.dtype, value.shape, producer=copy)
        for i, value in enumerate(node.outputs)
    ]
    graph.append(copy)
    for output in copy.outputs:
        if output is not None:
            graph.output(output)
    return write_image(graph, {"name": node.op, "outputs": "[]", "report": "[]"})
