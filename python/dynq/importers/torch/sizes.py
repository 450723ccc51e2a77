"""Sizes that a run decides: names of them in shapes, and nodes that compute with them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import sympy

from ...conversion import Unsupported
from ...graph import Graph, Value
from ...ir.given import ONNX_TYPES

__all__ = ["Sizes", "is_symbolic"]

Dim = int | str | None
_COMPARISONS = {
    "StrictGreaterThan": "Greater", "GreaterThan": "GreaterOrEqual", "StrictLessThan": "Less",
    "LessThan": "LessOrEqual", "Equality": "Equal", "Unequality": "Equal",
}  # fmt: skip


def is_symbolic(value: Any) -> bool:
    """Return whether it is one of torch's numbers that depend on sizes."""
    return hasattr(value, "node") and hasattr(value.node, "expr")


class Sizes:
    """torch has an expression of symbols for each size; a symbol is the size of an input along an axis."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._names: dict[Any, str] = {}
        self._same: dict[Any, Any] = {}  # symbols of one name, which stands for one size
        self._places: dict[Any, tuple[Value, int]] = {}
        self._values: dict[Any, Value] = {}

    def inside(self, graph: Graph) -> Sizes:
        """Return what a body of the graph knows: names, and no values of the graph around it."""
        sizes = Sizes(graph)
        sizes._names, sizes._same = self._names, self._same
        return sizes

    def given(self, size: Any, value: Value) -> None:
        """A value has this number."""
        self._values[self._expression(size)] = value

    def name(self, symbol: Any, name: str) -> None:
        """The symbol is shown by this name; the first one counts."""
        known = self._names.setdefault(symbol, name)
        self._same[symbol] = next(other for other, text in self._names.items() if text == known)

    def place(self, symbol: Any, value: Value, axis: int) -> None:
        """The symbol is a size of this input."""
        self._places.setdefault(self._same.get(symbol, symbol), (value, axis))

    def places(self, value: Value, shape: Iterable[Any]) -> None:
        """Each size of this value that is a symbol is known there."""
        for axis, size in enumerate(shape):
            if is_symbolic(size) and size.node.expr.is_Symbol:
                self.place(size.node.expr, value, axis)

    def dim(self, size: Any) -> Dim:
        """A size as shapes of a graph have it: equal names stand for equal sizes."""
        if not is_symbolic(size):
            return int(size)
        expression = self._expression(size)
        if expression.is_Integer:
            return int(expression)
        factors = expression.as_ordered_factors() if expression.is_Mul else [expression]
        if any(symbol not in self._names for symbol in expression.free_symbols):
            return None
        if all(factor.is_Symbol for factor in factors):
            return " * ".join(sorted(self._names[factor] for factor in factors))
        renamed = expression.xreplace({symbol: sympy.Symbol(self._names[symbol]) for symbol in expression.free_symbols})
        return str(renamed).replace(" ", "")

    def shape(self, sizes: Any) -> tuple[Dim, ...]:
        return tuple(self.dim(size) for size in sizes)

    def number(self, size: Any) -> int | float | Value:
        """A Python number, or a scalar that computes it: int64, or float32 where torch has a float."""
        if not is_symbolic(size):
            return size  # type: ignore[no-any-return]
        return self._number(self._expression(size))

    def _expression(self, size: Any) -> Any:
        expression = size.node.expr
        return expression.xreplace({symbol: self._same.get(symbol, symbol) for symbol in expression.free_symbols})

    def _number(self, expression: Any) -> int | float | Value:
        if expression.is_Integer:
            return int(expression)
        if expression.is_Float or expression.is_Rational:
            return float(expression)
        if expression not in self._values:
            self._values[expression] = self._compute(expression)
        return self._values[expression]

    def _compute(self, expression: Any) -> Value:
        if expression.is_Symbol:
            if expression not in self._places:
                raise Unsupported(f"a size that depends on values, not on the sizes of inputs ({expression})")
            value, axis = self._places[expression]
            shape = self._node("Shape", value)
            return self._node("Gather", shape, np.int64(axis), axis=0)
        kind = type(expression).__name__
        if kind in ("Add", "Mul"):
            return self._chain(kind, expression.as_ordered_terms() if kind == "Add" else _factors(expression))
        if kind == "Pow" and len(_factors(expression)) > 1:
            return self._chain("Mul", _factors(expression))
        if kind in ("Max", "Min"):
            return self._chain(kind, list(expression.args))
        parts = [self._number(argument) for argument in expression.args]
        if kind in ("FloorDiv", "CleanDiv"):
            return self._floor_div(expression.args[0], parts[0], parts[1])
        if kind in _COMPARISONS:
            compared = self._node(_COMPARISONS[kind], *(self._integer(part) for part in parts))
            return self._node("Not", compared) if kind == "Unequality" else compared
        if kind in ("Mod", "PythonMod") and isinstance(parts[1], int) and parts[1] > 0:
            return self._node("Mod", self._integer(parts[0]), np.int64(parts[1]))
        if kind == "ToFloat":
            converted: Value = self._float(parts[0])
            return converted
        if kind in ("CeilToInt", "FloorToInt"):
            rounded = self._node(kind.removesuffix("ToInt"), self._float(parts[0]))
            return self._node("Cast", rounded, to=ONNX_TYPES["int64"])
        if kind in ("IntTrueDiv", "FloatTrueDiv"):
            return self._node("Div", self._float(parts[0]), self._float(parts[1]))
        if (kind == "FloatPow" and parts[1] == 0.5) or kind.startswith("OpaqueUnaryFn_sqrt"):
            return self._node("Sqrt", self._float(parts[0]))
        raise Unsupported(f"a size that is computed as {expression}")

    def _chain(self, op: str, parts: list[Any]) -> Value:
        numbers = [self._number(part) for part in parts]
        numbers.sort(key=lambda number: not isinstance(number, Value))  # constants last
        floating = any(isinstance(n, float) or (isinstance(n, Value) and n.dtype == "float32") for n in numbers)
        convert = self._float if floating else self._integer
        result: Value = convert(numbers[0])
        for number in numbers[1:]:
            result = self._node(op, result, convert(number))
        return result

    def _floor_div(self, expression: Any, value: int | float | Value, by: int | float | Value) -> Value:
        """Sizes are not negative, but a difference of them may be."""
        dividend, divisor = self._integer(value), self._integer(by)
        if not all(number >= 0 for number in expression.as_coefficients_dict().values()):  # Div rounds towards 0
            dividend = self._node("Sub", dividend, self._node("Mod", dividend, divisor))
        return self._node("Div", dividend, divisor)

    def _integer(self, number: int | float | Value) -> Any:
        return number if isinstance(number, Value) else np.int64(number)

    def _float(self, number: int | float | Value) -> Any:
        if not isinstance(number, Value):
            return np.float32(number)
        return number if number.dtype == "float32" else self._node("Cast", number, to=ONNX_TYPES["float32"])

    def _node(self, op: str, *inputs: Any, **attributes: Any) -> Value:
        made: Value = self._graph.node(op, list(inputs), name=self._graph.unique_node("sizes"), **attributes)
        return made


def _factors(expression: Any) -> list[Any]:
    """Return the factors of a product; a power with a whole exponent is that many factors."""
    result = []
    for factor in expression.as_ordered_factors():
        base, exponent = factor.as_base_exp()
        whole = exponent.is_Integer and 1 < int(exponent) <= 8
        result += [base] * int(exponent) if whole else [factor]
    return result
