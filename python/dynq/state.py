"""Hold sequences that a model keeps between runs: keys and values of a decoder, in a session of their own."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np

from .core.arguments import UINT8, Array
from .core.call import check, ffi, lib

__all__ = ["State"]

_ALL = 2 ** (8 * ffi.sizeof("size_t")) - 1


class Runner(Protocol):
    """A model, as far as its states need it."""

    def _run_kept(self, session: Any, inputs: Mapping[str, Any]) -> dict[str, Array]:
        """Run in a session, which keeps what it has."""

    def _wrap_session(self, handle: Any) -> Any:
        """Return the session of a handle, which it frees."""


class State:
    """Sequences that a model has read, and goes on with. One thread at a time may use it.

    Made by ``Model.state``. A run appends to the sequences; one that fails leaves them as they were.
    """

    def __init__(self, model: Runner, session: Any) -> None:
        self._model = model
        self._session = session
        self._lock = threading.Lock()

    def run(self, inputs: Mapping[str, Any]) -> dict[str, Array]:
        """Run with inputs by name, behind what there is; outputs by name."""
        with self._alone() as session:
            return self._model._run_kept(session, inputs)

    @property
    def lengths(self) -> list[int]:
        """Return how many positions each sequence has."""
        with self._alone() as session:
            count, length = ffi.new("size_t *"), ffi.new("size_t *")
            check(lib.dynq_session_sequences(session.handle, count))
            result = []
            for i in range(count[0]):
                check(lib.dynq_session_length(session.handle, i, length))
                result.append(int(length[0]))
            return result

    def reset(self) -> None:
        """Forget everything: the next run begins new sequences."""
        with self._alone() as session:
            check(lib.dynq_session_reset(session.handle))

    def truncate(self, length: int, sequence: int | None = None) -> None:
        """Forget the positions from ``length`` on, of one sequence or of all."""
        number = _number("length", length)
        which = _ALL if sequence is None else _number("sequence", sequence)
        with self._alone() as session:
            check(lib.dynq_session_truncate(session.handle, which, number))

    def reorder(self, places: Sequence[int]) -> None:
        """Make sequence i what ``places[i]`` was. One may come several times, or not at all."""
        numbers = [_number("places", place) for place in places]
        with self._alone() as session:
            check(lib.dynq_session_reorder(session.handle, len(numbers), ffi.new("size_t[]", numbers or [0])))

    def fork(self) -> State:
        """Return another state with the same sequences."""
        with self._alone() as session:
            handle = ffi.new("dynq_session **")
            check(lib.dynq_session_fork(session.handle, handle))
        return State(self._model, self._model._wrap_session(handle[0]))

    def to_bytes(self) -> bytes:
        """Return the sequences as bytes, for ``restore`` of the same model."""
        with self._alone() as session:
            size = ffi.new("size_t *")
            check(lib.dynq_session_saved_bytes(session.handle, size))
            data = np.empty(size[0], UINT8)
            check(lib.dynq_session_save(session.handle, ffi.from_buffer(data), size[0]))
        return data.tobytes()

    def restore(self, data: bytes) -> None:
        """Go on with what ``to_bytes`` returned.

        Raises:
            FileFormatError: the bytes are damaged or of another model. The state stays as it was.
        """
        with self._alone() as session:
            check(lib.dynq_session_restore(session.handle, ffi.from_buffer(data), len(data)))

    def __repr__(self) -> str:
        return f"State(lengths={self.lengths})"

    @contextmanager
    def _alone(self) -> Iterator[Any]:
        if not self._lock.acquire(blocking=False):
            raise RuntimeError("the state is at work in another thread; each thread needs one of its own: fork()")
        try:
            yield self._session
        finally:
            self._lock.release()


def _number(name: str, value: Any) -> int:
    number = int(np.asarray(value).item()) if not isinstance(value, (str, os.PathLike)) else -1
    if number != value or not 0 <= number < _ALL:
        raise ValueError(f"{name} is {value!r}; expected a number of 0 or more")
    return number
