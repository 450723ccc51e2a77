"""torch.nn.LSTM, GRU, RNN and their cells with int8 weights: each is a small model that runs in one call of C."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from ..ir.deferred import QuantizedRows, Rows
from ..passes.recurrent import PROJECTION
from ..quantization.options import FloatOrInt8
from ..recurrent.network import network_graph
from ..report import Row
from . import ops
from ._model import image_graph, make_image
from ._module import SCALE, Entry, QuantizedModule, checked, is_eager, replace
from ._packed import quantize_rows
from ._recurrent_graph import Layout, recurrent_graph, weights_of

__all__ = ["GRU", "LSTM", "RNN", "GRUCell", "LSTMCell", "RNNCell"]


class _Recurrent(QuantizedModule):
    """``image``: the model, with the weights and the biases in it."""

    packed_names = ("image",)
    image: Tensor

    def __init__(self, layout: Layout, weights: Mapping[str, Rows], biases: Mapping[str, Tensor], why: str) -> None:
        super().__init__()
        self.layout = layout
        self.input_size, self.hidden_size = layout.input, layout.hidden
        self.bias = bool(biases)
        self.float_names = tuple(name for name, rows in weights.items() if isinstance(rows, np.ndarray))
        self.why = why
        for name, bias in biases.items():
            # What no operator reads has to be persistent for torch.export, which cannot make a module of it otherwise.
            self.register_buffer(name, bias.detach().float().clone())
        self.register_buffer("image", None, persistent=False)
        self._with_lengths: Tensor | None = None  # an image for sequences of several lengths, once asked for
        self._make_image(weights)
        self.training = False

    @classmethod
    def from_float(cls, module: Any, keep: frozenset[str] = frozenset(), first_layer: FloatOrInt8 | None = None) -> Any:
        """Convert a module of torch.nn.

        Args:
            keep: names of weights that stay float.
            first_layer: "int8" or "float", what the projection of the inputs becomes. None: what was measured.
        """
        several = isinstance(module, nn.RNNBase)
        layout = Layout(
            cls.__name__.removesuffix("Cell"),
            module.input_size,
            module.hidden_size,
            module.num_layers if several else 1,
            2 if several and module.bidirectional else 1,
            several and module.batch_first,
            "Relu" if getattr(module, "nonlinearity", "tanh") == "relu" else None,
            single=not several,
            projection=module.proj_size if several else 0,
        )
        return cls(layout, *_weights(module, layout, keep, first_layer))

    def _make_image(self, weights: Mapping[str, Rows]) -> None:
        replace(self, "image", self._image(weights, lengths=False))
        self._with_lengths = None

    def _image(self, weights: Mapping[str, Rows], lengths: bool) -> Tensor:
        biases = {name: bias.float().numpy() for name, bias in self._biases().items()}
        return make_image(recurrent_graph(self.layout, {**weights, **biases}, lengths))

    def _biases(self) -> dict[str, Tensor]:
        return {name: bias for name in self._bias_names() if (bias := self._buffers[name]) is not None}

    def _bias_names(self) -> list[str]:
        return self.layout.biases() if self.bias else []

    def _weights(self) -> dict[str, Rows]:
        return weights_of(self.layout, image_graph(self.image))

    def _call(self, x: Tensor, states: list[Tensor], lengths: Tensor | None) -> list[Tensor]:
        """y and the last states of (T, B, I), or (B, T, I) where batch_first."""
        image = self.image
        if lengths is not None:
            if self._with_lengths is None:
                self._with_lengths = self._image(self._weights(), lengths=True)
            image = self._with_lengths
        count = self.layout.directions
        operator = getattr(ops if is_eager(x) else torch.ops.dynq, self.layout.cell.lower())
        return list(operator(x, *states, lengths, image, count))

    def row(self, name: str) -> Row:
        before = sum(4 * math.prod(shape) for shape in self.layout.weights().values())
        return Row(name, type(self).__name__, self.why, before, self.image.numel())

    def entries(self) -> dict[str, Entry]:
        result = {n: Entry(shape, n not in self.float_names) for n, shape in self.layout.weights().items()}
        result.update({name: Entry((self.layout.width,), False) for name in self._bias_names()})
        return result

    def get_tensors(self) -> dict[str, Tensor]:
        result = {}
        for name, rows in self._weights().items():
            int8 = rows if isinstance(rows, QuantizedRows) else None
            parts = {name: int8.integers, name + SCALE: int8.scale} if int8 else {name: rows}
            result.update({key: torch.from_numpy(np.array(part)) for key, part in parts.items()})
        result.update(self._biases())
        return result

    def set_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        weights: dict[str, Rows] = {}
        for name in self.layout.weights():
            weight = tensors[name].detach()
            if name in self.float_names:
                weights[name] = weight.float().numpy()
            elif name + SCALE in tensors:
                weights[name] = QuantizedRows(weight.numpy(), tensors[name + SCALE].detach().float().numpy())
            else:
                weights[name] = _quantized(weight)
        for name in self._bias_names():
            replace(self, name, tensors[name].detach().float())
        self._make_image(weights)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_with_lengths": None}

    def __getattr__(self, name: str) -> Any:
        """Give weights and biases by torch's names, as float32; what is written to them goes into the module."""
        if name.startswith(("weight_", "bias_")) and name in self.entries():
            return self.read(name)
        return super().__getattr__(name)


class _Layers(_Recurrent):
    """The base of the modules in place of torch.nn.RNNBase's."""

    def __init__(self, layout: Layout, *arguments: Any) -> None:
        super().__init__(layout, *arguments)
        self.num_layers = layout.layers
        self.bidirectional = layout.directions == 2
        self.batch_first = layout.batch_first
        self.proj_size = layout.projection

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
        y, *last = self._call(floats, self._states(states, floats.shape[axis], batched), None)
        if not batched:
            y, last = y.squeeze(axis), [state.squeeze(1) for state in last]
        return y.to(x.dtype), [state.to(x.dtype) for state in last]

    def _run_packed(self, x: PackedSequence, states: list[Tensor | None]) -> tuple[PackedSequence, list[Tensor]]:
        """Sequences of several lengths, in the order that the user gave them."""
        padded, lengths = pad_packed_sequence(x, self.batch_first)
        floats = checked(self, padded)
        y, *last = self._call(floats, self._states(states, len(lengths), True), lengths.to(torch.int32))
        packed = pack_padded_sequence(
            y.to(padded.dtype), lengths, self.batch_first, enforce_sorted=x.sorted_indices is None
        )
        return packed, [state.to(padded.dtype) for state in last]

    def _states(self, states: list[Tensor | None], batch: int, batched: bool) -> list[Tensor]:
        """Return (layers * directions, B, ...), zeros for each that is None."""
        ready = []
        for state, size, what in zip(states, (self.layout.state, self.layout.hidden), "hc", strict=False):
            shape = (self.layout.layers * self.layout.directions, batch, size)
            given = torch.zeros(shape, dtype=torch.float32) if state is None else checked(self, state, f"{what}_0")
            if not batched and given.dim() == 2:
                given = given.unsqueeze(1)
            if tuple(given.shape) != shape:
                raise ValueError(f"{what}_0 has shape {tuple(given.shape)}; expected {shape}")
            ready.append(given)
        return ready

    def extra_repr(self) -> str:
        parts = [f"{self.input_size}, {self.hidden_size}"]
        parts += [f"proj_size={self.proj_size}"] if self.proj_size else []
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
    """The base of the modules in place of torch.nn.RNNCellBase's: a model of one step."""

    def _run(self, x: Tensor, states: list[Tensor | None]) -> list[Tensor]:
        floats = checked(self, x)
        if x.dim() not in (1, 2) or x.shape[-1] != self.input_size:
            raise ValueError(
                f"the input has shape {tuple(x.shape)}; expected (batch, {self.input_size}) or ({self.input_size},)"
            )
        rows = x.shape[0] if x.dim() == 2 else 1
        shape = (*x.shape[:-1], self.hidden_size)
        ready = []
        for state, what in zip(states, ("hx", "cx"), strict=False):
            given = torch.zeros(shape, dtype=torch.float32) if state is None else checked(self, state, what)
            if tuple(given.shape) != shape:
                raise ValueError(f"{what} has shape {tuple(given.shape)}; expected {shape}")
            ready.append(given.reshape(1, rows, self.hidden_size))
        _, *last = self._call(floats.reshape(1, rows, self.input_size), ready, None)
        return [state.reshape(shape).to(x.dtype) for state in last]

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
    module: nn.Module, layout: Layout, keep: frozenset[str], first_layer: FloatOrInt8 | None
) -> tuple[dict[str, Rows], dict[str, Tensor], str]:
    """Return weights, biases, and what the report says of them."""
    shapes, why = layout.weights(), "its weights are constant"
    first = layout.names("weight_ih", 0)
    floats: set[str] = set()
    for layer in range(layout.layers):
        for kinds in (("weight_ih",), ("weight_hh", "weight_hr")):  # each int8 or float as a whole
            names = {name for kind in kinds for name in layout.names(kind, layer)}
            floats |= names.intersection(shapes) if keep.intersection(names) else set()
    if floats:
        why += f"; keep_float has {', '.join(sorted(floats))}"
    if first_layer == "float":
        floats |= set(first)
        why += f"; first_layer='float': {', '.join(first)}"
    if measured := _measured(module, layout) - floats - (set(first) if first_layer == "int8" else set()):
        floats |= measured
        why += f"; {', '.join(sorted(measured))}: as int8 they would cost too much accuracy, by runs on made-up inputs"
    weights: dict[str, Rows] = {}
    for name in shapes:
        weight = getattr(module, name).detach()
        weights[name] = weight.float().numpy() if name in floats else _quantized(weight)
    biases = {name: getattr(module, name) for name in layout.biases()} if getattr(module, "bias", True) else {}
    return weights, biases, why


def _measured(module: nn.Module, layout: Layout) -> set[str]:
    """Return the weights that stay float, by what Graph.build chooses for the module alone."""
    names = [*layout.weights(), *(layout.biases() if getattr(module, "bias", True) else [])]
    found = {name: getattr(module, name).detach().float().numpy() for name in names}
    layers = [layout.layer(found, i) for i in range(layout.layers)]
    options: dict[str, Any] = {"batch_first": layout.batch_first, "activations": layout.activation}
    report = network_graph(layout.cell, layers, lengths=False, **options).build().report()
    finer = {row.node for row in report.rows if row.choice is not None and row.choice.form != "int8"}
    weights = {
        *(name for i in range(layout.layers) if f"l{i}{PROJECTION}" in finer for name in layout.names("weight_ih", i)),
        *(
            name
            for i in range(layout.layers)
            if f"l{i}" in finer
            for kind in ("weight_hh", "weight_hr")
            for name in layout.names(kind, i)
        ),
    }
    return weights.intersection(layout.weights())


def _quantized(weight: Tensor) -> QuantizedRows:
    rows, scale = quantize_rows(weight)
    return QuantizedRows(rows.numpy(), scale.numpy())
