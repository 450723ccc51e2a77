"""Read the models and inputs that commands are given, in files or options."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, get_args

import click
import numpy as np

from ..core import files
from ..core.names import near
from ..graph import Graph
from ..importers import onnx, tflite, torch
from ..model import Model
from .options import trusted
from .output import refused

__all__ = [
    "MODELS",
    "input_shape",
    "input_shapes",
    "input_value",
    "input_values",
    "is_source",
    "named",
    "numerics_option",
    "random_shapes",
    "read_floating",
    "read_graph",
]

_SUFFIXES = (".onnx", ".pt2", ".tflite")  # of what read_graph reads
MODELS = "|".join(f"MODEL{suffix}" for suffix in _SUFFIXES)

input_value = click.option(
    "--input-value", "values", multiple=True, metavar="NAME=16000", help="An input of the same value in every run."
)
input_shape = click.option(
    "--input-shape",
    "fixed",
    multiple=True,
    metavar="NAME=1x576",
    help="Set sizes that the model leaves open; ? keeps one open.",
)
numerics_option = click.option(
    "--numerics", type=click.Choice(get_args(tflite.Numerics)), default="dynq", show_default=True,
    help="How the int8 layers of a .tflite file compute: tflite as its reference kernels.",
)  # fmt: skip


def is_source(file: Path) -> bool:
    """Return whether a file is a model of another format, which read_graph reads."""
    return file.suffix in _SUFFIXES or files.kind(file) in ("onnx", "zip")


def read_graph(
    source: Path, values: dict[str, Any], shapes: dict[str, list[int | None]], numerics: tflite.Numerics = "dynq"
) -> Graph:
    """Return the model of a file before the passes."""
    if source.suffix in (".pt2", ".tflite"):
        if values or shapes:
            kind = f"a {source.suffix} file has its inputs"
            raise click.UsageError(f"--input-value and --input-shape are for ONNX models; {kind}")
        return (
            torch.to_graph(source, trust=trusted())
            if source.suffix == ".pt2"
            else tflite.to_graph(source, None, numerics)
        )
    return onnx.to_graph(source, values, shapes)


def read_floating(source: Path, values: dict[str, Any], fixed: dict[str, list[int | None]]) -> Model:
    """Return the model of a file in float32."""
    return refused(lambda: read_graph(source, values, fixed).build(quantize=False))


def input_values(texts: tuple[str, ...]) -> dict[str, Any]:
    """Read NAME=VALUE: a number, true or false, or JSON's lists of them."""
    result = {}
    for text in texts:
        name, _, value = text.rpartition("=")
        try:
            result[name] = np.asarray(json.loads(value))
        except ValueError:
            raise click.UsageError(f"--input-value {text}: expected NAME=16000, or NAME=[1,2]") from None
    return result


def input_shapes(texts: tuple[str, ...]) -> dict[str, list[int | None]]:
    """Read NAME=1x576; ? leaves a size open."""
    result: dict[str, list[int | None]] = {}
    for text in texts:
        name, _, dims = text.rpartition("=")
        parts = dims.lower().split("x")
        if not all(part == "?" or part.isdecimal() for part in parts) or len(dims) > 100:
            raise click.UsageError(f"--input-shape {text}: expected NAME=1x576, ? for a size that stays open")
        result[name] = [None if part == "?" else int(part) for part in parts]
    return result


def random_shapes(texts: tuple[str, ...], model: Model) -> dict[str, tuple[int, ...]]:
    """Return the shapes that --shape gives, by the names of inputs."""
    wanted = {}
    for text in texts:
        name, dims = named(text, model, "--shape")
        if not all(part.isdecimal() for part in dims.lower().split("x")) or len(dims) > 100:
            raise click.UsageError(f"--shape {text}: expected sizes like 1x128")
        wanted[name] = tuple(int(part) for part in dims.lower().split("x"))
    return wanted


def named(text: str, model: Model, option: str) -> tuple[str, str]:
    """Read NAME=VALUE; the name may be left out if there is one input."""
    names = [value.name for value in model.inputs]
    for name in names:
        if text.startswith(f"{name}="):
            return name, text[len(name) + 1 :]
    if len(names) == 1 and ("=" not in text or os.path.exists(text)):
        return names[0], text
    like = near(text.rpartition("=")[0] or text, names)
    raise click.UsageError(f"{option} {text}: expected NAME=..., NAME one of {', '.join(names)}{like}")
