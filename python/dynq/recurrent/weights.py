"""Read the weights of recurrent layers as ONNX's nodes or PyTorch's modules have them, and convert them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from operator import itemgetter
from typing import Any, NamedTuple

import numpy as np

from ..core import arguments as arguments
from ..core.arguments import Array
from ..ir.deferred import Rows, on_rows
from ..ir.recurrent import CELLS

__all__ = ["TORCH_KINDS", "Layer", "from_torch_order", "read_layers", "to_torch_order"]

TORCH_KINDS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr")  # in the order of a module's parameters


class Layer(NamedTuple):
    """The weights of a layer in ONNX's form: w (D, G * H, I), r (D, G * H, H), b (D, 2 * G * H), peepholes (D, 3 * H).

    If the states are projected to P columns, projection is (D, P, H), and r is (D, G * H, P). Arrays are float32; w, r
    and projection may be QuantizedRows, and all of them may be values of a graph.
    """

    w: Any
    r: Any
    b: Any = None
    peepholes: Any = None
    projection: Any = None

    @property
    def directions(self) -> int:
        """Return D."""
        return int(self.r.shape[0])

    @property
    def state(self) -> int:
        """Return the columns of h and y."""
        return int(self.r.shape[2])

    @property
    def hidden(self) -> int:
        """Return H, the columns of c."""
        return self.state if self.projection is None else int(self.projection.shape[2])


def from_torch_order(cell: str, directions: Sequence[Mapping[str, Any]]) -> Layer:
    """Return a layer from PyTorch's weights: for each direction, those of TORCH_KINDS that it has, by kind."""
    order = CELLS[cell].gates
    found: dict[str, Any] = {
        kind: on_rows(lambda *parts: np.stack(parts), *(of_one[kind] for of_one in directions))
        for kind in TORCH_KINDS
        if kind in directions[0]
    }
    found |= {kind: _reorder(found[kind], order) for kind in TORCH_KINDS[:4] if kind in found}
    b = np.concatenate([found["bias_ih"], found["bias_hh"]], axis=1) if "bias_ih" in found else None
    return Layer(found["weight_ih"], found["weight_hh"], b, None, found.get("weight_hr"))


def to_torch_order(cell: str, layer: Layer) -> list[dict[str, Rows]]:
    """Return the weights of each direction, without the biases, from which from_torch_order made ``layer``."""
    back = np.argsort(CELLS[cell].gates).tolist()
    found = {"weight_ih": _reorder(layer.w, back), "weight_hh": _reorder(layer.r, back)}
    found |= {} if layer.projection is None else {"weight_hr": layer.projection}
    return [{kind: on_rows(itemgetter(d), rows) for kind, rows in found.items()} for d in range(layer.directions)]


def _reorder(weight: Rows, order: Sequence[int]) -> Rows:
    """Return (D, G * H, ...) with its G gates in another order."""
    places = np.arange(weight.shape[1]).reshape(len(order), -1)[list(order)].reshape(-1)
    return on_rows(lambda array: array[:, places], weight)


def read_layers(cell: str, weights: Any, prefix: str) -> list[Layer]:
    """Read the weights that lstm_weights and its like take: arrays by PyTorch's names, or ONNX's arrays."""
    if isinstance(weights, Mapping):
        layers = _by_name(cell, weights, prefix)
    elif isinstance(weights, (tuple, list)) and weights:
        if prefix:
            raise ValueError("prefix is of names; weights has none")
        several = isinstance(weights[0], (tuple, list))
        layers = [_onnx(cell, arrays, f"weights[{i}]" if several else "weights")
                  for i, arrays in enumerate(weights if several else [weights])]  # fmt: skip
    else:
        raise TypeError(
            f"weights is of type {type(weights).__name__}; expected arrays by name, or (W, R, B) of each layer"
        )
    first = layers[0]
    for i, layer in enumerate(layers):
        if layer.r.shape != first.r.shape:
            raise ValueError(
                f"layer {i} has R, weight_hh of all directions, of shape {layer.r.shape}; layer 0 {first.r.shape}"
            )
        wanted = len(first.r) * first.state
        if i and layer.w.shape[2] != wanted:
            raise ValueError(f"layer {i} takes inputs of size {layer.w.shape[2]}; layer {i - 1} gives {wanted}")
    return layers


def _onnx(cell: str, arrays: Any, what: str) -> Layer:
    most = 4 if cell == "LSTM" else 3
    if not isinstance(arrays, (tuple, list)) or not 2 <= len(arrays) <= most:
        count = f"{len(arrays)} arrays" if isinstance(arrays, (tuple, list)) else f"type {type(arrays).__name__}"
        raise ValueError(f"{what} is of {count}; expected (W, R{', B, P'[: 3 * most - 6]}) or fewer, W and R at least")
    w, r, b, p = (
        None if array is None else arguments.floats(f"{what}: {name}", array)
        for name, array in zip("WRBP", [*arrays, None, None][:4], strict=True)
    )
    if w is None or r is None:
        raise ValueError(f"{what} has no {'W' if w is None else 'R'}")
    gates = len(CELLS[cell].gates)
    for name, array in (("W", w), ("R", r)):
        if array.ndim != 3 or len(array) not in (1, 2):
            raise ValueError(f"{what}: {name} has shape {array.shape}; expected (D, {gates} * H, ...), D 1 or 2")
    d, _, hidden = r.shape
    if hidden == 0:
        raise ValueError(f"{what}: R has shape {r.shape}; expected a hidden size of at least 1")
    _check_size(f"{what}: R", r, (d, gates * hidden, hidden))
    _check_size(f"{what}: W", w, (d, gates * hidden, w.shape[2]))
    for name, vector, width in (("B", b, 2 * gates * hidden), ("P", p, 3 * hidden)):
        if vector is not None:
            _check_size(f"{what}: {name}", vector, (d, width))
    return Layer(w, r, b, p)


def _check_size(name: str, array: Array, shape: tuple[int, ...]) -> None:
    if array.shape != shape:
        raise ValueError(f"{name} has shape {array.shape}; expected {shape}")


# ---- PyTorch's names

_NAME = re.compile(rf"({'|'.join(TORCH_KINDS)})(?:_l(\d+)(_reverse)?)?")


def _by_name(cell: str, weights: Mapping[str, Any], prefix: str) -> list[Layer]:
    """Read the weights of a module with layers, or of a cell, whose names have no number."""
    parts: dict[tuple[int, int], dict[str, Array]] = {}
    for name, value in weights.items():
        if not isinstance(name, str):
            raise TypeError(f"weights has the name {name!r}; expected str")
        if not name.startswith(prefix):
            continue
        match = _NAME.fullmatch(name[len(prefix) :])
        if match is None:
            raise ValueError(
                f"weights has {name!r}; expected {prefix}weight_ih_l0, {prefix}weight_hh_l0 and their like"
            )
        kind, number, reverse = match.groups()
        of_direction = parts.setdefault((int(number or 0), int(reverse is not None)), {})
        if kind in of_direction:
            raise ValueError(f"weights has {name!r} and the same with another number of its layer, or none")
        of_direction[kind] = arguments.floats(name, value)
    numbered = any(f"{prefix}weight_ih_l{i}" in weights for i, _ in parts)
    names = {(i, d): f"{prefix}{{}}{f'_l{i}' if numbered else ''}{'_reverse' if d else ''}" for i, d in parts}
    layers = 1 + max((i for i, _ in parts), default=-1)
    directions = 1 + max((d for _, d in parts), default=0)
    if not parts:
        raise ValueError(f"weights has no name such as {prefix}weight_ih_l0")
    result = []
    for i in range(layers):
        made = []
        for d in range(directions):
            if (i, d) not in parts:
                raise ValueError(f"weights has no {prefix}weight_ih_l{i}{'_reverse' if d else ''}")
            _check_direction(cell, parts[i, d], names[i, d])
            made.append(parts[i, d])
        if len({tuple((kind, array.shape) for kind, array in sorted(of_one.items())) for of_one in made}) > 1:
            raise ValueError(f"layer {i}: its directions differ in size, in having biases or in having projections")
        result.append(from_torch_order(cell, made))
    return result


def _check_direction(cell: str, parts: dict[str, Array], name: str) -> None:
    """Check the weights of one direction of one layer; ``name`` has a place for the kind."""
    for kind in ("weight_ih", "weight_hh"):
        if kind not in parts:
            raise ValueError(f"weights has no {name.format(kind)}")
    if "weight_hr" in parts and cell != "LSTM":
        raise ValueError(f"weights has {name.format('weight_hr')}; expected a projection in an LSTM alone")
    if ("bias_ih" in parts) != ("bias_hh" in parts):
        there, absent = ("bias_ih", "bias_hh") if "bias_ih" in parts else ("bias_hh", "bias_ih")
        raise ValueError(f"weights has {name.format(there)} and no {name.format(absent)}")
    for kind in ("weight_ih", "weight_hh", "weight_hr"):
        if kind in parts and (parts[kind].ndim != 2 or 0 in parts[kind].shape[kind == "weight_ih" :]):
            shape = parts[kind].shape
            raise ValueError(f"{name.format(kind)} has shape {shape}; expected 2 dimensions, of sizes of at least 1")
    w, r, projection = parts["weight_ih"], parts["weight_hh"], parts.get("weight_hr")
    hidden = r.shape[1] if projection is None else projection.shape[1]
    width = len(CELLS[cell].gates) * hidden
    _check_size(name.format("weight_hh"), r, (width, hidden if projection is None else projection.shape[0]))
    _check_size(name.format("weight_ih"), w, (width, w.shape[1]))
    for kind in ("bias_ih", "bias_hh"):
        if kind in parts:
            _check_size(name.format(kind), parts[kind], (width,))
