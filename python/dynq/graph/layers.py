"""Ops of a graph by their usual names; each is one node or a few."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .._arguments import ACTIVATIONS, Array, choice
from ..weights import QuantizedWeight
from .given import ONNX_TYPES, recurrent_attributes
from .projection import check_projection

if TYPE_CHECKING:
    from .ir import Graph, Value

__all__ = ["Layers", "subscript"]

_TO_THE_END = 2**63 - 1


class Layers:
    """What Graph inherits: an argument is a Value, or an array or number, which becomes a constant."""

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
        activation: str | None = None,
        residual: Any = None,
        name: str | None = None,
    ) -> Value:
        """``activation(x @ weight.T + bias + residual)``.

        Args:
            x: float32 (..., K).
            weight: float (N, K), as torch.nn.Linear keeps it, or a QuantizedWeight.
            bias: (N,).
            activation: None, "relu", "sigmoid", "tanh", "silu", "gelu" or "gelu_tanh".
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
        activation: str | None = None,
        name: str | None = None,
    ) -> Value:
        """Convolution, as ONNX and PyTorch have it, of one or two spatial axes.

        Args:
            x: float32 (N, C, W) or (N, C, H, W).
            weight: float (M, C / group, W) or (M, C / group, H, W), constant.
            bias: (M,).
            strides, dilations: one number, or one for each spatial axis.
            pads: places of zeros at both ends: one number, one for each axis, or those before each axis and then those
                behind each.
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
        """ConvTranspose of ONNX and PyTorch, in float32; ``weight`` is (C, M / group, ...), the rest as in ``conv``."""
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
        direction: str = "forward",
        batch_first: bool = False,
        name: str | None = None,
        **attributes: Any,
    ) -> tuple[Value, Value, Value]:
        """ONNX's LSTM: ``y, h, c``, states of all steps and of the last one.

        Args:
            x: float32 (T, B, I), or (B, T, I) where ``batch_first``.
            w, r: (D, 4 * H, I) and (D, 4 * H, H), gates in the order i o f c; D is 2 where ``direction`` is
                "bidirectional", else 1.
            b: (D, 8 * H), of w and of r.
            initial_h, initial_c: (D, B, H), or (B, D, H); zeros unless given.
            lengths: int32 (B,), steps of each sequence.
            peepholes: (D, 3 * H), in the order i o f.
            projection: (D, P, H), constant as w, r and b then have to be: multiplies h in every step, as PyTorch's
                ``proj_size`` has it. y, h and initial_h then have P columns, and so has r.
            attributes: ``activations`` (names, or a text with commas between them), ``activation_alpha``,
                ``activation_beta``, ``clip``, ``input_forget``, as ONNX has them.

        Returns:
            y (T, D, B, H), h and c (D, B, H); or (B, T, D, H) and (B, D, H) twice.
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
        direction: str = "forward",
        batch_first: bool = False,
        linear_before_reset: bool = True,
        name: str | None = None,
        **attributes: Any,
    ) -> tuple[Value, Value]:
        """ONNX's GRU: ``y, h``. w and r hold 3 gates in the order z r h; the rest is as in ``lstm``.

        Args:
            linear_before_reset: the reset gate multiplies what comes of the state, as PyTorch has it; False: the state.
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
        direction: str = "forward",
        batch_first: bool = False,
        name: str | None = None,
        **attributes: Any,
    ) -> tuple[Value, Value]:
        """ONNX's RNN: ``y, h``, with tanh unless ``activations`` says otherwise; the rest is as in ``lstm``."""
        inputs = [x, w, r, b, lengths, initial_h]
        return self._recurrent("RNN", inputs, 2, direction, batch_first, name, attributes)  # type: ignore[return-value]

    def _recurrent(
        self,
        op: str,
        inputs: list[Any],
        outputs: int,
        direction: str,
        batch_first: bool,
        name: str | None,
        attributes: dict[str, Any],
    ) -> tuple[Value, ...]:
        choice("direction", direction, {"forward": 1, "reverse": 1, "bidirectional": 2})
        given = recurrent_attributes(attributes)
        names = (None, "w", "r", "b", "lengths", "initial_h", "initial_c", "peepholes", "projection")
        for i in (1, 2, 3, 7, 8):
            if i < len(inputs) and inputs[i] is not None:
                inputs[i] = self._parameter(inputs[i], None if name is None else f"{name}.{names[i]}")
        if len(inputs) == 9:
            check_projection(direction, *(inputs[i] for i in (1, 2, 3, 8)))
        if inputs[4] is not None and not hasattr(inputs[4], "dtype"):
            inputs[4] = np.asarray(inputs[4], np.int32)
        result = self.node(op, inputs, outputs, name, direction=direction, layout=int(bool(batch_first)), **given)
        return tuple(result)

    def embedding(self, table: Any, indices: Any, *, name: str | None = None) -> Value:
        """Rows of ``table`` (V, D): (..., D) for int64 or int32 indices (...)."""
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
        """Multi-head attention, ``softmax(q k^T * scale + mask) v`` for each head.

        Args:
            q, k, v: float32 (B, S, heads * D), (B, T, heads * D), (B, T, heads * E).
            mask: added where float32; where bool, False: not looked at, and a query that looks at nothing gets zeros;
                broadcast to (B, heads, S, T).
            scale: 1 / sqrt(D) unless given.
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

    def gelu(self, x: Value, *, approximate: str = "none", name: str | None = None) -> Value:
        """``approximate="tanh"``: the form with tanh in place of erf."""
        return self._one("Gelu", [x], name, approximate=approximate)

    def silu(self, x: Value, *, name: str | None = None) -> Value:
        """``x * sigmoid(x)``."""
        return self._one("Mul", [x, self._one("Sigmoid", [x], None)], name)

    def softmax(self, x: Value, axis: int = -1, *, name: str | None = None) -> Value:
        return self._one("Softmax", [x], name, axis=axis)

    def layer_norm(
        self, x: Value, scale: Any, bias: Any = None, *, epsilon: float = 1e-5, axis: int = -1, name: str | None = None
    ) -> Value:
        """Over the dimensions from ``axis`` on, which ``scale`` and ``bias`` have."""
        return self._one("LayerNormalization", [x, scale, bias], name, axis=axis, epsilon=float(epsilon))

    def reshape(self, x: Value, shape: Any, *, name: str | None = None) -> Value:
        """``shape`` has sizes; 0 keeps the one of ``x``, -1 is what is left."""
        return self._one("Reshape", [x, _integers(shape)], name)

    def transpose(self, x: Value, perm: Sequence[int] | None = None, *, name: str | None = None) -> Value:
        return self._one("Transpose", [x], name, perm=None if perm is None else list(perm))

    def concat(self, values: Sequence[Any], axis: int = -1, *, name: str | None = None) -> Value:
        return self._one("Concat", values, name, axis=axis)

    def split(self, x: Value, sizes: Sequence[int], axis: int = -1, *, name: str | None = None) -> tuple[Value, ...]:
        """Parts of ``sizes`` along ``axis``."""
        parts: Sequence[str] | int = [f"{name}.{i}" for i in range(len(sizes))] if name else len(sizes)
        result = self.node("Split", [x, _integers(sizes)], parts, name, axis=axis)
        return result if isinstance(result, tuple) else (result,)

    def gather(self, x: Any, indices: Any, axis: int = 0, *, name: str | None = None) -> Value:
        return self._one("Gather", [x, indices], name, axis=axis)

    def squeeze(self, x: Value, axes: Any, *, name: str | None = None) -> Value:
        return self._one("Squeeze", [x, _integers(axes)], name)

    def unsqueeze(self, x: Value, axes: Any, *, name: str | None = None) -> Value:
        return self._one("Unsqueeze", [x, _integers(axes)], name)

    def reduce_mean(self, x: Value, axes: Any, *, keepdims: bool = True, name: str | None = None) -> Value:
        return self._one("ReduceMean", [x, _integers(axes)], name, keepdims=keepdims)

    def reduce_sum(self, x: Value, axes: Any, *, keepdims: bool = True, name: str | None = None) -> Value:
        return self._one("ReduceSum", [x, _integers(axes)], name, keepdims=keepdims)

    def reduce_max(self, x: Value, axes: Any, *, keepdims: bool = True, name: str | None = None) -> Value:
        return self._one("ReduceMax", [x, _integers(axes)], name, keepdims=keepdims)

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
        from .ir import Value

        return value if isinstance(value, Value) else self.constant(value)


def _each(what: str, value: int | Sequence[int], spatial: int, *more: int) -> list[int]:
    """One number for each spatial axis; ``more`` names other lengths that are right."""
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


def subscript(graph: Graph, x: Value, key: Any) -> Value:
    """``x[key]`` of integers, slices, an ellipsis and None: at most a Slice, a Squeeze and an Unsqueeze."""
    items = list(key) if isinstance(key, tuple) else [key]
    if any(item is Ellipsis for item in items):
        if x.shape is None:
            raise ValueError(f"{x!r} has no known rank; an ellipsis needs one")
        at = next(i for i, item in enumerate(items) if item is Ellipsis)
        taken = sum(item is not None for item in items) - 1
        items[at : at + 1] = [slice(None)] * (len(x.shape) - taken)
    starts: list[int] = []
    ends: list[int] = []
    axes: list[int] = []
    steps: list[int] = []
    squeezed: list[int] = []
    added: list[int] = []
    axis = place = 0
    for item in items:
        if item is None:
            added.append(place)
            place += 1
            continue
        if isinstance(item, (int, np.integer)) and not isinstance(item, bool):
            bounds = (int(item), int(item) + 1 if item != -1 else _TO_THE_END, 1)
            squeezed.append(axis)
        elif isinstance(item, slice):
            step = 1 if item.step is None else int(item.step)
            start = (0 if step > 0 else _TO_THE_END) if item.start is None else int(item.start)
            bounds = (start, (_TO_THE_END if step > 0 else -_TO_THE_END) if item.stop is None else int(item.stop), step)
            place += 1
        else:
            raise TypeError(f"a value has no item {item!r}; expected integers, slices, an ellipsis or None")
        if bounds != (0, _TO_THE_END, 1):
            for part, bound in zip((starts, ends, steps, axes), (*bounds, axis), strict=True):
                part.append(bound)
        axis += 1
    if axes:
        x = graph.node("Slice", [x, *(_integers(part) for part in (starts, ends, axes, steps))])
    if squeezed:
        x = graph.node("Squeeze", [x, _integers(squeezed)])
    if added:
        x = graph.node("Unsqueeze", [x, _integers(added)])
    return x


def _integers(value: Any) -> Any:
    """Sizes or axes as int64 (n,); a Value stays what it is."""
    if hasattr(value, "producer"):
        return value
    array: Array = np.asarray(value)
    if array.dtype.kind not in "iu" and array.size:
        raise TypeError(f"{value!r} is not made of integers")
    return array.astype(np.int64).reshape(-1)
