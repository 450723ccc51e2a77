"""What all modules of dynq.torch share: what a state_dict holds of them, and what they say of a wrong input."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.compiler import is_compiling

from ..errors import Error
from ..report import Row
from ._threads import torch_threads

__all__ = ["Entry", "QuantizedModule", "checked", "copy_hooks", "is_eager", "is_norm", "replace"]

FLOATS = (torch.float32, torch.float16, torch.bfloat16)
SCALE = "_scale"  # ends the name of the scales of an int8 weight

_HOOKS = (
    "_forward_hooks",
    "_forward_hooks_with_kwargs",
    "_forward_hooks_always_called",
    "_forward_pre_hooks",
    "_forward_pre_hooks_with_kwargs",
)


class Entry(NamedTuple):
    """A tensor of a state_dict; int8 ones have their scales, float32 of the first dimension, as another entry."""

    shape: tuple[int, ...]
    int8: bool


class QuantizedModule(nn.Module):
    """Base of dynq's modules.

    A ``state_dict`` has the names of the float module: weights as int8 in its shapes, with ``<name>_scale`` beside them
    (float32, one for each output channel), biases as float32. A float ``state_dict`` loads, too, and is quantized then.
    """

    why = "its weights are constant"  # for a report
    packed_names: tuple[str, ...] = ("packed",)  # buffers with quantized weights

    def entries(self) -> dict[str, Entry]:
        """What the state_dict holds, without the scales."""
        raise NotImplementedError

    def get_tensors(self) -> dict[str, Tensor]:
        """Of ``entries`` and the scales."""
        raise NotImplementedError

    def set_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """What ``get_tensors`` gives, checked; or floats in place of int8 and scales."""
        raise NotImplementedError

    def row(self, name: str) -> Row:
        """Of a report."""
        before = sum(4 * math.prod(entry.shape) for entry in self.entries().values() if entry.int8)
        after = sum(
            b.numel() * b.element_size()
            for name, b in self._buffers.items()
            if b is not None and name in self.packed_names
        )
        return Row(name, f"int8 {type(self).__name__}", self.why, before, after)

    def train(self, mode: bool = True) -> QuantizedModule:
        """In training mode the module refuses to run."""
        super().train(mode)
        return self

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        with torch_threads():
            tensors = self.get_tensors()
        for name, tensor in tensors.items():
            destination[prefix + name] = tensor

    def _load_from_state_dict(
        self,
        state_dict: Mapping[str, Any],
        prefix: str,
        local_metadata: Any,
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        entries = self.entries()
        known = {prefix + name for name in entries} | {prefix + name + SCALE for name, e in entries.items() if e.int8}
        children = tuple(f"{prefix}{name}." for name in self._modules)
        if strict:
            unexpected_keys += [
                key
                for key in state_dict
                if key.startswith(prefix) and key not in known and not key.startswith(children or ("\0",))
            ]
        tensors, good = {}, True
        for name, entry in entries.items():
            expected = {name: (entry.shape, torch.int8 if entry.int8 else None)}
            given = state_dict.get(prefix + name)
            if entry.int8 and not (isinstance(given, Tensor) and given.is_floating_point()):
                expected[name + SCALE] = (entry.shape[:1], None)
            for key, (shape, dtype) in expected.items():
                tensor = state_dict.get(prefix + key)
                if tensor is None:
                    good = False
                    missing_keys.append(prefix + key)
                elif text := _mismatch(tensor, shape, dtype):
                    good = False
                    error_msgs.append(f"{prefix + key} {text}")
                else:
                    tensors[key] = tensor
        if good:
            try:
                with torch_threads():
                    self.set_tensors(tensors)
            except ValueError as error:
                error_msgs.append(f"{prefix.removesuffix('.') or type(self).__name__}: {error}")


def _mismatch(tensor: Any, shape: tuple[int, ...], dtype: torch.dtype | None) -> str:
    if not isinstance(tensor, Tensor):
        return f"is of type {type(tensor).__name__}; expected a tensor"
    if tuple(tensor.shape) != shape:
        return f"has shape {tuple(tensor.shape)}; expected {shape}"
    if tensor.device.type != "cpu":
        return f"is on {tensor.device}; dynq runs on the CPU"
    if tensor.dtype not in FLOATS and tensor.dtype != dtype:
        return f"is {tensor.dtype}; expected {dtype or 'float32'}"
    return ""


def replace(module: nn.Module, name: str, new: Tensor) -> None:
    """A buffer gets other values: in place, so that who shares it sees them, where it has room for them."""
    old = module._buffers.get(name)
    if old is not None and old.device == new.device and old.dtype == new.dtype and old.shape == new.shape:
        with torch.no_grad():
            old.copy_(new)
    else:
        module._buffers[name] = new


def is_eager(x: Tensor) -> bool:
    """Whether ``x`` is a tensor with memory, whose values nobody but the caller looks after."""
    return not is_compiling() and type(x) is Tensor and _trace() is None and not _modes()


_trace = torch._C._get_tracing_state  # of torch.jit.trace
_modes = torch._C._len_torch_dispatch_stack  # fake tensors, proxies, counters of operations


def checked(module: nn.Module, x: Any, what: str = "the input") -> Tensor:
    """``x`` as float32; anything but CPU tensors of float32, float16 and bfloat16 is refused, as is training mode."""
    name = type(module).__name__
    if module.training:
        raise Error(f"dynq.torch.{name} is in training mode, and has no gradient; call eval() on the model")
    if not isinstance(x, Tensor):
        raise TypeError(f"{what} of dynq.torch.{name} is of type {type(x).__name__}; expected a tensor")
    if x.device.type != "cpu":
        raise ValueError(f"{what} of dynq.torch.{name} is on {x.device}; dynq runs on the CPU")
    if x.dtype not in FLOATS:
        hint = "; convert it with .float()" if x.dtype == torch.float64 else ""
        raise TypeError(f"{what} of dynq.torch.{name} is {x.dtype}; expected float32, float16 or bfloat16{hint}")
    return x if x.dtype == torch.float32 else x.float()


def is_norm(hook: Any) -> bool:
    """Whether it is torch.nn.utils.weight_norm's or spectral_norm's, which compute a weight before each forward."""
    kind = type(hook)
    return kind.__name__ in ("WeightNorm", "SpectralNorm") and kind.__module__.startswith("torch.nn.utils")


def copy_hooks(source: nn.Module, target: nn.Module) -> None:
    """Forward hooks that a user registered."""
    for name in _HOOKS:
        getattr(target, name).update({key: hook for key, hook in getattr(source, name).items() if not is_norm(hook)})
