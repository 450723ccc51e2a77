"""Ops that move, choose and make data: random shapes against NumPy."""

from typing import Any

import numpy as np
import pytest

import dynq
from tests.python.references.one_op import run_op
from tests.python.references.op_reference import NUMBERS, array, assert_same, broadcastable, check, shape_of


@pytest.mark.parametrize("dtype", ["float32", "int64", "int32", "uint8", "int8"])
@pytest.mark.parametrize("reduction", ["add", "mul", "max", "min"])
def test_updates_of_one_place_are_combined(reduction: str, dtype: str) -> None:
    rng = np.random.default_rng(11)
    x, updates = (array(rng, shape, dtype) for shape in ((4, 5), (3, 5)))
    indices = rng.integers(-4, 4, (3, 5))
    expected, combine = x.copy(), {"add": np.add, "mul": np.multiply, "max": np.maximum, "min": np.minimum}[reduction]
    for place in np.ndindex(3, 5):
        at = indices[place], place[1]
        expected[at] = combine(expected[at], updates[place])
    assert_same(run_op("ScatterElements", x, indices, updates, axis=0, reduction=reduction), expected)
    expected = x.copy()
    for row, at in enumerate(indices[:, 0]):
        expected[at] = combine(expected[at], updates[row])
    assert_same(run_op("ScatterND", x, indices[:, :1].copy(), updates, reduction=reduction), expected)


def test_the_largest_of_an_update_that_is_no_number_is_none() -> None:
    x, nan = np.zeros(2, np.float32), np.array([np.nan], np.float32)
    got = run_op("ScatterElements", x, np.array([1]), nan, reduction="max")
    assert got[0] == 0 and np.isnan(got[1])
    with pytest.raises(ValueError, match="reduction is 'xor'"):
        run_op("ScatterElements", x, np.array([1]), nan, reduction="xor")


@pytest.mark.parametrize("dtype", ["float32", "int64", "int32"])
@pytest.mark.parametrize("exclusive", [0, 1])
@pytest.mark.parametrize("reverse", [0, 1])
def test_products_run_along_an_axis(dtype: str, exclusive: int, reverse: int) -> None:
    x = array(np.random.default_rng(12), (3, 4, 5), dtype)
    for axis in (0, 1, -1):
        line = np.flip(x, axis) if reverse else x
        expected = np.cumprod(line, axis, dtype=dtype)
        if exclusive:
            first = np.ones_like(np.take(x, [0], axis))
            expected = np.concatenate([first, np.delete(expected, -1, axis)], axis)
        expected = np.flip(expected, axis) if reverse else expected
        got = run_op("CumProd", x, np.array(axis), exclusive=exclusive, reverse=reverse)
        assert_same(got, expected, tolerance=1e-5 if dtype == "float32" else 0.0)


@pytest.mark.parametrize("dtype", ["float32", "int64", "bool"])
@pytest.mark.parametrize("seed", range(12))
def test_axes_are_permuted(dtype: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = array(rng, shape_of(rng, 1, 6), dtype)
    perm = [int(i) for i in rng.permutation(x.ndim)]
    assert_same(run_op("Transpose", x, perm=perm), x.transpose(perm))
    assert_same(run_op("Transpose", x), x.transpose())


@pytest.mark.parametrize("perm", [(0, 2, 1, 3), (0, 1, 3, 2), (1, 0, 2, 3), (0, 2, 3, 1), (0, 3, 1, 2), (3, 2, 1, 0)])
@pytest.mark.parametrize("dtype", ["float32", "int64", "uint8"])
def test_large_tensors_are_permuted(perm: tuple[int, ...], dtype: str) -> None:
    x = array(np.random.default_rng(0), (2, 37, 12, 65), dtype)
    for threads in (1, 3):
        dynq.set_num_threads(threads)
        assert_same(run_op("Transpose", x, perm=list(perm)), x.transpose(perm))


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("dtype", ["float32", "int64", "bool"])
def test_parts_are_joined_and_split_again(dtype: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    shape = list(shape_of(rng))
    axis = int(rng.integers(-len(shape), len(shape)))
    sizes = [int(n) for n in rng.integers(0, 5, rng.integers(2, 6))]
    parts = []
    for size in sizes:
        shape[axis] = size
        parts.append(array(rng, tuple(shape), dtype))
    joined = np.concatenate(parts, axis)
    assert_same(run_op("Concat", *parts, axis=axis), joined)
    again = run_op("Split", joined, np.array(sizes, np.int64), constants=(1,), outputs=len(sizes), axis=axis)
    for got, part in zip(again, parts, strict=True):
        assert_same(got, part)


def test_a_split_into_equal_parts_has_a_smaller_last_one() -> None:
    x = np.arange(14, dtype=np.int64).reshape(2, 7)
    got = run_op("Split", x, outputs=3, axis=1, num_outputs=3)
    for read in (1, 2):  # the last parts are no outputs
        some = run_op("Split", x, outputs=read, axis=1, num_outputs=3)
        for expected, part in zip(got, some if read > 1 else [some], strict=False):
            np.testing.assert_array_equal(part, expected)
    assert [part.shape for part in got] == [(2, 3), (2, 3), (2, 1)]
    np.testing.assert_array_equal(np.concatenate(got, 1), x)
    with pytest.raises(ValueError, match="split leaves 1 of axis 1"):
        run_op("Split", x, np.array([3, 3], np.int64), constants=(1,), outputs=2, axis=1)


@pytest.mark.parametrize("seed", range(40))
def test_slices_are_those_of_numpy(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = array(rng, shape_of(rng), ["float32", "int64", "bool"][seed % 3])
    axes = [int(i) for i in rng.permutation(x.ndim)[: rng.integers(1, x.ndim + 1)]]
    far = [-(2**63), -(2**31), 2**31 - 1, 2**63 - 1]
    starts, ends = ([int(rng.choice([*range(-9, 9), *far])) for _ in axes] for _ in range(2))
    steps = [int(rng.choice([-(2**63), -3, -2, -1, 1, 2, 3, 2**63 - 1])) for _ in axes]
    index: list[Any] = [slice(None)] * x.ndim
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        # NumPy's slice takes -1 for the last element, ONNX's end of the least number for "before the first".
        size = x.shape[axis]
        stop = None if step < 0 and end < -size else end
        index[axis] = slice(start, stop, step)
    negative = [axis - x.ndim if rng.random() < 0.5 else axis for axis in axes]
    lists = [np.array(values, np.int64) for values in (starts, ends, negative, steps)]
    assert_same(run_op("Slice", x, *lists, constants=(1, 2, 3, 4)), x[tuple(index)])


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("index", ["int64", "int32"])
def test_slices_are_gathered(seed: int, index: str) -> None:
    rng = np.random.default_rng(seed)
    x = array(rng, shape_of(rng, 1, 4), ["float32", "int64", "uint8"][seed % 3])
    axis = int(rng.integers(-x.ndim, x.ndim))
    size = x.shape[axis]
    indices = rng.integers(-size, size, shape_of(rng, 0, 3)).astype(index)
    assert_same(run_op("Gather", x, indices, axis=axis), np.take(x, indices, axis))
    with pytest.raises(ValueError, match=f"index 0 is {size}; the axis has size {size}"):
        run_op("Gather", x, np.array([size], index), axis=axis)
    with pytest.raises(ValueError, match=f"index 1 is {-size - 1}"):
        run_op("Gather", x, np.array([0, -size - 1], index), axis=axis)


@pytest.mark.parametrize("seed", range(12))
def test_elements_are_gathered_and_scattered(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = array(rng, shape_of(rng, 1, 4), ["float32", "int64", "uint8"][seed % 3])
    axis = int(rng.integers(0, x.ndim))
    size = x.shape[axis]
    shape = [int(rng.integers(1, n + 1)) for n in x.shape]
    shape[axis] = int(rng.integers(1, 6))
    indices = rng.integers(-size, size, shape)
    part = x[tuple(slice(None) if i == axis else slice(n) for i, n in enumerate(shape))]
    assert_same(run_op("GatherElements", x, indices, axis=axis), np.take_along_axis(part, indices, axis))
    corner = tuple(slice(min(n, m)) for n, m in zip(shape, x.shape, strict=True))
    distinct = np.argsort(rng.random(x.shape), axis)[corner]
    updates = array(rng, distinct.shape, str(x.dtype))
    expected = x.copy()
    for place in np.ndindex(distinct.shape):
        expected[(*place[:axis], distinct[place], *place[axis + 1 :])] = updates[place]
    assert_same(run_op("ScatterElements", x, distinct, updates, axis=axis), expected)
    with pytest.raises(ValueError, match=f"the axis has size {size}"):
        run_op("GatherElements", x, np.full_like(indices, size), axis=axis)


def test_of_two_updates_of_one_place_the_later_one_stays() -> None:
    x, updates = np.zeros(4, np.float32), np.arange(1, 6, dtype=np.float32)
    indices = np.array([1, 2, 1, -2, 0])
    expected = np.array([5, 3, 4, 0], np.float32)
    assert_same(run_op("ScatterElements", x, indices, updates), expected)
    assert_same(run_op("ScatterND", x, indices[:, None], updates), expected)


@pytest.mark.parametrize("seed", range(12))
def test_tuples_are_gathered_and_scattered(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = array(rng, shape_of(rng, 2, 4), ["float32", "int64", "uint8"][seed % 3])
    batch = int(rng.integers(0, 2))
    width = int(rng.integers(1, x.ndim - batch + 1))
    shape = (*x.shape[:batch], *shape_of(rng, 1, 2))
    indices = np.stack([rng.integers(-x.shape[batch + i], x.shape[batch + i], shape) for i in range(width)], -1)
    check("GatherND", x, indices, batch_dims=batch)
    if batch == 0:
        updates = array(rng, (*shape, *x.shape[width:]), str(x.dtype))
        expected = x.copy()
        for place in np.ndindex(shape):
            expected[tuple(indices[place])] = updates[place]
        assert_same(run_op("ScatterND", x, indices, updates), expected)
    with pytest.raises(ValueError, match=f"axis {batch} has size"):
        run_op("GatherND", x, np.full_like(indices, 99), batch_dims=batch)


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("dtype", ["float32", "int64", "bool"])
def test_tensors_are_repeated(dtype: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    small, large = broadcastable(rng)
    x = array(rng, small, dtype)
    expected = np.broadcast_shapes(small, large)
    assert_same(run_op("Expand", x, np.array(large, np.int64), constants=(1,)), np.broadcast_to(x, expected))
    x = array(rng, shape_of(rng, 1, 5), dtype)
    repeats = rng.integers(0 if seed == 0 else 1, 4, x.ndim)
    assert_same(run_op("Tile", x, repeats, constants=(1,)), np.tile(x, repeats))


@pytest.mark.parametrize("mode", ["constant", "reflect", "edge", "wrap"])
@pytest.mark.parametrize("seed", range(12))
def test_tensors_are_padded_as_by_numpy(mode: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = array(rng, shape_of(rng, 1, 4), ["float32", "int64", "bool"][seed % 3])
    pads = rng.integers(0, 9, (x.ndim, 2))
    value = array(rng, (), str(x.dtype))
    constant: dict[str, Any] = {"constant_values": value} if mode == "constant" else {}
    got = run_op("Pad", x, pads.T.ravel(), value, constants=(1,), mode=mode)
    assert_same(got, np.pad(x, pads, mode, **constant))  # type: ignore[call-overload]


def test_negative_pads_crop_and_axes_choose() -> None:
    x = np.arange(24, dtype=np.float32).reshape(4, 6)
    got = run_op("Pad", x, np.array([-1, 2, 1, -3]), None, np.array([-1, 0]), constants=(1, 3))
    assert_same(got, np.pad(x[:1], ((2, 0), (0, 1)))[:, 1:])
    with pytest.raises(ValueError, match="axis 0 of size 4 cannot be padded by -3 and -2"):
        run_op("Pad", x, np.array([-3, 0, -2, 0]), constants=(1,))


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("dtype", NUMBERS)
def test_the_largest_and_the_smallest_are_found(dtype: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = (array(rng, shape_of(rng, 1, 4), dtype) % 5).astype(dtype)  # with equal ones
    axis, keepdims, last = int(rng.integers(-x.ndim, x.ndim)), seed % 2, seed // 2 % 2
    for op in ("ArgMax", "ArgMin"):
        check(op, x, axis=axis, keepdims=keepdims, select_last_index=last)
    k = int(rng.integers(0, x.shape[axis] + 1))
    if k != 0:
        check("TopK", x, np.array([k]), outputs=2, constants=(1,), axis=axis, largest=seed % 2)


def test_a_nan_is_the_largest_of_all() -> None:
    x = np.array([1, np.nan, 3, np.nan, -np.inf], np.float32)
    assert run_op("ArgMax", x).tolist() == [1]
    assert run_op("ArgMin", x, select_last_index=1).tolist() == [3]
    assert run_op("TopK", x, np.array([5]), outputs=2, constants=(1,))[1].tolist() == [1, 3, 2, 0, 4]
    assert run_op("TopK", x, np.array([5]), outputs=2, constants=(1,), largest=0)[1].tolist() == [4, 0, 2, 1, 3]


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("dtype", ["float32", "int64", "int32"])
def test_sums_run_along_an_axis(dtype: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = array(rng, shape_of(rng, 1, 4), dtype)
    axis = np.array(int(rng.integers(-x.ndim, x.ndim)))
    tolerance = 1e-5 if dtype == "float32" else 0.0
    check("CumSum", x, axis, exclusive=seed % 2, reverse=seed // 2 % 2, tolerance=tolerance)
    with pytest.raises(ValueError, match="axis is 9"):
        run_op("CumSum", x, np.array(9))


@pytest.mark.parametrize(
    ("start", "limit", "delta", "dtype"),
    [
        (0, 10, 3, "int64"),
        (10, -4, -3, "int32"),
        (1, 1, 1, "int64"),
        (5, 1, 1, "int64"),
        (0, 1, 0.1, "float32"),
        (2, -3, -0.75, "float32"),
        (-(2**63), 2**63 - 1, 2**62, "int64"),
    ],
)
def test_ranges_are_those_of_the_reference(start: Any, limit: Any, delta: Any, dtype: str) -> None:
    ends = [np.array(value, dtype) for value in (start, limit, delta)]
    got = run_op("Range", *ends, constants=(0, 1, 2))
    count = max(0, int(np.ceil((float(ends[1]) - float(ends[0])) / float(ends[2]))))
    with np.errstate(over="ignore"):
        assert_same(got, ends[0] + np.arange(count).astype(dtype) * ends[2])
    with pytest.raises(ValueError, match="delta is 0"):
        run_op("Range", ends[0], ends[1], np.array(0, dtype), constants=(0, 1, 2))


@pytest.mark.parametrize("seed", range(8))
def test_one_hot_rows_and_triangles(seed: int) -> None:
    rng = np.random.default_rng(seed)
    indices = rng.integers(-6, 6, shape_of(rng, 0, 3))
    axis = int(rng.integers(-indices.ndim - 1, indices.ndim + 1))
    values = np.array([2, 7], "float32")
    expected = np.full((*indices.shape, 4), 2, np.float32)
    for place in np.ndindex(indices.shape):
        if -4 <= indices[place] < 4:
            expected[(*place, indices[place])] = 7
    expected = np.moveaxis(expected, -1, axis)
    assert_same(run_op("OneHot", indices, np.array(4), values, constants=(1,), axis=axis), expected)
    x = array(rng, shape_of(rng, 2, 4), "float32")
    for k in (-20, -2, 0, 1, 20, -(2**63), 2**63 - 1):
        near = max(-100, min(100, k))
        assert_same(run_op("Trilu", x, np.array(k), upper=1), np.triu(x, near))
        assert_same(run_op("Trilu", x, np.array(k), upper=0), np.tril(x, near))


@pytest.mark.parametrize("mode", ["DCR", "CRD"])
@pytest.mark.parametrize("dtype", ["float32", "uint8"])
def test_depth_becomes_space_and_comes_back(mode: str, dtype: str) -> None:
    x = array(np.random.default_rng(0), (2, 12, 5, 3), dtype)
    check("DepthToSpace", x, blocksize=2, mode=mode)
    y = run_op("DepthToSpace", x, blocksize=2, mode=mode)
    assert_same(run_op("SpaceToDepth", y, blocksize=2, mode=mode), x)
