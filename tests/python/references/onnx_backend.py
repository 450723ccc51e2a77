"""The ONNX package's own tests of single nodes, run by dynq in float32.

They hand in everything as an input, also shapes and axes. dynq wants those before a run, as models have them: where it
says so, all inputs but the first become constants, or all.
"""

from __future__ import annotations

import functools
import re
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np

import dynq

LIST = Path(__file__).parent / "onnx_backend_passing.txt"
REFUSED = Path(__file__).parent / "onnx_backend_refused.txt"  # lines of a reason, a colon and the tests
WIDE = ("float64", "float16", "bfloat16")  # what dynq computes in float32


@functools.cache
def cases() -> dict[str, Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the expected values are computed when this is loaded
        from onnx.backend.test.loader import load_model_tests

        return {case.name: case for case in load_model_tests(kind="node")}


def outcome(case: Any) -> str:
    """``passes``, or why not; ``refused: ...`` where dynq says that it does not support it."""
    try:
        dynq.from_onnx(case.model, quantize=False)
    except dynq.UnsupportedModelError as error:
        if not all("not known before the run" in problem for problem in error.problems):
            return "refused: " + " | ".join(error.problems)
    except dynq.InvalidModelError as error:
        return f"invalid: {error}"
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    given = [value.name for value in case.model.graph.input]
    for inputs, expected in case.data_sets:
        arrays = {name: _array(array) for name, array in zip(given, inputs, strict=False)}
        got = None
        for constant in (given[:0], given[1:], given):
            try:
                again = dynq.from_onnx(_with_constants(case.model, arrays, constant), quantize=False)
                got = again.run({value.name: _as_dynq(arrays[value.name]) for value in again.inputs})
                break
            except Exception as error:
                why = "refused: " if isinstance(error, dynq.UnsupportedModelError) else f"{type(error).__name__}: "
                why += str(error)
                if "known before the run" not in why:
                    return why
        if got is None:
            return why
        for value, want in zip(case.model.graph.output, expected, strict=True):
            if wrong := _difference(got[value.name], want, case):
                return f"wrong: {value.name}: {wrong}"
    return "passes"


def reason_of(result: str) -> str:
    """The reason of an outcome ``refused: ...``, on one line and without the names of nodes."""
    text = result.removeprefix("refused: ")
    problems = [line.strip() for line in text.splitlines()[1:]] or text.split(" | ")
    return " | ".join(sorted({re.sub(r": '.*", "", problem) for problem in problems}))


def _with_constants(model: Any, arrays: dict[str, Any], constant: list[str]) -> Any:
    """The model with these inputs as initializers: shapes, axes and counts are known before a run."""
    import onnx

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for name in constant:
        copy.graph.initializer.append(onnx.numpy_helper.from_array(arrays[name], name))
    return copy


def _array(value: Any) -> Any:
    from onnx import TensorProto, numpy_helper

    return numpy_helper.to_array(value) if isinstance(value, TensorProto) else np.asarray(value)


def _as_dynq(array: Any) -> Any:
    return array.astype(np.float32) if array.dtype.name in WIDE else array


def _difference(got: np.ndarray, want: Any, case: Any) -> str:
    want = _array(want)
    rtol, atol = case.rtol, case.atol
    if want.dtype.name in WIDE:
        if want.dtype.name != "float64":
            rtol, atol = max(rtol, 1e-2 if want.dtype.name == "bfloat16" else 2e-3), max(atol, 1e-3)
        want = want.astype(np.float32)
    if got.dtype != want.dtype or got.shape != want.shape:
        return f"{got.dtype} {got.shape}; expected {want.dtype} {want.shape}"
    if got.dtype == np.float32:
        finite = want[np.isfinite(want)]
        atol = max(atol, 1e-6 * float(np.abs(finite).max(initial=0)))  # of a sum that should be 0
        if np.allclose(got, want, rtol=rtol, atol=atol, equal_nan=True):
            return ""
    elif np.array_equal(got, want):
        return ""
    return f"differs: {got.reshape(-1)[:6]}; expected {want.reshape(-1)[:6]}"


def refused() -> dict[str, str]:
    """The tests that are listed as refused, each with the reason."""
    lines = (line.rpartition(": ") for line in REFUSED.read_text().splitlines())
    return {name: reason for reason, _, names in lines for name in names.split()}


def main() -> None:
    """Print the outcome of every case; with --write, write the lists of those that pass and that are refused."""
    results = {name: outcome(case) for name, case in sorted(cases().items())}
    if "--write" in sys.argv:
        passing = [name for name, result in results.items() if result == "passes"]
        LIST.write_text("\n".join(passing) + "\n")
        reasons: dict[str, list[str]] = {}
        for name, result in results.items():
            if result.startswith("refused: "):
                reasons.setdefault(reason_of(result), []).append(name)
        REFUSED.write_text("".join(f"{reason}: {' '.join(names)}\n" for reason, names in sorted(reasons.items())))
        return
    for name, result in results.items():
        print(f"{name}: {result}")


if __name__ == "__main__":
    main()
