"""Real networks in int8 beside float32: what ``dynq demo`` runs."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

from threadpoolctl import threadpool_limits

import dynq


def interleaved_medians(calls: dict[str, Callable[[], object]], rounds: int, repeats: int) -> dict[str, float]:
    """Median seconds of each call, with one thread for dynq and for NumPy's BLAS.

    Rounds take turns, so that a slow moment of the machine meets all of them. Two pools of threads side by side would
    measure how they get on with each other.
    """
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    threads = dynq.get_num_threads()
    dynq.set_num_threads(1)
    try:
        with threadpool_limits(1):
            for _ in range(rounds):
                for name, call in calls.items():
                    start = time.perf_counter()
                    for _ in range(repeats):
                        call()
                    seconds[name].append((time.perf_counter() - start) / repeats)
    finally:
        dynq.set_num_threads(threads)
    return {name: statistics.median(values) for name, values in seconds.items()}
