"""Read a node that is being exported, and compute with its inputs: what the formats share.

A format says what an input becomes (``T``) and how an operator of ONNX is written with such things. The functions of
composed.py then write dynq's own ops by operators that every format has.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

import numpy as np

from ..conversion import Unsupported
from ..core.arguments import Array
from ..ir.values import Deferred, Node, Value
from ..weights import QuantizedWeight

__all__ = ["Reader", "Site", "array_of", "control", "state", "weight_of"]

T = TypeVar("T")


class Reader:
    """A node, whose attributes are read with what they are if it lacks them."""

    node: Node

    def text(self, name: str, otherwise: str) -> str:
        return str(self.node.attributes.get(name, otherwise))

    def integer(self, name: str, otherwise: int) -> int:
        return int(self.node.attributes.get(name, otherwise))  # type: ignore[arg-type]

    def number(self, name: str, otherwise: float) -> float:
        return float(self.node.attributes.get(name, otherwise))  # type: ignore[arg-type]

    def numbers(self, name: str, otherwise: Sequence[int]) -> list[int]:
        return [int(i) for i in self.node.attributes.get(name, otherwise)]  # type: ignore[union-attr]


class Site(ABC, Reader, Generic[T]):
    """A node of the graph that becomes operators of another format."""

    @abstractmethod
    def input(self, name: str | int) -> T | None:
        """Return what the input of that name, or of that index, has become; None if it is left out."""

    @abstractmethod
    def ops(self, op: str, inputs: Sequence[T | None], outputs: int, **attributes: Any) -> list[T]:
        """Add an operator of ONNX on the way to the result, with several outputs."""

    @abstractmethod
    def array(self, array: Any, name: str = "constant") -> T:
        """Return a small constant. Numbers become float32, and integers int64, if they do not come as arrays."""

    def op(self, op: str, *inputs: T | None, **attributes: Any) -> T:
        """Add an operator on the way to the result, with one output."""
        return self.ops(op, inputs, 1, **attributes)[0]

    def need(self, name: str | int) -> T:
        """Return what an input has become that the op cannot do without."""
        made = self.input(name)
        if made is None:
            raise Unsupported(f"{self.node.op} without its input {name}")
        return made


def array_of(value: Value) -> Callable[[], Array] | None:
    """Return a function that makes the array of a constant; None if the value is none."""
    constant = value.constant
    if isinstance(constant, np.ndarray):
        return lambda: constant
    if isinstance(constant, Deferred) and constant.dtype is not None:
        return lambda: np.concatenate([part for part in constant.pieces() if isinstance(part, np.ndarray)])
    return None


def weight_of(value: Value) -> QuantizedWeight | None:
    """Return the packed weights of a value; None if it has none."""
    constant = value.constant
    if isinstance(constant, Deferred) and constant.dtype is None:
        parts = [part for part in constant.pieces() if isinstance(part, QuantizedWeight)]
        if len(parts) == 1:
            return parts[0]
        return QuantizedWeight.from_integers(
            np.concatenate([part.integers() for part in parts]), np.concatenate([part.scale for part in parts])
        )
    return constant if isinstance(constant, QuantizedWeight) else None


def control(site: Reader) -> None:
    """Refuse an op with bodies."""
    raise Unsupported(f"op {site.node.op}, which runs graphs of its own")


def state(site: Reader) -> None:
    """Refuse an op that no format has."""
    raise Unsupported(f"op {site.node.op}, which reads what a session keeps")
