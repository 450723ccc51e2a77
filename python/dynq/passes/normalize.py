"""Find LayerNormalization, RMSNormalization and Softmax where exporters wrote them in their parts."""

from __future__ import annotations

import numpy as np

from ..ir.graph import Graph
from ..ir.values import Dim, Node, Value
from .rewrite import Uses, close, constant_of, is_op, other_input, scalar

__all__ = ["find_layer_norm", "find_rms_norm", "find_softmax"]


def find_layer_norm(graph: Graph) -> None:
    """Replace ``(x - mean) / sqrt(mean((x - mean)^2) + epsilon) * scale + bias`` over the last dimension by one
    node.
    """
    uses = Uses(graph)
    for node in list(graph.nodes):
        if node.op not in ("Div", "Mul") or node.outputs[0] is None:
            continue
        found = _normalized(node)
        if found is None:
            continue
        x, epsilon = found
        scaled = uses.only_reader(node.outputs[0])
        if scaled is None or scaled.op != "Mul":
            continue
        scale = other_input(scaled, node.outputs[0])
        width = _vector(scale)
        known = x.shape[-1] if x.shape else None
        if width is None or (known is not None and known != width):
            continue
        inputs: list[Value | None] = [x, scale]
        last = scaled
        shifted = uses.only_reader(scaled.outputs[0])
        if shifted is not None and shifted.op == "Add" and scaled.outputs[0] is not None:
            bias = other_input(shifted, scaled.outputs[0])
            if _vector(bias) == width:
                inputs.append(bias)
                last = shifted
        uses.set_inputs(last, inputs)
        last.op, last.attributes = "LayerNormalization", {"axis": -1, "epsilon": epsilon}


def _normalized(node: Node) -> tuple[Value, float] | None:
    """Return ``x`` and epsilon of a node that computes ``(x - mean) / sqrt(variance + epsilon)``."""
    if node.op == "Div":
        centred, root = node.input("A"), is_op(node.need("B"), "Sqrt")
    else:  # times the reciprocal
        reciprocals = [(is_op(value, "Reciprocal"), value) for value in node.inputs]
        reciprocal, value = next(((n, v) for n, v in reciprocals if n is not None), (None, None))
        if reciprocal is None or value is None:
            return None
        centred, root = other_input(node, value), is_op(reciprocal.need("X"), "Sqrt")
    if centred is None or root is None:
        return None
    sum_ = is_op(root.need("X"), "Add")
    if sum_ is None:
        return None
    for value in sum_.inputs:
        epsilon = scalar(other_input(sum_, value)) if value is not None else None
        variance = is_op(value, "ReduceMean")
        if epsilon is None or variance is None or epsilon <= 0 or not _over_last(variance):
            continue
        x = _centre(centred)
        if x is not None and _is_square(variance.need("data"), x):
            return x, epsilon
    return None


def _centre(value: Value | None) -> Value | None:
    """Return ``x`` of ``x - mean(x)``."""
    difference = is_op(value, "Sub")
    if difference is None:
        return None
    x, mean = difference.need("A"), is_op(difference.need("B"), "ReduceMean")
    return x if mean is not None and mean.need("data") is x and _over_last(mean) else None


def _is_square(value: Value | None, x: Value) -> bool:
    """Return whether ``value`` is the square of ``x - mean(x)``. Exporters may compute that difference twice."""
    node = is_op(value, "Pow", "Mul")
    if node is None:
        return False
    if node.op == "Pow":
        return close(scalar(node.need("Y")), 2.0) and _centre(node.need("X")) is x
    return all(_centre(part) is x for part in node.inputs)


def _over_last(node: Node) -> bool:
    """Return whether a Reduce node keeps its dimensions and goes over the last one."""
    x, axes = node.need("data"), node.array("axes")
    if axes is None or axes.size != 1 or not node.attributes.get("keepdims", 1):
        return False
    axis = int(axes.reshape(-1)[0])
    return axis == -1 or (x.shape is not None and axis == len(x.shape) - 1)


def _vector(value: Value | None) -> int | None:
    array = constant_of(value)
    return array.size if array is not None and array.ndim == 1 and array.size > 1 else None


def find_rms_norm(graph: Graph) -> None:
    """Replace ``x / sqrt(mean(x^2) + epsilon) * scale`` over the last dimension by one node; the scale may be
    missing.
    """
    uses = Uses(graph)
    for node in list(graph.nodes):
        found = _by_root(node)
        if found is None or node.outputs[0] is None:
            continue
        x, epsilon = found
        width = x.shape[-1] if x.shape else None
        last, scale = _scaled(uses, node, width)
        if scale is None:
            if not isinstance(width, int) or width == 0:
                continue
            scale = graph.constant(np.ones(width, np.float32), graph.unique_value(f"{node.name}.ones"))
        uses.set_inputs(last, [x, scale])
        last.op, last.attributes = "RMSNormalization", {"axis": -1, "epsilon": epsilon}


def _by_root(node: Node) -> tuple[Value, float] | None:
    """Return ``x`` and epsilon of a node that computes ``x / sqrt(mean(x^2) + epsilon)``."""
    if node.op not in ("Mul", "Div") or len(node.inputs) != 2:
        return None
    pairs = [(node.inputs[0], node.inputs[1])] if node.op == "Div" else [tuple(node.inputs), tuple(node.inputs[::-1])]
    for x, other in pairs:
        sum_ = _root(other, node.op == "Mul")
        for value in [] if sum_ is None else sum_.inputs:
            mean = is_op(value, "ReduceMean")
            epsilon = None if value is None or sum_ is None else scalar(other_input(sum_, value))
            if mean is None or epsilon is None or epsilon <= 0 or not _over_last(mean) or x is None:
                continue
            square = is_op(mean.need("data"), "Pow", "Mul")
            if square is None or square.inputs[0] is not x or x.dtype != "float32":
                continue
            if square.inputs[1] is x if square.op == "Mul" else close(scalar(square.need("Y")), 2.0):
                return x, epsilon
    return None


def _root(value: Value | None, inverse: bool) -> Node | None:
    """Return the Add of ``sqrt(mean + epsilon)``, or of one over it."""
    node = is_op(value, "Reciprocal", "Div", "Pow", "Sqrt")
    if node is None or (node.op == "Sqrt") == inverse:
        return None
    if node.op == "Pow":
        return is_op(node.need("X"), "Add") if close(scalar(node.need("Y")), -0.5) else None
    if node.op == "Div" and scalar(node.need("A")) != 1:
        return None
    root = node if node.op == "Sqrt" else is_op(node.inputs[-1], "Sqrt")
    return None if root is None else is_op(root.need("X"), "Add")


def _scaled(uses: Uses, node: Node, width: Dim) -> tuple[Node, Value | None]:
    """Return the Mul by a constant scale behind a norm, and that scale; else the norm itself."""
    output = node.outputs[0]
    reader = uses.only_reader(output)
    if reader is not None and output is not None and reader.op == "Mul":
        scale = other_input(reader, output)
        size = _vector(scale)
        if size is not None and scale is not None and scale.dtype == "float32" and width in (None, size):
            return reader, scale
    return node, None


def find_softmax(graph: Graph) -> None:
    """Replace ``exp(x - max(x)) / sum(exp(x - max(x)))`` over one dimension by one node."""
    uses = Uses(graph)
    for node in graph.nodes:
        if node.op != "Div":
            continue
        exp, total = is_op(node.need("A"), "Exp"), is_op(node.need("B"), "ReduceSum")
        if exp is None or total is None or total.need("data") is not node.need("A"):
            continue
        shifted = is_op(exp.need("input"), "Sub")
        highest = None if shifted is None else is_op(shifted.need("B"), "ReduceMax")
        if shifted is None or highest is None or highest.need("data") is not shifted.need("A"):
            continue
        axis = _axis(total)
        if axis is not None and axis == _axis(highest):
            uses.set_inputs(node, [shifted.need("A")])
            node.op, node.attributes = "Softmax", {"axis": axis}


def _axis(node: Node) -> int | None:
    axes = node.array("axes")
    return (
        int(axes.reshape(-1)[0]) if axes is not None and axes.size == 1 and node.attributes.get("keepdims", 1) else None
    )
