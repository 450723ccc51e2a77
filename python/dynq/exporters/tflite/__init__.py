"""Export to TensorFlow Lite, in its dynamic-range form: int8 weights, float inputs and outputs of every operator."""

from __future__ import annotations

import os

from ...errors import MissingPackageError
from ...ir.graph import Graph
from ...model import Model
from .convert import convert

__all__ = ["export_tflite"]


def export_tflite(model: Model | Graph, path: str | os.PathLike[str]) -> None:
    """Write a TensorFlow Lite file in dynamic-range form. Needs ``pip install 'dynq[tflite]'``.

    int8 weights keep their integers, with a scale for each output channel, and the runtime quantizes their inputs while
    the model runs. What is float in the model is float in the file. Sizes that the model leaves open stay open.

    Args:
        model: a model, or a graph with outputs (``graph.output(y)``), whose layers that are not quantized are float.
        path: the path of the file, which appears under its name when it is complete.

    Raises:
        UnsupportedModelError: the model holds what TensorFlow Lite does not express; the error lists all of it. So it
            does for a file of more than 2 GB.
        MissingPackageError: the package tflite or flatbuffers is not installed.
    """
    if not isinstance(model, (Model, Graph)):
        raise TypeError(f"model is of type {type(model).__name__}; expected a dynq.Model or a dynq.Graph")
    name = os.fspath(path)
    try:
        import tflite  # noqa: F401
    except ImportError as error:
        raise MissingPackageError(f"{error.name} is missing; install it: pip install 'dynq[tflite]'") from error
    from .write import write

    graph = model.graph() if isinstance(model, Model) else model.copy()
    graph.validate()
    write(convert(graph), name)
