"""dynq.CachedAttention in NumPy, in double precision and without a cache: every position of a sequence at once."""

import math

import numpy as np


def attention(
    q,
    k,
    v,
    *,
    heads,
    scale=None,
    softcap=None,
    causal=True,
    window=0,
    slopes=None,
    sinks=None,
    mask=None,
    distances=None,
):
    """Return (S, H * E) for one sequence: q (S, H * D), k (S, G * D), v (S, G * E); mask (H, S, S) is added.

    Of distances (H, D) those back from a row are added.
    """
    rows, size = q.shape[0], q.shape[1] // heads
    shared = k.shape[1] // size
    width = v.shape[1] // shared
    out = np.zeros((rows, heads * width))
    for h in range(heads):
        g = h // (heads // shared)
        a, b = q[:, h * size : (h + 1) * size].astype(float), k[:, g * size : (g + 1) * size].astype(float)
        scores = a @ b.T * (1 / math.sqrt(size) if scale is None else scale)
        if softcap is not None:
            scores = softcap * np.tanh(scores / softcap)
        at = np.arange(rows)
        if slopes is not None:
            scores = scores + slopes[h] * (at[None, :] - at[:, None])
        if distances is not None:
            scores = scores + distances[h][np.maximum(at[:, None] - at[None, :], 0)]
        seen = at[None, :] <= at[:, None] if causal else np.ones((rows, rows), bool)
        if window:
            seen &= at[None, :] > at[:, None] - window
        if mask is not None:
            scores = scores + mask[h]
        scores = np.where(seen, scores, -np.inf)
        if sinks is not None:
            scores = np.concatenate([scores, np.full((rows, 1), sinks[h])], 1)
        weights = np.exp(scores - scores.max(1, keepdims=True))
        weights = weights / weights.sum(1, keepdims=True)
        out[:, h * width : (h + 1) * width] = weights[:, :rows] @ v[:, g * width : (g + 1) * width]
    return out


def cross_attention(q, k, v, *, heads, scale=None, softcap=None):
    """Return (S, H * E) for one sequence: each row of q (S, H * D) looks at all of k (T, G * D) and v (T, G * E)."""
    size = q.shape[1] // heads
    shared = k.shape[1] // size
    parts = []
    for h in range(heads):
        a, b, c = (
            x.astype(float).reshape(len(x), count, -1)[:, at]
            for x, count, at in ((q, heads, h), (k, shared, h * shared // heads), (v, shared, h * shared // heads))
        )
        scores = a @ b.T * (1 / math.sqrt(size) if scale is None else scale)
        if softcap is not None:
            scores = softcap * np.tanh(scores / softcap)
        weights = np.exp(scores - scores.max(1, keepdims=True))
        parts.append(weights / weights.sum(1, keepdims=True) @ c)
    return np.concatenate(parts, 1)
