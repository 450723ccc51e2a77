"""Write files that appear under their name when they are complete. All files that dynq writes are written here.

The bytes go into a new file in the target's folder, which takes the target's place by one rename. So a reader sees the
old file or the new one. An error, a signal or a full disk leaves the old one as it was. While a new file is written its
writer holds a lock on it (flock). A process that dies loses its lock, and the next save removes its file.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import io
import os
import re
import secrets
import stat
import time
import zlib
from collections.abc import Iterable, Iterator
from typing import BinaryIO

__all__ = ["kind", "replacing", "write", "write_text"]

_SUFFIX = ".dynq-part"
_LONGEST = 100  # bytes of the target's name that its new file's name keeps: names have 255 at most
_LEFT_ALONE = 24 * 3600  # seconds for which a file of another system start, on a shared folder, is left alone
_TRIES = 100


def write(path: str | os.PathLike[str], parts: Iterable[bytes | bytearray | memoryview]) -> None:
    """Write a file from its parts; it appears under its name when it is complete."""
    with replacing(path) as file:
        for part in parts:
            file.write(part)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write a file of UTF-8; it appears under its name when it is complete."""
    write(path, [text.encode()])


def kind(path: str | os.PathLike[str]) -> str:
    """Return what a file looks like by its first bytes.

    It is "dynq" (or another of safetensors), "onnx", "zip", "tflite" or "".
    """
    try:
        with open(path, "rb") as file:
            start = file.read(16)
    except OSError:
        return ""
    if start[8:9] == b"{" and 0 < int.from_bytes(start[:8], "little") < 1 << 32:
        return "dynq"
    if start[:4] == b"PK\3\4":
        return "zip"
    if start[4:8] == b"TFL3":
        return "tflite"
    # ONNX's ModelProto begins with its version and has a text, a graph or a list of opsets next.
    return "onnx" if start[:1] == b"\x08" and start[2:3] in tuple(bytes([8 * n + 2]) for n in range(2, 9)) else ""


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Yield a file whose bytes stand under ``path`` once the block has ended without an error.

    A file that is there keeps its mode and, if the process may give it, its owner. If ``path`` is a link, the file that
    it leads to is replaced. A device or a pipe, which is no regular file, is written to directly.

    Raises:
        OSError: the file cannot be written; what was there is as it was.
    """
    name = os.fsdecode(path)
    try:
        there = os.stat(name)
    except FileNotFoundError:
        there = None
    if there is not None and (not stat.S_ISREG(there.st_mode) or _is_open_file(name)):
        with io.BufferedWriter(_Stream(name, "wb")) as stream:
            yield stream
        return
    if there is not None and not os.access(name, os.W_OK):  # the error that opening it would raise
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), name)
    if not os.path.basename(name):
        code = errno.EISDIR if name else errno.ENOENT
        raise OSError(code, os.strerror(code), name)
    target = os.path.realpath(name)
    try:
        with _new_file(target, there) as (file, temporary):
            yield file
            file.flush()
            with _if_there_is():
                os.fsync(file.fileno())
            os.replace(temporary, target)
    except OSError as error:
        if error.filename is not None and str(error.filename).endswith(_SUFFIX):
            error.filename, error.filename2 = name, None  # the name that the caller knows
        raise
    _sync_folder(os.path.dirname(target))


class _Stream(io.FileIO):
    """A stream to a file that is not regular. Nobody can go back in it, even if a device reports otherwise."""

    def seekable(self) -> bool:
        return False

    def tell(self) -> int:
        raise io.UnsupportedOperation("tell")


@contextlib.contextmanager
def _new_file(target: str, there: os.stat_result | None) -> Iterator[tuple[BinaryIO, str]]:
    """Make a locked file beside ``target``; it is removed if the block ends with an error."""
    folder, base = os.path.split(target)
    prefix = _prefix(base)
    _remove_stale(folder, prefix)
    descriptor, temporary = _create(folder, prefix, 0o666 if there is None else 0o600)
    file = os.fdopen(descriptor, "wb")
    try:
        if there is not None:
            _take_mode(descriptor, there)
        yield file, temporary
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        with contextlib.suppress(OSError):
            file.close()
        raise
    file.close()


def _create(folder: str, prefix: str, mode: int) -> tuple[int, str]:
    """Open a new file under a name that nobody can guess, and lock it."""
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    for _ in range(_TRIES):
        name = os.path.join(folder, f"{prefix}{os.getpid()}-{_boot()}-{secrets.token_hex(8)}{_SUFFIX}")
        try:
            descriptor = os.open(name, flags, mode)
        except FileExistsError:
            continue
        try:
            if _lock(descriptor, name):
                return descriptor, name
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # another process took it for a stale one before it was locked
    raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), os.path.join(folder, prefix + _SUFFIX))


def _lock(descriptor: int, name: str) -> bool:
    """Lock a new file; return False if another process has it already, or if it is gone."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True  # a file system without locks: nobody can lock it, so nobody removes it
    return _same(descriptor, name)


def _same(descriptor: int, name: str) -> bool:
    """Return whether ``name`` still is the open file."""
    mine = os.fstat(descriptor)
    try:
        found = os.stat(name, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return (mine.st_dev, mine.st_ino) == (found.st_dev, found.st_ino)


def _remove_stale(folder: str, prefix: str) -> None:
    """Remove new files of this target whose writers have died. What cannot be removed stays."""
    shape = re.compile(re.escape(prefix) + r"\d+-([0-9a-f]{8})-[0-9a-f]{16}" + re.escape(_SUFFIX))
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if match := shape.fullmatch(entry.name):
                with contextlib.suppress(OSError):
                    _remove_if_stale(entry.path, match[1])


def _remove_if_stale(name: str, boot: str) -> None:
    descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            return
        if boot != _boot() and time.time() - found.st_mtime < _LEFT_ALONE:
            return  # perhaps from another machine, whose locks cannot be seen here
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if _same(descriptor, name):
            os.unlink(name)
    finally:
        os.close(descriptor)


def _prefix(base: str) -> str:
    """Return how the names of new files of a target begin: hidden, then its name, or a digest of it if it is long."""
    raw = os.fsencode(base)
    if len(raw) <= _LONGEST:
        return f".{base}."
    return f".{raw[:_LONGEST].decode('utf-8', 'ignore')}~{zlib.crc32(raw):08x}."


def _boot() -> str:
    """Return eight digits that change when the system starts anew."""
    try:
        with open("/proc/sys/kernel/random/boot_id", "rb") as file:
            return f"{zlib.crc32(file.read()):08x}"
    except OSError:
        return "0" * 8


def _take_mode(descriptor: int, there: os.stat_result) -> None:
    """Give a new file the owner and the mode of the one that it replaces."""
    mode = there.st_mode & 0o777
    mine = os.fstat(descriptor)
    if (mine.st_uid, mine.st_gid) != (there.st_uid, there.st_gid):
        for owner in (there.st_uid, -1):
            with contextlib.suppress(OSError):
                os.fchown(descriptor, owner, there.st_gid)
                break
        if os.fstat(descriptor).st_gid != there.st_gid:  # another group must not read more than others do
            mode = mode & 0o707 | (mode & 0o007) << 3
    with _if_there_is():
        os.fchmod(descriptor, mode)


def _is_open_file(name: str) -> bool:
    """Return whether a path names an open file (/dev/stdout, /proc/self/fd/1), which its other users write too."""
    for _ in range(40):
        if os.path.realpath(os.path.dirname(os.path.abspath(name))).startswith("/proc/"):
            return True
        if not os.path.islink(name):
            return False
        name = os.path.join(os.path.dirname(name), os.readlink(name))
    return False


def _sync_folder(folder: str) -> None:
    """Make sure that the new name is on the disk. Some file systems and folders do not allow that."""
    with _if_there_is(errno.EACCES, errno.EBADF, errno.EROFS):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextlib.contextmanager
def _if_there_is(*more: int) -> Iterator[None]:
    """Ignore the error of a file system that lacks what was asked for."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EPERM, *more):
            raise
