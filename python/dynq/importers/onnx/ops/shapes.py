"""Ops that move data and tell shapes."""

from __future__ import annotations

import numpy as np

from ....graph import Value
from ..attributes import INT, INTS, one_of, unused
from ..convert import Call, Result, constant_array, converter
from .pointwise import onnx_number, passes

passes("ScatterElements", axis=INT)
passes("ScatterElements", since=16, axis=INT, reduction=one_of("none", "add", "mul"))
passes("ScatterElements", since=18, axis=INT, reduction=one_of("none", "add", "mul", "max", "min"))
passes("ScatterND")
passes("ScatterND", since=16, reduction=one_of("none", "add", "mul"))
passes("ScatterND", since=18, reduction=one_of("none", "add", "mul", "max", "min"))
passes("Range")
passes("Range", since=27, stash_type=unused())


def axes(call: Call, values: list[int]) -> Value:
    return call.constant(np.array(values, np.int64), "axes")


@converter("Squeeze", axes=INTS)
@converter("Squeeze", since=13)
@converter("Unsqueeze", axes=INTS)
@converter("Unsqueeze", since=13)
def squeeze(call: Call) -> Result:
    """Before opset 13 the axes are an attribute."""
    if "axes" in call.attributes:
        return call.emit(call.op, [call.need("data"), axes(call, call.attributes["axes"])])
    return call.emit(call.op, call.inputs)


@converter("Split", axis=INT, split=INTS)
def split_by_attribute(call: Call) -> Result:
    axis, sizes = call.attribute("axis", 0), call.attribute("split", None)
    if sizes is None:
        return call.emit("Split", [call.need("input")], axis=axis, num_outputs=len(call.proto.output))
    return call.emit("Split", [call.need("input"), call.constant(np.array(sizes, np.int64), "sizes")], axis=axis)


@converter("Split", since=13, axis=INT)
@converter("Split", since=18, axis=INT, num_outputs=INT)
def split(call: Call) -> Result:
    axis, parts = call.attribute("axis", 0), call.attribute("num_outputs", len(call.proto.output))
    if parts != len(call.proto.output):
        raise ValueError(f"num_outputs is {parts}, but there are {len(call.proto.output)} outputs")
    if call.input("split") is not None:
        return call.emit("Split", [call.need("input"), call.need("split")], axis=axis)
    return call.emit("Split", [call.need("input")], axis=axis, num_outputs=parts)


@converter("Pad", since=11, mode=one_of("constant", "reflect", "edge"))
@converter("Pad", since=19, mode=one_of("constant", "reflect", "edge", "wrap"))
def pad(call: Call) -> Result:
    """Exporters compute the pads from constants: as one, they tell the shape."""
    pads = call.array("pads")
    if pads is None:
        return call.emit()
    x, _, *others = call.inputs
    return call.emit(inputs=[x, call.constant(pads, "pads"), *others])


@converter("EyeLike", dtype=INT, k=INT)
def eye_like(call: Call) -> Result:
    if "dtype" not in call.attributes:
        return call.emit()
    return call.emit(dtype=onnx_number(call.attributes.pop("dtype"), "EyeLike"))


@converter("ConstantOfShape", value=unused("tensor"))
def constant_of_shape(call: Call) -> Result:
    """A number that is expanded."""
    value = np.zeros(1, np.float32)
    for attribute in call.proto.attribute:
        value = constant_array(attribute.t, f"value of node {call.name!r}")
    if value.size != 1:
        raise ValueError(f"value has {value.size} elements; expected 1")
    return call.emit("Expand", [call.constant(value.reshape(()), "value"), call.need("input")])
