"""Whole networks: made by Graph.build or an importer, saved to one file, run in one call of the C library."""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from . import _arguments as arguments
from ._arguments import DTYPE_NUMBERS, FLOAT32, NONFINITE, UINT8, Array, contiguous
from ._call import NONFINITE as STATUS_NONFINITE
from ._call import NULL, check, ffi, lib, text
from .container import write_parts
from .errors import FileFormatError
from .report import Report

if TYPE_CHECKING:
    from .graph import Graph

__all__ = ["Model", "ModelValue", "NodeTime", "load"]

_T = TypeVar("_T")
_DTYPES: dict[int, np.dtype[Any]] = {number: np.dtype(name) for name, number in DTYPE_NUMBERS.items()}


@dataclasses.dataclass(frozen=True)
class ModelValue:
    """An input or an output. A size is an int, the name of one that a run decides, or None."""

    name: str
    dtype: str | None
    shape: tuple[int | str | None, ...] | None  # None: only a run tells


@dataclasses.dataclass(frozen=True)
class NodeTime:
    """How long a node took; 0 where it was computed while the run was planned."""

    name: str
    op: str
    seconds: float


class _Session:
    """A C session and the structs of its calls; one thread at a time."""

    __slots__ = ("_model", "handle", "inputs", "outputs", "results", "shapes")

    def __init__(self, model: Any, inputs: int, outputs: int) -> None:
        handle = ffi.new("dynq_session **")
        check(lib.dynq_session_new(model, NULL, handle))
        self._model = model  # is closed after its sessions
        self.handle = ffi.gc(handle[0], lib.dynq_session_free)
        self.inputs = ffi.new("dynq_tensor[]", max(inputs, 1))
        self.outputs = ffi.new("dynq_tensor[]", max(outputs, 1))
        self.shapes: list[tuple[int, ...]] | None = None  # of the inputs, as their structs have them
        self.results: list[tuple[tuple[int, ...], np.dtype[Any], int]] = []  # shapes, dtypes and bytes that follow


class Model:
    """A network. Immutable, safe to call from several threads at once; pickles.

    Made by Graph.build, from_onnx or load.
    """

    def __init__(self) -> None:
        raise TypeError("use dynq.Graph, dynq.from_onnx or dynq.load")

    _handle: Any  # dynq_model *
    _image: Array  # the file's bytes
    _sessions: deque[_Session]  # those that are not running
    _inputs: tuple[ModelValue, ...]
    _input_count: int
    _dtypes: tuple[np.dtype[Any], ...]  # of the inputs
    _output_names: tuple[str, ...]

    @classmethod
    def _from_image(cls, image: Array) -> Model:
        """From a file's bytes; copied only where they are not aligned to 64."""
        if image.ctypes.data % 64:
            memory = np.empty(image.size + 64, UINT8)
            aligned = memory[-memory.ctypes.data % 64 :][: image.size]
            aligned[...] = image
            image = aligned
        handle = ffi.new("dynq_model **")
        check(lib.dynq_model_open_memory(ffi.cast("void *", image.ctypes.data), image.size, handle))
        return cls._wrap(handle[0], image)

    @classmethod
    def _wrap(cls, handle: Any, image: Array) -> Model:
        self = object.__new__(cls)
        self._image = image
        self._handle = ffi.gc(handle, lib.dynq_model_close)
        self._sessions = deque()
        self._input_count = lib.dynq_model_input_count(self._handle)
        self._inputs = tuple(_input(self._handle, i) for i in range(self._input_count))
        self._dtypes = tuple(np.dtype(value.dtype) for value in self._inputs)
        self._output_names = tuple(_output_name(self._handle, i) for i in range(lib.dynq_model_output_count(handle)))
        return self

    @property
    def inputs(self) -> tuple[ModelValue, ...]:
        """Names, dtypes and shapes."""
        return self._inputs

    @property
    def outputs(self) -> tuple[ModelValue, ...]:
        """Names, and dtypes and shapes as far as they are known without a run."""
        known = self._note("outputs", _known_outputs)
        return tuple(known.get(name, ModelValue(name, None, None)) for name in self._output_names)

    @property
    def nodes(self) -> tuple[tuple[str, str], ...]:
        """Name and op of each node, in the order in which they run."""
        return tuple(_node(self._handle, i) for i in range(lib.dynq_model_node_count(self._handle)))

    @property
    def nbytes(self) -> int:
        """Bytes of the file."""
        return int(self._image.size)

    def __call__(self, *inputs: Any) -> Any:
        """Run. ``inputs`` in the order of ``model.inputs``.

        Returns:
            The output, or a tuple of them where there are several. What depends on a NaN or an infinity is NaN.
        """
        if len(inputs) != self._input_count:
            names = ", ".join(value.name for value in self._inputs)
            raise ValueError(f"{len(inputs)} inputs came; expected {self._input_count}: {names}")
        outputs = self._run(inputs, False)
        return outputs[0] if len(outputs) == 1 else tuple(outputs)

    def run(self, inputs: Mapping[str, Any], *, nonfinite: str = "propagate") -> dict[str, Array]:
        """Run with inputs by name; outputs by name.

        Args:
            nonfinite: ``"raise"``: NonFiniteError where a quantized op meets a NaN or an infinity; else what depends
                on it is NaN.
        """
        raises = arguments.choice("nonfinite", nonfinite, NONFINITE)
        return dict(zip(self._output_names, self._run(self._by_name(inputs), raises), strict=True))

    def tensors(self, inputs: Mapping[str, Any], names: Iterable[str] | None = None) -> dict[str, Array]:
        """Run, and return tensors by name: of inputs, constants, what nodes compute. For debugging; takes much memory.

        Args:
            names: None: all that nodes compute.
        """
        if names is None:
            names = [value.name for node in self.graph().nodes for value in node.outputs if value is not None]
        session = self._new_session()
        check(lib.dynq_session_keep_all(session.handle, 1))
        self._run(self._by_name(inputs), False, session)
        result = {}
        for name in names:
            tensor = ffi.new("dynq_tensor *")
            check(lib.dynq_session_tensor(session.handle, name.encode(), tensor))
            result[name] = _copy(tensor)
        return result

    def profile(self, inputs: Mapping[str, Any], repeat: int = 10) -> list[NodeTime]:
        """The time of each node: the median of ``repeat`` runs."""
        if repeat < 1:
            raise ValueError(f"repeat is {repeat}; expected at least 1")
        session, values = self._new_session(), self._by_name(inputs)
        self._run(values, False, session)
        check(lib.dynq_session_time_nodes(session.handle, 1))
        nodes = self.nodes
        times = np.empty((repeat, len(nodes)))
        nanoseconds = ffi.new("uint64_t *")
        for run in times:
            self._run(values, False, session)
            for i in range(len(nodes)):
                check(lib.dynq_session_node_time(session.handle, i, nanoseconds))
                run[i] = nanoseconds[0] * 1e-9
        medians = np.median(times, axis=0)
        return [NodeTime(name, op, float(seconds)) for (name, op), seconds in zip(nodes, medians, strict=True)]

    def report(self) -> Report:
        """What became of each node and why, with bytes before and after. Print it."""
        return self._note("report", Report.from_json)

    def graph(self) -> Graph:
        """The graph that runs. Its constants look into this model's memory."""
        from .graph.read import read_graph

        return read_graph(self._image)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write one ``.dynq`` file; it appears under its name when it is complete."""
        write_parts(path, [self._image.data])

    def __reduce__(self) -> tuple[Any, ...]:
        return _from_bytes, (self._image.tobytes(),)

    def __copy__(self) -> Model:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Model:
        return self  # it is immutable

    def __repr__(self) -> str:
        inputs, outputs = ", ".join(value.name for value in self._inputs), ", ".join(self._output_names)
        nodes = lib.dynq_model_node_count(self._handle)
        return f"Model({inputs} -> {outputs}; {nodes} nodes, {self.nbytes} bytes)"

    def _by_name(self, inputs: Mapping[str, Any]) -> list[Any]:
        if not isinstance(inputs, Mapping):
            raise TypeError(f"inputs is of type {type(inputs).__name__}; expected a dict of arrays by name")
        names = [value.name for value in self._inputs]
        if unknown := [str(name) for name in inputs if name not in names]:
            raise ValueError(f"no input is called {', '.join(unknown)}; expected {', '.join(names) or 'none'}")
        if missing := [name for name in names if name not in inputs]:
            raise ValueError(f"input {', '.join(map(repr, missing))} is missing")
        return [inputs[name] for name in names]

    def _run(self, values: Iterable[Any], raises: bool, session: _Session | None = None) -> list[Array]:
        arrays = []
        for value, given, dtype in zip(self._inputs, values, self._dtypes, strict=True):
            array = given
            if type(array) is not np.ndarray or array.dtype is not dtype:
                array = _as_dtype(value.name, given, dtype)
            arrays.append(contiguous(array) if not array.flags.c_contiguous or not array.flags.aligned else array)
        if session is not None:
            return self._run_in(session, arrays, raises)
        try:
            session = self._sessions.pop()
        except IndexError:
            session = self._new_session()
        try:
            return self._run_in(session, arrays, raises)
        finally:
            self._sessions.append(session)

    def _run_in(self, session: _Session, arrays: list[Array], raises: bool) -> list[Array]:
        shapes = [array.shape for array in arrays]
        known = session.shapes == shapes
        if not known:
            self._set_shapes(session, shapes)
        for i, array in enumerate(arrays):
            session.inputs[i].data = ffi.from_buffer(array)
        status = lib.dynq_model_run(session.handle, session.inputs, session.outputs)
        if status != STATUS_NONFINITE or raises:
            check(status)
        if not known:
            session.results = [_result(session.outputs[i]) for i in range(len(self._output_names))]
            session.shapes = shapes
        copies = []
        for i, (shape, dtype, nbytes) in enumerate(session.results):
            array = np.empty(shape, dtype)
            if nbytes:
                ffi.memmove(array, session.outputs[i].data, nbytes)
            copies.append(array)
        return copies

    def _set_shapes(self, session: _Session, shapes: list[tuple[int, ...]]) -> None:
        session.shapes = None
        for i, (shape, expected) in enumerate(zip(shapes, self._inputs, strict=True)):
            if len(shape) != len(expected.shape or ()):
                raise ValueError(f"input {expected.name!r} has shape {shape}; expected {_shape(expected)}")
            tensor = session.inputs[i]
            tensor.dtype = _NUMBERS[self._dtypes[i]]
            tensor.rank = len(shape)
            for j, dim in enumerate(shape):
                tensor.dims[j] = dim

    def _new_session(self) -> _Session:
        return _Session(self._handle, self._input_count, len(self._output_names))

    def _note(self, name: str, parse: Callable[[str], _T]) -> _T:
        try:
            return parse(self._notes().get(name, "[]"))
        except (ValueError, TypeError, RecursionError) as error:
            raise FileFormatError(f"damaged header: note {name!r}: {error}") from error

    def _notes(self) -> dict[str, str]:
        from .graph.read import read_notes

        return read_notes(self._image)


def load(path: str | os.PathLike[str]) -> Model:
    """A model that ``save`` wrote. The file is mapped, not read, and must stay as it is meanwhile.

    Raises FileFormatError where the file is damaged, truncated or of a newer format.
    """
    name = os.fspath(path)
    os.stat(name)  # raises FileNotFoundError and its like
    handle = ffi.new("dynq_model **")
    check(lib.dynq_model_open(os.fsencode(name), handle))
    return Model._wrap(handle[0], np.asarray(np.memmap(name, UINT8, "r")))


_NUMBERS = {dtype: number for number, dtype in _DTYPES.items()}


def op_names() -> frozenset[str]:
    """The ops that models can have."""
    names: list[str] = []
    while (name := lib.dynq_op_name(len(names))) != NULL:
        names.append(text(name))
    return frozenset(names)


def _known_outputs(text: str) -> dict[str, ModelValue]:
    result = {}
    for name, dtype, shape in json.loads(text):
        dims = [] if shape is None else shape
        typed = isinstance(name, str) and isinstance(dtype, (str, type(None))) and isinstance(dims, list)
        if not typed or not all(dim is None or isinstance(dim, (int, str)) for dim in dims):
            raise TypeError(f"{name!r} is {dtype!r} {shape!r}")
        result[name] = ModelValue(name, dtype, None if shape is None else tuple(shape))
    return result


def _from_bytes(data: bytes) -> Model:
    return Model._from_image(np.frombuffer(data, UINT8))


def _as_dtype(name: str, value: Any, dtype: np.dtype[Any]) -> Array:
    """``value`` as ``dtype``: floats as everywhere, others where nothing can be lost."""
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


def _result(tensor: Any) -> tuple[tuple[int, ...], np.dtype[Any], int]:
    """Shape, dtype and bytes."""
    shape, dtype = tuple(tensor.dims[i] for i in range(tensor.rank)), _DTYPES[tensor.dtype]
    return shape, dtype, math.prod(shape) * dtype.itemsize


def _copy(tensor: Any) -> Array:
    shape, dtype, nbytes = _result(tensor)
    array = np.empty(shape, dtype)
    if nbytes:
        ffi.memmove(array, tensor.data, nbytes)
    return array


def _input(model: Any, index: int) -> ModelValue:
    value = ffi.new("dynq_model_value *")
    check(lib.dynq_model_input(model, index, value))
    shape: list[int | str | None] = []
    for i in range(value.rank):
        name = value.dim_names[i]
        shape.append(int(value.dims[i]) if value.dims[i] >= 0 else None if name == NULL else text(name))
    return ModelValue(text(value.name), _DTYPES[value.dtype].name, tuple(shape))


def _output_name(model: Any, index: int) -> str:
    name = ffi.new("const char **")
    check(lib.dynq_model_output_name(model, index, name))
    return text(name[0])


def _node(model: Any, index: int) -> tuple[str, str]:
    name, op = ffi.new("const char **"), ffi.new("const char **")
    check(lib.dynq_model_node(model, index, name, op))
    return text(name[0]), text(op[0])


def _shape(value: ModelValue) -> str:
    dims = ", ".join("any" if dim is None else str(dim) for dim in value.shape or ())
    return f"({dims})"
