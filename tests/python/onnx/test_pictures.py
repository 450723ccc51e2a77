"""Networks of convolutions as exporters write them, against ONNX Runtime: pixels first, norms in pieces."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from hypothesis import given, settings
from hypothesis import strategies as st

import dynq
from tests.python.references.onnx_models import model, node
from tests.python.references.onnx_runtime import by_runtime, error

TO_PLANES, TO_PIXELS = [0, 3, 1, 2], [0, 2, 3, 1]
RNG = np.random.default_rng(11)


class Network:
    """A network of pixels (N, H, W, C) that grows by a block at a time, as TensorFlow's exporter writes it."""

    def __init__(self, channels: int, batch: int, size: tuple[int, int]) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, np.ndarray[Any, Any]] = {}
        self.input = (batch, *size, channels)
        self.channels, self.last = channels, "x"

    def constant(self, array: Any) -> str:
        name = f"c{len(self.constants)}"
        self.constants[name] = np.asarray(array)
        return name

    def op(self, op: str, *inputs: str, **attributes: Any) -> str:
        output = f"v{len(self.nodes)}"
        self.nodes.append(node(op, " ".join(inputs), output, **attributes))
        return output

    def numbers(self, *shape: int) -> str:
        return self.constant(RNG.standard_normal(shape).astype(np.float32))

    def number(self, value: float) -> str:
        return self.constant(np.float32(value))

    def in_planes(self, op: str, *more: str, **attributes: Any) -> None:
        planes = self.op("Transpose", self.last, perm=TO_PLANES)
        self.last = self.op("Transpose", self.op(op, planes, *more, **attributes), perm=TO_PIXELS)

    def conv(self, outputs: int, kernel: int, groups: int, **attributes: Any) -> None:
        weight = self.numbers(outputs, self.channels // groups, kernel, kernel)
        self.in_planes("Conv", weight, group=groups, **attributes)
        self.channels = outputs

    def norm(self) -> None:
        y = self.op("Sub", self.last, self.numbers(self.channels))
        y = self.op("Mul", self.numbers(1, 1, self.channels), y)
        self.last = self.op("Add", y, self.numbers(1, 1, 1, self.channels))

    def activate(self, kind: str) -> None:
        x = self.last
        if kind == "hard swish":
            gate = self.op("Clip", self.op("Add", x, self.number(3)), self.number(0), self.number(6))
            self.last = self.op("Div", self.op("Mul", x, gate), self.number(6))
        elif kind == "leaky":
            self.last = self.op("Max", self.op("Mul", x, self.number(0.2)), x)
        elif kind == "relu6":
            self.last = self.op("Min", self.op("Relu", x), self.number(6))
        elif kind == "silu":
            self.last = self.op("Mul", x, self.op("Sigmoid", x))
        elif kind == "mish":
            self.last = self.op("Mul", x, self.op("Tanh", self.op("Softplus", x)))
        elif kind == "hard sigmoid":
            self.last = self.op("HardSigmoid", x, alpha=0.3, beta=0.4)
        elif kind == "scaled relu":
            self.last = self.op("Add", self.op("Mul", self.op("Relu", x), self.number(1.7)), self.number(-0.3))

    def proto(self) -> onnx.ModelProto:
        return model(self.nodes, {"x": ("float32", self.input)}, self.last, self.constants, opset=18)


ACTIVATIONS = ["hard swish", "leaky", "relu6", "silu", "mish", "hard sigmoid", "scaled relu"]


@given(st.data())
@settings(deadline=None, max_examples=25)
def test_a_random_network_gives_what_onnx_runtime_gives(data: st.DataObject) -> None:
    draw = data.draw
    sizes = st.integers(5, 9)
    n = Network(draw(st.sampled_from([1, 3, 4])), draw(st.sampled_from([0, 1, 3])), (draw(sizes), draw(sizes)))
    for _ in range(draw(st.integers(1, 4))):
        kind = draw(st.sampled_from(["conv", "conv", "pool", "pad", "concat", "resize", "residual", "excite"]))
        if kind == "pool":
            n.in_planes("MaxPool", kernel_shape=[2, 2], pads=[1, 0, 0, 1])
        elif kind == "pad":
            n.last = n.op("Pad", n.last, n.constant(np.array([0, 1, 0, 0, 0, 2, 1, 0])))
        elif kind == "concat":
            n.last = n.op("Concat", n.last, n.op("Tanh", n.last), axis=draw(st.sampled_from([-1, 3, 1])))
            n.channels *= 2 if n.nodes[-1].attribute[0].i in (-1, 3) else 1
        elif kind == "resize":
            n.last = n.op("Resize", n.last, "-", n.constant(np.array([1, 2, 1.5, 1], np.float32)), mode="nearest")
        elif kind == "residual":
            before = n.last
            n.conv(n.channels, 3, 1, pads=[1, 1, 1, 1])
            n.norm()
            n.last = n.op("Add", n.last, before)
        elif kind == "excite":
            mean = n.op("ReduceMean", n.last, n.constant(np.array([1, 2])), keepdims=1)
            n.last = n.op("Mul", n.last, n.op("Sigmoid", mean))
        else:
            kernel, groups = draw(st.sampled_from([1, 3])), n.channels if draw(st.booleans()) else 1
            dilation, pad = draw(st.sampled_from([1, 2])), draw(st.integers(0, 2))
            outputs = groups * draw(st.integers(1, 2)) if groups > 1 else draw(st.sampled_from([2, 16, 20]))
            n.conv(outputs, kernel, groups, dilations=[dilation] * 2, pads=[kernel - 1, pad, pad, kernel - 1])
        if draw(st.booleans()):
            n.norm()
        n.activate(draw(st.sampled_from(["none", *ACTIVATIONS])))
    x = RNG.standard_normal(n.input).astype(np.float32)
    proto = n.proto()
    built = dynq.from_onnx(proto, quantize=False)
    (want,) = by_runtime(proto, {"x": x})
    assert error(built(x), want) <= 3e-5
    before = sum(each.op_type == "Transpose" for each in n.nodes)
    assert sum(each.op == "Transpose" for each in built.graph().nodes) <= before


def test_a_residual_network_of_pixels_has_no_transpose_but_that_of_its_input() -> None:
    n = Network(3, 2, (16, 16))
    n.conv(16, 3, 1, pads=[1, 1, 1, 1])
    n.norm()
    n.activate("leaky")
    n.in_planes("MaxPool", kernel_shape=[2, 2], strides=[2, 2])
    n.last = n.op("Pad", n.last, n.constant(np.array([0, 2, 1, 0, 0, 0, 3, 0])))
    n.conv(16, 3, 1)
    for outputs in (16, 24, 24):
        short = n.last
        if outputs != n.channels:
            n.conv(outputs, 1, 1)
            short, n.last, n.channels = n.last, short, 16
        n.conv(outputs, 3, 1, pads=[1, 1, 1, 1])
        n.norm()
        n.activate("relu6")
        n.conv(outputs, 3, 1, pads=[1, 1, 1, 1])
        n.norm()
        n.last = n.op("Relu", n.op("Add", n.last, short))
    n.last = n.op("ReduceMean", n.last, n.constant(np.array([1, 2])), keepdims=0)
    n.last = n.op("MatMul", n.last, n.numbers(24, 10))
    x = RNG.standard_normal(n.input).astype(np.float32)
    proto = n.proto()
    built = dynq.from_onnx(proto, quantize=False)
    assert error(built(x), by_runtime(proto, {"x": x})[0]) <= 3e-5
    found = [each.op for each in built.graph().nodes]
    assert found.count("Transpose") == 1 and found[0] == "Transpose"
    assert not {"Sub", "Mul", "Max", "Min", "Clip", "Pad"} & set(found)


@settings(max_examples=12, deadline=None)
@given(rank=st.integers(2, 5), momentum=st.sampled_from([0.9, 0.5]), opset=st.sampled_from([14, 15, 21]))
def test_a_batch_norm_by_its_own_statistics_and_what_becomes_of_the_running_ones(
    rank: int, momentum: float, opset: int
) -> None:
    shape = (3, 4, 5, 2, 3)[:rank]
    constants = {name: RNG.uniform(0.5, 2, 4).astype(np.float32) for name in ("scale", "shift", "mean", "variance")}
    norm = node(
        "BatchNormalization", "x scale shift mean variance", "y m v", epsilon=1e-3, momentum=momentum, training_mode=1
    )
    proto = model([norm], {"x": ("float32", shape)}, "y m v", constants, opset=opset)
    x = (RNG.standard_normal(shape) * 3 + 1).astype(np.float32)
    over = tuple(i for i in range(rank) if i != 1)
    mean, variance = x.mean(over), x.var(over)
    channels = (1, 4, *[1] * (rank - 2))
    normal = (x - mean.reshape(channels)) / np.sqrt(variance.reshape(channels) + 1e-3)
    expected = {
        "y": normal * constants["scale"].reshape(channels) + constants["shift"].reshape(channels),
        "m": constants["mean"] * momentum + mean * (1 - momentum),
        "v": constants["variance"] * momentum + variance * (1 - momentum),
    }
    got = dynq.from_onnx(proto, quantize=False).run({"x": x})
    for name, array in expected.items():
        np.testing.assert_allclose(got[name], array, rtol=2e-5, atol=2e-5, err_msg=name)


def test_a_convolution_whose_weight_is_standardized_by_a_batch_norm() -> None:
    weight = RNG.standard_normal((16, 8, 3, 3)).astype(np.float32)
    nodes = [
        node("Reshape", "w flat", "r"),
        node("BatchNormalization", "r scale shift mean variance", "n m v", epsilon=1e-5, training_mode=1),
        node("Reshape", "n back", "k"),
        node("Conv", "x k", "y", kernel_shape=[3, 3]),
    ]
    constants = {
        "w": weight,
        "flat": np.array([1, 16, -1]),
        "back": np.array([16, 8, 3, 3]),
        **{name: np.full(16, 0.5, np.float32) for name in ("scale", "shift", "mean", "variance")},
    }
    proto = model(nodes, {"x": ("float32", (2, 8, 9, 9))}, "y", constants, opset=17)
    x = RNG.standard_normal((2, 8, 9, 9)).astype(np.float32)
    (expected,) = by_runtime(proto, {"x": x})
    assert error(dynq.from_onnx(proto, quantize=False).run({"x": x})["y"], expected) < 1e-5
