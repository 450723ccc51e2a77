"""ONNX: a table from each of its ops to dynq's; what is not in it is refused."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING

from ...errors import Error, InvalidModelError
from ...model import Model, op_names

if TYPE_CHECKING:
    from onnx import ModelProto

    from ...graph import Graph

__all__ = ["from_onnx", "to_graph"]


def from_onnx(
    model: str | os.PathLike[str] | ModelProto,
    *,
    quantize: bool = True,
    keep_float: Iterable[str] = (),
    attention: str = "float",
    embedding: str = "int8",
    scheme: str = "asymmetric",
    granularity: str = "row",
) -> Model:
    """A model from an ONNX file, opset 11 or newer, quantized as it is read. Needs ``pip install 'dynq[onnx]'``.

    Floats of other sizes become float32. A model that is quantized already keeps its own numbers.

    Args:
        model: a path, or a loaded model (without external data).
        quantize: False: all stays float32.
        keep_float: names of nodes, or patterns (``"encoder.layer.0.*"``), that stay float32.
        attention: "int8": its two products are quantized too, both sides while the model runs.
        embedding: "float": tables stay float32.
        scheme: how the inputs of linear layers are quantized, "asymmetric" or "symmetric".
        granularity: "row", a scale for each row, or "tensor".

    Raises:
        UnsupportedModelError: the model holds what dynq cannot run; the error lists all of it.
        InvalidModelError: the model is damaged or contradicts itself.
    """
    return to_graph(model).build(
        quantize=quantize,
        keep_float=keep_float,
        attention=attention,
        embedding=embedding,
        scheme=scheme,
        granularity=granularity,
    )


def to_graph(model: str | os.PathLike[str] | ModelProto) -> Graph:
    """The model as a graph, before the passes of Graph.build."""
    try:
        import onnx
    except ImportError as error:
        raise Error(f"{error.name} is missing; install it: pip install 'dynq[onnx]'") from error
    from . import ops  # noqa: F401
    from .convert import can_convert, convert
    from .fuse import fuse_dynamic_linear
    from .source import load

    if not isinstance(model, (str, os.PathLike, onnx.ModelProto)):
        raise TypeError(f"model is of type {type(model).__name__}; expected a path or an onnx.ModelProto")
    names = op_names()
    try:
        graph = convert(load(model, lambda op, opset: can_convert(op, opset, names)), names)
        fuse_dynamic_linear(graph)
    except (ArithmeticError, LookupError, RecursionError, TypeError, ValueError) as error:
        if isinstance(error, Error):
            raise
        raise InvalidModelError(f"the model is damaged: {type(error).__name__}: {error}") from error
    return graph
