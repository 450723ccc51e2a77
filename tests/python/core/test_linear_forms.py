"""Every form of a call of linear takes the short way into C, and gives what the long way gives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import dynq
from dynq import weights

Array = np.ndarray[Any, Any]
RNG = np.random.default_rng(0)
M, K, N = 3, 40, 24
X = RNG.standard_normal((M, K), dtype=np.float32)
WEIGHT = dynq.quantize_weight(RNG.standard_normal((N, K), dtype=np.float32))
BIAS = RNG.standard_normal(N, dtype=np.float32)
RESIDUAL = RNG.standard_normal((M, N), dtype=np.float32)
LONG = weights._linear


def in_place(**options: Any) -> dict[str, Any]:
    both = RESIDUAL.copy()
    return {"residual": both, "out": both, **options}


FORMS: dict[str, Callable[[], tuple[Array, dict[str, Any]]]] = {
    "plain": lambda: (X, {}),
    "out": lambda: (X, {"out": np.empty((M, N), np.float32)}),
    "residual": lambda: (X, {"residual": RESIDUAL, "activation": "gelu"}),
    "residual and out": lambda: (X, {"residual": RESIDUAL, "out": np.empty((M, N), np.float32)}),
    "in place": lambda: (X, in_place()),
    "clamp": lambda: (X, {"activation": "relu", "clamp": (0, 6)}),
    "raise": lambda: (X, {"nonfinite": "raise"}),
    "float16": lambda: (X.astype(np.float16), {}),
    "columns": lambda: (np.pad(X, [(0, 0), (1, 5)])[:, 1 : K + 1], {}),
    "every other row": lambda: (np.repeat(X, 2, axis=0)[::2], {}),
    "vector": lambda: (X[0], {"out": np.empty(N, np.float32)}),
    "three dimensions": lambda: (X[None, :2], in_place(residual=None, out=None)),
    "symmetric": lambda: (X, {"scheme": "symmetric", "granularity": "tensor", "out": np.empty((M, N), np.float32)}),
}


@pytest.mark.parametrize("bias", [None, BIAS])
@pytest.mark.parametrize("form", FORMS)
def test_the_short_way_gives_what_the_long_way_gives(
    form: str, bias: Array | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, options = FORMS[form]()
    rest = ("activation", "residual", "clamp", "scheme", "granularity", "nonfinite", "out")
    usual = {"scheme": "asymmetric", "granularity": "row", "nonfinite": "propagate"}
    expected = LONG(x, WEIGHT, bias, *({**usual, **options}.get(name) for name in rest)).copy()
    monkeypatch.setattr(weights, "_linear", None)
    x, options = FORMS[form]()
    for _ in range(2):  # the second call finds the arguments of the first
        given = dict(options)
        if given.get("residual") is not None and given["residual"] is given.get("out"):
            given["residual"][...] = RESIDUAL
        y = dynq.linear(x, WEIGHT, bias, **given)
        np.testing.assert_array_equal(y, expected)
        assert options.get("out") is None or y is options["out"]


def test_an_error_about_a_nan_runs_once_in_place() -> None:
    x = X.copy()
    x[1, 0] = np.nan
    both = RESIDUAL.copy()
    with pytest.raises(dynq.NonFiniteError):
        dynq.linear(x, WEIGHT, residual=both, out=both, nonfinite="raise")
    np.testing.assert_array_equal(both[::2], dynq.linear(X, WEIGHT, residual=RESIDUAL)[::2])
    assert np.isnan(both[1]).all()


def test_a_clamp_that_changes_is_read_again() -> None:
    clamp = [0.0, 0.25]
    assert dynq.linear(X, WEIGHT, clamp=clamp).max() == 0.25  # type: ignore[arg-type]
    clamp[1] = 0.5
    assert dynq.linear(X, WEIGHT, clamp=clamp).max() == 0.5  # type: ignore[arg-type]


def test_a_view_of_out_is_no_residual_in_place() -> None:
    out = RESIDUAL.copy()
    with pytest.raises(ValueError, match="out overlaps residual"):
        dynq.linear(X, WEIGHT, residual=out[:], out=out)
    np.testing.assert_array_equal(out, RESIDUAL)
