"""Small ONNX models for tests."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from dynq.demo.bert_onnx import bert_onnx

KINDS = {
    "float32": TensorProto.FLOAT, "float16": TensorProto.FLOAT16, "float64": TensorProto.DOUBLE,
    "int64": TensorProto.INT64, "int32": TensorProto.INT32, "bool": TensorProto.BOOL,
    "uint8": TensorProto.UINT8, "int8": TensorProto.INT8,
}  # fmt: skip


def node(op: str, inputs: str, outputs: str, name: str = "", **attributes: Any) -> onnx.NodeProto:
    """Names are split at spaces; ``-`` is one that is left out."""
    ins, outs = ([("" if n == "-" else n) for n in names.split()] for names in (inputs, outputs))
    return helper.make_node(op, ins, outs, name=name, **attributes)


def value(name: str, dtype: str | None, shape: Any) -> onnx.ValueInfoProto:
    if dtype is None:  # of an output: whoever reads the model infers it
        return onnx.ValueInfoProto(name=name)
    return helper.make_tensor_value_info(name, KINDS[dtype], shape)


def model(
    nodes: list[onnx.NodeProto],
    inputs: dict[str, tuple[str, Any]],
    outputs: str,
    initializers: dict[str, np.ndarray] | None = None,
    opset: int = 21,
    microsoft: bool = False,
) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "test",
        [value(name, dtype, shape) for name, (dtype, shape) in inputs.items()],
        [value(name, None, None) for name in outputs.split()],
        [numpy_helper.from_array(array, name) for name, array in (initializers or {}).items()],
    )
    imports = [helper.make_opsetid("", opset)]
    if microsoft:
        imports.append(helper.make_opsetid("com.microsoft", 1))
    return helper.make_model(graph, opset_imports=imports, ir_version=8)


def two_layers(seed: int = 0) -> onnx.ModelProto:
    """float32 x (n, 64) -> y (n, 8): two products, the square of the first between them."""
    rng = np.random.default_rng(seed)
    return model(
        [
            node("MatMul", "x w", "m", "first"), node("Add", "m b", "h"), node("Mul", "h h", "s"),
            node("MatMul", "s v", "y", "second"),
        ],
        {"x": ("float32", ["n", 64])},
        "y",
        {
            "w": rng.standard_normal((64, 32), np.float32) / 8,
            "b": rng.standard_normal(32, np.float32),
            "v": rng.standard_normal((32, 8), np.float32) / 6,
        },
    )  # fmt: skip


def small_bert(opset: int) -> onnx.ModelProto:
    """A BERT encoder of two layers with random weights."""
    rng = np.random.default_rng(0)
    config = {"num_hidden_layers": 2, "num_attention_heads": 2, "hidden_size": 16, "layer_norm_eps": 1e-12}
    shapes = {"embeddings.word_embeddings": (50, 16), "embeddings.position_embeddings": (512, 16),
              "embeddings.token_type_embeddings": (2, 16)}  # fmt: skip
    for i in range(2):
        prefix = f"encoder.layer.{i}."
        shapes |= {f"{prefix}attention.self.{name}": (16, 16) for name in ("query", "key", "value")}
        shapes |= {f"{prefix}attention.output.dense": (16, 16), f"{prefix}intermediate.dense": (32, 16)}
        shapes[f"{prefix}output.dense"] = (16, 32)
    tensors = {f"{name}.weight": rng.standard_normal(shape, np.float32) / 4 for name, shape in shapes.items()}
    tensors |= {f"{name}.bias": rng.standard_normal(shape[0], np.float32) for name, shape in shapes.items()}
    norms = ["embeddings.LayerNorm"]
    norms += [f"encoder.layer.{i}.{name}.LayerNorm" for i in range(2) for name in ("attention.output", "output")]
    tensors |= {f"{n}.{part}": rng.standard_normal(16, np.float32) for n in norms for part in ("weight", "bias")}
    return bert_onnx(tensors, config, opset)
