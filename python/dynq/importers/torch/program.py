"""A module as a program of torch.export: one graph of functional ops, with names of its open sizes."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from typing import Any

import torch

from ...errors import FileAccessError
from ..errors import InvalidModelError, UnsupportedModelError
from .dynamic import given

__all__ = ["Program", "export"]

_SHOWN = 12  # lines of torch's message


class Program:
    """What torch.export gives, in functional form, and the names of sizes of its inputs."""

    def __init__(self, name: str, exported: Any, names: list[dict[int, str]]) -> None:
        self.name = name
        self.exported = exported
        self.names = names


def export(
    module: Any, example_inputs: Any, kwargs: Mapping[str, Any] | None, dynamic_shapes: Any, keep: Any
) -> Program:
    """Exports a module, or takes a program or its file as it is. ``keep(op)``: whether an op stays one op."""
    if isinstance(module, (str, os.PathLike)):
        module = _load(module)
    if isinstance(module, torch.export.ExportedProgram):
        if example_inputs is not None or kwargs or dynamic_shapes is not None:
            raise ValueError("an exported program has its inputs; expected no example_inputs, kwargs or dynamic_shapes")
        return Program("the program", _functional(module, keep), [])
    if not isinstance(module, torch.nn.Module):
        raise TypeError(
            f"module is of type {type(module).__name__}; expected a torch.nn.Module, a torch.export.ExportedProgram "
            "or the path of one"
        )
    _check_module(module)
    args = _arguments(example_inputs, kwargs)
    inputs = given(module, args, kwargs or {}, dynamic_shapes)
    name = type(module).__name__
    fast = torch.backends.mha.get_fastpath_enabled()
    from .whole import WholeLayers

    torch.backends.mha.set_fastpath_enabled(False)  # one op for a whole layer, which says less than its parts
    try:
        with warnings.catch_warnings(), torch.no_grad(), WholeLayers():
            warnings.simplefilter("ignore")
            exported = torch.export.export(
                module, inputs.args, inputs.kwargs, dynamic_shapes=inputs.shapes, strict=False
            )
    except Exception as error:  # of many types: whatever the module and the tracer raise
        raise _failed(name, error) from error
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
    return Program(name, _functional(exported, keep), inputs.names)


def _load(path: str | os.PathLike[str]) -> Any:
    if not os.path.isfile(path):
        raise FileAccessError(f"{os.fspath(path)} is no file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.export.load(path)
    except Exception as error:  # of many types: whatever the reader of a damaged file raises
        raise InvalidModelError(f"{os.fspath(path)} is no program of torch.export: {error}") from error


def _functional(exported: Any, keep: Any) -> Any:
    """No op writes to its inputs any more, and those that are not kept are in their parts."""
    table = torch.export.default_decompositions()
    for op in list(table):
        if keep(op):
            table.pop(op)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return exported.run_decompositions(table)
    except Exception as error:
        raise _failed("the program", error) from error


def _failed(name: str, error: Exception) -> UnsupportedModelError:
    lines = [line for line in str(error).strip().splitlines() if line.strip()]
    text = "\n  ".join(lines[:_SHOWN]) or type(error).__name__
    return UnsupportedModelError(f"torch.export cannot export {name}:\n  {text}", {"torch.export": lines})


def _check_module(module: Any) -> None:
    training = [name or type(module).__name__ for name, part in module.named_modules() if part.training]
    if training:
        more = f" and {len(training) - 3} more" if len(training) > 3 else ""
        raise ValueError(f"module is in training mode ({', '.join(training[:3])}{more}); call module.eval() first")
    for kind, tensors in (("parameter", module.named_parameters()), ("buffer", module.named_buffers())):
        for name, tensor in tensors:
            if tensor.device.type != "cpu":
                raise ValueError(f'{kind} {name!r} is on {tensor.device}; expected "cpu": module.cpu()')


def _arguments(example_inputs: Any, kwargs: Any) -> tuple[Any, ...]:
    if kwargs is not None and not isinstance(kwargs, Mapping):
        raise TypeError(f"kwargs is of type {type(kwargs).__name__}; expected a mapping of names to inputs")
    if example_inputs is None and not kwargs:
        raise ValueError("example_inputs is missing; expected a tuple of tensors as the module's forward takes them")
    if isinstance(example_inputs, torch.Tensor):
        example_inputs = (example_inputs,)
    args = () if example_inputs is None else example_inputs
    if not isinstance(args, (tuple, list)):
        raise TypeError(f"example_inputs is of type {type(args).__name__}; expected a tuple of tensors")
    leaves = torch.utils._pytree.tree_leaves((tuple(args), dict(kwargs or {})))
    if not any(isinstance(leaf, torch.Tensor) for leaf in leaves):
        raise ValueError("example_inputs has no tensor; expected a tuple of tensors as the module's forward takes them")
    for i, leaf in enumerate(leaves):
        if isinstance(leaf, torch.Tensor):
            if leaf.device.type != "cpu":
                raise ValueError(f'input {i} of example_inputs and kwargs is on {leaf.device}; expected "cpu"')
        elif leaf is not None and not isinstance(leaf, (bool, int, float, str)):
            raise TypeError(
                f"input {i} of example_inputs and kwargs is of type {type(leaf).__name__}; expected tensors"
            )
    return tuple(args)
