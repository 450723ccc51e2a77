"""Run real networks in int8 beside float32, for ``dynq demo``."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
from threadpoolctl import threadpool_limits

import dynq

# The most seconds for one comparison. A desktop CPU needs less than one; a small board or an emulator needs minutes.
PATIENCE = 2.0


@contextmanager
def one_thread() -> Iterator[None]:
    """Use one thread for dynq and for NumPy's BLAS.

    Hold it for a whole run, not only while the clock runs. A BLAS thread that has just worked waits busily for more. On
    two CPUs that doubled the time of the float32 network that was measured next.
    """
    threads = dynq.get_num_threads()
    dynq.set_num_threads(1)
    try:
        with threadpool_limits(1):
            yield
    finally:
        dynq.set_num_threads(threads)


def interleaved_medians(calls: dict[str, Callable[[], object]], rounds: int, repeats: int) -> dict[str, float]:
    """Return the median seconds of each call; use it inside ``one_thread``.

    Rounds take turns, so that a slow moment of the machine meets all of them. Two pools of threads side by side would
    measure how they disturb each other. If the calls would take longer than ``PATIENCE`` seconds together, there are
    fewer repeats, then fewer rounds, one at least.
    """
    # glibc's malloc keeps blocks up to the largest that was freed (mallopt(3), M_MMAP_THRESHOLD). Without this, NumPy's
    # temporaries go back to the kernel after each call, and float32 pays for a hundred page faults.
    np.empty(2**24, np.uint8)
    start = time.perf_counter()
    for call in calls.values():
        call()
    affordable = PATIENCE / (time.perf_counter() - start)  # repeats of each call
    repeats = max(1, min(repeats, int(affordable / rounds)))
    rounds = max(1, min(rounds, int(affordable)))
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            start = time.perf_counter()
            for _ in range(repeats):
                call()
            seconds[name].append((time.perf_counter() - start) / repeats)
    return {name: statistics.median(values) for name, values in seconds.items()}
