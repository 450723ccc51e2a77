"""Whole networks: made by Graph.build or an importer, saved to one file, run in one call of the C library."""

from __future__ import annotations

import dataclasses
import json
import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, TypeVar

import numpy as np

from .core import arguments as arguments
from .core import files
from .core.arguments import NONFINITE, UINT8, Array, NonFinite, contiguous
from .core.call import NONFINITE as STATUS_NONFINITE
from .core.call import OK, POLL, check, ffi, lib
from .core.container import fingerprint
from .core.mapped import MappedFile, open_mapped
from .errors import FileAccessError, FileFormatError
from .generation.feed import Feed, has_encoder, is_generative
from .generation.loop import generate
from .generation.settings import TOKENIZER, Settings, tokens_of
from .ir.graph import Graph
from .plan.read import read_graph, read_notes
from .report import Report
from .state import State
from .values import (
    NUMBERS,
    ModelValue,
    as_dtype,
    copy_of,
    in_order,
    input_of,
    node_of,
    output_name_of,
    result_of,
    shape_text,
)

__all__ = ["Model", "ModelValue", "NodeTime", "load"]

_T = TypeVar("_T")
_CPUS = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
_IDLE_SESSIONS = max(16, 4 * _CPUS)  # of a model that many threads call by turns; beyond one for each CPU, ...
_IDLE_SECONDS = 1.0  # ... for this long after they ran
_ANY_BYTES = 2 ** (8 * ffi.sizeof("size_t")) - 1


@dataclasses.dataclass(frozen=True)
class NodeTime:
    """The time that a node took; 0 if it was computed while the run was planned."""

    name: str
    op: str
    seconds: float


def _free_session(model: Any, session: Any) -> None:
    """Free a session. Its model, which this holds, is closed later: the session reads it until then."""
    lib.dynq_session_free(session)


class _Session:
    """A C session and the structs of its calls; one thread at a time."""

    __slots__ = ("handle", "inputs", "outputs", "results", "shapes", "used", "vary")

    def __init__(self, model: Any, inputs: int, outputs: int, max_bytes: int, made: Any = None) -> None:
        if made is None:
            handle = ffi.new("dynq_session **")
            options = ffi.new("dynq_session_options *")
            options.max_bytes = max_bytes
            options.poll = POLL
            check(lib.dynq_session_new_with(model, options, handle))
            made = handle[0]
        self.handle = ffi.gc(made, partial(_free_session, model))
        self.used = 0.0  # when it last ran
        self.inputs = ffi.new("dynq_tensor[]", max(inputs, 1))
        self.outputs = ffi.new("dynq_tensor[]", max(outputs, 1))
        self.vary = ffi.new("int *")  # whether sizes of outputs depend on values
        self.shapes: list[tuple[int, ...]] | None = None  # of the inputs, as their structs have them
        self.results: list[tuple[tuple[int, ...], np.dtype[Any], int]] = []  # shapes, dtypes and bytes that follow


class Model:
    """A network. Immutable but for ``max_bytes``, safe to call from several threads at once.

    Made by Graph.build, from_onnx or load. It pickles: one that ``load`` mapped as the path, size and checksum of its
    file, as long as that file is there; others as all their bytes.
    """

    def __init__(self) -> None:
        raise TypeError("use dynq.Graph, dynq.from_onnx or dynq.load")

    _handle: Any  # dynq_model *
    _image: Array  # the file's bytes; they stay as long as _handle does
    _sessions: deque[
        _Session
    ]  # those that are not running; the one used last comes last, the first leave when it is full
    _file: tuple[str, MappedFile] | None  # its path, and the mapping
    _max_bytes: int  # of a session; 0: as the library chooses
    _inputs: tuple[ModelValue, ...]
    _input_count: int
    _positions: int  # that a sequence can have; 0: the model keeps nothing between runs
    _source_positions: int  # of what a sequence looks at; 0: nothing
    _dtypes: tuple[np.dtype[Any], ...]  # of the inputs
    _output_names: tuple[str, ...]
    _notes: dict[str, str] | None  # of the header, once they were read

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
        return cls._wrap(ffi.gc(handle[0], lib.dynq_model_close), image)

    @classmethod
    def _wrap(cls, handle: Any, image: Array) -> Model:
        self = object.__new__(cls)
        self._image = image
        self._handle = handle
        self._file = None
        self._notes = None
        self._sessions = deque(maxlen=_IDLE_SESSIONS)
        self._max_bytes = 0
        self._input_count = lib.dynq_model_input_count(self._handle)
        self._inputs = tuple(input_of(self._handle, i) for i in range(self._input_count))
        positions = ffi.new("size_t[2]")
        check(lib.dynq_model_positions(self._handle, positions))
        check(lib.dynq_model_source_positions(self._handle, positions + 1))
        self._positions, self._source_positions = int(positions[0]), int(positions[1])
        self._dtypes = tuple(np.dtype(value.dtype) for value in self._inputs)
        self._output_names = tuple(output_name_of(self._handle, i) for i in range(lib.dynq_model_output_count(handle)))
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
        return tuple(node_of(self._handle, i) for i in range(lib.dynq_model_node_count(self._handle)))

    @property
    def nbytes(self) -> int:
        """Bytes of the file."""
        return int(self._image.size)

    @property
    def max_bytes(self) -> int | None:
        """The bytes that the tensors of one run may take, or None.

        None: half of the machine's memory or of what its control group allows, and no more than 512 MiB and 256 bytes
        for each byte of the file and the inputs. A run that would take more raises OutOfMemoryError before it does.
        """
        return self._max_bytes or None

    @max_bytes.setter
    def max_bytes(self, value: int | None) -> None:
        if value is not None and (not isinstance(value, int) or value < 1):
            raise ValueError(f"max_bytes is {value!r}; expected a number of bytes over 0, or None")
        self._max_bytes = min(value or 0, _ANY_BYTES)
        self._sessions = deque(maxlen=_IDLE_SESSIONS)  # runs under way give theirs back to the old one

    def __call__(self, /, *inputs: Any, **named: Any) -> Array | Any:  # Any: a tuple, if there are several outputs
        """Run on arrays, PyTorch's tensors of the CPU, or lists.

        Args:
            inputs: in the order of ``model.inputs``; or one mapping of them by name, such as what a tokenizer returns.
            named: the inputs that are left, by name: ``model(input_ids=..., attention_mask=...)``.

        Returns:
            The output, or a tuple of them where there are several. What depends on a NaN or an infinity is NaN.

        Raises:
            ValueError: an input is missing, or there is none of that name; the error lists them.
        """
        one = inputs[0] if len(inputs) == 1 else None
        if named or len(inputs) != self._input_count or (type(one) is not np.ndarray and isinstance(one, Mapping)):
            inputs = tuple(in_order(self._inputs, self._by_name(inputs, named)))
        outputs = self._run(inputs, False)
        return outputs[0] if len(outputs) == 1 else tuple(outputs)

    def _by_name(self, inputs: tuple[Any, ...], named: dict[str, Any]) -> dict[str, Any]:
        """Return the inputs of a call by name."""
        names = [value.name for value in self._inputs]
        if len(inputs) == 1 and isinstance(inputs[0], Mapping):
            given = dict(inputs[0])
        elif len(inputs) > len(names):
            expected = f": {', '.join(names)}" if names else ""
            raise ValueError(f"{len(inputs)} inputs came; expected {len(names)}{expected}")
        else:
            given = dict(zip(names, inputs, strict=False))
        if twice := [name for name in named if name in given]:
            raise TypeError(f"input {', '.join(map(repr, twice))} came twice, by its place and by its name")
        return {**given, **named}

    def run(self, inputs: Mapping[str, Any], *, nonfinite: NonFinite = "propagate") -> dict[str, Array]:
        """Run with inputs by name; outputs by name.

        Args:
            nonfinite: ``"raise"``: NonFiniteError where a quantized op meets a NaN or an infinity; else what depends
                on it is NaN.
        """
        raises = arguments.choice("nonfinite", nonfinite, NONFINITE)
        return dict(zip(self._output_names, self._run(in_order(self._inputs, inputs), raises), strict=True))

    def tensors(self, inputs: Mapping[str, Any], names: Iterable[str] | None = None) -> dict[str, Array]:
        """Run, and return tensors by name: of inputs, constants, what nodes compute. For debugging; takes much memory.

        Args:
            names: None: all that nodes compute.
        """
        if names is None:
            names = [value.name for node in self.graph().nodes for value in node.outputs if value is not None]
        session = self._new_session()
        check(lib.dynq_session_keep_all(session.handle, 1))
        self._run(in_order(self._inputs, inputs), False, session)
        result = {}
        for name in names:
            tensor = ffi.new("dynq_tensor *")
            check(lib.dynq_session_tensor(session.handle, name.encode(), tensor))
            result[name] = copy_of(tensor)
        return result

    def state(self) -> State:
        """Return a state without sequences: its runs keep what the model keeps, such as keys and values.

        ``model(x)`` and ``model.run`` begin anew each time.
        """
        if not self._positions:
            raise ValueError("the model keeps nothing between runs: it has no state")
        return State(self, self._new_session())

    def generate(self, ids: Any, *, decoder_input_ids: Any = None, streamer: Any = None, **settings: Any) -> Any:
        """Go on with prompts, as transformers' ``generate`` does: with its names, meanings and defaults.

        Args:
            ids: token ids (batch, length), or lists of ids of any lengths, or the ids of one prompt. A model with an
                encoder reads them as sources; or features (batch, bins, frames), if it reads sound.
            decoder_input_ids: the tokens with which a text about a source begins, one row or one for each; None: the
                token that the model begins with.
            streamer: gets the tokens of each step, as transformers' streamers or by a call.
            settings: max_new_tokens (20), min_new_tokens, do_sample, temperature, top_k, top_p, min_p,
                repetition_penalty, num_beams, length_penalty, early_stopping, eos_token_id, pad_token_id, stop
                (sequences of ids that end a text), seed, forced_bos_token_id, forced_eos_token_id, suppress_tokens,
                begin_suppress_tokens. The same seed gives the same tokens on every machine.

        Returns:
            Prompts (decoder_input_ids, if there is an encoder) with their new tokens: an array, filled with the padding
            token, where prompts have one length; else a list of arrays.

        Raises:
            ValueError, TypeError: the model does not generate, or an argument is out of range.
        """
        names = [value.name for value in self._inputs]
        if not self._positions or not is_generative(names):
            raise ValueError(f"the model takes {', '.join(names)}; only a model of from_transformers generates")
        tokens = tokens_of(notes_of(self))
        chosen = Settings.of(settings, tokens)
        feed = Feed(names, ids, decoder_input_ids, tokens, self._source_positions)
        new = generate(self.state(), feed, chosen, self._positions, streamer)
        rows = [np.array(prompt + more, np.int64) for prompt, more in zip(feed.prompts, new, strict=True)]
        if not feed.is_even:
            return rows
        result = np.full((len(rows), max(map(len, rows))), chosen.pad, np.int64)
        for row, values in zip(result, rows, strict=True):
            row[: len(values)] = values
        return result

    @property
    def has_encoder(self) -> bool:
        """Return whether ``generate`` reads sources and writes texts about them, and does not go on with prompts."""
        return has_encoder([value.name for value in self._inputs])

    @property
    def positions(self) -> int:
        """Return how many positions a sequence can have; 0 if the model keeps nothing between runs."""
        return self._positions

    @property
    def tokenizer(self) -> str | None:
        """The text of tokenizer.json, where the file has one."""
        return notes_of(self).get(TOKENIZER)

    def profile(self, inputs: Mapping[str, Any], repeat: int = 10) -> list[NodeTime]:
        """The time of each node: the median of ``repeat`` runs."""
        if repeat < 1:
            raise ValueError(f"repeat is {repeat}; expected at least 1")
        session, values = self._new_session(), in_order(self._inputs, inputs)
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
        """Return what each node became and why, with bytes before and after. Print it."""
        return self._note("report", Report.from_json)

    def graph(self) -> Graph:
        """The graph that runs. Its constants look into this model's memory."""
        return read_graph(self._image)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write one ``.dynq`` file; it appears under its name when it is complete."""
        files.write(path, [self._image.data])

    def to_bytes(self) -> bytes:
        """Return the bytes of the file, of which ``dynq.load`` makes the model again, anywhere."""
        return self._image.tobytes()

    def __reduce__(self) -> tuple[Any, ...]:
        if self._file is not None and self._file[1].is_at(self._file[0]):
            return _from_file, (self._file[0], self.nbytes, fingerprint(self._image), self.max_bytes)
        return _from_bytes, (self.to_bytes(), self.max_bytes)

    def __copy__(self) -> Model:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Model:
        return self  # it is immutable

    def __repr__(self) -> str:
        inputs, outputs = ", ".join(value.name for value in self._inputs), ", ".join(self._output_names)
        nodes = lib.dynq_model_node_count(self._handle)
        return f"Model({inputs} -> {outputs}; {nodes} nodes, {self.nbytes} bytes)"

    def _run_kept(self, session: _Session, inputs: Mapping[str, Any]) -> dict[str, Array]:
        arrays = self._arrays(in_order(self._inputs, inputs))
        return dict(zip(self._output_names, self._run_in(session, arrays, False, keep=True), strict=True))

    def _wrap_session(self, handle: Any) -> _Session:
        return _Session(self._handle, self._input_count, len(self._output_names), self._max_bytes, handle)

    def _arrays(self, values: Iterable[Any]) -> list[Array]:
        arrays = []
        for value, given, dtype in zip(self._inputs, values, self._dtypes, strict=True):
            array = given
            if type(array) is not np.ndarray or array.dtype is not dtype:
                array = as_dtype(value.name, given, dtype)
            arrays.append(contiguous(array) if not array.flags.c_contiguous or not array.flags.aligned else array)
        return arrays

    def _run(self, values: Iterable[Any], raises: bool, session: _Session | None = None) -> list[Array]:
        arrays = self._arrays(values)
        if session is not None:
            return self._run_in(session, arrays, raises)
        idle = self._sessions
        try:
            session = idle.pop()
        except IndexError:
            session = self._new_session()
        try:
            return self._run_in(session, arrays, raises)
        finally:
            if idle:
                session.used = time.monotonic()
            idle.append(session)
            if len(idle) > _CPUS:
                _trim(idle, session.used)

    def _run_in(self, session: _Session, arrays: list[Array], raises: bool, keep: bool = False) -> list[Array]:
        shapes = [array.shape for array in arrays]
        known = session.shapes == shapes
        if not known:
            self._set_shapes(session, shapes)
        for i, array in enumerate(arrays):
            session.inputs[i].data = ffi.from_buffer(array)
        if self._positions and not keep:
            check(lib.dynq_session_reset(session.handle))
        status = lib.dynq_model_run(session.handle, session.inputs, session.outputs)
        if status != OK and (status != STATUS_NONFINITE or raises):
            check(status)
        if not known:
            session.results = [result_of(session.outputs[i]) for i in range(len(self._output_names))]
            check(lib.dynq_session_sizes_vary(session.handle, session.vary))
            session.shapes = None if session.vary[0] else shapes
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
                raise ValueError(f"input {expected.name!r} has shape {shape}; expected {shape_text(expected)}")
            tensor = session.inputs[i]
            tensor.dtype = NUMBERS[self._dtypes[i]]
            tensor.rank = len(shape)
            for j, dim in enumerate(shape):
                tensor.dims[j] = dim

    def _new_session(self) -> _Session:
        return _Session(self._handle, self._input_count, len(self._output_names), self._max_bytes)

    def _note(self, name: str, parse: Callable[[str], _T]) -> _T:
        try:
            return parse(notes_of(self).get(name, "[]"))
        except (ValueError, TypeError, RecursionError) as error:
            raise FileFormatError(f"damaged header: note {name!r}: {error}") from error


def _trim(idle: deque[_Session], now: float) -> None:
    """Drop sessions that were idle for long, but for one for each CPU."""
    while len(idle) > _CPUS:
        try:
            oldest = idle.popleft()
        except IndexError:  # others took them
            return
        if now - oldest.used < _IDLE_SECONDS:
            idle.appendleft(oldest)
            return


def load(
    path: str | os.PathLike[str] | bytes | bytearray | memoryview,
    *,
    mapped: bool = True,
    max_bytes: int | None = None,
) -> Model:
    """Open a model that ``save`` wrote.

    Args:
        path: that of the file; or its bytes, as ``model.to_bytes()`` gives them.
        mapped: the file is mapped, not read, and must stay as it is meanwhile: a process that uses a part that was cut
            off dies (SIGBUS). All who open it in this process share one mapping. False: it is read into memory, and
            what happens to it later does not matter.
        max_bytes: as ``Model.max_bytes``.

    Raises:
        FileFormatError: the file is damaged, truncated or of a newer format.
    """
    if isinstance(path, (bytes, bytearray, memoryview)):
        return _from_bytes(bytes(path), max_bytes)
    name = os.fspath(path)
    try:
        if mapped:
            file = open_mapped(name)
            model = Model._wrap(file.handle, file.image)
            model._file = os.path.abspath(name), file
        else:
            model = Model._from_image(_read(name))
    except FileFormatError as error:
        text = str(error).removeprefix(f"{name}: ")
        raise FileFormatError(f"{name}: {_other_file(name) or text}") from error
    model.max_bytes = max_bytes
    return model


def _other_file(name: str) -> str:
    """Return what to do with a file of another kind, or nothing."""
    how = f"dynq quantize {name} -o {os.path.splitext(name)[0]}.dynq"
    if files.kind(name) == "onnx":
        return f"an ONNX file, not a .dynq file; make one: {how}, or dynq.from_onnx in Python"
    if files.kind(name) == "zip":
        what = "a zip file, such as PyTorch writes, not a .dynq file"
        return f"{what}; make one of a program of torch.export.save: {how}, or dynq.from_torch in Python"
    if files.kind(name) == "tflite":
        return f"a TensorFlow Lite file, not a .dynq file; make one: {how}, or dynq.from_tflite in Python"
    return ""


def _read(name: str) -> Array:
    """Read a file into memory that begins at a multiple of 64."""
    with open(name, "rb", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        memory: Array = np.empty(size + 64, UINT8)
        image = memory[-memory.ctypes.data % 64 :][:size]
        done = 0
        while done < size:
            got = file.readinto(image[done:].data)
            if not got:
                raise FileFormatError("truncated while it was read")
            done += got
    image.flags.writeable = False
    return image


def open_image(image: Array) -> Model:
    """Return the model of a file's bytes, which are copied only where they are not aligned to 64."""
    return Model._from_image(image)


def notes_of(model: Model) -> dict[str, str]:
    """Return the notes in the header of a model's file."""
    if model._notes is None:
        model._notes = read_notes(model._image)
    return model._notes


def _known_outputs(text: str) -> dict[str, ModelValue]:
    result = {}
    for name, dtype, shape in json.loads(text):
        dims = [] if shape is None else shape
        typed = isinstance(name, str) and isinstance(dtype, (str, type(None))) and isinstance(dims, list)
        if not typed or not all(dim is None or isinstance(dim, (int, str)) for dim in dims):
            raise TypeError(f"{name!r} is {dtype!r} {shape!r}")
        result[name] = ModelValue(name, dtype, None if shape is None else tuple(shape))
    return result


def _from_bytes(data: bytes, max_bytes: int | None = None) -> Model:
    model = Model._from_image(np.frombuffer(data, UINT8))
    model.max_bytes = max_bytes
    return model


def _from_file(path: str, size: int, checksum: str, max_bytes: int | None) -> Model:
    """Open the file that a pickle names."""
    try:
        model = load(path, max_bytes=max_bytes)
    except FileNotFoundError as error:
        raise FileAccessError(
            f"the pickled model is the file {path}, which is not here; bring it there, or pickle model.to_bytes()"
        ) from error
    if (model.nbytes, fingerprint(model._image)) != (size, checksum):
        raise FileFormatError(
            f"the pickled model is the file {path} as it was, of {size} bytes with checksum {checksum}; "
            f"the one here has {model.nbytes} bytes with checksum {fingerprint(model._image)}"
        )
    return model
