"""The command ``dynq analyze``."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click

from .._report import console, json_option
from ..model import load
from ..model_commands import _graph, _input_shape, _input_shapes, _input_value, _input_values, _refused, random_shapes
from ..quantization_options import build_options, existing_file, quantization_options

__all__ = ["analyze"]


@click.command()
@click.argument("source", metavar="MODEL.onnx|MODEL.pt2", type=existing_file)
@click.argument("file", metavar="[MODEL.dynq]", type=existing_file, required=False)
@click.option(
    "--samples", "files", multiple=True, metavar="FILE.npz", type=existing_file,
    help="Inputs by name, unlabelled; again for more. Without: random ones.",
)  # fmt: skip
@click.option("--shape", "shapes", multiple=True, metavar="NAME=1x128", help="Of a random input.")
@click.option("--seed", default=0, show_default=True, help="Of random inputs.")
@click.option("--html", metavar="FILE.html", type=click.Path(dir_okay=False, path_type=Path), help="Write a page.")
@click.option("--culprits", is_flag=True, help="Find the layers that restore the outputs when they stay float.")
@click.option("--target", type=float, help="SQNR of the outputs that --culprits restores, dB.  [default: 20]")
@click.option("--threads", type=click.IntRange(1), help="Instead of all that there are.")
@quantization_options
@_input_value
@_input_shape
@json_option
@click.pass_context
def analyze(
    context: click.Context, /, source: Path, file: Path | None, files: tuple[Path, ...], shapes: tuple[str, ...],
    seed: int, html: Path | None, culprits: bool, target: float | None, threads: int | None,
    values: tuple[str, ...], fixed: tuple[str, ...], as_json: bool, **given_options: Any,
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
    sizes = random_shapes(shapes, floating)
    if file is None:
        options = _refused(lambda: build_options(graph, given_options))
    else:
        _no_options(context, given_options)
        options = {}
    given = graph if file is None else (floating, load(file))
    analysis = _refused(
        lambda: analyze_model(given, samples if files else None, shapes_of_samples=sizes, seed=seed, **options)
    )
    found = None
    if culprits:
        samples = samples if files else [random_sample(floating, sizes, seed)]
        found = _refused(lambda: find_culprits(graph, samples, target=target, **options))
    page = console()
    if as_json:
        facts = json.loads(analysis.to_json())
        click.echo(json.dumps(facts if found is None else {**facts, "culprits": json.loads(found.to_json())}, indent=2))
    else:
        page.print(analysis)
        if found is not None:
            page.print(found)
    if html is not None:  # last: where it cannot be written the facts are not lost
        analysis.to_html(html)
        if not as_json:
            page.print(f"{html} is written.")


def _no_options(context: click.Context, names: Iterable[str]) -> None:
    for name in names:
        if context.get_parameter_source(name) is not click.core.ParameterSource.DEFAULT:
            raise click.UsageError(f"--{name.replace('_', '-')} is for a model that is quantized here; MODEL.dynq is")
