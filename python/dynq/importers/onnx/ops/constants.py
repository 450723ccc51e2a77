"""Constants."""

from __future__ import annotations

import numpy as np

from ....core.arguments import FLOAT32
from ..attributes import FLOAT, FLOATS, INT, INTS, unused
from ..convert import Call, Result, constant_array, converter


@converter("Constant", value=unused("tensor"))
@converter(
    "Constant", since=12, value=unused("tensor"),
    value_float=FLOAT, value_floats=FLOATS, value_int=INT, value_ints=INTS,
)  # fmt: skip
def constant(call: Call) -> Result:
    if len(call.proto.attribute) != 1:
        raise ValueError(f"has {len(call.proto.attribute)} attributes; expected one value")
    if not call.outputs or call.outputs[0] is None:
        return None
    for name, value in call.attributes.items():
        return call.own_constant(np.array(value, FLOAT32 if "float" in name else np.int64))
    return call.own_constant(constant_array(call.proto.attribute[0].t, f"the value of node {call.name!r}"))
