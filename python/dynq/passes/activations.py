"""Replace activations as exporters write them, up to a dozen nodes in any arrangement, by one node.

A group of elementwise nodes with constant numbers that reads one value is a function of one number. It is an activation
if it gives that activation's values. That holds for every way to write it, while patterns of nodes would know only a
few.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ..core.arguments import FLOAT32, Array
from ..ir.given import Attributes
from ..ir.graph import Graph
from ..ir.values import Node, Value
from .rewrite import Uses, constant_of, scalar

__all__ = ["find_activations"]

_LARGEST = 14  # the most nodes of a group
_MOST_CORES = 2  # of these
_TOLERANCE = 1e-6  # constants are rounded to float32
_ROUNDING = 1e-7  # of one constant

_Found = tuple[str, Attributes, tuple[float, ...]]  # op, attributes, and the numbers that are its inputs behind x


def _erf(x: Array) -> Array:
    return np.array([math.erf(value) for value in np.ravel(x).tolist()]).reshape(np.shape(x))


def _sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def _clip(x: Array, low: float | None = None, high: float | None = None) -> Array:
    return np.clip(x, -math.inf if low is None else low, math.inf if high is None else high)


def _leaky(x: Array, alpha: Any) -> Array:
    return np.where(x < 0, alpha * x, x)


def _hard_sigmoid(x: Array, alpha: float, beta: float) -> Array:
    return np.clip(alpha * x + beta, 0, 1)


def _softplus(x: Array) -> Array:
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


# The functions that a group may be made of. Where one is a core, the search for groups begins.
_PLAIN: dict[str, Callable[..., Any]] = {
    "Erf": _erf,
    "Tanh": np.tanh,
    "Neg": np.negative,
    "Abs": np.abs,
    "Exp": np.exp,
    "Reciprocal": np.reciprocal,
    "Sigmoid": _sigmoid,
    "Softplus": _softplus,
    "Relu": lambda x: np.maximum(x, 0),
    "HardSwish": lambda x: x * _hard_sigmoid(x, 1 / 6, 0.5),
    "PRelu": _leaky,
    "Clip": _clip,
    "Add": np.add,
    "Sub": np.subtract,
    "Mul": np.multiply,
    "Div": np.divide,
    "Pow": np.power,
    "Max": lambda *xs: functools.reduce(np.maximum, xs),
    "Min": lambda *xs: functools.reduce(np.minimum, xs),
    "Where": np.where,
    "Greater": np.greater,
    "GreaterOrEqual": np.greater_equal,
    "Less": np.less,
    "LessOrEqual": np.less_equal,
}
_WITH_NUMBERS: dict[str, Callable[[Attributes, Any], Any]] = {
    "HardSigmoid": lambda a, x: _hard_sigmoid(x, _number(a, "alpha", 0.2), _number(a, "beta", 0.5)),
    "LeakyRelu": lambda a, x: _leaky(x, _number(a, "alpha", 0.01)),
}
_CORES = ("Erf", "Tanh", "Exp", "Sigmoid", "HardSigmoid", "Relu", "Clip", "Max", "Min", "PRelu", "LeakyRelu", "Where")

_X = np.concatenate([np.linspace(-12, 12, 481), [-1e4, -100.0, -30.0, 30.0, 100.0, 1e4, 1e-3, -1e-3]])
_ONE = float(_X[260])  # a place at which functions are told apart
_FIXED: list[tuple[str, Attributes, Array]] = [
    ("Gelu", {"approximate": "none"}, 0.5 * _X * (1 + _erf(_X / math.sqrt(2)))),
    ("Gelu", {"approximate": "tanh"}, 0.5 * _X * (1 + np.tanh(math.sqrt(2 / math.pi) * (_X + 0.044715 * _X**3)))),
    ("HardSwish", {}, _X * _hard_sigmoid(_X, 1 / 6, 0.5)),
    ("Mish", {}, _X * np.tanh(_softplus(_X))),
]


def find_activations(graph: Graph) -> None:
    uses = Uses(graph)
    gone: set[Node] = set()
    for core in [node for node in graph.nodes if node.op in _CORES]:
        end: Node | None = core
        best: tuple[Node, set[Node], Value, _Found] | None = None
        cores = 0
        for _ in range(_LARGEST):  # along the readers; the last one at which a group ends has most of it
            if end is None or end in gone or not _is_known(end):
                break
            cores += end.op in _CORES
            if cores > _MOST_CORES:
                break
            found = _group(uses, end, core)
            best = best if found is None else (end, *found)
            end = uses.only_reader(end.outputs[0])
        if best is None:
            continue
        end, group, x, (op, attributes, numbers) = best
        uses.set_inputs(end, [x, *(graph.constant(FLOAT32.type(number)) for number in numbers)])
        end.op, end.attributes = op, attributes
        for node in group - {end}:
            uses.remove(node)
        gone |= group - {end}


def _is_known(node: Node) -> bool:
    return (node.op in _PLAIN or node.op in _WITH_NUMBERS) and len(node.outputs) == 1 and node.outputs[0] is not None


def _group(uses: Uses, end: Node, core: Node) -> tuple[set[Node], Value, _Found] | None:
    """Return the largest group that ends in ``end``, the value that it reads, and what it computes of that."""
    best = None
    group, leaves = {end}, _leaves({end})
    while len(group) < _LARGEST:
        if len(leaves) == 1 and core in group and leaves[0].dtype == "float32" and _is_scalar(group, leaves[0]):
            found = _function(end, leaves[0], group)
            if found is not None and not (len(group) == 1 and found[0] == end.op):
                best = set(group), leaves[0], found
        grown = next((leaf.producer for leaf in leaves if _can_join(uses, leaf, group)), None)
        if grown is None:
            break
        group.add(grown)
        leaves = _leaves(group)
    return best


def _can_join(uses: Uses, leaf: Value, group: set[Node]) -> bool:
    node = leaf.producer
    if node is None or not _is_known(node) or not uses.inside(leaf, group):
        return False
    return node.op not in _CORES or sum(other.op in _CORES for other in group) < _MOST_CORES


def _leaves(group: set[Node]) -> list[Value]:
    made = {node.outputs[0] for node in group}
    inputs = [value for node in group for value in node.inputs if value is not None]
    return [value for value in dict.fromkeys(inputs) if value not in made and scalar(value) is None]


def _is_scalar(group: set[Node], x: Value) -> bool:
    """Return whether the numbers of a group leave the shape of x as it is."""
    rank = 0 if x.shape is None else len(x.shape)
    arrays = (constant_of(value) for node in group for value in node.inputs)
    return all(array is None or (array.ndim <= rank and array.dtype == FLOAT32) for array in arrays)


def _function(end: Node, x: Value, group: set[Node]) -> _Found | None:
    """Return what the group computes; None if it is no activation."""
    values: dict[Value, Any] = {x: _X}

    def compute(value: Value | None) -> Any:
        if value is None:
            return None
        number = scalar(value)
        if number is not None:
            return number
        if value not in values:
            node = value.producer
            assert node is not None and node in group
            arguments = [compute(argument) for argument in node.inputs]
            values[value] = (
                _WITH_NUMBERS[node.op](node.attributes, *arguments)
                if node.op in _WITH_NUMBERS
                else _PLAIN[node.op](*arguments)
            )
        return values[value]

    try:
        with np.errstate(all="ignore"):
            y = np.broadcast_to(np.asarray(compute(end.outputs[0]), np.float64), _X.shape)
            return _named(y)
    except (TypeError, ValueError):
        return None  # the runtime says what is wrong with the node


def _named(y: Array) -> _Found | None:
    """Return the activation whose values at ``_X`` are ``y``. Its numbers are read from some of the values."""
    for op, attributes, expected in _FIXED:
        if _equal(y, expected):
            return op, dict(attributes), ()
    if not np.isfinite(y).all():
        return None
    if _same(y, np.maximum(_X, 0)):
        return "Relu", {}, ()
    slope = float(y[_X == -1e4][0] / -1e4)
    if 0 < abs(slope) < 1e3 and slope != 1 and _same(y, _leaky(_X, slope)):
        return "LeakyRelu", {"alpha": slope}, ()
    low, high = float(y.min()), float(y.max())
    low, high = (-math.inf if low <= -1e4 else low), (math.inf if high >= 1e4 else high)
    if low < high and (low, high) != (-math.inf, math.inf) and _same(y, _clip(_X, low, high)):
        return "Clip", {}, (low, high)
    if _same(y, _sigmoid(_X)):
        return "Sigmoid", {}, ()
    inside = np.flatnonzero((y > 0.001) & (y < 0.999))
    if len(inside) > 1 and low == 0 and abs(high - 1) <= _ROUNDING:
        first, last = inside[np.argmin(_X[inside])], inside[np.argmax(_X[inside])]
        alpha = float((y[last] - y[first]) / (_X[last] - _X[first]))
        beta = float(y[first] - alpha * _X[first])
        if alpha > 0 and _equal(y, _hard_sigmoid(_X, alpha, beta)):
            return "HardSigmoid", {"alpha": alpha, "beta": beta}, ()
    gate = float(y[_X == _ONE][0]) / _ONE
    if 0 < gate < 1:
        alpha = math.log(gate / (1 - gate)) / _ONE
        alpha = 1.0 if abs(alpha - 1) < _TOLERANCE * 10 else alpha
        if alpha > 0 and _equal(y, _X * _sigmoid(alpha * _X)):
            return "Swish", {"alpha": alpha}, ()
    return None


def _equal(y: Array, expected: Array) -> bool:
    return bool(np.all(np.abs(y - expected) <= _TOLERANCE * (1 + np.abs(expected))))


def _same(y: Array, expected: Array) -> bool:
    """Return whether two functions are the same where they are small, too: a clamp to 1e-30 is not lost."""
    return bool(np.all(np.abs(y - expected) <= _TOLERANCE * np.abs(expected)))


def _number(attributes: Attributes, name: str, otherwise: float) -> float:
    value = attributes.get(name, otherwise)
    return float(value) if isinstance(value, (int, float)) else otherwise
