"""Time calls."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

__all__ = ["median_seconds"]

Call = Callable[[], Any]


def median_seconds(call: Call, seconds: float, samples: int) -> float:
    """Return the median time of a call; a sample takes about ``seconds``."""
    calls = 1
    while True:
        took = min(_time(call, calls), _time(call, calls))
        if took >= seconds / 2:
            break
        calls *= 2
    return statistics.median(_time(call, calls) for _ in range(samples)) / calls


def _time(call: Call, calls: int) -> float:
    start = time.perf_counter()
    for _ in range(calls):
        call()
    return time.perf_counter() - start
