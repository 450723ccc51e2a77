"""A result depends on its own row and on nothing else: not on batch, threads, instruction set or memory layout."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import dynq

F = np.float32

problems = st.tuples(
    st.integers(1, 40), st.integers(1, 70), st.integers(1, 90), st.integers(0, 2**32 - 1), st.integers(-30, 30)
)


def problem(m: int, n: int, k: int, seed: int, exponent: int) -> tuple[np.ndarray, dynq.QuantizedWeight, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = (rng.standard_normal((m, k)) * 2.0**exponent + rng.standard_normal()).astype(F)
    return x, dynq.quantize_weight(rng.standard_normal((n, k)).astype(F)), rng.standard_normal(n).astype(F)


def same(a: np.ndarray, b: np.ndarray) -> bool:
    return a.shape == b.shape and a.tobytes() == b.tobytes()


@given(problems, st.data())
def test_a_row_does_not_depend_on_its_batch(sizes: tuple[int, ...], data: st.DataObject) -> None:
    x, qw, bias = problem(*sizes)
    whole = dynq.linear(x, qw, bias, activation="gelu")
    rows = data.draw(st.lists(st.integers(0, len(x) - 1), min_size=1, max_size=50))
    assert same(dynq.linear(x[rows], qw, bias, activation="gelu"), whole[rows])


@given(problems)
def test_the_instruction_set_does_not_matter(sizes: tuple[int, ...]) -> None:
    x, qw, bias = problem(*sizes)
    results = []
    for name in dynq.isa.supported():
        with dynq.isa.use(name):
            results.append(dynq.linear(x, qw, bias, activation="silu", scheme="symmetric").tobytes())
    assert len(set(results)) == 1


def everything(x: np.ndarray, qw: dynq.QuantizedWeight, scheme: str, granularity: str) -> list[bytes]:
    """What each function makes of ``x``; ``x`` is finite."""
    q, scale, zero = dynq.quantize(x, scheme, granularity)
    made = [q, scale, zero, *dynq.minmax(x, granularity), dynq.dequantize(q, scale, zero), dynq.gemm_s32(q, zero, qw)]
    made += [dynq.matmul(x, x.T, scheme=scheme, granularity=granularity)]
    made += [dynq.linear(x, qw, scheme=scheme, granularity=granularity)]
    packed = dynq.quantize_weight(x)
    return [np.asarray(a).tobytes() for a in (*made, packed.integers(), packed.scale, packed.dequantize())]


@given(problems, st.sampled_from(["asymmetric", "symmetric"]), st.sampled_from(["row", "tensor"]))
def test_no_function_depends_on_the_instruction_set(sizes: tuple[int, ...], scheme: str, granularity: str) -> None:
    x, qw, _ = problem(*sizes)
    results = []
    for name in dynq.isa.supported():
        with dynq.isa.use(name):
            results.append(everything(x, qw, scheme, granularity))
    assert all(result == results[0] for result in results)


@pytest.mark.parametrize("granularity", ["row", "tensor"])
@pytest.mark.parametrize("scheme", ["asymmetric", "symmetric"])
def test_no_function_depends_on_the_number_of_threads(scheme: str, granularity: str) -> None:
    x, qw, _ = problem(300, 500, 700, 3, 0)  # large enough for several threads
    results = []
    for threads in (1, 2, 3, 5):
        dynq.set_num_threads(threads)
        results.append(everything(x, qw, scheme, granularity))
    assert all(result == results[0] for result in results)


@given(problems, st.data())
def test_integers_of_a_row_do_not_depend_on_its_batch(sizes: tuple[int, ...], data: st.DataObject) -> None:
    x, qw, _ = problem(*sizes)
    q, scale, zero = dynq.quantize(x)
    acc, back, product = dynq.gemm_s32(q, zero, qw), dynq.dequantize(q, scale, zero), dynq.matmul(x, x[:1].T)
    rows = data.draw(st.lists(st.integers(0, len(x) - 1), min_size=1, max_size=50))
    for whole, part in zip((q, scale, zero), dynq.quantize(x[rows]), strict=True):
        assert same(part, whole[rows])
    assert same(dynq.gemm_s32(q[rows], zero[rows], qw), acc[rows])
    assert same(dynq.dequantize(q[rows], scale[rows], zero[rows]), back[rows])
    assert same(dynq.matmul(x[rows], x[:1].T), product[rows])


@given(problems, st.data(), st.sampled_from([np.nan, np.inf, -np.inf]))
def test_a_row_does_not_depend_on_neighbours_that_are_not_finite(
    sizes: tuple[int, ...], data: st.DataObject, bad: float
) -> None:
    x, qw, bias = problem(*sizes)
    whole = dynq.linear(x, qw, bias)
    rows = data.draw(st.sets(st.integers(0, len(x) - 1), min_size=1))
    for row in rows:
        x[row, data.draw(st.integers(0, x.shape[1] - 1))] = bad
    y = dynq.linear(x, qw, bias)
    others = [i for i in range(len(x)) if i not in rows]
    assert same(y[others], whole[others])
    assert np.isnan(y[sorted(rows)]).all()


def slices(extent: int) -> st.SearchStrategy[slice]:
    return st.builds(slice, st.integers(0, extent), st.integers(0, extent), st.sampled_from([None, 1, 2, 3])) | (
        st.builds(slice, st.just(None), st.just(None), st.sampled_from([-1, -2, -3]))
    )


@given(st.data(), st.booleans(), st.integers(0, 3))
def test_no_view_is_read_wrongly(data: st.DataObject, transposed: bool, offset: int) -> None:
    """Any slices of a 3-d array, at any byte address, give what their contiguous copy gives."""
    shape = (7, 9, 40)
    memory = np.zeros(4 * 7 * 9 * 40 + 4, np.uint8)
    whole = memory[offset : offset + 4 * 7 * 9 * 40].view(F).reshape(shape)
    whole[...] = np.random.default_rng(0).standard_normal(shape)
    view = whole[tuple(data.draw(slices(extent)) for extent in shape)]
    view = view.transpose(data.draw(st.permutations(range(3)))) if transposed else view
    copy = np.array(view, order="C")
    qw = dynq.quantize_weight(np.random.default_rng(1).standard_normal((5, view.shape[-1])).astype(F))
    assert same(dynq.linear(view, qw), dynq.linear(copy, qw))
    for a, b in zip(
        (*dynq.quantize(view), *dynq.minmax(view)), (*dynq.quantize(copy), *dynq.minmax(copy)), strict=True
    ):
        assert same(a, b)
    if len(view):
        assert same(dynq.quantize_weight(view[0]).integers(), dynq.quantize_weight(copy[0]).integers())
    bytes_of = memory[: view.size * 4].reshape(*view.shape, 4)[..., offset]
    q = bytes_of.transpose(1, 0, 2)
    assert same(dynq.gemm_s32(q, 3, qw), dynq.gemm_s32(q.copy(), 3, qw))
    assert same(dynq.dequantize(q, F(0.5), 3), dynq.dequantize(q.copy(), F(0.5), 3))
    if len(q):
        integers = q[0].view(np.int8)[::-1, ::-1]
        assert np.array_equal(dynq.QuantizedWeight.from_integers(integers, F(1)).integers(), integers)


@settings(max_examples=40)
@given(
    st.integers(1, 300), st.integers(1, 2500), st.integers(100, 1200), st.integers(0, 2**32 - 1), st.booleans()
)  # most of them large enough for several threads
def test_the_number_of_threads_does_not_matter(m: int, n: int, k: int, seed: int, per_row: bool) -> None:
    x, qw, bias = problem(m, n, k, seed, 0)
    if per_row:
        x[seed % m, seed % k] = np.nan
    results = []
    for threads in (1, 2, 3, 5):
        dynq.set_num_threads(threads)
        results.append(dynq.linear(x, qw, bias, granularity="row" if per_row else "tensor").tobytes())
    assert len(set(results)) == 1


def test_packing_and_quantizing_do_not_depend_on_the_number_of_threads() -> None:
    rng = np.random.default_rng(0)
    w = rng.standard_normal((700, 1300)).astype(F)
    results = []
    for threads in (1, 2, 5):
        dynq.set_num_threads(threads)
        qw = dynq.quantize_weight(w)
        q, scale, zero = dynq.quantize(w, granularity="tensor")
        rows = dynq.quantize(w)[0]
        results.append((qw.integers().tobytes(), qw.dequantize().tobytes(), q.tobytes(), scale, zero, rows.tobytes()))
    assert len(set(results)) == 1


def layouts(x: np.ndarray) -> dict[str, np.ndarray]:
    """The same values (M, K) in other places."""
    m, k = x.shape
    wide = np.full((m, k + 5), np.nan, F)
    wide[:, 2 : 2 + k] = x
    apart = np.full((m, 2 * k), np.nan, F)
    apart[:, ::2] = x
    every_other_row = np.full((2 * m, k), np.nan, F)
    every_other_row[::2] = x
    unaligned = np.empty(x.nbytes + 1, np.uint8)[1:].view(F).reshape(x.shape)
    unaligned[...] = x
    return {
        "contiguous": x,
        "Fortran": np.asfortranarray(x),
        "columns of a wider one": wide[:, 2 : 2 + k],
        "every other column": apart[:, ::2],
        "every other row": every_other_row[::2],
        "backwards": np.ascontiguousarray(x[::-1, ::-1])[::-1, ::-1],
        "unaligned": unaligned,
        "other byte order": x.astype(">f4"),
        "read-only": np.frombuffer(x.tobytes(), F).reshape(x.shape),
        "broadcast row": np.broadcast_to(x[:1], x.shape) if (x == x[:1]).all() else x,
    }


@pytest.mark.parametrize("name", layouts(np.ones((2, 2), F)))
def test_memory_layout_does_not_matter(name: str) -> None:
    x, qw, bias = problem(7, 20, 33, 1, 0)
    x = np.broadcast_to(x[:1], x.shape).copy() if name == "broadcast row" else x
    other = layouts(x)[name]
    assert np.array_equal(other, x)
    assert same(dynq.linear(other, qw, bias), dynq.linear(x, qw, bias))
    for a, b in zip(dynq.quantize(other), dynq.quantize(x), strict=True):
        assert same(a, b)
    for a, b in zip(dynq.minmax(other), dynq.minmax(x), strict=True):
        assert same(a, b)
    assert same(dynq.quantize_weight(other).integers(), dynq.quantize_weight(x).integers())
    assert same(dynq.matmul(other, layouts(x.T)[name] if name != "broadcast row" else x.T), dynq.matmul(x, x.T))
    residual = layouts(dynq.linear(x, qw))[name] if name != "broadcast row" else dynq.linear(x, qw)
    assert same(dynq.linear(x, qw, residual=residual), dynq.linear(x, qw, residual=np.array(residual, F)))


@pytest.mark.parametrize("shape", [(33,), (1, 33), (2, 3, 33), (2, 1, 3, 33), (0, 33), (2, 0, 33)])
def test_leading_dimensions_are_rows(shape: tuple[int, ...]) -> None:
    _, qw, bias = problem(1, 20, 33, 1, 0)
    x = np.random.default_rng(0).standard_normal(shape).astype(F)
    flat = dynq.linear(x.reshape(-1, 33), qw, bias)
    assert same(dynq.linear(x, qw, bias), flat.reshape(*shape[:-1], 20))
    q, scale, zero = dynq.quantize(x)
    assert q.shape == shape and scale.shape == zero.shape == shape[:-1]
    assert dynq.gemm_s32(q, zero, qw).shape == (*shape[:-1], 20)
    assert dynq.dequantize(q, scale, zero).shape == shape


@pytest.mark.parametrize("kind", ["contiguous", "columns of a wider one", "every other row", "Fortran", "backwards"])
def test_out_is_written_in_place(kind: str) -> None:
    x, qw, bias = problem(7, 20, 33, 1, 0)
    out = layouts(np.zeros((7, 20), F))[kind]
    expected = dynq.linear(x, qw, bias)
    assert dynq.linear(x, qw, bias, out=out) is out
    assert np.array_equal(out, expected)


def test_out_is_not_copied() -> None:
    x, qw, _ = problem(7, 20, 33, 1, 0)
    memory = np.full((7, 40), 5, F)
    dynq.linear(x, qw, out=memory[:, :20])
    assert np.array_equal(memory[:, :20], dynq.linear(x, qw))
    assert (memory[:, 20:] == 5).all()


@pytest.mark.parametrize("shape", [(33,), (3, 33), (2, 3, 33), (0, 33)])
def test_out_may_have_leading_dimensions(shape: tuple[int, ...]) -> None:
    _, qw, bias = problem(1, 20, 33, 1, 0)
    x = np.random.default_rng(0).standard_normal(shape).astype(F)
    out = np.full((*shape[:-1], 20), np.nan, F)
    assert dynq.linear(x, qw, bias, out=out) is out
    assert same(out, dynq.linear(x, qw, bias))


@pytest.mark.parametrize("residual", [False, True])
def test_writing_to_out_allocates_no_array(residual: bool) -> None:
    x, qw, bias = problem(64, 2048, 33, 1, 0)
    memory = np.zeros((64, 3000), F)
    for out in (np.zeros((64, 2048), F), memory[:, :2048]):
        tracemalloc.start()
        try:
            dynq.linear(x, qw, bias, residual=out if residual else None, out=out)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < out.nbytes / 4


@pytest.mark.parametrize("kind", ["contiguous", "columns of a wider one", "every other row", "Fortran", "backwards"])
def test_the_residual_may_be_the_output_in_any_layout(kind: str) -> None:
    x, qw, bias = problem(7, 20, 33, 1, 0)
    values = np.random.default_rng(0).standard_normal((7, 20)).astype(F)
    residual = layouts(values.copy())[kind]
    expected = dynq.linear(x, qw, bias, activation="relu", residual=values)
    assert dynq.linear(x, qw, bias, activation="relu", residual=residual, out=residual) is residual
    assert np.array_equal(residual, expected)


def test_the_residual_may_be_the_output() -> None:
    x, qw, bias = problem(30, 20, 33, 1, 0)
    residual = np.random.default_rng(0).standard_normal((30, 20)).astype(F)
    expected = dynq.linear(x, qw, bias, activation="relu", residual=residual)
    assert dynq.linear(x, qw, bias, activation="relu", residual=residual, out=residual) is residual
    assert same(residual, expected)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_is_converted(dtype: str) -> None:
    import ml_dtypes

    half = np.dtype(ml_dtypes.bfloat16) if dtype == "bfloat16" else np.dtype(np.float16)
    x, qw, bias = problem(7, 20, 33, 1, 0)
    x, bias = x.astype(half), bias.astype(half)
    y = dynq.linear(x, qw, bias)
    assert y.dtype == F
    assert same(y, dynq.linear(x.astype(F), qw, bias.astype(F)))
    assert same(dynq.quantize_weight(x).integers(), dynq.quantize_weight(x.astype(F)).integers())


def test_a_bias_that_changes_is_seen() -> None:
    x, qw, bias = problem(3, 20, 33, 1, 0)
    before = dynq.linear(x, qw, bias)
    bias += 1
    after = dynq.linear(x, qw, bias)
    assert not same(before, after)
    assert same(after, dynq.linear(x, qw, bias.copy()))
    assert same(dynq.linear(x, qw), dynq.linear(x, qw, np.zeros(20, F)))
