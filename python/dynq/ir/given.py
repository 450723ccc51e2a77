"""Check the dtypes, constants and attributes that a caller gives a graph, and bring them into the form that it
keeps.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..core.arguments import FLOAT32, Array

__all__ = [
    "DTYPES",
    "MAX_RANK",
    "ONNX_NAMES",
    "ONNX_TYPES",
    "Attribute",
    "Attributes",
    "activation_names",
    "constant_array",
    "dtype_name",
    "node_attributes",
    "recurrent_attributes",
]

DTYPES: dict[str, np.dtype[Any]] = {
    name: np.dtype(name) for name in ("float32", "int64", "int32", "bool", "uint8", "int8")
}
MAX_RANK = 8
ONNX_TYPES = {"float32": 1, "uint8": 2, "int8": 3, "int32": 6, "int64": 7, "bool": 9}  # ONNX's TensorProto.DataType
ONNX_NAMES = {number: name for name, number in ONNX_TYPES.items()}

Attribute = int | float | str | list[int] | list[float]
Attributes = dict[str, Attribute]


def dtype_name(what: str, dtype: Any) -> str:
    """Return the name of a dtype, which has to be one that graphs have."""
    try:
        name = str(np.dtype(dtype).name)
    except TypeError:
        name = str(dtype)
    if name not in DTYPES:
        raise TypeError(f"{what} has dtype {name}; expected one of {', '.join(DTYPES)}")
    return name


def constant_array(name: str, value: Any) -> Array:
    """Return an array of a dtype that graphs have. Python's own floats become float32, its integers int64."""
    try:
        array = np.asarray(value)
    except ValueError as error:  # rows of different lengths
        raise ValueError(f"{name} is not an array: {error}") from error
    if array.dtype.name in ("float16", "bfloat16"):
        return array.astype(FLOAT32)
    if not isinstance(value, (np.ndarray, np.generic)):
        if array.dtype.kind == "f":
            return array.astype(FLOAT32)
        if array.dtype.kind == "i":
            return array.astype(np.int64)
    if array.dtype.name not in DTYPES:
        raise TypeError(f"{name} has dtype {array.dtype}; expected one of {', '.join(DTYPES)}")
    if array.ndim > MAX_RANK:
        raise ValueError(f"{name} has {array.ndim} dimensions; expected {MAX_RANK} at most")
    return array.astype(DTYPES[array.dtype.name], copy=False)


def activation_names(given: Any) -> list[str]:
    """Return the names in ``activations`` of a recurrent layer: a text with commas between them, or a list of names."""
    names = given.split(",") if isinstance(given, str) else list(given) if isinstance(given, (list, tuple)) else None
    if names is None or not all(isinstance(name, str) for name in names):
        raise TypeError(f"activations is {given!r}; expected names, such as 'Sigmoid,Tanh,Tanh'")
    return names


def recurrent_attributes(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return attributes of a recurrent layer. Whole numbers may stand for floats, and a list for a text of names."""
    result = {name: value for name, value in given.items() if value is not None}
    if "activations" in result:
        result["activations"] = ",".join(activation_names(result["activations"]))
    for name, expected in (("clip", 0), ("activation_alpha", 1), ("activation_beta", 1)):
        if name in result:
            value = np.asarray(result[name])
            if value.dtype.kind not in "iuf" or value.ndim != expected:
                what = "a list of numbers" if expected else "a number"
                raise TypeError(f"{name} is {result[name]!r}; expected {what}")
            result[name] = value.astype(np.float64).tolist()
    return result


def node_attributes(node: str, attributes: Mapping[str, Any]) -> Attributes:
    """Return the attributes that are not None, checked."""
    return {name: _attribute(node, name, value) for name, value in attributes.items() if value is not None}


def _attribute(node: str, name: str, value: Any) -> Attribute:
    if isinstance(value, str):
        return value
    if isinstance(value, (bool, int, np.integer, np.bool_)):
        return int(value)
    if isinstance(value, (float, np.floating)):
        return float(value)
    if isinstance(value, (list, tuple, np.ndarray, range)):
        items = [_attribute(node, name, item) for item in value]
        if all(isinstance(item, int) for item in items):
            return [item for item in items if isinstance(item, int)]
        if all(isinstance(item, (int, float)) for item in items):
            return [float(item) for item in items if isinstance(item, (int, float))]
    raise TypeError(f"node {node!r}: attribute {name} is {value!r}; expected a number, a text or a list of numbers")
