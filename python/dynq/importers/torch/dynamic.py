"""``dynamic_shapes`` of from_torch: torch.export's own form, names in the place of its Dims, and short forms."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch.utils import _pytree as pytree

__all__ = ["Given", "given"]

_FORMS = 'None, "auto", "batch", {axis: name} for all inputs, or the form of torch.export, with names or Dims'


class Given:
    """Example inputs that suit an export, and what to call their open sizes."""

    def __init__(self, args: tuple[Any, ...], kwargs: dict[str, Any], shapes: Any, names: list[dict[int, str]]) -> None:
        self.args = args
        self.kwargs = kwargs
        self.shapes = shapes  # as torch.export takes it
        self.names = names  # for each leaf of the inputs, in their order: of the sizes along axes


def given(module: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], dynamic_shapes: Any) -> Given:
    """Brings the arguments into the order of forward's parameters, and the shapes into torch.export's form."""
    signature = inspect.signature(module.forward)
    try:
        bound = signature.bind(*args, **kwargs)
    except TypeError as error:
        raise ValueError(f"example_inputs and kwargs do not fit the module's forward{signature}: {error}") from None
    order = [name for name in signature.parameters if name in kwargs] + [
        name for name in kwargs if name not in signature.parameters
    ]
    named = {name: kwargs[name] for name in order}
    forms = (str, Mapping, tuple, list)
    if dynamic_shapes is None or not isinstance(dynamic_shapes, forms):  # such as torch.export.ShapesCollection
        return Given(args, named, dynamic_shapes, [])
    walk = _Walk()
    values = dict(bound.arguments)
    result = walk.all(values, dynamic_shapes)
    if all(value is old for value, old in walk.enlarged):
        return Given(args, named, result, walk.names)
    larger = iter([value for value, _ in walk.enlarged])
    leaves, spec = pytree.tree_flatten((args, named))
    args, named = pytree.tree_unflatten([next(larger) for _ in leaves], spec)
    return Given(args, named, result, walk.names)


class _Walk:
    """Goes through arguments and their shapes at once."""

    def __init__(self) -> None:
        self.names: list[dict[int, str]] = []
        self.enlarged: list[tuple[Any, Any]] = []  # each leaf and what it was

    def all(self, values: dict[str, Any], shapes: Any) -> Any:
        if isinstance(shapes, str):
            if shapes not in ("auto", "batch"):
                raise ValueError(f"dynamic_shapes is {shapes!r}; expected {_FORMS}")
            return {name: self._each(value, shapes, name) for name, value in values.items()}
        if isinstance(shapes, Mapping) and shapes and all(isinstance(key, int) for key in shapes):
            return {name: self._each(value, dict(shapes), name) for name, value in values.items()}
        if isinstance(shapes, Mapping):
            unknown = [name for name in shapes if name not in values]
            if unknown:
                raise ValueError(f"dynamic_shapes has {unknown[0]!r}; the inputs are {', '.join(map(repr, values))}")
            return {name: self._tree(value, shapes.get(name), name) for name, value in values.items()}
        if len(shapes) != len(values):
            raise ValueError(f"dynamic_shapes has {len(shapes)} entries; there are {len(values)} inputs")
        return {
            name: self._tree(value, shape, name) for (name, value), shape in zip(values.items(), shapes, strict=True)
        }

    def _each(self, value: Any, form: str | dict[int, Any], name: str) -> Any:
        """One form for every tensor."""
        if isinstance(value, torch.Tensor):
            rank = value.ndim
            if form == "auto":
                return self._tensor(value, dict.fromkeys(range(rank), torch.export.Dim.AUTO), name)
            axes = {0: "batch"} if isinstance(form, str) else form
            return self._tensor(value, {axis: dim for axis, dim in axes.items() if -rank <= axis < rank}, name)
        return self._inner(value, lambda key, item: self._each(item, form, f"{name}[{key!r}]"))

    def _tree(self, value: Any, shapes: Any, name: str) -> Any:
        if isinstance(value, torch.Tensor):
            return self._tensor(value, shapes, name)
        if shapes is None:
            return self._inner(value, lambda key, item: self._tree(item, None, name))
        if isinstance(value, (Mapping, list, tuple)) and isinstance(shapes, (Mapping, list, tuple)):
            try:
                return self._inner(value, lambda key, item: self._tree(item, shapes[key], f"{name}[{key!r}]"))
            except (LookupError, TypeError):
                raise ValueError(f"dynamic_shapes[{name!r}] is {shapes!r}, which does not fit the input") from None
        raise ValueError(f"dynamic_shapes[{name!r}] is {shapes!r}; the input is of type {type(value).__name__}")

    def _inner(self, value: Any, function: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: function(key, item) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            parts = [function(i, item) for i, item in enumerate(value)]
            return tuple(parts) if isinstance(value, tuple) else parts
        for leaf in pytree.tree_leaves(value):
            self._leaf(leaf, leaf, {})
        return None

    def _leaf(self, value: Any, old: Any, names: dict[int, str]) -> None:
        self.names.append(names)
        self.enlarged.append((value, old))

    def _tensor(self, value: Any, shapes: Any, name: str) -> Any:
        if shapes is None:
            self._leaf(value, value, {})
            return None
        if not isinstance(shapes, (Mapping, list, tuple)):
            raise ValueError(f"dynamic_shapes[{name!r}] is {shapes!r}; expected {{axis: name}} or a name for each axis")
        items = shapes.items() if isinstance(shapes, Mapping) else enumerate(shapes)
        result: dict[int, Any] = {}
        names: dict[int, str] = {}
        larger = value
        for axis, dim in items:
            if not isinstance(axis, int) or not -value.ndim <= axis < value.ndim:
                raise ValueError(f"dynamic_shapes[{name!r}] has axis {axis!r}; the input has {value.ndim}")
            axis %= value.ndim
            if isinstance(dim, str):
                names[axis], dim = dim, torch.export.Dim.DYNAMIC
            elif isinstance(dim, type) or hasattr(dim, "__name__"):  # a Dim, or one that is derived from another
                names[axis] = str(dim.__name__)
            if axis in names and value.shape[axis] == 1:  # torch takes a size of 1 for fixed
                larger = torch.cat([larger, larger], axis)
            result[axis] = dim
        self._leaf(larger, value, names)
        return result
