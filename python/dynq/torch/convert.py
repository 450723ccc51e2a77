"""The conversion of a model: its modules become dynq's; what does not says why."""

from __future__ import annotations

import contextlib
import dataclasses
import fnmatch
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.nn.utils import parametrize

from ..errors import Error, NonFiniteError, UnsupportedModelError
from ..quantization.options import FloatOrInt8
from ..report import MOST_FLOAT, Report, Row, percent, shares
from ._kinds import Kind, find_kind
from ._module import QuantizedModule, computes_weight, copy_model, take_hooks
from ._packed import pack, quantize_rows
from ._threads import torch_threads

__all__ = ["convert", "report"]

_WHY = "_dynq_why"  # attribute of a module that stays float
_NO_MODULE = "dynq has no module for it"


def convert(
    module: nn.Module,
    spec: dict[Any, bool] | None,
    keep_float: tuple[str, ...],
    first_layer: FloatOrInt8 | None,
    inplace: bool,
    strict: bool,
) -> tuple[nn.Module, list[str]]:
    """Return what quantize_dynamic does, and what it warns of. ``spec``: whether types and names are converted."""
    plan = _Plan(module, spec, keep_float, first_layer)
    if strict and (text := plan.float_weights(strict=True)):
        plan.problems.setdefault(text, []).append(type(module).__name__)
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
    texts = [_text(plan.problems, "stay float")] if plan.problems else []
    if not plan.converted and not plan.problems:
        texts.append("no module was converted: none is of a type that was asked for, or keep_float has all of them")
    if text := plan.float_weights():
        texts.append(text)
    return result, texts


def report(module: nn.Module) -> Report:
    """Return what each module with weights became, and why: print it. Bytes are of weights, before as float32.

    A module that stays float with at least 1 % of the weights has its share there.
    """
    rows = []
    for name, m in module.named_modules():
        if isinstance(m, QuantizedModule):
            rows.append(dataclasses.replace(m.row(name), kind=type(m).__name__, quantized=True))
        elif own := list(m.parameters(recurse=False)):
            size = sum(0 if is_lazy(p) else p.numel() * p.element_size() for p in own)
            why = getattr(m, _WHY, "") or (_NO_MODULE if any(_is_matrix(p) for p in own) and not find_kind(m) else "")
            rows.append(Row(name, type(m).__name__, why, size, size))
    total = sum(row.bytes_before for row in rows)
    return Report(tuple(_with_share(row, total) for row in rows), shares_in_reasons=True)


def _with_share(row: Row, total: int) -> Row:
    if row.quantized or 100 * row.bytes_before < total or not total:
        return row
    share = f"{percent(row.bytes_before / total)} of the weights"
    return dataclasses.replace(row, reason="; ".join(text for text in (row.reason, share) if text))


def _is_matrix(weight: Tensor) -> bool:
    """Tell whether it is a weight of a product or a table: of two dimensions or more."""
    return not is_lazy(weight) and weight.dim() > 1


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


@dataclasses.dataclass
class _Float:
    """A float tensor of a model."""

    kind: str  # of its module
    count: int
    matrix: bool
    module: int  # id


class _Plan:
    """Convert the modules of a model."""

    def __init__(
        self,
        root: nn.Module,
        spec: dict[Any, bool] | None,
        keep_float: tuple[str, ...],
        first_layer: FloatOrInt8 | None,
    ) -> None:
        self.root = root
        self.first_layer = first_layer
        self.targets: deque[_Target] = deque()
        self.why: dict[str, str] = {}  # of what stays float
        self.problems: dict[str, list[str]] = {}
        self.converted = 0
        self.all_asked = spec is None
        self._kept_modules: set[int] = set()  # by id: what stays float as the user says,
        self._told: set[int] = set()  # for another reason that is known,
        self._done: set[int] = set()  # and what does not
        names: dict[nn.Module, list[str]] = {}
        for name, module in root.named_modules(remove_duplicate=False):
            names.setdefault(module, []).append(name)
        unused = set(keep_float) | {key for key in spec or () if isinstance(key, str)}
        inside: set[nn.Module] = set()  # of a module that converts them itself, or needs them as they are
        for module, of_module in names.items():
            kind = find_kind(module)
            keep = self._kept(module, kind, of_module, keep_float, unused)
            if "" in keep:
                self._kept_modules.update(map(id, module.modules()))
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
        self._floats = list(_float_tensors(root))
        self._shared = _Shared(self.targets, first_layer)

    def _kept(
        self, module: nn.Module, kind: Kind | None, names: list[str], keep_float: tuple[str, ...], unused: set[str]
    ) -> dict[str, str]:
        """The weights that stay float, by their pattern; "" stands for the module."""
        result = {}
        weights = kind.weights(module) if kind is not None and isinstance(module, _WEIGHT_BY_WEIGHT) else ()
        for pattern in keep_float:
            for name in names:
                if any(_matches(part, pattern) for part in _with_parents(name)):
                    unused.discard(pattern)
                    result[""] = pattern
                for weight in weights:
                    if _matches(f"{name}.{weight}" if name else weight, pattern):
                        unused.discard(pattern)
                        result.setdefault(weight, pattern)
        return result

    def _set_why(self, names: list[str], why: str, module: nn.Module) -> None:
        self._told.update(map(id, module.modules()))
        prefix = f"{names[0]}." if names[0] else ""
        for name, _ in module.named_modules():
            self.why[prefix + name if name else names[0]] = why

    def _convert(self, target: _Target) -> QuantizedModule | None:
        """Convert a module; None if that failed: a weight is not finite, or not what its module says."""
        module = target.module
        try:
            new = self._shared.convert(target)
        except (ValueError, TypeError, AttributeError, IndexError, RuntimeError) as error:
            finite = not isinstance(error, NonFiniteError)
            reason = f"{type(error).__name__}: {error}" if finite else "its weight holds a NaN or an infinity"
            self.problems.setdefault(reason, []).append(target.name or type(module).__name__)
            self._set_why([target.name], reason, module)
            return None
        self.converted += 1
        self._done.update(map(id, module.modules()))
        return new

    def float_weights(self, strict: bool = False) -> str:
        """Say what stays float without anybody asking for it, if it is over 5 % of the weights; else "".

        ``strict``: before anything is converted, and only what nothing else is said of.
        """
        done = {id(m) for target in self.targets for m in target.module.modules()} if strict else self._done
        left = self._kept_modules | done | (self._told if strict else set())
        total = sum(weight.count for weight in self._floats)
        kinds: dict[str, int] = {}
        for weight in self._floats:
            if weight.matrix and weight.module not in left:
                kinds[weight.kind] = kinds.get(weight.kind, 0) + weight.count
        if not self.all_asked or sum(kinds.values()) <= MOST_FLOAT * total:
            return ""
        return shares(kinds, total)

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
                take_hooks(target.module, new, inplace=True)
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
                take_hooks(target.module, new, inplace=False)
                memo[id(target.module)] = new
        try:
            return self._explain(copy_model(self.root, memo))
        except Exception as error:  # of any part of a user's module
            raise Error(f"the model cannot be copied ({error}); inplace=True converts it without a copy") from error

    def _explain(self, result: nn.Module) -> nn.Module:
        for name, module in result.named_modules():
            if name in self.why:
                setattr(module, _WHY, self.why[name])
        return result


def _float_tensors(root: nn.Module) -> Iterator[_Float]:
    """Yield the parameters of a model, each once."""
    seen: set[int] = set()
    for module in root.modules():
        plain = find_kind(module) is not None or set(module._parameters) <= {"weight", "bias"}
        for name, weight in module._parameters.items():
            if weight is None or id(weight) in seen or is_lazy(weight) or not weight.is_floating_point():
                continue
            seen.add(id(weight))
            kind = type(module).__name__ if plain else f"{type(module).__name__}.{name}"
            yield _Float(kind, weight.numel(), weight.dim() > 1, id(module))


def _matches(name: str, pattern: str) -> bool:
    return bool(name) and (name == pattern or fnmatch.fnmatchcase(name, pattern))


def _with_parents(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[: i + 1]) for i in range(len(parts))]


def _asked(
    root: nn.Module, module: nn.Module, names: list[str], spec: dict[Any, bool] | None, unused: set[str]
) -> bool:
    """Return what was asked of the module or the nearest one around it; its name comes before its type."""
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


_WEIGHT_BY_WEIGHT = (nn.RNNBase, nn.RNNCellBase)  # keep_float may name their weights


class _Shared:
    """Converts modules; those with one weight get one packed weight."""

    def __init__(self, targets: Iterable[_Target], first_layer: FloatOrInt8 | None) -> None:
        self.first_layer = first_layer
        users: dict[tuple[int, ...], list[_Target]] = {}
        for target in targets:
            users.setdefault(_ids(_source(target)), []).append(target)
        self.linear = {key for key, of in users.items() if any(isinstance(t.module, nn.Linear) for t in of)}
        self.several = {key for key, of in users.items() if len(of) > 1}
        # Sources stay alive as long as their addresses are keys.
        self._alive = [_source(of[0]) for key, of in users.items() if key in self.several]
        self._made: dict[Any, dict[str, Tensor]] = {}
        self._modules: dict[tuple[int, ...], QuantizedModule] = {}

    def convert(self, target: _Target) -> QuantizedModule:
        key = _ids(_source(target))
        with _computed_weights(target.module):
            new = target.kind.convert(target.module, _Packing(self, target, key))
        if key in self.several and not target.kind.tied:
            _share(self._modules.setdefault(key, new), new)
        return new

    def once(self, target: _Target, key: Any, make: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
        """Quantize a weight that several modules have once."""
        if key[0] not in self.several:
            return make()
        computed = target.module._parameters.get("weight") is None
        if key in self._made and not computed:
            return self._made[key]
        new = make()
        known = self._made.setdefault(key, new)
        # One source may give other weights by other parametrizations or masks.
        same = all(known[name].shape == new[name].shape and torch.equal(known[name], new[name]) for name in new)
        return known if same else new


@dataclasses.dataclass(frozen=True)
class _Packing:
    """Quantizes the weights of one module."""

    shared: _Shared
    target: _Target
    source: tuple[int, ...]

    @property
    def keep(self) -> frozenset[str]:
        return self.target.keep

    @property
    def first_layer(self) -> str | None:
        return self.shared.first_layer

    def linear(self, weight: Tensor) -> Tensor:
        key = self.source, tuple(weight.shape), weight.stride()
        return self.shared.once(self.target, key, lambda: {"packed": pack(weight)})["packed"]

    def table(self, weight: Tensor) -> dict[str, Tensor]:
        if self.source in self.shared.linear:
            return {"packed": self.linear(weight)}
        names = ("rows", "row_scale")
        return self.shared.once(
            self.target, (self.source,), lambda: dict(zip(names, quantize_rows(weight), strict=True))
        )


def _share(known: nn.Module, new: nn.Module) -> None:
    """Share buffers that are equal in two modules with one source."""
    for a, b in zip(known.modules(), new.modules(), strict=True):
        for name in getattr(b, "packed_names", ()):
            one, two = a._buffers.get(name), b._buffers.get(name)
            if one is not None and two is not None and one.shape == two.shape and torch.equal(one, two):
                b._buffers[name] = one


def _source(target: _Target) -> tuple[Any, ...]:
    """Return what a module's weights are, or are computed from."""
    module: nn.Module = target.module
    if target.kind.tied:
        weight = module._parameters.get("weight")
        if weight is not None:
            return (weight,)
        if parametrize.is_parametrized(module, "weight"):
            module = module.parametrizations.weight  # type: ignore[union-attr,assignment]
    return tuple(p for p in module.parameters() if p.dim() != 1) or (target.module,)


def _ids(values: Iterable[Any]) -> tuple[int, ...]:
    return tuple(map(id, values))


@contextlib.contextmanager
def _computed_weights(module: nn.Module) -> Iterator[None]:
    """Have weights that hooks compute before each forward computed, and leave the module as it was behind."""
    hooks = [hook for hook in module._forward_pre_hooks.values() if computes_weight(hook)]
    before = {name: list(value) if isinstance(value, list) else value for name, value in vars(module).items()}
    try:
        for hook in hooks:
            hook(module, ())
        yield
    finally:
        if hooks:
            vars(module).update(before)


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
