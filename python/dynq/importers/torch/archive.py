"""Files of torch.export.save: what in them could run code when PyTorch reads them is refused.

``torch.export.load`` unpickles, loads compiled libraries, evaluates texts (sizes, guards) as Python, looks functions up
by names and imports modules that a file names. A file that torch.export.save wrote of a common model needs none of it
but tensors, numbers and names of operators. That is what these checks leave.
"""

from __future__ import annotations

import ast
import io
import json
import pickle
import re
import warnings
import zipfile
from collections.abc import Iterator
from typing import Any

import torch

from ...conversion import InvalidModelError

__all__ = ["check_archive"]

_SPACES = "aten|prim|prims|quantized_decomposed|higher_order|dynq"
_TARGET = re.compile(
    rf"torch\.ops\.({_SPACES})\.(\w+)(\.(?!__)\w+)?|_operator\.\w+|torch\.sym_\w+|torch\._sym_\w+|math\.(?!_)\w+"
)
_OPERATOR = re.compile(r"_operator\.(attrgetter|methodcaller|itemgetter|call|setitem|delitem|__\w+)")
_TREES = {None, "builtins.tuple", "builtins.list", "builtins.dict", "collections.OrderedDict"}
_SIZES = (ast.Expression, ast.Constant, ast.keyword, ast.Load, ast.BinOp, ast.UnaryOp, ast.operator, ast.unaryop)
_GUARDS = (*_SIZES, ast.Compare, ast.BoolOp, ast.cmpop, ast.boolop, ast.Subscript, ast.Tuple, ast.List)
_METHODS = {"size", "stride", "storage_offset", "dim", "shape", "dtype", "ndim", "device", "numel"}
_GUARD_NAMES = {"L", "len", "int", "float", "bool", "max", "min", "True", "False", "None"}
_PICKLED = "holds pickled objects, which can run code when they are read"


def check_archive(data: bytes, name: str) -> None:
    """Raise an error if a file holds more than tensors, numbers and operators. PyTorch reads the same bytes later."""
    try:
        for entry, content in _entries(data):
            _check_entry(entry, content)
    except _Refused as error:
        raise InvalidModelError(
            f"{name} {error}; if you trust its author, load it with trust=True (dynq: --trust)"
        ) from error


class _Refused(Exception):
    """A file has a part that is not needed. The text is the rest of a sentence about it."""


def _entries(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield the entries as Python finds them and as PyTorch does, which may differ; contents only of what is parsed."""
    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
        if sum(entry.file_size for entry in archive.infolist()) > 2 * len(data) + (1 << 20):
            raise _Refused("grows when it is unpacked, as no file of torch.export.save does")
        for entry in archive.infolist():
            yield entry.filename, archive.read(entry) if _is_read(entry.filename) else b""
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, OSError) as error:
        raise InvalidModelError(f"no program of torch.export: {error}") from error
    try:
        from torch.export.pt2_archive._package import PT2ArchiveReader
    except ImportError:  # an older PyTorch reads with zipfile too
        return
    try:
        with PT2ArchiveReader(io.BytesIO(data)) as reader:
            names = reader.get_file_names()
            for found in names:
                yield found, reader.read_bytes(found) if _is_read(found) else b""
    except (RuntimeError, ValueError):
        return  # of the older format


def _is_read(entry: str) -> bool:
    return entry.endswith((".json", ".pt", ".pth", ".pkl"))


def _check_entry(entry: str, content: bytes) -> None:
    if "aotinductor/" in entry or entry.endswith((".so", ".pkl", ".pth", ".py")):
        raise _Refused(f"holds compiled code or other objects ({entry})")
    base = entry.rpartition("/")[2]
    if base.startswith(("custom_obj_", "opaque_obj_")):
        raise _Refused(f"{_PICKLED} ({entry})")
    if entry.endswith(".pt") and content:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                torch.load(io.BytesIO(content), weights_only=True)
        except (
            pickle.UnpicklingError,
            RuntimeError,
            ValueError,
            TypeError,
            EOFError,
            LookupError,
            AttributeError,
        ) as error:
            raise _Refused(f"{_PICKLED} ({entry})") from error
    if entry.endswith(".json") and content:
        try:
            parsed = json.loads(content)
        except (ValueError, RecursionError) as error:
            raise _Refused(f"holds {entry}, which is no JSON") from error
        _check_json(parsed, entry)


def _check_json(value: Any, entry: str) -> None:
    """Look at all that PyTorch takes for more than numbers and names, wherever it stands."""
    pending = [value]
    while pending:
        here = pending.pop()
        if isinstance(here, list):
            pending += here
        elif isinstance(here, dict):
            for key, inner in here.items():
                _check_field(key, inner, entry)
                pending.append(inner)


def _check_field(key: str, value: Any, entry: str) -> None:
    if key == "use_pickle" and value:
        raise _Refused(f"{_PICKLED} ({entry})")
    if key in ("custom_obj_values", "custom_obj", "as_custom_obj") and value:
        raise _Refused(f"holds custom objects ({entry})")
    if key == "path_name" and (not isinstance(value, str) or not re.fullmatch(r"(weight|tensor)_\d+", value)):
        raise _Refused(f"{_PICKLED} ({entry}: {value!r})")
    if key in ("target", "as_operator") and isinstance(value, str):
        found = _TARGET.fullmatch(value)
        if found is None or _OPERATOR.fullmatch(value) or value.startswith("torch.ops.aten.__class"):
            raise _Refused(f"calls {value!r}, which is no operator of a model")
    if key in ("expr_str", "as_expr") and isinstance(value, str) and not _is_size(value):
        raise _Refused(f"holds a size that is more than arithmetic: {value[:80]!r}")
    if key in ("in_spec", "out_spec") and isinstance(value, str):
        _check_tree(value)
    if key == "guards_code":
        for text in value if isinstance(value, list) else [value]:
            if not isinstance(text, str) or not _is_guard(text):
                raise _Refused(f"holds a guard that is more than comparisons of sizes: {str(text)[:80]!r}")


def _is_size(text: str) -> bool:
    """Tell whether a text is arithmetic of sympy on numbers and symbols; sympy evaluates it as Python."""
    try:
        tree = ast.parse(text, mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    calls = {node.func: node for node in ast.walk(tree) if isinstance(node, ast.Call)}
    texts: set[ast.AST] = set()
    for function, call in calls.items():
        if not isinstance(function, ast.Name) or not re.fullmatch(r"[A-Z][A-Za-z]+", function.id):
            return False
        if function.id in ("Symbol", "Float") and call.args:
            texts.add(call.args[0])
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant):
            if isinstance(node.value, str) and (node not in texts or not re.fullmatch(r"\w+|[-+.\de]+", node.value)):
                return False
        elif isinstance(node, ast.Name):
            if node not in calls and not re.fullmatch(r"[a-z]{1,4}\d+|true|false|oo|int_oo", node.id):
                return False
        elif not isinstance(node, (*_SIZES, ast.Call)):
            return False
    return True


def _is_guard(text: str) -> bool:
    """Tell whether a text only compares sizes and kinds of inputs."""
    try:
        tree = ast.parse(text, mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            if node.id not in _GUARD_NAMES and not re.fullmatch(r"[a-z]{1,4}\d+|math|torch", node.id):
                return False
        elif isinstance(node, ast.Attribute):
            if node.attr not in _METHODS and not re.fullmatch(r"float\d+|bfloat16|u?int\d+|bool|sym_\w+", node.attr):
                return False
        elif not isinstance(node, (*_GUARDS, ast.Call)):
            return False
    return True


def _check_tree(text: str) -> None:
    """Check how inputs are nested: other types than Python's own are imported by their names."""
    try:
        pending = [json.loads(text)]
    except (ValueError, RecursionError) as error:
        raise _Refused("holds a nesting of inputs that is no JSON") from error
    while pending:
        here = pending.pop()
        if isinstance(here, list):
            pending += here
        elif isinstance(here, dict):
            if here.get("type") not in _TREES:
                raise _Refused(f"has inputs or outputs in a {here.get('type')!r}")
            context = here.get("context")
            if context is not None and not re.fullmatch(r'null|\[("[^"\\]*"(, ?)?|\d+(, ?)?)*\]', str(context)):
                raise _Refused(f"has inputs or outputs by {context!r}")
            pending += here.get("children_spec") or []
