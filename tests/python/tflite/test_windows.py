"""Windows by their definition: where they begin with both paddings, and what outside of the image counts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import dynq
from tests.python.references.tflite_models import T, one_op

pytest.importorskip("tflite")
F = np.float32


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape, F)


def windows(x: np.ndarray, kernel: Any, stride: Any, same: bool, outside: float) -> np.ndarray:
    """Return (N, OH, OW, KH, KW, C): what each window sees of (N, H, W, C)."""
    first, count = [0, 0], [0, 0]
    for i in range(2):
        size = x.shape[1 + i]
        count[i] = -(-size // stride[i]) if same else (size - kernel[i]) // stride[i] + 1
        first[i] = max((count[i] - 1) * stride[i] + kernel[i] - size, 0) // 2 if same else 0
    padded = np.pad(x, [(0, 0), (first[0], 9), (first[1], 9), (0, 0)], constant_values=outside)
    seen = [
        [
            padded[:, i * stride[0] : i * stride[0] + kernel[0], j * stride[1] : j * stride[1] + kernel[1]]
            for j in range(count[1])
        ]
        for i in range(count[0])
    ]
    return np.array(seen).transpose(2, 0, 1, 3, 4, 5)


shapes = {
    "size": st.tuples(st.integers(3, 7), st.integers(3, 7)),
    "kernel": st.tuples(st.integers(1, 3), st.integers(1, 3)),
    "stride": st.tuples(st.integers(1, 3), st.integers(1, 3)),
    "same": st.booleans(),
}


@settings(max_examples=15, deadline=None)
@given(**shapes)
def test_convolutions_and_pools(size: Any, kernel: Any, stride: Any, same: bool) -> None:
    x = normal(2, *size, 3)
    common = {"Padding": int(not same), "StrideH": stride[0], "StrideW": stride[1]}
    seen = windows(x, kernel, stride, same, 0)
    w, b = normal(4, *kernel, 3, seed=1), normal(4, seed=2)
    model = one_op("CONV_2D", {"x": T(x.shape), "w": w, "b": b}, T(()), "Conv2DOptions", **common)
    _close(model, x, np.einsum("nhwijc,oijc->nhwo", seen, w) + b)
    w = normal(1, *kernel, 6, seed=1)
    model = one_op("DEPTHWISE_CONV_2D", {"x": T(x.shape), "w": w}, T(()), "DepthwiseConv2DOptions", **common)
    want = np.einsum("nhwijc,ijcm->nhwcm", seen, w[0].reshape(*kernel, 3, 2))
    _close(model, x, want.reshape(*want.shape[:3], 6))
    common |= {"FilterHeight": kernel[0], "FilterWidth": kernel[1]}
    model = one_op("AVERAGE_POOL_2D", {"x": T(x.shape)}, T(()), "Pool2DOptions", **common)
    _close(model, x, np.nanmean(windows(x, kernel, stride, same, np.nan), (3, 4)))
    model = one_op("MAX_POOL_2D", {"x": T(x.shape)}, T(()), "Pool2DOptions", **common)
    _close(model, x, windows(x, kernel, stride, same, -np.inf).max((3, 4)))


def _close(model: bytes, x: np.ndarray, want: np.ndarray) -> None:
    got = dynq.from_tflite(model, quantize=False).run({"x": x})["y"]
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)
