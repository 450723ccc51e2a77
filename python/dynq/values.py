"""The inputs and outputs of a model: what they are, and arrays as they take and give them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .core import arguments
from .core.arguments import DTYPE_NUMBERS, FLOAT32, Array
from .core.call import NULL, check, ffi, lib, text

__all__ = [
    "NUMBERS", "ModelValue", "as_dtype", "copy_of", "in_order", "input_of", "node_of", "output_name_of", "result_of",
    "shape_text",
]  # fmt: skip

_DTYPES: dict[int, np.dtype[Any]] = {number: np.dtype(name) for name, number in DTYPE_NUMBERS.items()}
NUMBERS = {dtype: number for number, dtype in _DTYPES.items()}  # those of the C library


@dataclasses.dataclass(frozen=True)
class ModelValue:
    """An input or an output. A size is an int, the name of one that a run decides, or None."""

    name: str
    dtype: str | None
    shape: tuple[int | str | None, ...] | None  # None: only a run tells


def in_order(values: Sequence[ModelValue], inputs: Mapping[str, Any]) -> list[Any]:
    """Return inputs that were given by name in the order of a model's.

    Raises:
        ValueError, TypeError: one is missing, or no input of the model.
    """
    if type(inputs) is dict and len(inputs) == len(values):
        try:
            return [inputs[value.name] for value in values]  # the short way for small models
        except KeyError:
            pass
    if not isinstance(inputs, Mapping):
        raise TypeError(f"inputs is of type {type(inputs).__name__}; expected a dict of arrays by name")
    names = [value.name for value in values]
    if unknown := [str(name) for name in inputs if name not in names]:
        raise ValueError(f"no input is called {', '.join(unknown)}; expected {', '.join(names) or 'none'}")
    if missing := [name for name in names if name not in inputs]:
        which, verb = ("input", "is") if len(missing) == 1 else ("inputs", "are")
        listed = ", ".join(map(repr, missing))
        raise ValueError(f"{which} {listed} {verb} missing; the model takes {', '.join(names)}")
    return [inputs[name] for name in names]


def as_dtype(name: str, value: Any, dtype: np.dtype[Any]) -> Array:
    """Return ``value`` as ``dtype``: floats as everywhere, others if nothing can be lost."""
    array = arguments.array(f"input {name!r}", value)
    if dtype == FLOAT32:
        if array.dtype.name in ("float32", "float16", "bfloat16"):  # in either byte order
            return array.astype(FLOAT32, copy=False)
        raise TypeError(f"input {name!r} has dtype {array.dtype}; expected float32, float16 or bfloat16")
    if array.dtype == dtype or np.can_cast(array.dtype, dtype, "safe"):
        return array.astype(dtype, copy=False)
    if not isinstance(value, (np.ndarray, np.generic)) and array.dtype.kind == dtype.kind:  # Python's own integers
        converted = array.astype(dtype)
        if np.array_equal(converted, array):
            return converted
    raise TypeError(f"input {name!r} has dtype {array.dtype}; expected {dtype}")


def result_of(tensor: Any) -> tuple[tuple[int, ...], np.dtype[Any], int]:
    """Return the shape, the dtype and the number of bytes of a C tensor."""
    shape, dtype = tuple(tensor.dims[i] for i in range(tensor.rank)), _DTYPES[tensor.dtype]
    return shape, dtype, math.prod(shape) * dtype.itemsize


def copy_of(tensor: Any) -> Array:
    """Return a copy of a C tensor."""
    shape, dtype, nbytes = result_of(tensor)
    array = np.empty(shape, dtype)
    if nbytes:
        ffi.memmove(array, tensor.data, nbytes)
    return array


def input_of(model: Any, index: int) -> ModelValue:
    """Return an input of an open model."""
    value = ffi.new("dynq_model_value *")
    check(lib.dynq_model_input(model, index, value))
    shape: list[int | str | None] = []
    for i in range(value.rank):
        name = value.dim_names[i]
        shape.append(int(value.dims[i]) if value.dims[i] >= 0 else None if name == NULL else text(name))
    return ModelValue(text(value.name), _DTYPES[value.dtype].name, tuple(shape))


def output_name_of(model: Any, index: int) -> str:
    """Return the name of an output of an open model."""
    name = ffi.new("const char **")
    check(lib.dynq_model_output_name(model, index, name))
    return text(name[0])


def node_of(model: Any, index: int) -> tuple[str, str]:
    """Return the name and the op of a node of an open model."""
    name, op = ffi.new("const char **"), ffi.new("const char **")
    check(lib.dynq_model_node(model, index, name, op))
    return text(name[0]), text(op[0])


def shape_text(value: ModelValue) -> str:
    """Return the shape of an input or output for a message."""
    dims = ", ".join("any" if dim is None else str(dim) for dim in value.shape or ())
    return f"({dims})"
