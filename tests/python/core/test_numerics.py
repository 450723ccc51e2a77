"""Every function equals the NumPy reference bit for bit, on every instruction set."""

import math

import numpy as np
import pytest

import dynq
from tests.python.references import reference

F = np.float32
SCHEMES = ["asymmetric", "symmetric"]
GRANULARITIES = ["row", "tensor"]
BIG = np.finfo(F).max


def matrices() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(7)
    normal = rng.standard_normal((5, 37)).astype(F)
    outlier = normal.copy()
    outlier[2, 11] = 4000
    return {
        "normal": normal,
        "one outlier": outlier,
        "positive": np.abs(normal) + 3,
        "negative": -np.abs(normal) - 3,
        "zeros": np.zeros((4, 9), F),
        "negative zeros": np.full((2, 5), -0.0, F),
        "denormal": (normal * F(1e-39)).astype(F),
        "smallest denormals": rng.integers(-300, 300, (6, 50)).astype(F) * F(1e-45),
        "denormal scale": (normal * F(3e-37)).astype(F),
        "near the largest": np.array([[BIG, -BIG, BIG / 2, 0], [BIG, 1, 2, 3], [-BIG, -1, 0, 1]], F),
        "constant": np.full((3, 17), 2.5, F),
        "ties": np.concatenate([np.arange(-20, 235) * F(0.5), [F(0), F(127.5)]]).astype(F)[None],
        "one value": np.array([[3]], F),
        "wide": rng.standard_normal((3, 1000)).astype(F),
    }


MATRICES = matrices()


def same(a: np.ndarray, b: np.ndarray) -> None:
    assert a.shape == b.shape
    assert np.array_equal(reference.bits(a), reference.bits(b)), (a, b)


@pytest.mark.parametrize("name", MATRICES)
def test_minmax_is_the_range_with_zero(isa: str, name: str) -> None:
    x = MATRICES[name]
    lo, hi = dynq.minmax(x)
    same(np.stack([lo, hi], 1), np.array([reference.block_range(row) for row in x], F))
    same(np.array(dynq.minmax(x, "tensor")), np.array(reference.block_range(x)))


@pytest.mark.parametrize("dtype", ["uint8", "int8"])
@pytest.mark.parametrize("granularity", GRANULARITIES)
@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("name", MATRICES)
def test_quantize_follows_the_rule(isa: str, name: str, scheme: str, granularity: str, dtype: str) -> None:
    x = MATRICES[name]
    q, scale, zero_point = dynq.quantize(x, scheme, granularity, dtype)
    offset = 128 if dtype == "int8" else 0
    assert q.dtype == dtype and zero_point.dtype == dtype
    blocks = list(zip(x, q, scale, zero_point, strict=True)) if granularity == "row" else [(x, q, scale, zero_point)]
    for values, got, s, z in blocks:
        expected, expected_scale, expected_zero = reference.quantize_block(values, scheme)
        assert np.array_equal(got.astype(int) + offset, expected)
        same(np.array(s), np.array(expected_scale))
        assert int(z) + offset == expected_zero


@pytest.mark.parametrize("granularity", GRANULARITIES)
@pytest.mark.parametrize("name", MATRICES)
def test_dequantize_is_the_difference_times_the_scale(isa: str, name: str, granularity: str) -> None:
    q, scale, zero_point = dynq.quantize(MATRICES[name], granularity=granularity)
    s, z = (np.asarray(v)[..., None] if granularity == "row" else v for v in (scale, zero_point))
    with np.errstate(over="ignore"):
        same(dynq.dequantize(q, scale, zero_point), (q.astype(np.int32) - np.asarray(z, np.int32)).astype(F) * s)


@pytest.mark.parametrize("dtype", ["uint8", "int8"])
def test_dequantize_takes_every_integer_and_one_value_beside_one_for_each_row(isa: str, dtype: str) -> None:
    info = np.iinfo(dtype)
    q = np.tile(np.arange(info.min, info.max + 1).astype(dtype), (3, 1))
    scales, zeros = np.array([0.1, 3, 1e-42], F), np.array([info.min, 5, info.max])
    for scale, zero in [(scales, zeros), (scales, zeros[1]), (scales[0], zeros), (scales[2], zeros[0])]:
        s, z = np.broadcast_to(scale, 3)[:, None], np.broadcast_to(zero, 3)[:, None]
        same(dynq.dequantize(q, scale, zero), (q.astype(np.int32) - z).astype(F) * s)


@pytest.mark.parametrize("name", MATRICES)
def test_weights_of_every_range_are_packed_and_multiplied_by_the_rule(isa: str, name: str) -> None:
    w = MATRICES[name]
    integers, scale = reference.quantize_weight(w)
    qw = dynq.quantize_weight(w)
    assert np.array_equal(qw.integers(), integers)
    same(qw.scale, scale)
    x = np.concatenate([w, np.random.default_rng(1).standard_normal((3, w.shape[1])).astype(F)])
    for scheme in SCHEMES:  # the product of two scales may be denormal, 0 or infinite
        same(dynq.linear(x, qw, scheme=scheme), reference.linear(x, integers, scale, scheme=scheme))


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("granularity", GRANULARITIES)
@pytest.mark.parametrize("n", [1, 15, 16, 17, 33, 70])
@pytest.mark.parametrize("name", MATRICES)
def test_linear_follows_the_rule(isa: str, name: str, n: int, granularity: str, scheme: str) -> None:
    x = MATRICES[name]
    rng = np.random.default_rng(n)
    w = rng.standard_normal((n, x.shape[1])).astype(F)
    bias, residual = rng.standard_normal(n).astype(F), rng.standard_normal((len(x), n)).astype(F)
    integers, scale = reference.quantize_weight(w)
    qw = dynq.quantize_weight(w)
    assert np.array_equal(qw.integers(), integers)
    same(qw.scale, scale)
    expected = reference.linear(x, integers, scale, None, bias, residual, scheme, granularity)
    same(dynq.linear(x, qw, bias, residual=residual, scheme=scheme, granularity=granularity), expected)
    same(
        dynq.linear(x, qw, scheme=scheme, granularity=granularity),
        reference.linear(x, integers, scale, scheme=scheme, granularity=granularity),
    )


@pytest.mark.parametrize("m", [1, 2, 3, 4, 5, 6, 7, 11, 12, 13, 24, 25, 50, 129])
def test_linear_follows_the_rule_for_every_number_of_rows(isa: str, m: int) -> None:
    rng = np.random.default_rng(m)
    x, w = rng.standard_normal((m, 67)).astype(F), rng.standard_normal((85, 67)).astype(F)
    same(dynq.linear(x, dynq.quantize_weight(w)), reference.linear(x, *reference.quantize_weight(w)))


def test_extreme_integers_are_exact_for_every_k(isa: str) -> None:
    for k in range(1, 140):
        w = np.full((3, k), -128, np.int8)
        w[1] = 127
        w[2, ::2] = 127
        qw = dynq.QuantizedWeight.from_integers(w, F(1))
        for dtype, value, zero in [("uint8", 255, 0), ("uint8", 0, 255), ("int8", 127, -128), ("int8", -128, 127)]:
            q = np.full((7, k), value, dtype)
            expected = (q.astype(np.int64) - zero) @ w.astype(np.int64).T
            assert np.array_equal(dynq.gemm_s32(q, zero, qw), expected), (k, dtype, value)


@pytest.mark.parametrize("q_dtype", ["uint8", "int8"])
def test_gemm_s32_takes_a_zero_point_for_each_row_or_one_for_all(isa: str, q_dtype: str) -> None:
    rng = np.random.default_rng(4)
    info = np.iinfo(q_dtype)
    q = rng.integers(info.min, info.max + 1, (2, 3, 75)).astype(q_dtype)
    w = rng.integers(-128, 128, (19, 75)).astype(np.int8)
    qw = dynq.QuantizedWeight.from_integers(w, F(1), rng.integers(-128, 128, 19))
    assert qw.zero_point is not None
    centred = w.astype(np.int64) - qw.zero_point.astype(np.int64)[:, None]
    rows = rng.integers(info.min, info.max + 1, (2, 3))
    for zero in (rows, rows[..., None], rows.astype(q_dtype), rows[0, 0], rows[0, :1]):
        expected = (q.astype(np.int64) - (zero[..., None] if zero.shape == (2, 3) else zero)) @ centred.T
        assert np.array_equal(dynq.gemm_s32(q, zero, qw), expected)


@pytest.mark.parametrize("wanted", [2**31 - 1, 2**31, -(2**31), -(2**31) - 1])
def test_a_sum_overflows_just_beyond_int32(isa: str, wanted: int) -> None:
    k = 70_000
    w = np.full((1, k), 127 if wanted > 0 else -128, np.int8)
    q = np.zeros((1, k), np.uint8)
    full, rest = divmod(abs(wanted), 255 * abs(int(w[0, 0])))
    q[0, :full] = 255
    w[0, full] = np.sign(wanted)  # the rest: 255 * 1 so many times, then what is left
    ones, left = divmod(rest, 255)
    w[0, full : full + ones + 1] = np.sign(wanted)
    q[0, full : full + ones] = 255
    q[0, full + ones] = left
    assert int(q.astype(np.int64)[0] @ w.astype(np.int64)[0]) == wanted
    qw = dynq.QuantizedWeight.from_integers(w, F(1))
    if -(2**31) <= wanted < 2**31:
        assert dynq.gemm_s32(q, 0, qw).tolist() == [[wanted]]
    else:
        with pytest.raises(dynq.AccumulatorOverflowError, match="does not fit"):
            dynq.gemm_s32(q, 0, qw)


@pytest.mark.parametrize("dtype", ["uint8", "int8"])
def test_imported_weights_keep_their_zero_points(isa: str, dtype: str) -> None:
    rng = np.random.default_rng(3)
    info = np.iinfo(dtype)
    w = rng.integers(info.min, info.max + 1, (21, 45)).astype(dtype)
    w[0] = info.min
    zero = rng.integers(info.min, info.max + 1, 21).astype(dtype)
    scale = rng.uniform(0.001, 1, 21).astype(F)
    x = rng.standard_normal((7, 45)).astype(F)
    offset = 128 if dtype == "uint8" else 0
    qw = dynq.QuantizedWeight.from_integers(w, scale, zero)
    expected = reference.linear(x, w.astype(int) - offset, scale, zero.astype(int) - offset)
    same(dynq.linear(x, qw), expected)
    same(qw.dequantize(), (w.astype(np.int32) - zero.astype(np.int32)[:, None]).astype(F) * scale[:, None])
    q, _, zero_point = dynq.quantize(x)
    exact = (q.astype(int) - zero_point[:, None].astype(int)) @ (w.astype(int) - zero[:, None].astype(int)).T
    assert np.array_equal(dynq.gemm_s32(q, zero_point, qw), exact)


@pytest.mark.parametrize("k", [65_536, 65_537, 200_000])
@pytest.mark.parametrize("sign", [1, -1])
def test_long_sums_of_extreme_values_are_exact(isa: str, k: int, sign: int) -> None:
    w = np.full((3, k), 127 * sign, np.int8)
    w[1, ::2] = -127 * sign
    w[2] = np.random.default_rng(0).integers(-128, 128, k)
    qw = dynq.QuantizedWeight.from_integers(w, np.array([0.5, 2, 1], F))
    x = np.zeros((2, k), F)
    x[0] = 255
    x[1] = np.random.default_rng(1).integers(0, 256, k)
    x[1, 0] = 255  # scale 1, zero-point 0: the values are the integers
    exact = x.astype(np.int64) @ w.astype(np.int64).T
    expected = exact.astype(F) * np.array([0.5, 2, 1], F)
    same(dynq.linear(x, qw), expected)
    q = x.astype(np.uint8)
    fits = np.abs(exact).max(1) < 2**31
    for row in range(2):
        if fits[row]:
            assert np.array_equal(dynq.gemm_s32(q[row], 0, qw), exact[row])
        else:
            with pytest.raises(dynq.AccumulatorOverflowError, match="does not fit"):
                dynq.gemm_s32(q[row], 0, qw)


@pytest.mark.parametrize("zero", [-128, 127])
def test_long_sums_with_zero_points_of_the_weight_are_exact(isa: str, zero: int) -> None:
    k = 40_000
    w = np.full((2, k), -1 - zero, np.int8)  # 127 or -128: the difference is 255 or -255
    qw = dynq.QuantizedWeight.from_integers(w, F(1), np.int32(zero))
    x = np.full((1, k), 255, F)
    same(dynq.linear(x, qw), np.full((1, 2), 255 * k, np.int64) * (F(255) if zero < 0 else F(-255)))


@pytest.mark.parametrize("m, n, k", [(0, 3, 4), (3, 0, 4), (3, 4, 0), (0, 0, 0)])
def test_sizes_of_zero_are_sizes(isa: str, m: int, n: int, k: int) -> None:
    x, bias = np.ones((m, k), F), np.arange(n, dtype=F)
    qw = dynq.quantize_weight(np.ones((n, k), F))
    y = dynq.linear(x, qw, bias)
    same(y, np.broadcast_to(bias, (m, n)) if k == 0 else np.empty((m, n), F))
    q, scale, zero_point = dynq.quantize(x)
    assert q.shape == (m, k) and scale.shape == (m,)
    assert dynq.gemm_s32(q, zero_point, qw).shape == (m, n)
    assert dynq.dequantize(q, scale, zero_point).shape == (m, k)
    assert dynq.matmul(x, np.ones((k, n), F)).shape == (m, n)
    assert dynq.minmax(x, "tensor") == (0, float(m * k > 0))
    assert qw.dequantize().shape == (n, k)


def test_matmul_is_linear_with_columns_as_channels(isa: str) -> None:
    rng = np.random.default_rng(5)
    a, b = rng.standard_normal((2, 1, 7, 20)).astype(F), rng.standard_normal((3, 20, 33)).astype(F)
    y = dynq.matmul(a, b)
    assert y.shape == (2, 3, 7, 33)
    for i in range(2):
        for j in range(3):
            same(y[i, j], reference.linear(a[i, 0], *reference.quantize_weight(b[j].T)))
    same(dynq.matmul(a[0, 0, 0], b[0]), y[0, 0, 0])
    same(dynq.matmul(a[0, 0], b[0, :, 4]), y[0, 0, :, 4])


@pytest.mark.parametrize("granularity", GRANULARITIES)
@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("name", MATRICES)
def test_matmul_follows_the_rule(isa: str, name: str, scheme: str, granularity: str) -> None:
    a = MATRICES[name]
    b = np.random.default_rng(6).standard_normal((a.shape[1], 18)).astype(F)
    for left, right in [(a, b), (a, a.T), (b.T, a.T)]:
        expected = reference.linear(left, *reference.quantize_weight(right.T), scheme=scheme, granularity=granularity)
        same(dynq.matmul(left, right, scheme=scheme, granularity=granularity), expected)


def test_matmul_per_tensor_has_one_scale_for_each_matrix_of_a_batch(isa: str) -> None:
    rng = np.random.default_rng(8)
    a = rng.standard_normal((3, 6, 20)).astype(F) * np.array([1, 1000, 1e-3], F)[:, None, None]
    b = rng.standard_normal((20, 9)).astype(F)
    y = dynq.matmul(a, b, granularity="tensor")
    for i in range(3):
        same(y[i], reference.linear(a[i], *reference.quantize_weight(b.T), granularity="tensor"))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_block_that_is_not_finite_is_nan_and_no_other(isa: str, bad: float) -> None:
    rng = np.random.default_rng(2)
    x, w = rng.standard_normal((14, 40)).astype(F), rng.standard_normal((19, 40)).astype(F)
    qw = dynq.quantize_weight(w)
    clean = dynq.linear(x, qw, activation="relu", clamp=(0, 1))
    x[5, 33] = bad
    y = dynq.linear(x, qw, activation="relu", clamp=(0, 1))
    assert (reference.bits(y[5]) == reference.NAN_BITS).all()
    others = np.arange(14) != 5
    same(y[others], clean[others])
    assert (reference.bits(dynq.linear(x, qw, granularity="tensor")) == reference.NAN_BITS).all()
    lo, hi = dynq.minmax(x)
    assert np.isnan(lo[5]) and np.isnan(hi[5]) and np.isfinite(lo[others]).all()
    b = w.T.copy()
    b[3, 2] = bad
    a = rng.standard_normal((4, 40)).astype(F)
    y = dynq.matmul(a, b)
    assert (reference.bits(y[:, 2]) == reference.NAN_BITS).all()
    columns = np.arange(19) != 2
    same(y[:, columns], dynq.matmul(a, w.T)[:, columns])


def test_every_nan_is_the_same_nan(isa: str) -> None:
    x, qw = np.ones((1, 4), F), dynq.quantize_weight(np.ones((3, 4), F))
    bias = np.array([0x7F800001, 0xFFC12345, 0x3F800000], np.uint32).view(F)
    assert reference.bits(dynq.linear(x, qw, bias)).tolist()[0][:2] == [reference.NAN_BITS] * 2


ACTIVATIONS = {
    "relu": (lambda x: np.maximum(x, 0), 0, 0),
    "sigmoid": (lambda x: 1 / (1 + np.exp(-x)), 3, 0),
    "tanh": (np.tanh, 2, 0),
    "silu": (lambda x: x / (1 + np.exp(-x)), 4, 0),
    "gelu": (lambda x: 0.5 * x * (1 + np.vectorize(math.erf)(x / np.sqrt(2))), 4, 0.25),
    "gelu_tanh": (lambda x: 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))), 4, 0.25),
    "hard_swish": (lambda x: x * np.clip(x / 6 + 0.5, 0, 1), 2, 0.5),
    "mish": (lambda x: x * np.tanh(np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))), 6, 0),
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_are_within_their_error(isa: str, name: str) -> None:
    exact, bound, share = ACTIVATIONS[name]
    x = np.linspace(-20, 20, 16 * 501, dtype=F)
    qw = dynq.quantize_weight(np.zeros((len(x), 1), F))
    y = dynq.linear(np.zeros((1, 1), F), qw, x, activation=name)[0]
    wanted = exact(x.astype(np.float64))
    size = np.maximum(np.abs(wanted), np.abs(x) * share)
    ulp = np.spacing(np.maximum(size, 1e-30).astype(F)).astype(np.float64)
    assert (np.abs(y - wanted) <= bound * ulp).all()


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_are_within_their_error_over_all_magnitudes(isa: str, name: str) -> None:
    exact, bound, share = ACTIVATIONS[name]
    largest = int(F(80).view(np.uint32))  # beyond, exp(-x) nears the denormals: docs/activations.md
    x = np.arange(0, largest, 100_003, dtype=np.uint32).view(F)
    x = np.concatenate([x, -x])
    qw = dynq.quantize_weight(np.zeros((len(x), 1), F))
    y = dynq.linear(np.zeros((1, 1), F), qw, x, activation=name)[0]
    wanted = exact(x.astype(np.float64))
    size = np.maximum(np.abs(wanted), np.abs(x) * share)
    ulp = np.spacing(size.astype(F)).astype(np.float64)
    if name in ("silu", "gelu", "gelu_tanh", "hard_swish", "mish"):
        ulp = np.maximum(ulp, np.spacing(F(2.0**-120)))
    assert (np.abs(y - wanted) <= bound * ulp).all()


INFINITY, NAN = float("inf"), float("nan")
AT_THE_ENDS = {  # of -inf, -0, +0, +inf, NaN: the table of docs/activations.md
    None: [-INFINITY, -0.0, 0.0, INFINITY, NAN],
    "relu": [0.0, -0.0, 0.0, INFINITY, NAN],
    "sigmoid": [0.0, 0.5, 0.5, 1.0, NAN],
    "tanh": [-1.0, -0.0, 0.0, 1.0, NAN],
    "silu": [NAN, -0.0, 0.0, INFINITY, NAN],
    "gelu": [0.0, -0.0, 0.0, INFINITY, NAN],
    "gelu_tanh": [NAN, -0.0, 0.0, INFINITY, NAN],
    "hard_swish": [NAN, -0.0, 0.0, INFINITY, NAN],
    "mish": [NAN, -0.0, 0.0, INFINITY, NAN],
}


@pytest.mark.parametrize("name", AT_THE_ENDS)
def test_activations_at_the_ends_are_as_documented(isa: str, name: str) -> None:
    ends = np.array(AT_THE_ENDS[None], F)
    # A sum of 0 is +0 and would turn a bias of -0 into +0. This one is negative and underflows to -0.
    x, w = np.full((1, 1), -1e-42, F), np.full((5, 1), 1e-42, F)
    y = dynq.linear(x, dynq.quantize_weight(w), ends, activation=name)
    assert reference.bits(y).tolist() == reference.bits(np.array([AT_THE_ENDS[name]], F)).tolist()


def test_clamp_comes_after_the_activation(isa: str) -> None:
    qw = dynq.quantize_weight(np.zeros((5, 1), F))
    bias = np.array([-9, -1, 0, 3, 9], F)
    x = np.zeros((2, 1), F)
    assert dynq.linear(x, qw, bias, clamp=(-2, 4)).tolist() == [[-2, -1, 0, 3, 4]] * 2
    assert dynq.linear(x, qw, bias, activation="relu", clamp=(0, 6)).tolist() == [[0, 0, 0, 3, 6]] * 2
