"""Run every instruction set of this machine against the conformance set, bit for bit: ``dynq selftest``.

A NumPy reference wrote the set's expected bytes; tests/vectors/README.md in the repository describes it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from . import arrays, errors, isa, threads
from .core import arguments as arguments
from .core.arguments import FLOAT32, GRANULARITIES, INT32, SCHEMES, TYPES, Array
from .core.call import NULL, address, check, lib
from .core.vectors import ArrayLine, Case, Vectors, checksum, load
from .weights import QuantizedWeight, gemm_s32, linear, packed_arrays, quantize_weight

__all__ = ["Result", "run"]

INSTALLED = Path(__file__).parent / "vectors"
THREADS = (1, 3)

Arrays = dict[str, Array]


@dataclass(frozen=True)
class Result:
    """The result of one instruction set. If it cannot run, ``cases`` is 0; ``why`` is dynq.isa.explain's text."""

    isa: str
    why: str
    cases: int
    failures: tuple[str, ...]
    seconds: float


def run(names: Sequence[str] = (), folder: str | os.PathLike[str] | None = None) -> list[Result]:
    """Return one result for each instruction set that dynq knows, or for each of ``names``.

    Args:
        names: those to test. By default all are tested, and those that cannot run are listed.
        folder: a conformance set other than the installed one.

    Raises:
        IsaError: one of ``names`` cannot run here.
        FileFormatError: the set is damaged.
    """
    for name in names:
        with isa.use(name):  # raises if it cannot be used
            pass
    vectors = load(INSTALLED if folder is None else folder)
    inputs = [{line.name: vectors.value(line) for line in case.inputs()} for case in vectors.cases]
    before = threads.get_num_threads()
    try:
        return [_run_isa(name, vectors, inputs) for name in names or isa.names()]
    finally:
        threads.set_num_threads(before)


def _run_isa(name: str, vectors: Vectors, inputs: list[Arrays]) -> Result:
    why = isa.explain(name)
    if name not in isa.supported():
        return Result(name, why, 0, (), 0.0)
    failures: dict[str, list[int]] = {}  # what differs, and with how many threads
    start = time.perf_counter()
    with isa.use(name):
        for count in THREADS:
            threads.set_num_threads(count)
            for case, given in zip(vectors.cases, inputs, strict=True):
                for what in _differences(case, given, vectors):
                    failures.setdefault(f"{case}: {what}", []).append(count)
    texts = tuple(f"{what}; threads: {', '.join(map(str, counts))}" for what, counts in failures.items())
    return Result(name, why, len(vectors.cases), texts, time.perf_counter() - start)


def _differences(case: Case, given: Arrays, vectors: Vectors) -> list[str]:
    """Return where the results of a case differ from those in the set."""
    expected = case.options.get("status", "ok")
    try:
        status, got = "ok", _OPERATIONS[case.op](case, given)
    except errors.AccumulatorOverflowError:
        status, got = "overflow", {}
    except errors.NonFiniteError:
        status, got = "nonfinite", {}
    if status != expected and case.op not in _SILENT:
        return [f"the call's status is {status}; expected {expected}"]
    return [what for line in case.outputs() if (what := _difference(line, got[line.name], vectors))]


def _difference(line: ArrayLine, got: Array, vectors: Vectors) -> str:
    if got.dtype != line.dtype or got.size != line.count:
        return f"{line.name} is {got.dtype} {got.shape}; expected {line.dtype} {line.shape}"
    got = np.ascontiguousarray(got).reshape(line.shape)
    if line.source == "hash":
        digest = checksum(got.tobytes())
        return "" if digest == line.number else f"{line.name} has checksum {digest:016x}; expected {line.number:016x}"
    expected = vectors.value(line)
    bits = f"u{line.dtype.itemsize}"
    differ = np.argwhere(got.view(bits) != expected.view(bits))
    if not len(differ):
        return ""
    first = tuple(int(i) for i in differ[0])
    here, there = got[first], expected[first]
    if line.dtype == FLOAT32:
        here, there = (f"{x} (0x{int(x.view(np.uint32)):08x})" for x in (here, there))
    place = ", ".join(map(str, first))
    return f"{line.name}[{place}] is {here}; expected {there} ({len(differ)} of {line.count} differ)"


# ---- The operations, by the names that the set uses. They call the public functions if there are such.


def _minmax(case: Case, given: Arrays) -> Arrays:
    lo, hi = arrays.minmax(given["x"], case.options["granularity"])
    return {"lo": np.asarray(lo), "hi": np.asarray(hi)}


def _choose_qparams(case: Case, given: Arrays) -> Arrays:
    lo, hi = (arguments.contiguous(given[name]) for name in ("lo", "hi"))
    scale, zero_point = np.empty(lo.shape, FLOAT32), np.empty(lo.shape, INT32)
    check(
        lib.dynq_choose_qparams(
            lo.size, address(lo), address(hi), SCHEMES[case.options["scheme"]], _type(case), address(scale),
            address(zero_point),
        )
    )  # fmt: skip
    return {"scale": scale, "zero_point": zero_point}


def _quantize(case: Case, given: Arrays) -> Arrays:
    x, scale, zero_point = (arguments.contiguous(given[name]) for name in ("x", "scale", "zero_point"))
    m, k = x.shape
    q = np.empty(x.shape, case.dtype)
    check(
        lib.dynq_quantize_f32(
            m, k, address(x), k, SCHEMES[case.options["scheme"]], GRANULARITIES[case.options["granularity"]],
            _type(case), address(scale), address(zero_point), NULL, address(q), k,
        )
    )  # fmt: skip
    return {"q": q}


def _quantize_dynamic(case: Case, given: Arrays) -> Arrays:
    q, scale, zero_point = arrays.quantize(
        given["x"], case.options["scheme"], case.options["granularity"], dtype=case.dtype
    )
    return {"q": q, "scale": np.asarray(scale), "zero_point": np.asarray(zero_point).astype(INT32)}


def _dequantize(case: Case, given: Arrays) -> Arrays:
    return {"x": arrays.dequantize(given["q"], given["scale"], given["zero_point"])}


def _pack(given: Arrays) -> QuantizedWeight:
    if "w_scale" in given:
        return QuantizedWeight.from_integers(given["w"], given["w_scale"], given.get("w_zero_point"))
    return quantize_weight(given["w"])


def _weight(case: Case, given: Arrays) -> Arrays:
    weight = _pack(given)
    panels, _, column_sum, _ = packed_arrays(weight)
    n = weight.shape[0]
    return {
        "panels": panels,
        "scale": weight.scale,
        "column_sum": column_sum[:n],
        "dequantized": weight.dequantize(),
    }


def _gemm_s32(case: Case, given: Arrays) -> Arrays:
    return {"acc": gemm_s32(given["q"], given["zero_point"], _pack(given))}


def _linear(case: Case, given: Arrays) -> Arrays:
    options = case.options
    clamp = None
    if "min" in options:
        low, high = np.array([int(options["min"], 16), int(options["max"], 16)], np.uint32).view(FLOAT32)
        clamp = (float(low), float(high))
    y = linear(
        given["x"],
        _pack(given),
        given.get("bias"),
        activation=None if options["activation"] == "none" else options["activation"],
        residual=given.get("residual"),
        clamp=clamp,
        scheme=options["scheme"],
        granularity=options["granularity"],
    )
    return {"y": y}


def _matmul(case: Case, given: Arrays) -> Arrays:
    options = case.options
    y = arrays.matmul(given["a"], given["b"], scheme=options["scheme"], granularity=options["granularity"])
    return {"y": y}


def _type(case: Case) -> int:
    return TYPES[case.dtype]


_OPERATIONS: dict[str, Callable[[Case, Arrays], Arrays]] = {
    "minmax": _minmax,
    "choose_qparams": _choose_qparams,
    "quantize": _quantize,
    "quantize_dynamic": _quantize_dynamic,
    "dequantize": _dequantize,
    "weight": _weight,
    "gemm_s32": _gemm_s32,
    "linear": _linear,
    "matmul": _matmul,
}
# These go on over a NaN and give NaN: the function does not report it.
_SILENT = {"minmax", "linear", "matmul"}
