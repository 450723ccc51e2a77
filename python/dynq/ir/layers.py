"""The usual ops of a graph, each a method that adds one node or a few."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ..core.arguments import ACTIVATIONS, DIRECTIONS, Activation, Direction, choice
from ..weights import QuantizedWeight
from .given import ONNX_TYPES, recurrent_attributes
from .values import Value, integers

__all__ = ["Layers"]


class Layers:
    """The methods that Graph inherits. An argument is a Value, or an array or number, which becomes a constant."""

    if TYPE_CHECKING:

        def node(
            self, op: str, inputs: Sequence[Any], outputs: Any = 1, name: str | None = None, **attributes: Any
        ) -> Any: ...
        def constant(self, array: Any, name: str | None = None) -> Value: ...

    def linear(
        self,
        x: Value,
        weight: Any,
        bias: Any = None,
        *,
        activation: Activation | None = None,
        residual: Any = None,
        name: str | None = None,
    ) -> Value:
        """Add a linear layer and return ``activation(x @ weight.T + bias + residual)``.

        Args:
            x: float32 (..., K).
            weight: float (N, K), as torch.nn.Linear keeps it, or a QuantizedWeight.
            bias: (N,).
            activation: None, "relu", "sigmoid", "tanh", "silu", "gelu", "gelu_tanh", "hard_swish" or "mish".
            residual: (..., N).
        """
        choice("activation", activation, ACTIVATIONS)
        value = self._parameter(weight, None if name is None else f"{name}.weight")
        if value.shape is None or len(value.shape) != 2 or value.constant is None:
            raise ValueError(f"weight has shape {value.shape}; expected a constant (N, K)")
        k = getattr(x, "shape", None) and x.shape[-1]  # type: ignore[index]
        if isinstance(k, int) and k != value.shape[1]:
            raise ValueError(f"x has shape {x.shape}; expected (..., {value.shape[1]}): weight is {value.shape}")
        if bias is not None:
            bias = self._parameter(bias, None if name is None else f"{name}.bias")
            if bias.shape != value.shape[:1]:
                raise ValueError(f"bias has shape {bias.shape}; expected ({value.shape[0]},): weight is {value.shape}")
        return self._one("dynq.Linear", [x, value, bias, residual], name, activation=activation)

    def conv(
        self,
        x: Value,
        weight: Any,
        bias: Any = None,
        *,
        strides: int | Sequence[int] = 1,
        pads: int | Sequence[int] = 0,
        dilations: int | Sequence[int] = 1,
        group: int = 1,
        activation: Activation | None = None,
        name: str | None = None,
    ) -> Value:
        """Add a convolution over one or two spatial axes, as ONNX and PyTorch define it, and return its output.

        Args:
            x: float32 (N, C, W) or (N, C, H, W).
            weight: float (M, C / group, W) or (M, C / group, H, W), constant.
            bias: (M,).
            strides, dilations: one number, or one for each spatial axis.
            pads: how many zeros are added at both ends. Give one number, one for each axis, or those before each axis
                and then those behind each.
            activation: as in ``linear``.
        """
        choice("activation", activation, ACTIVATIONS)
        value = self._parameter(weight, None if name is None else f"{name}.weight")
        if value.shape is None or len(value.shape) not in (3, 4) or value.constant is None:
            raise ValueError(f"weight has shape {value.shape}; expected a constant (M, C, W) or (M, C, H, W)")
        if bias is not None:
            bias = self._parameter(bias, None if name is None else f"{name}.bias")
        windows = _windows(len(value.shape) - 2, strides, pads, dilations)
        kernel = [int(size) for size in value.shape[2:]]
        return self._one(
            "dynq.Conv",
            [x, value, bias],
            name,
            kernel_shape=kernel,
            group=int(group),
            activation=activation,
            **windows,
        )

    def conv_transpose(
        self,
        x: Value,
        weight: Any,
        bias: Any = None,
        *,
        strides: int | Sequence[int] = 1,
        pads: int | Sequence[int] = 0,
        dilations: int | Sequence[int] = 1,
        output_padding: int | Sequence[int] = 0,
        group: int = 1,
        name: str | None = None,
    ) -> Value:
        """Add a ConvTranspose of ONNX and PyTorch, computed in float32; ``weight`` is (C, M / group, ...), the rest as
        in ``conv``.
        """
        value = self._parameter(weight, None if name is None else f"{name}.weight")
        if value.shape is None or len(value.shape) not in (3, 4):
            raise ValueError(f"weight has shape {value.shape}; expected (C, M, W) or (C, M, H, W)")
        if bias is not None:
            bias = self._parameter(bias, None if name is None else f"{name}.bias")
        spatial = len(value.shape) - 2
        windows = _windows(spatial, strides, pads, dilations)
        padding = _each("output_padding", output_padding, spatial)
        return self._one("ConvTranspose", [x, value, bias], name, group=int(group), output_padding=padding, **windows)

    def lstm(
        self,
        x: Value,
        w: Any,
        r: Any,
        b: Any = None,
        *,
        initial_h: Any = None,
        initial_c: Any = None,
        lengths: Any = None,
        peepholes: Any = None,
        projection: Any = None,
        direction: Direction = "forward",
        batch_first: bool = False,
        name: str | None = None,
        **attributes: Any,
    ) -> tuple[Value, Value, Value]:
        """Add ONNX's LSTM and return ``y, h, c``: the states of all steps, and the two states of the last step.

        Args:
            x: float32 (T, B, I), or (B, T, I) if ``batch_first``.
            w, r: (D, 4 * H, I) and (D, 4 * H, H), gates in the order i o f c. D is 2 if ``direction`` is
                "bidirectional", else 1.
            b: (D, 8 * H), the biases of w and then those of r.
            initial_h, initial_c: (D, B, H), or (B, D, H) if ``batch_first``; zeros by default.
            lengths: int32 (B,), the steps of each sequence.
            peepholes: (D, 3 * H), in the order i o f.
            projection: (D, P, H), constant; w, r and b have to be constant too. It multiplies h in every step, like
                ``proj_size`` of PyTorch. Then y, h and initial_h have P columns, and so has r.
            attributes: ``activations`` (names, or a text with commas between them), ``activation_alpha``,
                ``activation_beta``, ``clip``, ``input_forget``, as ONNX has them.

        Returns:
            y (T, D, B, H), h and c (D, B, H). If ``batch_first``: y (B, T, D, H), h and c (B, D, H).
        """
        inputs = [x, w, r, b, lengths, initial_h, initial_c, peepholes]
        if projection is not None:
            inputs.append(projection)
        return self._recurrent("LSTM", inputs, 3, direction, batch_first, name, attributes)  # type: ignore[return-value]

    def gru(
        self,
        x: Value,
        w: Any,
        r: Any,
        b: Any = None,
        *,
        initial_h: Any = None,
        lengths: Any = None,
        direction: Direction = "forward",
        batch_first: bool = False,
        linear_before_reset: bool = True,
        name: str | None = None,
        **attributes: Any,
    ) -> tuple[Value, Value]:
        """Add ONNX's GRU and return ``y, h``. w and r hold 3 gates in the order z r h; the rest is as in ``lstm``.

        Args:
            linear_before_reset: if True, the reset gate multiplies the product of the state and r, as in PyTorch; if
                False, the state itself.
        """
        attributes = {"linear_before_reset": int(linear_before_reset), **attributes}
        inputs = [x, w, r, b, lengths, initial_h]
        return self._recurrent("GRU", inputs, 2, direction, batch_first, name, attributes)  # type: ignore[return-value]

    def rnn(
        self,
        x: Value,
        w: Any,
        r: Any,
        b: Any = None,
        *,
        initial_h: Any = None,
        lengths: Any = None,
        direction: Direction = "forward",
        batch_first: bool = False,
        name: str | None = None,
        **attributes: Any,
    ) -> tuple[Value, Value]:
        """Add ONNX's RNN and return ``y, h``. Its activation is tanh by default; the rest is as in ``lstm``."""
        inputs = [x, w, r, b, lengths, initial_h]
        return self._recurrent("RNN", inputs, 2, direction, batch_first, name, attributes)  # type: ignore[return-value]

    def _recurrent(
        self,
        op: str,
        inputs: list[Any],
        outputs: int,
        direction: Direction,
        batch_first: bool,
        name: str | None,
        attributes: dict[str, Any],
    ) -> tuple[Value, ...]:
        choice("direction", direction, DIRECTIONS)
        given = recurrent_attributes(attributes)
        names = (None, "w", "r", "b", "lengths", "initial_h", "initial_c", "peepholes", "projection")
        for i in (1, 2, 3, 7, 8):
            if i < len(inputs) and inputs[i] is not None:
                inputs[i] = self._parameter(inputs[i], None if name is None else f"{name}.{names[i]}")
        if len(inputs) == 9:
            _check_projection(direction, *(inputs[i] for i in (1, 2, 3, 8)))
        if inputs[4] is not None and not hasattr(inputs[4], "dtype"):
            inputs[4] = np.asarray(inputs[4], np.int32)
        result = self.node(op, inputs, outputs, name, direction=direction, layout=int(bool(batch_first)), **given)
        return tuple(result)

    def embedding(self, table: Any, indices: Any, *, name: str | None = None) -> Value:
        """Return rows of ``table`` (V, D): (..., D) for int64 or int32 indices (...)."""
        table = self._parameter(table, None if name is None else f"{name}.weight")
        if table.shape is None or len(table.shape) != 2:
            raise ValueError(f"table has shape {table.shape}; expected (V, D)")
        return self._one("Gather", [table, indices], name, axis=0)

    def attention(
        self,
        q: Value,
        k: Value,
        v: Value,
        heads: int,
        mask: Any = None,
        *,
        scale: float | None = None,
        name: str | None = None,
    ) -> Value:
        """Add multi-head attention and return ``softmax(q k^T * scale + mask) v`` for each head.

        Args:
            q, k, v: float32 (B, S, heads * D), (B, T, heads * D), (B, T, heads * E).
            mask: broadcast to (B, heads, S, T). A float32 mask is added. In a bool mask, False hides a key; a query
                without any key gets zeros.
            scale: 1 / sqrt(D) by default.
        """
        return self._one(
            "dynq.Attention", [q, k, v, mask], name, heads=heads, scale=None if scale is None else float(scale)
        )

    def matmul(self, a: Any, b: Any, *, name: str | None = None) -> Value:
        return self._one("MatMul", [a, b], name)

    def add(self, a: Any, b: Any, *, name: str | None = None) -> Value:
        return self._one("Add", [a, b], name)

    def sub(self, a: Any, b: Any, *, name: str | None = None) -> Value:
        return self._one("Sub", [a, b], name)

    def mul(self, a: Any, b: Any, *, name: str | None = None) -> Value:
        return self._one("Mul", [a, b], name)

    def div(self, a: Any, b: Any, *, name: str | None = None) -> Value:
        return self._one("Div", [a, b], name)

    def relu(self, x: Value, *, name: str | None = None) -> Value:
        return self._one("Relu", [x], name)

    def tanh(self, x: Value, *, name: str | None = None) -> Value:
        return self._one("Tanh", [x], name)

    def sigmoid(self, x: Value, *, name: str | None = None) -> Value:
        return self._one("Sigmoid", [x], name)

    def gelu(self, x: Value, *, approximate: Literal["none", "tanh"] = "none", name: str | None = None) -> Value:
        """Return GELU of ``x``. With ``approximate="tanh"`` it is the form that has tanh in place of erf."""
        return self._one("Gelu", [x], name, approximate=approximate)

    def silu(self, x: Value, *, name: str | None = None) -> Value:
        """Return ``x * sigmoid(x)``."""
        return self._one("Mul", [x, self._one("Sigmoid", [x], None)], name)

    def softmax(self, x: Value, axis: int = -1, *, name: str | None = None) -> Value:
        return self._one("Softmax", [x], name, axis=axis)

    def layer_norm(
        self, x: Value, scale: Any, bias: Any = None, *, epsilon: float = 1e-5, axis: int = -1, name: str | None = None
    ) -> Value:
        """Normalize over the dimensions from ``axis`` on, which are those of ``scale`` and ``bias``."""
        return self._one("LayerNormalization", [x, scale, bias], name, axis=axis, epsilon=float(epsilon))

    def reshape(self, x: Value, shape: Any, *, name: str | None = None) -> Value:
        """Return ``x`` in another shape. In ``shape``, 0 keeps the size of ``x``, and -1 stands for what is left."""
        return self._one("Reshape", [x, integers(shape)], name)

    def transpose(self, x: Value, perm: Sequence[int] | None = None, *, name: str | None = None) -> Value:
        return self._one("Transpose", [x], name, perm=None if perm is None else list(perm))

    def concat(self, values: Sequence[Any], axis: int = -1, *, name: str | None = None) -> Value:
        return self._one("Concat", values, name, axis=axis)

    def split(self, x: Value, sizes: Sequence[int], axis: int = -1, *, name: str | None = None) -> tuple[Value, ...]:
        """Return parts of ``x`` along ``axis``, with the given sizes."""
        parts: Sequence[str] | int = [f"{name}.{i}" for i in range(len(sizes))] if name else len(sizes)
        result = self.node("Split", [x, integers(sizes)], parts, name, axis=axis)
        return result if isinstance(result, tuple) else (result,)

    def gather(self, x: Any, indices: Any, axis: int = 0, *, name: str | None = None) -> Value:
        return self._one("Gather", [x, indices], name, axis=axis)

    def squeeze(self, x: Value, axes: Any, *, name: str | None = None) -> Value:
        return self._one("Squeeze", [x, integers(axes)], name)

    def unsqueeze(self, x: Value, axes: Any, *, name: str | None = None) -> Value:
        return self._one("Unsqueeze", [x, integers(axes)], name)

    def reduce_mean(self, x: Value, axes: Any, *, keepdims: bool = True, name: str | None = None) -> Value:
        return self._one("ReduceMean", [x, integers(axes)], name, keepdims=keepdims)

    def reduce_sum(self, x: Value, axes: Any, *, keepdims: bool = True, name: str | None = None) -> Value:
        return self._one("ReduceSum", [x, integers(axes)], name, keepdims=keepdims)

    def reduce_max(self, x: Value, axes: Any, *, keepdims: bool = True, name: str | None = None) -> Value:
        return self._one("ReduceMax", [x, integers(axes)], name, keepdims=keepdims)

    def where(self, condition: Value, a: Any, b: Any, *, name: str | None = None) -> Value:
        return self._one("Where", [condition, a, b], name)

    def cast(self, x: Value, dtype: Any, *, name: str | None = None) -> Value:
        to = ONNX_TYPES.get(np.dtype(dtype).name)
        if to is None:
            raise TypeError(f"dtype is {np.dtype(dtype)}; expected one of {', '.join(ONNX_TYPES)}")
        return self._one("Cast", [x], name, to=to)

    def _one(self, op: str, inputs: Sequence[Any], name: str | None, **attributes: Any) -> Value:
        result: Value = self.node(op, inputs, 1, name, **attributes)
        return result

    def _parameter(self, value: Any, name: str | None) -> Any:
        return self.constant(value, name) if isinstance(value, (np.ndarray, QuantizedWeight)) else self._as_value(value)

    def _as_value(self, value: Any) -> Any:
        return value if isinstance(value, Value) else self.constant(value)


def _each(what: str, value: int | Sequence[int], spatial: int, *more: int) -> list[int]:
    """Return one number for each spatial axis; ``more`` names other lengths that are allowed."""
    numbers = [value] * spatial if isinstance(value, (int, np.integer)) else list(value)
    if len(numbers) not in (spatial, *more):
        raise ValueError(f"{what} has {len(numbers)} numbers; expected {' or '.join(map(str, (1, spatial, *more)))}")
    return [int(number) for number in numbers]


def _windows(spatial: int, strides: Any, pads: Any, dilations: Any) -> dict[str, list[int]]:
    padding = _each("pads", pads, spatial, 2 * spatial)
    return {
        "strides": _each("strides", strides, spatial),
        "pads": padding if len(padding) == 2 * spatial else 2 * padding,
        "dilations": _each("dilations", dilations, spatial),
    }


def _check_projection(
    direction: Direction, w: Value | None, r: Value | None, b: Value | None, projection: Value
) -> None:
    """Check the shapes: w (D, 4 * H, I), r (D, 4 * H, P), b (D, 8 * H), projection (D, P, H)."""
    directions = 2 if direction == "bidirectional" else 1
    shape = projection.shape or ()
    if projection.constant is None or len(shape) != 3 or shape[0] != directions or 0 in shape:
        raise ValueError(f"projection has shape {projection.shape}; expected a constant ({directions}, P, H)")
    _, size, hidden = shape
    assert isinstance(hidden, int)
    for name, value, expected in (
        ("w", w, (directions, 4 * hidden, None)),
        ("r", r, (directions, 4 * hidden, size)),
        ("b", b, (directions, 8 * hidden)),
    ):
        if value is None:
            continue
        got = value.shape or ()
        if (
            value.constant is None
            or len(got) != len(expected)
            or any(wanted not in (None, given) for given, wanted in zip(got, expected, strict=True))
        ):
            text = ", ".join("I" if size is None else str(size) for size in expected)
            raise ValueError(f"{name} has shape {value.shape}; expected a constant ({text}): projection is {shape}")
