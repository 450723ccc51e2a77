"""Resize and Upsample."""

from __future__ import annotations

from typing import Any

import numpy as np

from ....conversion import Unsupported
from ....core.arguments import Array
from ....graph import Value
from ....ir.given import ONNX_TYPES
from ..attributes import FLOAT, FLOATS, INTS, TEXT, one_of
from ..convert import Call, Result, converter
from ..tensors import DTYPE_OF

_MODES = one_of("nearest", "linear", "cubic")
_PLACES = (
    "half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric", "tf_crop_and_resize",
)  # fmt: skip
_resize = {
    "cubic_coeff_a": FLOAT,
    "exclude_outside": one_of(0, 1),
    "extrapolation_value": FLOAT,
    "mode": _MODES,
    "nearest_mode": TEXT,
}
_newest = {
    "coordinate_transformation_mode": one_of(*_PLACES, "half_pixel_symmetric"),
    "antialias": one_of(0, 1),
    "axes": INTS,
    "keep_aspect_ratio_policy": one_of("stretch", "not_larger", "not_smaller"),
}


@converter(
    "Resize", since=11, until=13, also=_resize, coordinate_transformation_mode=one_of(*_PLACES, "tf_half_pixel_for_nn")
)
@converter("Resize", since=13, also=_resize, coordinate_transformation_mode=one_of(*_PLACES))
@converter("Resize", since=18, also={**_resize, **_newest})
def resize(call: Call) -> Result:
    """roi and scales may be given and empty where they do not count."""
    attributes = dict(call.attributes)
    if attributes.get("coordinate_transformation_mode") == "tf_half_pixel_for_nn":
        if attributes.get("mode", "nearest") != "nearest" or attributes.get("nearest_mode") != "floor":
            raise Unsupported("Resize with tf_half_pixel_for_nn of another mode than nearest with nearest_mode floor")
        attributes |= {"coordinate_transformation_mode": "half_pixel", "nearest_mode": "round_prefer_ceil"}
    crops = attributes.get("coordinate_transformation_mode") == "tf_crop_and_resize"
    sizes = call.input("sizes")
    scales = call.input("scales") if sizes is None else None
    return _resize_numbers(call, [call.input("roi") if crops else None, scales, sizes], crops, attributes)


def _resize_numbers(call: Call, others: list[Value | None], crops: bool, attributes: dict[str, Any]) -> Result:
    """Resize integers as float32, unless they are only moved."""
    x = call.need("X")
    kind = call.onnx_type("X")
    dtype = x.dtype or (DTYPE_OF.get(kind) if kind is not None else None)
    if dtype in (None, "float32") or (attributes.get("mode", "nearest") == "nearest" and not crops):
        return call.emit("Resize", [x, *others], **attributes)
    if dtype not in ("uint8", "int8", "int32"):
        raise Unsupported(f"Resize of {dtype} in mode {attributes.get('mode')}")
    y = call.core("Resize", [call.node("Cast", [x], to=ONNX_TYPES["float32"]), *others], **attributes)
    limits, y = np.iinfo(dtype), call.node("Round", [y])  # as ONNX's reference; ONNX Runtime cuts off
    if dtype != "int32":
        y = call.node("Clip", [y, *(call.constant(np.float32(limit)) for limit in (limits.min, limits.max))])
    return call.last("Cast", [y], to=ONNX_TYPES[dtype])


@converter("Upsample", since=7, until=9, mode=one_of("nearest", "linear"), scales=FLOATS)
def upsample_by_attribute(call: Call) -> Result:
    return _resized(call, np.array(call.attribute("scales", []), np.float32))


@converter("Upsample", since=9, until=10, mode=one_of("nearest", "linear"))
@converter("Resize", since=10, until=11, mode=one_of("nearest", "linear"))
def resize_by_scales(call: Call) -> Result:
    scales = call.array("scales")
    if scales is None:
        raise Unsupported(f"{call.op} of scales that are not known before the run")
    return _resized(call, scales)


def _resized(call: Call, scales: Array) -> Result:
    """Emit the Resize of today. Old ones count from the corner and, of the nearest, take the element reached: the next
    one where an axis shrinks.
    """
    x, mode = call.need("X"), call.attribute("mode", "nearest")
    attributes = {"mode": mode, "coordinate_transformation_mode": "asymmetric"}
    if mode == "nearest" and (scales < 1).any() and (scales > 1).any():
        larger = call.constant(np.maximum(scales, 1).astype(np.float32), "larger")
        x = call.node("Resize", [x, None, larger], **attributes, nearest_mode="floor")
        scales = np.minimum(scales, 1)
    nearest = "ceil" if (scales < 1).any() else "floor"
    return call.last(
        "Resize", [x, None, call.constant(scales.astype(np.float32), "scales")], **attributes, nearest_mode=nearest
    )
