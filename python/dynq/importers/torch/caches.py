"""Caches of transformers as trees of tensors, so that torch.export takes and gives them."""

from __future__ import annotations

import copy
import sys
from typing import Any

import torch
from torch.utils import _pytree as pytree

__all__ = ["register_caches"]

_MODULE = "transformers.cache_utils"
_ROOTS = ("Cache", "CacheLayerMixin")


class _Form:
    """A cache without its tensors. Two are equal if they have the same parts."""

    def __init__(self, template: Any, names: tuple[str, ...]) -> None:
        self.template = template
        self.names = names

    def __eq__(self, other: object) -> bool:
        same = isinstance(other, _Form) and type(self.template) is type(other.template)
        return same and isinstance(other, _Form) and self.names == other.names

    def __hash__(self) -> int:
        return hash((type(self.template), self.names))


def register_caches() -> None:
    """Tell torch's trees of each class of caches, and of their layers, that transformers has loaded."""
    module = sys.modules.get(_MODULE)
    roots = tuple(kind for name in _ROOTS if isinstance(kind := getattr(module, name, None), type))
    for kind in vars(module).values() if roots else ():
        if isinstance(kind, type) and issubclass(kind, roots) and kind not in pytree.SUPPORTED_NODES:
            pytree.register_pytree_node(kind, _flatten, _unflatten, flatten_with_keys_fn=_with_keys)


def _flatten(cache: Any) -> tuple[list[Any], _Form]:
    template = copy.copy(cache)
    template.__dict__ = dict(cache.__dict__)
    names = tuple(name for name, value in cache.__dict__.items() if _holds(value))
    for name in names:
        template.__dict__[name] = None
    return [cache.__dict__[name] for name in names], _Form(template, names)


def _with_keys(cache: Any) -> tuple[list[tuple[Any, Any]], _Form]:
    parts, form = _flatten(cache)
    return [(pytree.GetAttrKey(name), part) for name, part in zip(form.names, parts, strict=True)], form


def _unflatten(parts: Any, form: _Form) -> Any:
    """Return the cache; a mapping, where numbers are in the place of tensors: to name these."""
    values = dict(zip(form.names, parts, strict=True))
    if values and all(type(leaf) is int for leaf in pytree.tree_leaves(values)):
        return values
    cache = copy.copy(form.template)
    cache.__dict__ = {**form.template.__dict__, **values}
    return cache


def _holds(value: Any) -> bool:
    """Return whether a value is a tensor, or has one somewhere."""
    return any(isinstance(leaf, torch.Tensor) for leaf in pytree.tree_leaves(value))
