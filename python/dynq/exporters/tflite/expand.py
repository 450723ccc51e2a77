"""Replace nodes that TensorFlow Lite has no operator for by nodes of which each becomes one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ...conversion import Problems, Unsupported
from ...core.arguments import FLOAT32
from ...ir.graph import Graph
from ...ir.shapes import infer_all
from ...ir.values import Node, Value
from .. import composed
from ..site import Reader, Site

__all__ = ["PARTS", "Parts", "expand", "fused"]

_LAYERS = ("dynq.Linear", "dynq.LinearFloat", "dynq.Conv", "dynq.ConvFloat")
_OF_EPILOGUES = ("activation", "alpha", "beta", "min", "max")
_NONE, _RELU, _RELU_N1_TO_1, _RELU6 = 0, 1, 2, 3  # numbers of ActivationFunctionType


class Parts(Site[Value]):
    """A node on its way into parts: nodes of the same graph."""

    def __init__(self, graph: Graph, node: Node) -> None:
        self.graph = graph
        self.node = node

    def input(self, name: str | int) -> Value | None:
        return self.node.input(name)

    def ops(self, op: str, inputs: Sequence[Value | None], outputs: int, **attributes: Any) -> list[Value]:
        name = self.graph.unique_node(f"{self.node.name}/{op.rpartition('.')[2].lower()}")
        return list(self.graph.node(op, inputs, [self.graph.unique_value(f"{name}.{i}") for i in range(outputs)], name,
                                    **attributes))  # fmt: skip

    def array(self, array: Any, name: str = "constant") -> Value:
        return self.graph.constant(array, self.graph.unique_value(f"{self.node.name}/{name}"))


Expansion = Callable[[Parts], "Value | Sequence[Value | None] | None"]


def expand(graph: Graph, problems: Problems, parts_of: Mapping[str, Expansion]) -> dict[Node, str]:
    """Expand the nodes of a graph by the functions for their ops. What cannot be is left, and said in ``problems``.

    Returns:
        The nodes that are new, each with the name of the node that it is a part of.
    """
    infer_all(graph)
    origins: dict[Node, str] = {}
    nodes, graph.nodes = graph.nodes, []
    for node in nodes:
        parts = parts_of.get(node.op)
        before = len(graph.nodes)
        try:
            made = None if parts is None else parts(Parts(graph, node))
        except Unsupported as error:
            del graph.nodes[before:]
            problems.add(str(error), node.name)
            made = None
        if made is None:
            graph.nodes.append(node)
            continue
        for old, new in zip(node.outputs, [made] if isinstance(made, Value) else made, strict=False):
            if old is None or new is None:
                continue
            if new.producer is None or new.producer not in graph.nodes[before:]:
                new = graph.node("Identity", [new], [graph.unique_value(f"{node.name}/identity")])[0]
            assert new.producer is not None
            new.producer.outputs[new.producer.outputs.index(new)] = old
            old.producer = new.producer
        origins.update((part, node.name) for part in graph.nodes[before:])
    infer_all(graph)
    return origins


def fused(site: Reader) -> int | None:
    """Return the number of the activation that an operator can have with it; None if the layer's is another one."""
    activation = site.text("activation", "none")
    low, high = site.number("min", 0.0), site.number("max", 0.0)
    clamped = low < high
    if activation not in ("none", "relu"):
        return None
    if not clamped:
        return _RELU if activation == "relu" else _NONE
    if activation == "relu":
        low = max(low, 0.0)
    return {(0.0, 6.0): _RELU6, (-1.0, 1.0): _RELU_N1_TO_1, (0.0, float("inf")): _RELU}.get((low, high))


def _activate(site: Site[Value], x: Value, activation: str, alpha: float = 0.0, beta: float = 0.0) -> Value:
    """Write an activation with its numbers. TensorFlow Lite has some that ONNX has in parts, and lacks others."""
    if activation in ("gelu", "gelu_tanh"):
        return site.op("Gelu", x, approximate="none" if activation == "gelu" else "tanh")
    if activation == "hard_swish":
        return site.op("HardSwish", x)
    if activation == "hard_sigmoid":
        gate = site.op("Add", site.op("Mul", x, site.array(alpha)), site.array(beta))
        return site.op("Clip", gate, site.array(0.0), site.array(1.0))
    if activation == "mish":
        return site.op("Mul", x, site.op("Tanh", _softplus(site, x)))
    return composed.activate(site, x, activation, alpha, beta)


def _softplus(site: Site[Value], x: Value) -> Value:
    """Return log(1 + exp(x)), as max(x, 0) + log(1 + exp(-|x|)): no exponential is infinite."""
    small = site.op("Exp", site.op("Neg", site.op("Abs", x)))
    return site.op("Add", site.op("Relu", x), site.op("Log", site.op("Add", small, site.array(1.0))))


def _layer(site: Parts) -> Value | None:
    """Put what comes behind a layer into nodes of its own, unless the operator has it."""
    node = site.node
    residual = node.input(3) if node.op in ("dynq.Linear", "dynq.LinearFloat") else None
    if residual is None and fused(site) is not None:
        return None
    inputs = [*node.inputs[:3], *(node.inputs[3:] if residual is None else [])]
    attributes = {name: value for name, value in node.attributes.items() if name not in _OF_EPILOGUES}
    y = site.op(node.op, *inputs, **attributes)
    y = y if residual is None else site.op("Add", y, residual)
    return composed.activate_layer(site, y, _activate)


def _attention(site: Parts) -> Value:
    return composed.attention(site, lambda a, b: site.op("MatMul", a, b))


def _layer_normalization(site: Parts) -> Value:
    """Write ``(x - mean) / sqrt(variance + epsilon) * scale + b`` over the dimensions from ``axis`` on."""
    node = site.node
    shape = node.need("X").shape
    if any(value is not None for value in node.outputs[1:]):
        raise Unsupported("LayerNormalization whose mean is read")
    if shape is None:
        raise Unsupported("LayerNormalization of a tensor whose rank is not known")
    axis = site.integer("axis", -1)
    axes = site.array(list(range(axis if axis < 0 else axis - len(shape), 0)))
    x = site.need("X")
    centered = site.op("Sub", x, site.op("ReduceMean", x, axes, keepdims=1))
    variance = site.op("ReduceMean", site.op("Mul", centered, centered), axes, keepdims=1)
    root = site.op("Sqrt", site.op("Add", variance, site.array(FLOAT32.type(site.number("epsilon", 1e-5)))))
    y = site.op("Mul", site.op("Div", centered, root), site.need("Scale"))
    bias = site.input("B")
    return y if bias is None else site.op("Add", y, bias)


def _batch_normalization(site: Parts) -> Value:
    arrays = [site.node.array(name) for name in ("scale", "B", "input_mean", "input_var")]
    shape = site.node.need("X").shape
    if site.integer("training_mode", 0) or shape is None or any(array is None for array in arrays):
        raise Unsupported("BatchNormalization in training, or of numbers that are computed")
    scale, bias, mean, variance = (array for array in arrays if array is not None)
    factor = scale / np.sqrt(variance + FLOAT32.type(site.number("epsilon", 1e-5)))
    places = (-1, *[1] * (len(shape) - 2))
    y = site.op("Mul", site.need("X"), site.array(factor.astype(FLOAT32).reshape(places)))
    return site.op("Add", y, site.array((bias - mean * factor).astype(FLOAT32).reshape(places)))


def _gemm(site: Parts) -> Value:
    a, b, bias = site.need("A"), site.need("B"), site.input("C")
    if site.integer("transA", 0):
        a = site.op("Transpose", a, perm=[1, 0])
    if site.integer("transB", 0):
        array = b.array
        b = site.op("Transpose", b, perm=[1, 0]) if array is None else site.array(array.T)
    y = _scaled(site, _product(site, a, b), site.number("alpha", 1.0))
    return y if bias is None else site.op("Add", y, _scaled(site, bias, site.number("beta", 1.0)))


def _scaled(site: Parts, x: Value, factor: float) -> Value:
    return x if factor == 1 else site.op("Mul", x, site.array(factor))


def _product(site: Parts, a: Value, b: Value) -> Value:
    of_layer = b.array is not None and b.array.ndim == 2 and a.array is None and a.shape != ()
    return site.op("dynq.LinearFloat" if of_layer else "MatMul", a, b)


def _matmul(site: Parts) -> Value | None:
    b = site.node.need("B")
    return _product(site, site.need("A"), b) if b.array is not None and b.array.ndim == 2 else None


def _reduce_l1(site: Parts) -> Value:
    return _reduced(site, "ReduceSum", site.op("Abs", site.need(0)))


def _reduce_l2(site: Parts) -> Value:
    return site.op("Sqrt", _reduce_square(site))


def _reduce_square(site: Parts) -> Value:
    x = site.need(0)
    return _reduced(site, "ReduceSum", site.op("Mul", x, x))


def _reduce_log_sum(site: Parts) -> Value:
    return site.op("Log", _reduced(site, "ReduceSum", site.need(0)))


def _reduced(site: Parts, op: str, x: Value) -> Value:
    return site.op(op, x, site.input(1), **site.node.attributes)


def _global_pool(site: Parts) -> Value:
    shape = site.node.need("X").shape
    if shape is None:
        raise Unsupported(f"{site.node.op} of a tensor whose rank is not known")
    op = "ReduceMean" if site.node.op == "GlobalAveragePool" else "ReduceMax"
    return site.op(op, site.need("X"), site.array(list(range(2, len(shape)))), keepdims=1)


def _chain(op: str, mean: bool = False) -> Callable[[Parts], Value | None]:
    """Return a function that writes an op of any number of operands as a chain of one that has two."""

    def write(site: Parts) -> Value | None:
        values = [site.need(i) for i in range(len(site.node.inputs))]
        if len(values) == 2 and site.node.op == op:
            return None
        total = values[0]
        for value in values[1:]:
            total = site.op(op, total, value)
        return site.op("Mul", total, site.array(1 / len(values))) if mean else total

    return write


def _hard_sigmoid(site: Parts) -> Value:
    return _activate(site, site.need(0), "hard_sigmoid", site.number("alpha", 0.2), site.number("beta", 0.5))


def _softsign(site: Parts) -> Value:
    x = site.need(0)
    return site.op("Div", x, site.op("Add", site.op("Abs", x), site.array(1.0)))


def _tan(site: Parts) -> Value:
    return site.op("Div", site.op("Sin", site.need(0)), site.op("Cos", site.need(0)))


def _elu(site: Parts) -> Value | None:
    """Write alpha (exp(x) - 1) below 0 with ELU, whose alpha is 1."""
    alpha = site.number("alpha", 1.0)
    if alpha == 1:
        return None
    x = site.need(0)
    below = site.op("Mul", site.op("Elu", site.op("Min", x, site.array(0.0))), site.array(alpha))
    return site.op("Add", site.op("Relu", x), below)


PARTS: dict[str, Expansion] = {
    **dict.fromkeys(_LAYERS, _layer),
    "dynq.Attention": _attention,
    "dynq.Rotary": composed.rotary,
    "dynq.MatMulDynamic": lambda site: site.op("MatMul", site.need("a"), site.need("b")),
    "MatMul": _matmul,
    "Gemm": _gemm,
    "LayerNormalization": _layer_normalization,
    "RMSNormalization": composed.rms_normalization,
    "BatchNormalization": _batch_normalization,
    "Swish": composed.swish,
    "Mish": lambda site: _activate(site, site.need(0), "mish"),
    "Softplus": lambda site: _softplus(site, site.need(0)),
    "Softsign": _softsign,
    "HardSigmoid": _hard_sigmoid,
    "Elu": _elu,
    "Reciprocal": lambda site: site.op("Div", site.array(1.0), site.need(0)),
    "Tan": _tan,
    "ReduceL1": _reduce_l1,
    "ReduceL2": _reduce_l2,
    "ReduceSumSquare": _reduce_square,
    "ReduceLogSum": _reduce_log_sum,
    "GlobalAveragePool": _global_pool,
    "GlobalMaxPool": _global_pool,
    "Min": _chain("Min"),
    "Max": _chain("Max"),
    "Sum": _chain("Add"),
    "Mean": _chain("Add", mean=True),
}
