"""torch.nn.LSTM, GRU, RNN and their cells with int8 weights: each is a small model that runs in one call of C."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from ..report import Row
from . import ops
from ._model import constants, make_image
from ._module import SCALE, Entry, QuantizedModule, checked, is_eager, replace
from ._packed import quantize_rows
from ._recurrent_graph import Layout, Parts, recurrent_graph, weights_of

__all__ = ["GRU", "LSTM", "RNN", "GRUCell", "LSTMCell", "RNNCell"]

_SMALL = 8  # a projection of inputs with under one part in so many of the weights stays float


class _Recurrent(QuantizedModule):
    """``image``: the model, with the weights and the biases in it."""

    packed_names = ("image",)
    image: Tensor

    def __init__(self, layout: Layout, parts: Mapping[str, Parts], biases: Mapping[str, Tensor], why: str) -> None:
        super().__init__()
        self.layout = layout
        self.input_size, self.hidden_size = layout.input, layout.hidden
        self.bias = bool(biases)
        self.float_names = tuple(name for name, part in parts.items() if part[1] is None)
        self.why = why
        for name, bias in biases.items():
            self.register_buffer(name, bias.detach().float().clone(), persistent=False)
        self.register_buffer("image", None, persistent=False)
        self._with_lengths: Tensor | None = (
            None  # the same model for sequences of several lengths, once it was asked for
        )
        self._make_image(parts)
        self.training = False

    def _make_image(self, parts: Mapping[str, Parts]) -> None:
        replace(self, "image", self._image(parts, lengths=False))
        self._with_lengths = None

    def _image(self, parts: Mapping[str, Parts], lengths: bool) -> Tensor:
        biases = {name: getattr(self, name).float().numpy() for name in self._bias_names()}
        return make_image(*recurrent_graph(self.layout, parts, biases, lengths))

    def _bias_names(self) -> list[str]:
        kinds = ("bias_ih", "bias_hh") if self.bias else ()
        return [
            name for layer in range(self.layout.layers) for kind in kinds for name in self.layout.names(kind, layer)
        ]

    def _parts(self) -> dict[str, Parts]:
        return weights_of(self.layout, constants(self.image))

    def _call(self, x: Tensor, states: list[Tensor], lengths: Tensor | None) -> list[Tensor]:
        """y and the last states of (T, B, I), or (B, T, I) where batch_first."""
        image = self.image
        if lengths is not None:
            if self._with_lengths is None:
                self._with_lengths = self._image(self._parts(), lengths=True)
            image = self._with_lengths
        count = self.layout.directions
        operator = getattr(ops if is_eager(x) else torch.ops.dynq, self.layout.cell.lower())
        return list(operator(x, *states, lengths, image, count))

    def row(self, name: str) -> Row:
        before = sum(4 * math.prod(shape) for shape in self.layout.weights().values())
        return Row(name, f"int8 {type(self).__name__}", self.why, before, self.image.numel())

    def entries(self) -> dict[str, Entry]:
        result = {n: Entry(shape, n not in self.float_names) for n, shape in self.layout.weights().items()}
        result.update({name: Entry((self.layout.width,), False) for name in self._bias_names()})
        return result

    def get_tensors(self) -> dict[str, Tensor]:
        result = {}
        for name, (array, scale) in self._parts().items():
            result[name] = torch.from_numpy(np.array(array))
            if scale is not None:
                result[name + SCALE] = torch.from_numpy(np.array(scale))
        result.update({name: getattr(self, name) for name in self._bias_names()})
        return result

    def set_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        parts: dict[str, Parts] = {}
        for name in self.layout.weights():
            weight = tensors[name].detach()
            if name in self.float_names:
                parts[name] = weight.float().numpy(), None
            elif name + SCALE in tensors:
                parts[name] = weight.numpy(), tensors[name + SCALE].detach().float().numpy()
            else:
                parts[name] = _quantized(weight)
        for name in self._bias_names():
            replace(self, name, tensors[name].detach().float())
        self._make_image(parts)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_with_lengths": None}

    def __getattr__(self, name: str) -> Any:
        """Weights by torch's names, as float32: new tensors at each call."""
        if name.startswith("weight_") and name in self.layout.weights():
            array, scale = self._parts()[name]
            return torch.from_numpy(array * np.float32(1) if scale is None else array * scale[:, None])
        return super().__getattr__(name)


class _Layers(_Recurrent):
    """Of torch.nn.RNNBase."""

    def __init__(self, layout: Layout, *arguments: Any) -> None:
        super().__init__(layout, *arguments)
        self.num_layers = layout.layers
        self.bidirectional = layout.directions == 2
        self.batch_first = layout.batch_first
        self.proj_size = 0

    @classmethod
    def from_float(cls, module: nn.RNNBase, keep: frozenset[str] = frozenset(), first_layer: bool = False) -> Any:
        """``keep``: weights that stay float, by name. ``first_layer``: the projection is int8 even where small."""
        layout = Layout(
            module.mode.partition("_")[0],
            module.input_size,
            module.hidden_size,
            module.num_layers,
            2 if module.bidirectional else 1,
            module.batch_first,
            "Relu" if module.mode == "RNN_RELU" else None,
        )
        return cls(layout, *_weights(module, layout, keep, first_layer))

    def flatten_parameters(self) -> None:
        """For torch.nn's sake: does nothing."""

    def _run(self, x: Any, states: list[Tensor | None]) -> tuple[Any, list[Tensor]]:
        """y and the last states, shaped as ``x`` and ``states`` of torch.nn are."""
        if isinstance(x, PackedSequence):
            return self._run_packed(x, states)
        floats = checked(self, x)
        batched = x.dim() == 3
        if x.dim() not in (2, 3) or x.shape[-1] != self.input_size:
            raise ValueError(
                f"the input has shape {tuple(x.shape)}; expected 3 dimensions, or 2 without a batch, "
                f"the last of {self.input_size}"
            )
        axis = 0 if self.batch_first else 1
        if not batched:
            floats = floats.unsqueeze(axis)
        ready = [
            self._state(state, floats.shape[axis], batched, what) for state, what in zip(states, "hc", strict=False)
        ]
        y, *last = self._call(floats, ready, None)
        if not batched:
            y, last = y.squeeze(axis), [state.squeeze(1) for state in last]
        return y.to(x.dtype), [state.to(x.dtype) for state in last]

    def _run_packed(self, x: PackedSequence, states: list[Tensor | None]) -> tuple[PackedSequence, list[Tensor]]:
        """Sequences of several lengths, in the order that the user gave them."""
        padded, lengths = pad_packed_sequence(x, self.batch_first)
        floats = checked(self, padded)
        ready = [self._state(state, len(lengths), True, what) for state, what in zip(states, "hc", strict=False)]
        y, *last = self._call(floats, ready, lengths.to(torch.int32))
        packed = pack_padded_sequence(
            y.to(padded.dtype), lengths, self.batch_first, enforce_sorted=x.sorted_indices is None
        )
        return packed, [state.to(padded.dtype) for state in last]

    def _state(self, state: Tensor | None, batch: int, batched: bool, what: str) -> Tensor:
        shape = (self.layout.layers * self.layout.directions, batch, self.hidden_size)
        if state is None:
            return torch.zeros(shape, dtype=torch.float32)
        state = checked(self, state, f"{what}_0")
        if not batched and state.dim() == 2:
            state = state.unsqueeze(1)
        if tuple(state.shape) != shape:
            raise ValueError(f"{what}_0 has shape {tuple(state.shape)}; expected {shape}")
        return state.contiguous()

    def extra_repr(self) -> str:
        parts = [f"{self.input_size}, {self.hidden_size}"]
        parts += [f"num_layers={self.num_layers}"] if self.num_layers > 1 else []
        parts += [f"{name}=True" for name in ("batch_first", "bidirectional") if getattr(self, name)]
        return ", ".join([*parts, "int8"])


class LSTM(_Layers):
    """torch.nn.LSTM in evaluation mode; a PackedSequence, too."""

    def forward(self, input: Any, hx: tuple[Tensor, Tensor] | None = None) -> tuple[Any, tuple[Tensor, Tensor]]:
        if hx is not None and (not isinstance(hx, (tuple, list)) or len(hx) != 2):
            raise TypeError(f"hx is of type {type(hx).__name__}; expected a pair of tensors, h_0 and c_0")
        y, (h, c) = self._run(input, [None, None] if hx is None else [*hx])
        return y, (h, c)


class _Stateful(_Layers):
    def forward(self, input: Any, hx: Tensor | None = None) -> tuple[Any, Tensor]:
        y, (h,) = self._run(input, [hx])
        return y, h


class GRU(_Stateful):
    """torch.nn.GRU in evaluation mode; a PackedSequence, too."""


class RNN(_Stateful):
    """torch.nn.RNN in evaluation mode, with tanh or relu; a PackedSequence, too."""

    @property
    def nonlinearity(self) -> str:
        return "tanh" if self.layout.activation is None else "relu"


class _Cell(_Recurrent):
    """Of torch.nn.RNNCellBase: a model of one step."""

    @classmethod
    def from_float(cls, module: nn.RNNCellBase, keep: frozenset[str] = frozenset(), first_layer: bool = False) -> Any:
        """``keep``: weights that stay float, by name. ``first_layer``: the projection is int8 even where small."""
        activation = "Relu" if getattr(module, "nonlinearity", "tanh") == "relu" else None
        kind = cls.__name__.removesuffix("Cell")
        layout = Layout(kind, module.input_size, module.hidden_size, 1, 1, False, activation, single=True)
        return cls(layout, *_weights(module, layout, keep, first_layer))

    def _run(self, x: Tensor, states: list[Tensor | None]) -> list[Tensor]:
        floats = checked(self, x)
        if x.dim() not in (1, 2) or x.shape[-1] != self.input_size:
            raise ValueError(
                f"the input has shape {tuple(x.shape)}; expected (batch, {self.input_size}) or ({self.input_size},)"
            )
        batched = x.dim() == 2
        shape = (x.shape[0] if batched else 1, self.hidden_size)
        ready = []
        for state, what in zip(states, ("hx", "cx"), strict=False):
            if state is None:
                ready.append(torch.zeros((1, *shape), dtype=torch.float32))
                continue
            state = checked(self, state, what)
            if tuple(state.shape) != shape[0 if batched else 1 :]:
                raise ValueError(f"{what} has shape {tuple(state.shape)}; expected {shape[0 if batched else 1 :]}")
            ready.append(state.reshape(1, *shape))
        _, *last = self._call(floats.reshape(1, shape[0], -1), ready, None)
        return [(state[0] if batched else state[0, 0]).to(x.dtype) for state in last]

    def extra_repr(self) -> str:
        return f"{self.input_size}, {self.hidden_size}, int8"


class LSTMCell(_Cell):
    """torch.nn.LSTMCell."""

    def forward(self, input: Tensor, hx: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, Tensor]:
        h, c = self._run(input, [None, None] if hx is None else [*hx])
        return h, c


class _StatefulCell(_Cell):
    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:
        return self._run(input, [hx])[0]


class GRUCell(_StatefulCell):
    """torch.nn.GRUCell."""


class RNNCell(_StatefulCell):
    """torch.nn.RNNCell, with tanh or relu."""


def _weights(
    module: nn.Module, layout: Layout, keep: frozenset[str], first_layer: bool
) -> tuple[dict[str, Parts], dict[str, Tensor], str]:
    """Weights, biases, and what the report says of them."""
    shapes, why = layout.weights(), "its weights are constant"
    first = layout.names("weight_ih", 0)
    total = sum(math.prod(shape) for shape in shapes.values())
    floats = {
        name
        for layer in range(layout.layers)
        for kind in ("weight_ih", "weight_hh")
        for name in layout.names(kind, layer)
        if keep.intersection(layout.names(kind, layer))
    }
    if floats:
        why += f"; keep_float has {', '.join(sorted(floats))}"
    if not first_layer and not floats.issuperset(first) and _SMALL * sum(math.prod(shapes[n]) for n in first) < total:
        floats |= set(first)
        why += f"; {', '.join(first)} stays float: it reads the input and has under an eighth of the weights"
    parts: dict[str, Parts] = {}
    for name in shapes:
        weight = getattr(module, name).detach()
        parts[name] = (weight.float().numpy(), None) if name in floats else _quantized(weight)
    biases = {}
    if getattr(module, "bias", True):
        kinds = ("bias_ih", "bias_hh")
        names = [name for layer in range(layout.layers) for kind in kinds for name in layout.names(kind, layer)]
        biases = {name: getattr(module, name) for name in names}
    return parts, biases, why


def _quantized(weight: Tensor) -> Parts:
    rows, scale = quantize_rows(weight)
    return rows.numpy(), scale.numpy()
