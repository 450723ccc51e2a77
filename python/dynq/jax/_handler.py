"""Build handler.c with the headers of the JAX that is installed, once, and tell XLA of it."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import shlex
import subprocess
import sysconfig
import tempfile
from pathlib import Path

import jax

from ..core.call import ffi, lib, library_version
from ..errors import Error

__all__ = ["TARGET", "register"]

TARGET = "dynq_linear"
_SOURCE = Path(__file__).with_name("handler.c")
_INCLUDE = Path(__file__).parents[1] / "include"
_FUNCTIONS = ("dynq_weight_view", "dynq_weight_free", "dynq_linear_f32", "dynq_last_error")


@functools.cache
def register() -> None:
    """Tell XLA of the custom call; the first time on a machine, build it.

    Raises:
        Error: there is no C compiler, or it fails.
    """
    library = ctypes.CDLL(os.fspath(_built()))
    pointers = [ctypes.c_void_p(int(ffi.cast("uintptr_t", ffi.addressof(lib, name)))) for name in _FUNCTIONS]
    library.dynq_jax_bind(*pointers)
    jax.ffi.register_ffi_target(TARGET, jax.ffi.pycapsule(library.dynq_jax_linear), platform="cpu")


def _built() -> Path:
    """Return the shared library, in the user's cache: one for each source, JAX and dynq."""
    compiler = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")
    flags = ["-std=c11", "-O2", "-shared", "-fPIC", f"-I{jax.ffi.include_dir()}", f"-I{_INCLUDE}"]
    key = hashlib.sha256(repr((jax.__version__, library_version(), compiler, flags)).encode() + _SOURCE.read_bytes())
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dynq"
    path = cache / f"jax-{key.hexdigest()[:32]}.so"
    if path.exists():
        return path
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as folder:  # processes may build at once: the last one wins
        made = Path(folder) / path.name
        try:
            subprocess.run([*compiler, *flags, "-o", made, _SOURCE], check=True, capture_output=True, text=True)
        except FileNotFoundError as error:
            raise Error(f"dynq.jax builds a small C file at its first use, and {compiler[0]} is not there") from error
        except subprocess.CalledProcessError as error:
            raise Error(f"dynq.jax cannot build its C file: {error.stderr.strip()}") from error
        made.replace(path)
    return path
