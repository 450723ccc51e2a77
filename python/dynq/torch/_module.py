"""Code that all modules of dynq.torch share: their entries in a state_dict, and their errors for a wrong input."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.compiler import is_compiling
from torch.fx import Proxy
from torch.nn.utils.prune import BasePruningMethod
from torch.overrides import TorchFunctionMode

from ..errors import Error
from ..report import Row
from ._live import Live, LiveWeight, plain
from ._threads import torch_threads

__all__ = [
    "Entry", "QuantizedModule", "checked", "computes_weight", "copy_model", "is_eager", "refuse_proxy",
    "replace", "seems_eager", "take_hooks",
]  # fmt: skip

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
    """A tensor of a state_dict; int8 ones have their scales, float32 of the dimension ``channels``, beside them."""

    shape: tuple[int, ...]
    int8: bool
    channels: int = 0


class QuantizedModule(nn.Module):
    """Base of dynq's modules.

    A ``state_dict`` has the names of the float module: weights as int8 in its shapes, with ``<name>_scale`` beside them
    (float32, one for each output channel), biases as float32. A float ``state_dict`` loads, too, and is quantized then.
    """

    why = "its weights are constant"  # for a report
    packed_names: tuple[str, ...] = ("packed",)  # buffers with quantized weights

    def entries(self) -> dict[str, Entry]:
        """Return the entries of the state_dict, without the scales."""
        raise NotImplementedError

    def get_tensors(self) -> dict[str, Tensor]:
        """Return the tensors of ``entries`` and the scales."""
        raise NotImplementedError

    def set_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Set the tensors that ``get_tensors`` returns, checked; or floats in place of int8 and scales."""
        raise NotImplementedError

    def read(self, name: str) -> Any:
        """Return a tensor of ``entries`` as float32, with int8 weights as what they stand for; None if it has none.

        What is written to it goes into the module (``LiveWeight``).
        """
        if name not in self.entries():
            return None
        if not _is_plain():
            return self._floats(name)
        with torch_threads(), torch.inference_mode(False), torch.no_grad():
            return LiveWeight.make(self, name, self._floats(name))

    def _floats(self, name: str) -> Tensor:
        tensors = self.get_tensors()
        values, scale = tensors[name], tensors.get(name + SCALE)
        if scale is None:
            return values.float().clone()
        return values.float() * scale.view(
            [-1 if i == self.entries()[name].channels else 1 for i in range(values.dim())]
        )

    def write(self, name: str, value: Any) -> None:
        """Give a tensor of ``entries`` other values: floats, which are quantized where it is int8.

        The weight of another converted module gives its integers; modules whose weights lie alike share them then.
        """
        kind = type(self).__name__
        entry = self.entries().get(name)
        if entry is None:
            raise AttributeError(f"dynq.torch.{kind} has no {name} to write to")
        if not isinstance(value, Tensor):
            raise TypeError(f"{name} of dynq.torch.{kind} is set to a {type(value).__name__}; expected a tensor")
        if text := _mismatch(value, entry.shape, None):
            raise ValueError(f"{name} of dynq.torch.{kind} is set to a tensor that {text}")
        source = value.whole_of() if isinstance(value, LiveWeight) else None
        if source is not None and source[0].entries()[source[1]] != entry:
            source = None
        with torch_threads(), torch.inference_mode(False), torch.no_grad():
            if source is not None and entry.int8 and self._share(source[0]):
                return
            tensors = self.get_tensors()
            tensors.pop(name + SCALE, None)
            tensors[name] = plain(value)
            if source is not None and entry.int8:
                others = source[0].get_tensors()
                tensors |= {name + end: others[source[1] + end] for end in ("", SCALE) if source[1] + end in others}
            self.set_tensors(tensors)

    def _share(self, other: QuantizedModule) -> bool:
        """Take the buffers of another module's weight; False where they are not all that this one has, or not alike."""
        if other is self:
            return True
        mine, its = self._weight_buffers(), other._weight_buffers()
        alone = all(sum(e.int8 for e in m.entries().values()) == 1 for m in (self, other))
        alike = {n: b.shape for n, b in mine.items()} == {n: b.shape for n, b in its.items()}
        if not alone or not alike or "image" in mine:
            return False
        self._buffers.update(its)
        return True

    def _weight_buffers(self) -> dict[str, Tensor]:
        return {n: b for n in self.packed_names if (b := self._buffers.get(n)) is not None}

    def __setattr__(self, name: str, value: Any) -> None:
        """Write tensors of ``entries``; other attributes are set as in any module."""
        if isinstance(value, Tensor) and name in self.entries():
            self.write(name, value)
        elif isinstance(getattr(type(self), name, None), Live):
            self.write(name, value)  # which says what is wrong
        else:
            super().__setattr__(name, value)

    def row(self, name: str) -> Row:
        """Return the row of a report, which adds what is the same for all of these modules."""
        before = sum(4 * math.prod(entry.shape) for entry in self.entries().values() if entry.int8)
        after = sum(
            b.numel() * b.element_size()
            for name, b in self._buffers.items()
            if b is not None and name in self.packed_names
        )
        return Row(name, type(self).__name__, self.why, before, after)

    def __prepare_scriptable__(self) -> Any:
        """Refuse torch.jit.script, which asks this first."""
        raise Error(
            f"torch.jit.script cannot compile dynq.torch.{type(self).__name__}; torch.jit.trace, torch.export and "
            "torch.compile take converted models"
        )

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
                expected[name + SCALE] = (entry.shape[entry.channels : entry.channels + 1], None)
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
    """Tell whether ``x`` is a tensor with memory, whose values nobody but the caller looks after."""
    return seems_eager(x) and _transform() is None


def seems_eager(x: Tensor) -> bool:
    """Tell whether ``x`` is eager, or within torch.vmap or its like, where it has no memory that can be read.

    It takes half the time of ``is_eager``.
    """
    return not is_compiling() and type(x) is Tensor and _trace() is None and not _modes()


def _is_plain() -> bool:
    """Tell whether new tensors are ordinary ones, which nobody follows."""
    return not is_compiling() and _trace() is None and not _modes()


_trace = torch._C._get_tracing_state  # of torch.jit.trace
_transform = torch._C._functorch.maybe_current_level
_modes = torch._C._len_torch_dispatch_stack  # fake tensors, proxies, counters of operations


def checked(module: nn.Module, x: Any, what: str = "the input") -> Tensor:
    """``x`` as float32; anything but CPU tensors of float32, float16 and bfloat16 is refused, as is training mode."""
    name = type(module).__name__
    if module.training:
        raise Error(f"dynq.torch.{name} is in training mode, and has no gradient; call eval() on the model")
    refuse_proxy(module, x)
    if not isinstance(x, Tensor):
        raise TypeError(f"{what} of dynq.torch.{name} is of type {type(x).__name__}; expected a tensor")
    if x.layout != torch.strided or x.is_nested:
        kind, way = ("nested", "to_padded_tensor()") if x.is_nested else (x.layout, "to_dense()")
        raise TypeError(f"{what} of dynq.torch.{name} is {kind}; expected a dense tensor: {way} makes one")
    if x.device.type != "cpu":
        raise ValueError(f"{what} of dynq.torch.{name} is on {x.device}; dynq runs on the CPU")
    if x.dtype not in FLOATS:
        hint = "; convert it with .float()" if x.dtype == torch.float64 else ""
        raise TypeError(f"{what} of dynq.torch.{name} is {x.dtype}; expected float32, float16 or bfloat16{hint}")
    return x if x.dtype == torch.float32 else x.float()


def refuse_proxy(module: nn.Module, x: Any) -> None:
    """Say what to do instead if torch.fx.symbolic_trace goes into a module."""
    if isinstance(x, Proxy):
        raise TypeError(
            f"torch.fx.symbolic_trace cannot go into dynq.torch.{type(module).__name__}; give it a Tracer whose "
            "is_leaf_module is True for dynq's modules, or take torch.export or torch.compile"
        )


def computes_weight(hook: Any) -> bool:
    """Tell whether a hook computes a weight before each forward, as weight_norm, spectral_norm and pruning do."""
    if isinstance(hook, BasePruningMethod):
        return True
    kind = type(hook)
    return kind.__name__ in ("WeightNorm", "SpectralNorm") and kind.__module__.startswith("torch.nn.utils")


def take_hooks(source: nn.Module, target: nn.Module, inplace: bool) -> None:
    """Give ``target`` the forward hooks that a user registered.

    In place, it gets the tables themselves, so that the handles that a user has still remove hooks.
    """
    for name in _HOOKS:
        hooks = getattr(source, name)
        kept = {key: hook for key, hook in hooks.items() if not computes_weight(hook)}
        if inplace:
            for key in hooks.keys() - kept.keys():
                del hooks[key]
            vars(target)[name] = hooks
        else:
            getattr(target, name).update(kept)


def copy_model(root: nn.Module, memo: dict[int, Any] | None = None) -> nn.Module:
    """Return a deep copy, with tensors that were computed with a gradient as plain ones."""
    with _PlainResults():
        return copy.deepcopy(root, memo)


class _PlainResults(TorchFunctionMode):
    """Within, copies of tensors that are no leaves leave their gradient behind: torch refuses to copy them."""

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func is Tensor.__deepcopy__ and not args[0].is_leaf:
            tensor, memo = args
            if id(tensor) not in memo:
                memo[id(tensor)] = tensor.detach().clone()
            return memo[id(tensor)]
        return func(*args, **(kwargs or {}))
