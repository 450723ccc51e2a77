"""The tensors of a model: their types, and their data, which are read when they are needed."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from onnx import TensorProto, numpy_helper

from ...conversion import InvalidModelError
from ...core.arguments import FLOAT32, Array
from ...ir.given import DTYPES

__all__ = ["DTYPE_OF", "FEW_BITS", "Tensor", "inside", "type_name"]

# The dtypes that dynq computes with: float32 for every kind of float.
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

# What constants may have besides: integers of few bits, which are read as whole bytes.
FEW_BITS: dict[int, str] = {TensorProto.INT4: "int8", TensorProto.UINT4: "uint8"}


def type_name(kind: int) -> str:
    """Return the name of a type, such as ``FLOAT16`` for 10."""
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
        """Return the data in the dtype that dynq computes with. External data are mapped."""
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
            array = np.array(array)  # a copy, so that the model's bytes can be freed
        return as_dynq(array, self.what)

    def _map(self) -> Array:
        entries = {entry.key: entry.value for entry in self._proto.external_data}
        offset, length = (_number(entries, key, self.what) for key in ("offset", "length"))
        few = self.kind in FEW_BITS
        dtype = np.dtype(np.uint8) if few else _numpy_dtype(self.kind)
        needed = (self.count + 1) // 2 if few else self.count * dtype.itemsize
        begin = 0 if offset is None else offset
        with _opened(self._folder, entries.get("location", ""), self.what) as file:
            size = os.fstat(file.fileno()).st_size
            if length is not None and length != needed:
                raise InvalidModelError(f"{self.what} has {length} bytes of external data; its shape takes {needed}")
            if begin + needed > size:
                name = os.path.basename(entries["location"])
                raise InvalidModelError(
                    f"{self.what}: its external data end at byte {begin + needed}, but {name} has {size}"
                )
            if needed == 0:
                return np.empty(self.shape, dtype)
            memory = np.memmap(file, np.uint8, "r", offset=begin, shape=(needed,))
        if few:
            return _halves(np.asarray(memory), FEW_BITS[self.kind])[: self.count].reshape(self.shape)
        return np.asarray(memory).view(dtype).reshape(self.shape)


def _halves(packed: Array, dtype: str) -> Array:
    """Return two numbers of 4 bits for each byte, that of the lower bits first."""
    result = np.stack([packed & 15, packed >> 4], -1).reshape(-1)
    return result if dtype == "uint8" else ((result ^ 8).astype(np.int8) - np.int8(8))


def as_dynq(array: Array, what: str) -> Array:
    """float16, bfloat16 and float64 become float32, numbers of 4 bits whole bytes; other dtypes stay."""
    if array.dtype.name in ("int4", "uint4"):
        return array.astype("uint8" if array.dtype.name == "uint4" else "int8")
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


def inside(folder: Path | None, location: str, what: str) -> Path:
    """Return the path of a file, which must lie in the model's folder.

    A model must not make its reader open any file that it likes.
    """
    if folder is None:
        raise InvalidModelError(f"{what} has external data; give the path of the model, not the loaded model")
    if not location or os.path.isabs(location) or ".." in Path(location).parts or "\0" in location:
        raise InvalidModelError(f"{what} has its data in {location!r}; expected a file in the model's folder")
    root = Path(os.path.realpath(folder))
    path = Path(os.path.realpath(root / location))
    if not path.is_relative_to(root):
        raise InvalidModelError(f"{what} has its data in {location!r}, which leads out of the model's folder")
    return path


def _opened(folder: Path | None, location: str, what: str) -> BinaryIO:
    """Open a file with data. Like ONNX, refuse one that has a second name, since a hard link may lead anywhere."""
    path = inside(folder, location, what)
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        why = "is no file in the model's folder" if isinstance(error, FileNotFoundError) else "cannot be read"
        raise InvalidModelError(f"{what} has its data in {location!r}, which {why} ({error.strerror})") from error
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:
        os.close(descriptor)
        regular = stat.S_ISREG(found.st_mode)
        why = (
            f"has {found.st_nlink} names (hard links); copy the file" if regular else "is no file in the model's folder"
        )
        raise InvalidModelError(f"{what} has its data in {location!r}, which {why}")
    return os.fdopen(descriptor, "rb")


def _number(entries: dict[str, str], key: str, what: str) -> int | None:
    if key not in entries:
        return None
    text = entries[key]
    if not text.isdecimal() or len(text) > 18:
        raise InvalidModelError(f"{what} has external data with {key} {text!r}; expected a number of bytes")
    return int(text)
