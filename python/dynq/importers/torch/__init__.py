"""PyTorch: a table from each ATen op to dynq's; what is not in it is refused."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ...errors import MissingPackageError
from ...model import Model, op_names

if TYPE_CHECKING:
    import torch

    from ...graph import Graph

__all__ = ["from_torch", "to_graph"]


def from_torch(
    module: torch.nn.Module | torch.export.ExportedProgram | str | os.PathLike[str],
    example_inputs: Sequence[Any] | torch.Tensor | None = None,
    *,
    kwargs: Mapping[str, Any] | None = None,
    dynamic_shapes: Any = None,
    input_names: Sequence[str] | None = None,
    output_names: Sequence[str] | None = None,
    quantize: bool = True,
    keep_float: Iterable[str] = (),
    **options: Any,
) -> Model:
    """A model from a PyTorch module, by ``torch.export``. Needs ``pip install 'dynq[torch]'``, PyTorch 2.6 or
    newer.

    Nodes have the names of the modules that they come from: ``encoder.layer.0.query``. Floats of other sizes become
    float32. The module stays as it is.

    Args:
        module: in evaluation mode and on the CPU; or what ``torch.export.export`` gave; or the path of a file by
            ``torch.export.save``.
        example_inputs: tensors as its forward takes them; none with an exported program.
        kwargs: those that forward takes by name.
        dynamic_shapes: which sizes a run decides; None: none, all are those of the examples. "batch": the first one of
            every input. ``{0: "batch", 1: "sequence"}``: these of every input. ``{"ids": {1: "sequence"}}``: of one
            input, as ``torch.export`` takes it, with its Dims or with names. "auto": all that the module allows.
        input_names, output_names: for those that torch gives.
        quantize: False: all stays float32.
        keep_float: names of modules or nodes, or patterns (``"encoder.layer.0.*"``), that stay float32.
        options: the others of Graph.build (``attention``, ``int16``, ``smooth``, ...).

    Raises:
        TypeError, ValueError: the arguments do not fit the module, or it is in training mode or not on the CPU.
        UnsupportedModelError: the module cannot be exported, or holds what dynq cannot run; the error lists all of it.
        InvalidModelError: the file or the program is damaged.
    """
    graph = to_graph(
        module,
        example_inputs,
        kwargs=kwargs,
        dynamic_shapes=dynamic_shapes,
        input_names=input_names,
        output_names=output_names,
    )
    return graph.build(quantize=quantize, keep_float=keep_float, **options)


def to_graph(
    module: torch.nn.Module | torch.export.ExportedProgram | str | os.PathLike[str],
    example_inputs: Sequence[Any] | torch.Tensor | None = None,
    *,
    kwargs: Mapping[str, Any] | None = None,
    dynamic_shapes: Any = None,
    input_names: Sequence[str] | None = None,
    output_names: Sequence[str] | None = None,
) -> Graph:
    """The module as a graph, before the passes of Graph.build; the arguments are those of from_torch."""
    try:
        import torch
    except ImportError as error:
        raise MissingPackageError(f"{error.name} is missing; install it: pip install 'dynq[torch]'") from error
    if not hasattr(torch.export, "default_decompositions"):
        raise MissingPackageError(
            f"this is PyTorch {torch.__version__}; from_torch needs 2.6 or newer: pip install --upgrade torch"
        )
    from . import ops  # noqa: F401
    from .convert import can_convert, convert
    from .program import export

    program = export(module, example_inputs, kwargs, dynamic_shapes, can_convert)
    return convert(program, input_names, output_names, op_names())
