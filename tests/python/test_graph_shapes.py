"""Shapes and dtypes that a graph tells are those that the runtime computes."""

from typing import Any

import numpy as np
import pytest

import dynq
from dynq.graph import Graph
from dynq.graph.image import write_image
from dynq.graph.shapes import _RULES
from dynq.model import Model, op_names

F = np.float32
X = np.linspace(0.1, 2, 24, dtype=F).reshape(2, 3, 4)
CONSTANT = "constant"


def ints(*values: int) -> tuple[str, Any]:
    return CONSTANT, np.array(values, np.int64)


def const(value: Any) -> tuple[str, Any]:
    return CONSTANT, value


def ones(*shape: int) -> tuple[str, Any]:
    return const(np.ones(shape, F))


UNARY = """
    Abs Ceil Erf Exp Floor Gelu HardSigmoid HardSwish Identity LeakyRelu Log LogSoftmax Neg Reciprocal Relu Round
    Sigmoid Sign Softmax Softplus Sqrt Tanh
"""

RECURRENT = [("LSTM", 4, 3), ("GRU", 3, 2), ("RNN", 1, 2)]

CASES: list[tuple[str, list[Any], int, dict[str, Any]]] = [
    *((op, [X], 1, {}) for op in UNARY.split()),
    *((op, [X, X[:, :1]], 1, {}) for op in ["Add", "Sub", "Mul", "Div", "Min", "Max", "Mean", "Sum"]),
    ("Pow", [X, const(np.full((1, 3, 1), 2, F))], 1, {}),
    ("Mod", [np.ones((3, 1), np.int64), np.ones(4, np.int64)], 1, {}),
    *((op, [X, X[0, :, :1]], 1, {}) for op in ["Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual"]),
    *((op, [X > 1, X[:1] > 1], 1, {}) for op in ["And", "Or", "Xor"]),
    ("Not", [X > 1], 1, {}),
    *((op, [X], 1, {}) for op in ["IsInf", "IsNaN", "ThresholdedRelu", "Trilu"]),
    ("ScatterElements", [X, np.zeros((1, 3, 4), np.int64), X[:1]], 1, {}),
    ("ScatterND", [X, np.zeros((1, 1), np.int64), X[:1]], 1, {}),
    ("Where", [X > 1, X, X[0, 0, 0]], 1, {}),
    ("QuantizeLinear", [X, const(F(0.1))], 1, {}),
    ("QuantizeLinear", [X, const(F(0.1)), const(np.int8(3))], 1, {}),
    ("QuantizeLinear", [X, const(F(0.1))], 1, {"output_dtype": 3}),
    ("DequantizeLinear", [X.astype(np.uint8), const(F(0.1))], 1, {}),
    ("DynamicQuantizeLinear", [X], 3, {}),
    ("MatMulInteger", [X.astype(np.uint8), X.transpose(0, 2, 1).astype(np.int8)], 1, {}),
    ("Clip", [X, const(F(0)), const(F(1))], 1, {}),
    ("Cast", [X], 1, {"to": 7}),
    ("Cast", [X], 1, {"to": 9}),
    ("LayerNormalization", [X, const(np.ones(4, F))], 1, {}),
    ("CumSum", [X, const(np.int64(1))], 1, {}),
    ("BatchNormalization", [X, *[const(np.ones(3, F))] * 4], 1, {}),
    ("MatMul", [X, X.transpose(0, 2, 1).copy()], 1, {}),
    ("MatMul", [X[0], X.transpose(0, 2, 1).copy()], 1, {}),
    ("Gemm", [X[0], X[0]], 1, {"transB": 1}),
    ("Gemm", [X[0], X[0]], 1, {"transA": 1}),
    ("dynq.Linear", [X, const(dynq.quantize_weight(np.ones((5, 4), F)))], 1, {}),
    ("dynq.LinearFloat", [X, const(np.ones((4, 5), F))], 1, {}),
    ("dynq.MatMulDynamic", [X, X.transpose(0, 2, 1).copy()], 1, {}),
    ("dynq.MatMulIntegerPacked", [X.astype(np.uint8), const(dynq.quantize_weight(np.ones((5, 4), F)))], 1, {}),
    ("dynq.Attention", [X, X, X[:, :, :2].copy()], 1, {"heads": 2}),
    ("dynq.Attention", [np.concatenate([X, X, X], -1)], 1, {"heads": 2}),
    ("dynq.Embedding", [const(np.ones((9, 4), np.int8)), const(np.ones(9, F)), np.ones((2, 3), np.int64)], 1, {}),
    *(
        (op, [X, ones(1, gates * 5, 4), ones(1, gates * 5, 5)], outputs, {"hidden_size": 5})
        for op, gates, outputs in RECURRENT
    ),
    ("LSTM", [X, ones(2, 20, 4), ones(2, 20, 5)], 3, {"hidden_size": 5, "direction": "bidirectional", "layout": 1}),
    *(
        (f"dynq.{op}", [np.ones((2, 3, gates * 5), F), const(dynq.quantize_weight(np.ones((gates * 5, 5), F)))],
         outputs, {"hidden_size": 5})
        for op, gates, outputs in RECURRENT
    ),
    ("Gather", [X, np.ones((2, 2), np.int64)], 1, {}),
    ("Gather", [X, np.array(1)], 1, {"axis": -1}),
    ("Transpose", [X], 1, {}),
    ("Transpose", [X], 1, {"perm": [1, 0, 2]}),
    ("Reshape", [X, ints(4, -1)], 1, {}),
    ("Reshape", [X, ints(0, -1, 2)], 1, {}),
    ("Unsqueeze", [X, ints(0, -1)], 1, {}),
    ("Squeeze", [X[:, :1], ints(1)], 1, {}),
    ("Concat", [X, X[:, :2].copy()], 1, {"axis": 1}),
    ("Pad", [X, ints(0, 1, 2, 0, 0, 3)], 1, {}),
    ("Pad", [X, ints(1, 2), const(F(0)), ints(-1)], 1, {}),
    ("Split", [X, ints(1, 2)], 2, {"axis": 1}),
    ("Split", [X], 2, {"axis": -1, "num_outputs": 2}),
    *((op, [X, ints(-1)], 1, {"keepdims": 0}) for op in ["ReduceMean", "ReduceSum", "ReduceMax"]),
    *((op, [X, ints(-1)], 1, {"keepdims": 0}) for op in ["ReduceMin", "ReduceProd"]),
    *((op, [X, ints(0, 2)], 1, {}) for op in ["ReduceL1", "ReduceL2", "ReduceSumSquare"]),
    ("ArgMax", [X], 1, {"axis": 1}),
    ("ArgMin", [X], 1, {"axis": -1, "keepdims": 0}),
    ("Shape", [X], 1, {}),
    ("Shape", [X], 1, {"start": 1}),
    ("Shape", [X], 1, {"start": -2, "end": -1}),
    ("Slice", [X, ints(1, 0), ints(3, 9), ints(1, 2), ints(1, 2)], 1, {}),
    ("Slice", [X, ints(-1), ints(-9), ints(2), ints(-1)], 1, {}),
    ("Slice", [X, ints(0), ints(-1)], 1, {}),
    ("Expand", [X[:, :1], ints(3, 1)], 1, {}),
    ("ConstantOfShape", [ints(2, 3)], 1, {}),
    ("Conv", [np.ones((2, 3, 9, 8), F), const(np.ones((5, 3, 3, 3), F))], 1, {"pads": [1, 1, 1, 1], "strides": [1, 2]}),
    ("Conv", [np.ones((2, 4, 9), F), const(np.ones((6, 2, 3), F))], 1, {"group": 2, "dilations": [2]}),
    ("Conv", [np.ones((2, 3, 9), F), const(np.ones((5, 3, 4), F))], 1, {"auto_pad": "SAME_LOWER", "strides": [2]}),
    ("Conv", [np.ones((2, 3, 9), F), const(np.ones((5, 3, 4), F))], 1, {"auto_pad": "VALID", "strides": [2]}),
    ("dynq.Conv", [np.ones((2, 3, 9), F), const(dynq.quantize_weight(np.ones((5, 6), F)))], 1, {"kernel_shape": [2]}),
    (
        "dynq.ConvFloat",
        [np.ones((2, 3, 9), F), const(np.ones((1, 1, 6, 16), F))],
        1,
        {"kernel_shape": [2], "channels": 5},
    ),
]  # fmt: skip


@pytest.mark.parametrize(
    ("op", "inputs", "outputs", "attributes"), CASES, ids=[f"{i}-{case[0]}" for i, case in enumerate(CASES)]
)
def test_what_is_told_is_what_comes(op: str, inputs: list[Any], outputs: int, attributes: dict[str, Any]) -> None:
    graph = Graph()
    values, arrays = [], []
    for i, value in enumerate(inputs):
        if isinstance(value, tuple):
            values.append(graph.constant(value[1]))
        else:
            array = np.ascontiguousarray(value).reshape(np.shape(value))
            values.append(graph.input(f"in_{i}", array.shape, array.dtype))
            arrays.append(array)
    results = graph.node(op, values, [f"out_{i}" for i in range(outputs)], **attributes)
    for value in results:
        graph.output(value)
    given = Model._from_image(write_image(graph, {}))(*arrays)
    for value, array in zip(results, given if outputs > 1 else [given], strict=True):
        assert value.shape == array.shape
        assert value.dtype in (None, array.dtype.name)


def test_every_rule_is_tried() -> None:
    assert {op for op in _RULES if op in op_names()} - {case[0] for case in CASES} <= {
        "Celu", "Elu", "Mish", "PRelu", "RMSNormalization", "Selu", "Sin", "Cos", "Softsign",
        "GroupNormalization", "InstanceNormalization",
    }  # fmt: skip
