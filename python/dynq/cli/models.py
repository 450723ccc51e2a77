"""The commands about whole models: quantize, inspect, run, compare, export."""

from __future__ import annotations

import dataclasses
import functools
import time
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, get_args

import click
import numpy as np
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from ..core import files
from ..core.arguments import Array
from ..errors import Error
from ..exporters.onnx import Form, export_onnx
from ..exporters.tflite import export_tflite
from ..importers.tflite import Numerics
from ..model import Model, ModelValue, load, notes_of
from ..report import Row
from ..runs import random_input
from ..verification import verify
from .decoders import is_decoder, quantize_decoder
from .options import (
    build_options,
    existing_file,
    output_file,
    quantization_options,
    threads_option,
    trust_option,
)
from .output import console, json_option, print_json, refused, say
from .reference import float_runtime
from .sources import (
    MODELS,
    input_shape,
    input_shapes,
    input_value,
    input_values,
    is_source,
    named,
    numerics_option,
    random_shapes,
    read_floating,
    read_graph,
)
from .static import run as run_static
from .static import static_options

__all__ = ["compare", "export", "inspect", "quantize", "run"]

_SHOWN = 4  # nodes that are shown if they stayed float for one reason


@click.command()
@click.argument("source", metavar=f"{MODELS}|FOLDER", type=click.Path(exists=True, path_type=Path))
@click.option("-o", "--output", required=True, metavar="MODEL.dynq", type=output_file)
@quantization_options
@click.option("--no-quantize", is_flag=True, help="Leave everything in float32.")
@click.option("--explain", is_flag=True, help="Show what was measured of each layer, and the alternatives.")
@input_value
@input_shape
@numerics_option
@trust_option
@json_option
def quantize(
    source: Path, output: Path, no_quantize: bool, explain: bool, values: tuple[str, ...], fixed: tuple[str, ...],
    numerics: Numerics, as_json: bool,
    **options: Any,
) -> None:  # fmt: skip
    """Make a .dynq file of a model of ONNX or TensorFlow Lite, or of a program that torch.export.save wrote.

    Of a folder of transformers, or a GGUF file, it makes a decoder that generates text.
    """
    if numerics != "dynq" and source.suffix != ".tflite":
        raise click.UsageError(f"--numerics {numerics} is for .tflite files")
    if is_decoder(source):
        quantize_decoder(source, output, not no_quantize, options, as_json)
        return
    errors = console(error=True)
    with Progress(
        TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(),
        console=errors, transient=True, disable=as_json or not errors.is_terminal,
    ) as progress:  # fmt: skip
        task = progress.add_task("reading", total=3)
        graph = refused(lambda: read_graph(source, input_values(values), input_shapes(fixed), numerics))
        progress.update(task, description="quantizing" if not no_quantize else "packing", advance=1)
        given = refused(lambda: build_options(graph, options))
        model = refused(lambda: graph.build(quantize=not no_quantize, **given))
        progress.update(task, description="writing", advance=1)
        try:
            model.save(output)
        except OSError as error:
            raise Error(f"{output} cannot be written: {error.strerror}") from error
        progress.update(task, advance=1)
    report = model.report()
    kept = report.kept_float
    before, after = _size_with_data(source), output.stat().st_size
    if as_json:
        facts = {"bytes_before": before, "bytes_after": after, "ops": _ops(model)}
        floats = [{"node": row.node, "became": row.became, "why": row.why} for row in kept]
        choices = [{"node": row.node, **dataclasses.asdict(row.choice)} for row in report.rows if row.choice]
        print_json({**facts, "kept_float": floats, **({"choices": choices} if explain else {})})
        return
    table = Table("", "before", "after", title=f"{source.name} -> {output.name}", title_justify="left")
    table.add_row("file", _size(before), f"{_size(after)} ({before / max(after, 1):.1f} x smaller)")
    table.add_row("weights", _size(report.bytes_before), _size(report.bytes_after))
    table.add_row("nodes", str(len(graph.nodes)), str(len(model.nodes)))
    page = console()
    page.print(table)
    page.print(_ops_table(model))
    if kept:
        page.print(_floats_table(kept))
    if explain:
        page.print(_choices_table(report.rows))


def _nodes_table(model: Model) -> Table:
    """Return a table of the nodes, with the shapes of their constants."""
    table = Table("node", "op", "constants")
    table.columns[0].overflow = "fold"
    for node in model.graph().nodes:
        shapes = [_dims(value.shape or ()) for value in node.inputs if value is not None and value.constant is not None]
        table.add_row(node.name, node.op, ", ".join(shapes))
    return table


def _choices_table(rows: tuple[Row, ...]) -> Table:
    """Return a table of what was measured: ratios in dB, and each other form with its ratio and its cost."""
    table = Table("measured", "became", "own dB as int8", "outputs dB", "alternatives")
    table.columns[0].overflow = table.columns[4].overflow = "fold"
    for row in rows:
        if (choice := row.choice) is not None:
            others = [
                f"{form} {ratio:g} dB, +{time:.1%} time" + f", +{_size(size)}" * (size > 0)
                for form, ratio, time, size in choice.others
            ]
            at_outputs = "" if choice.output is None else f"{choice.output:g}"
            table.add_row(row.node, row.became, f"{choice.own:g}", at_outputs, "; ".join(others))
    return table


def _floats_table(rows: tuple[Row, ...]) -> Table:
    """Return a table of what stayed float, by kind and reason."""
    reasons: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        reasons.setdefault((row.kind, row.why), []).append(row.node)
    table = Table("stayed float", "why", "nodes")
    table.columns[2].overflow = "fold"
    for (what, why), nodes in reasons.items():
        more = f" and {len(nodes) - _SHOWN} more" if len(nodes) > _SHOWN else ""
        table.add_row(what, why, ", ".join(nodes[:_SHOWN]) + more)
    return table


@click.command()
@click.argument("file", metavar="MODEL.dynq", type=existing_file)
@click.option("-o", "--output", required=True, metavar="MODEL.onnx|MODEL.tflite", type=output_file)
@click.option(
    "--form", type=click.Choice(get_args(Form)), default="dynamic", show_default=True,
    help="Write integer layers (dynamic), int8 weights that are dequantized (qdq), or dynq's ops (dynq), which ONNX "
    "Runtime runs with the library of dynq.ort_library().",
)  # fmt: skip
@click.option("--granularity", type=click.Choice(["tensor"]), help="Use one range for all rows of a layer's input.")
@click.option("--external-data", is_flag=True, help="Put the weights into a file of their own.")
def export(file: Path, output: Path, form: Form, granularity: Literal["tensor"] | None, external_data: bool) -> None:
    """Write a .dynq file as an ONNX file, or as a TensorFlow Lite file if OUTPUT ends with .tflite."""
    to_tflite = output.suffix == ".tflite"
    if to_tflite and (form != "dynamic" or granularity is not None or external_data):
        raise click.UsageError(
            "--form, --granularity and --external-data are for ONNX files; a .tflite file has one form"
        )
    model = load(file)
    try:
        if to_tflite:
            refused(lambda: export_tflite(model, output))
        else:
            data_apart = True if external_data else None
            refused(lambda: export_onnx(model, output, form=form, granularity=granularity, external_data=data_apart))
    except OSError as error:
        raise Error(f"{output} cannot be written: {error.strerror}") from error
    data = Path(f"{output}.data")
    beside = f" and {data.name}, {_size(data.stat().st_size)}" if external_data and data.exists() else ""
    say(f"{file.name} -> {output.name}, {_size(output.stat().st_size)}{beside}")


@click.command()
@click.argument("file", metavar=f"MODEL.dynq|{MODELS}", type=existing_file)
@click.option("--verify", is_flag=True, help="Read the whole file and compare its checksums.")
@input_value
@input_shape
@trust_option
@json_option
def inspect(file: Path, verify: bool, values: tuple[str, ...], fixed: tuple[str, ...], as_json: bool) -> None:
    """Show what a .dynq file holds, or an ONNX model or a program before it is quantized.

    The names of nodes of such a model are those that --keep-float and --int16 of `dynq quantize` take.
    """
    is_made = not is_source(file)
    if verify and not is_made:
        raise click.UsageError("--verify is for .dynq files, which have checksums")
    if is_made and (values or fixed):
        raise click.UsageError("--input-value and --input-shape are for ONNX models; a .dynq file has its inputs")
    model = load(file) if is_made else read_floating(file, input_values(values), input_shapes(fixed))
    verified = _verify(file, model) if verify else None
    if as_json:
        facts = {
            "bytes": model.nbytes if is_made else _size_with_data(file),
            "inputs": [_facts(value) for value in model.inputs],
            "outputs": [_facts(value) for value in model.outputs],
            "nodes": [{"name": name, "op": op} for name, op in model.nodes],
            "ops": _ops(model),
        }
        print_json({**facts, **({} if verified is None else {"crc32": verified})})
        return
    page = console()
    size = model.nbytes if is_made else _size_with_data(file)
    table = Table("", "name", "dtype", "shape", title=f"{file.name}, {_size(size)}", title_justify="left")
    for kind, listed in (("input", model.inputs), ("output", model.outputs)):
        for value in listed:
            table.add_row(kind, value.name, value.dtype or "?", _shape_text(value))
    page.print(table)
    page.print(_ops_table(model))
    page.print(model.report() if is_made else _nodes_table(model))
    if verified is not None:
        page.print(f"checksum {verified}: right")


@click.command()
@click.argument("file", metavar="MODEL.dynq", type=existing_file)
@click.option("--input", "inputs", multiple=True, metavar="NAME=FILE.npy", help="An input; may be repeated.")
@click.option(
    "--shape", "shapes", multiple=True, metavar="NAME=1x128", help="A random input of this shape; may be repeated."
)
@click.option("--seed", default=0, show_default=True, help="The seed of random inputs.")
@click.option("--output", metavar="FILE.npz", type=output_file, help="Save the outputs.")
@click.option(
    "--repeat", type=click.IntRange(1), default=1, show_default=True, help="Run this often, and show the median time."
)
@threads_option
@json_option
def run(
    file: Path, inputs: tuple[str, ...], shapes: tuple[str, ...], seed: int, output: Path | None, repeat: int,
    as_json: bool,
) -> None:  # fmt: skip
    """Run a .dynq file on arrays, or on random ones of given shapes."""
    model = load(file)
    given = _inputs(model, inputs, shapes, seed)
    results, seconds = _timed(lambda: model.run(given), repeat)
    if output is not None:
        try:
            _save(output, results)
        except OSError as error:
            raise Error(f"{output} cannot be written: {error.strerror}") from error
    if as_json:
        facts = {name: {"dtype": a.dtype.name, "shape": list(a.shape), **_summary(a)} for name, a in results.items()}
        print_json({"seconds": seconds, "outputs": facts})
        return
    table = Table("output", "dtype", "shape", "min", "mean", "max", title=f"{seconds * 1e3:.3f} ms, median of {repeat}")
    for name, array in results.items():
        numbers = _summary(array)
        table.add_row(name, array.dtype.name, _dims(array.shape), *(f"{numbers[key]:.6g}" for key in numbers))
    page = console()
    page.print(table)
    for name, array in results.items():
        page.print(f"{name}: {np.array2string(array, threshold=12, edgeitems=3)}")


@click.command()
@click.argument("source", metavar=MODELS, type=existing_file)
@click.argument("file", metavar="MODEL.dynq", type=existing_file)
@click.option("--input", "inputs", multiple=True, metavar="NAME=FILE.npy", help="An input; may be repeated.")
@click.option(
    "--shape", "shapes", multiple=True, metavar="NAME=1x128", help="A random input of this shape; may be repeated."
)
@click.option("--seed", default=0, show_default=True, help="The seed of random inputs.")
@click.option(
    "--repeat", type=click.IntRange(1), default=10, show_default=True, help="Run this often, and show the median time."
)
@threads_option
@static_options
@input_value
@input_shape
@trust_option
@json_option
def compare(
    source: Path, file: Path, inputs: tuple[str, ...], shapes: tuple[str, ...], seed: int, repeat: int,
    values: tuple[str, ...], fixed: tuple[str, ...], as_json: bool, static: bool, **options: Any,
) -> None:  # fmt: skip
    """Compare a .dynq file with the float model that it was made from."""
    model = load(file)
    if static:
        if options["files"] and (inputs or shapes):
            raise click.UsageError(f"--{'input' if inputs else 'shape'} gives other inputs than --samples; choose one")
        run_static(
            lambda: read_floating(source, input_values(values), input_shapes(fixed)),
            model,
            lambda seed: _inputs(model, inputs, shapes, seed),
            seed=seed,
            repeat=repeat,
            as_json=as_json,
            **options,
        )
        return
    if wrong := [name for name, value in options.items() if value]:
        option = {"files": "samples", "others": "other", "gains": "gain", "noises": "noise"}.get(wrong[0], wrong[0])
        raise click.UsageError(f"--{option} goes with --static")
    given = _inputs(model, inputs, shapes, seed)
    runtime, floats = float_runtime(source, given, input_values(values), input_shapes(fixed))
    expected, float_seconds = _timed(floats, repeat)
    results, seconds = _timed(lambda: model.run(given), repeat)
    rows = [(name, *_difference(name, results[name], expected)) for name in results]
    if as_json:
        outputs = {name: {"cosine": cosine, "max_error": error} for name, cosine, error in rows}
        print_json({"float": runtime, "float_seconds": float_seconds, "seconds": seconds, "outputs": outputs})
        return
    table = Table("output", "shape", "cosine", "max error", title=f"{file.name} beside {source.name} in {runtime}")
    for name, cosine, error in rows:
        table.add_row(name, _dims(results[name].shape), f"{cosine:.6f}", f"{error:.6g}")
    page = console()
    page.print(table)
    page.print(
        f"float32 {float_seconds * 1e3:.3f} ms ({runtime}), dynq {seconds * 1e3:.3f} ms: "
        f"{float_seconds / max(seconds, 1e-12):.2f} x; medians of {repeat}"
    )


def _difference(name: str, got: Array, expected: dict[str, Array]) -> tuple[float, float]:
    """Return the cosine, and the largest absolute error."""
    if name not in expected:
        raise Error(f"the float model has no output {name!r}; it has {', '.join(expected)}")
    a, b = np.asarray(got, np.float64).reshape(-1), np.asarray(expected[name], np.float64).reshape(-1)
    if got.shape != expected[name].shape:
        raise Error(f"output {name!r} has shape {got.shape}; the float model gives {expected[name].shape}")
    if a.size == 0:
        return 1.0, 0.0
    norms = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / norms if norms else float(np.array_equal(a, b)), float(np.abs(a - b).max())


def _inputs(model: Model, files: tuple[str, ...], shapes: tuple[str, ...], seed: int) -> dict[str, Array]:
    """Return the inputs that the options give. Other inputs get the open sizes that inputs with the same names have."""
    by_name = {value.name: value for value in model.inputs}
    given: dict[str, Array] = {}
    for text in files:
        name, path = named(text, model, "--input")
        if not Path(path).is_file():
            names = [value.name for value in model.inputs]
            what = f"expected {name}=FILE.npy" if path in ("", *names) else f"there is no file {path!r}"
            raise click.UsageError(f"--input {text}: {what}, an array that numpy.save wrote")
        try:
            array = np.load(path, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise Error(f"{path} is not an array that can be read: {error}") from error
        if not isinstance(array, np.ndarray):
            array.close()
            raise Error(f"{path} is an .npz file; expected one array, as numpy.save writes it")
        given[name] = array
    wanted = random_shapes(shapes, model)
    sizes: dict[str, int] = {}
    for name in given.keys() | wanted.keys():
        shape = given[name].shape if name in given else wanted[name]
        expected = by_name[name]
        if len(shape) != len(expected.shape or ()):
            raise click.UsageError(f"input {name!r} has shape {_dims(shape)}; expected {_shape_text(expected)}")
        sizes.update((d, n) for d, n in zip(by_name[name].shape or (), shape, strict=False) if isinstance(d, str))
    rng = np.random.default_rng(seed)
    graph = functools.cache(model.graph)
    for value in model.inputs:
        if value.name in given:
            continue
        dims_of = wanted.get(value.name)
        if dims_of is None:
            open_sizes = [d for d in value.shape or () if isinstance(d, str) and d not in sizes]
            if open_sizes or None in (value.shape or ()):
                raise click.UsageError(
                    f"input {value.name!r} has shape {_shape_text(value)}: give --input or --shape {value.name}=..."
                )
            dims_of = tuple(sizes[d] if isinstance(d, str) else int(d or 0) for d in value.shape or ())
        given[value.name] = random_input(graph, value, dims_of, rng)
    return given


def _timed(function: Callable[[], dict[str, Array]], repeat: int) -> tuple[dict[str, Array], float]:
    """Return the result, and the median of the seconds. If there are several runs, the first, which plans, does not
    count.
    """
    result = refused(function) if repeat > 1 else {}
    seconds = []
    for _ in range(repeat):
        start = time.perf_counter()
        result = refused(function)
        seconds.append(time.perf_counter() - start)
    return result, float(np.median(seconds))


def _verify(file: Path, model: Model) -> str:
    verify(file)
    return str(notes_of(model).get("crc32"))


def _ops(model: Model) -> dict[str, int]:
    return dict(Counter(op for _, op in model.nodes).most_common())


def _ops_table(model: Model) -> Table:
    table = Table("op", "nodes")
    for op, count in _ops(model).items():
        table.add_row(op, str(count))
    return table


def _facts(value: ModelValue) -> dict[str, Any]:
    return {"name": value.name, "dtype": value.dtype, "shape": None if value.shape is None else list(value.shape)}


def _save(path: Path, arrays: dict[str, Array]) -> None:
    """Write an .npz file. np.savez takes no array by the name of one of its own arguments."""
    with files.replacing(path) as target, zipfile.ZipFile(target, "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array(file, array, allow_pickle=False)


def _summary(array: Array) -> dict[str, float]:
    if array.size == 0:
        return {"min": 0.0, "mean": 0.0, "max": 0.0}
    wide = array.astype(np.float64)
    return {"min": float(wide.min()), "mean": float(wide.mean()), "max": float(wide.max())}


def _shape_text(value: ModelValue) -> str:
    return "?" if value.shape is None else _dims(value.shape)


def _dims(shape: tuple[Any, ...]) -> str:
    return " x ".join("?" if dim is None else str(dim) for dim in shape) or "number"


def _size(size: int) -> str:
    return f"{size / 2**20:,.1f} MiB" if size >= 2**20 else f"{size / 1024:,.1f} KiB"


def _size_with_data(source: Path) -> int:
    """Return the bytes of a model and of the files with its external data."""
    if source.suffix in (".pt2", ".tflite"):
        return source.stat().st_size
    from ..importers.onnx.source import data_files

    return source.stat().st_size + sum(path.stat().st_size for path in data_files(source))
