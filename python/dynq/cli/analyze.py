"""The command ``dynq analyze``."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click

from ..accuracy.analysis import analyze as analyze_model
from ..accuracy.culprits import find_culprits
from ..model import load
from ..runs import random_sample, read_npz
from .options import build_options, existing_file, output_file, quantization_options, threads_option, trust_option
from .output import console, json_option, progress, refused
from .sources import MODELS, input_shape, input_shapes, input_value, input_values, random_shapes, read_graph

__all__ = ["analyze"]


@click.command()
@click.argument("source", metavar=MODELS, type=existing_file)
@click.argument("file", metavar="[MODEL.dynq]", type=existing_file, required=False)
@click.option(
    "--samples", "files", multiple=True, metavar="FILE.npz", type=existing_file,
    help="Unlabelled inputs by name; may be repeated. Default: random inputs.",
)  # fmt: skip
@click.option(
    "--shape", "shapes", multiple=True, metavar="NAME=1x128", help="The shape of a random input; may be repeated."
)
@click.option("--seed", default=0, show_default=True, help="The seed of random inputs.")
@click.option("--html", metavar="FILE.html", type=output_file, help="Write the analysis as a page.")
@click.option("--culprits", is_flag=True, help="Find the layers that restore the outputs if they stay float.")
@click.option("--target", type=float, help="SQNR of the outputs that --culprits restores, dB.  [default: 20]")
@threads_option
@quantization_options
@input_value
@input_shape
@trust_option
@json_option
@click.pass_context
def analyze(
    context: click.Context, /, source: Path, file: Path | None, files: tuple[Path, ...], shapes: tuple[str, ...],
    seed: int, html: Path | None, culprits: bool, target: float | None,
    values: tuple[str, ...], fixed: tuple[str, ...], as_json: bool, **given_options: Any,
) -> None:  # fmt: skip
    """Show what quantization does to each layer of a model.

    If MODEL.dynq is given, that file is compared with the model. Otherwise the model is quantized as `dynq quantize`
    does it.
    """
    if file is not None and culprits:
        raise click.UsageError(
            "--culprits tries other options than those of a file that is there; leave MODEL.dynq out"
        )
    if target is not None and not culprits:
        raise click.UsageError("--target goes with --culprits")
    if files and shapes:
        raise click.UsageError("--shape is of random inputs; --samples gives others")
    graph = refused(lambda: read_graph(source, input_values(values), input_shapes(fixed)))
    graph.name = source.name
    floating = refused(lambda: graph.build(quantize=False))
    samples = [sample for path in files for sample in read_npz(path, floating)]
    sizes = random_shapes(shapes, floating)
    if file is None:
        options = refused(lambda: build_options(graph, given_options))
    else:
        _no_options(context, given_options)
        options = {}
    given = graph if file is None else (floating, load(file))
    with progress("comparing layers", as_json) as told:
        analysis = refused(
            lambda: analyze_model(
                given, samples if files else None, shapes_of_samples=sizes, seed=seed, progress=told, **options
            )
        )
    found = None
    if culprits:
        samples = samples if files else [random_sample(floating, sizes, seed)]
        with progress("trying layers", as_json) as told:
            found = refused(lambda: find_culprits(graph, samples, target=target, progress=told, **options))
    page = console()
    if as_json:
        facts = json.loads(analysis.to_json())
        click.echo(json.dumps(facts if found is None else {**facts, "culprits": json.loads(found.to_json())}, indent=2))
    else:
        page.print(analysis)
        if found is not None:
            page.print(found)
    if html is not None:  # last: if it cannot be written, the facts are not lost
        analysis.to_html(html)
        if not as_json:
            page.print(f"{html} is written.")


def _no_options(context: click.Context, names: Iterable[str]) -> None:
    for name in names:
        if context.get_parameter_source(name) is not click.core.ParameterSource.DEFAULT:
            raise click.UsageError(f"--{name.replace('_', '-')} is for a model that is quantized here; MODEL.dynq is")
