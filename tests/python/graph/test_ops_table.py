"""The table of ops (native/src/ops/ops.def), as dynq_op_describe gives it, against ONNX's own definitions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dynq.core.call import NULL, check, ffi, lib, text

onnx = pytest.importorskip("onnx")

# Where an op of ours differs from ONNX's, and why.
INPUTS = {"ConstantOfShape": ["value"]}  # a tensor there, and no attribute of ours is one
OUTPUTS = {"BatchNormalization": ["running_mean", "running_var"]}  # of training
WITHOUT = {"ConstantOfShape": {"value"}}  # it is an input
DIFFERENT = {
    # One string, names with commas between: no attribute of ours is a list of strings. Without it each direction has
    # the usual functions; the default of RNN names two directions, however many there are.
    ("LSTM", "activations"),
    ("GRU", "activations"),
    ("RNN", "activations"),
}
TYPES = {lib.DYNQ_ATTRIBUTE_INT: "INT", lib.DYNQ_ATTRIBUTE_FLOAT: "FLOAT", lib.DYNQ_ATTRIBUTE_STRING: "STRING"}
TYPES |= {lib.DYNQ_ATTRIBUTE_INTS: "INTS", lib.DYNQ_ATTRIBUTE_FLOATS: "FLOATS", lib.DYNQ_ATTRIBUTE_BODY: "GRAPH"}


def describe(index: int) -> Any:
    description = ffi.new("dynq_op_description *")
    check(lib.dynq_op_describe(index, description))
    return description[0]


OPS = {text(lib.dynq_op_name(i)): describe(i) for i in range(lib.dynq_op_count())}
OF_ONNX = sorted(name for name in OPS if not name.startswith("dynq."))


def operands(count: int, given: Any) -> list[tuple[str, bool, bool]]:
    """Name, whether it may be left out, whether it stands for several."""
    optional, variadic = lib.DYNQ_OPERAND_OPTIONAL, lib.DYNQ_OPERAND_VARIADIC
    return [(text(x.name), bool(x.flags & optional), bool(x.flags & variadic)) for x in given[0:count]]


def parameters(given: Any) -> list[tuple[str, bool, bool]]:
    option = onnx.defs.OpSchema.FormalParameterOption
    return [(x.name, x.option == option.Optional, x.option == option.Variadic) for x in given]


def default(attribute: Any) -> Any:
    if not attribute.has_default:
        return None
    kind = TYPES[attribute.type]
    return text(attribute.string) if kind == "STRING" else {"INT": attribute.i, "FLOAT": attribute.f}[kind]


@pytest.mark.parametrize("name", OF_ONNX)
def test_inputs_and_outputs_are_those_of_onnx(name: str) -> None:
    op, schema = OPS[name], onnx.defs.get_schema(name)
    ours = [x for x in operands(op.input_count, op.inputs) if x[0] not in INPUTS.get(name, ())]
    assert ours == parameters(schema.inputs)
    theirs = [x for x in parameters(schema.outputs) if x[0] not in OUTPUTS.get(name, ())]
    assert operands(op.output_count, op.outputs) == theirs


@pytest.mark.parametrize("name", OF_ONNX)
def test_attributes_are_those_of_onnx(name: str) -> None:
    op, schema = OPS[name], onnx.defs.get_schema(name)
    ours = {text(x.name): x for x in op.attributes[0 : op.attribute_count]} if op.attribute_count else {}
    assert set(ours) == set(schema.attributes) - WITHOUT.get(name, set())
    for key, attribute in ours.items():
        if (name, key) in DIFFERENT:
            continue
        theirs = schema.attributes[key]
        assert TYPES[attribute.type] == theirs.type.name, key
        assert bool(attribute.required) == theirs.required, key
        value = onnx.helper.get_attribute_value(theirs.default_value) if theirs.default_value.name else None
        value = value.decode() if isinstance(value, bytes) else value
        assert default(attribute) == (np.float32(value) if isinstance(value, float) else value), key


def test_what_differs_from_onnx_is_there() -> None:
    for name, names in [*INPUTS.items(), *((name, [key]) for name, key in DIFFERENT)]:
        op = OPS[name]
        ours = {x[0] for x in operands(op.input_count, op.inputs)}
        ours |= {text(x.name) for x in op.attributes[0 : op.attribute_count]} if op.attribute_count else set()
        assert set(names) <= ours, name


@pytest.mark.parametrize("name", sorted(OPS))
def test_a_description_agrees_with_itself(name: str) -> None:
    op = OPS[name]
    inputs, outputs = operands(op.input_count, op.inputs), operands(op.output_count, op.outputs)
    assert text(op.name) == name and inputs and outputs
    assert sorted(inputs, key=lambda x: x[1]) == inputs  # the required ones first
    assert not any(variadic for _, _, variadic in inputs[:-1] + outputs[:-1])
    assert len({x[0] for x in inputs}) == len(inputs)
    attributes = op.attributes[0 : op.attribute_count] if op.attribute_count else []
    assert len({text(x.name) for x in attributes}) == op.attribute_count
    for attribute in attributes:
        assert not (attribute.required and attribute.has_default)
        assert TYPES[attribute.type] in ("INT", "FLOAT", "STRING") or not attribute.has_default
        assert (attribute.string != NULL) == (TYPES[attribute.type] == "STRING" and bool(attribute.has_default))
    assert not op.flags & lib.DYNQ_OP_VIEW or op.flags & lib.DYNQ_OP_MOVES
    assert not op.flags & lib.DYNQ_OP_MOVES or op.flags & lib.DYNQ_OP_EXACT
    if op.flags & lib.DYNQ_OP_ELEMENTWISE and name not in ("Cast", "CastLike"):
        rules = (lib.DYNQ_SHAPE_SAME, lib.DYNQ_SHAPE_SAME_BOOL, lib.DYNQ_SHAPE_BROADCAST)
        assert op.shape_rule in (*rules, lib.DYNQ_SHAPE_COMPARE, lib.DYNQ_SHAPE_CHOOSE)
    if op.shape_rule == lib.DYNQ_SHAPE_REDUCE:
        assert [x[0] for x in inputs] == ["data", "axes"]
        assert {text(x.name) for x in attributes} == {"keepdims", "noop_with_empty_axes"}


def test_no_op_past_the_last() -> None:
    count = lib.dynq_op_count()
    assert lib.dynq_op_name(count) == NULL and len(OPS) == count
    with pytest.raises(ValueError, match=f"there is no op {count}"):
        describe(count)
    with pytest.raises(ValueError, match="description is NULL"):
        check(lib.dynq_op_describe(0, NULL))
