"""Let nodes that take any order of axes compute in the one that leaves the fewest Transposes.

A file from TensorFlow keeps pictures as (N, H, W, C) and has a Transpose before and behind each convolution. Between
two convolutions lie nodes that take either order: elementwise ones, Pad, Concat, reductions, Resize. Such nodes that
touch are a region. If a region computes in the order of the convolutions, the Transposes around it cancel. It does so
only if that leaves fewer of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..ir import ops
from ..ir.given import Attributes
from ..ir.graph import Graph
from ..ir.values import Node, Value, axis_of
from .heads import transposed
from .rewrite import Uses, constant_of, is_op
from .transposes import join, perm_of

__all__ = ["choose_layouts"]

_PATIENCE = 4  # rounds that leave no fewer Transposes than any before
_COST, _SMALL = 10, 1  # of a Transpose; of one that moves axes of size 1 alone
_REDUCTIONS = ("ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2")
_BROADCASTS = ("BROADCAST", "COMPARE", "CHOOSE")


def choose_layouts(graph: Graph) -> None:
    uses = Uses(graph)
    least, changed, rounds = _left(graph), True, 0
    while changed and rounds < _PATIENCE:
        changed = False
        for region in _regions(graph):
            if not region.is_current():  # what another one did in this round has changed it
                continue
            best = max(((region.gain(uses, perm), perm) for perm in region.perms(uses)), default=(0, []))
            if best[0] > 0:
                region.flip(uses, best[1])
                changed = True
        graph.sort()
        for node in list(graph.nodes):
            changed = join(uses, node) or changed
        left = _left(graph)
        least, rounds = min(least, left), 0 if left < least else rounds + 1
    for node in list(graph.nodes):
        _view(uses, node)
    graph.sort()


def _left(graph: Graph) -> int:
    """Return what all Transposes of a graph cost."""
    pairs = ((node.first, perm_of(node)) for node in graph.nodes)
    return sum(_cost(value, perm) for value, perm in pairs if value is not None and perm is not None)


class _Region:
    """Nodes that touch, and the values of their rank that they read or compute: their axes move together."""

    def __init__(self, rank: int) -> None:
        self.rank = rank
        self.nodes: list[Node] = []
        self.made: dict[Value, None] = {}
        self.read: dict[Value, None] = {}

    def is_current(self) -> bool:
        """Return whether the nodes read what they read when the region was found."""
        known = self.read.keys() | self.made.keys()
        read = (node.inputs[i] for node in self.nodes for i in _places(node) or [])
        return all(value is None or value.constant is not None or value in known for value in read)

    def perms(self, uses: Uses) -> list[list[int]]:
        """Return the orders that Transposes at the border suggest, those that all nodes can take."""
        found = [perm_of(is_op(value, "Transpose")) for value in self.read]
        outer = [perm_of(reader) for value in self.made for reader in uses.readers.get(value, [])]
        found += [None if perm is None else _inverse(perm) for perm in outer]
        different = {tuple(perm) for perm in found if perm is not None and len(perm) == self.rank}
        return [list(perm) for perm in sorted(different) if all(_can(node, list(perm)) for node in self.nodes)]

    def gain(self, uses: Uses, perm: list[int]) -> int:
        """Return what the Transposes cost that go if each value v becomes u with v = Transpose(u, perm)."""
        nodes, inverse, gain = set(self.nodes), _inverse(perm), 0
        for value in self.read:
            source = is_op(value, "Transpose")
            goes = source is not None and uses.inside(value, nodes)
            if perm_of(source) != perm and not any(perm_of(r) == inverse for r in uses.readers.get(value, [])):
                gain -= _cost(value, inverse)
            gain += _cost(value, perm) if goes else 0
        for value in self.made:
            stays = value in uses.outputs
            for reader in dict.fromkeys(uses.readers.get(value, [])):
                outer = perm_of(reader)
                gain += _cost(value, inverse) if outer == inverse else 0
                stays = stays or (reader not in nodes and outer is None)
            gain -= _cost(value, perm) if stays else 0
        return gain

    def flip(self, uses: Uses, perm: list[int]) -> None:
        inverse, nodes, graph = _inverse(perm), set(self.nodes), uses.graph
        inside = {value: transposed(uses, value, inverse) for value in self.read}
        constants: dict[Value, Value] = {}

        def moved(value: Value) -> Value:
            array = constant_of(value)
            if array is None or array.size == 1:
                return inside.get(value, value)
            if value not in constants:
                full = array.reshape([1] * (self.rank - array.ndim) + list(array.shape))
                constants[value] = graph.constant_for(np.ascontiguousarray(full.transpose(inverse)), value)
            return constants[value]

        for node in self.nodes:
            _turn(uses, node, perm)
            places = _places(node) or []
            new = [moved(v) if i in places and v is not None else v for i, v in enumerate(node.inputs)]
            uses.set_inputs(node, new)
        for value in self.made:
            is_output = value in uses.outputs
            others = [reader for reader in dict.fromkeys(uses.readers.get(value, [])) if reader not in nodes]
            if value.shape is not None:
                value.shape = tuple(value.shape[i] for i in inverse)
            back = None
            for reader in others:
                outer = perm_of(reader)
                if outer is not None:
                    reader.attributes = {"perm": [perm[i] for i in outer]}
                    if reader.attributes["perm"] == list(range(self.rank)) and reader.outputs[0] is not None:
                        uses.replace(reader.outputs[0], value)
                        uses.remove(reader)
                    continue
                back = transposed(uses, value, perm) if back is None else back
                uses.set_inputs(reader, [back if v is value else v for v in reader.inputs])
            if is_output:
                back = transposed(uses, value, perm) if back is None else back
                graph.outputs = [(name, back if v is value else v) for name, v in graph.outputs]
                uses.outputs.remove(value)
                uses.outputs.add(back)


def _regions(graph: Graph) -> list[_Region]:
    regions: list[_Region] = []
    of_value: dict[Value, _Region] = {}
    for node in graph.nodes:
        places = _places(node)
        if places is None:
            continue
        read = [value for i in places if (value := node.inputs[i]) is not None and value.constant is None]
        rank = len(read[0].shape or ())
        made = [value for value in node.outputs if value is not None] if _keeps_rank(node) else []
        touching = list(dict.fromkeys(of_value[value] for value in [*read, *made] if value in of_value))
        region = touching[0] if touching else _Region(rank)
        if not touching:
            regions.append(region)
        for other in touching[1:]:
            region.nodes += other.nodes
            region.made |= other.made
            region.read |= other.read
            of_value.update((value, region) for value in [*other.made, *other.read])
            regions.remove(other)
        region.nodes.append(node)
        region.made |= dict.fromkeys(made)
        region.read |= dict.fromkeys(value for value in read if value not in region.made)
        of_value.update((value, region) for value in [*read, *made])
    for region in regions:
        region.read = {value: None for value in region.read if value not in region.made}
    return regions


def _inverse(perm: Sequence[int]) -> list[int]:
    return [list(perm).index(i) for i in range(len(perm))]


def _cost(value: Value, perm: Sequence[int]) -> int:
    """Return what a Transpose of a value costs. ``perm`` is looked at for the value as it is."""
    shape = value.shape
    if shape is None or len(shape) != len(perm):
        return _COST
    wide = [i for i, dim in enumerate(shape) if dim != 1]
    places = [list(perm).index(i) for i in wide]
    return _SMALL if places == sorted(places) else _COST


# ---- What each op does with its axes ----


def _places(node: Node) -> list[int] | None:
    """Return the inputs of a node whose axes move with those of its output; None if the node takes one order alone."""
    x, output = node.first, node.outputs[0] if node.outputs else None
    op = ops.table().get(node.op)
    if x is None or op is None or output is None or output.shape is None or node.bodies:
        return None
    places = [0]
    if op.is_elementwise and op.shape_rule in _BROADCASTS:
        places = list(range(len(node.inputs)))
    elif node.op == "PRelu":
        places = [0, 1]
    elif node.op == "Concat":
        places = list(range(len(node.inputs)))
    elif not (op.is_elementwise and node.op != "CastLike") and node.op not in _TURNS:
        return None
    read = [node.inputs[i] for i in places]
    shapes = [value.shape for value in read if value is not None and value.constant is None]
    ranks = {len(shape) for shape in shapes if shape is not None}
    if len(ranks) != 1 or None in shapes or max(ranks) < 2:
        return None
    rank = ranks.pop()
    if any(value is not None and value.constant is not None and value.array is None for value in read):
        return None
    if any(len(value.shape or ()) > rank for value in read if value is not None):
        return None
    return places if not _keeps_rank(node) or len(output.shape) == rank else None


def _keeps_rank(node: Node) -> bool:
    if node.op in ("Squeeze", "Reshape"):
        return False
    return bool(node.attributes.get("keepdims", 1)) if node.op in (*_REDUCTIONS, "ArgMax", "ArgMin") else True


_Turned = tuple[Attributes, dict[str, Any]]  # new attributes, and new constants of inputs; None leaves an input out


def _can(node: Node, perm: list[int]) -> bool:
    """Return whether the node computes the same with its axes in another order."""
    try:
        return _turned(node, perm) is not None
    except (LookupError, TypeError, ValueError):
        return False  # the runtime says what is wrong with the node


def _turn(uses: Uses, node: Node, perm: list[int]) -> None:
    """Give a node the attributes and the constants that it has where axis i is axis perm[i]."""
    turned = _turned(node, perm)
    assert turned is not None
    attributes, arrays = turned
    node.attributes = {**node.attributes, **attributes}
    for name, array in arrays.items():
        uses.set_input(node, name, None if array is None else uses.graph.constant(np.asarray(array)))


def _turned(node: Node, perm: list[int]) -> _Turned | None:
    turn = _TURNS.get(node.op)
    return ({}, {}) if turn is None else turn(node, perm)


def _in_order(axes: Sequence[int], perm: list[int]) -> bool:
    """Return whether the axes that are left keep their order."""
    left = [perm[i] for i in range(len(perm)) if i not in axes]
    return left == sorted(left)


def _axes(node: Node, rank: int, count: int | None = None) -> list[int] | None:
    """Return the axes that the input ``axes`` names, or the first ``count`` ones; None if they are not known."""
    given = node.array("axes")
    if given is None:
        return None if node.input("axes") is not None else list(range(rank if count is None else count))
    axes = [axis_of(axis, rank) for axis in given.reshape(-1).tolist()]
    return axes if len(set(axes)) == len(axes) and (count is None or len(axes) == count) else None


def _turn_axis(node: Node, perm: list[int]) -> _Turned | None:
    default = -1 if node.op in ("Softmax", "LogSoftmax") else 0
    axis = axis_of(node.attributes.get("axis", default), len(perm))
    right = _keeps_rank(node) or _in_order([axis], perm)
    return ({"axis": perm[axis]}, {}) if right else None


def _turn_axes(node: Node, perm: list[int]) -> _Turned | None:
    """Turn a reduction or a Squeeze."""
    axes = None if node.input("axes") is None else _axes(node, len(perm))
    if not axes or not (_keeps_rank(node) or _in_order(axes, perm)):
        return None
    return {}, {"axes": np.array(sorted(perm[axis] for axis in axes), np.int64)}


def _turn_pad(node: Node, perm: list[int]) -> _Turned | None:
    pads, axes = node.array("pads"), _axes(node, len(perm))
    if pads is None or axes is None or pads.size != 2 * len(axes):
        return None
    both = np.zeros((2, len(perm)), np.int64)
    both[:, [perm[axis] for axis in axes]] = pads.reshape(2, -1)
    return {}, {"axes": None, "pads": both.reshape(-1)}


def _turn_slice(node: Node, perm: list[int]) -> _Turned | None:
    starts = node.array("starts")
    axes = None if starts is None else _axes(node, len(perm), starts.size)
    return None if axes is None else ({}, {"axes": np.array([perm[axis] for axis in axes], np.int64)})


def _turn_resize(node: Node, perm: list[int]) -> _Turned | None:
    given: Any = node.attributes.get("axes", list(range(len(perm))))
    axes = [perm[axis_of(axis, len(perm))] for axis in given]
    order = sorted(range(len(axes)), key=lambda i: axes[i])
    arrays: dict[str, Any] = {}
    for name in ("scales", "sizes"):
        array = node.array(name)
        if (array is None) != (node.input(name) is None):
            return None
        if array is not None and array.size:
            arrays[name] = array.reshape(-1)[order] if array.size == len(axes) else None
    if node.input("roi") is not None or any(array is None for array in arrays.values()):
        return None
    return ({"axes": sorted(axes)} if "axes" in node.attributes else {}), arrays


def _turn_reshape(node: Node, perm: list[int]) -> _Turned | None:
    """Leave a Reshape as it is, if the elements lie in the same order: any shape of them is the same then."""
    shape, target = None if node.first is None else node.first.shape, node.array("shape")
    if shape is None or target is None or node.attributes.get("allowzero") or (target.reshape(-1)[1:] == 0).any():
        return None
    ones = [i for i, dim in enumerate(shape) if dim == 1]
    return ({}, {}) if perm[0] == 0 and _in_order(ones, perm) else None


_TURNS: dict[str, Callable[[Node, list[int]], _Turned | None]] = {
    **dict.fromkeys(("Concat", "Split", "Softmax", "LogSoftmax", "ArgMax", "ArgMin"), _turn_axis),
    **dict.fromkeys((*_REDUCTIONS, "Squeeze"), _turn_axes),
    "Pad": _turn_pad,
    "Slice": _turn_slice,
    "Resize": _turn_resize,
    "Reshape": _turn_reshape,
}


def _view(uses: Uses, node: Node) -> None:
    """Turn a Transpose that moves axes of size 1 alone into a Reshape, which moves nothing."""
    perm, x = perm_of(node), node.first
    if perm is None or x is None or x.shape is None or len(x.shape) != len(perm):
        return
    if not _in_order([i for i, dim in enumerate(x.shape) if dim == 1], _inverse(perm)):
        return
    dims = [x.shape[i] for i in perm]
    target = [dim if isinstance(dim, int) else 0 if perm[i] == i else -1 for i, dim in enumerate(dims)]
    if -1 in target or 0 in dims:
        return
    node.op, node.attributes = "Reshape", {}
    uses.set_inputs(node, [x, uses.graph.constant(np.array(target, np.int64))])
