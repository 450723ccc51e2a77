"""LSTM, GRU and RNN."""

from __future__ import annotations

from ....conversion import Unsupported
from ..attributes import FLOAT, FLOATS, INT, TEXTS, one_of
from ..convert import Call, Result, converter

_NAMES = """
    Relu Tanh Sigmoid Affine LeakyRelu ThresholdedRelu ScaledTanh HardSigmoid Elu Softsign Softplus
"""
_ACTIVATIONS = {name.lower(): name for name in _NAMES.split()}
_common = {
    "activation_alpha": FLOATS,
    "activation_beta": FLOATS,
    "activations": TEXTS,
    "clip": FLOAT,
    "direction": one_of("forward", "reverse", "bidirectional"),
    "hidden_size": INT,
    "layout": one_of(0, 1),
}


@converter("LSTM", since=7, also=_common, input_forget=one_of(0, 1))
@converter("GRU", since=7, also=_common, linear_before_reset=one_of(0, 1))
@converter("RNN", since=7, also=_common)
def recurrent(call: Call) -> Result:
    """Names of activations, which ONNX compares without case, become one text."""
    names = call.attributes.pop("activations", None)
    if names:
        if unknown := [name for name in names if name.lower() not in _ACTIVATIONS]:
            raise Unsupported(f"activation {unknown[0]!r} of {call.op}")
        call.attributes["activations"] = ",".join(_ACTIVATIONS[name.lower()] for name in names)
    for name in ("activation_alpha", "activation_beta"):
        if call.attribute(name, None) == []:
            del call.attributes[name]
    return call.emit()
