"""ONNX: a table from each of its ops to dynq's; what is not in it is refused."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

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
    first_layer: str = "float",
    int16: Iterable[str] = (),
    group_size: int | Mapping[str, int] | None = None,
    ranges: Mapping[str, tuple[float, float]] | None = None,
    smooth: Any = None,
    smooth_alpha: float | None = None,
    inputs: Mapping[str, Any] | None = None,
    shapes: Mapping[str, Sequence[int | None]] | None = None,
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
        first_layer: "int8": the layer that reads an input of the model is quantized even where it is small.
        int16: names of linear layers, or patterns, whose inputs get 16 bits instead of 8: twice the time.
        group_size: the inputs of linear layers get a scale for each so many values of a row, a multiple of 32 from
            32 to 256, instead of one for the row; a dict of names or patterns: of these layers.
        ranges: fixed ranges of inputs, of convolutions too, by name or pattern; values outside are clamped.
            calibrate() finds them. A small first layer that one of these three has by its name is quantized.
        smooth: samples, as calibrate takes them: channels that are outliers in them move into the weights before
            these are quantized, where that promises a gain.
        smooth_alpha: how far, 0 to 1. None: for each layer the best of some.
        inputs: values of inputs that are the same in every run (``{"sr": 16000}``); they are inputs no more. `If` on
            such a value becomes its branch.
        shapes: sizes that the model leaves open and every run has (``{"input": (1, 576)}``; None leaves one open).

    Raises:
        ValueError: ``inputs`` or ``shapes`` do not fit the model.
        UnsupportedModelError: the model holds what dynq cannot run; the error lists all of it.
        InvalidModelError: the model is damaged or contradicts itself.
    """
    return to_graph(model, inputs, shapes).build(
        quantize=quantize,
        keep_float=keep_float,
        attention=attention,
        embedding=embedding,
        scheme=scheme,
        granularity=granularity,
        first_layer=first_layer,
        int16=int16,
        group_size=group_size,
        ranges=ranges,
        smooth=smooth,
        smooth_alpha=smooth_alpha,
    )


def to_graph(
    model: str | os.PathLike[str] | ModelProto,
    inputs: Mapping[str, Any] | None = None,
    shapes: Mapping[str, Sequence[int | None]] | None = None,
) -> Graph:
    """The model as a graph, before the passes of Graph.build; ``inputs`` and ``shapes`` are those of from_onnx."""
    try:
        import onnx
    except ImportError as error:
        raise Error(f"{error.name} is missing; install it: pip install 'dynq[onnx]'") from error
    from . import ops  # noqa: F401
    from .convert import can_convert, convert
    from .fix import WrongInput
    from .fuse import fuse_dynamic_linear
    from .source import load

    if not isinstance(model, (str, os.PathLike, onnx.ModelProto)):
        raise TypeError(f"model is of type {type(model).__name__}; expected a path or an onnx.ModelProto")
    names = op_names()
    try:
        source = load(model, lambda op, opset: can_convert(op, opset, names), inputs or {}, shapes or {})
        graph = convert(source, names)
        fuse_dynamic_linear(graph)
    except WrongInput as error:
        raise ValueError(str(error)) from None
    except (ArithmeticError, LookupError, RecursionError, TypeError, ValueError) as error:
        if isinstance(error, Error):
            raise
        raise InvalidModelError(f"the model is damaged: {type(error).__name__}: {error}") from error
    return graph
