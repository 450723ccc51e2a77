"""The commands about whole models: quantize, inspect, run, compare, export."""

from __future__ import annotations

import functools
import json
import os
import time
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from ._arguments import Array
from ._report import console, json_option, print_json
from .accuracy.static_command import static_options
from .errors import Error, FileFormatError
from .model import Model, ModelValue, load
from .quantization_options import build_options, existing_file, quantization_options
from .random_inputs import random_input
from .report import Row

if TYPE_CHECKING:
    from .graph import Graph

__all__ = ["compare", "export", "inspect", "quantize", "run"]

_NUMPY = {"tensor(float)": "float32", "tensor(int64)": "int64", "tensor(int32)": "int32", "tensor(bool)": "bool"}
_SHOWN = 4  # nodes that stayed float for one reason
_input_value = click.option(
    "--input-value", "values", multiple=True, metavar="NAME=16000", help="An input of the same value in every run."
)
_input_shape = click.option(
    "--input-shape", "fixed", multiple=True, metavar="NAME=1x576", help="Sizes left open; ? leaves one."
)


@click.command()
@click.argument("source", metavar="MODEL.onnx|MODEL.pt2", type=existing_file)
@click.option("-o", "--output", required=True, metavar="MODEL.dynq", type=click.Path(dir_okay=False, path_type=Path))
@quantization_options
@click.option("--no-quantize", is_flag=True, help="Leave everything in float32.")
@_input_value
@_input_shape
@json_option
def quantize(
    source: Path, output: Path, no_quantize: bool, values: tuple[str, ...], fixed: tuple[str, ...], as_json: bool,
    **options: Any,
) -> None:  # fmt: skip
    """Make a .dynq file of an ONNX model, or of a program that torch.export.save wrote."""
    errors = Console(stderr=True)
    with Progress(
        TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(),
        console=errors, transient=True, disable=as_json or not errors.is_terminal,
    ) as progress:  # fmt: skip
        task = progress.add_task("reading", total=3)
        graph = _refused(lambda: _graph(source, _input_values(values), _input_shapes(fixed)))
        progress.update(task, description="quantizing" if not no_quantize else "packing", advance=1)
        given = _refused(lambda: build_options(graph, options))
        model = _refused(lambda: graph.build(quantize=not no_quantize, **given))
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
        print_json({**facts, "kept_float": floats})
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


def _graph(source: Path, values: dict[str, Any], shapes: dict[str, list[int | None]]) -> Graph:
    """The model of a file before the passes."""
    if source.suffix == ".pt2":
        from .importers import torch

        if values or shapes:
            raise click.UsageError("--input-value and --input-shape are for ONNX models; a .pt2 file has its inputs")
        return torch.to_graph(source)
    from .importers import onnx

    return onnx.to_graph(source, values, shapes)


def _input_values(texts: tuple[str, ...]) -> dict[str, Any]:
    """NAME=VALUE: a number, true or false, or JSON's lists of them."""
    result = {}
    for text in texts:
        name, _, value = text.rpartition("=")
        try:
            result[name] = np.asarray(json.loads(value))
        except ValueError:
            raise click.UsageError(f"--input-value {text}: expected NAME=16000, or NAME=[1,2]") from None
    return result


def _input_shapes(texts: tuple[str, ...]) -> dict[str, list[int | None]]:
    """NAME=1x576; ? leaves a size open."""
    result: dict[str, list[int | None]] = {}
    for text in texts:
        name, _, dims = text.rpartition("=")
        parts = dims.lower().split("x")
        if not all(part == "?" or part.isdecimal() for part in parts) or len(dims) > 100:
            raise click.UsageError(f"--input-shape {text}: expected NAME=1x576, ? for a size that stays open")
        result[name] = [None if part == "?" else int(part) for part in parts]
    return result


def _floats_table(rows: tuple[Row, ...]) -> Table:
    """What stayed float, by kind and reason."""
    reasons: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        reasons.setdefault((row.became.removeprefix("float "), row.why), []).append(row.node)
    table = Table("stayed float", "why", "nodes")
    table.columns[2].overflow = "fold"
    for (what, why), nodes in reasons.items():
        more = f" and {len(nodes) - _SHOWN} more" if len(nodes) > _SHOWN else ""
        table.add_row(what, why, ", ".join(nodes[:_SHOWN]) + more)
    return table


@click.command()
@click.argument("file", metavar="MODEL.dynq", type=existing_file)
@click.option("-o", "--output", required=True, metavar="MODEL.onnx", type=click.Path(dir_okay=False, path_type=Path))
@click.option(
    "--form", type=click.Choice(["dynamic", "qdq"]), default="dynamic", show_default=True,
    help="Integer layers, or int8 weights that are dequantized.",
)  # fmt: skip
@click.option("--granularity", type=click.Choice(["tensor"]), help="One range for all rows of a layer's input.")
@click.option("--external-data", is_flag=True, help="Put the weights into a file of their own.")
def export(file: Path, output: Path, form: str, granularity: str | None, external_data: bool) -> None:
    """Write a .dynq file as a standard ONNX file."""
    from .exporters.onnx import export_onnx

    model = load(file)
    try:
        _refused(
            lambda: export_onnx(
                model, output, form=form, granularity=granularity, external_data=True if external_data else None
            )
        )
    except OSError as error:
        raise Error(f"{output} cannot be written: {error.strerror}") from error
    data = Path(f"{output}.data")
    beside = f" and {data.name}, {_size(data.stat().st_size)}" if external_data and data.exists() else ""
    click.echo(f"{file.name} -> {output.name}, {_size(output.stat().st_size)}{beside}")


@click.command()
@click.argument("file", metavar="MODEL.dynq", type=existing_file)
@click.option("--verify", is_flag=True, help="Read all of it and compare its checksum.")
@json_option
def inspect(file: Path, verify: bool, as_json: bool) -> None:
    """Show what a .dynq file holds."""
    model = load(file)
    verified = _verify(file, model) if verify else None
    report = model.report()
    if as_json:
        facts = {
            "bytes": model.nbytes,
            "inputs": [_facts(value) for value in model.inputs],
            "outputs": [_facts(value) for value in model.outputs],
            "nodes": [{"name": name, "op": op} for name, op in model.nodes],
            "ops": _ops(model),
        }
        print_json({**facts, **({} if verified is None else {"crc32": verified})})
        return
    page = console()
    table = Table("", "name", "dtype", "shape", title=f"{file.name}, {_size(model.nbytes)}", title_justify="left")
    for kind, values in (("input", model.inputs), ("output", model.outputs)):
        for value in values:
            table.add_row(kind, value.name, value.dtype or "?", _shape_text(value))
    page.print(table)
    page.print(_ops_table(model))
    page.print(report)
    if verified is not None:
        page.print(f"checksum {verified}: right")


@click.command()
@click.argument("file", metavar="MODEL.dynq", type=existing_file)
@click.option("--input", "inputs", multiple=True, metavar="NAME=FILE.npy", help="An input; again for each.")
@click.option("--shape", "shapes", multiple=True, metavar="NAME=1x128", help="A random input of this shape.")
@click.option("--seed", default=0, show_default=True, help="Of random inputs.")
@click.option("--output", metavar="FILE.npz", type=click.Path(dir_okay=False, path_type=Path), help="Save the outputs.")
@click.option("--repeat", type=click.IntRange(1), default=1, show_default=True, help="Runs; the median is shown.")
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
@click.argument("source", metavar="MODEL.onnx|MODEL.pt2", type=existing_file)
@click.argument("file", metavar="MODEL.dynq", type=existing_file)
@click.option("--input", "inputs", multiple=True, metavar="NAME=FILE.npy", help="An input; again for each.")
@click.option("--shape", "shapes", multiple=True, metavar="NAME=1x128", help="A random input of this shape.")
@click.option("--seed", default=0, show_default=True, help="Of random inputs.")
@click.option("--repeat", type=click.IntRange(1), default=10, show_default=True, help="Runs; the median is shown.")
@static_options
@_input_value
@_input_shape
@json_option
def compare(
    source: Path, file: Path, inputs: tuple[str, ...], shapes: tuple[str, ...], seed: int, repeat: int,
    values: tuple[str, ...], fixed: tuple[str, ...], as_json: bool, static: bool, **options: Any,
) -> None:  # fmt: skip
    """Compare a .dynq file with the float model that it was made of."""
    model = load(file)
    if static:
        from .accuracy.static_command import run as run_static

        if options["files"] and (inputs or shapes):
            raise click.UsageError(f"--{'input' if inputs else 'shape'} gives other inputs than --samples; choose one")
        run_static(
            lambda: _floating(source, _input_values(values), _input_shapes(fixed)),
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
    runtime, floats = _float_runtime(source, given, _input_values(values), _input_shapes(fixed))
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


def _floating(source: Path, values: dict[str, Any], fixed: dict[str, list[int | None]]) -> Model:
    model: Model = _refused(lambda: _graph(source, values, fixed).build(quantize=False))
    return model


def _float_runtime(
    source: Path, given: dict[str, Array], values: dict[str, Any], fixed: dict[str, list[int | None]]
) -> tuple[str, Callable[[], dict[str, Array]]]:
    """ONNX Runtime with as many threads as dynq, or dynq itself in float32 where that is not installed or the model is
    not from ONNX."""
    from .threads import get_num_threads

    if source.suffix == ".pt2":
        program = _floating(source, values, fixed)
        return "dynq in float32", lambda: program.run(given)
    try:
        import onnxruntime
    except ImportError:
        model = _floating(source, values, fixed)
        return "dynq in float32 (onnxruntime is not installed)", lambda: model.run(given)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = get_num_threads()
    try:
        session = onnxruntime.InferenceSession(str(source), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its exceptions have no base of their own
        raise Error(f"ONNX Runtime cannot read {source}: {error}") from error
    names = [output.name for output in session.get_outputs()]
    wanted = {value.name: value.type for value in session.get_inputs()}
    for name in values.keys() & wanted.keys():
        given = {**given, name: values[name].astype(_NUMPY.get(wanted[name], values[name].dtype))}
    if missing := wanted.keys() - given.keys():
        raise Error(f"{source} has the inputs {', '.join(sorted(missing))}, which the .dynq file has not")
    feed = {name: array for name, array in given.items() if name in wanted}
    return "ONNX Runtime", lambda: dict(zip(names, session.run(names, feed), strict=True))


def _difference(name: str, got: Array, expected: dict[str, Array]) -> tuple[float, float]:
    """Cosine, and the largest absolute error."""
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
    """The inputs as the options tell; others of open sizes get those that equal names have."""
    by_name = {value.name: value for value in model.inputs}
    given: dict[str, Array] = {}
    for text in files:
        name, path = _named(text, model, "--input")
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


def random_shapes(texts: tuple[str, ...], model: Model) -> dict[str, tuple[int, ...]]:
    """What --shape says, by the names of inputs."""
    wanted = {}
    for text in texts:
        name, dims = _named(text, model, "--shape")
        if not all(part.isdecimal() for part in dims.lower().split("x")) or len(dims) > 100:
            raise click.UsageError(f"--shape {text}: expected sizes like 1x128")
        wanted[name] = tuple(int(part) for part in dims.lower().split("x"))
    return wanted


def _named(text: str, model: Model, option: str) -> tuple[str, str]:
    """NAME=VALUE; the name may be left out where there is one input."""
    names = [value.name for value in model.inputs]
    for name in names:
        if text.startswith(f"{name}="):
            return name, text[len(name) + 1 :]
    if len(names) == 1 and ("=" not in text or os.path.exists(text)):
        return names[0], text
    raise click.UsageError(f"{option} {text}: expected NAME=..., NAME one of {', '.join(names)}")


def _timed(function: Callable[[], dict[str, Array]], repeat: int) -> tuple[dict[str, Array], float]:
    """The result, and the median of the seconds; the first run, which plans, does not count where there are more."""
    result = _refused(function) if repeat > 1 else {}
    seconds = []
    for _ in range(repeat):
        start = time.perf_counter()
        result = _refused(function)
        seconds.append(time.perf_counter() - start)
    return result, float(np.median(seconds))


def _refused(function: Callable[[], Any]) -> Any:
    """What a model or its inputs get wrong is the user's to mend: no traceback."""
    try:
        return function()
    except Error:
        raise
    except (ValueError, TypeError) as error:
        raise Error(str(error)) from error


def _verify(file: Path, model: Model) -> str:
    from .graph.image import crc32

    image = model._image
    data = image[8 + int.from_bytes(image[:8].tobytes(), "little") :]
    plan_bytes = int.from_bytes(data[16:24].tobytes(), "little")
    expected, got = model._notes().get("crc32"), f"{crc32(data[plan_bytes:]):08x}"
    if expected is None:
        raise FileFormatError(f"{file} has no checksum of its data")
    if got != expected:
        raise FileFormatError(f"{file} is damaged: the checksum of its data is {got}; expected {expected}")
    return got


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
    """An .npz file. np.savez takes no array by the name of one of its own arguments."""
    with zipfile.ZipFile(path, "w") as archive:
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
    """Bytes of a model and of the files with its external data."""
    if source.suffix == ".pt2":
        return source.stat().st_size
    import onnx

    model = onnx.load_model(source, load_external_data=False)
    names: set[str] = {
        str(entry.value)
        for tensor in model.graph.initializer
        for entry in tensor.external_data
        if entry.key == "location" and tensor.data_location == onnx.TensorProto.EXTERNAL
    }
    size: int = source.stat().st_size + sum((source.parent / name).stat().st_size for name in names)
    return size
