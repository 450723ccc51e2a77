"""The command ``dynq analyze``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from .._report import console, json_option
from ..errors import Error
from ..model import load
from ..model_commands import _existing, _graph, _input_shapes, _input_value, _input_values, _refused

__all__ = ["analyze"]


@click.command()
@click.argument("source", metavar="MODEL.onnx|MODEL.pt2", type=_existing)
@click.argument("file", metavar="[MODEL.dynq]", type=_existing, required=False)
@click.option(
    "--samples", "files", multiple=True, metavar="FILE.npz", type=_existing,
    help="Inputs by name, unlabelled; again for more. Without: random ones.",
)  # fmt: skip
@click.option("--shape", "shapes", multiple=True, metavar="NAME=1x128", help="Of a random input.")
@click.option("--seed", default=0, show_default=True, help="Of random inputs.")
@click.option("--html", metavar="FILE.html", type=click.Path(dir_okay=False, path_type=Path), help="Write a page.")
@click.option("--culprits", is_flag=True, help="Find the layers that restore the outputs when they stay float.")
@click.option("--target", type=float, help="SQNR of the outputs that --culprits restores, dB.  [default: 20]")
@click.option("--threads", type=click.IntRange(1), help="Instead of all that there are.")
@click.option("--keep-float", multiple=True, metavar="PATTERN", help="Leave these nodes in float32; again for more.")
@click.option("--attention", type=click.Choice(["float", "int8"]), default="float", show_default=True)
@click.option("--embedding", type=click.Choice(["float", "int8"]), default="int8", show_default=True)
@click.option("--first-layer", type=click.Choice(["float", "int8"]), default="float", show_default=True)
@_input_value
@click.option("--input-shape", "fixed", multiple=True, metavar="NAME=1x576", help="Sizes left open; ? leaves one.")
@json_option
@click.pass_context
def analyze(
    context: click.Context, source: Path, file: Path | None, files: tuple[Path, ...], shapes: tuple[str, ...],
    seed: int, html: Path | None, culprits: bool, target: float | None, threads: int | None,
    keep_float: tuple[str, ...], attention: str, embedding: str, first_layer: str, values: tuple[str, ...],
    fixed: tuple[str, ...], as_json: bool,
) -> None:  # fmt: skip
    """Show what quantization does to each layer of a model.

    With MODEL.dynq, that file is compared; without, the model is quantized as `dynq quantize` does it.
    """
    from ..threads import set_num_threads
    from .analysis import analyze as analyze_model
    from .culprits import find_culprits
    from .samples import random_sample, read_npz

    if file is not None and culprits:
        raise click.UsageError(
            "--culprits tries other options than those of a file that is there; leave MODEL.dynq out"
        )
    if target is not None and not culprits:
        raise click.UsageError("--target goes with --culprits")
    if files and shapes:
        raise click.UsageError("--shape is of random inputs; --samples gives others")
    if threads is not None:
        set_num_threads(threads)
    graph = _refused(lambda: _graph(source, _input_values(values), _input_shapes(fixed)))
    graph.name = source.name
    floating = _refused(lambda: graph.build(quantize=False))
    samples = [sample for path in files for sample in read_npz(path, floating)]
    sizes = {name: _sizes(name, dims) for name, dims in _input_shapes(shapes).items()}
    options: dict[str, Any] = {}
    if file is None:
        options = {"keep_float": keep_float, "attention": attention, "embedding": embedding, "first_layer": first_layer}
    else:
        _no_options(context, ("keep_float", "attention", "embedding", "first_layer"))
    given = graph if file is None else (floating, load(file))
    analysis = _refused(
        lambda: analyze_model(given, samples if files else None, shapes_of_samples=sizes, seed=seed, **options)
    )
    found = None
    if culprits:
        samples = samples if files else [random_sample(floating, sizes, seed)]
        found = _refused(lambda: find_culprits(graph, samples, target=target, **options))
    if html is not None:
        analysis.to_html(html)
    if as_json:
        facts = json.loads(analysis.to_json())
        click.echo(json.dumps(facts if found is None else {**facts, "culprits": json.loads(found.to_json())}, indent=2))
        return
    page = console()
    page.print(analysis)
    if found is not None:
        page.print(found)
    if html is not None:
        page.print(f"{html} is written.")


def _no_options(context: click.Context, names: tuple[str, ...]) -> None:
    for name in names:
        if context.get_parameter_source(name) is not click.core.ParameterSource.DEFAULT:
            raise click.UsageError(f"--{name.replace('_', '-')} is for a model that is quantized here; MODEL.dynq is")


def _sizes(name: str, dims: list[int | None]) -> list[int]:
    if any(dim is None for dim in dims):
        raise Error(f"--shape {name}: a random input has no open sizes")
    return [dim for dim in dims if dim is not None]
