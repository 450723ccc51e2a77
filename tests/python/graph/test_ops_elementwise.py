"""Elementwise ops and casts: random shapes against NumPy."""

from collections.abc import Callable

import numpy as np
import pytest

import dynq
from dynq.model import Model
from dynq.plan.write import write_image
from tests.python.references.one_op import run_op
from tests.python.references.op_cases import FUNCTIONS
from tests.python.references.op_reference import ALL, NUMBERS, Array, array, assert_same, broadcastable, reference

NAN = 0x7FC00000


def _truncated(a: Array, b: Array) -> Array:
    return np.trunc(a.astype(np.float64) / b).astype(a.dtype)


ARITHMETIC: dict[str, Callable[[Array, Array], Array]] = {
    "Add": np.add,
    "Sub": np.subtract,
    "Mul": np.multiply,
    "Div": lambda a, b: a / b if a.dtype == np.float32 else _truncated(a, b),
    "Mod": np.mod,
    "Min": np.minimum,
    "Max": np.maximum,
}
COMPARISONS = {
    "Equal": np.equal,
    "Less": np.less,
    "LessOrEqual": np.less_equal,
    "Greater": np.greater,
    "GreaterOrEqual": np.greater_equal,
}
LOGIC = {"And": np.logical_and, "Or": np.logical_or, "Xor": np.logical_xor}


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("dtype", NUMBERS)
@pytest.mark.parametrize("op", [*ARITHMETIC, *COMPARISONS])
def test_two_arrays_are_combined_as_by_numpy(op: str, dtype: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = (array(rng, shape, dtype, nonzero=op in ("Div", "Mod")) for shape in broadcastable(rng))
    with np.errstate(over="ignore"):
        assert_same(run_op(op, a, b), ({**ARITHMETIC, **COMPARISONS}[op])(a, b))


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("op", LOGIC)
def test_truth_values_are_combined_as_by_numpy(op: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = (array(rng, shape, "bool") for shape in broadcastable(rng))
    assert_same(run_op(op, a, b), LOGIC[op](a, b))


BITS = {"BitwiseAnd": np.bitwise_and, "BitwiseOr": np.bitwise_or, "BitwiseXor": np.bitwise_xor}


@pytest.mark.parametrize("dtype", ["int64", "int32", "uint8", "int8"])
@pytest.mark.parametrize("seed", range(4))
def test_bits_are_combined_as_by_numpy(dtype: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    shapes = broadcastable(rng)
    a, b = array(rng, shapes[0], dtype), array(rng, shapes[1], dtype)
    for op, function in BITS.items():
        assert_same(run_op(op, a, b), function(a, b))
    assert_same(run_op("BitwiseNot", a), np.invert(a))
    by = rng.integers(0, 8 * np.dtype(dtype).itemsize, shapes[1]).astype(dtype)
    assert_same(run_op("BitShift", a, by, direction="LEFT"), np.left_shift(a, by))
    assert_same(run_op("BitShift", a, by, direction="RIGHT"), np.right_shift(a, by))


def test_a_shift_by_all_bits_leaves_zeros_or_the_sign() -> None:
    x = np.array([-5, 7], np.int64)
    for by in (np.array([64], np.int64), np.array([2**40], np.int64), np.array([-1], np.int64)):
        assert run_op("BitShift", x, by, direction="LEFT").tolist() == [0, 0]
        assert run_op("BitShift", x, by, direction="RIGHT").tolist() == [-1, 0]


# ---- Random numbers


def mixed(seed: float, places: Array) -> Array:
    """Uniform numbers as random.c has them: SplitMix64 of the seed's bits and the place."""

    def mix(x: Array) -> Array:
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return x ^ (x >> np.uint64(31))

    step = np.uint64(0x9E3779B97F4A7C15)
    with np.errstate(over="ignore"):
        start = mix(np.array([np.float32(seed).view(np.uint32)], np.uint64) + step)
        bits = mix(start + (places.astype(np.uint64) + np.uint64(1)) * step)
    return (bits >> np.uint64(40)).astype(np.float64) * 2.0**-24


@pytest.mark.parametrize("seed", [0.0, 1.0, -2.5])
def test_random_numbers_are_those_of_their_seed_and_place(seed: float, isa: str) -> None:
    x, places = np.zeros((3, 1000), np.float32), np.arange(3000)
    got = run_op("RandomUniformLike", x, seed=seed, low=-1.0, high=3.0)
    np.testing.assert_array_equal(got.reshape(-1), (-1 + 4 * mixed(seed, places)).astype(np.float32))
    normal = np.sqrt(-2 * np.log(1 - mixed(seed, 2 * places))) * np.cos(2 * np.pi * mixed(seed, 2 * places + 1))
    got = run_op("RandomNormalLike", x, seed=seed, mean=5.0, scale=2.0)
    np.testing.assert_allclose(got.reshape(-1), (5 + 2 * normal).astype(np.float32), rtol=2e-7, atol=1e-6)
    assert abs(got.mean() - 5) < 0.15 and abs(got.std() - 2) < 0.1


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("dtype", ALL)
def test_where_chooses_as_numpy(dtype: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    shapes = broadcastable(rng, 3)
    condition, a, b = array(rng, shapes[0], "bool"), array(rng, shapes[1], dtype), array(rng, shapes[2], dtype)
    assert_same(run_op("Where", condition, a, b), np.where(condition, a, b))


@pytest.mark.parametrize("op", FUNCTIONS)
@pytest.mark.parametrize("given", [False, True])
def test_functions_are_those_of_onnx_in_float64(op: str, given: bool, isa: str) -> None:
    """Each of the table, with its default attributes and with others: a new op is among them."""
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(scale=4, size=99), rng.uniform(-1, 1, 99), [0.0, 1.0, -1.0]]).astype(np.float32)
    floats = [name for name, attribute in FUNCTIONS[op].attributes.items() if attribute.type == "float"]
    attributes = {name: 0.3 - 0.05 * i for i, name in enumerate(floats)} if given else {}
    (expected,) = reference(op, x > 0 if op == "Not" else x.astype(np.float64), **attributes)
    got = run_op(op, x > 0 if op == "Not" else x, **attributes)
    assert_same(got, expected.astype(got.dtype), 0.0 if FUNCTIONS[op].is_exact else 1e-6)


@pytest.mark.parametrize("op", ["Min", "Max", "Sum", "Mean"])
@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_several_arrays_are_combined_from_the_first_on(op: str, count: int) -> None:
    rng = np.random.default_rng(count)
    arrays = [array(rng, shape, "float32") for shape in broadcastable(rng, count)]
    combine = {"Min": np.minimum, "Max": np.maximum}.get(op, np.add)
    expected = arrays[0]
    for other in arrays[1:]:
        expected = combine(expected, other)
    assert_same(run_op(op, *arrays), expected / np.float32(count) if op == "Mean" else expected)


def test_an_input_that_comes_twice_is_read_before_it_is_overwritten() -> None:
    graph = dynq.Graph()
    x = graph.input("x", (5,))
    h = graph.node("Add", [x, x])
    y = graph.node("Sum", [h, x, h])
    graph.output(graph.node("Add", [y, x]))
    values = np.arange(5, dtype=np.float32)
    assert_same(Model._from_image(write_image(graph, {}))(values), values * 6)


@pytest.mark.parametrize("dtype", ["int64", "int32", "int8"])
def test_the_least_integer_by_minus_one_wraps(dtype: str) -> None:
    least = np.array([np.iinfo(dtype).min, 7], dtype)
    minus_one = np.array([-1, -1], dtype)
    assert_same(run_op("Div", least, minus_one), np.array([np.iinfo(dtype).min, -7], dtype))
    assert_same(run_op("Mod", least, minus_one, fmod=1), np.array([0, 0], dtype))


@pytest.mark.parametrize("op", ["Div", "Mod"])
@pytest.mark.parametrize("dtype", NUMBERS[1:])
def test_an_integer_is_not_divided_by_zero(op: str, dtype: str) -> None:
    with pytest.raises(ValueError, match="element 1 of input 1 is 0"):
        run_op(op, np.array([4, 5, 6], dtype), np.array([2, 0, 0], dtype))


def test_floats_modulo_have_the_sign_that_fmod_asks_for() -> None:
    a = np.array([5.5, -5.5, 5.5, -5.5, 6.0, -6.0, 0.0, np.inf, 3.0, -3.0], np.float32)
    b = np.array([2.0, 2.0, -2.0, -2.0, -3.0, 3.0, -1.0, 2.0, np.inf, np.inf], np.float32)
    with np.errstate(invalid="ignore"):
        for fmod, function in ((0, np.mod), (1, np.fmod)):
            got, expected = run_op("Mod", a, b, fmod=fmod), function(a, b)
            np.testing.assert_array_equal(got, expected)
            finite = np.isfinite(expected)
            np.testing.assert_array_equal(np.signbit(got)[finite], np.signbit(expected)[finite])


@pytest.mark.parametrize("op", ["Add", "Sub", "Mul", "Div", "Min", "Max", "Sum", "Mean", "PRelu"])
def test_every_nan_is_the_one(op: str, isa: str) -> None:
    bits = np.array([0xFFC12345, 0x7F800001, 0x7FC00000, 0x3F800000] * 5, np.uint32)
    x, y = bits.view(np.float32), bits[::-1].copy().view(np.float32)
    got = run_op(op, x, y).view(np.uint32)
    assert np.isnan(got.view(np.float32)).any()
    assert set(got[np.isnan(got.view(np.float32))].tolist()) == {NAN}


EXPONENTS = [0.0, 1.0, 2.0, 3.0, 4.0, 7.0, -1.0, -2.0, 0.5]


@pytest.mark.parametrize(
    ("form", "exponent"),
    [(form, e) for form in ("scalar", "row", "same", "int64") for e in EXPONENTS if form != "int64" or e != 0.5],
)
def test_powers_are_near_those_of_float64(form: str, exponent: float) -> None:
    x = np.abs(np.random.default_rng(3).normal(size=(6, 33)).astype(np.float32)) + np.float32(0.1)
    x = x if exponent == 0.5 else x * np.where(np.arange(33) % 2 == 0, np.float32(1), np.float32(-1))
    shape = {"scalar": (), "row": (33,), "same": (6, 33), "int64": (1,)}[form]
    e = np.full(shape, exponent, np.int64 if form == "int64" else np.float32)
    assert_same(run_op("Pow", x, e), (x.astype(np.float64) ** exponent).astype(np.float32), tolerance=1e-6)


@pytest.mark.parametrize("exponent", [0.75, -0.25, 1.5, 0.3333, -2.7, 1e-7, 30.5, -41.25])
def test_powers_of_any_exponent_are_near_those_of_float64(exponent: float) -> None:
    rng = np.random.default_rng(4)
    x = np.exp(rng.uniform(-103, 88, 20000)).astype(np.float32)  # denormals too
    x = np.concatenate([x, np.nextafter(np.float32(1), np.float32([0, 2])), np.float32([1, 2, 0.5, 3.4e38, 1e-45])])
    e = np.float32(exponent)
    with np.errstate(over="ignore", under="ignore"):
        expected = x.astype(np.float64) ** np.float64(e)
        rounded = expected.astype(np.float32)
    got = run_op("Pow", x, e)
    normal = np.isfinite(rounded) & (np.abs(rounded) >= np.finfo(np.float32).tiny)
    error = np.abs(got[normal].astype(np.float64) - expected[normal]) / np.spacing(np.abs(rounded[normal])).astype(
        np.float64
    )
    assert error.max() < 0.51
    np.testing.assert_allclose(got[~normal], rounded[~normal], rtol=0, atol=1.5e-45)


def test_powers_have_the_limits_of_c() -> None:
    x = np.array([-np.inf, -2, -1, -0.5, -0.0, 0.0, 0.5, 1, 2, np.inf, np.nan], np.float32)
    exponents = np.array([1.5, -1.5, np.inf, -np.inf, np.nan, 1e30, -1e30], np.float32)
    got = run_op("Pow", np.broadcast_to(x, (7, 11)).copy(), exponents[:, None])
    with np.errstate(all="ignore"):
        expected = np.array([[np.power(np.float64(a), np.float64(e)) for a in x] for e in exponents]).astype(np.float32)
    np.testing.assert_array_equal(got, expected)


def test_powers_of_integers_that_are_no_integers_are_refused() -> None:
    with pytest.raises(ValueError, match="expected a whole number >= 0"):
        run_op("Pow", np.array([2], np.int64), np.array([-1], np.int64))


def test_square_roots_by_pow_have_the_signs_of_ieee_754() -> None:
    x = np.array([-np.inf, -0.0, 0.0, np.inf, 4.0, -1.0], np.float32)
    got = run_op("Pow", x, np.array(0.5, np.float32))
    np.testing.assert_array_equal(got, np.array([np.inf, 0, 0, np.inf, 2, np.nan], np.float32))
    assert not np.signbit(got[1])


@pytest.mark.parametrize("seed", range(4))
def test_prelu_has_a_slope_for_each_channel(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = array(rng, (2, 5, 7), "float32")
    slope = array(rng, [(5, 1), (1,), (2, 5, 7), (7,)][seed], "float32")
    assert_same(run_op("PRelu", x, slope), np.where(x < 0, slope * x, x))
    with pytest.raises(ValueError, match="slope has a larger shape"):
        run_op("PRelu", array(rng, (5, 1), "float32"), array(rng, (5, 7), "float32"))


ONNX_TYPES = {"float32": 1, "uint8": 2, "int8": 3, "int32": 6, "int64": 7, "bool": 9}


@pytest.mark.parametrize("to", ALL)
@pytest.mark.parametrize("dtype", ALL)
def test_values_in_range_are_cast_as_by_numpy(dtype: str, to: str) -> None:
    x = array(np.random.default_rng(1), (7, 9), dtype)
    x = np.clip(np.abs(x), 0, 100).astype(dtype) if to in ("uint8",) else x
    assert_same(run_op("Cast", x, to=ONNX_TYPES[to]), x.astype(to))
    assert_same(run_op("CastLike", x, np.zeros(1, to)), x.astype(to))


def test_floats_out_of_range_are_clamped() -> None:
    x = np.array([np.nan, np.inf, -np.inf, 1e30, -1e30, 2.0**31, -(2.0**31), 300.7, -300.7], np.float32)
    for to in ("int64", "int32", "uint8", "int8"):
        limits = np.iinfo(to)
        exact = [0 if v != v else max(limits.min, min(limits.max, v)) for v in x.astype(np.float64)]
        assert_same(run_op("Cast", x, to=ONNX_TYPES[to]), np.array([int(v) for v in exact], to))
