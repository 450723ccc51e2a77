"""A wrong argument is an error that names it, what came and what was expected; nothing else happens."""

import os
import re
import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest

import dynq

F = np.float32
X = np.ones((4, 8), F)
W = np.ones((6, 8), F)
QW = dynq.quantize_weight(W)
Q = np.ones((4, 8), np.uint8)
OUT = np.empty((4, 6), F)
READ_ONLY = np.empty((4, 6), F)
READ_ONLY.flags.writeable = False
SHARED = np.empty(200, F)

CASES: dict[str, tuple[Callable[[], object], type[Exception], str]] = {
    "x rank": (lambda: dynq.linear(F(1), QW), ValueError, r"x has no dimension; expected shape \(..., 8\)"),
    "x columns": (lambda: dynq.linear(X[:, :7], QW), ValueError, r"x has shape \(4, 7\); expected \(..., 8\)"),
    "x float64": (lambda: dynq.linear(X.astype(float), QW), TypeError, "x has dtype float64; expected float32"),
    "x list": (lambda: dynq.linear([[1.0] * 8], QW), TypeError, "x has dtype float64; expected float32"),
    "x integers": (lambda: dynq.linear(X.astype(int), QW), TypeError, "x has dtype int64; expected float32"),
    "x objects": (lambda: dynq.linear(X.astype(object), QW), TypeError, "x has dtype object"),
    "x complex": (lambda: dynq.linear(X.astype(np.complex64), QW), TypeError, "x has dtype complex64"),
    "x text": (lambda: dynq.linear(np.array(["a"] * 8), QW), TypeError, "x has dtype <U1"),
    "x bool": (lambda: dynq.linear(X > 0, QW), TypeError, "x has dtype bool"),
    "x None": (lambda: dynq.linear(None, QW), TypeError, "x has dtype object"),
    "qw array": (lambda: dynq.linear(X, W), TypeError, "qw is of type ndarray; expected QuantizedWeight"),
    "bias shape": (lambda: dynq.linear(X, QW, np.ones(7, F)), ValueError, r"bias has shape \(7,\); expected \(6,\)"),
    "bias rank": (lambda: dynq.linear(X, QW, np.ones((1, 6), F)), ValueError, r"bias has shape \(1, 6\)"),
    "bias dtype": (lambda: dynq.linear(X, QW, np.ones(6)), TypeError, "bias has dtype float64; expected float32"),
    "residual shape": (lambda: dynq.linear(X, QW, residual=X), ValueError, r"residual has shape \(4, 8\); expected"),
    "residual dtype": (lambda: dynq.linear(X, QW, residual=np.ones((4, 6))), TypeError, "residual has dtype float64"),
    "activation": (lambda: dynq.linear(X, QW, activation="swish"), ValueError, "activation is 'swish'; expected one"),
    "activation type": (lambda: dynq.linear(X, QW, activation=1), TypeError, "activation is of type int"),
    "activation list": (lambda: dynq.linear(X, QW, activation=[]), TypeError, "activation is of type list"),
    "scheme": (lambda: dynq.linear(X, QW, scheme="affine"), ValueError, "scheme is 'affine'; expected one of"),
    "scheme None": (lambda: dynq.linear(X, QW, scheme=None), ValueError, "scheme is None; expected one of"),
    "granularity": (lambda: dynq.linear(X, QW, granularity="group"), ValueError, "granularity is 'group'"),
    "nonfinite": (lambda: dynq.linear(X, QW, nonfinite="ignore"), ValueError, "nonfinite is 'ignore'"),
    "clamp order": (lambda: dynq.linear(X, QW, clamp=(1, 0)), ValueError, r"clamp is \(1, 0\); expected min < max"),
    "clamp equal as float32": (
        lambda: dynq.linear(X, QW, clamp=(0, 1e-60)),
        ValueError,
        "expected min < max as float32",
    ),
    "x ragged": (lambda: dynq.linear([[1.0], [1.0, 2.0]], QW), ValueError, "x is not an array"),
    "quantize junk": (lambda: dynq.quantize(X, dtype="junk"), TypeError, "dtype is 'junk'; expected uint8 or int8"),
    "scale beyond float32": (
        lambda: dynq.dequantize(np.ones((2, 2), np.uint8), np.array(1e300), 0),
        ValueError,
        "scale",
    ),
    "out whose rows are one": (
        lambda: dynq.linear(X, QW, out=np.lib.stride_tricks.as_strided(np.empty(6, F), (4, 6), (0, 4))),
        ValueError,
        "elements overlap one another",
    ),
    "out whose rows overlap": (
        lambda: dynq.linear(X, QW, out=np.lib.stride_tricks.as_strided(np.empty(24, F), (4, 6), (20, 4))),
        ValueError,
        "elements overlap one another",
    ),
    "isa surrogate": (lambda: dynq.isa.select("sc\udc80"), dynq.IsaUnknownError, "unknown instruction set"),
    "isa nul": (lambda: dynq.isa.select("scalar\0junk"), dynq.IsaUnknownError, "unknown instruction set"),
    "clamp nan": (lambda: dynq.linear(X, QW, clamp=(0, np.nan)), ValueError, "clamp is"),
    "clamp type": (lambda: dynq.linear(X, QW, clamp=3), TypeError, r"clamp is 3; expected two numbers"),
    "out list": (lambda: dynq.linear(X, QW, out=[]), TypeError, "out is of type list; expected numpy.ndarray"),
    "out dtype": (lambda: dynq.linear(X, QW, out=np.empty((4, 6))), TypeError, "out has dtype float64"),
    "out shape": (lambda: dynq.linear(X, QW, out=np.empty((6, 4), F)), ValueError, r"out has shape \(6, 4\)"),
    "out read-only": (lambda: dynq.linear(X, QW, out=READ_ONLY), ValueError, "out is read-only"),
    "out is x": (
        lambda: dynq.linear(SHARED[:32].reshape(4, 8), QW, out=SHARED[8:32].reshape(4, 6)),
        ValueError,
        "out overlaps x",
    ),
    "out is bias": (lambda: dynq.linear(X, QW, SHARED[:6], out=SHARED[:24].reshape(4, 6)), ValueError, "overlaps bias"),
    "out is residual's part": (
        lambda: dynq.linear(X, QW, residual=SHARED[6:30].reshape(4, 6), out=SHARED[:24].reshape(4, 6)),
        ValueError,
        "out overlaps residual",
    ),
    "x nan": (
        lambda: dynq.linear(np.full((4, 8), np.nan, F), QW, nonfinite="raise"),
        dynq.NonFiniteError,
        "x holds a NaN or an infinity",
    ),
    "quantize nan": (lambda: dynq.quantize(np.full((4, 8), np.inf, F)), dynq.NonFiniteError, "x holds a NaN"),
    "quantize tensor nan": (
        lambda: dynq.quantize(np.full((4, 8), np.inf, F), granularity="tensor"),
        dynq.NonFiniteError,
        "x holds a NaN",
    ),
    "quantize dtype": (lambda: dynq.quantize(X, dtype="int16"), TypeError, "dtype is int16; expected uint8 or int8"),
    "quantize float64": (lambda: dynq.quantize(X.astype(float)), TypeError, "x has dtype float64"),
    "quantize scheme": (lambda: dynq.quantize(X, "x"), ValueError, "scheme is 'x'"),
    "minmax granularity": (lambda: dynq.minmax(X, "x"), ValueError, "granularity is 'x'"),
    "minmax rank": (lambda: dynq.minmax(F(1)), ValueError, "x has no dimension"),
    "weight rank": (lambda: dynq.quantize_weight(X[0]), ValueError, r"w has shape \(8,\); expected \(N, K\)"),
    "weight dtype": (lambda: dynq.quantize_weight(W.astype(float)), TypeError, "w has dtype float64"),
    "weight nan": (lambda: dynq.quantize_weight(W * F(np.nan)), dynq.NonFiniteError, r"w: channel \d holds a NaN"),
    "weight K": (
        lambda: dynq.quantize_weight(np.broadcast_to(F(1), (1, 8_388_609))),
        ValueError,
        "k is 8388609; expected at most 8388608",
    ),
    "integers dtype": (
        lambda: dynq.QuantizedWeight.from_integers(W, F(1)),
        TypeError,
        "w has dtype float32; expected uint8 or int8",
    ),
    "integers scale": (
        lambda: dynq.QuantizedWeight.from_integers(W.astype(np.int8), F(0)),
        ValueError,
        r"scale\[0\] is 0; expected a finite number over 0",
    ),
    "integers scale shape": (
        lambda: dynq.QuantizedWeight.from_integers(W.astype(np.int8), np.ones(5, F)),
        ValueError,
        r"scale has shape \(5,\); expected \(6,\)",
    ),
    "integers zero": (
        lambda: dynq.QuantizedWeight.from_integers(W.astype(np.int8), F(1), 128),
        ValueError,
        r"zero_point\[0\] is 128; expected -128 to 127",
    ),
    "constructor": (lambda: dynq.QuantizedWeight(), TypeError, "use dynq.quantize_weight"),
    "dequantize dtype": (lambda: dynq.dequantize(X, F(1), 0), TypeError, "q has dtype float32; expected uint8 or int8"),
    "dequantize scale": (lambda: dynq.dequantize(Q, F(-1), 0), ValueError, r"scale\[0\] is -1"),
    "dequantize scale shape": (lambda: dynq.dequantize(Q, np.ones(3, F), 0), ValueError, r"scale has shape \(3,\)"),
    "dequantize scale dtype": (lambda: dynq.dequantize(Q, "a", 0), TypeError, "scale has dtype <U1"),
    "dequantize zero": (lambda: dynq.dequantize(Q, F(1), 256), ValueError, "zero_point has values from 256"),
    "dequantize zero dtype": (lambda: dynq.dequantize(Q, F(1), 0.5), TypeError, "zero_point has dtype float64"),
    "gemm dtype": (lambda: dynq.gemm_s32(X, 0, QW), TypeError, "q has dtype float32; expected uint8 or int8"),
    "gemm columns": (lambda: dynq.gemm_s32(Q[:, :7], 0, QW), ValueError, r"q has shape \(4, 7\); expected \(..., 8\)"),
    "gemm zero": (lambda: dynq.gemm_s32(Q, -1, QW), ValueError, r"zero_point\[0\] is -1; expected 0 to 255"),
    "gemm zero shape": (lambda: dynq.gemm_s32(Q, np.zeros(3, int), QW), ValueError, r"zero_point has shape \(3,\)"),
    "matmul K": (lambda: dynq.matmul(X, X), ValueError, r"a has shape \(4, 8\) and b \(4, 8\)"),
    "matmul batch": (
        lambda: dynq.matmul(np.ones((2, 4, 8), F), np.ones((3, 8, 4), F)),
        ValueError,
        "leading dimensions do not broadcast",
    ),
    "matmul rank": (lambda: dynq.matmul(F(1), X), ValueError, "a has no dimension"),
    "matmul dtype": (lambda: dynq.matmul(X, X.T.astype(int)), TypeError, "b has dtype int64"),
    "isa": (lambda: dynq.isa.select("avx1024"), dynq.IsaUnknownError, "unknown instruction set 'avx1024'; known: "),
    "isa type": (lambda: dynq.isa.select(1), TypeError, "name is int; expected str or None"),
    "threads": (lambda: dynq.set_num_threads(-1), ValueError, "n is -1; expected 0 to 512"),
    "many threads": (lambda: dynq.set_num_threads(513), ValueError, "513; expected at most 512"),
    "threads type": (lambda: dynq.set_num_threads(1.5), TypeError, "float"),
}


@pytest.mark.parametrize("name", CASES)
def test_wrong_arguments_are_named(name: str) -> None:
    call, kind, message = CASES[name]
    with pytest.raises(kind, match=message) as caught:
        call()
    assert type(caught.value) is kind
    assert np.isfinite(dynq.linear(X, QW)).all()  # and life goes on


# Each argument that is an array, as (its name in the message, a call with it, its shape, what is right).
W8, SCALE6 = W.astype(np.int8), np.ones(6, F)
FLOATS: list[tuple[str, str, Callable[[np.ndarray], object], tuple[int, ...]]] = [
    ("linear", "x", lambda v: dynq.linear(v, QW), (4, 8)),
    ("linear", "bias", lambda v: dynq.linear(X, QW, v), (6,)),
    ("linear", "residual", lambda v: dynq.linear(X, QW, residual=v), (4, 6)),
    ("linear", "out", lambda v: dynq.linear(X, QW, out=v), (4, 6)),
    ("matmul", "a", lambda v: dynq.matmul(v, X.T), (4, 8)),
    ("matmul", "b", lambda v: dynq.matmul(X, v), (8, 3)),
    ("minmax", "x", dynq.minmax, (4, 8)),
    ("quantize", "x", dynq.quantize, (4, 8)),
    ("quantize_weight", "w", dynq.quantize_weight, (6, 8)),
]
BYTES: list[tuple[str, str, Callable[[np.ndarray], object], tuple[int, ...]]] = [
    ("gemm_s32", "q", lambda v: dynq.gemm_s32(v, 0, QW), (4, 8)),
    ("dequantize", "q", lambda v: dynq.dequantize(v, F(1), 0), (4, 8)),
    ("from_integers", "w", lambda v: dynq.QuantizedWeight.from_integers(v, SCALE6), (6, 8)),
]
PER_BLOCK: list[tuple[str, str, Callable[[np.ndarray], object], tuple[int, ...]]] = [
    ("gemm_s32", "zero_point", lambda v: dynq.gemm_s32(Q, v, QW), (4,)),
    ("dequantize", "zero_point", lambda v: dynq.dequantize(Q, F(1), v), (4,)),
    ("dequantize", "scale", lambda v: dynq.dequantize(Q, v, 0), (4,)),
    ("from_integers", "scale", lambda v: dynq.QuantizedWeight.from_integers(W8, v), (6,)),
    ("from_integers", "zero_point", lambda v: dynq.QuantizedWeight.from_integers(W8, SCALE6, v), (6,)),
]
NO_NUMBERS = ["bool", "complex64", "complex128", "object", "U1", "S1", "datetime64[s]", "V4"]


@pytest.mark.parametrize("dtype", [*NO_NUMBERS, "float64", "longdouble", "int32", "uint8"])
@pytest.mark.parametrize("case", FLOATS, ids=lambda case: f"{case[0]}-{case[1]}")
def test_floats_of_another_dtype_are_named(
    case: tuple[str, str, Callable[[np.ndarray], object], tuple[int, ...]], dtype: str
) -> None:
    _, name, call, shape = case
    with pytest.raises(TypeError, match=rf"^{name} has dtype {re.escape(str(np.dtype(dtype)))}; expected "):
        call(np.zeros(shape, dtype))


@pytest.mark.parametrize("dtype", [*NO_NUMBERS, "float16", "float32", "float64", "int16", "uint16", "int64"])
@pytest.mark.parametrize("case", BYTES, ids=lambda case: f"{case[0]}-{case[1]}")
def test_integers_of_another_dtype_are_named(
    case: tuple[str, str, Callable[[np.ndarray], object], tuple[int, ...]], dtype: str
) -> None:
    _, name, call, shape = case
    with pytest.raises(TypeError, match=rf"^{name} has dtype {re.escape(str(np.dtype(dtype)))}; expected "):
        call(np.zeros(shape, dtype))


@pytest.mark.parametrize("dtype", NO_NUMBERS)
@pytest.mark.parametrize("case", PER_BLOCK, ids=lambda case: f"{case[0]}-{case[1]}")
def test_scales_and_zero_points_of_another_dtype_are_named(
    case: tuple[str, str, Callable[[np.ndarray], object], tuple[int, ...]], dtype: str
) -> None:
    _, name, call, shape = case
    with pytest.raises(TypeError, match=rf"^{name} has dtype {re.escape(str(np.dtype(dtype)))}; expected "):
        call(np.zeros(shape, dtype))


@pytest.mark.parametrize("change", [(1, 0), (-1, 0), (0, 1)], ids=["longer", "shorter", "one more dimension"])
@pytest.mark.parametrize("case", PER_BLOCK, ids=lambda case: f"{case[0]}-{case[1]}")
def test_scales_and_zero_points_of_another_shape_are_named(
    case: tuple[str, str, Callable[[np.ndarray], object], tuple[int, ...]], change: tuple[int, int]
) -> None:
    _, name, call, shape = case
    wrong = (*([2] * change[1]), shape[0] + change[0])
    right = F if name == "scale" else np.int32
    with pytest.raises(ValueError, match=rf"^{name} has shape {re.escape(str(wrong))}; expected \({shape[0]},\)"):
        call(np.ones(wrong, right))


@pytest.mark.parametrize("bad", [0.0, -0.0, -1.0, np.nan, np.inf, -np.inf])
def test_a_scale_that_is_no_positive_number_is_named_with_its_place(bad: float) -> None:
    scale = np.ones(6, F)
    scale[3] = bad
    with pytest.raises(ValueError, match=r"scale\[3\] is .*; expected a finite number over 0"):
        dynq.QuantizedWeight.from_integers(W8, scale)
    with pytest.raises(ValueError, match=r"scale\[3\] is .*; expected a finite number over 0"):
        dynq.dequantize(Q, scale[:4], 0)


@pytest.mark.parametrize("dtype, wrong", [("uint8", [-1, -128]), ("int8", [128, 255])])
def test_a_zero_point_outside_the_range_of_its_integers_is_named_with_its_place(dtype: str, wrong: list[int]) -> None:
    q = np.zeros((4, 8), dtype)
    for value in wrong:
        zero = np.zeros(4, np.int32)
        zero[2] = value
        for call in (
            lambda q=q, zero=zero: dynq.gemm_s32(q, zero, QW),
            lambda q=q, zero=zero: dynq.dequantize(q, F(1), zero),
            lambda q=q, zero=zero: dynq.QuantizedWeight.from_integers(q, F(1), zero),
        ):
            with pytest.raises(ValueError, match=rf"zero_point\[2\] is {value}; expected"):
                call()


@pytest.mark.parametrize("value, kind", [("rows", ValueError), ("", ValueError), (None, ValueError), (1, TypeError)])
@pytest.mark.parametrize(
    "function, name",
    [(f, n) for f in ("linear", "matmul", "quantize") for n in ("scheme", "granularity")] + [("minmax", "granularity")],
)
def test_a_choice_that_there_is_not_is_named(function: str, value: object, kind: type[Exception], name: str) -> None:
    arguments = {"linear": (X, QW), "matmul": (X, X.T), "quantize": (X,), "minmax": (X,)}[function]
    with pytest.raises(kind, match=rf"^{name} is .*; expected"):
        getattr(dynq, function)(*arguments, **{name: value})


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("granularity", ["row", "tensor"])
def test_what_is_not_finite_is_an_error_where_one_is_asked_for_or_integers_come_out(
    bad: float, granularity: str
) -> None:
    for place in [(0, 0), (2, 5), (3, 7)]:
        x = X.copy()
        x[place] = bad
        with pytest.raises(dynq.NonFiniteError, match="x holds a NaN or an infinity"):
            dynq.linear(x, QW, granularity=granularity, nonfinite="raise")
        with pytest.raises(dynq.NonFiniteError, match="x holds a NaN or an infinity"):
            dynq.quantize(x, granularity=granularity)
        with pytest.raises(dynq.NonFiniteError, match=f"w: channel {place[0]} holds"):
            dynq.quantize_weight(x)
        nan = np.isnan(dynq.linear(x, QW, granularity=granularity))
        assert nan.all() if granularity == "tensor" else nan.all(1).tolist() == [i == place[0] for i in range(4)]
        assert granularity == "tensor" or nan.any(1).sum() == 1
    assert np.isfinite(dynq.linear(X, QW, granularity=granularity, nonfinite="raise")).all()


def test_an_out_that_is_refused_is_left_as_it_was() -> None:
    out = np.full((4, 6), 7, F)
    for wrong in ({"activation": "swish"}, {"residual": X}, {"clamp": (1, 0)}, {"nonfinite": "no"}, {"bias": X}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            dynq.linear(X, QW, out=out, **wrong)
    with pytest.raises(ValueError, match="x has shape"):
        dynq.linear(X[:, :7], QW, out=out)
    assert (out == 7).all()


def test_out_may_touch_an_input_without_sharing_an_element() -> None:
    memory = np.ones((4, 14), F)
    y = dynq.linear(memory[:, :8], QW, out=memory[:, 8:])  # side by side in each row
    assert np.array_equal(y, dynq.linear(X, QW))
    memory = np.ones(32 + 24, F)
    y = dynq.linear(memory[:32].reshape(4, 8), QW, out=memory[32:].reshape(4, 6))
    assert np.array_equal(y, dynq.linear(X, QW))


def test_an_unknown_instruction_set_leaves_the_choice_as_it_was() -> None:
    with dynq.isa.use("scalar"):
        with pytest.raises(dynq.IsaError):
            dynq.isa.select("nothing")
        assert dynq.isa.selected() == "scalar"


@pytest.mark.parametrize(
    "variable, value, message",
    [
        ("DYNQ_ISA", "avx1024", "DYNQ_ISA: unknown instruction set 'avx1024'; known: "),
        ("DYNQ_NUM_THREADS", "many", "DYNQ_NUM_THREADS is 'many'; expected a number from 1 to 512"),
        ("DYNQ_NUM_THREADS", "0", "DYNQ_NUM_THREADS is '0'; expected a number from 1 to 512"),
    ],
)
def test_a_wrong_environment_is_an_error_not_a_guess(variable: str, value: str, message: str) -> None:
    code = "import dynq, numpy; dynq.linear(numpy.ones((1, 2), 'f'), dynq.quantize_weight(numpy.ones((1, 2), 'f')))"
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, variable: value}, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert message in done.stderr


@pytest.mark.parametrize("threads", ["1", "3"])
def test_the_environment_sets_the_number_of_threads(threads: str) -> None:
    code = "import dynq; print(dynq.get_num_threads())"
    environment = {**os.environ, "DYNQ_NUM_THREADS": threads}
    assert subprocess.check_output([sys.executable, "-c", code], env=environment, text=True).strip() == threads
