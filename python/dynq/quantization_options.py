"""The options of Graph.build, where commands take them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from .graph import Graph

__all__ = ["build_options", "existing_file", "quantization_options"]

existing_file = click.Path(exists=True, dir_okay=False, path_type=Path)
_QUANTIZATION = (
    click.option("--keep-float", multiple=True, metavar="PATTERN",
                 help="Leave these nodes in float32; again for more."),
    click.option("--attention", type=click.Choice(["float", "int8"]), default="float", show_default=True),
    click.option("--embedding", type=click.Choice(["float", "int8"]), default="int8", show_default=True),
    click.option("--first-layer", type=click.Choice(["float", "int8"]), default="float", show_default=True,
                 help="One that reads an input and is small beside the others."),
    click.option("--int16", multiple=True, metavar="PATTERN",
                 help="16-bit inputs for these linear layers; again for more."),
    click.option("--group-size", type=int, metavar="64",
                 help="A scale for each so many values of linear layers' inputs."),
    click.option("--smooth", multiple=True, metavar="FILE.npz", type=existing_file,
                 help="Inputs by name: outliers in them move into weights; again for more."),
)  # fmt: skip


def quantization_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options of Graph.build that `dynq quantize` and `dynq analyze` take."""
    for option in reversed(_QUANTIZATION):
        command = option(command)
    return command


def build_options(graph: Graph, options: dict[str, Any]) -> dict[str, Any]:
    """Those options as Graph.build takes them: with samples in the place of files."""
    from .accuracy.samples import read_npz

    samples = None
    if options["smooth"]:
        floating = graph.build(quantize=False)
        samples = [sample for path in options["smooth"] for sample in read_npz(path, floating)]
    return {**options, "smooth": samples}
