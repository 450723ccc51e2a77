"""Import TensorFlow Lite: a table maps each of its ops to dynq's. An op that it lacks is refused."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

from ...errors import Error, InvalidModelError, MissingPackageError
from ...graph import Graph
from ...graph.build import WrongNode, build
from ...model import Model
from ...quantization.options import BuildOptions, GivenOptions, takes_options

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["Numerics", "from_tflite", "to_graph"]

Numerics: TypeAlias = Literal["dynq", "tflite"]


@takes_options
def from_tflite(
    model: str | os.PathLike[str] | bytes, *, signature: str | None = None, numerics: Numerics = "dynq",
    **options: Unpack[GivenOptions],
) -> Model:  # fmt: skip
    """Make a model from a TensorFlow Lite file, quantized as it is read. Needs ``pip install 'dynq[tflite]'``.

    float16 and float64 become float32. int8 weights with float inputs and outputs (dynamic range) keep their numbers,
    and run by dynq's numerics, or by those of TensorFlow Lite's reference kernels. int8 and uint8 values with fixed
    scales are rounded as the file says, within a step of LiteRT's kernels. The file is verified before it is used.

    Args:
        model: a path, or the bytes of a file.
        signature: the key of the signature that becomes the model. None: the first subgraph.
        numerics: ``"tflite"``: layers with int8 weights quantize their inputs and add up as TensorFlow Lite does.
        options: those of BuildOptions.

    Raises:
        ValueError: there is no such signature, or ``numerics`` is neither ``"dynq"`` nor ``"tflite"``.
        UnsupportedModelError: the model holds what dynq cannot run; the error lists all of it.
        InvalidModelError: the file is damaged or contradicts itself.
    """
    chosen = BuildOptions.of(options)
    graph = to_graph(model, signature, numerics)
    try:
        return build(graph, (), chosen)
    except WrongNode as error:
        raise InvalidModelError(str(error)) from error


def to_graph(model: str | os.PathLike[str] | bytes, signature: str | None = None, numerics: Numerics = "dynq") -> Graph:
    """Return the model as a graph, before the passes of Graph.build."""
    if numerics not in get_args(Numerics):
        raise ValueError(f"numerics is {numerics!r}; expected 'dynq' or 'tflite'")
    try:
        import tflite  # noqa: F401
    except ImportError as error:
        raise MissingPackageError(f"{error.name} is missing; install it: pip install 'dynq[tflite]'") from error
    from . import ops  # noqa: F401
    from .entry import WrongSignature, convert
    from .source import DAMAGED, load

    if not isinstance(model, (str, os.PathLike, bytes)):
        raise TypeError(f"model is of type {type(model).__name__}; expected a path or bytes")
    source = load(model)
    try:
        graph = convert(source, signature, numerics == "tflite")
        graph.validate()
    except WrongSignature as error:
        raise ValueError(str(error)) from None
    except DAMAGED as error:
        if isinstance(error, Error):
            raise
        raise InvalidModelError(f"the model is damaged: {type(error).__name__}: {error}") from error
    return graph
