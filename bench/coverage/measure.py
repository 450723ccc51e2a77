"""How far outputs agree, and runs of ONNX Runtime and dynq to compare."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["LARGEST_RUN", "Given", "agreement", "closeness", "feeds_for", "feeds_like", "int8_share", "session"]

Given = Mapping[str, int | tuple[int, ...]]  # values or shapes of inputs, by name
FLOAT_TYPES = ("float16", "float32", "float64")
LARGEST_RUN = 8 << 30  # bytes: small files whose weights or indices are computed take more than dynq's own limit
_SMALL = 1e-3  # outputs below it are compared with it: sigmoids of ONNX Runtime end at 1e-7
_DTYPES = {"float": "float32", "double": "float64", "float16": "float16", "bool": "bool"}


def agreement(got: Sequence[Any], expected: Sequence[Any]) -> float:
    """Return the largest difference, relative to the largest value of each output; infinity for another shape.

    Of outputs that are no floats: the share of values that differ.
    """
    if len(got) != len(expected):
        return math.inf
    worst = 0.0
    for ours, theirs in zip(map(np.asarray, got), map(np.asarray, expected), strict=True):
        if ours.shape != theirs.shape:
            return math.inf
        if not theirs.size:
            continue
        if theirs.dtype.name not in FLOAT_TYPES:
            worst = max(worst, float(np.mean(ours != theirs)))
            continue
        a, b = ours.astype(np.float64), theirs.astype(np.float64)
        finite = np.isfinite(a) & np.isfinite(b)
        same = (np.isnan(a) & np.isnan(b)) | (a == b)
        largest = float(np.finfo(np.float32).max) / 2  # some mask with infinity, others with the largest number
        same |= (np.abs(a) >= largest) & (np.abs(b) >= largest) & (np.sign(a) == np.sign(b))
        if not (finite | same).all():
            return math.inf
        a, b = a[~same], b[~same]
        if a.size:
            scale = np.abs(theirs.astype(np.float64)[np.isfinite(theirs) & (np.abs(theirs) < largest)]).max(initial=0)
            worst = max(worst, float(np.abs(a - b).max() / max(scale, _SMALL)))
    return worst


def closeness(got: Sequence[Any], expected: Sequence[Any]) -> dict[str, float]:
    """Return the lowest cosine and the lowest signal-to-noise ratio in dB of the outputs that are floats."""
    cosines, ratios = [1.0], [100.0]
    for ours, theirs in zip(map(np.asarray, got), map(np.asarray, expected), strict=True):
        if theirs.dtype.name not in FLOAT_TYPES or not theirs.size or ours.shape != theirs.shape:
            continue
        a, b = ours.astype(np.float64).ravel(), theirs.astype(np.float64).ravel()
        usable = np.isfinite(a) & np.isfinite(b) & (np.abs(b) < 1e30)
        a, b = a[usable], b[usable]
        norms = math.sqrt(float(a @ a) * float(b @ b))
        if norms:
            cosines.append(float(a @ b) / norms)
        noise, signal = float(((a - b) ** 2).sum()), float((b**2).sum())
        if noise:
            ratios.append(10 * math.log10(max(signal, 1e-30) / noise))
    return {"cosine": round(min(cosines), 6), "snr": round(min(ratios), 1)}


def int8_share(report: Any) -> float:
    """Return the share of the weights, in bytes, that are int8."""
    total = sum(row.bytes_before for row in report.rows)
    return round(sum(row.bytes_before for row in report.rows if row.quantized) / total, 4) if total else 0.0


def session(model: str | Path | bytes, level: str = "ORT_ENABLE_ALL") -> Any:
    """Return a session of ONNX Runtime with one thread."""
    import onnxruntime

    onnxruntime.set_default_logger_severity(4)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    options.add_session_config_entry("session.x64quantprecision", "1")  # or integer sums saturate on CPUs without VNNI
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
    source = model if isinstance(model, bytes) else str(model)
    return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])


def feeds_for(running: Any, values: Given) -> dict[str, Any]:
    """Return random inputs that a session of ONNX Runtime runs on, with sizes tried in turn where they are open.

    Raises:
        RuntimeError: it runs on none of them.
    """
    error: Exception | None = None
    for size, most in ((64, 9), (32, 9), (320, 9), (16, 9), (128, 9), (64, 2), (1, 9), (576, 9), (16000, 9)):
        rng = np.random.default_rng(0)
        open_sizes: dict[str, int] = {}
        feeds = {value.name: _input(value, size, most, open_sizes, values, rng) for value in running.get_inputs()}
        try:
            running.run(None, feeds)
        except Exception as failed:  # of many types
            error = error or failed
            continue
        return feeds
    raise RuntimeError(f"ONNX Runtime runs on no inputs that were tried: {error}")


def feeds_like(running: Any, feeds: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of ``feeds`` that a session takes, and random inputs where a tool has made inputs of its own."""
    rng = np.random.default_rng(0)
    return {
        value.name: feeds[value.name] if value.name in feeds else _input(value, 1, 9, {}, {}, rng)
        for value in running.get_inputs()
    }


def _input(value: Any, size: int, most: int, open_sizes: dict[str, int], values: Given, rng: Any) -> Any:
    given = values.get(value.name)
    shape = []
    for axis, length in enumerate(given if isinstance(given, tuple) else value.shape):
        if isinstance(length, str) and length:
            length = open_sizes.setdefault(length, 1 if axis == 0 else size)
        elif not isinstance(length, int) or length < 1:
            length = 1 if axis == 0 else size
        shape.append(length)
    kind = value.type.removeprefix("tensor(").removesuffix(")")
    dtype = np.dtype(_DTYPES.get(kind, kind))
    if isinstance(given, int):
        return np.full(shape, given, dtype)
    if "mask" in value.name:
        return np.ones(shape, dtype)
    if dtype.kind == "f":
        return rng.standard_normal(shape).astype(dtype)
    if dtype.kind == "b":
        return np.ones(shape, dtype)
    if "len" in value.name:
        return np.full(shape, size, dtype)
    return rng.integers(0, 2 if "type" in value.name else most, shape).astype(dtype)
