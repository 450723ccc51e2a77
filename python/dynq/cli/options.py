"""The options of Graph.build for commands that take them."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import click

from ..core.arguments import GRANULARITIES, SCHEMES
from ..graph import Graph
from ..quantization.options import BuildOptions, Default, FloatOrInt8
from ..runs import read_npz
from ..threads import set_num_threads

__all__ = [
    "build_options",
    "existing_file",
    "output_file",
    "quantization_options",
    "threads_option",
    "trust_option",
    "trusted",
]

existing_file = click.Path(exists=True, dir_okay=False, path_type=Path)


class _OutputFile(click.Path):
    """The path of a file that a command writes."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        text = os.fspath(value)
        if text.endswith(os.sep) or os.path.isdir(text):
            name = os.path.join(text, (param.metavar if param is not None else None) or "FILE")
            self.fail(f"{text!r} is a folder; expected the name of a file, such as {name}", param, ctx)
        return super().convert(value, param, ctx)


output_file = _OutputFile(dir_okay=False, path_type=Path)


def _set_threads(context: click.Context, parameter: click.Parameter, value: int | None) -> None:
    if value is not None:
        set_num_threads(value)


threads_option = click.option(
    "--threads", type=click.IntRange(1, 512), expose_value=False, callback=_set_threads,
    help="Use this many threads instead of all.",
)  # fmt: skip


def _float_or_int8(name: str, help: str | None = None) -> Any:
    default = getattr(BuildOptions, name)
    kinds = click.Choice(get_args(FloatOrInt8))
    shown = default is not None
    return click.option(f"--{name.replace('_', '-')}", type=kinds, default=default, show_default=shown, help=help)


_QUANTIZATION = (
    click.option("--keep-float", multiple=True, metavar="PATTERN",
                 help="Leave these nodes in float32; may be repeated."),
    _float_or_int8("attention", "How to compute the two products of attention."),
    _float_or_int8("embedding", "How to store the tables of embeddings."),
    _float_or_int8("first_layer", "How to compute the layers that read an input of the model."),
    click.option("--default", type=click.Choice(get_args(Default)),
                 help="What other layers become: what the outputs need, by runs on made-up inputs, or int8."),
    click.option("--scheme", type=click.Choice(list(SCHEMES)), default=BuildOptions.scheme, show_default=True,
                 help="How to quantize the inputs of linear layers."),
    click.option("--granularity", type=click.Choice(list(GRANULARITIES)), default=BuildOptions.granularity,
                 show_default=True, help="Give each row of them a scale, or all rows one."),
    click.option("--int16", multiple=True, metavar="PATTERN",
                 help="Give these linear layers 16-bit inputs; may be repeated."),
    click.option("--group-size", type=int, metavar="64",
                 help="Use a scale for each group of so many values in linear layers' inputs."),
    click.option("--smooth", multiple=True, metavar="FILE.npz", type=existing_file,
                 help="Inputs by name, whose outliers move into weights; may be repeated."),
)  # fmt: skip


def quantization_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options of Graph.build that `dynq quantize` and `dynq analyze` take."""
    for option in reversed(_QUANTIZATION):
        command = option(command)
    return command


def _keep_trust(context: click.Context, parameter: click.Parameter, value: bool) -> None:
    context.meta[_TRUST] = value


_TRUST = "dynq.trust"
trust_option = click.option(
    "--trust", is_flag=True, expose_value=False, callback=_keep_trust,
    help="Read a .pt2 file whose objects can run code.",
)  # fmt: skip


def trusted() -> bool:
    """Return whether the command was called with --trust."""
    return bool(click.get_current_context().meta.get(_TRUST))


def build_options(graph: Graph, options: dict[str, Any]) -> dict[str, Any]:
    """Return these options as Graph.build takes them, with samples in place of files."""
    samples = None
    if options["smooth"]:
        floating = graph.build(quantize=False)
        samples = [sample for path in options["smooth"] for sample in read_npz(path, floating)]
    given = {name: value for name, value in options.items() if value is not None}
    return {**given, "smooth": samples}
