"""Forms of ops that older opsets have: brought into the newest one."""

from __future__ import annotations

import numpy as np

from ....graph import Value
from ..attributes import FLOAT, INT, INTS, one_of
from ..convert import Call, Result, converter


def _integers(call: Call, values: list[int], name: str) -> Value:
    return call.constant(np.array(values, np.int64), name)


@converter("Slice", until=10, axes=INTS, starts=INTS, ends=INTS)
def slice_by_attributes(call: Call) -> Result:
    starts, ends = call.attribute("starts", []), call.attribute("ends", [])
    axes = call.attribute("axes", list(range(len(starts))))
    if not len(starts) == len(ends) == len(axes):
        raise ValueError(f"starts, ends and axes have {len(starts)}, {len(ends)} and {len(axes)} numbers")
    bounds = [_integers(call, values, name) for values, name in ((starts, "starts"), (ends, "ends"), (axes, "axes"))]
    return call.emit("Slice", [call.need("data"), *bounds])


@converter("Pad", until=11, mode=one_of("constant", "reflect", "edge"), pads=INTS, value=FLOAT)
def pad_by_attributes(call: Call) -> Result:
    inputs = [call.need("data"), _integers(call, call.attribute("pads", []), "pads")]
    if call.attribute("value", 0.0) != 0.0:
        inputs.append(call.constant(np.array(call.attribute("value", 0.0), np.float32), "value"))
    return call.emit("Pad", inputs, mode=call.attribute("mode", "constant"))


@converter("TopK", until=10, axis=INT, k=INT)
def top_k_by_attribute(call: Call) -> Result:
    k = _integers(call, [call.attribute("k", 0)], "k")
    return call.emit("TopK", [call.need("X"), k], axis=call.attribute("axis", -1))


@converter("TopK", since=10, until=11, axis=INT)
def top_k_of_the_largest(call: Call) -> Result:
    return call.emit()


@converter("Scatter", since=9, until=11, axis=INT)
def scatter(call: Call) -> Result:
    """Emit the op under the name that it has had since opset 11."""
    return call.emit("ScatterElements", call.inputs, **call.attributes)
