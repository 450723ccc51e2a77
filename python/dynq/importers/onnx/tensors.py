"""Tensors of a model: their types, and their data, read when they are wanted."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, numpy_helper

from ..._arguments import FLOAT32, Array
from ...graph.ir import DTYPES
from ..errors import InvalidModelError

__all__ = ["DTYPE_OF", "Tensor", "type_name"]

# What dynq computes with: float32 for every kind of float.
DTYPE_OF: dict[int, str] = {
    TensorProto.FLOAT: "float32",
    TensorProto.FLOAT16: "float32",
    TensorProto.BFLOAT16: "float32",
    TensorProto.DOUBLE: "float32",
    TensorProto.INT64: "int64",
    TensorProto.INT32: "int32",
    TensorProto.BOOL: "bool",
    TensorProto.UINT8: "uint8",
    TensorProto.INT8: "int8",
}


def type_name(kind: int) -> str:
    """``FLOAT16`` for 10."""
    try:
        return str(TensorProto.DataType.Name(kind))
    except ValueError:
        return f"type {kind}"


class Tensor:
    """An initializer or the value of a Constant."""

    def __init__(self, proto: TensorProto, what: str, folder: Path | None) -> None:
        self.kind = int(proto.data_type)
        self.shape = tuple(int(dim) for dim in proto.dims)
        self.what = what
        self._proto = proto
        self._folder = folder
        if any(dim < 0 for dim in self.shape):
            raise InvalidModelError(f"{what} has shape {self.shape}; expected sizes of 0 or more")
        self.count = 1
        for dim in self.shape:
            self.count *= dim
        if self.count * 8 >= 2**63:
            raise InvalidModelError(f"{what} has shape {self.shape}, too large for any memory")

    def read(self) -> Array:
        """The data as dynq computes with them. External data are mapped."""
        external = self._proto.data_location == TensorProto.EXTERNAL
        try:
            array = self._map() if external else numpy_helper.to_array(self._proto)
        except InvalidModelError:
            raise
        except (ValueError, TypeError, OSError) as error:
            raise InvalidModelError(f"{self.what} cannot be read: {error}") from error
        if array.shape != self.shape:
            raise InvalidModelError(f"{self.what} has data of shape {array.shape}; expected {self.shape}")
        if not external and self._proto.raw_data:
            array = np.array(array)  # that the model's bytes can be freed
        return as_dynq(array, self.what)

    def _map(self) -> Array:
        entries = {entry.key: entry.value for entry in self._proto.external_data}
        path = _inside(self._folder, entries.get("location", ""), self.what)
        size = path.stat().st_size
        offset, length = (_number(entries, key, self.what) for key in ("offset", "length"))
        dtype = _numpy_dtype(self.kind)
        needed = self.count * dtype.itemsize
        begin = 0 if offset is None else offset
        if length is not None and length != needed:
            raise InvalidModelError(f"{self.what} has {length} bytes of external data; its shape takes {needed}")
        if begin + needed > size:
            raise InvalidModelError(
                f"{self.what}: its external data end at byte {begin + needed}, but {path.name} has {size}"
            )
        if needed == 0:
            return np.empty(self.shape, dtype)
        memory = np.memmap(path, np.uint8, "r", offset=begin, shape=(needed,))
        return np.asarray(memory).view(dtype).reshape(self.shape)


def as_dynq(array: Array, what: str) -> Array:
    """float16, bfloat16 and float64 become float32, other dtypes stay."""
    if array.dtype.name in DTYPES:
        return np.asarray(array, DTYPES[array.dtype.name])
    if array.dtype.name not in ("float16", "bfloat16", "float64"):
        raise InvalidModelError(f"{what} has dtype {array.dtype}; expected one of {', '.join(DTYPES)}")
    with np.errstate(over="ignore"):
        result = array.astype(FLOAT32)
    if array.dtype.name == "float64" and not np.array_equal(np.isfinite(array), np.isfinite(result)):
        raise InvalidModelError(f"{what} has float64 values that are beyond float32")
    return result


def _numpy_dtype(kind: int) -> np.dtype[Any]:
    if kind == TensorProto.BFLOAT16:
        import ml_dtypes  # onnx depends on it

        bfloat16: np.dtype[Any] = np.dtype(ml_dtypes.bfloat16)
        return bfloat16
    names: dict[int, str] = {TensorProto.FLOAT16: "<f2", TensorProto.DOUBLE: "<f8"}
    return np.dtype(names[kind]) if kind in names else DTYPES[DTYPE_OF[kind]]


def _inside(folder: Path | None, location: str, what: str) -> Path:
    """The file, which must lie in the model's folder: a model must not make its reader open any file it likes."""
    if folder is None:
        raise InvalidModelError(f"{what} has external data; give the path of the model, not the loaded model")
    if not location or os.path.isabs(location) or ".." in Path(location).parts or "\0" in location:
        raise InvalidModelError(f"{what} has its data in {location!r}; expected a file in the model's folder")
    root = folder.resolve()
    path = (root / location).resolve()
    if not path.is_relative_to(root):
        raise InvalidModelError(f"{what} has its data in {location!r}, which leads out of the model's folder")
    if not path.is_file():
        raise InvalidModelError(f"{what} has its data in {location!r}, which is no file in the model's folder")
    return path


def _number(entries: dict[str, str], key: str, what: str) -> int | None:
    if key not in entries:
        return None
    text = entries[key]
    if not text.isdecimal() or len(text) > 18:
        raise InvalidModelError(f"{what} has external data with {key} {text!r}; expected a number of bytes")
    return int(text)
