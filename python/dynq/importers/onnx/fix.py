"""Fix inputs before anything is read: to a value, which makes a constant of them, or to a shape."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from onnx import GraphProto, ValueInfoProto, helper, numpy_helper

from ...core.arguments import Array
from .tensors import DTYPE_OF, type_name

__all__ = ["Shape", "WrongInput", "fix_inputs"]

Shape = Sequence[int | None]  # None: the size that the model has


class WrongInput(Exception):
    """An error of the caller, not of the model."""


def fix_inputs(graph: GraphProto, values: Mapping[str, Any], shapes: Mapping[str, Shape]) -> None:
    """Change the inputs of ``graph``.

    Raises:
        WrongInput: a value or a shape does not fit; the error names it.
    """
    for value in graph.input:
        _open_sizes(value)
    by_name = {value.name: value for value in graph.input}
    for argument, given in (("inputs", values), ("shapes", shapes)):
        for name in given:
            if name not in by_name:
                known = ", ".join(map(repr, by_name)) or "none"
                raise WrongInput(f"{argument} has {name!r}, which is no input of the model; its inputs are {known}")
    for name in values.keys() & shapes.keys():
        raise WrongInput(f"input {name!r} has both a value and a shape; expected one of them")
    for name, shape in shapes.items():
        _set_shape(by_name[name], shape)
    for name, value in values.items():
        tensor = numpy_helper.from_array(_as_input(by_name[name], value), name)
        for kept in (graph.input, graph.initializer):  # an input may have a default, which is an initializer
            rest = [entry for entry in kept if entry.name != name]
            del kept[:]
            kept.extend(rest)
        graph.initializer.append(tensor)


def _open_sizes(value: ValueInfoProto) -> None:
    """Leave open the sizes of an input that are -1: so Paddle, Keras and Caffe2 write them."""
    for dim in value.type.tensor_type.shape.dim if value.type.HasField("tensor_type") else []:
        if dim.HasField("dim_value") and dim.dim_value == -1:
            dim.Clear()


def _set_shape(value: ValueInfoProto, shape: Shape) -> None:
    dims, declared = value.type.tensor_type.shape.dim, _declared(value)
    if not value.type.tensor_type.HasField("shape"):
        for _ in shape:
            dims.add()
    if len(shape) != len(dims):
        raise WrongInput(f"shapes has {_text(shape)} for input {value.name!r}; the model has {declared}")
    for dim, size in zip(dims, shape, strict=True):
        if size is None:
            continue
        if isinstance(size, bool) or not isinstance(size, (int, np.integer)) or size < 0:
            raise WrongInput(
                f"shapes has {_text(shape)} for input {value.name!r}; expected sizes of 0 or more, or None"
            )
        if dim.HasField("dim_value") and dim.dim_value != size:
            raise WrongInput(f"shapes has {_text(shape)} for input {value.name!r}; the model has {declared}")
        dim.Clear()
        dim.dim_value = int(size)


def _as_input(declared: ValueInfoProto, value: Any) -> Array:
    """Return a value as an array with the input's dtype. No value may change by that."""
    tensor = declared.type.tensor_type
    what = f"the value of input {declared.name!r}"
    if not declared.type.HasField("tensor_type") or tensor.elem_type not in DTYPE_OF:
        raise WrongInput(f"{what}: it has {type_name(tensor.elem_type)}, which dynq does not have")
    dtype = np.dtype(DTYPE_OF[tensor.elem_type])
    try:
        array = np.asarray(value)
        with np.errstate(all="ignore"):
            result = array.astype(dtype)
        same = np.array_equal(np.isfinite(result), np.isfinite(array))
        same = same and (dtype.kind == "f" or np.array_equal(result, array))
    except (TypeError, ValueError, OverflowError) as error:
        raise WrongInput(f"{what} is no array of {dtype}: {error}") from error
    if array.dtype.kind not in "biuf" or not same:
        raise WrongInput(f"{what} is of dtype {array.dtype}; expected what {dtype} holds")
    dims = tensor.shape.dim
    fits = not tensor.HasField("shape") or (
        len(dims) == array.ndim
        and all(not d.HasField("dim_value") or d.dim_value == n for d, n in zip(dims, array.shape, strict=True))
    )
    if not fits:
        raise WrongInput(f"{what} has shape {_text(array.shape)}; the model has {_declared(declared)}")
    return np.ascontiguousarray(_in_own_type(result, tensor.elem_type)).reshape(array.shape)


def _in_own_type(array: Array, kind: int) -> Array:
    """Return float16 and float64 inputs in their own type, since the nodes of the model are checked with it."""
    return array.astype(helper.tensor_dtype_to_np_dtype(kind))


def _declared(value: ValueInfoProto) -> str:
    tensor = value.type.tensor_type
    if not tensor.HasField("shape"):
        return "any shape"
    return _text([d.dim_value if d.HasField("dim_value") else d.dim_param or None for d in tensor.shape.dim])


def _text(shape: Sequence[Any]) -> str:
    return "(" + ", ".join("?" if dim is None else str(dim) for dim in shape) + ("," if len(shape) == 1 else "") + ")"
