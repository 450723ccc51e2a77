"""Values of integers that stand for numbers: a scale and a zero-point, which the file fixes, say for which.

In dynq they are these numbers, as floats. What an operator computes is rounded to the steps of its result, as the
reference kernels round it, up to one step where two are equally near or nearly so.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ...graph import Value
from ...ir import ops
from .source import Tensor
from .tensors import KINDS

__all__ = ["NOT_ON_GRIDS", "Grids", "has_grid", "why_no_grid"]

_INTEGERS = (3, 9)  # UINT8 and INT8
_KEEP = ("Relu", "MaxPool")  # beside the ops that move elements: what they give is an element, or 0
NOT_ON_GRIDS = (  # ops whose kernels of integers have steps inside that a file gives in other ways
    "UNIDIRECTIONAL_SEQUENCE_LSTM", "BIDIRECTIONAL_SEQUENCE_LSTM", "UNIDIRECTIONAL_SEQUENCE_RNN",
    "BIDIRECTIONAL_SEQUENCE_RNN",
)  # fmt: skip
_Grid = tuple[str, float, int]
_Node = Callable[..., Value]


def has_grid(tensor: Tensor) -> bool:
    """Return whether a tensor that is computed has integers that stand for other numbers."""
    return tensor.quantization is not None and tensor.kind in _INTEGERS


def why_no_grid(tensor: Tensor) -> str | None:
    """Return what is not supported of the steps of a tensor; None if it has none, or those of one scale."""
    if tensor.quantization is None or tensor.kind not in KINDS or KINDS[tensor.kind][2] == "float32":
        return None
    name, scale = KINDS[tensor.kind][0], tensor.quantization.scale
    if tensor.kind not in _INTEGERS:
        return f"{name} values with a fixed scale"
    if scale.size != 1:
        return f"{name} values with a fixed scale for each channel"
    return None


class Grids:
    """The values of a graph whose steps are known."""

    def __init__(self) -> None:
        self._of: dict[Value, _Grid] = {}
        self._integers: dict[Value, Value] = {}

    def floats(self, integers: Value, tensor: Tensor, node: _Node) -> Value:
        """Return the numbers that integers stand for."""
        scale, zero_point = self._constants(tensor)
        value = node("DequantizeLinear", [integers, scale, zero_point])
        self._of[value], self._integers[value] = _grid(tensor), integers
        return value

    def rounded(self, value: Value, tensor: Tensor, node: _Node) -> Value:
        """Return a value on the steps of a tensor; the same one if it is there already."""
        return (
            value
            if self._steps(value) == _grid(tensor)
            else self.floats(self.integers(value, tensor, node), tensor, node)
        )

    def integers(self, value: Value, tensor: Tensor, node: _Node) -> Value:
        """Return the integers that stand for a value."""
        if value in self._integers and self._of[value] == _grid(tensor):
            return self._integers[value]
        return node("QuantizeLinear", [value, *self._constants(tensor)])

    def _steps(self, value: Value) -> _Grid | None:
        """Return the steps of a value, if it has those of the values that it is made of."""
        way: list[Value] = []
        while value not in self._of:
            producer = value.producer
            if producer is None or not (ops.find(producer.op).moves or producer.op in _KEEP):
                return None
            sources = [v for v in producer.inputs if v is not None and v.dtype == "float32" and v.array is None]
            if not sources or len({self._of.get(v) for v in sources}) > 1:
                return None
            way.append(value)
            value = sources[0]
        for between in way:
            self._of[between] = self._of[value]
        return self._of[value]

    @staticmethod
    def _constants(tensor: Tensor) -> list[Any]:
        kind, scale, zero_point = _grid(tensor)
        return [np.float32(scale), np.array(zero_point, kind)]


def _grid(tensor: Tensor) -> _Grid:
    assert tensor.quantization is not None
    kind = KINDS[tensor.kind][2]
    assert kind is not None
    return kind, float(tensor.quantization.scale[0]), int(tensor.quantization.zero_point[0])
