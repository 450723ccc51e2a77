"""Run ONNX's C++ part (shape inference, the inliner) in a child process, with limits of time and memory.

A model of 75 bytes can crash it and one of 180 can keep it busy for years. The limits grow with the model's size
without weights, and environment variables raise them: ``DYNQ_IMPORT_SECONDS``, ``DYNQ_IMPORT_BYTES``. A child stays for
some seconds, for the next model.
"""

from __future__ import annotations

import atexit
import contextlib
import marshal
import math
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

from onnx import onnx_cpp2py_export

from ...errors import Error
from . import child

__all__ = ["Calls", "Refused", "Stopped"]

_SECONDS = 0.4  # of processor time, for each call
_SECONDS_PER_BYTE = 2e-6
_BYTES = 400 << 20  # of address space, of which Python and ONNX take 60 MB
_BYTES_PER_BYTE = 64
_WAIT = 20.0  # how many times its seconds a call may take on a busy machine
_LEAST_WAIT = 30.0
_LOOK = 0.05  # seconds between two looks whether Python has a signal to handle


class Refused(Exception):
    """ONNX raised an error; this has its text."""


class Stopped(Exception):
    """The call crashed or came to a limit. The text is the end of a sentence about it."""


class Calls:
    """Calls of functions of ``onnx.onnx_cpp2py_export``, by a child process.

    The child starts at once, so that it is ready when the model has been read.
    """

    def __init__(self) -> None:
        self._child = _take()

    def __enter__(self) -> Calls:
        return self

    def __exit__(self, *error: object) -> None:
        if self._child is not None:
            _give_back(self._child)

    def call(self, function: str, model: bytes, *arguments: Any) -> bytes:
        """Call a function with a model and return its result.

        Args:
            function: its name, such as ``"shape_inference.infer_shapes"``.
            arguments: those behind the model: bools, texts, lists and tuples of them.

        Raises:
            Refused: ONNX raised an error.
            Stopped: it crashed, or took more time or memory than it may.
        """
        if self._child is None:
            return _here(function, model, arguments)
        seconds = _limit("DYNQ_IMPORT_SECONDS", _SECONDS + _SECONDS_PER_BYTE * len(model))
        size = int(_limit("DYNQ_IMPORT_BYTES", _BYTES + _BYTES_PER_BYTE * len(model)))
        request = marshal.dumps((function, model, arguments, seconds, size))
        wait = max(_LEAST_WAIT, _WAIT * seconds)
        try:
            try:
                status, answer = self._child.ask(request, wait)
            except (ConnectionError, EOFError):  # it had been idle for too long
                self._child.end()
                self._child = _Child()
                status, answer = self._child.ask(request, wait)
        except BaseException as error:  # an answer that is still on its way would be taken for that of the next call
            self._child.end()
            self._child = None if isinstance(error, KeyboardInterrupt) else _Child()
            if isinstance(error, TimeoutError):
                raise Stopped(_too_long(seconds)) from None
            if isinstance(error, (ConnectionError, EOFError)):
                raise Error("the child process for ONNX's C++ part does not answer") from error
            raise
        if status == 0:
            return answer
        text = answer.decode("utf-8", "replace").strip()
        if status == child.REFUSED and "bad_alloc" not in text:
            raise Refused(text)
        if status in (child.REFUSED, child.NO_MEMORY, 1):  # 1: Python itself found no memory for the result
            raise Stopped(f"takes more than {size:,} bytes of memory; the environment's DYNQ_IMPORT_BYTES raises that")
        if status == -signal.SIGPROF:
            raise Stopped(_too_long(seconds))
        raise Stopped(f"crashes ({signal.Signals(-status).name if status < 0 else f'status {status}'})")


class _Child:
    """A process of ``child`` and the socket to it."""

    def __init__(self) -> None:
        self._socket, theirs = socket.socketpair()
        with theirs, self._closed_on_error():
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", child.__file__, str(onnx_cpp2py_export.__file__)],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,  # an interrupt from the keyboard must not reach it
            )

    @contextlib.contextmanager
    def _closed_on_error(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self._socket.close()
            raise Error(f"a child process for ONNX's C++ part cannot be started: {error}") from error

    def ask(self, request: bytes, seconds: float) -> tuple[int, bytes]:
        """Send a request and wait for the status and the answer."""
        end = time.monotonic() + seconds
        self._socket.settimeout(seconds)
        self._socket.sendall(len(request).to_bytes(child.NUMBER, "little") + request)
        self._socket.settimeout(_LOOK)
        status = int.from_bytes(self._receive(child.NUMBER, end), "little", signed=True)
        return status, self._receive(int.from_bytes(self._receive(child.NUMBER, end), "little"), end)

    def _receive(self, size: int, end: float) -> bytes:
        data = bytearray(size)
        view = memoryview(data)
        while view:
            try:
                got = self._socket.recv_into(view)
            except TimeoutError:  # a signal that came just before the wait, or in another thread, did not end it
                if time.monotonic() > end:
                    raise
                continue
            if got == 0:
                raise EOFError
            view = view[got:]
        return bytes(data)

    def end(self) -> None:
        """End the process."""
        self._socket.close()
        self._process.kill()
        self._process.wait()

    def forget(self) -> None:
        """Leave the process to the parent from which this one was forked."""
        self._socket.close()
        self._process.returncode = 0


_idle: list[_Child] = []  # one at most


def _take() -> _Child | None:
    """Return an idle child, or a new one; None if there is no interpreter that could be started."""
    if not sys.executable or getattr(sys, "frozen", False) or not getattr(onnx_cpp2py_export, "__file__", None):
        return None
    try:
        return _idle.pop()
    except IndexError:
        return _Child()


def _give_back(used: _Child) -> None:
    if _idle:
        used.end()
    else:
        _idle.append(used)


def _end_all() -> None:
    while _idle:
        _idle.pop().end()


def _forget_all() -> None:
    while _idle:
        _idle.pop().forget()


atexit.register(_end_all)
os.register_at_fork(after_in_child=_forget_all)


def _too_long(seconds: float) -> str:
    return f"takes more than {seconds:.3g} s; the environment's DYNQ_IMPORT_SECONDS raises that"


def _limit(name: str, default: float) -> float:
    text = os.environ.get(name)
    if not text:
        return default
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < 2**60:
        raise Error(f"{name} is {text!r}; expected a number above 0")
    return value


def _here(function: str, model: bytes, arguments: tuple[Any, ...]) -> bytes:
    """Call a function in this process, without limits."""
    found: Any = onnx_cpp2py_export
    for part in function.split("."):
        found = getattr(found, part)
    try:
        return bytes(found(model, *arguments))
    except Exception as error:
        raise Refused(str(error)) from error
