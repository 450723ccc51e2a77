"""What usual tools make of an ONNX file: each function reads one file and writes another."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

__all__ = ["VARIANTS", "in_float32", "structure"]

Variant = Callable[[Path, Path, Mapping[str, Any]], None]


def _optimized(level: str) -> Variant:
    def make(source: Path, target: Path, feeds: Mapping[str, Any]) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        options.intra_op_num_threads = 1
        options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
        options.optimized_model_filepath = str(target)
        onnxruntime.InferenceSession(str(source), options, providers=["CPUExecutionProvider"])

    return make


def _dynamic(source: Path, target: Path, feeds: Mapping[str, Any]) -> None:
    from onnxruntime.quantization import quantize_dynamic

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.disable(logging.CRITICAL)
        quantize_dynamic(source, target)


def _static(form: str) -> Variant:
    def make(source: Path, target: Path, feeds: Mapping[str, Any]) -> None:
        from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static

        class Reader(CalibrationDataReader):  # type: ignore[misc]
            def __init__(self) -> None:
                self.left = iter([dict(feeds)])

            def get_next(self) -> dict[str, Any] | None:
                return next(self.left, None)

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            logging.disable(logging.CRITICAL)
            quantize_static(source, target, Reader(), quant_format=getattr(QuantFormat, form))

    return make


def _half(source: Path, target: Path, feeds: Mapping[str, Any]) -> None:
    import onnx
    from onnxconverter_common import float16

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        onnx.save(float16.convert_float_to_float16(onnx.load(source), keep_io_types=True), target)


def _four_bits(source: Path, target: Path, feeds: Mapping[str, Any]) -> None:
    import onnx
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

    model = onnx.load(source)
    logging.disable(logging.CRITICAL)
    quantizer = MatMulNBitsQuantizer(model, block_size=32, is_symmetric=True)
    quantizer.process()
    made = quantizer.model.model
    if not any(node.op_type == "MatMulNBits" for node in made.graph.node):
        raise LookupError("it has no MatMul with a constant")
    onnx.save(made, target)


def _slim(source: Path, target: Path, feeds: Mapping[str, Any]) -> None:
    import onnx
    import onnxslim

    onnx.save(onnxslim.slim(onnx.load(source)), target)


def _simplified(source: Path, target: Path, feeds: Mapping[str, Any]) -> None:
    import onnx
    import onnxsim

    made, right = onnxsim.simplify(onnx.load(source))
    if not right:
        raise ValueError("the simplifier says that its result differs")
    onnx.save(made, target)


VARIANTS: dict[str, Variant] = {
    "ort-basic": _optimized("ORT_ENABLE_BASIC"),
    "ort-extended": _optimized("ORT_ENABLE_EXTENDED"),
    "ort-all": _optimized("ORT_ENABLE_ALL"),
    "dynamic-int8": _dynamic,
    "static-qdq": _static("QDQ"),
    "static-qoperator": _static("QOperator"),
    "float16": _half,
    "int4": _four_bits,
    "onnxslim": _slim,
    "onnxsim": _simplified,
}


def structure(path: Path) -> str:
    """Return a text that files of the same nodes share: their weights may differ."""
    import onnx

    model = onnx.load(path, load_external_data=False)
    return " ".join(f"{node.domain}:{node.op_type}" for node in model.graph.node)


def in_float32(path: Path) -> bytes | None:
    """Return a model with each float16 as float32; None if it has none."""
    import onnx

    model = onnx.load(path)
    return model.SerializeToString() if _widen(model.graph) else None


def _widen(graph: Any) -> bool:
    """Make float32 of all float16 in a graph and in those inside; return whether there were any."""
    import onnx
    from onnx import numpy_helper

    half, single = onnx.TensorProto.FLOAT16, onnx.TensorProto.FLOAT
    attributes = [attribute for node in graph.node for attribute in node.attribute]
    tensors = [*graph.initializer, *(attribute.t for attribute in attributes if attribute.HasField("t"))]
    found = [tensor for tensor in tensors if tensor.data_type == half]
    for tensor in found:
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype("float32"), tensor.name))
    del graph.value_info[:]
    for value in (*graph.input, *graph.output):
        if value.type.tensor_type.elem_type == half:
            value.type.tensor_type.elem_type = single
    for attribute in attributes:
        if attribute.name in ("to", "dtype") and attribute.i == half:
            attribute.i = single
    return any([bool(found), *(_widen(attribute.g) for attribute in attributes if attribute.HasField("g"))])
