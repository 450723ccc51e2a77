"""Each op of TensorFlow Lite gives what LiteRT's reference kernel gives."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import dynq
from tests.python.references.tflite_models import Graph, Op, T, constant, litert, one_op, write

pytest.importorskip("tflite")
pytest.importorskip("ai_edge_litert")
F = np.float32
few = settings(max_examples=8, deadline=None)


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape, F)


def integers(*shape: int, low: int = -9, high: int = 9, dtype: str = "int32", seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(low, high, shape).astype(dtype)


def check(model: bytes, *inputs: np.ndarray, rtol: float = 1e-5, atol: float = 1e-6, reference: bool = True) -> None:
    """dynq gives what LiteRT gives, in float32."""
    built = dynq.from_tflite(model, quantize=False)
    got = list(built.run(dict(zip((value.name for value in built.inputs), inputs, strict=True))).values())
    for have, want in zip(got, litert(model, inputs, reference), strict=True):
        assert have.dtype == want.dtype and have.shape == want.shape
        np.testing.assert_allclose(have, want, rtol=rtol, atol=atol)


def of(array: np.ndarray) -> T:
    """Return an input of the shape and dtype of an array."""
    return T(array.shape, array.dtype.name)


def out(dtype: str = "float32") -> T:
    return T((), dtype)


def run(
    op: str,
    inputs: Sequence[Any],
    output: Any = None,
    options: str | None = None,
    rtol: float = 1e-5,
    reference: bool = True,
    **fields: Any,
) -> None:
    """Check an op; arrays are inputs of the model, T constants."""
    names = {f"i{i}": of(x) if isinstance(x, np.ndarray) else x for i, x in enumerate(inputs)}
    given = [x for x in inputs if isinstance(x, np.ndarray)]
    check(one_op(op, names, output or out(), options, **fields), *given, rtol=rtol, reference=reference)


X = normal(2, 3, 4, 5)


@pytest.mark.parametrize(
    "op",
    [
        "ABS",
        "NEG",
        "FLOOR",
        "CEIL",
        "ROUND",
        "EXP",
        "SIN",
        "COS",
        "TANH",
        "LOGISTIC",
        "RELU",
        "RELU6",
        "RELU_N1_TO_1",
        "RELU_0_TO_1",
        "ELU",
        "HARD_SWISH",
        "SQUARE",
        "SIGN",
        "ZEROS_LIKE",
    ],
)
def test_ops_of_one_value(op: str) -> None:
    x = normal(40) * 4
    x[:6] = [0.5, 1.5, 2.5, -0.5, -1.5, 0]
    run(op, [x])


@pytest.mark.parametrize("op", ["SQRT", "RSQRT", "LOG"])
def test_ops_of_one_value_above_zero(op: str) -> None:
    run(op, [np.abs(normal(40)) + F(0.01)])


def test_activations_with_numbers() -> None:
    run("LEAKY_RELU", [X], options="LeakyReluOptions", Alpha=0.3)
    run("PRELU", [X, constant(normal(1, 1, 5))])
    for approximate in (False, True):
        run("GELU", [X], options="GeluOptions", Approximate=approximate)


@pytest.mark.parametrize("activation", [0, 1, 2, 3])
@pytest.mark.parametrize("op", ["ADD", "SUB", "MUL", "DIV"])
def test_arithmetic_with_activations(op: str, activation: int) -> None:
    options = f"{op.capitalize()}Options"
    run(op, [X, normal(4, 1, seed=1)], options=options, FusedActivationFunction=activation)
    run(op, [constant(normal(3, 1, 1)), X + F(9)], options=options, FusedActivationFunction=activation)


def test_arithmetic_of_integers() -> None:
    a, b = integers(20, low=-50, high=50), integers(20, low=1, high=9, seed=1) * integers(20, low=0, high=2, seed=2) * 2
    b = b - 1
    for op in ("ADD", "SUB", "MUL"):
        run(op, [a, b], out("int32"), f"{op.capitalize()}Options", FusedActivationFunction=0)
    for op in ("FLOOR_DIV", "FLOOR_MOD", "MAXIMUM", "MINIMUM", "SQUARED_DIFFERENCE"):
        run(op, [a, b], out("int32"))
    run("DIV", [a, b], out("int32"), "DivOptions", FusedActivationFunction=0)
    run("BITWISE_XOR", [a, b], out("int32"), "BitwiseXorOptions")


@pytest.mark.parametrize("op", ["MAXIMUM", "MINIMUM", "SQUARED_DIFFERENCE", "FLOOR_DIV", "FLOOR_MOD"])
def test_other_ops_of_two_values(op: str) -> None:
    run(op, [X * 5, normal(3, 1, 5, seed=1)], rtol=1e-4)


def test_pow_atan2_and_sums() -> None:
    run("POW", [np.abs(X), normal(5, seed=1)], options="PowOptions", rtol=1e-4)
    run("ADD_N", [X, normal(*X.shape, seed=1), normal(*X.shape, seed=2)], options="AddNOptions")
    run("ATAN2", [normal(50), normal(50, seed=1)], options="ATan2Options")


def test_angles_of_zeros_infinities_and_all_quadrants() -> None:
    numbers = np.array([0.0, -0.0, 1, -1, 1e-30, -1e30, 3e38, np.inf, -np.inf], F)
    y, x = (side.reshape(-1).copy() for side in np.meshgrid(numbers, numbers))
    run("ATAN2", [y, x], options="ATan2Options")
    built = dynq.from_tflite(one_op("ATAN2", {"a": of(y), "b": of(x)}, out(), "ATan2Options"))
    assert np.array_equal(np.signbit(built(y, x)), np.signbit(np.arctan2(y, x)))


@pytest.mark.parametrize("op", ["EQUAL", "NOT_EQUAL", "LESS", "LESS_EQUAL", "GREATER", "GREATER_EQUAL"])
def test_comparisons(op: str) -> None:
    run(op, [integers(3, 4, low=0, high=3), integers(4, low=0, high=3, seed=1)], out("bool"))
    run(op, [X, np.roll(X, 1)], out("bool"))


def test_logic_and_choices() -> None:
    a, b = (integers(3, 4, low=0, high=2, seed=i).astype(bool) for i in range(2))
    for op in ("LOGICAL_AND", "LOGICAL_OR"):
        run(op, [a, b], out("bool"))
    run("LOGICAL_NOT", [a], out("bool"))
    run("SELECT", [a, normal(3, 4), normal(3, 4, seed=1)], options="SelectOptions")
    run("SELECT", [a[:, 0].copy(), normal(3, 4), normal(3, 4, seed=1)], options="SelectOptions")
    run("SELECT_V2", [a, normal(2, 3, 1), normal(4, seed=1)], options="SelectV2Options")


@pytest.mark.parametrize("to", ["int32", "int64", "bool", "int8", "uint8"])
def test_casts(to: str) -> None:
    kinds = {"int32": 2, "int64": 4, "bool": 6, "int8": 9, "uint8": 3}
    run("CAST", [np.abs(normal(30)) * 20], out(to), "CastOptions", InDataType=0, OutDataType=kinds[to])
    run("CAST", [integers(30)], out("float32"), "CastOptions", InDataType=2, OutDataType=0)


# ---- Layers ----

conv = {
    "height": st.integers(4, 9),
    "width": st.integers(4, 9),
    "kernel": st.tuples(st.integers(1, 3), st.integers(1, 4)),
    "stride": st.tuples(st.integers(1, 3), st.integers(1, 2)),
    "same": st.booleans(),
}


@few
@given(
    **conv,
    dilation=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    groups=st.sampled_from([1, 1, 2]),
    activation=st.integers(0, 3),
    bias=st.booleans(),
)
def test_conv_2d(
    height: int,
    width: int,
    kernel: Any,
    stride: Any,
    same: bool,
    dilation: Any,
    groups: int,
    activation: int,
    bias: bool,
) -> None:
    if not same and ((kernel[0] - 1) * dilation[0] >= height or (kernel[1] - 1) * dilation[1] >= width):
        return
    weight = normal(6, *kernel, 4 // groups, seed=1)
    inputs = [normal(2, height, width, 4), constant(weight), constant(normal(6, seed=2) * bias)]
    run(
        "CONV_2D",
        inputs,
        options="Conv2DOptions",
        Padding=int(not same),
        StrideH=stride[0],
        StrideW=stride[1],
        DilationHFactor=dilation[0],
        DilationWFactor=dilation[1],
        FusedActivationFunction=activation,
        rtol=1e-4,
    )


@few
@given(**conv, multiplier=st.integers(1, 2), dilation=st.integers(1, 2))
def test_depthwise_conv_2d(
    height: int, width: int, kernel: Any, stride: Any, same: bool, multiplier: int, dilation: int
) -> None:
    if not same and max((kernel[0] - 1) * dilation - height, (kernel[1] - 1) * dilation - width) >= 0:
        return
    inputs = [
        normal(2, height, width, 3),
        constant(normal(1, *kernel, 3 * multiplier)),
        constant(normal(3 * multiplier)),
    ]
    run(
        "DEPTHWISE_CONV_2D",
        inputs,
        options="DepthwiseConv2DOptions",
        Padding=int(not same),
        StrideH=stride[0],
        StrideW=stride[0],
        DepthMultiplier=multiplier,
        DilationHFactor=dilation,
        DilationWFactor=dilation,
        FusedActivationFunction=1,
        rtol=1e-4,
    )


@few
@given(**conv, more=st.integers(0, 2), bias=st.booleans())
def test_transpose_conv(height: int, width: int, kernel: Any, stride: Any, same: bool, more: int, bias: bool) -> None:
    sizes = []
    for size, extent, step in zip((height, width), kernel, stride, strict=True):
        low = (size - 1) * step + 1 if same else (size - 1) * step + extent
        high = size * step if same else low + step - 1
        sizes.append(min(low + more, high))
    inputs = [
        constant(np.array([2, *sizes, 5], np.int32)),
        constant(normal(5, *kernel, 3)),
        normal(2, height, width, 3),
    ]
    if bias:
        inputs.append(constant(normal(5, seed=3)))
    run(
        "TRANSPOSE_CONV",
        inputs,
        options="TransposeConvOptions",
        Padding=int(not same),
        StrideH=stride[0],
        StrideW=stride[1],
        FusedActivationFunction=0,
        rtol=1e-4,
    )


@pytest.mark.parametrize("padding", [1, 2])
def test_mediapipes_transpose_conv_with_bias(padding: int) -> None:
    x, w, b = normal(1, 4, 5, 3), normal(2, 3, 2, 3, seed=1), normal(2, seed=2)
    options = np.array([padding, 2, 2], np.int32).tobytes()
    custom = one_op("CUSTOM:Convolution2DTransposeBias", {"x": of(x), "w": w, "b": b}, out(), custom_options=options)
    sizes = constant(np.array([1, 8, 10, 2] if padding == 1 else [1, 9, 10, 2], np.int32))
    plain = one_op(
        "TRANSPOSE_CONV",
        {"s": sizes, "w": w, "x": of(x), "b": b},
        out(),
        "TransposeConvOptions",
        Padding=padding - 1,
        StrideH=2,
        StrideW=2,
    )
    got = dynq.from_tflite(custom, quantize=False).run({"x": x})["y"]
    np.testing.assert_allclose(got, litert(plain, [x])[0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_fully_connected(keep: bool, bias: bool) -> None:
    inputs = [normal(2, 3, 4), constant(normal(5, 4, seed=1)), constant(normal(5, seed=2)) if bias else None]
    options = {"FusedActivationFunction": 1, "KeepNumDims": keep}
    run("FULLY_CONNECTED", inputs, options="FullyConnectedOptions", rtol=1e-4, **options)
    inputs[0], inputs[1] = normal(3, 8), constant(normal(5, 8, seed=1))
    run("FULLY_CONNECTED", inputs, options="FullyConnectedOptions", rtol=1e-4, **options)


@pytest.mark.parametrize("adjoint", [(False, False), (True, False), (False, True)])
def test_batch_matmul(adjoint: tuple[bool, bool]) -> None:
    a, b = normal(2, 3, 4), normal(2, 4, 5, seed=1)
    a, b = (np.ascontiguousarray(m.swapaxes(1, 2)) if turn else m for m, turn in zip((a, b), adjoint, strict=True))
    for second in (b, constant(b)):
        run("BATCH_MATMUL", [a, second], options="BatchMatMulOptions", AdjX=adjoint[0], AdjY=adjoint[1], rtol=1e-4)


# ---- Windows ----


@few
@given(**conv, op=st.sampled_from(["MAX_POOL_2D", "AVERAGE_POOL_2D", "L2_POOL_2D"]))
def test_pooling(height: int, width: int, kernel: Any, stride: Any, same: bool, op: str) -> None:
    run(
        op,
        [normal(2, height, width, 3)],
        options="Pool2DOptions",
        Padding=int(not same),
        StrideH=stride[0],
        StrideW=stride[1],
        FilterHeight=kernel[0],
        FilterWidth=kernel[1],
        FusedActivationFunction=1,
    )


@few
@given(
    size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    to=st.tuples(st.integers(1, 12), st.integers(1, 12)),
    flags=st.sampled_from([(False, False), (True, False), (False, True)]),
    nearest=st.booleans(),
)
def test_resizing(size: Any, to: Any, flags: Any, nearest: bool) -> None:
    name = "ResizeNearestNeighbor" if nearest else "ResizeBilinear"
    op = "RESIZE_NEAREST_NEIGHBOR" if nearest else "RESIZE_BILINEAR"
    inputs = [normal(1, *size, 2), constant(np.array(to, np.int32))]
    run(op, inputs, options=f"{name}Options", AlignCorners=flags[0], HalfPixelCenters=flags[1], rtol=1e-4)


def test_blocks_of_pixels() -> None:
    run("DEPTH_TO_SPACE", [normal(2, 3, 4, 8)], options="DepthToSpaceOptions", BlockSize=2)
    run("SPACE_TO_DEPTH", [normal(2, 6, 4, 3)], options="SpaceToDepthOptions", BlockSize=2)
    blocks, paddings = constant(np.array([2, 3], np.int32)), constant(np.array([[1, 0], [2, 1]], np.int32))
    run("SPACE_TO_BATCH_ND", [normal(2, 5, 6, 3), blocks, paddings])
    run("BATCH_TO_SPACE_ND", [normal(12, 3, 4, 2), blocks, paddings])


def test_norms() -> None:
    run("SOFTMAX", [X], options="SoftmaxOptions", Beta=1.0)
    run("SOFTMAX", [X], options="SoftmaxOptions", Beta=0.5)
    run("LOG_SOFTMAX", [X])
    run("L2_NORMALIZATION", [X], options="L2NormOptions", FusedActivationFunction=0)
    run("L2_NORMALIZATION", [X * F(1e-9)], options="L2NormOptions", FusedActivationFunction=0)
    run(
        "LOCAL_RESPONSE_NORMALIZATION",
        [X],
        options="LocalResponseNormalizationOptions",
        Radius=2,
        Bias=1.0,
        Alpha=0.3,
        Beta=0.75,
        reference=False,
    )  # the reference leaves the last channel out


# ---- Reductions, shapes, indices ----


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("op", ["MEAN", "SUM", "REDUCE_MAX", "REDUCE_MIN", "REDUCE_PROD"])
def test_reductions(op: str, keep: bool) -> None:
    for axes in ([1, 2], [-1], [0, 3], [0, 1, 2, 3]):
        run(op, [X, constant(np.array(axes, np.int32))], options="ReducerOptions", KeepDims=keep, rtol=1e-4)


def test_reductions_of_truths_and_places() -> None:
    a = integers(3, 4, low=0, high=4).astype(bool)
    for op in ("REDUCE_ANY", "REDUCE_ALL"):
        run(op, [a, constant(np.array([1], np.int32))], out("bool"), "ReducerOptions", KeepDims=False)
    for op, options in (("ARG_MAX", "ArgMaxOptions"), ("ARG_MIN", "ArgMinOptions")):
        for dtype, kind in (("int32", 2), ("int64", 4)):
            run(op, [X, constant(np.array(-1, np.int32))], out(dtype), options, OutputType=kind)


def test_running_sums_and_the_largest() -> None:
    for exclusive in (False, True):
        for reverse in (False, True):
            run(
                "CUMSUM",
                [X, constant(np.array(1, np.int32))],
                options="CumsumOptions",
                Exclusive=exclusive,
                Reverse=reverse,
            )
    run("TOPK_V2", [X, constant(np.array(3, np.int32))], [out(), out("int32")], "TopKV2Options")


def test_shapes() -> None:
    run("RESHAPE", [X, constant(np.array([4, -1], np.int32))], options="ReshapeOptions")
    run("RESHAPE", [X, constant(np.array([6, 20], np.int32))], options="ReshapeOptions", NewShape=[6, 20])
    run("SQUEEZE", [normal(1, 3, 1, 2)], options="SqueezeOptions", SqueezeDims=[0])
    run("SQUEEZE", [normal(1, 3, 1, 2)], options="SqueezeOptions", SqueezeDims=[-2])
    run("SQUEEZE", [normal(1, 3, 1, 2)], options="SqueezeOptions")
    for axis in (0, 2, -1):
        run("EXPAND_DIMS", [normal(2, 3), constant(np.array(axis, np.int32))], options="ExpandDimsOptions")
    for perm in ([0, 3, 1, 2], [0, 2, 3, 1], [3, 1, 0, 2]):
        run("TRANSPOSE", [X, constant(np.array(perm, np.int32))], options="TransposeOptions")
    run("SHAPE", [X], out("int32"), "ShapeOptions", OutType=2)
    run("RANK", [X], out("int32"), "RankOptions")
    run("TILE", [normal(2, 3), constant(np.array([2, 3], np.int32))], options="TileOptions")
    run("BROADCAST_TO", [normal(3, 1), constant(np.array([2, 3, 4], np.int32))], options="BroadcastToOptions")
    run("FILL", [constant(np.array([2, 3], np.int32)), normal(1).reshape(())], options="FillOptions")
    run("RANGE", [np.array(2, np.int32), np.array(11, np.int32), np.array(3, np.int32)], out("int32"), "RangeOptions")


def test_parts() -> None:
    parts = [normal(2, 3, 4), normal(2, 1, 4, seed=1), normal(2, 2, 4, seed=2)]
    run("CONCATENATION", parts, options="ConcatenationOptions", Axis=-2, FusedActivationFunction=0)
    run("PACK", [normal(2, 3), normal(2, 3, seed=1)], options="PackOptions", Axis=1, ValuesCount=2)
    run("UNPACK", [normal(2, 3)], [out(), out(), out()], "UnpackOptions", Axis=-1, Num=3)
    axis = constant(np.array(-1, np.int32))
    run("SPLIT", [axis, normal(2, 6)], [out(), out()], "SplitOptions", NumSplits=2)
    run(
        "SPLIT_V",
        [normal(2, 6), constant(np.array([1, -1, 2], np.int32)), axis],
        [out(), out(), out()],
        "SplitVOptions",
        NumSplits=3,
    )


def test_padding_and_reversing() -> None:
    pads = constant(np.array([[0, 1], [2, 0]], np.int32))
    x = normal(3, 4)
    run("PAD", [x, pads], options="PadOptions")
    run("PADV2", [x, pads, constant(np.array(2.5, F))], options="PadV2Options")
    for mode in (0, 1):
        run(
            "MIRROR_PAD",
            [x, constant(np.array([[1, 2], [3 - mode, 0]], np.int32))],
            options="MirrorPadOptions",
            Mode=mode,
        )
    run("MIRROR_PAD", [x, constant(np.array([[3, 3], [4, 1]], np.int32))], options="MirrorPadOptions", Mode=1)
    run("REVERSE_V2", [X, constant(np.array([1], np.int32))], options="ReverseV2Options")
    lengths = constant(np.array([2, 0, 3], np.int32))
    run("REVERSE_SEQUENCE", [normal(3, 4, 2), lengths], options="ReverseSequenceOptions", SeqDim=1, BatchDim=0)


@few
@given(data=st.data())
def test_strided_slices(data: Any) -> None:
    shape, rank = (4, 5, 6), 3
    begin = [data.draw(st.integers(-size, size - 1)) for size in shape]
    end = [data.draw(st.integers(-size, size)) for size in shape]
    steps = [data.draw(st.sampled_from([1, 1, 2, -1])) for _ in shape]
    shrink = data.draw(st.sampled_from([0, 0, 1, 2, 5]))
    steps = [1 if shrink >> i & 1 else step for i, step in enumerate(steps)]
    masks = {name: data.draw(st.integers(0, 7)) for name in ("BeginMask", "EndMask")}
    masks["BeginMask"] &= ~shrink
    ranges = [constant(np.array(part, np.int32)) for part in (begin, end, steps)]
    model = one_op(
        "STRIDED_SLICE",
        {"x": T(shape), "b": ranges[0], "e": ranges[1], "s": ranges[2]},
        out(),
        "StridedSliceOptions",
        ShrinkAxisMask=shrink,
        **masks,
    )
    x = normal(*shape)
    index = tuple(
        begin[i]
        if shrink >> i & 1
        else slice(
            None if masks["BeginMask"] >> i & 1 else begin[i], None if masks["EndMask"] >> i & 1 else end[i], steps[i]
        )
        for i in range(rank)
    )
    want = x[index]
    np.testing.assert_array_equal(dynq.from_tflite(model, quantize=False).run({"x": x})["y"], want)
    if want.size:
        np.testing.assert_array_equal(litert(model, [x])[0], want)


def test_strided_slices_with_new_axes_and_computed_ranges() -> None:
    x = normal(4, 5, 6)

    def parts(*numbers: list[int]) -> list[T]:
        return [constant(np.array(part, np.int32)) for part in numbers]

    run("STRIDED_SLICE", [x, *parts([0, 1, 2], [0, 3, 4], [1, 1, 1])], options="StridedSliceOptions", EllipsisMask=1)
    run("STRIDED_SLICE", [x, *parts([0, 1, 2], [0, 3, 4], [1, 1, 1])], options="StridedSliceOptions", NewAxisMask=1)
    begin, end = np.array([1, -1, 2], np.int32), np.array([3, 0, 5], np.int32)
    run("STRIDED_SLICE", [x, begin, end, *parts([1, 1, 1])], options="StridedSliceOptions", ShrinkAxisMask=2, EndMask=1)
    run("SLICE", [x, *parts([1, 0, 2], [2, -1, 3])], options="SliceOptions")
    run("SLICE", [x, np.array([1, 0, 2], np.int32), np.array([2, -1, 3], np.int32)], options="SliceOptions")


def test_indices() -> None:
    x = normal(3, 4, 5)
    for axis in (0, -1):
        run("GATHER", [x, integers(2, 3, low=0, high=3)], options="GatherOptions", Axis=axis)
    run("GATHER", [x, integers(3, 2, low=0, high=4)], options="GatherOptions", Axis=1, BatchDims=1)
    run("GATHER_ND", [x, integers(6, 2, low=0, high=3)], options="GatherNdOptions")
    places = np.array([[4], [1], [4]], np.int32)
    run("SCATTER_ND", [places, normal(3, 2), constant(np.array([6, 2], np.int32))], options="ScatterNdOptions")
    run("EMBEDDING_LOOKUP", [integers(4, low=0, high=7), constant(normal(7, 3))])
    run("WHERE", [integers(3, 4, low=0, high=2).astype(bool)], out("int64"), "WhereOptions")
    for begin in ([1, 2], [-3, 9]):
        inputs = [normal(4, 6), normal(2, 3, seed=1), np.array(begin, np.int32)]
        run("DYNAMIC_UPDATE_SLICE", inputs, options="DynamicUpdateSliceOptions")
    run("MATRIX_DIAG", [normal(2, 3)], options="MatrixDiagOptions")
    run("UNIQUE", [integers(20, low=0, high=5)], [out("int32"), out("int32")], "UniqueOptions", IdxOutType=2)
    depth, on, off = constant(np.array(4, np.int32)), constant(np.array(3, F)), constant(np.array(-1, F))
    for axis in (-1, 0):
        run("ONE_HOT", [np.array([1, 3, -1, 7, 0], np.int32), depth, on, off], options="OneHotOptions", Axis=axis)


# ---- Networks ----


def test_networks_of_images_have_few_transposes() -> None:
    """From the input to the mean nothing is transposed but the input."""
    ops = [
        Op("CONV_2D", "x w b", "c", "Conv2DOptions", {"StrideH": 1, "StrideW": 1, "FusedActivationFunction": 1}),
        Op("ADD", "c k", "a", "AddOptions"),
        Op("MUL", "a a", "m", "MulOptions"),
        Op("PAD", "m pads", "p"),
        Op("CONCATENATION", "p p", "cat", "ConcatenationOptions", {"Axis": 3}),
        Op(
            "MAX_POOL_2D",
            "cat",
            "q",
            "Pool2DOptions",
            {"StrideH": 2, "StrideW": 2, "FilterHeight": 2, "FilterWidth": 2},
        ),
        Op("SOFTMAX", "q", "s", "SoftmaxOptions", {"Beta": 1.0}),
        Op("STRIDED_SLICE", "s begin end steps", "d", "StridedSliceOptions", {"EndMask": 15}),
        Op("MEAN", "d axes", "y", "ReducerOptions", {"KeepDims": False}),
    ]
    pads = np.array([[0, 0], [1, 0], [0, 1], [0, 2]], np.int32)
    tensors = {
        "x": T((1, 6, 7, 3)),
        "w": constant(normal(4, 3, 3, 3)),
        "b": constant(normal(4)),
        "k": constant(normal(1, 4)),
        "pads": constant(pads),
        "begin": constant(np.array([0, 1, 0, 2], np.int32)),
        "end": constant(np.zeros(4, np.int32)),
        "steps": constant(np.ones(4, np.int32)),
        "axes": constant(np.array([1, 2], np.int32)),
        **{name: T(()) for name in ["c", "a", "m", "p", "cat", "q", "s", "d", "y"]},
    }
    model = write(Graph(tensors, ops, "x", "y"))
    check(model, normal(1, 6, 7, 3), rtol=1e-4)
    built = dynq.from_tflite(model, quantize=False)
    assert [op for _, op in built.nodes].count("Transpose") == 1


@pytest.mark.parametrize("reshape", [False, True])
def test_views_of_planes_stay_planes(reshape: bool) -> None:
    """A convolution over one axis, as converters write it, is not transposed on its way."""
    window = {"StrideH": 1, "StrideW": 1}
    ops = [
        Op("EXPAND_DIMS", "x one", "e", "ExpandDimsOptions"),
        Op("CONV_2D", "e w b", "c", "Conv2DOptions", window),
        Op("SQUEEZE", "c", "s", "SqueezeOptions", {"SqueezeDims": [1]}),
        Op("RELU", "s", "r"),
        Op("EXPAND_DIMS", "r one", "f", "ExpandDimsOptions"),
        Op("CONV_2D", "f v a", "d", "Conv2DOptions", window),
        Op("SQUEEZE", "d", "y", "SqueezeOptions", {"SqueezeDims": [1]}),
    ]
    tensors = {
        "x": T((2, 9, 3)),
        "one": constant(np.array(1, np.int32)),
        "w": constant(normal(4, 1, 3, 3)),
        "b": constant(normal(4)),
        "v": constant(normal(5, 1, 2, 4)),
        "a": constant(normal(5)),
        **{name: T(()) for name in "ecsrfdy"},
    }
    if reshape:  # in the place of the first SQUEEZE
        tensors["t"] = constant(np.array([-1, 9, 4], np.int32))
        ops[2] = Op("RESHAPE", "c t", "s", "ReshapeOptions")
    model = write(Graph(tensors, ops, "x", "y"))
    check(model, normal(2, 9, 3), rtol=1e-4)
    built = dynq.from_tflite(model, quantize=False)
    assert [op for _, op in built.nodes].count("Transpose") == 2
