"""A Transpose of rows goes up through what computes each row by itself, so that fewer of them, or none, are left.

torch.nn.MultiheadAttention computes on (T, B, E), and attention reads (B, T, E): the transposes of q, k and v become
one before their projection, where it often meets its opposite.
"""

from __future__ import annotations

from ..ir import Graph, Node, Value
from ._rewrite import Uses, constant_of, is_op, is_open

__all__ = ["lift_transposes"]

_UNARY = frozenset(("Relu", "Gelu", "Sigmoid", "Tanh", "Neg", "Exp", "Sqrt"))


def lift_transposes(graph: Graph) -> None:
    uses = Uses(graph)
    changed = True
    while changed:
        changed = False
        for node in list(graph.nodes)[::-1]:
            changed = _join(uses, node) or _lift(uses, node) or changed
    graph.sort()


def _perm(node: Node | None) -> list[int] | None:
    perm = None if node is None or node.op != "Transpose" else node.attributes.get("perm")
    return [int(i) for i in perm] if isinstance(perm, list) else None


def _join(uses: Uses, node: Node) -> bool:
    """A Transpose of a Transpose is one, or none."""
    outer, first = _perm(node), is_op(node.input(0), "Transpose")
    inner = _perm(first)
    if outer is None or inner is None or first is None or node.outputs[0] is None or first.inputs[0] is None:
        return False
    order = [inner[i] for i in outer]
    if order == list(range(len(order))):
        uses.replace(node.outputs[0], first.inputs[0])
        uses.remove(node)
    else:
        uses.set_inputs(node, [first.inputs[0]])
        node.attributes = {"perm": order}
    return True


def _lift(uses: Uses, node: Node) -> bool:
    """What every reader of a node transposes alike is transposed before it."""
    x = node.input(0)
    if x is None or x.constant is not None or x.shape is None or not _by_row(node):
        return False
    readers = [reader for value in node.outputs if value is not None for reader in uses.readers.get(value, [])]
    perm = _perm(readers[0]) if readers else None
    if perm is None or perm[-1] != len(perm) - 1 or len(x.shape) != len(perm):
        return False
    if any(_perm(reader) != perm for reader in readers) or any(value in uses.outputs for value in node.outputs):
        return False
    source = is_op(x, "Transpose")
    opposite = source is not None and [(_perm(source) or perm)[i] for i in perm] == list(range(len(perm)))
    if node.op == "dynq.Linear" and not opposite and not _widens(node):
        return False
    graph = uses.graph
    moved = Node("Transpose", graph.unique_node(f"{node.name}.transposed"), [x], [], {"perm": perm})
    shape = tuple(x.shape[i] for i in perm)
    value = Value(graph, graph.unique_value(moved.name), x.dtype, shape, None, moved)
    moved.outputs.append(value)
    graph.append(moved)
    uses.readers.setdefault(x, []).append(moved)
    uses.set_inputs(node, [value, *node.inputs[1:]])
    for output in node.outputs:
        if output is None:
            continue
        if output.shape is not None:
            output.shape = tuple(output.shape[i] for i in perm)
        for reader in list(uses.readers.get(output, [])):
            if reader.outputs[0] is not None:
                uses.replace(reader.outputs[0], output)
            uses.remove(reader)
    return True


def _by_row(node: Node) -> bool:
    """Whether each row of what comes out is computed of that row of what comes in, alike for all."""
    if node.op == "dynq.Linear":
        return node.input(3) is None and is_open(node)
    if node.op == "Split":
        shape = None if node.inputs[0] is None else node.inputs[0].shape
        return shape is not None and node.attributes.get("axis", 0) in (-1, len(shape) - 1)
    if node.op == "Add":
        array = constant_of(node.input(1))
        return array is not None and array.ndim <= 1
    return node.op in _UNARY


def _widens(node: Node) -> bool:
    shape = None if node.inputs[1] is None else node.inputs[1].shape
    n, k = shape if shape is not None and len(shape) == 2 else (None, None)
    return isinstance(n, int) and isinstance(k, int) and n >= k
