"""The runtimes that `dynq compare` runs a float model in: that of its own format if it is installed, else dynq."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..core.arguments import Array
from ..errors import Error
from ..threads import get_num_threads
from .output import refused
from .sources import read_floating, read_graph

__all__ = ["float_runtime"]

_NUMPY = {"tensor(float)": "float32", "tensor(int64)": "int64", "tensor(int32)": "int32", "tensor(bool)": "bool"}
_Run = Callable[[], dict[str, Array]]


def float_runtime(
    source: Path, given: dict[str, Array], values: dict[str, Any], fixed: dict[str, list[int | None]]
) -> tuple[str, _Run]:
    """Return a function that runs the float model in ONNX Runtime or LiteRT, with as many threads as dynq.

    If that is not installed or the model is of PyTorch, dynq itself runs it in float32.
    """
    if source.suffix == ".pt2":
        return "dynq in float32", _dynq(source, given, values, fixed)
    if source.suffix == ".tflite":
        return _litert(source, given, values, fixed)
    return _onnxruntime(source, given, values, fixed)


def _dynq(source: Path, given: dict[str, Array], values: dict[str, Any], fixed: dict[str, list[int | None]]) -> _Run:
    model = read_floating(source, values, fixed)
    return lambda: model.run(given)


def _litert(
    source: Path, given: dict[str, Array], values: dict[str, Any], fixed: dict[str, list[int | None]]
) -> tuple[str, _Run]:
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError:
        run = _dynq(source, given, values, fixed)
        return "dynq in float32 (ai-edge-litert is not installed)", run
    graph = refused(lambda: read_graph(source, values, fixed))
    try:
        interpreter = Interpreter(model_path=str(source), num_threads=get_num_threads())
        inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()
        for value, detail in zip(graph.inputs, inputs, strict=True):
            interpreter.resize_tensor_input(detail["index"], given[value.name].shape)
        interpreter.allocate_tensors()
    except (KeyError, RuntimeError, ValueError) as error:
        raise Error(f"LiteRT cannot read {source}: {error}") from error

    def run_floats() -> dict[str, Array]:
        try:
            for value, detail in zip(graph.inputs, inputs, strict=True):
                interpreter.set_tensor(detail["index"], given[value.name].astype(detail["dtype"], copy=False))
            interpreter.invoke()
        except (RuntimeError, ValueError) as error:
            raise Error(f"LiteRT cannot run {source}: {error}") from error
        names = [name for name, _ in graph.outputs]
        return {name: interpreter.get_tensor(d["index"]) for name, d in zip(names, outputs, strict=True)}

    return "LiteRT", run_floats


def _onnxruntime(
    source: Path, given: dict[str, Array], values: dict[str, Any], fixed: dict[str, list[int | None]]
) -> tuple[str, _Run]:
    try:
        import onnxruntime
    except ImportError:
        return "dynq in float32 (onnxruntime is not installed)", _dynq(source, given, values, fixed)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = get_num_threads()
    try:
        session = onnxruntime.InferenceSession(str(source), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its exceptions have no base class of their own
        raise Error(f"ONNX Runtime cannot read {source}: {error}") from error
    names = [output.name for output in session.get_outputs()]
    wanted = {value.name: value.type for value in session.get_inputs()}
    for name in values.keys() & wanted.keys():
        given = {**given, name: values[name].astype(_NUMPY.get(wanted[name], values[name].dtype))}
    if missing := wanted.keys() - given.keys():
        raise Error(f"{source} has the inputs {', '.join(sorted(missing))}, which the .dynq file has not")
    feed = {name: array for name, array in given.items() if name in wanted}

    def run_floats() -> dict[str, Array]:
        try:
            return dict(zip(names, session.run(names, feed), strict=True))
        except Exception as error:
            raise Error(f"ONNX Runtime cannot run {source}: {error}") from error

    return "ONNX Runtime", run_floats
