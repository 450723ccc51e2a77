"""Ops that move data and tell shapes."""

from __future__ import annotations

import numpy as np

from ....graph import Value
from ...errors import Unsupported
from ..attributes import INT, INTS, TEXT, one_of, unused
from ..convert import Call, Result, constant_array, converter
from .pointwise import onnx_number, passes

passes("Expand", "Tile", "Size", "Slice")
passes("Concat", "Gather", "GatherElements", axis=INT)
passes("ScatterElements", axis=INT)
passes("ScatterElements", since=16, axis=INT, reduction=one_of("none"))
passes("ScatterND")
passes("ScatterND", since=16, reduction=one_of("none"))
passes("GatherND")
passes("GatherND", since=12, batch_dims=INT)
passes("Transpose", perm=INTS)
passes("Flatten", axis=INT)
passes("Shape")
passes("Shape", since=15, start=INT, end=INT)
passes("Reshape")
passes("Reshape", since=14, allowzero=one_of(0, 1))
passes("Range")
passes("Range", since=27, stash_type=unused())
passes("Trilu", since=14, upper=one_of(0, 1))
passes("OneHot", axis=INT)
passes("ReverseSequence", batch_axis=INT, time_axis=INT)
passes("DepthToSpace", blocksize=INT, mode=one_of("DCR", "CRD"))
passes("SpaceToDepth", blocksize=INT)
passes("SpaceToDepth", since=28, blocksize=INT, mode=one_of("DCR", "CRD"))


def axes(call: Call, values: list[int]) -> Value:
    return call.constant(np.array(values, np.int64), "axes")


@converter("Squeeze", axes=INTS)
@converter("Squeeze", since=13)
@converter("Unsqueeze", axes=INTS)
@converter("Unsqueeze", since=13)
def squeeze(call: Call) -> Result:
    """Before opset 13 the axes are an attribute."""
    if "axes" in call.attributes:
        return call.emit(call.op, [call.need(0), axes(call, call.attributes["axes"])])
    return call.emit(call.op, call.inputs)


@converter("Split", axis=INT, split=INTS)
def split_by_attribute(call: Call) -> Result:
    axis, sizes = call.attribute("axis", 0), call.attribute("split", None)
    if sizes is None:
        return call.emit("Split", [call.need(0)], axis=axis, num_outputs=len(call.proto.output))
    return call.emit("Split", [call.need(0), call.constant(np.array(sizes, np.int64), "sizes")], axis=axis)


@converter("Split", since=13, axis=INT)
@converter("Split", since=18, axis=INT, num_outputs=INT)
def split(call: Call) -> Result:
    axis, parts = call.attribute("axis", 0), call.attribute("num_outputs", len(call.proto.output))
    if parts != len(call.proto.output):
        raise ValueError(f"num_outputs is {parts}, but there are {len(call.proto.output)} outputs")
    if call.input(1) is not None:
        return call.emit("Split", [call.need(0), call.need(1)], axis=axis)
    return call.emit("Split", [call.need(0)], axis=axis, num_outputs=parts)


@converter("Pad", mode=one_of("constant", "reflect", "edge"))
@converter("Pad", since=19, mode=one_of("constant", "reflect", "edge", "wrap"))
def pad(call: Call) -> Result:
    """Exporters compute the pads from constants: as one, they tell the shape."""
    pads = call.array(1)
    if pads is None:
        return call.emit()
    return call.emit(inputs=[call.need(0), call.constant(pads, "pads"), *call.inputs[2:]])


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
    return call.emit("Expand", [call.constant(value.reshape(()), "value"), call.need(0)])


@converter("If", then_branch=unused("graph"), else_branch=unused("graph"))
def branch(call: Call) -> Result:
    """Only one of the branches is ever taken where the condition is known."""
    condition = call.array(0)
    if condition is None:
        raise Unsupported("If whose condition depends on the inputs")
    if condition.size != 1:
        raise ValueError(f"the condition has {condition.size} elements; expected 1")
    return call.subgraph("then_branch" if condition.reshape(())[()] else "else_branch")


_resize = {
    "coordinate_transformation_mode": TEXT,
    "cubic_coeff_a": unused("float"),
    "exclude_outside": one_of(0),
    "extrapolation_value": unused("float"),
    "mode": one_of("nearest", "linear"),
    "nearest_mode": TEXT,
}


@converter("Resize", since=11, also=_resize)
@converter(
    "Resize", since=18, also=_resize,
    antialias=one_of(0), axes=INTS, keep_aspect_ratio_policy=one_of("stretch", "not_larger", "not_smaller"),
)  # fmt: skip
def resize(call: Call) -> Result:
    """roi and scales may be given and empty where they do not count."""
    if call.attribute("coordinate_transformation_mode", "") == "tf_crop_and_resize":
        raise Unsupported("attribute Resize.coordinate_transformation_mode = 'tf_crop_and_resize'")
    inputs = [call.need(0), None, *call.inputs[2:]]
    if call.input(3) is not None:
        inputs[2] = None
    return call.emit("Resize", inputs, **call.attributes)
