"""Recurrent layers once more: ONNX's definition in float64, and the rule of docs/numerics.md operation by operation."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.python.references import reference as rule
from tests.python.references.reference_activations import sigmoid, tanh

Array = np.ndarray[Any, Any]
GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}


def numbers(rng: np.random.Generator, *shape: int, size: float = 1.0) -> Array:
    return (rng.standard_normal(shape) * size).astype(np.float32)


class Layer:
    """Weights and inputs of one layer, and what ONNX says it computes."""

    def __init__(
        self,
        op: str,
        rng: np.random.Generator,
        t: int = 5,
        b: int = 3,
        i: int = 7,
        h: int = 20,
        direction: str = "forward",
        lengths: list[int] | None = None,
        peepholes: bool = False,
        before: bool = False,
        projection: int = 0,
    ) -> None:
        d, g = 2 if direction == "bidirectional" else 1, GATES[op]
        self.op, self.direction, self.before = op, direction, before
        self.x = numbers(rng, t, b, i)
        state = projection or h
        self.w, self.r = numbers(rng, d, g * h, i, size=0.4), numbers(rng, d, g * h, state, size=0.4)
        self.b = numbers(rng, d, 2 * g * h, size=0.4)
        self.h = np.tanh(numbers(rng, d, b, state))
        self.projection = numbers(rng, d, state, h, size=0.4) if projection else None
        self.c = numbers(rng, d, b, h) if op == "LSTM" else None
        self.p = numbers(rng, d, 3 * h, size=0.4) if peepholes else None
        self.lengths = None if lengths is None else np.array(lengths, np.int32)
        self.attributes: dict[str, Any] = {"direction": direction}
        if op == "GRU":
            self.attributes["linear_before_reset"] = int(before)

    def inputs(self) -> list[Array | None]:
        return [self.x, self.w, self.r, self.b, self.lengths, self.h, self.c, self.p][: 8 if self.op == "LSTM" else 6]

    @property
    def outputs(self) -> int:
        return 3 if self.op == "LSTM" else 2

    def expected(self, quantized: bool) -> list[Array]:
        """float64 where not ``quantized``, else the rule, operation by operation in float32."""
        t, b, _ = self.x.shape
        d, _, n = self.h.shape
        h = self.h.copy() if quantized else self.h.astype(np.float64)
        c = np.zeros_like(h) if self.c is None else self.c.astype(h.dtype)
        y = np.zeros((t, d, b, n), h.dtype)
        for direction in range(d):
            backward = self.direction == "reverse" or direction == 1
            step = _Step(self, direction, quantized)
            for at in reversed(range(t)) if backward else range(t):
                for row in range(b):
                    if self.lengths is None or at < self.lengths[row]:
                        state = step(self.x[at, row], h[direction, row], c[direction, row])
                        h[direction, row], c[direction, row] = state
                        y[at, direction, row] = state[0]
        return [y, h, c][: self.outputs]


class _Step:
    def __init__(self, layer: Layer, direction: int, quantized: bool) -> None:
        self.layer, self.quantized = layer, quantized
        width = layer.w.shape[1]
        n = width // GATES[layer.op]
        self.n, self.w, self.r = n, layer.w[direction], layer.r[direction]
        self.p = None if layer.p is None else layer.p[direction].reshape(3, n)
        of_input, of_state = layer.b[direction, :width].copy(), layer.b[direction, width:].copy()
        apart = 2 * n if layer.op == "GRU" and layer.before else width
        of_input[:apart] += of_state[:apart]
        of_state[:apart] = 0
        self.of_input, self.of_state = of_input, of_state if apart < width else None
        self.weights = [self.w, self.r] + ([] if layer.projection is None else [layer.projection[direction]])
        self.packed = [rule.quantize_weight(weight) for weight in self.weights]
        self.sigmoid = sigmoid if quantized else lambda x: 1 / (1 + np.exp(-x))
        self.tanh = tanh if quantized else np.tanh

    def product(self, which: int, x: Array, bias: Array | None, residual: Array | None = None) -> Array:
        if self.quantized:
            result = rule.linear(
                x[None], *self.packed[which], bias=bias, residual=None if residual is None else residual[None]
            )
            return result[0]
        y = self.weights[which].astype(np.float64) @ x
        return y + (0 if bias is None else bias) + (0 if residual is None else residual)

    def __call__(self, x: Array, h: Array, c: Array) -> tuple[Array, Array]:
        projected = self.product(0, x, self.of_input)
        return getattr(self, self.layer.op.lower())(projected, h, c)  # type: ignore[no-any-return]

    def lstm(self, projected: Array, h: Array, c: Array) -> tuple[Array, Array]:
        i, o, f, z = self.product(1, h, None, projected).reshape(4, self.n)
        if self.p is not None:
            i, f = i + self.p[0] * c, f + self.p[2] * c
        i, f, z = self.sigmoid(i), self.sigmoid(f), self.tanh(z)
        c = f * c + i * z
        if self.p is not None:
            o = o + self.p[1] * c
        h = self.sigmoid(o) * self.tanh(c)
        return (h if self.layer.projection is None else self.product(2, h, None)), c

    def gru(self, projected: Array, h: Array, c: Array) -> tuple[Array, Array]:
        n, one = self.n, h.dtype.type(1)
        if self.layer.before:
            sums = self.product(1, h, self.of_state)
            z, r = self.sigmoid(sums[:n] + projected[:n]), self.sigmoid(sums[n : 2 * n] + projected[n : 2 * n])
            candidate = self.tanh(projected[2 * n :] + r * sums[2 * n :])
        else:
            sums = self.product(1, h, None, projected)
            z, r = self.sigmoid(sums[:n]), self.sigmoid(sums[n : 2 * n])
            candidate = self.tanh(self.product(1, r * h, None, projected)[2 * n :])
        return (one - z) * candidate + z * h, c

    def rnn(self, projected: Array, h: Array, c: Array) -> tuple[Array, Array]:
        return self.tanh(self.product(1, h, None, projected)), c
