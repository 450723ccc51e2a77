"""Compute values that are known before any run: from shapes and constants, as far as conditions and axes need them."""

from __future__ import annotations

import contextlib
import math
from typing import Any

import numpy as np
from onnx import TensorProto, defs, helper
from onnx.reference import ReferenceEvaluator

from ...core.arguments import Array
from ...graph import Node, Value

__all__ = ["evaluate"]

_LARGEST = 4096  # elements: no condition needs larger values
_MOST = 1 << 24  # elements that a node may have as a result on the way
_PLAIN = {  # their results have no more elements than their inputs, broadcast, or than there are pairs of elements
    "Abs", "Add", "And", "ArgMax", "ArgMin", "BitShift", "BitwiseAnd", "BitwiseNot", "BitwiseOr", "BitwiseXor",
    "Cast", "Ceil", "Clip", "CumSum", "Div", "Equal", "Erf", "Exp", "Flatten", "Floor", "Gather", "GatherElements",
    "GatherND", "Greater", "GreaterOrEqual", "Identity", "IsInf", "IsNaN", "Less", "LessOrEqual", "Log", "MatMul",
    "Max", "Mean", "Min", "Mod", "Mul", "Neg", "NonZero", "Not", "Or", "Pow", "Reciprocal", "ReduceMax", "ReduceMean",
    "ReduceMin", "ReduceProd", "ReduceSum", "Relu", "Reshape", "Round", "ScatterElements", "ScatterND", "Shape",
    "Sigmoid", "Sign", "Size", "Slice", "Split", "Sqrt", "Squeeze", "Sub", "Sum", "Tanh", "TopK", "Transpose",
    "Unsqueeze", "Where", "Xor",
}  # fmt: skip
_DEEPEST = 64  # the most nodes that are followed
_OPSET = min(24, defs.onnx_opset_version())
_Known = dict[
    tuple[Value, int], Array | None
]  # the key has how many more nodes may be followed; values beyond are not known


def evaluate(value: Value) -> Array | None:
    """Return the array; None if it depends on inputs or is large."""
    return _evaluate(value, _DEEPEST, {})


def _evaluate(value: Value, depth: int, known: _Known) -> Array | None:
    if value.array is not None:
        return value.array
    if (value, depth) not in known:
        known[value, depth] = _compute(value, depth, known)
    return known[value, depth]


def _compute(value: Value, depth: int, known: _Known) -> Array | None:
    node = value.producer
    if node is None or node.op.startswith("dynq.") or depth == 0:
        return None
    if node.op in ("Shape", "Gather", "Size"):
        dims = _dims(node, depth, known)
        if dims is not None:
            return dims
        if node.op != "Gather":
            return None
    arrays = [None if v is None else _evaluate(v, depth - 1, known) for v in node.inputs]
    if any(v is not None and (a is None or a.size > _LARGEST) for v, a in zip(node.inputs, arrays, strict=True)):
        return None
    if not _bounded(node, arrays):
        return None
    results = _run(node, arrays)
    at = node.outputs.index(value)
    return None if results is None or results[at].size > _LARGEST else results[at]


def _bounded(node: Node, arrays: list[Array | None]) -> bool:
    """Return whether computing the node takes little memory, whatever its inputs and attributes are."""
    known = [array for array in arrays if array is not None]
    if node.op in ("ConstantOfShape", "Expand", "Tile"):  # the last input gives the size
        return bool(known) and math.prod(max(int(n), 1) for n in known[-1].reshape(-1)) * known[0].size <= _MOST
    if node.op == "Range":
        start, limit, delta = (float(array.reshape(-1)[0]) if array.size == 1 else math.nan for array in known[:3])
        return delta != 0 and abs(limit - start) <= _MOST * abs(delta)
    if node.op == "Concat":
        return True
    count = math.prod(max(array.size, 1) for array in known)
    if node.op not in ("Gather", "GatherND", "MatMul"):
        with contextlib.suppress(ValueError):
            count = math.prod(np.broadcast_shapes(*(array.shape for array in known)))
    return node.op in _PLAIN and count <= _MOST


def _dims(node: Node, depth: int, known: _Known) -> Array | None:
    """Return sizes that are known, even if others of the same shape are not."""
    if node.op == "Gather":
        data, index = node.input("data"), node.input("indices")
        if data is None or index is None or data.producer is None or data.producer.op != "Shape":
            return None
        wanted = _evaluate(index, depth - 1, known)
        node = data.producer
        dims = _sizes(node)
        if wanted is None or dims is None or any(not -len(dims) <= i < len(dims) for i in wanted.reshape(-1)):
            return None
        picked = [dims[int(i)] for i in wanted.reshape(-1)]
        return np.array(picked, np.int64).reshape(wanted.shape) if all(isinstance(d, int) for d in picked) else None
    dims = _sizes(node)
    if dims is None or not all(isinstance(dim, int) for dim in dims):
        return None
    result = np.array(dims, np.int64)
    return np.asarray(result.prod(dtype=np.int64)) if node.op == "Size" else result


def _sizes(node: Node) -> tuple[Any, ...] | None:
    value = node.input("data")
    if value is None or value.shape is None:
        return None
    rank = len(value.shape)
    attributes: dict[str, Any] = node.attributes
    start, end = attributes.get("start", 0), attributes.get("end", rank)
    return value.shape[slice(start, end)]


def _run(node: Node, arrays: list[Array | None]) -> list[Array] | None:
    """Run one node in ONNX's reference: the ops of the graph are ONNX's newest."""
    attributes: dict[str, Any] = node.attributes
    kinds = {a.dtype.name: helper.np_dtype_to_tensor_dtype(a.dtype) for a in arrays if a is not None}
    names = ["" if a is None else f"i{i}" for i, a in enumerate(arrays)]
    outputs = [f"o{i}" for i in range(len(node.outputs))]
    graph = helper.make_graph(
        [helper.make_node(node.op, names, outputs, **attributes)],
        "node",
        [
            helper.make_tensor_value_info(name, kinds[a.dtype.name], a.shape)
            for name, a in zip(names, arrays, strict=True)
            if a is not None
        ],
        [helper.make_tensor_value_info(name, TensorProto.UNDEFINED, None) for name in outputs],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)])
    given = {name: a for name, a in zip(names, arrays, strict=True) if a is not None}
    try:
        return [np.asarray(result) for result in ReferenceEvaluator(model).run(None, given)]
    except Exception:  # what it cannot compute is just not known
        return None
