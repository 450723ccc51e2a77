"""Read attributes. Each has to be known to its op, of the right type, and with a value that dynq implements."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import onnx
from onnx import AttributeProto, NodeProto

from ...conversion import InvalidModelError

__all__ = ["FLOAT", "FLOATS", "INT", "INTS", "TENSOR", "TEXT", "TEXTS", "Rule", "one_of", "read", "unused"]

_KINDS = {
    AttributeProto.INT: "int",
    AttributeProto.FLOAT: "float",
    AttributeProto.STRING: "text",
    AttributeProto.STRINGS: "texts",
    AttributeProto.INTS: "ints",
    AttributeProto.FLOATS: "floats",
    AttributeProto.TENSOR: "tensor",
    AttributeProto.GRAPH: "graph",
}


@dataclass(frozen=True)
class Rule:
    kind: str
    allowed: tuple[Any, ...] | None = None  # None: every value
    keep: bool = True  # False: it has no effect on what dynq computes, or none but the allowed value


INT, FLOAT, TEXT, INTS, FLOATS, TEXTS, TENSOR = (
    Rule(kind) for kind in ("int", "float", "text", "ints", "floats", "texts", "tensor")
)  # fmt: skip


def one_of(*values: Any) -> Rule:
    """Return a rule that allows only these values. If there is just one, the attribute is dropped."""
    return Rule("text" if isinstance(values[0], str) else "int", values, keep=len(values) > 1)


def unused(kind: str = "int") -> Rule:
    """Return a rule for an attribute that matters only for training, or for dtypes that are refused anyway."""
    return Rule(kind, keep=False)


def read(node: NodeProto, name: str, rules: dict[str, Rule], refuse: Callable[[str], None]) -> dict[str, Any]:
    """Return the attributes of a node by name. ``refuse`` is called for each that is not implemented."""
    op = f"{node.domain}.{node.op_type}" if node.domain not in ("", "ai.onnx") else node.op_type
    result: dict[str, Any] = {}
    for attribute in node.attribute:
        rule = rules.get(attribute.name)
        if attribute.ref_attr_name:
            raise InvalidModelError(f"node {name!r}: attribute {attribute.name} refers to a function's, outside of one")
        if rule is None:
            refuse(f"attribute {op}.{attribute.name}")
            continue
        kind = _KINDS.get(attribute.type)
        if kind != rule.kind:
            got = kind or AttributeProto.AttributeType.Name(attribute.type)
            raise InvalidModelError(f"node {name!r}: attribute {attribute.name} is {got}; expected {rule.kind}")
        value = onnx.helper.get_attribute_value(attribute)
        if rule.kind == "text":
            value = value.decode("utf-8", "replace")
        elif rule.kind == "texts":
            value = [text.decode("utf-8", "replace") for text in value]
        elif rule.kind in ("ints", "floats"):
            value = list(value)
        if rule.allowed is not None and value not in rule.allowed:
            expected = " or ".join(repr(v) for v in rule.allowed)
            refuse(f"attribute {op}.{attribute.name} = {value!r}; expected {expected}")
        elif rule.keep:
            result[attribute.name] = value
    return result
