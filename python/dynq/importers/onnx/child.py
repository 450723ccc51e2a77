"""Call ONNX's C++ part for another process: ``bounded`` starts this file, which imports nothing of dynq.

A model can make that part crash, run for years or take all memory. So each call has a process of its own, forked from
this one, with limits. Requests come over standard input, a socket, and answers go back over it. The process ends when
the other end is closed, or when nobody has asked for a while.
"""

from __future__ import annotations

import _imp
import _signal  # type: ignore[import-not-found]
import marshal
import os
import resource
import select
import sys
from _frozen_importlib import ModuleSpec
from _frozen_importlib_external import ExtensionFileLoader

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

REFUSED, NO_MEMORY = 3, 4  # statuses; 0 is a result, and a negative one the signal that ended the call
NUMBER = 8  # bytes of a length or a status
_SOCKET = 0
_IDLE = 5000  # milliseconds
_PIECE = 1 << 20


def main() -> None:
    """Load the library that the argument names and answer until nobody asks any more."""
    _signal.signal(_signal.SIGINT, _signal.SIG_IGN)
    name = "onnx.onnx_cpp2py_export"
    spec = ModuleSpec(name, ExtensionFileLoader(name, sys.argv[1]), origin=sys.argv[1])
    library: Any = _imp.create_dynamic(spec)
    _imp.exec_dynamic(library)
    library.defs.has_schema("Add")  # makes the table of all ops, which takes longer than most calls
    waiting = select.poll()
    waiting.register(_SOCKET, select.POLLIN)
    while waiting.poll(_IDLE):
        size = _read(NUMBER)
        if len(size) < NUMBER:
            return
        request = _read(int.from_bytes(size, "little"))
        status, answer = _answer(library, *marshal.loads(request))
        _write(_SOCKET, status.to_bytes(NUMBER, "little", signed=True) + len(answer).to_bytes(NUMBER, "little"))
        _write(_SOCKET, answer)


def _answer(
    library: Any, name: str, model: bytes, arguments: tuple[Any, ...], seconds: float, size: int
) -> tuple[int, bytes]:
    """Call a function in a process of its own, and return its status, with the result or the text of an error."""
    result = os.memfd_create("result")
    try:
        process = os.fork()
        if process == 0:
            status = 1
            try:
                status = _call(library, name, model, arguments, seconds, size, result)
            finally:
                os._exit(status)
        _, ended = os.waitpid(process, 0)
        os.lseek(result, 0, os.SEEK_SET)
        return os.waitstatus_to_exitcode(ended), _read(os.fstat(result).st_size, result)
    finally:
        os.close(result)


def _call(
    library: Any, name: str, model: bytes, arguments: tuple[Any, ...], seconds: float, size: int, result: int
) -> int:
    function = library
    for part in name.split("."):
        function = getattr(function, part)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    most = resource.getrlimit(resource.RLIMIT_AS)[1]
    size = size if most == resource.RLIM_INFINITY else min(size, most)
    resource.setrlimit(resource.RLIMIT_AS, (size, size))
    _signal.setitimer(_signal.ITIMER_PROF, seconds)  # the limit of processor time; the signal ends the process
    try:
        answer = function(model, *arguments)
    except MemoryError:
        return NO_MEMORY
    except Exception as error:
        _write(result, str(error).encode("utf-8", "replace"))
        return REFUSED
    _write(result, answer)
    return 0


def _read(size: int, descriptor: int = _SOCKET) -> bytes:
    """Read this many bytes, or fewer at the end."""
    pieces = []
    while size and (piece := os.read(descriptor, min(size, _PIECE))):
        pieces.append(piece)
        size -= len(piece)
    return b"".join(pieces)


def _write(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


if __name__ == "__main__":
    main()
