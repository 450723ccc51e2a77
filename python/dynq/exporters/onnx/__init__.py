"""ONNX: a table from each of dynq's ops to standard operators; what they cannot express is refused."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from ..._arguments import choice
from ...errors import MissingPackageError, UnsupportedModelError
from ...model import Model

if TYPE_CHECKING:
    from ...graph import Graph

__all__ = ["export_onnx"]

_FORMS = {"dynamic": "dynamic", "qdq": "qdq"}


def export_onnx(
    model: Model | Graph,
    path: str | os.PathLike[str],
    *,
    form: str = "dynamic",
    granularity: str | None = None,
    external_data: bool | None = None,
) -> None:
    """Write a standard ONNX file, opset 18, which ONNX's checker has accepted. Needs ``pip install 'dynq[onnx]'``.

    Args:
        model: a model, or a graph with outputs (``graph.output(y)``), whose layers that are not quantized are float.
        path: of the file; it appears under its name when it is complete.
        form: "dynamic": int8 layers stay integer, and their inputs are quantized while the model runs, with dynq's
            bits where ONNX's operators are exact. "qdq": weights are int8 and go through DequantizeLinear, a scale for
            each output channel; the rest is float: what most runtimes for other hardware read.
        granularity: of form "dynamic": None: the ranges that each layer has in dynq; "tensor": one for all rows, by
            DynamicQuantizeLinear.
        external_data: True: weights lie in a second file, ``path`` with ``.data``; None: where they exceed 1.9 GB.

    Raises:
        UnsupportedModelError: the model holds what ONNX does not express; the error lists all of it.
        MissingPackageError: the package onnx is not installed.
    """
    from ...graph import Graph

    choice("form", form, _FORMS)
    if granularity not in (None, "tensor"):
        raise ValueError(f"granularity is {granularity!r}; expected None, as the model has it, or 'tensor'")
    if granularity is not None and form != "dynamic":
        raise ValueError(
            f"granularity is {granularity!r} and form {form!r}; inputs are quantized in form 'dynamic' alone"
        )
    if external_data not in (None, True, False):
        raise TypeError(f"external_data is {external_data!r}; expected True, False or None")
    if not isinstance(model, (Model, Graph)):
        raise TypeError(f"model is of type {type(model).__name__}; expected a dynq.Model or a dynq.Graph")
    name = os.fspath(path)
    try:
        import onnx  # noqa: F401
    except ImportError as error:
        raise MissingPackageError(f"{error.name} is missing; install it: pip install 'dynq[onnx]'") from error
    from .write import draft, write

    graph = model.graph() if isinstance(model, Model) else model.copy()
    graph.validate()
    made = draft(graph, form, granularity)
    if made.problems.found:
        lines = ["the model holds what ONNX does not express:"]
        lines += [f"  {what}: {', '.join(map(repr, nodes))}" for what, nodes in made.problems.found.items()]
        raise UnsupportedModelError("\n".join(lines), made.problems.found)
    write(made, name, external_data)
