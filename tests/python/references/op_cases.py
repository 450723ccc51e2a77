"""Ops with inputs that are small: each rule for shapes is tried on them, and each op's way to ONNX."""

from typing import Any

import numpy as np

import dynq
from dynq.graph import Graph, Value
from dynq.ir.ops import table
from dynq.model import Model
from dynq.plan.write import write_image

F = np.float32
X = np.linspace(0.1, 2, 24, dtype=F).reshape(2, 3, 4)
CONSTANT = "constant"


def ints(*values: int) -> tuple[str, Any]:
    return CONSTANT, np.array(values, np.int64)


def const(value: Any) -> tuple[str, Any]:
    return CONSTANT, value


def ones(*shape: int) -> tuple[str, Any]:
    return const(np.ones(shape, F))


# The ops of the table that compute each element from one of a single input.
FUNCTIONS = {
    name: op
    for name, op in table().items()
    if op.is_elementwise
    and op.required == 1
    and not op.inputs[0].variadic
    and not any(attribute.required for attribute in op.attributes.values())
}

RECURRENT = [("LSTM", 4, 3), ("GRU", 3, 2), ("RNN", 1, 2)]

CASES: list[tuple[str, list[Any], int, dict[str, Any]]] = [
    *((op, [X], 1, {}) for op in [*FUNCTIONS, "Identity", "LogSoftmax", "Softmax", "Trilu"] if op != "Not"),
    *((op, [X, X[:, :1]], 1, {}) for op in ["Add", "Sub", "Mul", "Div", "Min", "Max", "Mean", "Sum"]),
    ("Pow", [X, const(np.full((1, 3, 1), 2, F))], 1, {}),
    *((f"Bitwise{op}", [np.ones((3, 1), np.int64), np.ones(4, np.int64)], 1, {}) for op in ["And", "Or", "Xor"]),
    ("BitShift", [np.ones((3, 1), np.uint8), np.ones(4, np.uint8)], 1, {"direction": "LEFT"}),
    ("BitwiseNot", [np.ones(3, np.int32)], 1, {}),
    ("Det", [np.ones((2, 3, 3), F)], 1, {}),
    ("RoiAlign", [np.ones((1, 2, 5, 5), F), np.ones((3, 4), F), np.zeros(3, np.int64)], 1, {"output_height": 2}),
    ("MatMul", [np.ones((2, 3), np.int64), np.ones((3, 4), np.int64)], 1, {}),
    ("Mod", [np.ones((3, 1), np.int64), np.ones(4, np.int64)], 1, {}),
    *((op, [X, X[0, :, :1]], 1, {}) for op in ["Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual"]),
    *((op, [X > 1, X[:1] > 1], 1, {}) for op in ["And", "Or", "Xor"]),
    ("Not", [X > 1], 1, {}),
    ("ScatterElements", [X, np.zeros((1, 3, 4), np.int64), X[:1]], 1, {}),
    ("ScatterND", [X, np.zeros((1, 1), np.int64), X[:1]], 1, {}),
    ("Where", [X > 1, X, X[0, 0, 0]], 1, {}),
    ("QuantizeLinear", [X, const(F(0.1))], 1, {}),
    ("QuantizeLinear", [X, const(F(0.1)), const(np.int8(3))], 1, {}),
    ("QuantizeLinear", [X, const(F(0.1))], 1, {"output_dtype": 3}),
    ("DequantizeLinear", [X.astype(np.uint8), const(F(0.1))], 1, {}),
    ("DynamicQuantizeLinear", [X], 3, {}),
    ("dynq.QuantizeRows", [X], 3, {}),
    ("dynq.QuantizeRows", [X], 3, {"scheme": "symmetric"}),
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
    ("dynq.Attention", [np.ones((2, 4, 3, 2), F), np.ones((2, 2, 5, 2), F), np.ones((2, 2, 5, 6), F)], 1,
     {"heads": 4, "softcap": 2.0}),
    ("dynq.Attention", [X, X[:, :, :2].copy(), np.ones((2, 1, 3, 5), F)], 1, {"heads": 2}),
    ("dynq.Attention", [X, X[:, :, :2].copy(), X[:, :, :3].copy()], 1, {"heads": 2}),
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
    ("NonZero", [X - X[0, 0, 1]], 1, {}),
    ("Compress", [X, X[0, :, 0] > 1], 1, {"axis": 1}),
    ("Compress", [X, X[0, :, 0] > 1], 1, {}),
    ("Unique", [np.floor(X)], 4, {}),
    ("Unique", [np.floor(X)], 4, {"axis": -1, "sorted": 0}),
    ("NonMaxSuppression", [X[:, :, :].copy(), X[:, :1, :3].copy(), ints(2)], 1, {"center_point_box": 1}),
    ("Conv", [np.ones((2, 3, 9, 8), F), const(np.ones((5, 3, 3, 3), F))], 1, {"pads": [1, 1, 1, 1], "strides": [1, 2]}),
    ("Conv", [np.ones((2, 4, 9), F), const(np.ones((6, 2, 3), F))], 1, {"group": 2, "dilations": [2]}),
    ("Conv", [np.ones((2, 3, 9), F), const(np.ones((5, 3, 4), F))], 1, {"auto_pad": "SAME_LOWER", "strides": [2]}),
    ("Conv", [np.ones((2, 3, 9), F), const(np.ones((5, 3, 4), F))], 1, {"auto_pad": "VALID", "strides": [2]}),
    ("dynq.Conv", [np.ones((2, 3, 9), F), const(dynq.quantize_weight(np.ones((5, 6), F)))], 1, {"kernel_shape": [2]}),
    (
        "dynq.ConvFloat",
        [np.ones((2, 3, 9), F), const(np.ones((1, 30), F))],
        1,
        {"kernel_shape": [2], "channels": 5},
    ),
    ("ConvInteger", [np.ones((2, 3, 9, 8), np.uint8), const(np.ones((5, 3, 3, 3), np.int8))], 1,
     {"pads": [1, 0, 0, 2]}),
    ("ConvTranspose", [np.ones((2, 4, 5, 6), F), ones(4, 3, 3, 3)], 1,
     {"group": 2, "strides": [2, 1], "pads": [1, 0, 0, 1], "dilations": [1, 2], "output_padding": [1, 0]}),
    ("MaxPool", [np.ones((2, 3, 9, 8), F)], 2, {"kernel_shape": [3, 2], "strides": [2, 3], "pads": [1, 0, 1, 1]}),
    ("AveragePool", [np.ones((2, 3, 9), F)], 1, {"kernel_shape": [4], "strides": [2], "auto_pad": "SAME_UPPER"}),
    *((op, [np.ones((2, 3, 5, 4), F)], 1, {}) for op in ["GlobalMaxPool", "GlobalAveragePool"]),
    ("Resize", [np.ones((2, 3, 5, 4), F), None, None, ints(2, 3, 7, 9)], 1, {}),
    ("Resize", [np.ones((2, 3, 5, 4), F), None, None, ints(7, 9)], 1, {"axes": [-1, 2]}),
    ("GridSample", [np.ones((2, 3, 5, 4), F), np.zeros((2, 6, 7, 2), F)], 1, {}),
    ("DepthToSpace", [np.ones((2, 8, 3, 4), F)], 1, {"blocksize": 2}),
    ("SpaceToDepth", [np.ones((2, 3, 4, 6), F)], 1, {"blocksize": 2}),
    ("CastLike", [X, const(np.int64(0))], 1, {}),
    ("Size", [X], 1, {}),
    *((("Flatten", [X], 1, {"axis": axis})) for axis in (0, 1, -1, 3)),
    ("Tile", [X, ints(2, 1, 3)], 1, {}),
    ("GatherElements", [X, np.zeros((2, 1, 4), np.int64)], 1, {"axis": 1}),
    ("GatherND", [X, np.zeros((5, 2), np.int64)], 1, {}),
    ("GatherND", [X, np.zeros((2, 6, 1), np.int64)], 1, {"batch_dims": 1}),
    *(("Range", [const(np.int64(bound)) for bound in bounds], 1, {}) for bounds in ((2, 9, 3), (5, -4, -2), (3, 1, 1))),
    ("OneHot", [np.zeros((2, 3), np.int64), ints(5), const(np.array([0, 1], F))], 1, {"axis": 1}),
    ("TopK", [X, ints(2)], 2, {"axis": 1}),
]  # fmt: skip


def graph_of(
    op: str, inputs: list[Any], outputs: int, attributes: dict[str, Any]
) -> tuple[Graph, list[Value], dict[str, np.ndarray]]:
    """Return the graph of a case, its results and its inputs."""
    graph, values, feed = dynq.Graph(), [], {}
    for i, value in enumerate(inputs):
        if value is None:
            values.append(None)
        elif isinstance(value, tuple):
            values.append(graph.constant(value[1]))
        else:
            feed[f"in_{i}"] = array = np.ascontiguousarray(value).reshape(np.shape(value))
            values.append(graph.input(f"in_{i}", array.shape, array.dtype))
    results = graph.node(op, values, [f"out_{i}" for i in range(outputs)], **attributes)
    for value in results:
        graph.output(value)
    return graph, results, feed


def model_of(
    op: str, inputs: list[Any], outputs: int, attributes: dict[str, Any]
) -> tuple[Model, dict[str, np.ndarray]]:
    """Return the model of a case, without any pass, and its inputs."""
    graph, _, feed = graph_of(op, inputs, outputs, attributes)
    return Model._from_image(write_image(graph, {})), feed
