"""DynamicQuantizeLSTM, which ONNX Runtime's quantizer writes for an LSTM."""

from __future__ import annotations

import numpy as np

from ....graph import Value
from ..attributes import FLOAT, FLOATS, INT, TEXTS, one_of
from ..convert import Call, Result, converter
from .dequantized import constant_of
from .recurrent import recurrent


@converter(
    "DynamicQuantizeLSTM", domain="com.microsoft",
    activation_alpha=FLOATS, activation_beta=FLOATS, activations=TEXTS, clip=FLOAT, hidden_size=INT,
    direction=one_of("forward", "reverse", "bidirectional"), input_forget=one_of(0, 1),
)  # fmt: skip
def dynamic_quantize_lstm(call: Call) -> Result:
    """Emit an LSTM of the weights that the integers stand for.

    The layer is quantized as any other: symmetric, with a scale for each channel.
    """
    inputs = [call.input(i) for i in range(8)]
    inputs[1], inputs[2] = _weight(call, 1, 8, "W"), _weight(call, 2, 10, "R")
    call.op, call.inputs = "LSTM", inputs
    return recurrent(call)


def _weight(call: Call, index: int, scale_index: int, name: str) -> Value:
    """Return (directions, 4 * hidden, inputs) of integers that lie transposed."""
    q = constant_of(call, index, name)
    scale, zero = (constant_of(call, scale_index + i, f"{name}_{what}") for i, what in enumerate(("scale", "zero")))
    if q.ndim != 3 or q.dtype.name not in ("int8", "uint8"):
        raise ValueError(f"{name} is {q.dtype.name} of shape {q.shape}; expected 8-bit integers of 3 dimensions")
    allowed = ((q.shape[0],), (q.shape[0], q.shape[2]))
    for what, array in (("scale", scale), ("zero point", zero)):
        if array.shape not in allowed:
            raise ValueError(f"the {what} of {name} has shape {array.shape}; expected {allowed[0]} or {allowed[1]}")
    scale, zero = (array.reshape(q.shape[0], 1, -1).astype(np.float32) for array in (scale, zero))
    return call.constant(np.ascontiguousarray(((q - zero) * scale).transpose(0, 2, 1)), name)
