"""Sizes that are products of numbers and of names, which inputs leave open: "4 * batch"."""

from __future__ import annotations

import math
from collections.abc import Iterable

from .values import Dim

__all__ = ["product", "quotient"]

_TIMES = " * "


def product(dims: Iterable[Dim]) -> Dim:
    """Return the product of sizes: a number, or a name in one spelling; None if one of them is not known."""
    return quotient(dims, [])


def quotient(over: Iterable[Dim], under: Iterable[Dim]) -> Dim:
    """Return the product of the first sizes over that of the others; None if it is not known, or no whole number.

    A name on both sides cancels.
    """
    left, right = ([part for dim in dims for part in _factors(dim)] for dims in (over, under))
    if None in left or None in right:
        return None
    names = [dim for dim in left if isinstance(dim, str)]
    for dim in right:
        if isinstance(dim, str):
            if dim not in names:
                return None
            names.remove(dim)
    number, divisor = (math.prod(dim for dim in dims if isinstance(dim, int)) for dims in (left, right))
    if divisor == 0 or number % divisor:
        return None
    number //= divisor
    if not names or number == 0:
        return number
    return _TIMES.join([*([str(number)] if number != 1 else []), *sorted(names)])


def _factors(dim: Dim) -> list[Dim]:
    return [int(part) if part.isdecimal() else part for part in dim.split(_TIMES)] if isinstance(dim, str) else [dim]
