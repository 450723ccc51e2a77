"""Convolutions and pooling."""

from __future__ import annotations

from ...errors import Unsupported
from ..attributes import INT, INTS, one_of
from ..convert import Call, Result, converter
from .pointwise import passes

_pads = one_of("NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID")
_window = {"auto_pad": _pads, "kernel_shape": INTS, "pads": INTS, "strides": INTS}
_average = {**_window, "ceil_mode": one_of(0, 1), "count_include_pad": one_of(0, 1)}

passes("GlobalAveragePool", "GlobalMaxPool")
passes("ConvInteger", also=_window, dilations=INTS, group=INT)


@converter("Conv", also=_window, dilations=INTS, group=INT)
@converter("ConvTranspose", also=_window, dilations=INTS, group=INT, output_padding=INTS, output_shape=INTS)
@converter("AveragePool", also=_average)
@converter("AveragePool", since=19, also=_average, dilations=INTS)
@converter("MaxPool", also=_window, ceil_mode=one_of(0, 1), dilations=INTS, storage_order=one_of(0, 1))
def windows(call: Call) -> Result:
    rank = call.rank(0)
    if rank not in (3, 4):
        raise Unsupported(f"{call.op} of {rank} dimensions")
    return call.emit()
