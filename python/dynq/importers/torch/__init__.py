"""PyTorch: a table from each ATen op to dynq's; what is not in it is refused."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ...errors import MissingPackageError
from ...graph import Graph
from ...graph.build import build
from ...ir import ops as table
from ...model import Model
from ...quantization.options import BuildOptions, GivenOptions, takes_options

if TYPE_CHECKING:
    import torch
    from typing_extensions import Unpack

__all__ = ["from_torch", "to_graph"]


@takes_options
def from_torch(
    module: torch.nn.Module | torch.export.ExportedProgram | str | os.PathLike[str],
    example_inputs: Sequence[Any] | torch.Tensor | None = None,
    *,
    kwargs: Mapping[str, Any] | None = None,
    dynamic_shapes: Any = None,
    input_names: Sequence[str] | None = None,
    output_names: Sequence[str] | None = None,
    trust: bool = False,
    **options: Unpack[GivenOptions],
) -> Model:
    """Make a model of a PyTorch module, by ``torch.export``. Needs ``pip install 'dynq[torch]'``, PyTorch 2.6 or newer.

    Nodes have the names of the modules that they come from: ``encoder.layer.0.query``. Floats of other sizes become
    float32. The module and the examples stay as they are.

    Args:
        module: in evaluation mode and on the CPU; or what ``torch.export.export`` gave; or the path of a file by
            ``torch.export.save``.
        example_inputs: tensors as its forward takes them, or a mapping of them by name, as a tokenizer gives; none with
            an exported program.
        kwargs: those that forward takes by name.
        dynamic_shapes: which sizes a run decides; None: none, all are those of the examples. "batch": the first one of
            every input. ``{0: "batch", 1: "sequence"}``: these of every input. ``{"ids": {1: "sequence"}}``: of one
            input, as ``torch.export`` takes it, with its Dims or with names. "auto": all that the module allows.
        input_names, output_names: for those that torch gives.
        trust: True: a file may run code while PyTorch reads it. Reading one unpickles objects, loads libraries and
            evaluates texts that it holds; False refuses files that hold any of it. See SECURITY.md.
        options: those of BuildOptions.

    Raises:
        TypeError, ValueError: the arguments do not fit the module, or it is in training mode or not on the CPU.
        UnsupportedModelError: the module cannot be exported, or holds what dynq cannot run; the error lists all of it.
        InvalidModelError: the file or the program is damaged.
    """
    chosen = BuildOptions.of(options)
    graph = to_graph(
        module,
        example_inputs,
        kwargs=kwargs,
        dynamic_shapes=dynamic_shapes,
        input_names=input_names,
        output_names=output_names,
        trust=trust,
    )
    return build(graph, (), chosen)


def to_graph(
    module: torch.nn.Module | torch.export.ExportedProgram | str | os.PathLike[str],
    example_inputs: Sequence[Any] | torch.Tensor | None = None,
    *,
    kwargs: Mapping[str, Any] | None = None,
    dynamic_shapes: Any = None,
    input_names: Sequence[str] | None = None,
    output_names: Sequence[str] | None = None,
    trust: bool = False,
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
    from .call import can_convert
    from .convert import convert
    from .program import export

    program = export(module, example_inputs, kwargs, dynamic_shapes, can_convert, trust)
    return convert(program, input_names, output_names, table.names())
