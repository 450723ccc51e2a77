"""TensorFlow Lite files of strangers: does dynq load them, and is it right beside LiteRT?"""

from __future__ import annotations

import functools
import hashlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from .measure import agreement, closeness, int8_share
from .packages import LITE_PACKAGES, files_of
from .runner import Record

__all__ = ["lite_cases"]

_BOUND = 1e-4
_OPEN_SIZES = (64, 320, 17280)  # are tried in turn


def lite_cases(names: list[str]) -> dict[str, Callable[[Record], None]]:
    """Return a case for each file, or for those of packages whose names hold one of ``names``."""
    cases: dict[str, Callable[[Record], None]] = {}
    known: set[str] = set()
    for package in LITE_PACKAGES:
        if names and not any(name in str(package) for name in names):
            continue
        for path in files_of(package):
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            if digest not in known:  # else another package's, byte for byte
                cases[f"{package}/{path.name}"] = functools.partial(_case, path=path)
            known.add(digest)
    return cases


def _case(record: Record, path: Path) -> None:
    record.step("as it is", lambda row: _same_run(record, row, path))


def _same_run(record: Record, row: dict[str, Any], path: Path) -> None:
    """Run a file in LiteRT and in dynq, in float and in int8, and note how far they agree."""
    from dynq.importers.tflite import to_graph

    row["bytes"] = path.stat().st_size
    record.note(row, "load")
    start = time.process_time()
    graph = to_graph(path)
    floating = graph.build(quantize=False)
    row["load_seconds"] = round(time.process_time() - start, 2)
    row["transposes"] = [op for _, op in floating.nodes].count("Transpose")
    record.note(row, "litert")
    try:
        feeds, expected = _litert(path, graph)
    except Exception as error:  # of many types
        row["peer_error"] = f"{type(error).__name__}: {error}"[:300]
        return
    record.note(row, "run")
    got = list(floating.run(feeds).values())
    row["agreement"] = agreement(got, expected)
    row["wrong"] = row["agreement"] > _BOUND
    record.note(row, "int8")
    model = graph.build()
    row |= closeness(list(model.run(feeds).values()), expected)
    row["int8_share"], row["int8_bytes"] = int8_share(model.report()), model.nbytes


def _litert(path: Path, graph: Any) -> tuple[dict[str, Any], list[Any]]:
    """Return random inputs that LiteRT runs on, and its outputs; images have values from 0 to 1."""
    from ai_edge_litert.interpreter import Interpreter

    error: Exception | None = None
    for size in _OPEN_SIZES:
        rng = np.random.default_rng(0)
        feeds = {}
        for value in graph.inputs:
            shape = [n if isinstance(n, int) else size if i else 1 for i, n in enumerate(value.shape)]
            image = len(shape) == 4 and shape[-1] == 3
            draw = rng.random(shape) if image else rng.standard_normal(shape)
            feeds[value.name] = (draw if value.dtype == "float32" else draw * 9).astype(value.dtype)
        try:
            interpreter = Interpreter(model_path=str(path), num_threads=1)
            details = interpreter.get_input_details()
            for detail, array in zip(details, feeds.values(), strict=True):
                interpreter.resize_tensor_input(detail["index"], array.shape)
            interpreter.allocate_tensors()
            for detail, array in zip(details, feeds.values(), strict=True):
                interpreter.set_tensor(detail["index"], array)
            interpreter.invoke()
            return feeds, [interpreter.get_tensor(detail["index"]) for detail in interpreter.get_output_details()]
        except (RuntimeError, ValueError) as failed:
            error = error or failed
    raise RuntimeError(f"LiteRT runs on no inputs that were tried: {error}")
