"""Pooling, images, integers, and work that threads share: against NumPy and ONNX's reference."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dynq
from tests.python.references.one_op import run_op
from tests.python.references.op_reference import Array, array, assert_same, check, reference

# ---- Windows and images


def _windows(size: int, i: int, a: dict[str, Any]) -> list[tuple[list[int], int]]:
    """For each window along axis ``i``: the places in the input, and how many there are with the pads asked for."""
    axes = len(a["kernel_shape"])
    kernel, stride, dilation = a["kernel_shape"][i], a["strides"][i], a.get("dilations", [1] * axes)[i]
    width = (kernel - 1) * dilation + 1
    before, after = (a.get("pads", [0] * 2 * axes)[n] for n in (i, axes + i))
    if a.get("auto_pad", "").startswith("SAME"):
        count = -(-size // stride)
        pads = max(0, (count - 1) * stride + width - size)
        before = pads // 2 if a["auto_pad"] == "SAME_UPPER" else pads - pads // 2
        after = pads - before
    else:
        room = size + before + after - width
        count = room // stride + 1
        if a.get("ceil_mode") and room % stride and count * stride < size + before:
            count += 1
    result = []
    for n in range(count):
        places = [n * stride - before + j * dilation for j in range(kernel)]
        result.append(([p for p in places if 0 <= p < size], sum(p < size + after for p in places)))
    return result


def _pooled(x: Array, largest: bool, include_pads: bool, attributes: dict[str, Any]) -> Array:
    axes = [_windows(size, i, attributes) for i, size in enumerate(x.shape[2:])]
    y = np.zeros((*x.shape[:2], *map(len, axes)), np.float32)
    for place in np.ndindex(*y.shape[2:]):
        chosen = [axes[i][n] for i, n in enumerate(place)]
        values = x[np.ix_(range(x.shape[0]), range(x.shape[1]), *(places for places, _ in chosen))]
        values = values.reshape(*x.shape[:2], -1).astype(np.float64)
        count = np.prod([number for _, number in chosen]) if include_pads else values.shape[-1]
        y[(..., *place)] = values.max(-1) if largest else values.sum(-1) / count
    return y


@pytest.mark.parametrize("seed", range(40))
def test_windows_are_pooled(seed: int) -> None:
    rng = np.random.default_rng(seed)
    spatial = int(rng.integers(1, 3))
    x = array(rng, (2, 3, *(int(n) for n in rng.integers(4, 12, spatial))), "float32")
    kernel = [int(n) for n in rng.integers(1, 4, spatial)]
    attributes: dict[str, Any] = {"kernel_shape": kernel, "strides": [int(n) for n in rng.integers(1, 4, spatial)]}
    if seed % 3 == 0:
        attributes["auto_pad"] = ["SAME_UPPER", "SAME_LOWER", "VALID"][seed // 3 % 3]
    else:
        attributes["pads"] = [int(rng.integers(0, k)) for k in kernel * 2]
        attributes["ceil_mode"] = seed % 2
    attributes["dilations"] = [int(n) for n in rng.integers(1, 3, spatial)]
    assert_same(run_op("MaxPool", x, **attributes), _pooled(x, True, False, attributes))
    for include in (0, 1):
        got = run_op("AveragePool", x, count_include_pad=include, **attributes)
        assert_same(got, _pooled(x, False, bool(include), attributes), tolerance=1e-6)
    q = array(rng, x.shape, ["uint8", "int8"][seed % 2])
    assert_same(run_op("MaxPool", q, **attributes), _pooled(q, True, False, attributes).astype(q.dtype))


def test_the_places_of_the_largest_are_told() -> None:
    x = array(np.random.default_rng(2), (2, 3, 8, 9), "float32")
    values, places = run_op("MaxPool", x, outputs=2, kernel_shape=[3, 2], strides=[2, 2])
    np.testing.assert_array_equal(values, x.ravel()[places])
    _, columns_first = run_op("MaxPool", x, outputs=2, kernel_shape=[3, 2], strides=[2, 2], storage_order=1)
    turned = x.swapaxes(2, 3).ravel()
    np.testing.assert_array_equal(values, turned[columns_first])


@pytest.mark.parametrize("shape", [(2, 3, 7), (2, 3, 5, 7), (1, 4, 40, 41), (2, 3)])
def test_whole_planes_are_pooled(shape: tuple[int, ...]) -> None:
    x = array(np.random.default_rng(0), shape, "float32")
    axes = tuple(range(2, x.ndim))
    mean = x.astype(np.float64).mean(axes, keepdims=True).astype(np.float32) if axes else x
    assert_same(run_op("GlobalAveragePool", x), mean, tolerance=1e-5)
    assert_same(run_op("GlobalMaxPool", x), x.max(axes, keepdims=True) if axes else x)


@pytest.mark.parametrize(
    "coordinates", ["half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "align_corners", "asymmetric"]
)
@pytest.mark.parametrize("mode", ["nearest", "linear"])
@pytest.mark.parametrize("seed", range(6))
def test_images_are_resized_as_by_the_reference(mode: str, coordinates: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = array(rng, (2, 3, *(int(n) for n in rng.integers(1, 9, 2))), "float32")
    attributes: dict[str, Any] = {"mode": mode, "coordinate_transformation_mode": coordinates}
    if mode == "nearest":
        attributes["nearest_mode"] = ["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"][seed % 4]
    if seed % 2:
        scales = np.array([1, 1, *rng.uniform(0.4, 3, 2)], np.float32)
        arguments, constants = (x, None, scales), (2,)
        if (scales * x.shape < 1).any():
            return
        if coordinates == "align_corners":  # the reference takes the size that the scale gives, not rounded
            sizes = np.floor(scales.astype(np.float64) * x.shape).astype(np.int64)
            expected = reference("Resize", x, None, None, sizes, **attributes)[0]
            assert_same(run_op("Resize", *arguments, constants=constants, **attributes), expected, tolerance=1e-5)
            return
    else:
        sizes = np.array([2, 3, *rng.integers(1, 14, 2)])
        arguments, constants = (x, None, None, sizes), (3,)  # type: ignore[assignment]
    check("Resize", *arguments, constants=constants, tolerance=1e-5 if mode == "linear" else 0.0, **attributes)


@pytest.mark.parametrize("policy", ["not_larger", "not_smaller"])
def test_aspect_ratios_are_kept(policy: str) -> None:
    x = array(np.random.default_rng(1), (1, 1, 4, 6), "float32")
    sizes = np.array([7, 8])
    attributes: dict[str, Any] = {"axes": [2, 3], "keep_aspect_ratio_policy": policy, "mode": "nearest"}
    expected = reference("Resize", x, None, None, sizes, **attributes)[0]
    assert_same(run_op("Resize", x, None, None, sizes, constants=(3,), **attributes), expected)


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"mode": "lanczos"}, "mode is 'lanczos'"),
        ({"coordinate_transformation_mode": "tf_crop_and_resize"}, "roi: expected float32 of 8 elements"),
        ({"mode": "nearest", "antialias": 1}, "antialias is set with mode nearest"),
    ],
)
def test_ways_to_resize_that_do_not_go_together_are_refused(attributes: dict[str, Any], message: str) -> None:
    x = np.ones((1, 1, 2, 2), np.float32)
    with pytest.raises(ValueError, match=message):
        run_op("Resize", x, None, None, np.array([1, 1, 4, 4]), constants=(3,), **attributes)


CUBIC = [
    {"mode": "cubic"},
    {"mode": "cubic", "cubic_coeff_a": -0.5, "exclude_outside": 1},
    {"mode": "linear", "antialias": 1},
    {"mode": "cubic", "antialias": 1},
    {"mode": "cubic", "antialias": 1, "exclude_outside": 1, "coordinate_transformation_mode": "asymmetric"},
]


@pytest.mark.parametrize("attributes", CUBIC, ids=str)
@pytest.mark.parametrize("sizes", [(2, 3, 9, 4), (2, 3, 3, 11), (2, 3, 1, 2), (1, 5, 6, 6)])
def test_a_resize_by_many_neighbours_is_that_of_the_reference(
    attributes: dict[str, Any], sizes: tuple[int, ...], isa: str
) -> None:
    x = array(np.random.default_rng(3), (2, 3, 6, 6), "float32")
    check("Resize", x, None, None, np.array(sizes), constants=(3,), tolerance=1e-5, **attributes)


@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
@pytest.mark.parametrize("crop", [(0.2, 0.3, 0.8, 0.9), (-0.4, 0.1, 1.2, 0.7), (0.83, 0.0, 0.1, 1.0)])
def test_a_crop_is_that_of_the_reference(mode: str, crop: tuple[float, ...]) -> None:
    x = array(np.random.default_rng(4), (1, 2, 6, 7), "float32")
    roi = np.array([0, 0, *crop[:2], 1, 1, *crop[2:]], np.float32)
    attributes = {"mode": mode, "coordinate_transformation_mode": "tf_crop_and_resize", "extrapolation_value": 5.0}
    check("Resize", x, roi, None, np.array([1, 2, 5, 1]), constants=(1, 3), tolerance=1e-5, **attributes)
    scales = np.array([1, 1, 2, 3], np.float32)  # of a crop, too: the size of the output is not that of the crop
    check("Resize", x, roi, scales, constants=(1, 2), tolerance=1e-5, **attributes)


def test_many_neighbours_give_the_same_bits_on_every_number_of_threads() -> None:
    x = array(np.random.default_rng(5), (3, 16, 40, 44), "float32")
    graph = dynq.Graph()
    attributes: dict[str, Any] = {"mode": "cubic", "antialias": 1}
    value = graph.node("Resize", [graph.input("x", x.shape), None, None, np.array([3, 16, 17, 90])], **attributes)
    model, results = graph.build(value), []
    before = dynq.get_num_threads()
    try:
        for count in (1, 2, 5):
            dynq.set_num_threads(count)
            results.append(model(x))
    finally:
        dynq.set_num_threads(before)
    assert all(np.array_equal(results[0], other) for other in results[1:])


# ---- RoiAlign and Det


@pytest.mark.parametrize("mode", ["avg", "max"])
@pytest.mark.parametrize("places", ["half_pixel", "output_half_pixel"])
@pytest.mark.parametrize("ratio", [0, 2])
def test_regions_are_those_of_the_reference(mode: str, places: str, ratio: int) -> None:
    rng = np.random.default_rng(6)
    x = array(rng, (2, 3, 9, 8), "float32")
    rois = np.array([[0, 0, 7, 8], [-3, 2, 4, 12], [3.3, 1.2, 3.4, 5], [20, 20, 30, 30]], np.float32)
    check(
        "RoiAlign", x, rois, np.array([0, 1, 1, 0]), tolerance=1e-5, mode=mode, coordinate_transformation_mode=places,
        output_height=3, output_width=2, sampling_ratio=ratio, spatial_scale=0.8,
    )  # fmt: skip


def test_regions_of_no_image_are_refused() -> None:
    x = np.ones((1, 1, 4, 4), np.float32)
    rois = np.array([[0, 0, 1, 1]], np.float32)
    with pytest.raises(ValueError, match="index 0 is 1; the axis has size 1"):
        run_op("RoiAlign", x, rois, np.array([1]))
    with pytest.raises(ValueError, match="rois is"):
        run_op("RoiAlign", x, rois, np.array([0, 0]))
    with pytest.raises(ValueError, match="output_height is 0"):
        run_op("RoiAlign", x, rois, np.array([0]), output_height=0)


@pytest.mark.parametrize("shape", [(1, 1), (3, 3), (2, 4, 5, 5), (0, 3, 3), (2, 0, 0)])
def test_a_determinant_is_that_of_the_reference(shape: tuple[int, ...]) -> None:
    x = array(np.random.default_rng(7), shape, "float32")
    check("Det", x, tolerance=1e-4)
    if shape == (3, 3):
        x[2] = x[1]
        assert run_op("Det", x) == 0


# ---- Integers


@pytest.mark.parametrize("seed", range(6))
def test_dynamic_quantization_is_that_of_the_reference(seed: int, isa: str) -> None:
    rng = np.random.default_rng(seed)
    x = (array(rng, [(3, 4), (1,), (70, 133), (5000,), (4096,), (2, 3, 4)][seed], "float32") * 3).astype(np.float32)
    for got, expected in zip(
        run_op("DynamicQuantizeLinear", x, outputs=3), reference("DynamicQuantizeLinear", x, outputs=3), strict=True
    ):
        assert_same(got, expected)


@pytest.mark.parametrize("dtype", ["uint8", "int8"])
@pytest.mark.parametrize("axis", [None, 0, 1, -1])
def test_linear_quantization_is_that_of_the_reference(dtype: str, axis: int | None, isa: str) -> None:
    rng = np.random.default_rng(7)
    x = (array(rng, (3, 5, 40), "float32") * 5).astype(np.float32)
    x.ravel()[:6] = [0.25, -0.25, 0.75, 1.25, 1e8, -1e8]
    shape = () if axis is None else (x.shape[axis],)
    scale = rng.uniform(0.1, 0.5, shape).astype(np.float32) if axis is not None else np.array(0.5, np.float32)
    zero_point = array(rng, shape, dtype)
    attributes: dict[str, Any] = {} if axis is None else {"axis": axis}
    check("QuantizeLinear", x, scale, zero_point, **attributes)
    check("DequantizeLinear", array(rng, x.shape, dtype), scale, zero_point, **attributes)
    check("DequantizeLinear", array(rng, x.shape, "int32"), scale, **attributes)


@pytest.mark.parametrize("dtype", ["uint8", "int8"])
def test_what_no_integer_can_hold_is_clamped(dtype: str, isa: str) -> None:
    limits, zero = np.iinfo(dtype), np.array(3, dtype)
    x = np.array([np.inf, -np.inf, 3e38, -3e38, np.nan] * 5, np.float32)
    expected = np.array([limits.max, limits.min, limits.max, limits.min, 3] * 5, dtype)
    assert_same(run_op("QuantizeLinear", x, np.array(0.01, np.float32), zero), expected)
    assert_same(run_op("QuantizeLinear", x[2:4], np.array(0.01, np.float32), zero), expected[2:4])


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("dtypes", [("uint8", "uint8"), ("uint8", "int8"), ("int8", "uint8"), ("int8", "int8")])
def test_integer_products_are_exact(dtypes: tuple[str, str], seed: int) -> None:
    rng = np.random.default_rng(seed)
    m, n, k = (int(v) for v in rng.choice([1, 2, 5, 17, 64], 3))
    shapes: Any = [((m, k), (k, n)), ((2, 3, m, k), (k, n)), ((m, k), (2, k, n)), ((k,), (k, n)), ((m, k), (k,))][
        seed % 5
    ]
    a, b = (
        rng.integers(np.iinfo(dtype).min, np.iinfo(dtype).max + 1, shape).astype(dtype)
        for shape, dtype in zip(shapes, dtypes, strict=True)
    )
    zero_a, zero_b = (rng.integers(np.iinfo(dtype).min, np.iinfo(dtype).max + 1, ()).astype(dtype) for dtype in dtypes)
    exact = np.matmul(a.astype(np.int32) - zero_a, b.astype(np.int32) - zero_b).astype(np.int32)
    assert_same(run_op("MatMulInteger", a, b, zero_a, zero_b), exact)
    if a.ndim > 1 and b.ndim > 1:
        rows, columns = array(rng, (m,), dtypes[0]), array(rng, (n,), dtypes[1])
        exact = np.matmul(a.astype(np.int32) - rows[:, None], b.astype(np.int32) - columns).astype(np.int32)
        assert_same(run_op("MatMulInteger", a, b, rows, columns), exact)
    plain = np.matmul(a.astype(np.int32), b.astype(np.int32)).astype(np.int32)
    assert_same(run_op("MatMulInteger", a, b), plain)


def _convolve(x: Array, w: Array, strides: list[int], pads: list[int], dilations: list[int], group: int) -> Array:
    """Plainly, in int32; two spatial axes."""
    x = np.pad(x, ((0, 0), (0, 0), (pads[0], pads[2]), (pads[1], pads[3])))
    kernel = [(n - 1) * d + 1 for n, d in zip(w.shape[2:], dilations, strict=True)]
    sizes = [(n - k) // s + 1 for n, k, s in zip(x.shape[2:], kernel, strides, strict=True)]
    y = np.zeros((x.shape[0], w.shape[0], *sizes), np.int32)
    inputs, outputs = w.shape[1], w.shape[0] // group
    for channel, row, column in np.ndindex(w.shape[0], *sizes):
        first = channel // outputs * inputs
        top, left = row * strides[0], column * strides[1]
        patch = x[
            :, first : first + inputs, top : top + kernel[0] : dilations[0], left : left + kernel[1] : dilations[1]
        ]
        y[:, channel, row, column] = (patch * w[channel]).sum((1, 2, 3))
    return y


@pytest.mark.parametrize("seed", range(16))
def test_integer_convolutions_are_exact(seed: int) -> None:
    rng = np.random.default_rng(seed)
    group, inputs = int(rng.integers(1, 3)), int(rng.integers(1, 4))
    dtypes = (["uint8", "int8"][seed % 2], ["uint8", "int8"][seed // 2 % 2])
    x = array(rng, (2, group * inputs, *(int(n) for n in rng.integers(5, 11, 2))), dtypes[0])
    w = array(rng, (group * 2, inputs, *(int(n) for n in rng.integers(1, 4, 2))), dtypes[1])
    zero_x, zero_w = array(rng, (), dtypes[0]), array(rng, (w.shape[0],) if seed % 3 else (), dtypes[1])
    strides, dilations = ([int(n) for n in rng.integers(1, 3, 2)] for _ in range(2))
    pads = [int(n) for n in rng.integers(0, 4, 4)]
    wide_w = w.astype(np.int32) - (zero_w[:, None, None, None] if zero_w.ndim else zero_w)
    expected = _convolve(x.astype(np.int32) - zero_x, wide_w, strides, pads, dilations, group)
    attributes: dict[str, Any] = {"strides": strides, "pads": pads, "dilations": dilations, "group": group}
    assert_same(run_op("ConvInteger", x, w, zero_x, zero_w, **attributes), expected)
    line = _convolve((x.astype(np.int32) - zero_x)[:, :, :1], wide_w[:, :, :1], [1, 2], [0, 1, 0, 1], [1, 1], group)
    got = run_op("ConvInteger", x[:, :, 0], w[:, :, 0], zero_x, zero_w, strides=[2], pads=[1, 1], group=group)
    assert_same(got, line[:, :, 0])


# ---- Work shared among threads


@pytest.mark.parametrize("threads", [2, 3])
def test_large_tensors_have_the_same_bits_with_more_threads(threads: int) -> None:
    rng = np.random.default_rng(0)
    x, row, column = array(rng, (600, 700), "float32"), array(rng, (700,), "float32"), array(rng, (600, 1), "float32")
    calls: list[tuple[str, list[Any], dict[str, Any]]] = [
        ("Add", [x, row], {}),
        ("Mul", [x, column], {}),
        ("Sub", [x, x[::-1].copy()], {}),
        ("Transpose", [x], {}),
        ("Concat", [x, x], {"axis": 1}),
        ("Gather", [x, rng.integers(0, 600, 900)], {}),
        ("CumSum", [x, np.array(0)], {}),
        ("Cast", [x], {"to": 7}),
        ("ArgMax", [x], {"axis": 0}),
        ("AveragePool", [x.reshape(2, 3, 100, 700)], {"kernel_shape": [3, 3]}),
        ("MatMulInteger", [array(rng, (300, 200), "uint8"), array(rng, (200, 150), "int8")], {}),
        ("DynamicQuantizeLinear", [x], {}),
    ]
    for op, inputs, attributes in calls:
        dynq.set_num_threads(1)
        expected = run_op(op, *inputs, **attributes)
        dynq.set_num_threads(threads)
        assert_same(run_op(op, *inputs, **attributes), expected)


# ---- GridSample


@pytest.mark.parametrize("align_corners", [0, 1])
@pytest.mark.parametrize("padding_mode", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
def test_an_image_is_read_between_its_pixels_as_pytorch_does(mode: str, padding_mode: str, align_corners: int) -> None:
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(1)
    x = rng.standard_normal((2, 3, 6, 5), np.float32)
    grid = rng.uniform(-2.5, 2.5, (2, 4, 7, 2)).astype(np.float32)  # well outside too
    names = {"linear": "bilinear", "cubic": "bicubic"}
    expected = torch.nn.functional.grid_sample(
        torch.from_numpy(x), torch.from_numpy(grid), names.get(mode, mode), padding_mode, bool(align_corners)
    ).numpy()
    got = run_op("GridSample", x, grid, mode=mode, padding_mode=padding_mode, align_corners=align_corners)
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=2e-5)
    old = run_op(
        "GridSample", x, grid, mode=names.get(mode, mode), padding_mode=padding_mode, align_corners=align_corners
    )
    assert np.array_equal(got, old)


@pytest.mark.parametrize("padding_mode", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_a_volume_is_read_between_its_pixels_as_pytorch_does(mode: str, padding_mode: str) -> None:
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(5)
    x, grid = rng.standard_normal((2, 3, 4, 6, 5), np.float32), rng.uniform(-2, 2, (2, 3, 4, 2, 3)).astype(np.float32)
    name = {"linear": "bilinear"}.get(mode, mode)
    expected = torch.nn.functional.grid_sample(torch.from_numpy(x), torch.from_numpy(grid), name, padding_mode, False)
    got = run_op("GridSample", x, grid, mode=mode, padding_mode=padding_mode)
    np.testing.assert_allclose(got, expected.numpy(), rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
def test_a_sampled_grid_goes_to_onnx_and_comes_back(mode: str, tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    rng = np.random.default_rng(3)
    x, grid = rng.standard_normal((1, 2, 6, 5), np.float32), rng.uniform(-1, 1, (1, 3, 4, 2)).astype(np.float32)
    g = dynq.Graph()
    model = g.build(g.node("GridSample", [g.input("x", x.shape), g.input("grid", grid.shape)], mode=mode))
    dynq.export_onnx(model, tmp_path / "m.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx", providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(model(x, grid), session.run(None, {"x": x, "grid": grid})[0], atol=1e-5)
    assert np.array_equal(dynq.from_onnx(tmp_path / "m.onnx")(x, grid), model(x, grid))


@pytest.mark.parametrize("size", [1, 2])
def test_places_that_are_no_numbers_lie_outside(size: int) -> None:
    x = np.arange(1, 1 + size * size, dtype=np.float32).reshape(1, 1, size, size)
    grid = np.array([np.nan, np.inf, -np.inf, 3e38], np.float32)
    grid = np.stack(np.meshgrid(grid, grid), -1)[None]
    assert np.array_equal(run_op("GridSample", x, grid), np.zeros((1, 1, 4, 4)))
    for padding_mode in ("border", "reflection"):
        got = run_op("GridSample", x, grid, padding_mode=padding_mode)
        assert np.isfinite(got).all() and got.min() >= 1 and got.max() <= size * size


def test_a_module_that_samples_a_grid_is_imported() -> None:
    torch = pytest.importorskip("torch")

    class Sampler(torch.nn.Module):  # type: ignore[misc]
        def forward(self, x: Any, grid: Any) -> Any:
            return torch.nn.functional.grid_sample(x, grid, padding_mode="border", align_corners=True)

    rng = np.random.default_rng(2)
    example = torch.from_numpy(rng.standard_normal((1, 2, 5, 5), np.float32)), torch.rand(1, 3, 3, 2) * 2 - 1
    model = dynq.from_torch(Sampler().eval(), example)
    np.testing.assert_allclose(model(*(x.numpy() for x in example)), Sampler()(*example).numpy(), atol=1e-5)


def test_a_grid_that_does_not_fit_is_refused() -> None:
    x = np.ones((2, 1, 3, 3), np.float32)
    with pytest.raises(ValueError, match=r"grid is \(1, ..., 2\); expected \(2, ..., 2\)"):
        run_op("GridSample", x, np.zeros((1, 2, 2, 2), np.float32))
    with pytest.raises(ValueError, match="mode is 'lanczos'"):
        run_op("GridSample", x, np.zeros((2, 2, 2, 2), np.float32), mode="lanczos")
