"""The numerics rule once more, in NumPy, written from docs/numerics.md and from nothing else.

Integers are exact (int64), floats are float32 with one rounding after each operation.
"""

from __future__ import annotations

import numpy as np

F = np.float32
NAN_BITS = 0x7FC00000


def bits(x: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(x, np.float32).view(np.uint32)


def block_range(x: np.ndarray) -> tuple[np.float32, np.float32]:
    """lo and hi of all of ``x``; NaN, NaN where it is not finite."""
    if not np.isfinite(x).all():
        return F("nan"), F("nan")
    values = np.append(x.ravel(), F(0))
    return F(values.min() + F(0)), F(values.max() + F(0))


def qparams(lo: np.float32, hi: np.float32, scheme: str) -> tuple[np.float32, int]:
    """scale, and the zero-point of uint8."""
    with np.errstate(all="ignore"):
        if scheme == "symmetric":
            scale = F(max(-lo, hi)) / F(127)
            return (scale if scale != 0 else F(1)), 128
        width = F(hi) - F(lo)
        scale = width / F(255) if np.isfinite(width) else F(hi) / F(255) - F(lo) / F(255)
        if scale == 0:
            scale = F(1)
        return scale, int(np.clip(np.rint(-F(lo) / scale), 0, 255))


def quantize_block(x: np.ndarray, scheme: str) -> tuple[np.ndarray, np.float32, int]:
    """uint8 of ``x``, scale, zero-point; ``x`` is finite."""
    scale, zero_point = qparams(*block_range(x), scheme)
    with np.errstate(all="ignore"):
        q = np.rint(x.astype(F) / scale) + F(zero_point)
    return np.clip(q, 1 if scheme == "symmetric" else 0, 255).astype(np.uint8), scale, zero_point


def quantize_weight(w: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """int8 (N, K) and scales (N,): symmetric per channel."""
    q, scale = np.zeros(w.shape, np.int8), np.ones(len(w), F)
    for n, row in enumerate(w):
        unsigned, scale[n], _ = quantize_block(row, "symmetric")
        q[n] = (unsigned.astype(np.int16) - 128).astype(np.int8)
    return q, scale


def linear(
    x: np.ndarray,
    w: np.ndarray,
    w_scale: np.ndarray,
    w_zero: np.ndarray | None = None,
    bias: np.ndarray | None = None,
    residual: np.ndarray | None = None,
    scheme: str = "asymmetric",
    granularity: str = "row",
) -> np.ndarray:
    """x float32 (M, K), w int8 (N, K): float32 (M, N) before activation and clamp."""
    centred = w.astype(np.int64) - (0 if w_zero is None else w_zero.astype(np.int64)[:, None])
    y = np.empty((len(x), len(w)), F)
    blocks = [slice(i, i + 1) for i in range(len(x))] if granularity == "row" else [slice(0, len(x))]
    with np.errstate(all="ignore"):
        for block in blocks:
            if not np.isfinite(x[block]).all():
                y[block] = F("nan")
                continue
            q, scale, zero_point = quantize_block(x[block], scheme)
            acc = (q.astype(np.int64) - zero_point) @ centred.T
            y[block] = acc.astype(F) * (scale * w_scale.astype(F))
        if bias is not None:
            y = y + bias
        if residual is not None:
            y = y + residual
    return one_nan(y)


def one_nan(y: np.ndarray) -> np.ndarray:
    return np.where(np.isnan(y), np.uint32(NAN_BITS).view(F), y)


def dequantize(q: np.ndarray, scale: np.ndarray, zero_point: np.ndarray) -> np.ndarray:
    """float32(q - zero_point) * scale; the last two broadcast against ``q``."""
    with np.errstate(all="ignore"):
        return (q.astype(np.int64) - zero_point).astype(F) * np.asarray(scale, F)


def panels(w: np.ndarray) -> np.ndarray:
    """int8 (N, K) in panel layout: [ceil(N / 16)][ceil(K / 4)][16][4], zero padded."""
    n, k = w.shape
    padded = np.zeros((-(-n // 16) * 16, -(-k // 4) * 4), np.int8)
    padded[:n, :k] = w
    return np.ascontiguousarray(padded.reshape(-(-n // 16), 16, -(-k // 4), 4).transpose(0, 2, 1, 3))


def matmul(a: np.ndarray, b: np.ndarray, scheme: str = "asymmetric", granularity: str = "row") -> np.ndarray:
    """float32 (M, K) times (K, N). A column of ``b`` that is not finite makes that column NaN."""
    finite = np.isfinite(b).all(0)
    w, scale = quantize_weight(np.where(finite, b, F(0)).T)
    y = linear(a, w, np.where(finite, scale, F("nan")), scheme=scheme, granularity=granularity)
    return one_nan(y)
