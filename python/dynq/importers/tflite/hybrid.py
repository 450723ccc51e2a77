"""Compute layers with int8 weights as TensorFlow Lite's hybrid kernels do: ``numerics="tflite"``.

Inputs become int8 by TensorFlow Lite's own rule, sums of products are exact integers, and the rest is float32 in the
order of the reference kernels. docs/numerics.md has the formulas.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...conversion import Unsupported
from ...core.arguments import FLOAT32, INT32, Array
from ...graph import Value
from ...ir.deferred import QuantizedRows
from ...ir.given import ONNX_TYPES
from ...weights import QuantizedWeight
from .convert import Call
from .tensors import FLOATS, kind_name

__all__ = ["HybridWeight", "Maker", "convolve", "hybrid_weight", "multiply", "quantized_rows"]

_MOST_TAPS = 2**24 // (127 * 128)  # float32 has all whole numbers up to 2^24
_INT8, _INT4 = 9, 17  # TensorType's numbers
_INTEGERS = (3, _INT8, _INT4)
Maker = Callable[..., Any]  # (op, inputs, outputs=1, **attributes): adds a node, and returns its value or values


@dataclass(frozen=True, eq=False)
class HybridWeight:
    """The integers of a weight, and its scales: one, or one for each channel."""

    integers: Array  # int8, in the shape of the file
    scale: Array  # float32 (1,) or (channels,)

    @property
    def is_per_channel(self) -> bool:
        """Return whether the channels differ in their scales, by which the kernels of convolutions are chosen."""
        return bool((self.scale != self.scale[0]).any())

    @functools.cached_property
    def packed(self) -> QuantizedWeight:
        """The integers of a matrix (n, k), without the scales."""
        return QuantizedWeight.from_integers(self.integers, FLOAT32.type(1))

    @functools.cached_property
    def planes(self) -> QuantizedRows:
        """The integers (m, c, height, width) of a convolution's (m, height, width, c), with scales of 1."""
        return _with_steps_of_1(self.integers.transpose(0, 3, 1, 2))

    @functools.cached_property
    def planes_of_channels(self) -> QuantizedRows:
        """The integers (m, 1, height, width) of a depthwise convolution's (1, height, width, m), with scales of 1."""
        return _with_steps_of_1(self.integers.transpose(3, 0, 1, 2))


def _with_steps_of_1(integers: Array) -> QuantizedRows:
    return QuantizedRows(np.ascontiguousarray(integers), np.ones(len(integers), FLOAT32))


def hybrid_weight(call: Call, index: int, axis: int = 0, of: int = 0) -> HybridWeight | None:
    """Return a weight that a hybrid kernel would read; None if dynq's numerics compute the layer.

    Args:
        axis: which axis of the weight has the channels.
        of: the input of the operator that the weight is for.
    """
    constant, tensor = call.constant(index), call.tensor(index)
    if not call.walk.is_hybrid or tensor.kind not in _INTEGERS or call.tensor(of).kind not in FLOATS:
        return None
    where = f"{call.op} by TensorFlow Lite's numerics"
    if constant is None:
        raise Unsupported(f"{where} with a weight that is computed")
    quantization = constant.quantization
    if tensor.kind not in (_INT8, _INT4) or tensor.sparsity is not None:
        kind = "sparse" if tensor.sparsity is not None else kind_name(tensor.kind)
        raise Unsupported(f"{where} with {kind} weights")
    if quantization is None or quantization.zero_point.any():
        raise Unsupported(f"{where} with a weight that has zero-points or no scales")
    if quantization.scale.size > 1 and quantization.axis != axis:
        raise Unsupported(f"{where} with scales along axis {quantization.axis} of its weight")
    made: HybridWeight = call.walk.made(
        constant, "hybrid", lambda: HybridWeight(constant.integers, quantization.scale)
    )  # fmt: skip
    return made


def quantized_rows(node: Maker, x: Value, asymmetric: bool) -> tuple[Value, Value, Value]:
    """Return int8 rows of (rows, k), their scales (rows,) and their zero-points (rows,)."""
    made: tuple[Value, Value, Value] = node(
        "dynq.QuantizeRows", [x], 3, scheme="asymmetric" if asymmetric else "symmetric"
    )
    return made


def multiply(
    node: Maker, rows: tuple[Value, Value, Value], weight: HybridWeight, asymmetric: bool, before: Value | None
) -> Value:
    """Return rows (rows, k) times the rows of a weight (n, k), added to ``before`` if that is given."""
    q, scale, zero_point = rows
    sums = node("dynq.MatMulIntegerPacked", [q, weight.packed, zero_point if asymmetric else None])
    column = node("Unsqueeze", [scale, np.array([-1])])
    steps = node("Mul", [column, weight.scale])
    products = node("Mul", [_floats(node, sums), steps])
    total: Value = products if before is None else node("Add", [before, products])
    return total


def convolve(
    node: Maker, x: Value, weight: HybridWeight, bias: Value | None, attributes: dict[str, Any], depthwise: bool = False
) -> Value:
    """Return the convolution of planes (n, c, h, w), each image of which has a scale.

    Args:
        attributes: those of ONNX's Conv.
        depthwise: whether it is the kernel of DEPTHWISE_CONV_2D, which multiplies both scales first.
    """
    rows = weight.planes_of_channels if depthwise else weight.planes
    integers = rows.integers
    shape = node("Shape", [x])
    flat = node("Flatten", [x], axis=1)
    q, scale, zero_point = quantized_rows(node, flat, weight.is_per_channel)
    q = node("Reshape", [q, shape])
    fast = attributes["group"] == 1 and integers.min(initial=0) >= -127 and integers[0].size <= _MOST_TAPS
    if fast:  # an int8 layer whose steps are 1, or a float one: its sums are whole numbers that float32 has
        window = {name: value for name, value in attributes.items() if name != "group"}
        steps: dict[str, Any] = {"scheme": "asymmetric", "lo": -128.0, "hi": 127.0}
        sums = node("dynq.Conv", [_floats(node, q), rows], **window, **steps)
    else:
        sums = node("ConvInteger", [q, integers], **attributes)
    images = np.array([1, 2, 3])
    of_channels = weight.scale.reshape(-1, 1, 1)
    of_images = node("Unsqueeze", [scale, images])
    if weight.is_per_channel:  # these kernels take asymmetric inputs
        taps = _sums_of_taps(node, shape, integers, attributes)
        zeros = node("Cast", [node("Unsqueeze", [zero_point, images])], to=ONNX_TYPES["int32"])
        products = node("Mul", [zeros, taps])
        sums = node("Sub", [sums, _floats(node, products) if fast else products])  # rounded once, as the cast does
    sums = sums if fast else _floats(node, sums)
    if weight.is_per_channel and not depthwise:
        y = node("Mul", [node("Mul", [sums, of_channels]), of_images])
    else:
        y = node("Mul", [sums, node("Mul", [of_images, of_channels])])
    total: Value = y if bias is None else node("Add", [y, node("Unsqueeze", [bias, np.array([1, 2])])])
    return total


def _sums_of_taps(node: Maker, shape: Value, integers: Array, attributes: dict[str, Any]) -> Any:
    """Return the sum of the weights that lie within the image, of each output and channel."""
    if "pads" not in attributes and "auto_pad" not in attributes:
        return integers.sum((1, 2, 3), INT32).reshape(-1, 1, 1)
    one_image = node("Concat", [np.array([1]), node("Slice", [shape, np.array([1]), np.array([4])])], axis=0)
    ones = node("Expand", [np.ones((1, 1, 1, 1), np.int8), one_image])
    return node("ConvInteger", [ones, integers], **attributes)


def _floats(node: Maker, sums: Value) -> Value:
    made: Value = node("Cast", [sums], to=ONNX_TYPES["float32"])
    return made
