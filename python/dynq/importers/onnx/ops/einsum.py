"""Einsum as transposes, sums and matrix products of two operands at a time, from the left."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ....conversion import Unsupported
from ....graph import Value
from ..attributes import TEXT
from ..convert import Call, Result, converter


@dataclass
class _Operand:
    value: Value
    labels: list[str]  # of its axes

    def size(self, label: str) -> int | None:
        """Return the size of an axis if it is known before the run."""
        shape = self.value.shape
        size = None if shape is None else shape[self.labels.index(label)]
        return size if isinstance(size, int) else None


@converter("Einsum", equation=TEXT)
def einsum(call: Call) -> Result:
    terms, result = _parse(call, call.attribute("equation", ""))
    for i in range(len(terms)):
        if call.need(i).dtype not in (None, "float32"):
            raise Unsupported(f"Einsum of {call.need(i).dtype}")
    operands = [_diagonal(call, _Operand(call.need(i), labels)) for i, labels in enumerate(terms)]
    done = operands[0]
    for i, operand in enumerate(operands[1:], 2):
        later = set(result).union(*(other.labels for other in operands[i:]))
        done = _product(call, done, operand, later)
    done = _sum(call, done, set(result))
    return call.last("Transpose", [done.value], perm=[done.labels.index(label) for label in result])


def _parse(call: Call, equation: str) -> tuple[list[list[str]], list[str]]:
    """Return the labels of each operand and of the result. An ellipsis becomes a label for each axis, from the end."""
    text = equation.replace(" ", "")
    left, arrow, right = text.partition("->")
    terms = left.split(",")
    if len(terms) != len(call.inputs):
        raise ValueError(f"equation {equation!r} has {len(terms)} terms for {len(call.inputs)} inputs")
    most = 0
    for i, term in enumerate(terms):
        letters = term.replace("...", "")
        if "." in letters or (letters and not letters.isalpha()):
            raise ValueError(f"equation {equation!r}: term {term!r} is not made of letters and one ellipsis")
        more = call.rank(i) - len(letters)
        if more < 0 or (more > 0 and "..." not in term):
            raise ValueError(f"equation {equation!r}: term {term!r} is of an input with {call.rank(i)} dimensions")
        most = max(most, more)

    def labels(term: str, axes: int) -> list[str]:
        before, _, after = term.partition("...")
        dots = [f".{i}" for i in range(axes, 0, -1)] if "..." in term else []
        return [*before, *dots, *after]

    parsed = [labels(term, call.rank(i) - len(term.replace("...", ""))) for i, term in enumerate(terms)]
    if arrow:
        result = labels(right, most)
    else:
        counts = Counter(letter for term in terms for letter in term if letter.isalpha())
        result = labels("..." if most else "", most) + sorted(x for x, count in counts.items() if count == 1)
    if missing := [label for label in result if not any(label in term for term in parsed)]:
        raise ValueError(f"equation {equation!r}: no operand has {missing[0]!r}")
    if len(set(result)) != len(result):
        raise ValueError(f"equation {equation!r}: the result has an axis twice")
    return parsed, result


def _diagonal(call: Call, x: _Operand) -> _Operand:
    """Keep, of axes with one label, the elements at equal places."""
    for label in [label for label, count in Counter(x.labels).items() if count > 1]:
        while x.labels.count(label) > 1:
            first = x.labels.index(label)
            second = x.labels.index(label, first + 1)
            size = x.size(label)
            if size is None:
                raise Unsupported("Einsum that takes a diagonal of a size that is not known before the run")
            shape = [size if i in (first, second) else 1 for i in range(len(x.labels))]
            mask = call.constant(np.eye(size, dtype=np.bool_).reshape(shape), "diagonal")
            kept = call.node("Where", [mask, x.value, call.constant(np.zeros((), np.float32))])
            axes = call.constant(np.array([second], np.int64), "axes")
            value = call.node("ReduceSum", [kept, axes], keepdims=0)
            x = _Operand(value, [*x.labels[:second], *x.labels[second + 1 :]])
    return x


def _sum(call: Call, x: _Operand, keep: set[str]) -> _Operand:
    """Sum over the axes that nothing needs any more."""
    axes = [i for i, label in enumerate(x.labels) if label not in keep]
    if not axes:
        return x
    value = call.node("ReduceSum", [x.value, call.constant(np.array(axes, np.int64), "axes")], keepdims=0)
    return _Operand(value, [label for label in x.labels if label in keep])


def _product(call: Call, a: _Operand, b: _Operand, keep: set[str]) -> _Operand:
    """Multiply two operands and sum over the axes that both have and nothing needs any more."""
    a, b = _sum(call, a, keep | set(b.labels)), _sum(call, b, keep | set(a.labels))
    batch = [label for label in a.labels if label in b.labels and label in keep]
    inner = [label for label in a.labels if label in b.labels and label not in keep]
    left = [label for label in a.labels if label not in b.labels]
    right = [label for label in b.labels if label not in a.labels]
    if not inner:
        order = [*batch, *left, *right]
        return _Operand(call.node("Mul", [_spread(call, a, order), _spread(call, b, order)]), order)
    rows = [[label] for label in left] if not batch else [left]  # without a batch rows may have several axes
    x = _grouped(call, a, [*([label] for label in batch), *rows, inner])
    y = _grouped(call, b, [*([label] for label in batch), inner, right])
    product = call.node("MatMul", [x, y])
    sizes = [*((a if label in a.labels and a.size(label) != 1 else b, label) for label in batch)]
    sizes += [(a, label) for label in left] + [(b, label) for label in right]
    merged = (batch and len(left) != 1) or len(right) != 1
    if merged:
        product = _reshaped(call, product, [[pair] for pair in sizes], same=0)
    return _Operand(product, [*batch, *left, *right])


def _spread(call: Call, x: _Operand, order: list[str]) -> Value:
    """Bring the axes into an order in which those that are missing have size 1."""
    there = [label for label in order if label in x.labels]
    value = _transposed(call, x, there)
    missing = [i for i, label in enumerate(order) if label not in x.labels]
    return call.node("Unsqueeze", [value, call.constant(np.array(missing, np.int64), "axes")]) if missing else value


def _transposed(call: Call, x: _Operand, order: Sequence[str]) -> Value:
    perm = [x.labels.index(label) for label in order]
    return x.value if perm == sorted(perm) else call.node("Transpose", [x.value], perm=perm)


def _grouped(call: Call, x: _Operand, groups: list[list[str]]) -> Value:
    """Transpose, and make one axis of each group; of an empty one an axis of size 1."""
    order = [label for group in groups for label in group]
    value = _transposed(call, x, order)
    if all(len(group) == 1 for group in groups):
        return value
    same = next(i for i, group in enumerate(groups) if len(group) != 1)  # axes before it stay where they are
    return _reshaped(call, value, [[(x, label) for label in group] for group in groups], same)


def _reshaped(call: Call, value: Value, groups: list[list[tuple[_Operand, str]]], same: int) -> Value:
    """Reshape to an axis for each group. The first ``same`` axes are those of ``value``."""
    sizes: list[int | None] = []
    for group in groups:
        known = [operand.size(label) for operand, label in group]
        sizes.append(math.prod(size for size in known if size is not None) if None not in known else None)
    target: list[int | None] = [0 if i < same else size for i, size in enumerate(sizes)]
    if target.count(None) == 1:
        target[target.index(None)] = -1
    if None not in target and 0 not in sizes:  # in a target a 0 means that the axis stays as it is
        return call.node("Reshape", [value, call.constant(np.array(target, np.int64), "shape")])
    parts = [
        call.constant(np.array([size], np.int64), "size") if size is not None else _size_of(call, group)
        for size, group in zip(sizes, groups, strict=True)
    ]
    return call.node("Reshape", [value, call.node("Concat", parts, axis=0)], allowzero=1)


def _size_of(call: Call, group: list[tuple[_Operand, str]]) -> Value:
    """Compute the product of the sizes of some axes, (1,)."""
    sizes = []
    for operand, label in group:
        at = call.constant(np.array([operand.labels.index(label)], np.int64), "axis")
        sizes.append(call.node("Gather", [call.node("Shape", [operand.value]), at]))
    result = sizes[0]
    for size in sizes[1:]:
        result = call.node("Mul", [result, size])
    return result
