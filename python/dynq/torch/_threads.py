"""PyTorch's threads for dynq: one pool serves both, so that none spins in the other's way."""

from __future__ import annotations

import ctypes
import threading
from pathlib import Path

import torch

from ..core.call import lib

__all__ = ["torch_threads", "use_openmp"]

_FUNCTIONS = ("GOMP_parallel", "omp_get_thread_num", "omp_get_num_threads")  # which all OpenMP runtimes have


def use_openmp() -> bool:
    """Give dynq the functions of the OpenMP runtime that PyTorch was linked with.

    False where there is none, or they are not found: dynq then uses its own pool, with as many threads as PyTorch has.
    """
    if not torch.backends.openmp.is_available():
        return False
    try:
        # Finds what the library itself and those that it was linked with have.
        library = ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"))
        addresses = [ctypes.cast(getattr(library, name), ctypes.c_void_p).value or 0 for name in _FUNCTIONS]
    except (OSError, AttributeError):
        return False
    lib.torch_openmp(*addresses)
    return True


class _Entered(threading.local):
    depth = 0


_entered = _Entered()


class torch_threads:
    """A context in which this thread's calls use at most torch.get_num_threads() threads. It may lie in another one."""

    def __enter__(self) -> None:
        lib.torch_enter(torch.get_num_threads())
        _entered.depth += 1

    def __exit__(self, *error: object) -> None:
        _entered.depth -= 1
        if _entered.depth == 0:
            lib.torch_leave()
