"""What ONNX Runtime's optimizer writes gives what ONNX Runtime gives."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

import dynq
from tests.python.references.onnx_models import model, node
from tests.python.references.onnx_runtime import agrees, by_runtime, error

RNG = np.random.default_rng(0)
ACTIVATIONS: list[tuple[str, list[float]]] = [
    ("Relu", []), ("Tanh", []), ("Sigmoid", []), ("LeakyRelu", [0.2]), ("HardSigmoid", [0.3, 0.4]),
    ("Clip", [-0.5, 0.7]),
]  # fmt: skip


def floats(*shape: int) -> np.ndarray:
    return (RNG.standard_normal(shape) * 0.5).astype(np.float32)


def layer(op: str, names: str, **attributes: Any) -> onnx.NodeProto:
    return node(op, names, "y", "layer", domain="com.microsoft", **attributes)


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize(("activation", "parameters"), ACTIVATIONS)
def test_a_convolution_with_an_activation(activation: str, parameters: list[float], residual: bool) -> None:
    attributes: dict[str, Any] = {"activation": activation, "pads": [1, 1, 1, 1], "kernel_shape": [3, 3]}
    if parameters:
        attributes["activation_params"] = parameters
    inputs = {"x": ("float32", ["n", 8, 6, 6]), "z": ("float32", ["n", 16, 6, 6])}
    proto = model(
        [layer("FusedConv", "x w b z" if residual else "x w b", **attributes)],
        inputs if residual else {"x": inputs["x"]}, "y", {"w": floats(16, 8, 3, 3), "b": floats(16)}, microsoft=True,
    )  # fmt: skip
    feeds = {"x": floats(2, 8, 6, 6), "z": floats(2, 16, 6, 6)}
    built = agrees(proto, feeds if residual else {"x": feeds["x"]}, quantized=0.12)
    assert "int8 conv" in {row.became for row in built.report().rows}


@pytest.mark.parametrize(
    ("activation", "parameters"),
    [
        ("Relu", {}), ("Tanh", {}), ("Sigmoid", {}), ("Softplus", {}), ("Softsign", {}),
        ("LeakyRelu", {"alpha": 0.3}), ("Elu", {"alpha": 0.5}), ("ThresholdedRelu", {"alpha": 0.2}),
        ("HardSigmoid", {"alpha": 0.3, "beta": 0.4}), ("Selu", {"alpha": 1.5, "gamma": 1.1}),
    ],
)  # fmt: skip
def test_a_gemm_with_an_activation(activation: str, parameters: dict[str, float]) -> None:
    attributes = {f"activation_{name}": value for name, value in parameters.items()}
    fused = layer("FusedGemm", "x w b", activation=activation, transB=1, alpha=0.7, beta=0.4, **attributes)
    constants = {"w": floats(16, 32), "b": floats(16)}
    proto = model([fused], {"x": ("float32", ["n", 32])}, "y", constants, microsoft=True)
    agrees(proto, {"x": floats(5, 32)}, quantized=2 if activation == "ThresholdedRelu" else 0.05)  # it has a jump


def test_activations_and_parameters_that_are_not_known_are_refused() -> None:
    constants = {"w": floats(16, 32), "c": floats(4, 8, 1, 1)}
    inputs = {"x": ("float32", ["n", 32]), "i": ("float32", ["n", 8, 4, 4])}
    for fused, message in (
        (layer("FusedGemm", "x w", activation="Gelu", transB=1), "activation 'Gelu' of FusedGemm"),
        (layer("FusedGemm", "x w", activation="Relu", activation_alpha=1.0, transB=1), "activation_alpha of FusedGemm"),
        (layer("FusedConv", "i c", activation="Swish"), "activation 'Swish' of FusedConv"),
    ):
        with pytest.raises(dynq.UnsupportedModelError, match=message):
            dynq.from_onnx(model([fused], inputs, "y", constants, microsoft=True))
    short = layer("FusedConv", "i c", activation="Clip", activation_params=[0.0])
    with pytest.raises(dynq.InvalidModelError, match="Clip has 1 parameters; expected 2"):
        dynq.from_onnx(model([short], inputs, "y", constants, microsoft=True))


@given(
    turned=st.tuples(*[st.booleans()] * 4), rank=st.sampled_from([3, 4]), alpha=st.sampled_from([1.0, 0.5])
)  # fmt: skip
def test_a_product_of_transposed_matrices(turned: tuple[bool, bool, bool, bool], rank: int, alpha: float) -> None:
    names = ["transA", "transBatchA", "transB", "transBatchB"]
    feeds = {}
    for i, (name, rows, columns) in enumerate((("a", 5, 6), ("b", 6, 7))):
        swap, last = turned[2 * i : 2 * i + 2]
        rows, columns = (columns, rows) if swap else (rows, columns)
        batch = [2, 3][: rank - 2]
        feeds[name] = floats(*([rows, *batch, columns] if last else [*batch, rows, columns]))
    attributes = {name: int(flag) for name, flag in zip(names, turned, strict=True)}
    proto = model(
        [layer("FusedMatMul", "a b", alpha=alpha, **attributes)],
        {name: ("float32", list(x.shape)) for name, x in feeds.items()}, "y", microsoft=True,
    )  # fmt: skip
    agrees(proto, feeds)


def test_gelu_of_a_product_and_of_half_a_row() -> None:
    x, w, b = floats(5, 32), floats(32, 16), floats(16)
    proto = model(
        [layer("GemmFastGelu", "x w b")], {"x": ("float32", ["n", 32])}, "y", {"w": w, "b": b}, microsoft=True
    )
    plain = model(
        [node("MatMul", "x w", "m"), node("Add", "m b", "a"), node("Gelu", "a", "y", approximate="tanh")],
        {"x": ("float32", ["n", 32])}, "y", {"w": w, "b": b},
    )  # fmt: skip
    got, want = (dynq.from_onnx(proto, quantize=False).run({"x": x})["y"] for proto in (proto, plain))
    assert error(got, want) < 1e-6
    bias = floats(32)
    proto = model([layer("BiasSplitGelu", "x b")], {"x": ("float32", ["n", 32])}, "y", {"b": bias}, microsoft=True)
    plain = model(
        [
            node("Add", "x b", "a"), node("Split", "a", "l r", axis=-1, num_outputs=2), node("Gelu", "r", "g"),
            node("Mul", "l g", "y"),
        ],
        {"x": ("float32", ["n", 32])}, "y", {"b": bias},
    )  # fmt: skip
    agrees(plain, {"x": x})
    got, want = (dynq.from_onnx(proto).run({"x": x})["y"] for proto in (proto, plain))
    assert np.array_equal(got, want)


@pytest.mark.parametrize("group", [1, 2])
def test_a_convolution_with_channels_at_the_end(group: int) -> None:
    x, w, b = floats(2, 6, 7, 8), floats(16, 3, 3, 8 // group), floats(16)
    own = layer("NhwcConv", "x w b", pads=[1, 1, 1, 1], strides=[2, 1], group=group, kernel_shape=[3, 3])
    inputs = {"x": ("float32", ["n", 6, 7, 8])}
    proto = model([own], inputs, "y", {"w": w, "b": b}, microsoft=True)
    plain = model(
        [
            node("Transpose", "x", "t", perm=[0, 3, 1, 2]), node("Transpose", "c", "y", perm=[0, 2, 3, 1]),
            node("Conv", "t w b", "c", pads=[1, 1, 1, 1], strides=[2, 1], group=group),
        ],
        inputs, "y", {"w": np.ascontiguousarray(w.transpose(0, 3, 1, 2)), "b": b},
    )  # fmt: skip
    agrees(plain, {"x": x})
    got, want = (dynq.from_onnx(proto).run({"x": x})["y"] for proto in (proto, plain))
    assert np.array_equal(got, want)
    proto = model([own], inputs, "y", {"w": floats(16, 8 // group, 3, 3), "b": b}, microsoft=True)
    with pytest.raises(dynq.UnsupportedModelError, match="NhwcConv of 8 channels with weights of shape"):
        dynq.from_onnx(proto)


@pytest.mark.parametrize("level", ["BASIC", "EXTENDED"])
def test_a_file_that_the_optimizer_wrote(tmp_path: Path, level: str) -> None:
    optimize(convolutions(8, 32), tmp_path, level)
    proto = onnx.load(tmp_path / "o.onnx")
    assert ("FusedConv" in {n.op_type for n in proto.graph.node}) == (level == "EXTENDED")
    agrees(proto, {"x": floats(2, 8, 6, 6)})


def test_ranks_behind_fused_layers_are_known_without_onnxs_inference(tmp_path: Path) -> None:
    """ONNX infers nothing behind an op of another domain; sizes are open, as other frameworks leave them."""
    layers = [
        node("Conv", "x w0", "a", pads=[1, 1, 1, 1]), node("Relu", "a", "b"),
        node("GlobalAveragePool", "b", "c"), node("Conv", "c w1", "d"), node("HardSigmoid", "d", "e"),
        node("Mul", "b e", "f"), node("Conv", "f w2", "g", strides=[2, 2]), node("Relu", "g", "h"),
        node("MaxPool", "h", "i", kernel_shape=[3, 3], strides=[2, 2]), node("Conv", "i w3", "j"),
        node("Resize", "j - up", "k"), node("Conv", "k w3", "l"), node("Flatten", "l", "y"),
    ]  # fmt: skip
    constants = {
        "w0": floats(8, 3, 3, 3), "w1": floats(8, 8, 1, 1), "w2": floats(12, 8, 3, 3), "w3": floats(12, 12, 1, 1),
        "up": np.array([1, 1, 2, 2], np.float32),
    }  # fmt: skip
    source = model(layers, {"x": ("float32", ["n", 3, "height", "width"])}, "y", constants, 17)
    optimize(source, tmp_path, "EXTENDED")
    proto = onnx.load(tmp_path / "o.onnx")
    assert "FusedConv" in {n.op_type for n in proto.graph.node}
    del proto.graph.value_info[:]
    for shape in ((2, 3, 15, 19), (1, 3, 24, 21)):
        agrees(proto, {"x": floats(*shape)}, quantized=0.1)


def convolutions(*channels: int) -> onnx.ModelProto:
    constants = {f"w{i}": floats(m, c, 3, 3) for i, (c, m) in enumerate(pairwise(channels))}
    nodes, x = [], "x"
    for i, name in enumerate(constants):
        nodes += [node("Conv", f"{x} {name}", f"c{i}", pads=[1, 1, 1, 1]), node("Relu", f"c{i}", f"r{i}")]
        x = f"r{i}"
    nodes[-1].output[0] = "y"
    proto = model(nodes, {"x": ("float32", ["n", channels[0], 6, 6])}, "y", constants, 17)
    proto.ir_version = 8
    return proto


def optimize(proto: onnx.ModelProto, folder: Path, level: str) -> None:
    """Have ONNX Runtime write o.onnx."""
    runtime = pytest.importorskip("onnxruntime")
    options = runtime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = getattr(runtime.GraphOptimizationLevel, f"ORT_ENABLE_{level}")
    options.optimized_model_filepath = str(folder / "o.onnx")
    runtime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])


def written_for_this_cpu(source: onnx.ModelProto, folder: Path) -> onnx.ModelProto:
    optimize(source, folder, "ALL")
    proto = onnx.load(folder / "o.onnx")
    if "com.microsoft.nchwc" not in {n.domain for n in proto.graph.node}:
        pytest.skip("this CPU has no layout of its own")
    return proto


def test_the_layout_of_one_cpu_is_refused_with_what_to_do_where_it_is_not_clear(tmp_path: Path) -> None:
    proto = written_for_this_cpu(convolutions(32, 32, 32), tmp_path)
    with pytest.raises(dynq.UnsupportedModelError, match="write the model with ORT_ENABLE_EXTENDED, not _ALL"):
        dynq.from_onnx(proto)


@pytest.mark.parametrize("channels", [(8, 32, 32), (8, 20, 24, 40), (12, 24, 8), (8, 4, 32), (3, 24, 24), (3, 20)])
def test_the_layout_of_one_cpu_is_undone_where_sizes_tell_it(tmp_path: Path, channels: tuple[int, ...]) -> None:
    source = convolutions(*channels)
    x = floats(2, channels[0], 6, 6)
    built = dynq.from_onnx(written_for_this_cpu(source, tmp_path), quantize=False)
    assert error(built.run({"x": x})["y"], by_runtime(source, {"x": x})[0]) < 2e-5


def test_all_ops_in_the_layout_of_one_cpu(tmp_path: Path) -> None:
    nodes = [
        node("Conv", "x w0", "a", pads=[1, 1, 1, 1]), node("Relu", "a", "b"),
        node("MaxPool", "b", "c", kernel_shape=[2, 2]),
        node("Conv", "c w1", "d", pads=[1, 1, 1, 1], group=32), node("Clip", "d lo hi", "e"),
        node("Conv", "e w2", "f"), node("Add", "f c", "g"), node("Relu", "g", "h"),
        node("Conv", "h w3", "i", group=2), node("Concat", "h i", "j", axis=1),
        node("AveragePool", "j", "k", kernel_shape=[2, 2], pads=[1, 1, 0, 0]),
        node("Resize", "k - up", "l", coordinate_transformation_mode="asymmetric", nearest_mode="floor"),
        node("Conv", "l w4 b4", "m"), node("GlobalAveragePool", "m", "y"),
    ]  # fmt: skip
    constants = {
        "w0": floats(32, 8, 3, 3), "w1": floats(32, 1, 3, 3), "w2": floats(32, 32, 1, 1), "w3": floats(32, 16, 1, 1),
        "w4": floats(32, 64, 1, 1), "b4": floats(32), "up": np.array([1, 1, 2, 2], np.float32),
        "lo": np.zeros((), np.float32), "hi": np.array(6, np.float32),
    }  # fmt: skip
    source = model(nodes, {"x": ("float32", ["n", 8, 12, 12])}, "y", constants, 17)
    proto, x = written_for_this_cpu(source, tmp_path), floats(2, 8, 12, 12)
    ops = {n.op_type for n in proto.graph.node if n.domain == "com.microsoft.nchwc"}
    assert ops >= {"Conv", "MaxPool", "AveragePool", "GlobalAveragePool", "Upsample", "ReorderOutput"}
    want = by_runtime(source, {"x": x})[0]
    assert error(dynq.from_onnx(proto, quantize=False).run({"x": x})["y"], want) < 2e-5
    assert error(dynq.from_onnx(proto).run({"x": x})["y"], want) < 0.1


@pytest.mark.parametrize("block", [8, 16])
def test_blocks_of_either_size(block: int) -> None:
    """As a CPU of that size writes it."""
    w, b = floats(20, 24, 3, 3), floats(20)
    outputs, inputs = (-(-size // block) * block for size in w.shape[:2])
    filled = np.zeros((outputs, inputs, 3, 3), np.float32)
    filled[:20, :24] = w
    parts = filled.reshape(outputs // block, block, inputs // block, block, 3, 3).transpose(0, 2, 4, 5, 3, 1)
    given_bias = np.zeros(outputs, np.float32)
    given_bias[:20] = b
    layer = node("Conv", "i w b", "c", domain="com.microsoft.nchwc", pads=[1, 1, 1, 1], activation="Relu")
    nodes = [
        node("ReorderInput", "x", "i", domain="com.microsoft.nchwc"), layer,
        node("ReorderOutput", "c", "y", domain="com.microsoft.nchwc", channels=20),
    ]  # fmt: skip
    given_weights = {"w": np.ascontiguousarray(parts).reshape(filled.shape), "b": given_bias}
    proto = model(nodes, {"x": ("float32", ["n", 24, 6, 6])}, "y", given_weights)
    proto.opset_import.append(onnx.helper.make_opsetid("com.microsoft.nchwc", 1))
    plain = model(
        [node("Conv", "x w b", "c", pads=[1, 1, 1, 1]), node("Relu", "c", "y")], {"x": ("float32", ["n", 24, 6, 6])},
        "y", {"w": w, "b": b},
    )  # fmt: skip
    x = floats(2, 24, 6, 6)
    got = dynq.from_onnx(proto, quantize=False).run({"x": x})["y"]
    assert error(got, dynq.from_onnx(plain, quantize=False).run({"x": x})["y"]) < 1e-6
