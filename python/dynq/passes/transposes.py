"""Move a Transpose of rows up through the nodes that compute each row by itself, so that fewer of them, or none, are
left.

torch.nn.MultiheadAttention computes on (T, B, E), and attention reads (B, T, E). The transposes of q, k and v become
one before their projection, where it often meets its opposite.
"""

from __future__ import annotations

from ..ir import ops
from ..ir.graph import Graph
from ..ir.values import Node, Value
from .rewrite import Uses, is_op, is_open

__all__ = ["join", "join_transposes", "lift_transposes", "moves_ones", "perm_of"]


def lift_transposes(graph: Graph) -> None:
    uses = Uses(graph)
    changed = True
    while changed:
        changed = False
        for node in list(graph.nodes)[::-1]:
            changed = join(uses, node) or _lift(uses, node) or changed
    graph.sort()


def join_transposes(graph: Graph) -> None:
    """Make one Transpose, or none, of each two that follow each other."""
    uses = Uses(graph)
    for node in list(graph.nodes):
        join(uses, node)


def moves_ones(node: Node) -> bool:
    """Return whether a Transpose moves axes of size 1 alone, so that a Reshape does the same."""
    perm, x = perm_of(node), node.first
    if perm is None or x is None or x.shape is None:
        return False
    moved = [axis for axis in perm if x.shape[axis] != 1]
    return moved == sorted(moved)


def perm_of(node: Node | None) -> list[int] | None:
    """Return the order of a Transpose; None if the node is no Transpose, or has none."""
    perm = None if node is None or node.op != "Transpose" else node.attributes.get("perm")
    return [int(i) for i in perm] if isinstance(perm, list) else None


def join(uses: Uses, node: Node) -> bool:
    """Join a Transpose with the Transpose that it reads into one, or into none."""
    outer = perm_of(node)
    first = None if outer is None else is_op(node.need("data"), "Transpose")
    inner = perm_of(first)
    if outer is None or inner is None or first is None or node.outputs[0] is None:
        return False
    order = [inner[i] for i in outer]
    if order == list(range(len(order))):
        uses.replace(node.outputs[0], first.need("data"))
        uses.remove(node)
    else:
        uses.set_inputs(node, [first.need("data")])
        node.attributes = {"perm": order}
    return True


def _lift(uses: Uses, node: Node) -> bool:
    """Transpose the input of a node instead of its output, if every reader transposes the output alike."""
    x = node.first
    if x is None or x.constant is not None or x.shape is None or not _by_row(node):
        return False
    readers = [reader for value in node.outputs if value is not None for reader in uses.readers.get(value, [])]
    perm = perm_of(readers[0]) if readers else None
    if perm is None or perm[-1] != len(perm) - 1 or len(x.shape) != len(perm):
        return False
    if any(perm_of(reader) != perm for reader in readers) or any(value in uses.outputs for value in node.outputs):
        return False
    source = is_op(x, "Transpose")
    opposite = source is not None and [(perm_of(source) or perm)[i] for i in perm] == list(range(len(perm)))
    if node.op == "dynq.Linear" and not opposite and not _widens(node):
        return False
    graph = uses.graph
    moved = Node("Transpose", graph.unique_node(f"{node.name}.transposed"), [x], [], {"perm": perm})
    shape = tuple(x.shape[i] for i in perm)
    value = Value(graph, graph.unique_value(moved.name), x.dtype, shape, None, moved)
    moved.outputs.append(value)
    graph.append(moved)
    uses.readers.setdefault(x, []).append(moved)
    _, *others = node.inputs
    uses.set_inputs(node, [value, *others])
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
    """Return whether each row of the output is computed from that row of the input, in the same way for all."""
    if node.op == "dynq.Linear":
        return node.input("residual") is None and is_open(node)
    if node.op == "Split":
        shape = node.need("input").shape
        return shape is not None and node.attributes.get("axis", 0) in (-1, len(shape) - 1)
    if node.op == "Add":
        array = node.array("B")
        return array is not None and array.ndim <= 1
    op = ops.table().get(node.op)
    return op is not None and op.is_elementwise and len(node.inputs) == 1


def _widens(node: Node) -> bool:
    shape = node.need("weight").shape
    n, k = shape if shape is not None and len(shape) == 2 else (None, None)
    return isinstance(n, int) and isinstance(k, int) and n >= k
