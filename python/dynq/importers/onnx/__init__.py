"""Import ONNX: a table maps each of its ops to dynq's. An op that it lacks is refused."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ...errors import Error, InvalidModelError, MissingPackageError
from ...graph import Graph
from ...graph.build import WrongNode, build
from ...model import Model
from ...quantization.options import BuildOptions, GivenOptions, takes_options

if TYPE_CHECKING:
    from onnx import ModelProto
    from typing_extensions import Unpack

__all__ = ["from_onnx", "to_graph"]


@takes_options
def from_onnx(
    model: str | os.PathLike[str] | ModelProto,
    *,
    inputs: Mapping[str, Any] | None = None,
    shapes: Mapping[str, Sequence[int | None]] | None = None,
    **options: Unpack[GivenOptions],
) -> Model:
    """Make a model from an ONNX file, opset 7 or newer, quantized as it is read. Needs ``pip install 'dynq[onnx]'``.

    Floats of other sizes become float32. A model that is quantized already keeps its own numbers. Files of strangers do
    no harm: ONNX's own code runs with limits of time and memory. The environment variables DYNQ_IMPORT_SECONDS and
    DYNQ_IMPORT_BYTES raise them.

    Args:
        model: a path, or a loaded model (without external data).
        inputs: values of inputs that are the same in every run (``{"sr": 16000}``). They are no inputs of the result.
            `If` on such a value becomes its branch.
        shapes: sizes that the model leaves open and every run has (``{"input": (1, 576)}``; None leaves one open).
        options: those of BuildOptions.

    Raises:
        ValueError: ``inputs`` or ``shapes`` do not fit the model.
        UnsupportedModelError: the model holds what dynq cannot run; the error lists all of it.
        InvalidModelError: the model is damaged or contradicts itself.
    """
    chosen = BuildOptions.of(options)
    graph = to_graph(model, inputs, shapes)
    try:
        return build(graph, (), chosen)
    except WrongNode as error:
        raise InvalidModelError(str(error)) from error


def to_graph(
    model: str | os.PathLike[str] | ModelProto,
    inputs: Mapping[str, Any] | None = None,
    shapes: Mapping[str, Sequence[int | None]] | None = None,
) -> Graph:
    """Return the model as a graph, before the passes of Graph.build; ``inputs`` and ``shapes`` are those of
    from_onnx.
    """
    try:
        import onnx
    except ImportError as error:
        raise MissingPackageError(f"{error.name} is missing; install it: pip install 'dynq[onnx]'") from error
    from . import ops  # noqa: F401
    from .convert import convert, find
    from .fix import WrongInput
    from .fuse import fuse_dynamic_linear
    from .source import load

    if not isinstance(model, (str, os.PathLike, onnx.ModelProto)):
        raise TypeError(f"model is of type {type(model).__name__}; expected a path or an onnx.ModelProto")
    try:
        source = load(model, lambda op, opset: find("", op, opset) is not None, inputs or {}, shapes or {})
        graph = convert(source)
        fuse_dynamic_linear(graph)
        graph.validate()
    except WrongInput as error:
        raise ValueError(str(error)) from None
    except (ArithmeticError, LookupError, RecursionError, TypeError, ValueError) as error:
        if isinstance(error, Error):
            raise
        raise InvalidModelError(f"the model is damaged: {type(error).__name__}: {error}") from error
    return graph
