"""Set how many threads the C library uses. Results do not depend on it."""

from __future__ import annotations

import operator

from .core.call import check, ffi, lib, text

__all__ = ["get_num_threads", "num_threads_from", "set_num_threads"]


def set_num_threads(n: int) -> None:
    """Use at most ``n`` threads, 1 to 512; 0 restores what the process began with.

    That is the environment variable ``DYNQ_NUM_THREADS``. If it is not set, it is ``OMP_NUM_THREADS`` (its first
    number, if it has several). If that is not set either, it is as many as the CPU affinity and the cgroup's quota
    allow. Small problems use fewer.
    """
    n = operator.index(n)
    if n < 0:
        raise ValueError(f"n is {n}; expected 0 to 512")
    check(lib.dynq_set_num_threads(min(n, 2**31)))


def get_num_threads() -> int:
    """Return the number of threads that a large problem uses."""
    count = ffi.new("size_t *")
    check(lib.dynq_get_num_threads(count))
    return int(count[0])


def num_threads_from() -> str:
    """Return what that number comes from.

    It is "program" (set_num_threads), "DYNQ_NUM_THREADS", "OMP_NUM_THREADS", "affinity" or "cgroup".
    """
    return text(lib.dynq_num_threads_from())
