"""Weights of converted modules as float tensors: what is written to them goes into the module."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

__all__ = ["Live", "LiveWeight", "plain"]

_MOVES = ("resize_", "resize_as_")  # would give the tensor other memory than the module looks at
_SETS_DATA = Tensor.data.__set__  # type: ignore[attr-defined]
_OUTSIDE = ("numpy", "__array__")  # of numpy, whose writes nobody sees


@dataclasses.dataclass(frozen=True)
class _Source:
    """The module that a weight is of; ``whole`` is its float copy, of which a tensor may be a part."""

    module: Any
    name: str
    whole: Tensor

    def write(self) -> None:
        self.module.write(self.name, self.whole)

    def replace(self, part: Tensor, data: Any) -> None:
        """Take other values, as ``weight.data = data`` asks for."""
        if part.shape != self.whole.shape:
            raise RuntimeError(f"data of a part of {self.name} is set; set that of the whole, or write to the part")
        self.module.write(self.name, data)
        with torch.inference_mode(False), torch.no_grad():
            self.whole.copy_(plain(data))


class LiveWeight(Tensor):
    """A float32 copy of an int8 weight.

    Each write to it, or to a view of it, is quantized into the module that it comes from. NumPy arrays of it are
    read-only. What is computed from it is a plain tensor.
    """

    _source: _Source

    @staticmethod
    def make(module: Any, name: str, values: Tensor) -> LiveWeight:
        """Wrap ``values``, those of ``module``'s weight ``name``."""
        return _wrapped(values, _Source(module, name, values))

    def whole_of(self) -> tuple[Any, str] | None:
        """Return the module and the name that it is the whole weight of; None if it is a part, or turned."""
        with torch._C.DisableTorchFunctionSubclass():
            whole = self._source.whole
            same = self.shape == whole.shape and self.stride() == whole.stride() and self.dtype == whole.dtype
            return (self._source.module, self._source.name) if same else None

    def set_(self, *arguments: Any, **keywords: Any) -> Tensor:
        """Refuse other memory."""
        raise self._cannot("set_")

    def _cannot(self, name: str) -> RuntimeError:
        return RuntimeError(f"{name}() on {self._source.name} of a converted module; copy_() writes to it")

    @classmethod
    def __torch_function__(
        cls, func: Callable[..., Any], types: Iterable[type], args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        live = [value for value in _tensors((args, tuple(kwargs.values()))) if isinstance(value, LiveWeight)]
        with torch._C.DisableTorchFunctionSubclass():
            if func == _SETS_DATA and isinstance(args[0], LiveWeight):
                return args[0]._source.replace(args[0], args[1])
            if name in _MOVES and isinstance(args[0], LiveWeight):
                raise args[0]._cannot(name)
            if name in ("__deepcopy__", "__reduce_ex__"):
                return func(plain(args[0]), *args[1:], **kwargs)
            before = [value._version for value in live]
            result = func(*args, **kwargs)
            if name in _OUTSIDE and isinstance(result, np.ndarray):
                result.flags.writeable = False
            changed = {
                id(value._source): value._source
                for value, version in zip(live, before, strict=True)
                if value._version != version
            }
            for source in changed.values():
                source.write()
            return _track(result, live)


class Live:
    """An attribute of a module: a tensor of its ``entries`` as a LiveWeight. None where the module has none."""

    def __init__(self, text: str = "") -> None:
        self.__doc__ = text

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, module: Any, owner: type | None = None) -> Any:
        return self if module is None else module.read(self.name)

    def __set__(self, module: Any, value: Any) -> None:
        module.write(self.name, value)


def plain(value: Tensor) -> Tensor:
    """Return the same memory as a tensor of no other type, without a gradient."""
    with torch._C.DisableTorchFunctionSubclass():
        value = value.detach()
        return value if type(value) is Tensor else value.as_subclass(Tensor)


def _wrapped(values: Tensor, source: _Source) -> LiveWeight:
    result = values.as_subclass(LiveWeight)
    result._source = source
    result._is_param = True  # type: ignore[attr-defined]  # an nn.Parameter to isinstance, as in the float module
    return result


def _tensors(values: Any) -> Iterator[Tensor]:
    if isinstance(values, Tensor):
        yield values
    elif isinstance(values, (tuple, list)):
        for value in values:
            yield from _tensors(value)


def _track(result: Any, live: list[LiveWeight]) -> Any:
    """Make views of a weight write to it, too."""
    if isinstance(result, (tuple, list)) and any(isinstance(value, Tensor) for value in result):
        tracked = [_track(value, live) for value in result]
        return tracked if isinstance(result, list) else _as_tuple(result, tracked)
    if type(result) is not Tensor and type(result) is not LiveWeight:
        return result
    if isinstance(result, LiveWeight) and hasattr(result, "_source"):
        return result
    for value in live:
        if _memory(result) == _memory(value) != 0:
            return _wrapped(result, value._source)
    return plain(result) if isinstance(result, LiveWeight) else result


def _as_tuple(result: Any, values: list[Any]) -> Any:
    """Named tuples keep their type."""
    return tuple(values) if type(result) is tuple else type(result)(values)


def _memory(value: Tensor) -> int:
    return value.untyped_storage().data_ptr() if value.layout == torch.strided else 0
