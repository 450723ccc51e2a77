"""dynq.jax.linear gives dynq.linear's bits, compiled and mapped. .ci/engines.sh installs JAX and runs this."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dynq

jax = pytest.importorskip("jax")
import jax.numpy as jnp  # noqa: E402

import dynq.jax  # noqa: E402

N, K = 40, 101
RNG = np.random.default_rng(0)
W = RNG.standard_normal((N, K), np.float32)
B = RNG.standard_normal(N, np.float32)
X = RNG.standard_normal((6, 5, K), np.float32)
QW = dynq.quantize_weight(W)


@pytest.fixture(scope="module")
def weight() -> Any:
    return dynq.jax.quantize_weight(W)


@pytest.mark.parametrize("activation", [None, "relu", "gelu", "mish"])
@pytest.mark.parametrize("scheme", ["asymmetric", "symmetric"])
@pytest.mark.parametrize("granularity", ["row", "tensor"])
@pytest.mark.parametrize("bias", [None, B])
def test_the_bits_of_dynq_linear(weight: Any, activation: Any, scheme: Any, granularity: Any, bias: Any) -> None:
    options: Any = {"activation": activation, "scheme": scheme, "granularity": granularity}
    expected = dynq.linear(X, QW, bias, **options)
    np.testing.assert_array_equal(dynq.jax.linear(X, weight, bias, **options), expected)
    compiled = jax.jit(lambda x, w, b: jnp.tanh(dynq.jax.linear(x * 1, w, b, **options)) * 0 + 1)
    assert np.all(compiled(X, weight, bias) == 1)
    np.testing.assert_array_equal(
        jax.jit(lambda x, w, b: dynq.jax.linear(x, w, b, **options))(X, weight, bias), expected
    )


def test_jit_closes_over_a_weight_and_takes_other_shapes(weight: Any) -> None:
    f = jax.jit(lambda x: dynq.jax.linear(x, weight, B))
    for x in (X, X[0], X[0, 0], X[:0], X[:, ::2]):
        np.testing.assert_array_equal(f(x), dynq.linear(x, QW, B))


@pytest.mark.parametrize("granularity", ["row", "tensor"])
def test_vmap_over_rows(weight: Any, granularity: Any) -> None:
    def f(x: Any) -> Any:
        return dynq.jax.linear(x, weight, B, granularity=granularity)

    expected = np.stack([dynq.linear(x, QW, B, granularity=granularity) for x in X])
    np.testing.assert_array_equal(jax.vmap(f)(X), expected)
    np.testing.assert_array_equal(
        jax.jit(jax.vmap(f, in_axes=1, out_axes=1))(X.swapaxes(0, 1)), expected.swapaxes(0, 1)
    )
    twice = np.stack([[dynq.linear(row, QW, B, granularity=granularity) for row in x] for x in X])
    np.testing.assert_array_equal(jax.vmap(jax.vmap(f))(X), twice)


def test_vmap_over_weights_and_biases() -> None:
    matrices = RNG.standard_normal((3, N, K), np.float32)
    weights = [dynq.jax.quantize_weight(w) for w in matrices]
    stacked = jax.tree_util.tree_map(lambda *arrays: jnp.stack(arrays), *weights)
    biases = RNG.standard_normal((3, N), np.float32)
    expected = [dynq.linear(X[0], dynq.quantize_weight(w), b) for w, b in zip(matrices, biases, strict=True)]
    found = jax.vmap(dynq.jax.linear, in_axes=(None, 0, 0))(X[0], stacked, biases)
    np.testing.assert_array_equal(found, np.stack(expected))


def test_weights_with_zero_points_and_half_floats(weight: Any) -> None:
    integers = RNG.integers(0, 255, (N, K), np.uint8)
    packed = dynq.QuantizedWeight.from_integers(integers, np.full(N, 0.01, np.float32), np.full(N, 77))
    found = dynq.jax.linear(X, dynq.jax.quantize_weight(packed))
    np.testing.assert_array_equal(found, dynq.linear(X, packed))
    half = X.astype(np.float16)
    np.testing.assert_array_equal(dynq.jax.linear(half, weight), dynq.linear(half.astype(np.float32), QW))


def test_an_infinity_makes_its_row_nan(weight: Any) -> None:
    x = X[0].copy()
    x[1, 3] = np.inf
    y = np.asarray(jax.jit(dynq.jax.linear)(x, weight))
    assert np.isnan(y[1]).all() and not np.isnan(np.delete(y, 1, 0)).any()


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda w: dynq.jax.linear(X[..., :7], w), ValueError, r"x has shape \(6, 5, 7\); expected \(\.\.\., 101\)"),
        (lambda w: dynq.jax.linear(np.zeros(K, np.int32), w), TypeError, "x has dtype int32; expected float32"),
        (lambda w: dynq.jax.linear(X, w, B[:3]), ValueError, r"bias has shape \(3,\); expected \(40,\)"),
        (lambda w: dynq.jax.linear(X, W), TypeError, "weight is of type ndarray"),
        (lambda w: dynq.jax.linear(X, w, activation="gelo"), ValueError, "activation is 'gelo'"),
        (lambda w: jax.jit(dynq.jax.quantize_weight)(W), TypeError, "w is traced"),
    ],
)
def test_wrong_arguments_are_refused(weight: Any, call: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        call(weight)


def test_without_a_compiler_the_error_says_so(tmp_path: Path) -> None:
    code = "import dynq.jax as j, numpy as n; j.linear(n.zeros(4, 'f'), j.quantize_weight(n.ones((4, 4), 'f')))"
    environment = {
        "XDG_CACHE_HOME": str(tmp_path),
        "CC": "nosuchcompiler",
        "PATH": "",
        "PYTHONPATH": ":".join(sys.path),
    }
    found = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert found.returncode == 1 and "at its first use, and nosuchcompiler is not there" in found.stderr


def test_the_example_of_the_page_runs() -> None:
    text = (Path(__file__).parents[2] / "docs/jax.md").read_text(encoding="utf-8")
    names: dict[str, Any] = {}
    exec(compile(re.findall(r"```python\n(.+?)```", text, re.DOTALL)[0], "docs/jax.md", "exec"), names)
    assert names["y"].shape == (8, 10) and names["each"].shape == (3, 8, 10)
