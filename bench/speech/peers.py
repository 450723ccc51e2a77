"""The other runtimes: ONNX Runtime's sessions, float and quantized, of ONNX files that a few lines write; PyTorch."""

from __future__ import annotations

import logging
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from audio import Array
from onnx import TensorProto, helper, numpy_helper

if TYPE_CHECKING:
    import torch

__all__ = ["Session", "onnx_model", "onnx_sessions", "torch_int8", "torch_weights"]

Session = Callable[[dict[str, Array]], list[Array]]


def onnx_model(
    nodes: list[tuple[str, str, str, dict[str, Any]]],
    weights: dict[str, Array],
    inputs: dict[str, list[int | str]],
    outputs: list[str],
) -> onnx.ModelProto:
    """Nodes are op, names of inputs, names of outputs, attributes; all inputs are float32."""
    graph = helper.make_graph(
        [helper.make_node(op, ins.split(), outs.split(), **attributes) for op, ins, outs, attributes in nodes],
        "model",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, dims) for name, dims in inputs.items()],
        [onnx.ValueInfoProto(name=name) for name in outputs],
        [numpy_helper.from_array(np.ascontiguousarray(array), name) for name, array in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def onnx_sessions(model: onnx.ModelProto) -> dict[str, Callable[[], Session]]:
    """Float32 and what quantize_dynamic makes of it, each made when it is asked for."""

    def make(**options: Any) -> Session:
        import onnxruntime
        from onnxruntime.quantization import QuantType, quantize_dynamic

        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.onnx"
            onnx.save(model, path)
            if options:
                source, path = path, Path(folder) / "int8.onnx"
                logging.disable(logging.WARNING)  # it asks for pre-processing, which does not change these models
                quantize_dynamic(source, path, weight_type=QuantType.QInt8, **options)
                logging.disable(logging.NOTSET)
            settings = onnxruntime.SessionOptions()
            settings.intra_op_num_threads = 1
            settings.log_severity_level = 3
            session = onnxruntime.InferenceSession(str(path), settings, providers=["CPUExecutionProvider"])
        return lambda feed: session.run(None, feed)

    return {
        "ONNX Runtime float32": make,
        "ONNX Runtime int8": lambda: make(per_channel=False),
        "ONNX Runtime int8, per channel": lambda: make(per_channel=True),
    }


def torch_weights(path: Path, key: str | None = None) -> dict[str, Array]:
    """The arrays of a .pt file; ``key`` is where in it they are."""
    import torch

    state = torch.load(path, map_location="cpu", weights_only=True)
    return {name: tensor.numpy() for name, tensor in (state if key is None else state[key]).items()}


def torch_int8(module: torch.nn.Module, *kinds: type[torch.nn.Module]) -> torch.nn.Module:
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # all of torch.ao.quantization is deprecated
        logging.disable(logging.WARNING)
        try:
            return torch.ao.quantization.quantize_dynamic(module, set(kinds), dtype=torch.qint8)
        finally:
            logging.disable(logging.NOTSET)
