"""The ways of a PyTorch model into dynq: in place, by torch.export, and by both exporters of ONNX."""

from __future__ import annotations

import copy
import functools
import io
import logging
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from .architectures import small_model
from .inputs import resized
from .measure import LARGEST_RUN, agreement, closeness, int8_share, session
from .runner import Record

__all__ = ["case", "warm"]


class _Plain(torch.nn.Module):
    """A model that takes tensors in their order and returns a tuple of tensors."""

    def __init__(self, model: Any, names: list[str]) -> None:
        super().__init__()
        self.model = model
        self.names = names

    def forward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        given = dict(zip(self.names, inputs, strict=True))
        return tuple(_tensors(self.model(**given)))


def _tensors(output: Any) -> list[torch.Tensor]:
    """Return the tensors of an output in their order, each once, without those of caches."""
    if isinstance(output, torch.Tensor):
        return [output]
    parts = output.values() if isinstance(output, dict) else output if isinstance(output, (tuple, list)) else ()
    found: dict[int, torch.Tensor] = {}
    for part in parts:
        found |= {id(tensor): tensor for tensor in _tensors(part)}
    return list(found.values())


class _Given:
    """What all steps of an architecture share."""

    def __init__(self, kind: str) -> None:
        self.model, self.inputs, self.names = small_model(kind)
        for config in {
            id(part.config): part.config for part in self.model.modules() if hasattr(part, "config")
        }.values():
            if getattr(config, "use_cache", False):
                config.use_cache = False
        self.plain = _Plain(self.model, list(self.inputs)).eval()
        self.expected = self.run(self.inputs)
        self.other = resized(self.inputs, self.names)
        try:
            self.other_expected = self.run(self.other)
        except Exception:  # of many types: the model takes no other lengths
            self.names = {name: {axis: size for axis, size in axes.items() if size == "batch"}
                          for name, axes in self.names.items()}  # fmt: skip
            self.other = resized(self.inputs, self.names)
            self.other_expected = self.run(self.other)

    def run(self, inputs: dict[str, Any]) -> list[Any]:
        with torch.no_grad():
            torch.manual_seed(0)  # some models draw numbers in evaluation mode, too
            return [tensor.numpy() for tensor in self.plain(*inputs.values())]


def warm() -> None:
    """Import what exporters need, so that not each child does."""
    import onnxruntime.quantization  # noqa: F401
    import transformers

    import dynq.importers.onnx.ops
    import dynq.torch  # noqa: F401
    from dynq.importers.torch import to_graph

    transformers.logging.set_verbosity_error()
    warnings.simplefilter("ignore")
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    linear, x = torch.nn.Linear(2, 2).eval(), torch.zeros(2, 2)
    to_graph(linear, x, dynamic_shapes="batch").build()
    for dynamo in (True, False):
        torch.onnx.export(linear, (x,), io.BytesIO(), dynamo=dynamo, verbose=False)


def case(kind: str, record: Record) -> None:
    """Do all the steps of one architecture."""
    warnings.simplefilter("ignore")
    given = functools.cache(lambda: _Given(kind))
    row = record.step("model", lambda row: row.update(parameters=sum(p.numel() for p in given().model.parameters())))
    if "error" in row:
        return
    steps: dict[str, Callable[..., None]] = {
        "from_torch dynamic": functools.partial(_from_torch, dynamic=True),
        "legacy": functools.partial(_onnx, dynamo=False),
        "eager": _eager,
        "dynamo": functools.partial(_onnx, dynamo=True),
        "from_torch": functools.partial(_from_torch, dynamic=False),
    }
    for name, work in steps.items():
        record.step(name, functools.partial(_work, record, work, given))


def _work(record: Record, work: Callable[..., None], given: Callable[[], _Given], row: dict[str, Any]) -> None:
    work(record, given(), row)


def _eager(record: Record, given: _Given, row: dict[str, Any]) -> None:
    import dynq.torch

    model = dynq.torch.quantize_dynamic(given.plain)
    with torch.no_grad():
        torch.manual_seed(0)
        got = [tensor.numpy() for tensor in model(*given.inputs.values())]
    report = dynq.torch.report(model)
    row |= closeness(got, given.expected) | {"int8_share": int8_share(report)}
    row["float_kinds"] = sorted({entry.kind for entry in report.rows if not entry.quantized and entry.reason})


def _from_torch(record: Record, given: _Given, row: dict[str, Any], dynamic: bool) -> None:
    from dynq.importers.torch import to_graph

    record.note(row, "load")
    shapes: Any = {name: given.names.get(name) or None for name in given.inputs} if dynamic else None
    model = given.model
    if not dynamic:  # as a user calls it: with caches among its outputs
        model = copy.deepcopy(model)
        if hasattr(model.config, "use_cache"):
            model.config.use_cache = True
    inputs = {name: value.clone() for name, value in given.inputs.items()}
    graph = to_graph(model, kwargs=inputs, dynamic_shapes=shapes)
    floating = graph.build(quantize=False)
    feeds, expected = (given.other, given.other_expected) if dynamic else (given.inputs, given.expected)
    arrays = {value.name: feeds[value.name].numpy() for value in floating.inputs}
    record.note(row, "run")
    got = list(floating.run(arrays).values())
    chosen = _chosen(got, expected)
    row["agreement"] = agreement([got[i] for i in chosen], expected)
    row["wrong"] = row["agreement"] > 1e-4
    _int8(row, graph, arrays, expected, chosen)


def _chosen(got: list[Any], expected: list[Any]) -> list[int]:
    """Return which outputs are the expected ones: caches lie between them."""
    chosen: list[int] = []
    for array in expected:
        left = [i for i in range(len(got)) if i not in chosen]
        if not left:
            break
        chosen.append(min(left, key=lambda i: (agreement([got[i]], [array]), i)))
    return chosen


def _int8(row: dict[str, Any], graph: Any, arrays: dict[str, Any], expected: list[Any], chosen: list[int]) -> None:
    model = graph.build()
    model.max_bytes = LARGEST_RUN
    got = list(model.run(arrays).values())
    row |= closeness([got[i] for i in chosen], expected)
    ops = [op for _, op in model.nodes]
    row["int8_share"] = int8_share(model.report())
    row["softmax"], row["attention"] = ops.count("Softmax"), ops.count("dynq.Attention")


def _onnx(record: Record, given: _Given, row: dict[str, Any], dynamo: bool) -> None:
    import dynq
    from dynq.importers.onnx import to_graph

    record.note(row, "export")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        try:
            _export(given, path, dynamo)
        except Exception as error:  # of many types: the exporter's own
            row["tool_error"] = f"{type(error).__name__}: {error}"[:300]
            return
        record.note(row, "ort")
        feeds = {name: value.numpy() for name, value in given.other.items()}
        expected = given.other_expected
        try:
            running = session(path, "ORT_ENABLE_BASIC")
            arrays = {value.name: feeds[value.name] for value in running.get_inputs()}
            try:
                theirs = running.run(None, arrays)
            except Exception:  # of many types: the exporter fixed a size
                arrays = {name: given.inputs[name].numpy() for name in arrays}
                theirs, expected, row["fixed"] = running.run(None, arrays), given.expected, True
            row["ort_agreement"] = agreement(theirs, expected)
        except Exception as error:  # of many types
            row["ort_error"] = f"{type(error).__name__}: {error}"[:300]
        record.note(row, "load")
        try:
            graph = to_graph(path)
        except dynq.Error:
            if "ort_error" in row:
                raise
            graph = to_graph(path, None, {name: array.shape for name, array in arrays.items()})
            row["fixed"] = True
        floating = graph.build(quantize=False)
        floating.max_bytes = LARGEST_RUN
        record.note(row, "run")
        if "ort_error" in row:
            arrays = {value.name: feeds[value.name] for value in floating.inputs}
            theirs = expected
        got = list(floating.run(arrays).values())
        row["agreement"] = min(agreement(got, theirs), agreement(got, expected))
        row["wrong"] = row["agreement"] > 1e-4
        _int8(row, graph, arrays, expected, list(range(len(got))))
        if not dynamo and "ort_error" not in row:
            row |= _ort_int8(path, arrays, expected)


def _export(given: _Given, path: Path, dynamo: bool) -> None:
    names = list(given.inputs)
    arguments = tuple(value.clone() for value in given.inputs.values())
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if dynamo:
            auto = torch.export.Dim.AUTO
            shapes = tuple(dict.fromkeys(given.names.get(name, {}), auto) for name in names)
            torch.onnx.export(given.plain, arguments, path, dynamo=True, dynamic_shapes=(shapes,), input_names=names,
                              verbose=False, external_data=False)  # fmt: skip
        else:
            torch.onnx.export(given.plain, arguments, path, dynamo=False, dynamic_axes=given.names, input_names=names,
                              opset_version=17)  # fmt: skip


def _ort_int8(path: Path, arrays: dict[str, Any], expected: list[Any]) -> dict[str, Any]:
    """Return how near ONNX Runtime's own int8 comes."""
    from onnxruntime.quantization import quantize_dynamic

    logging.disable(logging.CRITICAL)
    target = path.with_name("int8.onnx")
    try:
        quantize_dynamic(path, target, per_channel=True)
        return {f"ort_{key}": value for key, value in closeness(session(target).run(None, arrays), expected).items()}
    except Exception as error:  # of many types
        return {"ort_int8_error": f"{type(error).__name__}: {error}"[:200]}
