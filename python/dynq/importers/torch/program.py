"""A module as a program of torch.export: one graph of functional ops, with names of its open sizes."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import torch

from ...conversion import InvalidModelError, UnsupportedModelError
from ...errors import FileAccessError
from .archive import check_archive
from .caches import register_caches
from .dynamic import given

__all__ = ["Program", "export"]

_SHOWN = 12  # lines of torch's message


class Program:
    """A program of torch.export, in functional form, and the names of its inputs' sizes."""

    def __init__(self, name: str, exported: Any, names: list[dict[int, str]]) -> None:
        self.name = name
        self.exported = exported
        self.names = names


def export(
    module: Any,
    example_inputs: Any,
    kwargs: Mapping[str, Any] | None,
    dynamic_shapes: Any,
    keep: Any,
    trust: bool = False,
) -> Program:
    """Exports a module, or takes a program or its file as it is. ``keep(op)``: whether an op stays one op."""
    if isinstance(module, (str, os.PathLike)):
        module = _load(module, trust)
    if isinstance(module, torch.export.ExportedProgram):
        if example_inputs is not None or kwargs or dynamic_shapes is not None:
            raise ValueError("an exported program has its inputs; expected no example_inputs, kwargs or dynamic_shapes")
        return Program("the program", _functional(module, keep), [])
    if not isinstance(module, torch.nn.Module):
        raise TypeError(
            f"module is of type {type(module).__name__}; expected a torch.nn.Module, a torch.export.ExportedProgram "
            "or the path of one"
        )
    if isinstance(module, (torch.nn.DataParallel, torch.nn.parallel.DistributedDataParallel)):
        module = module.module
    _check_module(module)
    register_caches()
    if isinstance(example_inputs, Mapping):  # what a tokenizer gives
        example_inputs, kwargs = None, {**example_inputs, **(kwargs or {})}
    args, by_name = _cloned(_arguments(example_inputs, kwargs), dict(kwargs or {}))
    inputs = given(module, args, by_name, dynamic_shapes)
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
    _drop_unused(exported)
    return Program(name, _functional(exported, keep), inputs.names)


def _drop_unused(exported: Any) -> None:
    """Take buffers out that nothing reads and no state_dict has: PyTorch's decompositions trip over them."""
    specs = exported.graph_signature.input_specs
    placeholders = [node for node in exported.graph.nodes if node.op == "placeholder"]
    for node, spec in list(zip(placeholders, specs, strict=True)):
        if spec.kind.name == "BUFFER" and spec.persistent is False and not node.users:
            exported.graph.erase_node(node)
            specs.remove(spec)
            exported.constants.pop(spec.target, None)
    exported.graph_module.recompile()


def _cloned(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Copy the tensors of examples: torch.export marks those that it gets, and leaves the marks there if it fails."""
    copies: dict[int, torch.Tensor] = {}

    def clone(leaf: Any) -> Any:
        if not isinstance(leaf, torch.Tensor):
            return leaf
        if id(leaf) not in copies:
            copies[id(leaf)] = leaf.detach().clone()
        return copies[id(leaf)]

    result: tuple[tuple[Any, ...], dict[str, Any]] = torch.utils._pytree.tree_map(clone, (args, kwargs))
    return result


def _load(path: str | os.PathLike[str], trust: bool) -> Any:
    """Load a program; the bytes that are checked are those that PyTorch gets."""
    name = os.fspath(path)
    if not os.path.isfile(path):
        raise FileAccessError(f"{name} is no file")
    with open(path, "rb") as file:
        data = file.read()
    causes: list[BaseException] = []
    try:
        if not trust:
            check_archive(data, name)
        with warnings.catch_warnings(), _logged(causes):
            warnings.simplefilter("ignore")
            return torch.export.load(io.BytesIO(data))
    except InvalidModelError:
        raise
    except Exception as error:  # of many types: whatever the reader of a damaged file raises
        cause = str(causes[0] if causes else error).partition("\n")[0]
        raise InvalidModelError(f"{name} is no program of torch.export: {cause}") from error


@contextlib.contextmanager
def _logged(causes: list[BaseException]) -> Iterator[None]:
    """Add the errors to ``causes`` that PyTorch logs while it reads a file, and keep them from the terminal."""

    def keep(record: logging.LogRecord) -> bool:
        if record.exc_info and record.exc_info[1] is not None:
            causes.append(record.exc_info[1])
        return False

    logger = logging.getLogger("torch.export")
    logger.addFilter(keep)
    try:
        yield
    finally:
        logger.removeFilter(keep)


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
