"""Elementwise ops and casts: random shapes against NumPy."""

from collections.abc import Callable

import numpy as np
import pytest
from one_op import run_op
from op_reference import ALL, NUMBERS, Array, array, assert_same, broadcastable

import dynq
from dynq.graph.image import write_image
from dynq.model import Model

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


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("dtype", ALL)
def test_where_chooses_as_numpy(dtype: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    shapes = broadcastable(rng, 3)
    condition, a, b = array(rng, shapes[0], "bool"), array(rng, shapes[1], dtype), array(rng, shapes[2], dtype)
    assert_same(run_op("Where", condition, a, b), np.where(condition, a, b))


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


def test_powers_without_an_exact_way_are_refused() -> None:
    x = np.ones(3, np.float32)
    with pytest.raises(ValueError, match=r"element 1 of the exponent is 1\.5"):
        run_op("Pow", x, np.array([2, 1.5, 2], np.float32))
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
