"""LayerNormalization and Softmax as exporters write them, in their parts."""

from __future__ import annotations

from ..ir import Graph, Node, Value
from ._rewrite import Uses, close, constant_of, is_op, other_input, scalar

__all__ = ["find_layer_norm", "find_softmax"]


def find_layer_norm(graph: Graph) -> None:
    """``(x - mean) / sqrt(mean((x - mean)^2) + epsilon) * scale + bias`` over the last dimension."""
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
    """``x`` and epsilon of a node that gives ``(x - mean) / sqrt(variance + epsilon)``."""
    if node.op == "Div":
        centred, root = node.input(0), is_op(node.input(1), "Sqrt")
    else:  # times the reciprocal
        reciprocals = [(is_op(value, "Reciprocal"), value) for value in node.inputs]
        reciprocal, value = next(((n, v) for n, v in reciprocals if n is not None), (None, None))
        if reciprocal is None or value is None:
            return None
        centred, root = other_input(node, value), is_op(reciprocal.input(0), "Sqrt")
    if centred is None or root is None:
        return None
    sum_ = is_op(root.input(0), "Add")
    if sum_ is None:
        return None
    for value in sum_.inputs:
        epsilon = scalar(other_input(sum_, value)) if value is not None else None
        variance = is_op(value, "ReduceMean")
        if epsilon is None or variance is None or epsilon <= 0 or not _over_last(variance):
            continue
        x = _centre(centred)
        if x is not None and _is_square(variance.input(0), x):
            return x, epsilon
    return None


def _centre(value: Value | None) -> Value | None:
    """``x`` of ``x - mean(x)``."""
    difference = is_op(value, "Sub")
    if difference is None:
        return None
    x, mean = difference.inputs[0], is_op(difference.inputs[1], "ReduceMean")
    return x if mean is not None and x is not None and mean.input(0) is x and _over_last(mean) else None


def _is_square(value: Value | None, x: Value) -> bool:
    """Whether ``value`` is the square of ``x - mean(x)``, which exporters may compute twice."""
    node = is_op(value, "Pow", "Mul")
    if node is None or len(node.inputs) != 2:
        return False
    if node.op == "Pow" and not close(scalar(node.inputs[1]), 2.0):
        return False
    return all(_centre(part) is x for part in node.inputs[: 1 if node.op == "Pow" else 2])


def _over_last(node: Node) -> bool:
    """Whether a Reduce node keeps its dimensions and goes over the last one."""
    axes = constant_of(node.input(1))
    x = node.input(0)
    if axes is None or axes.size != 1 or not node.attributes.get("keepdims", 1):
        return False
    axis = int(axes.reshape(-1)[0])
    return axis == -1 or (x is not None and x.shape is not None and axis == len(x.shape) - 1)


def _vector(value: Value | None) -> int | None:
    array = constant_of(value)
    return array.size if array is not None and array.ndim == 1 and array.size > 1 else None


def find_softmax(graph: Graph) -> None:
    """``exp(x - max(x)) / sum(exp(x - max(x)))`` over one dimension."""
    uses = Uses(graph)
    for node in graph.nodes:
        if node.op != "Div" or node.input(0) is None:
            continue
        exp, total = is_op(node.input(0), "Exp"), is_op(node.input(1), "ReduceSum")
        if exp is None or total is None or total.input(0) is not node.input(0):
            continue
        shifted = is_op(exp.input(0), "Sub")
        highest = None if shifted is None else is_op(shifted.inputs[1], "ReduceMax")
        if shifted is None or highest is None or highest.input(0) is not shifted.inputs[0]:
            continue
        axis = _axis(total)
        if axis is not None and axis == _axis(highest):
            uses.set_inputs(node, [shifted.inputs[0]])
            node.op, node.attributes = "Softmax", {"axis": axis}


def _axis(node: Node) -> int | None:
    axes = constant_of(node.input(1))
    return (
        int(axes.reshape(-1)[0]) if axes is not None and axes.size == 1 and node.attributes.get("keepdims", 1) else None
    )
