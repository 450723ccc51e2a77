"""Write a BERT encoder as ONNX, node by node as PyTorch's exporter writes it, so that an importer meets real nodes."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

Array = np.ndarray[Any, Any]

__all__ = ["bert_onnx", "export_bert"]


def export_bert(folder: Path, to: Path) -> None:
    """Write an ONNX file from ``config.json`` and ``model.safetensors`` in ``folder``."""
    import onnx
    from safetensors.numpy import load_file

    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    onnx.save(bert_onnx(load_file(folder / "model.safetensors"), config), to)


def bert_onnx(tensors: Mapping[str, Array], config: Mapping[str, Any], opset: int = 17) -> ModelProto:
    """Return the ONNX model of an encoder.

    From ``input_ids``, ``attention_mask`` and ``token_type_ids``, int64 (batch, time), it computes
    ``last_hidden_state``.
    """
    return _Writer(tensors, config, opset).model()


class _Writer:
    def __init__(self, tensors: Mapping[str, Array], config: Mapping[str, Any], opset: int) -> None:
        self.tensors = tensors
        self.layers, self.heads = int(config["num_hidden_layers"]), int(config["num_attention_heads"])
        self.hidden, self.epsilon = int(config["hidden_size"]), float(config["layer_norm_eps"])
        self.opset = opset
        self.nodes: list[NodeProto] = []
        self.weights: dict[str, TensorProto] = {}

    def model(self) -> ModelProto:
        x = self.embeddings()
        mask = self.mask()
        for i in range(self.layers):
            x = self.layer(x, mask, f"encoder.layer.{i}")
        self.nodes.append(helper.make_node("Identity", [x], ["last_hidden_state"], "last"))
        graph = helper.make_graph(
            self.nodes,
            "bert",
            [
                helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "time"])
                for name in ("input_ids", "attention_mask", "token_type_ids")
            ],
            [helper.make_tensor_value_info("last_hidden_state", TensorProto.FLOAT, ["batch", "time", self.hidden])],
            list(self.weights.values()),
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=8)

    def embeddings(self) -> str:
        table = "embeddings.{}_embeddings.weight"
        words = self.node("Gather", self.weight(table.format("word")), "input_ids", name="embeddings.words")
        types = self.node("Gather", self.weight(table.format("token_type")), "token_type_ids", name="embeddings.types")
        shape = self.node("Shape", "input_ids", name="embeddings.shape")
        time = self.node("Gather", shape, self.number(1), name="embeddings.time", axis=0)
        end = self.node("Unsqueeze", time, self.numbers([0]), name="embeddings.end")
        positions = self.constant("position_ids", np.arange(512, dtype=np.int64)[None])
        ids = self.node(
            "Slice", positions, self.numbers([0]), end, self.numbers([1]), self.numbers([1]), name="embeddings.ids"
        )
        places = self.node("Gather", self.weight(table.format("position")), ids, name="embeddings.positions")
        x = self.node("Add", words, types, name="embeddings.with_types")
        x = self.node("Add", x, places, name="embeddings.with_positions")
        return self.norm(x, "embeddings.LayerNorm")

    def mask(self) -> str:
        """Return the name of a mask (batch, 1, 1, time): 0 for tokens that count, float32's lowest number for
        padding.
        """
        wide = self.node("Unsqueeze", "attention_mask", self.numbers([1, 2]), name="mask.wide")
        seen = self.node("Cast", wide, name="mask.seen", to=TensorProto.FLOAT)
        hidden = self.node("Sub", self.float(1.0), seen, name="mask.hidden")
        return self.node("Mul", hidden, self.float(float(np.finfo(np.float32).min)), name="mask")

    def layer(self, x: str, mask: str, prefix: str) -> str:
        q, k, v = (
            self.split_heads(self.dense(x, f"{prefix}.attention.self.{name}"), f"{prefix}.{name}", perm)
            for name, perm in (("query", [0, 2, 1, 3]), ("key", [0, 2, 3, 1]), ("value", [0, 2, 1, 3]))
        )
        scores = self.node("MatMul", q, k, name=f"{prefix}.scores")
        scale = self.float(math.sqrt(self.hidden // self.heads))
        scores = self.node("Div", scores, scale, name=f"{prefix}.scaled")
        scores = self.node("Add", scores, mask, name=f"{prefix}.masked")
        shares = self.node("Softmax", scores, name=f"{prefix}.softmax", axis=-1)
        context = self.node("MatMul", shares, v, name=f"{prefix}.context")
        context = self.node("Transpose", context, name=f"{prefix}.transposed", perm=[0, 2, 1, 3])
        context = self.node("Reshape", context, self.numbers([0, 0, self.hidden]), name=f"{prefix}.joined")
        y = self.dense(context, f"{prefix}.attention.output.dense")
        x = self.norm(self.node("Add", y, x, name=f"{prefix}.first_sum"), f"{prefix}.attention.output.LayerNorm")
        h = self.dense(x, f"{prefix}.intermediate.dense")
        e = self.node("Div", h, self.float(math.sqrt(2)), name=f"{prefix}.gelu.div")
        e = self.node("Erf", e, name=f"{prefix}.gelu.erf")
        e = self.node("Add", e, self.float(1.0), name=f"{prefix}.gelu.add")
        h = self.node("Mul", h, e, name=f"{prefix}.gelu.mul")
        h = self.node("Mul", h, self.float(0.5), name=f"{prefix}.gelu.half")
        y = self.dense(h, f"{prefix}.output.dense")
        return self.norm(self.node("Add", y, x, name=f"{prefix}.second_sum"), f"{prefix}.output.LayerNorm")

    def split_heads(self, x: str, name: str, perm: list[int]) -> str:
        shape = self.numbers([0, 0, self.heads, self.hidden // self.heads])
        return self.node("Transpose", self.node("Reshape", x, shape, name=f"{name}.heads"), name=name, perm=perm)

    def dense(self, x: str, name: str) -> str:
        weight = self.constant(f"{name}.weight", np.ascontiguousarray(self.tensors[f"{name}.weight"].T))
        y = self.node("MatMul", x, weight, name=f"{name}.MatMul")
        return self.node("Add", self.weight(f"{name}.bias"), y, name=name)

    def norm(self, x: str, name: str) -> str:
        scale, bias = self.weight(f"{name}.weight"), self.weight(f"{name}.bias")
        if self.opset >= 17:
            return self.node("LayerNormalization", x, scale, bias, name=name, axis=-1, epsilon=self.epsilon)
        mean = self.node("ReduceMean", x, name=f"{name}.mean", axes=[-1])
        centred = self.node("Sub", x, mean, name=f"{name}.centred")
        square = self.node("Pow", centred, self.float(2.0), name=f"{name}.square")
        variance = self.node("ReduceMean", square, name=f"{name}.variance", axes=[-1])
        variance = self.node("Add", variance, self.float(self.epsilon), name=f"{name}.safe")
        deviation = self.node("Sqrt", variance, name=f"{name}.deviation")
        normal = self.node("Div", centred, deviation, name=f"{name}.normal")
        return self.node("Add", self.node("Mul", normal, scale, name=f"{name}.scaled"), bias, name=name)

    def node(self, op: str, *inputs: str, name: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(op, inputs, [name], name, **attributes))
        return name

    def weight(self, name: str) -> str:
        return self.constant(name, self.tensors[name])

    def constant(self, name: str, array: Array) -> str:
        if name not in self.weights:
            self.weights[name] = numpy_helper.from_array(array, name)
        return name

    def float(self, value: float) -> str:
        return self.constant(f"float {value!r}", np.array(value, np.float32))

    def number(self, value: int) -> str:
        return self.constant(f"int {value}", np.array(value, np.int64))

    def numbers(self, values: list[int]) -> str:
        return self.constant(f"ints {values}", np.array(values, np.int64))
