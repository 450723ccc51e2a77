"""The table of ops as the C library has it (native/src/ops/ops.def): names, operands, attributes, shape rules."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from ..core.call import check, ffi, lib, text

__all__ = ["Attribute", "Op", "Operand", "find", "names", "table"]

_TYPES = {
    lib.DYNQ_ATTRIBUTE_INT: ("int", "i"),
    lib.DYNQ_ATTRIBUTE_FLOAT: ("float", "f"),
    lib.DYNQ_ATTRIBUTE_STRING: ("text", "string"),
    lib.DYNQ_ATTRIBUTE_INTS: ("ints", ""),
    lib.DYNQ_ATTRIBUTE_FLOATS: ("floats", ""),
    lib.DYNQ_ATTRIBUTE_BODY: ("body", ""),
}
_RULES = {getattr(lib, name): name.removeprefix("DYNQ_SHAPE_") for name in dir(lib) if name.startswith("DYNQ_SHAPE_")}


@dataclasses.dataclass(frozen=True)
class Operand:
    """An input or output of an op."""

    name: str
    optional: bool  # it may be left out
    variadic: bool  # it stands for one or more
    is_float: bool  # it is float32


@dataclasses.dataclass(frozen=True)
class Attribute:
    """An attribute that an op knows."""

    type: str  # "int", "float", "text", "ints", "floats" or "body"
    required: bool
    default: int | float | str | None  # None: the attribute has no default


@dataclasses.dataclass(frozen=True)
class Op:
    """All that is known of an op, except how it is computed."""

    name: str
    inputs: tuple[Operand, ...]  # the required ones come first
    outputs: tuple[Operand, ...]
    attributes: Mapping[str, Attribute]
    shape_rule: str  # of output 0: the end of a dynq_shape_rule, "SAME" or "BROADCAST"; "OWN" if it is none of them
    is_view: bool  # output 0 is input 0 with another shape
    moves: bool  # the elements of the outputs are elements of the inputs
    is_elementwise: bool  # each element is computed from those at its place
    is_exact: bool  # each element is exact, or rounded once

    @property
    def required(self) -> int:
        """Return how many inputs a node has at least."""
        return sum(not operand.optional for operand in self.inputs)

    @property
    def most(self) -> int | None:
        """Return how many inputs a node has at most; None if any number."""
        return None if self.inputs and self.inputs[-1].variadic else len(self.inputs)

    def position(self, name: str) -> int:
        """Return the index of the input of that name."""
        for i, operand in enumerate(self.inputs):
            if operand.name == name:
                return i
        raise KeyError(f"{self.name} has no input {name!r}; it has {', '.join(x.name for x in self.inputs)}")


@functools.cache
def table() -> Mapping[str, Op]:
    """Return all ops by name."""
    described = (_describe(i) for i in range(lib.dynq_op_count()))
    return MappingProxyType({op.name: op for op in described})


def find(name: str) -> Op:
    """Return the op of that name.

    Raises:
        KeyError: dynq has no such op.
    """
    return table()[name]


def names() -> frozenset[str]:
    """Return the names of all ops."""
    return frozenset(table())


def _describe(index: int) -> Op:
    given = ffi.new("dynq_op_description *")
    check(lib.dynq_op_describe(index, given))
    return Op(
        name=text(given.name),
        inputs=_operands(given.inputs, given.input_count),
        outputs=_operands(given.outputs, given.output_count),
        attributes=MappingProxyType(
            {text(x.name): _attribute(x) for x in (given.attributes[i] for i in range(given.attribute_count))}
        ),
        shape_rule=_RULES[given.shape_rule],
        is_view=bool(given.flags & lib.DYNQ_OP_VIEW),
        moves=bool(given.flags & lib.DYNQ_OP_MOVES),
        is_elementwise=bool(given.flags & lib.DYNQ_OP_ELEMENTWISE),
        is_exact=bool(given.flags & lib.DYNQ_OP_EXACT),
    )


def _operands(given: Any, count: int) -> tuple[Operand, ...]:
    return tuple(
        Operand(
            text(given[i].name),
            bool(given[i].flags & lib.DYNQ_OPERAND_OPTIONAL),
            bool(given[i].flags & lib.DYNQ_OPERAND_VARIADIC),
            bool(given[i].flags & lib.DYNQ_OPERAND_FLOAT32),
        )
        for i in range(count)
    )


def _attribute(given: Any) -> Attribute:
    kind, field = _TYPES[given.type]
    default = None
    if given.has_default:
        value = getattr(given, field)
        default = text(value) if kind == "text" else value
    return Attribute(kind, bool(given.required), default)
