"""Values that are known before any run: of shapes and constants, as far as conditions and axes need them."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import TensorProto, defs, helper
from onnx.reference import ReferenceEvaluator

from ..._arguments import Array
from ...graph import Node, Value

__all__ = ["evaluate"]

_LARGEST = 4096  # elements: larger values are nobody's condition
_DEEPEST = 64  # nodes on the way
_OPSET = min(24, defs.onnx_opset_version())
_Known = dict[tuple[Value, int], Array | None]  # by how deep one may still go: what lies deeper is not known


def evaluate(value: Value) -> Array | None:
    """The array, or None where it depends on inputs or is large."""
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
    results = _run(node, arrays)
    at = node.outputs.index(value)
    return None if results is None or results[at].size > _LARGEST else results[at]


def _dims(node: Node, depth: int, known: _Known) -> Array | None:
    """Sizes that are known, though others of the same shape may not be."""
    if node.op == "Gather":
        data, index = node.inputs[0], node.inputs[1]
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
    value = node.inputs[0]
    if value is None or value.shape is None:
        return None
    rank = len(value.shape)
    attributes: dict[str, Any] = node.attributes
    start, end = attributes.get("start", 0), attributes.get("end", rank)
    return value.shape[slice(start, end)]


def _run(node: Node, arrays: list[Array | None]) -> list[Array] | None:
    """One node by ONNX's reference: the ops of the graph are ONNX's newest."""
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
    except Exception:  # whatever it cannot do is simply not known
        return None
