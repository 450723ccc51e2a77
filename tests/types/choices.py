"""Choices that type checkers take or refuse: mypy and pyright read this file, and nothing runs it.

A line with an ignoring comment is one that they have to refuse: where they take it, the comment itself is an error.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from typing_extensions import assert_type

import dynq
from dynq.accuracy import compare_static, find_culprits


def arrays(x: np.ndarray[Any, Any], qw: dynq.QuantizedWeight) -> None:
    dynq.linear(x, qw, activation="gelu", scheme="symmetric", granularity="tensor", nonfinite="raise")
    dynq.linear(x, qw, activation="gelo")  # type: ignore[arg-type]
    dynq.linear(x, qw, scheme="symetric")  # type: ignore[arg-type]
    dynq.linear(x, qw, granularity="column")  # type: ignore[arg-type]
    dynq.linear(x, qw, nonfinite="ignore")  # type: ignore[arg-type]
    dynq.quantize(x, "symmetric", "tensor")
    dynq.quantize(x, "both")  # type: ignore[arg-type]
    dynq.minmax(x, "rows")  # type: ignore[arg-type]
    dynq.matmul(x, x, scheme="signed")  # type: ignore[arg-type]


def recurrent(x: np.ndarray[Any, Any], weights: Any) -> None:
    lw = dynq.lstm_weights(weights, direction="bidirectional")
    dynq.lstm_weights(weights, direction="both")  # type: ignore[arg-type]
    dynq.lstm(x, lw, nonfinite="stop")  # type: ignore[arg-type]


def graphs(w: np.ndarray[Any, Any]) -> None:
    g = dynq.Graph()
    x = g.input("x", ("batch", 3))
    y = g.linear(x, w, activation="relu")
    g.linear(x, w, activation="relu6")  # type: ignore[arg-type]
    g.conv(x, w, activation="swish2")  # type: ignore[arg-type]
    g.gelu(x, approximate="erf")  # type: ignore[arg-type]
    g.rnn(x, w, w, direction="backward")  # type: ignore[arg-type]
    g.build(y, attention="int8", embedding="float", default="int8", first_layer="float", scheme="symmetric")
    g.build(y, attention="int4")  # type: ignore[arg-type]
    g.build(y, embedding="half")  # type: ignore[arg-type]
    g.build(y, default="best")  # type: ignore[arg-type]
    g.build(y, first_layer="int16")  # type: ignore[arg-type]
    g.build(y, granularity="group")  # type: ignore[arg-type]


def models(model: dynq.Model, x: np.ndarray[Any, Any]) -> None:
    assert_type(model.run({"x": x}), dict[str, np.ndarray[Any, Any]])
    model(x).reshape(-1)
    first, second = model(x, mask=x)
    print(first, second)
    model.run({"x": x}, nonfinite="no")  # type: ignore[arg-type]
    dynq.from_onnx("m.onnx", scheme="symmetric", keep_float=["a"])
    dynq.from_onnx("m.onnx", scheme="sym")  # type: ignore[arg-type]
    dynq.export_onnx(model, "m.onnx", form="qdq")
    dynq.export_onnx(model, "m.onnx", form="static")  # type: ignore[arg-type]
    dynq.export_onnx(model, "m.onnx", granularity="row")  # type: ignore[arg-type]
    dynq.calibrate(model, x, "mse")
    dynq.calibrate(model, x, "max")  # type: ignore[arg-type]
    compare_static(model, model, x, "average")  # type: ignore[arg-type]
    find_culprits("m.onnx", x, options="int16")
    find_culprits("m.onnx", x, options="int4")  # type: ignore[arg-type]
