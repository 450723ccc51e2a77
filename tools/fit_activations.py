"""Fit the polynomials of native/src/kernels/common/activations.h.

    python tools/fit_activations.py            print them
    python tools/fit_activations.py --check    fail where activations.h holds others

Each is a minimax fit of the relative error of the function it serves, by Lawson's iteratively reweighted least
squares on Chebyshev nodes (C. L. Lawson, 1961), rounded to float32.
"""

import math
import re
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

Array = np.ndarray
HEADER = Path(__file__).parent.parent / "native/src/kernels/common/activations.h"

_erf = np.vectorize(math.erf)
_erfc = np.vectorize(math.erfc)


def minimax(
    f: Callable[[Array], Array], weight: Callable[[Array], Array], low: float, high: float, terms: int
) -> Array:
    """Coefficients, lowest first, that minimize max |weight * (polynomial - f)| on [low, high]."""
    nodes = 2000
    x = (low + high) / 2 + (high - low) / 2 * np.cos(np.linspace(0, np.pi, nodes))
    powers, y, w = np.stack([x**i for i in range(terms)], 1), f(x), weight(x)
    share = np.full(nodes, 1 / nodes)
    for _ in range(300):
        s = np.sqrt(share) * w
        coefficients = np.linalg.lstsq(powers * s[:, None], y * s, rcond=None)[0]
        error = np.abs((powers @ coefficients - y) * w)
        share *= error / error.max() + 1e-9
        share /= share.sum()
    return coefficients


def _safe(x: Array) -> Array:
    return np.where(x == 0, 1, x)


def _exp_rest(r: Array) -> Array:  # exp(r) = 1 + r + r^2 rest(r)
    return np.where(np.abs(r) < 1e-4, 0.5 + r / 6, (np.expm1(r) - r) / _safe(r) ** 2)


def _tanh_rest(z: Array) -> Array:  # tanh(x) = x + x z rest(z), z = x^2
    x = np.sqrt(z)
    return np.where(z < 1e-6, -1 / 3 + 2 * z / 15, (np.tanh(x) / _safe(x) - 1) / _safe(z))


def _erf_rest(z: Array) -> Array:  # erf(x) = x + x rest(z), z = x^2
    x = np.sqrt(z)
    return np.where(z < 1e-8, 2 / math.sqrt(math.pi) - 1, _erf(x) / _safe(x) - 1)


def _gelu_share(a: Array) -> Array:
    return _erfc(a / math.sqrt(2)) / 2


def _log_rest(f: Array) -> Array:  # log(1 + f) = f - f^2 / 2 + f^3 rest(f)
    series = 1 / 3 - f / 4 + f**2 / 5 - f**3 / 6 + f**4 / 7 - f**5 / 8
    return np.where(np.abs(f) < 1e-2, series, (np.log1p(f) - f + f * f / 2) / np.where(f == 0, 1, f) ** 3)


def fits() -> dict[str, Array]:
    return {
        "EXP": minimax(_exp_rest, lambda r: r * r * np.exp(-r), -0.35, 0.35, 5),
        "TANH": minimax(_tanh_rest, lambda z: z / (1 + z * _tanh_rest(z)), 0, 0.625**2, 5),
        "ERF": minimax(_erf_rest, lambda z: 1 / (1 + _erf_rest(z)), 0, 1, 7),
        # erf(x) = 1 - exp(-q(x)) from 1 to 4, where float32's erf becomes 1
        "ERF_TAIL": minimax(lambda a: -np.log(_erfc(a)), lambda a: _erfc(a) / _erf(a), 1, 4, 7),
        # the share of x that gelu takes from |x|: erfc(a / sqrt(2)) / 2 = exp(-q(a)); relative error down to 1e-4
        "GELU": minimax(lambda a: -np.log(_gelu_share(a)), lambda a: np.maximum(_gelu_share(a), 1e-4), 0, 8, 11),
        "LOG": minimax(
            _log_rest, lambda f: np.abs(f**3 / np.where(f == 0, 1, np.log1p(f))), 0.5**0.5 - 1, 2**0.5 - 1, 8
        ),
    }


def main() -> None:
    text = HEADER.read_text(encoding="utf-8")
    wrong = []
    for name, coefficients in fits().items():
        values = ", ".join(f"{np.float32(c):.9g}f" for c in coefficients)
        print(f"static const float {name}[] = {{{values}}};")
        held = re.search(rf"\b{name}\[\] = \{{(.*?)\}};", text, re.DOTALL)
        numbers = [float(c) for c in re.findall(r"(-?[\d.e-]+)f\b", held.group(1))] if held else []
        # Another LAPACK rounds otherwise, and the last coefficients of a long fit show it most.
        if len(numbers) != len(coefficients) or not np.allclose(numbers, coefficients, rtol=1e-3, atol=0):
            wrong.append(name)
    if "--check" in sys.argv[1:] and wrong:
        raise SystemExit(f"{HEADER.name} holds others: {', '.join(wrong)}")


if __name__ == "__main__":
    main()
