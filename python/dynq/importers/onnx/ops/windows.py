"""Convolutions and pooling."""

from __future__ import annotations

from ..attributes import INT, INTS, one_of
from ..convert import Call, Result, converter
from .pointwise import passes

_pads = one_of("NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID")
_window = {"auto_pad": _pads, "kernel_shape": INTS, "pads": INTS, "strides": INTS}

passes("GlobalAveragePool", "GlobalMaxPool")
passes("AveragePool", also=_window, ceil_mode=one_of(0, 1), count_include_pad=one_of(0, 1))
passes("AveragePool", since=19, also=_window, ceil_mode=one_of(0, 1), count_include_pad=one_of(0, 1), dilations=INTS)
passes("Conv", also=_window, dilations=INTS, group=INT)
passes("ConvTranspose", also=_window, dilations=INTS, group=INT, output_padding=INTS, output_shape=INTS)
passes("ConvInteger", also=_window, dilations=INTS, group=INT)


@converter("MaxPool", also=_window, ceil_mode=one_of(0, 1), dilations=INTS, storage_order=one_of(0))
def max_pool(call: Call) -> Result:
    call.only_first_output()
    return call.emit()
