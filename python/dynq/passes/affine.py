"""Move sums and products with constants, and BatchNormalization, into the dynq.Linear or dynq.Conv beside them.

Behind a layer a number for each channel becomes part of its weight and its bias. Before a layer one number for all
does: numbers for each channel would change how well its input quantizes. A grouped convolution takes these too, for it
stays float.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..core.arguments import FLOAT32, Array
from ..ir.graph import Graph
from ..ir.values import Node, Value
from .rewrite import Uses, constant_of, is_op, is_open, other_input, scalar

__all__ = ["fold_affine"]

_LAYERS = ("dynq.Linear", "dynq.Conv")
_OPS = ("Add", "Sub", "Mul", "Div", "BatchNormalization")
_MOST_BYTES = 1 << 26  # of a weight that is worth a scaled copy

_Affine = tuple[Array | None, Array | None]  # a factor and what is added after it: 0-d, or (channels,); None: neither


def fold_affine(graph: Graph) -> None:
    uses = Uses(graph)
    for node in list(graph.nodes):
        if node.op in _OPS:
            _fold_behind(uses, node)
    for node in list(graph.nodes):
        if node.op in _LAYERS:
            while _fold_before(uses, node):
                pass


def _fold_behind(uses: Uses, node: Node) -> None:
    """Move what ``node`` does with the output of a layer into that layer."""
    for y in node.inputs:
        layer = is_op(y, *_LAYERS)
        if y is None or layer is None or uses.only_reader(y) is not node:
            continue
        shape, is_matrix = layer.need("weight").shape, layer.op == "dynq.Linear"
        if shape is None or not isinstance(shape[0], int) or not is_open(layer):
            return
        rank = len(shape) if not is_matrix else None if y.shape is None else len(y.shape)
        found = _affine(node, y, -1 if is_matrix else 1 - len(shape), rank, shape[0])
        if found is not None and (not is_matrix or layer.input("residual") is None) and _apply(uses, layer, *found):
            uses.take_over(layer, node)
        return


def _affine(node: Node, x: Value, axis: int, rank: int | None, channels: int) -> _Affine | None:
    """Return what ``node`` does with ``x``, whose channels lie along ``axis``, counted from the last one."""
    if node.op == "BatchNormalization":
        right = rank is not None and rank + axis == 1 and node.need("X") is x
        return _of_batch_norm(node, channels) if right else None
    array = constant_of(other_input(node, x))
    if array is None or array.dtype != FLOAT32 or array.ndim > (1 if rank is None else rank):
        return None
    sizes = [size for at, size in enumerate(array.shape, -array.ndim) if at != axis]
    if any(size != 1 for size in sizes) or array.size not in (1, channels):
        return None
    number = array.astype(np.float64).reshape(() if array.size == 1 else -1)
    first = node.inputs[0] is x
    if not np.isfinite(number).all() or (node.op == "Div" and not (first and number.all())):
        return None
    if node.op in ("Mul", "Div"):
        return (number if node.op == "Mul" else 1 / number), None
    return (None if node.op == "Add" or first else np.array(-1.0)), (-number if node.op == "Sub" and first else number)


def _of_batch_norm(node: Node, channels: int) -> _Affine | None:
    arrays = [node.array(name) for name in ("scale", "B", "input_mean", "input_var")]
    epsilon = node.attributes.get("epsilon", 1e-5)
    known = [array.astype(np.float64) for array in arrays if array is not None]
    if (
        len(known) != 4
        or any(array.shape != (channels,) for array in known)
        or node.attributes.get("training_mode")
        or not isinstance(epsilon, (int, float))
    ):
        return None
    scale, shift, mean, variance = known
    with np.errstate(all="ignore"):
        factor = scale / np.sqrt(variance + epsilon)
    return (factor, shift - mean * factor) if np.isfinite(factor).all() else None


def _apply(uses: Uses, layer: Node, factor: Array | None, shift: Array | None) -> bool:
    """Multiply the outputs of a layer by a factor and add to them; return whether that was done."""
    weight, bias = layer.need("weight"), layer.input("bias")
    array, old = constant_of(weight), constant_of(bias)
    if bias is not None and (old is None or old.shape != (weight.shape or ())[:1]):
        return False
    added: Any = None if shift is None else shift
    if factor is not None:
        if array is None or not _is_own(uses, weight):
            return False
        if not _scale(uses, layer, factor if factor.ndim == 0 else factor.reshape(-1, *[1] * (array.ndim - 1))):
            return False
        added = added if old is None else (old * factor if added is None else old * factor + added)
    elif old is not None and added is not None:
        added = old.astype(np.float64) + added
    if added is not None:
        _set_bias(uses, layer, added)
    return True


def _scale(uses: Uses, layer: Node, factor: Array) -> bool:
    """Multiply the weight of a layer; return False, with nothing done, if a number would be too large for float32."""
    weight = layer.need("weight")
    array = constant_of(weight)
    assert array is not None
    with np.errstate(all="ignore"):
        scaled = (array * factor).astype(FLOAT32)
    if not np.isfinite(scaled).all():
        return False
    uses.set_input(layer, "weight", uses.graph.constant_for(scaled, weight))
    return True


def _set_bias(uses: Uses, layer: Node, added: Array) -> None:
    weight, bias = layer.need("weight"), layer.input("bias")
    n = None if weight.shape is None else weight.shape[0]
    assert isinstance(n, int)
    new = np.ascontiguousarray(np.broadcast_to(added, (n,)), FLOAT32)
    uses.set_input(layer, "bias", uses.graph.constant_for(new, bias or weight, ".bias" * (bias is None)))


def _is_own(uses: Uses, weight: Value) -> bool:
    """Return whether a weight can have a scaled copy: no other layer shares it, and it is not too large."""
    array = constant_of(weight)
    return array is not None and uses.only_reader(weight) is not None and array.nbytes <= _MOST_BYTES


# ---- Before a layer ----


def _fold_before(uses: Uses, layer: Node) -> bool:
    """Move what computes the input of a layer into that layer; return whether anything was done."""
    x, weight, bias = layer.need("x"), layer.need("weight"), layer.input("bias")
    node, array, old = is_op(x, *_OPS), constant_of(weight), constant_of(bias)
    if node is None or array is None or not _is_own(uses, weight) or uses.only_reader(x) is not layer:
        return False
    if bias is not None and (old is None or old.shape != array.shape[:1]):
        return False
    for value in node.inputs:
        if value is None or value.constant is not None or value.shape is None or x.shape is None:
            continue
        if len(value.shape) != len(x.shape):
            return False
        groups = layer.attributes.get("group", 1)
        if not isinstance(groups, int) or groups < 1 or array.shape[0] % groups:
            return False  # the runtime says what is wrong with the node
        channels = array.shape[1] * groups
        axis = -1 if layer.op == "dynq.Linear" else 1 - array.ndim
        found = _affine(node, value, axis, len(x.shape), channels)
        each = found is not None and any(part is not None and part.ndim for part in found)
        if found is None or (each and (groups == 1 or value.shape[axis] != channels)):
            return False
        if found[1] is not None and not _is_unpadded(layer):
            return _swap(uses, node, value)
        if not _apply_before(uses, layer, groups, *found):
            return False
        uses.set_input(layer, "x", value)
        uses.remove(node)
        return True
    return False


def _apply_before(uses: Uses, layer: Node, groups: int, factor: Array | None, shift: Array | None) -> bool:
    array, old = constant_of(layer.need("weight")), constant_of(layer.input("bias"))
    assert array is not None
    if factor is not None:
        each = _of_group(factor, array, groups)
        if not _scale(uses, layer, each.reshape(*each.shape, *[1] * (array.ndim - 2)) if each.ndim else each):
            return False
    if shift is not None:
        sums = array.astype(np.float64).reshape(*array.shape[:2], -1).sum(axis=2) * _of_group(shift, array, groups)
        _set_bias(uses, layer, sums.sum(axis=1) + (0 if old is None else old))
    return True


def _of_group(numbers: Array, weight: Array, groups: int) -> Array:
    """Return numbers of all channels as those that each row of the weight sees: (outputs, channels of a group)."""
    if numbers.ndim == 0:
        return numbers
    return np.repeat(numbers.reshape(groups, -1), weight.shape[0] // groups, axis=0)


def _is_unpadded(layer: Node) -> bool:
    if layer.op == "dynq.Linear":
        return True
    pads = layer.attributes.get("pads", [0])
    return (
        layer.attributes.get("auto_pad", "NOTSET") in ("NOTSET", "VALID") and isinstance(pads, list) and not any(pads)
    )


def _swap(uses: Uses, add: Node, value: Value) -> bool:
    """Turn ``a x + b`` into ``a (x + b / a)``: a convolution that pads takes in a factor, and no sum."""
    mul = is_op(value, "Mul")
    if add.op != "Add" or mul is None or uses.only_reader(value) is not add:
        return False
    x = next((v for v in mul.inputs if v is not None and v.constant is None), None)
    a, b = scalar(None if x is None else other_input(mul, x)), scalar(other_input(add, value))
    output = add.outputs[0]
    if x is None or output is None or a is None or b is None or a == 0 or not np.isfinite([a, b, b / a]).all():
        return False
    if x.shape is None or value.shape is None or len(x.shape) != len(value.shape) or abs(b / a) > 1e30:
        return False
    factor, summand = other_input(mul, x), uses.graph.constant(FLOAT32.type(b / a))
    uses.replace(output, value)
    uses.set_inputs(mul, [output, factor])
    uses.set_inputs(add, [x, summand])
    uses.graph.sort()
    return True
