"""Names: nodes have those of the modules that they come from, outputs those of the structure that forward returns."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

import torch
from torch.utils import _pytree as pytree

__all__ = ["Names", "output_names"]

# Where the parameter is that a layer is named after: what holds it is the layer.
_WEIGHT_AT = {
    "linear": 1, "conv1d": 1, "conv2d": 1, "convolution": 1, "conv_transpose1d": 1, "conv_transpose2d": 1, "prelu": 1,
    "batch_norm": 1, "_native_batch_norm_legit_no_training": 1, "native_group_norm": 1, "instance_norm": 1,
    "layer_norm": 2, "native_layer_norm": 2, "group_norm": 2, "rms_norm": 2,
    "embedding": 0, "lstm": 2, "gru": 2, "rnn": 2,
}  # fmt: skip


class Names:
    """The names of a program's nodes."""

    def __init__(self, exported: Any) -> None:
        nodes = exported.graph.nodes
        self.placeholders = [node for node in nodes if node.op == "placeholder"]
        specs = exported.graph_signature.input_specs
        self.targets: dict[Any, str] = {  # of parameters, buffers and constants: their names in the module
            node: str(spec.target)
            for node, spec in zip(self.placeholders, specs, strict=True)
            if spec.kind.name != "USER_INPUT" and spec.target
        }

    def of(self, node: Any) -> str:
        """``encoder.layer.0.query`` of the module's own op, ``encoder.layer.0.softmax`` of another one in it."""
        target = getattr(node.target, "overloadpacket", node.target)
        op = re.sub(r"^rnn_\w+", "rnn", getattr(target, "__name__", str(target)).rpartition(".")[2])
        path = _path(node)
        weight = self._weight(node, op)
        if weight is not None:
            owner, _, parameter = weight.rpartition(".")
            if owner == path or owner.startswith(f"{path}.") or not path:
                part = re.sub(r"_?(weight|weight_ih_l0|scale)$", "", parameter)
                return ".".join(word for word in (owner, part) if word) or op
            return path  # a weight that another module has too
        return f"{path}.{op}" if path else op

    def _weight(self, node: Any, op: str) -> str | None:
        at = _WEIGHT_AT.get(op)
        if at is None:
            return None
        arguments = list(node.args)
        weight = arguments[at] if at < len(arguments) else node.kwargs.get("weight")
        if isinstance(weight, (list, tuple)):
            weight = weight[0] if weight else None
        return self.targets.get(weight) if isinstance(weight, torch.fx.Node) else None


def _path(node: Any) -> str:
    """Return the path of the innermost module."""
    stack = node.meta.get("nn_module_stack") or {}
    paths = [str(path) for key, (path, _) in stack.items() if not str(key).startswith("_empty_nn_module_stack")]
    return re.sub(r"^L\['self'\]\.?|@\d+", "", paths[-1]) if paths else ""


def output_names(spec: Any, count: int) -> list[str]:
    """A name for each tensor: keys and places, with dots between."""
    leaves = list(range(spec.num_leaves))
    names = [""] * len(leaves)
    _name(pytree.tree_unflatten(leaves, spec), "", names)
    if count != len(names):
        return [f"output_{i}" for i in range(count)]
    plain = {"": "output"} if count == 1 else {}
    result = [plain.get(name, f"output_{name}" if name[:1].isdigit() or not name else name) for name in names]
    return result if len(set(result)) == count else [f"output_{i}" for i in range(count)]


def _name(item: Any, path: str, names: list[str]) -> None:
    def inner(key: Any, part: Any) -> None:
        _name(part, f"{path}.{key}" if path else str(key), names)

    if isinstance(item, bool):
        return
    if isinstance(item, int):
        names[item] = path
    elif isinstance(item, Mapping):
        for key, part in item.items():
            inner(key, part)
    elif hasattr(item, "_fields"):
        for key in item._fields:
            inner(key, getattr(item, key))
    elif isinstance(item, (list, tuple)):
        for i, part in enumerate(item):
            inner(i, part)
    elif dataclasses.is_dataclass(item):
        for field in dataclasses.fields(item):
            inner(field.name, getattr(item, field.name))
