"""Export to ONNX: a table maps each of dynq's ops to standard operators. What they cannot express is refused.

In form "dynq" layers of integers are dynq's own ops, which ONNX Runtime gets from the C library.
"""

from __future__ import annotations

import os
from typing import Literal, get_args

from ...core.arguments import choice
from ...core.call import library_path
from ...errors import MissingPackageError
from ...ir.graph import Graph
from ...model import Model

__all__ = ["Form", "export_onnx", "ort_library"]

Form = Literal["dynamic", "qdq", "dynq"]
_FORMS = get_args(Form)


def export_onnx(
    model: Model | Graph,
    path: str | os.PathLike[str],
    *,
    form: Form = "dynamic",
    granularity: Literal["tensor"] | None = None,
    external_data: bool | None = None,
) -> None:
    """Write an ONNX file, opset 18, that ONNX's checker accepts. Needs ``pip install 'dynq[onnx]'``.

    Args:
        model: a model, or a graph with outputs (``graph.output(y)``), whose layers that are not quantized are float.
        path: the path of the file, which appears under its name when it is complete.
        form: with "dynamic", int8 layers stay integer. Their inputs are quantized while the model runs, with dynq's
            bits where ONNX's operators are exact. With "qdq", weights are int8 and go through DequantizeLinear, with a
            scale for each output channel; the rest is float. Most runtimes for other hardware read that. With "dynq",
            int8 layers are ops of the domain "dynq", which ONNX Runtime runs with ``ort_library``, with dynq's bits.
        granularity: for form "dynamic". None: the ranges that each layer has in dynq. "tensor": one range for all rows,
            by DynamicQuantizeLinear.
        external_data: if True, weights lie in a second file, ``path`` with ``.data``. If None, they do so if they
            exceed 1.9 GB.

    Raises:
        UnsupportedModelError: the model holds what ONNX does not express; the error lists all of it.
        MissingPackageError: the package onnx is not installed.
    """
    choice("form", form, dict.fromkeys(_FORMS))
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
    made.problems.refuse("the model holds what ONNX does not express:")
    write(made, name, external_data)


def ort_library() -> str:
    """Return the path of the library with which ONNX Runtime, 1.17 or newer, runs files of form "dynq".

    ``onnxruntime.SessionOptions.register_custom_ops_library`` takes it.
    """
    return library_path()
