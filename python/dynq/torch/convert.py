"""quantize_dynamic: modules of a model become dynq's; what does not says why."""

from __future__ import annotations

import copy
import dataclasses
import fnmatch
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.nn.utils import parametrize

from ..errors import NonFiniteError, UnsupportedModelError
from ..report import Report, Row
from ._kinds import Kind, find_kind, names_of_weights
from ._module import QuantizedModule, copy_hooks, is_norm
from ._packed import pack, quantize_rows
from ._threads import torch_threads
from .embedding import Embedding, EmbeddingBag
from .linear import Linear

__all__ = ["NotConvertedWarning", "quantize_dynamic", "report"]

_WHY = "_dynq_why"  # attribute of a module that stays float


class NotConvertedWarning(UserWarning):
    """Modules that were asked for could not be converted; the message lists them with reasons."""


def quantize_dynamic(
    module: nn.Module,
    qconfig_spec: Any = None,
    dtype: Any = torch.qint8,
    mapping: None = None,
    inplace: bool = False,
    *,
    keep_float: str | Iterable[str] = (),
    first_layer: str = "float",
    strict: bool = False,
) -> nn.Module:
    """The model with int8 weights, whose layers quantize their inputs as they come: torch.ao.quantization's function.

    Args:
        module: a model in evaluation mode, on the CPU.
        qconfig_spec: what to convert: a set of types (``{nn.Linear, nn.LSTM}``; a type of a larger module stands for
            what is in it) and names of modules, or a dict of them whose values are None for what stays float. None: all
            that dynq has: Linear, LSTM, GRU, RNN and their cells, Embedding, EmbeddingBag, Conv1d, Conv2d and
            MultiheadAttention, also within the layers of nn.Transformer.
        dtype: torch.qint8; dynq has no other.
        mapping: None.
        inplace: True: the modules of ``module`` itself are replaced, each float weight is freed when it is converted,
            and ``module`` comes back. False: ``module`` stays as it is; what stays float is copied.
        keep_float: names of modules (with all below them) or of weights of recurrent modules
            (``"lstm.weight_ih_l0"``), or patterns (``"encoder.layer.0.*"``), that stay float.
        first_layer: "int8": the projection of a recurrent module's inputs is quantized even where it is small
            (docs/pytorch.md).
        strict: True: a module that was asked for and cannot be converted is an error, and nothing is converted.

    Returns:
        The converted model. Where ``module`` itself is of such a type, the module that takes its place.

    Raises:
        UnsupportedModelError: ``strict``, and some modules cannot be converted; the error lists all of them.
        ValueError, TypeError: an argument is wrong; ``keep_float`` or ``qconfig_spec`` names what is not there.

    Warns:
        NotConvertedWarning: some modules cannot be converted, or none was; ``report`` tells of each.
    """
    _check(module, dtype, mapping, first_layer)
    plan = _Plan(module, _spec(qconfig_spec), _patterns(keep_float), first_layer == "int8")
    if strict and plan.problems:
        raise UnsupportedModelError(_text(plan.problems, "cannot be converted"), plan.problems)
    with torch_threads(), torch.inference_mode(False), torch.no_grad():
        if strict and inplace:
            plan.rehearse()
        if not (strict and plan.problems):
            result = plan.convert_in_place() if inplace else plan.convert_copy()
    if strict and plan.problems:  # a weight that is not finite, which only its conversion tells
        raise UnsupportedModelError(_text(plan.problems, "cannot be converted"), plan.problems)
    _leave_fast_path(result)
    if plan.problems:
        warnings.warn(_text(plan.problems, "stay float"), NotConvertedWarning, stacklevel=2)
    elif not plan.converted:
        text = "no module was converted: none is of a type that was asked for, or keep_float has all of them"
        warnings.warn(text, NotConvertedWarning, stacklevel=2)
    return result


def report(module: nn.Module) -> Report:
    """What became of each module with weights, and why: print it. Bytes are those of weights, before as float32."""
    rows = []
    for name, m in module.named_modules():
        if isinstance(m, QuantizedModule):
            rows.append(m.row(name))
        elif own := list(m.parameters(recurse=False)):
            size = sum(0 if is_lazy(p) else p.numel() * p.element_size() for p in own)
            rows.append(Row(name, f"float {type(m).__name__}", getattr(m, _WHY, ""), size, size))
    return Report(tuple(rows))


# ---- Arguments


def _check(module: Any, dtype: Any, mapping: Any, first_layer: Any) -> None:
    if not isinstance(module, nn.Module):
        raise TypeError(f"module is of type {type(module).__name__}; expected torch.nn.Module")
    if dtype != torch.qint8:
        raise ValueError(f"dtype is {dtype}; expected torch.qint8: dynq has int8 weights alone")
    if mapping is not None:
        raise ValueError(
            "mapping is given; expected None: each type has one module in dynq (qconfig_spec chooses types)"
        )
    if first_layer not in ("float", "int8"):
        raise ValueError(f"first_layer is {first_layer!r}; expected 'float' or 'int8'")
    if module.training:
        raise ValueError("module is in training mode; expected evaluation mode: call module.eval() first")


def _spec(spec: Any) -> dict[Any, bool] | None:
    """Types and names, and whether they are converted."""
    if spec is None:
        return None
    if isinstance(spec, (str, type)) or not isinstance(spec, Iterable):
        raise TypeError(f"qconfig_spec is {spec!r}; expected a set of types and names, or a dict of them")
    result = {}
    for key in spec:
        if not isinstance(key, str) and not (isinstance(key, type) and issubclass(key, nn.Module)):
            raise TypeError(f"qconfig_spec has {key!r}; expected types of modules and names")
        result[key] = not isinstance(spec, Mapping) or _is_int8(key, spec[key])
    return result


def _is_int8(key: Any, qconfig: Any) -> bool:
    if qconfig is None:
        return False
    try:
        weight = qconfig.weight().dtype
    except (AttributeError, TypeError) as error:
        raise TypeError(f"qconfig_spec[{key!r}] is {qconfig!r}; expected a QConfig or None") from error
    if weight not in (torch.qint8, torch.quint8):
        raise ValueError(f"qconfig_spec[{key!r}] has weights of {weight}; expected torch.qint8: dynq has int8 alone")
    return True


def _patterns(keep_float: Any) -> tuple[str, ...]:
    patterns = (keep_float,) if isinstance(keep_float, str) else tuple(keep_float)
    for pattern in patterns:
        if not isinstance(pattern, str):
            raise TypeError(f"keep_float has {pattern!r}; expected names of modules or patterns")
    return patterns


def _text(problems: Mapping[str, list[str]], what: str) -> str:
    lines = [f"  {', '.join(names)}: {reason}" for reason, names in problems.items()]
    return "\n".join([f"modules that {what}:", *lines])


# ---- What is to be done


@dataclasses.dataclass
class _Target:
    """A module to convert."""

    name: str
    module: nn.Module
    kind: Kind
    keep: frozenset[str]  # its weights that stay float


class _Plan:
    """Which modules of a model become what."""

    def __init__(
        self, root: nn.Module, spec: dict[Any, bool] | None, keep_float: tuple[str, ...], first_layer: bool
    ) -> None:
        self.root = root
        self.first_layer = first_layer
        self.targets: deque[_Target] = deque()
        self.why: dict[str, str] = {}  # of what stays float
        self.problems: dict[str, list[str]] = {}
        self.converted = 0
        names: dict[nn.Module, list[str]] = {}
        for name, module in root.named_modules(remove_duplicate=False):
            names.setdefault(module, []).append(name)
        unused = set(keep_float) | {key for key in spec or () if isinstance(key, str)}
        inside: set[nn.Module] = set()  # of a module that converts them itself, or needs them as they are
        for module, of_module in names.items():
            kind = find_kind(module)
            keep = self._kept(module, of_module, keep_float, unused)
            asked = _asked(root, module, of_module, spec, unused)
            if kind is None or module in inside:
                continue
            inside.update(module.modules())
            if pattern := keep.pop("", None):
                self._set_why(of_module, f"keep_float has {pattern!r}", module)
            elif not asked:
                self._set_why(of_module, "qconfig_spec leaves it out", module)
            elif (reason := kind.why_not(module)) is not None:
                self._set_why(of_module, reason, module)
                self.problems.setdefault(reason, []).append(of_module[0] or type(module).__name__)
            elif (reason := kind.why_float(module)) is not None:
                self._set_why(of_module, reason, module)
            else:
                self.targets.append(_Target(of_module[0], module, kind, frozenset(keep)))
        if unused:
            raise ValueError(f"no module is called {', '.join(map(repr, sorted(unused)))}")
        self._shared = _Shared(self.targets)

    def _kept(
        self, module: nn.Module, names: list[str], keep_float: tuple[str, ...], unused: set[str]
    ) -> dict[str, str]:
        """The weights that stay float, by their pattern; "" stands for the module."""
        result = {}
        for pattern in keep_float:
            for name in names:
                if any(_matches(part, pattern) for part in _with_parents(name)):
                    unused.discard(pattern)
                    result[""] = pattern
                for weight in names_of_weights(module):
                    if _matches(f"{name}.{weight}" if name else weight, pattern):
                        unused.discard(pattern)
                        result.setdefault(weight, pattern)
        return result

    def _set_why(self, names: list[str], why: str, module: nn.Module) -> None:
        prefix = f"{names[0]}." if names[0] else ""
        for name, _ in module.named_modules():
            self.why[prefix + name if name else names[0]] = why

    def _convert(self, target: _Target) -> QuantizedModule | None:
        """None where a weight is not finite."""
        module = target.module
        try:
            new = self._shared.convert(target, self.first_layer)
        except NonFiniteError:
            reason = "its weight holds a NaN or an infinity"
            self.problems.setdefault(reason, []).append(target.name or type(module).__name__)
            self._set_why([target.name], reason, module)
            return None
        copy_hooks(module, new)
        self.converted += 1
        return new

    def rehearse(self) -> None:
        """Finds the weights that are not finite before any module is replaced."""
        for target in self.targets:
            self._convert(target)

    def convert_in_place(self) -> nn.Module:
        parents: dict[nn.Module, list[tuple[nn.Module, str]]] = {}
        for parent in self.root.modules():
            for name, child in parent._modules.items():
                if child is not None:
                    parents.setdefault(child, []).append((parent, name))
        result = self.root
        while self.targets:
            target = self.targets.popleft()
            new = self._convert(target)
            places = parents.pop(target.module, [])
            if new is not None:
                if target.module is self.root:
                    result = new
                for parent, name in places:
                    parent._modules[name] = new
            del target  # and its weight with it
        return self._explain(result)

    def convert_copy(self) -> nn.Module:
        memo: dict[int, Any] = {}
        for target in self.targets:
            if (new := self._convert(target)) is not None:
                memo[id(target.module)] = new
        return self._explain(copy.deepcopy(self.root, memo))

    def _explain(self, result: nn.Module) -> nn.Module:
        for name, module in result.named_modules():
            if name in self.why:
                setattr(module, _WHY, self.why[name])
        return result


def _matches(name: str, pattern: str) -> bool:
    return bool(name) and (name == pattern or fnmatch.fnmatchcase(name, pattern))


def _with_parents(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[: i + 1]) for i in range(len(parts))]


def _asked(
    root: nn.Module, module: nn.Module, names: list[str], spec: dict[Any, bool] | None, unused: set[str]
) -> bool:
    """What is said of the module itself or of the nearest module around it; of a name before that of a type."""
    if spec is None:
        return True
    for name in names:
        for part in reversed(["", *_with_parents(name)] if name else [""]):
            if part and part in spec:
                unused.discard(part)
                return spec[part]
            around = root.get_submodule(part) if part else root
            for type_ in type(around).__mro__:
                if type_ in spec:
                    return spec[type_]
    return False


# ---- Weights that several modules have


class _Shared:
    """Converts modules; those with one weight get one packed weight."""

    def __init__(self, targets: Iterable[_Target]) -> None:
        users: dict[tuple[int, ...], list[nn.Module]] = {}
        for target in targets:
            users.setdefault(_source(target.module), []).append(target.module)
        self._linear = {key for key, of in users.items() if any(isinstance(m, nn.Linear) for m in of)}
        self._several = {key for key, of in users.items() if len(of) > 1}
        # Sources stay alive as long as their addresses are keys.
        self._alive = [_tensors(of[0]) for key, of in users.items() if key in self._several]
        self._made: dict[tuple[int, ...], tuple[Tensor, ...]] = {}
        self._modules: dict[tuple[int, ...], QuantizedModule] = {}

    def convert(self, target: _Target, first_layer: bool) -> QuantizedModule:
        module = target.module
        _compute_weights(module)
        if isinstance(module, nn.Linear):
            return Linear.from_float(module, self._packed(module))
        if isinstance(module, (nn.Embedding, nn.EmbeddingBag)):
            new: Any = Embedding if isinstance(module, nn.Embedding) else EmbeddingBag
            if _source(module) in self._linear:
                return new.from_float(module, packed=self._packed(module))
            rows, scale = self._once(module, quantize_rows)
            return new.from_float(module, rows=rows, row_scale=scale)
        new = target.kind.convert(module, target.keep, first_layer)
        if (key := _source(module)) in self._several:
            _share(self._modules.setdefault(key, new), new)
        return new

    def _packed(self, module: nn.Module) -> Tensor:
        (packed,) = self._once(module, lambda w: (pack(w),))
        return packed

    def _once(self, module: nn.Module, make: Callable[[Tensor], tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
        key, weight = _source(module), module.weight
        assert isinstance(weight, Tensor)
        if key not in self._several:
            return make(weight)
        new = make(weight) if key not in self._made or parametrize.is_parametrized(module) else None
        if new is None:
            return self._made[key]
        known = self._made.setdefault(key, new)
        same = all(a.shape == b.shape and torch.equal(a, b) for a, b in zip(known, new, strict=True))
        return known if same else new  # one source through two parametrizations


def _share(known: nn.Module, new: nn.Module) -> None:
    """Of two modules with one source: buffers that came out the same become one."""
    for a, b in zip(known.modules(), new.modules(), strict=True):
        for name in getattr(b, "packed_names", ()):
            one, two = a._buffers.get(name), b._buffers.get(name)
            if one is not None and two is not None and one.shape == two.shape and torch.equal(one, two):
                b._buffers[name] = one


def _tensors(module: nn.Module) -> tuple[Tensor, ...]:
    """What its weights are, or are computed from."""
    if isinstance(module, (nn.Linear, nn.Embedding, nn.EmbeddingBag)):
        if not parametrize.is_parametrized(module, "weight"):
            return (module.weight,)
        module = module.parametrizations.weight  # type: ignore[union-attr,assignment]
    return tuple(p for p in module.parameters() if p.dim() != 1)


def _source(module: nn.Module) -> tuple[int, ...]:
    return tuple(map(id, _tensors(module)))


def _compute_weights(module: nn.Module) -> None:
    """Of the old weight_norm and spectral_norm, which do so before each forward."""
    for hook in module._forward_pre_hooks.values():
        if is_norm(hook):
            hook(module, ())


# ---- The layers of nn.Transformer


def _leave_fast_path(root: nn.Module) -> None:
    """Encoder layers with a converted part must not give their weights to the fused float kernel."""
    for module in root.modules():
        if isinstance(module, (nn.TransformerEncoderLayer, nn.TransformerEncoder)) and any(
            isinstance(m, QuantizedModule) for m in module.modules()
        ):
            if isinstance(module, nn.TransformerEncoderLayer):
                module.activation_relu_or_gelu = 0
            else:
                module.use_nested_tensor = False
