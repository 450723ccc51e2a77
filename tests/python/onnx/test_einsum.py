"""Einsum against NumPy's, of sizes that are known and of sizes that a run decides."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper

import dynq
from dynq.errors import InvalidModelError, UnsupportedModelError


def einsum_model(equation: str, shapes: list[tuple[int | str, ...]], **constants: np.ndarray) -> onnx.ModelProto:
    names = [*(f"x{i}" for i in range(len(shapes))), *constants]
    node = helper.make_node("Einsum", names, ["y"], "sum", equation=equation)
    inputs = [helper.make_tensor_value_info(f"x{i}", 1, shape) for i, shape in enumerate(shapes)]
    initializers = [onnx.numpy_helper.from_array(array, name) for name, array in constants.items()]
    output = helper.make_tensor_value_info("y", 1, None)
    graph = helper.make_graph([node], "einsum", inputs, [output], initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


SIZES = {"a": 2, "b": 3, "c": 4, "d": 5, "e": 6, "h": 2, "k": 3}
EQUATIONS = [
    "ab->ba", "abc->b", "ab->", "abc,cd->abd", "ab,bc->ac", "ab,ab->a", "ab,ab->", "a,b->ab", "a,a->",
    "bhac,bhdc->bhad", "bhad,bhdc->bahc", "abd,dhk->abhk", "abhk,hkd->abd", "abc,abd->acbd", "ab,cb->ca",
    "abhd,achd->hbc", "ab,bc,cd->ad", "ab,b", "ab,bc", "ba", "abc,d->dabc", "abcd,cd->ba", "ahc,bhk->abk",
]  # fmt: skip


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("equation", EQUATIONS)
def test_it_is_numpys(equation: str, known: bool) -> None:
    rng = np.random.default_rng(1)
    terms = equation.partition("->")[0].split(",")
    arrays = [rng.standard_normal([SIZES[x] for x in term], np.float32) for term in terms]
    shapes = [tuple(SIZES[x] if known else f"size_{x}" for x in term) for term in terms]
    model = dynq.from_onnx(einsum_model(equation, shapes), quantize=False)
    (got,) = model.run({f"x{i}": array for i, array in enumerate(arrays)}).values()
    np.testing.assert_allclose(got, np.einsum(equation, *arrays), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("equation", "shapes"),
    [("...ab,...bc->...ac", [(2, 3, 4, 5), (1, 3, 5, 6)]), ("...a->...", [(2, 3)]),
     ("a...,...->...a", [(2, 3, 1), (3, 4)]), ("...ab,...b", [(2, 3, 4), (2, 4)]), ("ab...->ba...", [(2, 3, 4)])],
)  # fmt: skip
def test_an_ellipsis_stands_for_axes_that_broadcast(equation: str, shapes: list[tuple[int, ...]]) -> None:
    rng = np.random.default_rng(2)
    arrays = [rng.standard_normal(shape, np.float32) for shape in shapes]
    model = dynq.from_onnx(einsum_model(equation, list(shapes)), quantize=False)
    (got,) = model.run({f"x{i}": array for i, array in enumerate(arrays)}).values()
    np.testing.assert_allclose(got, np.einsum(equation, *arrays), rtol=1e-5, atol=1e-5)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_equation_of_two_operands(data: st.DataObject) -> None:
    first = "".join(data.draw(st.lists(st.sampled_from("abcd"), min_size=1, max_size=4, unique=True)))
    second = "".join(data.draw(st.lists(st.sampled_from("abcdeh"), min_size=1, max_size=4, unique=True)))
    letters = sorted({*first, *second})
    result = "".join(data.draw(st.lists(st.sampled_from(letters), max_size=4, unique=True)))
    size = data.draw(st.sampled_from([SIZES, dict.fromkeys(SIZES, 1), {**SIZES, "a": 0}]))
    arrays = [np.random.default_rng(3).standard_normal([size[x] for x in t], np.float32) for t in (first, second)]
    open_sizes = data.draw(st.booleans())
    shapes = [tuple(f"size_{x}" if open_sizes else size[x] for x in term) for term in (first, second)]
    equation = f"{first},{second}->{result}"
    model = dynq.from_onnx(einsum_model(equation, shapes), quantize=False)
    (got,) = model.run({"x0": arrays[0], "x1": arrays[1]}).values()
    np.testing.assert_allclose(got, np.einsum(equation, *arrays), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("equation", "x_shape", "given_shape", "w_shape"),
    [
        ("abd,dhk->abhk", (2, 3, 5), ("n", "m", 5), (5, 2, 3)),
        ("ab,cb->ac", (2, 4), ("n", 4), (64, 4)),
        ("abhk,hkd->abd", (2, 3, 2, 3), ("n", "m", 2, 3), (2, 3, 8)),
    ],
)
def test_a_product_with_a_constant_becomes_a_linear_layer_in_int8(
    equation: str, x_shape: tuple[int, ...], given_shape: tuple[int | str, ...], w_shape: tuple[int, ...]
) -> None:
    rng = np.random.default_rng(4)
    weight, x = rng.standard_normal(w_shape, np.float32), rng.standard_normal(x_shape, np.float32)
    model = dynq.from_onnx(einsum_model(equation, [given_shape], w=weight), first_layer="int8")
    assert [row.kind for row in model.report().rows if row.quantized] == ["linear"]
    np.testing.assert_allclose(model(x), np.einsum(equation, x, weight), rtol=0.1, atol=0.2)


@pytest.mark.parametrize(
    ("equation", "shape"), [("aa->a", (3, 3)), ("aa->", (3, 3)), ("...bb->b...", (2, 4, 4)), ("aba", (2, 3, 2))]
)
def test_a_diagonal_is_taken_where_the_size_is_known(equation: str, shape: tuple[int, ...]) -> None:
    x = np.random.default_rng(6).standard_normal(shape, np.float32)
    x.reshape(-1)[1] = np.inf  # beside the diagonal
    model = dynq.from_onnx(einsum_model(equation, [shape]), quantize=False)
    np.testing.assert_allclose(model(x), np.einsum(equation, x), rtol=1e-6)


def test_what_it_cannot_do_is_refused() -> None:
    with pytest.raises(UnsupportedModelError, match="diagonal of a size that is not known"):
        dynq.from_onnx(einsum_model("aa->a", [("n", "n")]))
    for equation in ("ab->ac", "ab,b->a", "abc->a", "a1->a"):
        with pytest.raises((InvalidModelError, UnsupportedModelError)):
            dynq.from_onnx(einsum_model(equation, [(3, 3)]))
