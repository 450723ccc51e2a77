"""The activations of docs/activations.md once more, in NumPy: float32, one rounding after each operation.

The coefficients are those of native/src/kernels/common/activations.h, which tools/fit_activations.py found.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

F = np.float32
SIGN = np.uint32(0x80000000)


def floats(*numbers: float) -> list[np.float32]:
    return [F(number) for number in numbers]


EXP = floats(0.49999994, 0.166665152, 0.041668456, 0.00836941134, 0.00138131611)
TANH = floats(-0.333332807, 0.133314416, -0.0537397154, 0.0206390843, -0.00570498314)
ERF_HALF = floats(
    0.693147182, 0.797885954, 0.318294913, 0.0363947153, -0.0048938184, 7.53773493e-05, 0.000151763641,
    -3.91386529e-05, 4.97817109e-06, -3.32685516e-07, 9.25331811e-09,
)  # fmt: skip
LOG = floats(
    0.333333313, -0.250008196, 0.200012267, -0.166233569, 0.142017573, -0.131601855, 0.127615869, -0.0763450339
)
LOG2_E, LN2_HIGH, LN2_LOW = (F(float.fromhex(text)) for text in ("0x1.715476p0", "0x1.63p-1", "-0x1.bd0106p-13"))
TO_INTEGER = F(float.fromhex("0x1.8p23"))  # x + this - this is rint(x), and the sum's low bits are that integer


def polynomial(x: np.ndarray, coefficients: list[np.float32]) -> np.ndarray:
    y = np.full_like(x, coefficients[-1])
    for c in coefficients[-2::-1]:
        y = y * x + c
    return y


def lower(a: np.ndarray | np.float32, b: np.ndarray | np.float32) -> np.ndarray:
    """The second where they are equal or one is NaN."""
    return np.where(a < b, a, b)


def higher(a: np.ndarray | np.float32, b: np.ndarray | np.float32) -> np.ndarray:
    """The second where they are equal or one is NaN."""
    return np.where(a > b, a, b)


def power_of_two(n: np.ndarray) -> np.ndarray:
    return ((n + np.int32(127)) << np.int32(23)).view(F)


def exp(x: np.ndarray) -> np.ndarray:
    x = lower(F(89), higher(F(-104), x))
    shifted = x * LOG2_E + TO_INTEGER
    n = shifted - TO_INTEGER
    r = (x - n * LN2_HIGH) - n * LN2_LOW
    y = F(1) + (r + (r * r) * polynomial(r, EXP))
    exponent = shifted.view(np.int32) - TO_INTEGER.view(np.int32)
    half = exponent >> np.int32(1)
    return (y * power_of_two(half)) * power_of_two(exponent - half)


def relu(x: np.ndarray) -> np.ndarray:
    return higher(F(0), x)


def sigmoid(x: np.ndarray) -> np.ndarray:
    e = exp(F(0) - np.abs(x))
    return np.where(x < 0, e, F(1)) / (F(1) + e)


def tanh(x: np.ndarray) -> np.ndarray:
    a = np.abs(x)
    z = a * a
    small = a + (a * z) * polynomial(z, TANH)
    large = F(1) - F(2) / (exp(a + a) + F(1))
    y = np.where(a < F(0.625), small, large)
    return (y.view(np.uint32) | (x.view(np.uint32) & SIGN)).view(F)


def silu(x: np.ndarray) -> np.ndarray:
    return x * sigmoid(x)


def gelu(x: np.ndarray) -> np.ndarray:
    a = np.abs(x)
    tail = exp(F(0) - polynomial(a, ERF_HALF))
    return higher(F(0), x) - lower(F(16), a) * tail


def gelu_tanh(x: np.ndarray) -> np.ndarray:
    u2 = x * (F(1.59576912) + F(0.0713548163) * (x * x))
    return x * sigmoid(u2)


def hard_swish(x: np.ndarray) -> np.ndarray:
    return x * lower(F(1), higher(F(0), F(1 / 6) * x + F(0.5)))


def log_parts(n: np.ndarray, f: np.ndarray) -> np.ndarray:
    z = f * f
    rest = (f * z) * polynomial(f, LOG) + n * LN2_LOW
    return (f + (rest - z * F(0.5))) + n * LN2_HIGH


def softplus(x: np.ndarray) -> np.ndarray:
    e = exp(F(0) - np.abs(x))
    few = e < F(0.41)
    halved = (F(1) + e) * F(0.5) - F(1)
    return higher(F(0), x) + log_parts(np.where(few, F(0), F(1)), np.where(few, e, halved))


def mish(x: np.ndarray) -> np.ndarray:
    return x * tanh(softplus(x))


FUNCTIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "none": lambda x: x,
    "relu": relu,
    "sigmoid": sigmoid,
    "tanh": tanh,
    "silu": silu,
    "gelu": gelu,
    "gelu_tanh": gelu_tanh,
    "hard_swish": hard_swish,
    "mish": mish,
}


def finish(y: np.ndarray, activation: str = "none", clamp: tuple[float, float] | None = None) -> np.ndarray:
    """The last two steps of the epilogue: activation, clamp; a NaN before or after is 0x7FC00000."""
    y = np.ascontiguousarray(y, F)
    with np.errstate(all="ignore"):
        result = FUNCTIONS[activation](y)
        if clamp is not None:
            result = lower(F(clamp[1]), higher(F(clamp[0]), result))
    return np.where(np.isnan(y) | np.isnan(result), np.uint32(0x7FC00000).view(F), result)
