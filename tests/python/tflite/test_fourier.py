"""Fourier transforms of frames give what NumPy and LiteRT give, in float32."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import dynq
from tests.python.references.tflite_models import Graph, Op, T, constant, litert, write

pytest.importorskip("tflite")
F = np.float32


def spectrum(width: int, n: int, last: str = "COMPLEX_ABS") -> bytes:
    """Return the transforms of 3 frames; the complex values change their shape on the way."""
    half = n // 2 + 1
    tensors = {
        "x": T((3, 1, width)),
        "n": constant(np.array([1, n], np.int32)),
        "c": T((3, 1, half), "complex64"),
        "s": constant(np.array([3, half], np.int32)),
        "d": T((3, half), "complex64"),
        "y": T((3, half)),
    }
    move = Op("SQUEEZE", "c", "d", "SqueezeOptions", {"SqueezeDims": [-2]})
    if width == n:
        move = Op("RESHAPE", "c s", "d", "ReshapeOptions")
    ops = [Op("RFFT2D", "x n", "c"), move, Op(last, "d", "y", "CastOptions" if last == "CAST" else None)]
    return write(Graph(tensors, ops, "x", "y"))


@pytest.mark.parametrize(("width", "n"), [(64, 64), (40, 64), (100, 64), (256, 256)])
@pytest.mark.parametrize(
    ("last", "function"), [("COMPLEX_ABS", np.abs), ("REAL", np.real), ("CAST", np.real), ("IMAG", np.imag)]
)  # fmt: skip
def test_frames_are_transformed(width: int, n: int, last: str, function: Any) -> None:
    x = np.random.default_rng(0).standard_normal((3, 1, width)).astype(F)
    got = dynq.from_tflite(spectrum(width, n, last))(x)
    want = function(np.fft.rfft(x[:, 0].astype(float), n))
    np.testing.assert_allclose(got, want, atol=2e-4)
    if width == n and last == "COMPLEX_ABS":
        pytest.importorskip("ai_edge_litert")
        np.testing.assert_allclose(got, litert(spectrum(width, n), [x])[0], atol=2e-4)


def test_tables_of_transforms_stay_float() -> None:
    assert not any(row.quantized for row in dynq.from_tflite(spectrum(64, 64)).report().rows)


@pytest.mark.parametrize(
    ("tensors", "operator", "text"),
    [
        ({"x": T((2, 4, 8)), "y": T((2, 4, 5), "complex64")}, Op("RFFT2D", "x n", "y"), "an output of COMPLEX64"),
        ({"x": T((2, 4), "complex64"), "y": T((2, 4))}, Op("COMPLEX_ABS", "x", "y"), "dtype COMPLEX64: 'x'"),
        ({"x": T((2, 4, 8)), "y": T((2, 1, 5), "complex64")}, Op("NEG", "x", "y"), "dtype COMPLEX64: 'y'"),
    ],
)
def test_other_uses_of_complex_numbers_are_refused(tensors: dict[str, T], operator: Op, text: str) -> None:
    if operator.op == "RFFT2D":
        tensors = {**tensors, "x": T((2, 1, 8)), "n": constant(np.array([1, 8], np.int32))}
    with pytest.raises(dynq.UnsupportedModelError, match=text):
        dynq.from_tflite(write(Graph(tensors, [operator], "x", "y")))


def test_transforms_of_both_axes_are_refused() -> None:
    tensors = {"x": T((2, 4, 8)), "n": constant(np.array([4, 8], np.int32)), "c": T((2, 4, 5), "complex64"), "y": T(())}
    ops = [Op("RFFT2D", "x n", "c"), Op("COMPLEX_ABS", "c", "y")]
    with pytest.raises(dynq.UnsupportedModelError, match="RFFT2D of more than rows"):
        dynq.from_tflite(write(Graph(tensors, ops, "x", "y")))
