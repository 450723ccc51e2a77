"""Writes docs/coverage.md, and the list of failures, from the results of runs."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import re
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from .packages import cache_folder
from .variants import VARIANTS

__all__ = ["failures", "page", "read_results"]

Results = dict[str, dict[str, dict[str, Any]]]

_WAYS = {"eager": "eager", "from_torch": "from_torch", "from_torch dynamic": "from_torch, open sizes",
         "legacy": "ONNX, dynamo=False", "dynamo": "ONNX, dynamo=True"}  # fmt: skip
_FILE = ("", "difference in float", "SNR", "int8", "MB", "MB in dynq")
_SAME = 1e-3  # ONNX Runtime's difference from PyTorch, over which its file is not that model
_NEAR, _FAR = 1e-4, 0.99  # of files that are quantized already: a relative difference, and a cosine
_TEXT = 140  # letters of a tool's error
_SHOWN = 12  # cases that a cause lists
_NO_WAY = "no small model, and other ends of the process"

_HEAD = """# Coverage

What dynq loads of the world's models, and how right it is. `python -m bench.coverage` writes this page:

```sh
pip install 'dynq[coverage]'               # and npm, for some packages of files
python -m bench.coverage files             # fetches the packages of bench/coverage/packages.py
python -m bench.coverage lite              # TensorFlow Lite files
python -m bench.coverage transformers      # architectures with small random weights
python -m bench.coverage write             # this page, from all results so far
```

Results lie in `~/.cache/dynq/coverage`; a run goes on where the last one ended, and `--again failed` repeats failures.

- *right*: with everything float, the largest difference is at most 1e-4 of the largest value of an output. With open
  sizes, and in ONNX, at a second batch and length. The reference is PyTorch, and ONNX Runtime or LiteRT for
  files. Files of float16 run there in float32, since ONNX Runtime rounds what each node gives.
- *cosine* and *SNR* (dB): of int8 with default options to the float reference, the lowest of all outputs.
- *int8*: the share of the weights, in bytes, that are int8.
- *refused by the tool*: the exporter or the optimizer gave no file, or ONNX Runtime does not run it, or ONNX Runtime's
  own outputs are not those of PyTorch (random numbers in the model). The other ones are what counts.
"""


def read_results(folder: Path) -> Results:
    """Return the steps of each case, by its name, without those that are under way."""
    found = {path.stem.replace("__", "/"): json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))}
    return {
        case: {step: row for step, row in steps.items() if row.get("error") != "unfinished"}
        for case, steps in found.items()
    }


def page(results: Path) -> str:
    """Return the text of docs/coverage.md."""
    models = {name: steps for name, steps in read_results(results / "transformers").items() if "model" in steps}
    made = {name: steps for name, steps in models.items() if "error" not in steps["model"]}
    files = read_results(results / "files")
    parts = [_HEAD, "## Summary\n", _versions(models, made), _in_short(made, files), _summary(made, files)]
    parts += ["## Architectures of transformers\n", _architectures(made)]
    parts += ["## Files\n", _files(files), "## Variants of files\n", _variants(files)]
    parts += ["## Files of TensorFlow Lite\n", _lite(read_results(results / "lite"))]
    parts += ["## What fails\n", failures(results)]
    return "\n".join(part.strip("\n") + "\n" for part in parts)


def _table(head: Iterable[str], rows: Iterable[Iterable[Any]]) -> str:
    head = list(head)
    lines = [head, ["---"] * len(head), *([str(cell).replace("|", "\\|") for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def _usable(row: dict[str, Any]) -> bool:
    """Return whether a step shows what dynq does: the tools and ONNX Runtime did their part."""
    return bool(row) and "ort_error" not in row and not _no_file(row) and not _another(row)


def _another(row: dict[str, Any]) -> bool:
    """Return whether dynq is not right, and ONNX Runtime's outputs are not those of PyTorch, either."""
    return row.get("ort_agreement", 0.0) > _SAME and not _right(row)


def _no_file(row: dict[str, Any]) -> bool:
    """Return whether the tool made no file: it refused, or ended the process."""
    return "tool_error" in row or _torch_refuses(row) or ("error" in row and row.get("stage") in ("make", "export"))


def _torch_refuses(row: dict[str, Any]) -> bool:
    return "torch.export cannot export" in row.get("error", "")


def _right(row: dict[str, Any]) -> bool:
    return "error" not in row and not row.get("wrong")


def _count(rows: list[dict[str, Any]], of: Callable[[dict[str, Any]], bool]) -> int:
    return sum(map(of, rows))


def _median(rows: list[dict[str, Any]], key: str) -> str:
    values = [row[key] for row in rows if key in row]
    return f"{statistics.median(values):.4g}" if values else ""


def _least(rows: list[dict[str, Any]], key: str) -> str:
    values = [row[key] for row in rows if key in row]
    return f"{min(values):.4g}" if values else ""


def _versions(models: Results, made: Results) -> str:
    packages = ("torch", "transformers", "onnx", "onnxruntime", "onnxscript")
    texts = [f"{name} {importlib.metadata.version(name)}" for name in packages if importlib.util.find_spec(name)]
    return (
        f"{', '.join(texts)}. {len(models)} architectures were tried; for {len(made)} of them the rules found small "
        "settings.\nWhat has no result yet is left out, not counted: the counts below say how many were run.\n"
    )


def _in_short(models: Results, files: Results) -> str:
    """Return how much of what ONNX Runtime runs right dynq loads and agrees with, of all that came by ONNX."""
    every = _steps(files, ["as it is"])
    variants = _steps(files, VARIANTS)
    exported = _steps(models, ["legacy", "dynamo"])
    counted = [row for row in [*every, *variants, *exported] if _usable(row)]
    floats = [row for row in counted if not row.get("quantized")]
    texts = [
        f"- {what}: {sum(map(_right, usable))} of {len(usable)}"
        for what, steps in (("files", every), ("variants of files", variants), ("exports of architectures", exported))
        if (usable := [row for row in steps if _usable(row) and not row.get("quantized")])
    ]
    exact = [row["agreement"] for row in floats if _right(row)]
    worst = f"- largest relative difference in float among the right ones: {max(exact):.1e}" if exact else ""
    head = "Of what ONNX Runtime runs right and is not quantized already, dynq loads and agrees with:\n"
    return "\n".join([head, *texts, worst, "", _quantized_already(counted)]) + "\n"


def _quantized_already(counted: list[dict[str, Any]]) -> str:
    """Return how near dynq comes on files that are quantized already: no bound makes one wrong."""
    rows = [row for row in counted if row.get("quantized")]
    loaded = [row for row in rows if _right(row)]
    near = sum(row["agreement"] <= _NEAR for row in loaded)
    far = [row for row in loaded if row.get("float_cosine", 1.0) < _FAR]
    moving = sum(row.get("ort_moves", 1.0) < _FAR for row in far)
    return (
        f"Of {len(rows)} files and variants that are quantized already, {len(loaded)} load. {near} of these agree to "
        f"{_NEAR:.0e}.\nFor {len(far)} the cosine is below {_FAR}. For {moving} of these, that of ONNX Runtime's own "
        "outputs is, too, if its inputs change by a\nmillionth: some values are rounded to other integers, and what "
        "comes behind makes more of it.\nThe tables below count all that load as right."
    )


def _steps(cases: Results, names: Iterable[str]) -> list[dict[str, Any]]:
    return [steps[name] for steps in cases.values() for name in names if name in steps]


def _summary(models: Results, files: Results) -> str:
    rows = []
    for way, title in _WAYS.items():
        steps = _steps(models, [way])
        usable = [row for row in steps if _usable(row)]
        right = [row for row in usable if _right(row)]
        rows.append([title, *_counts(steps, usable, right)])
    both = ("files as they are", ["as it is"]), ("variants of files", VARIANTS)
    for title, steps in ((title, _steps(files, names)) for title, names in both):
        usable = [row for row in steps if _usable(row)]
        rows.append([title, *_counts(steps, usable, [row for row in usable if _right(row)])])
    head = [
        "way",
        "of",
        "refused by the tool",
        "loads",
        "right",
        "wrong",
        "share",
        "cosine: median",
        "least",
        "int8: median",
    ]
    text = _table(head, rows)
    dynamic = [steps.get("from_torch dynamic", {}) for steps in models.values()]
    with_attention = [row for row in dynamic if row.get("attention") or row.get("softmax")]
    fused = sum(not row["softmax"] for row in with_attention)
    text += (
        f"\nAttention: `from_torch` leaves no Softmax on its own in {fused} of {len(with_attention)} architectures.\n"
    )
    theirs = [steps["legacy"] for steps in models.values() if "ort_cosine" in steps.get("legacy", {})]
    if theirs:
        text += (
            f"\nONNX Runtime's own dynamic int8 (per channel) of the files of `dynamo=False`: median cosine "
            f"{_median(theirs, 'ort_cosine')}, least {_least(theirs, 'ort_cosine')}, on {len(theirs)} architectures.\n"
        )
    return text


def _counts(steps: list[Any], usable: list[Any], right: list[Any]) -> list[Any]:
    loads = _count(usable, lambda row: "error" not in row)
    wrong = _count(usable, lambda row: bool(row.get("wrong")))
    share = f"{len(right) / len(usable):.1%}" if usable else ""
    return [len(steps), len(steps) - len(usable), loads, len(right), wrong, share, _median(right, "cosine"),
            _least(right, "cosine"), _median(right, "int8_share")]  # fmt: skip


def _cell(row: dict[str, Any]) -> str:
    """Return one step in a word: its int8 cosine if it is right."""
    if not row:
        return ""
    if _no_file(row):
        return "not exported"
    if _another(row) or ("ort_error" in row and not _right(row)):
        return "ONNX Runtime fails"
    if "error" in row:
        return "**refused**"
    if row.get("wrong"):
        return f"**wrong: {row['agreement']:.0e}**"
    text = f"{row['cosine']:.4f}".removeprefix("0")
    return text + (" (ORT fails)" if "ort_error" in row else "") + (" (sizes fixed)" if row.get("fixed") else "")


def _architectures(models: Results) -> str:
    rows = []
    for name, steps in models.items():
        ways = [_cell(steps.get(way, {})) for way in _WAYS]
        share, theirs = steps.get("from_torch dynamic", {}).get("int8_share"), steps.get("legacy", {}).get("ort_cosine")
        softmax = steps.get("from_torch dynamic", {}).get("softmax", "")
        rows.append([name, *ways, "" if share is None else f"{share:.0%}", softmax,
                     "" if theirs is None else f"{theirs:.4f}".removeprefix("0")])  # fmt: skip
    head = ["architecture", *_WAYS.values(), "int8", "Softmax left", "ONNX Runtime int8"]
    return "Each way has the cosine of its int8 outputs if the float ones are right.\n\n" + _table(head, rows)


def _files(files: Results) -> str:
    rows = [[name, *_file(steps.get("as it is", {}))] for name, steps in files.items()]
    return _table(["file", *_FILE], rows)


def _file(row: dict[str, Any]) -> list[Any]:
    if "ort_error" in row or "peer_error" in row or "error" in row or row.get("wrong"):
        peer = "ONNX Runtime fails" if "ort_error" in row else "LiteRT fails" if "peer_error" in row else ""
        state = peer or ("**refused**" if "error" in row else "**wrong**")
    else:
        state = "quantized already" if row.get("quantized") else "right"
    agreement = f"{row['agreement']:.1e}" if "agreement" in row else ""
    share = f"{row['int8_share']:.0%}" if "int8_share" in row else ""
    sizes = [f"{row[key] / 1e6:.2f}" if key in row else "" for key in ("bytes", "int8_bytes")]
    return [state, agreement, row.get("snr", ""), share, *sizes]


def _lite(files: Results) -> str:
    rows = []
    for name, steps in files.items():
        row = steps.get("as it is", {})
        rows.append([name, *_file(row), row.get("transposes", "")])
    text = "Beside LiteRT with XNNPACK. The last column has the Transposes that are left in the float model.\n\n"
    return text + _table(["file", *_FILE, "Transposes"], rows)


def _variants(files: Results) -> str:
    rows = []
    for name, steps in files.items():
        if any(variant in steps for variant in VARIANTS):
            rows.append([name, *(_variant(steps.get(variant, {})) for variant in VARIANTS)])
    text = (
        "Each has the SNR of dynq with default options to ONNX Runtime on the same file. ONNX Runtime's own sums of\n"
        "int8 saturate on CPUs without VNNI: SNRs of files that are quantized already are low there. A line means\n"
        "that the tool makes no such file, or that ONNX Runtime does not run it.\n\n"
    )
    return text + _table(["file", *VARIANTS], rows)


def _variant(row: dict[str, Any]) -> str:
    if not _usable(row):
        return "-" if row else ""
    if "error" in row or row.get("wrong"):
        return "**refused**" if "error" in row else f"**wrong: {row['agreement']:.0e}**"
    return f"{row['snr']:.0f}"


def failures(results: Path) -> str:
    """Return lists of what failed, each with its text and the cases: wrong numbers first, what tools refuse last."""
    wrong: dict[str, list[str]] = defaultdict(list)
    errors: dict[str, dict[str, list[str]]] = {}
    tools: dict[str, list[str]] = defaultdict(list)
    for part in ("files", "lite", "transformers"):
        for name, steps in read_results(results / part).items():
            for step, row in steps.items():
                where = name if step in ("as it is", "model") or part == "transformers" else f"{name} ({step})"
                section = part if part in ("files", "lite") else _WAYS.get(step, _NO_WAY)
                if reason := _reason_of_tool(row):
                    if part == "transformers" or step == "as it is":  # most tools make no variant of most files
                        tools[reason].append(where if part == "files" else f"{where} ({section})")
                elif row.get("wrong") and "error" not in row:
                    wrong[section].append(
                        f"{where}: {row['agreement']:.1e}, cosine of float outputs {row.get('float_cosine', '?')}"
                    )
                elif "error" in row:
                    for text in _causes(row["error"]):
                        errors.setdefault(section, defaultdict(list))[text].append(where)
    lines = []
    if wrong:
        rows = [[section, text] for section in wrong for text in wrong[section]]
        lines += ["### Wrong numbers\n", _table(["way", "case"], rows)]
    for section, found in errors.items():
        lines += [f"### {section}\n", _causes_table("what the error says", found)]
    if tools:
        lines += ["### What exporters and ONNX Runtime refuse\n", _causes_table("what they say", tools)]
    return "\n".join(lines) or "Nothing.\n"


def _causes_table(head: str, found: dict[str, list[str]]) -> str:
    rows = []
    for text, where in sorted(found.items(), key=lambda item: -len(set(item[1]))):
        cases = sorted(set(where))
        shown = ", ".join(cases[:_SHOWN]) + (f" and {len(cases) - _SHOWN} more" if len(cases) > _SHOWN else "")
        rows.append([str(len(cases)), text, shown])
    return _table(["cases", head, "which"], rows)


def _reason_of_tool(row: dict[str, Any]) -> str:
    """Return why an exporter gave no file or ONNX Runtime does not run it, on one line; empty if both did."""
    text = row.get("tool_error") or row.get("ort_error") or (row.get("error", "") if _no_file(row) else "")
    if _another(row):
        text = "ONNX Runtime's outputs are not those of PyTorch"
    text = re.sub(r"\x1b\[[0-9;]*m|/\S+/", "", " ".join(str(text).split()))
    return text if len(text) <= _TEXT else text[: _TEXT - 3] + "..."


def _causes(text: str) -> list[str]:
    """Return the causes that an error lists, without the names of nodes; its first line if it lists none."""
    head, *lines = text.splitlines()
    listed = [re.sub(r": '.*", "", line.strip()) for line in lines if line.startswith("  ")]
    if "does not support" in head and listed:
        return sorted(set(listed))
    short = " ".join([head, *(line.strip() for line in lines)])[:240]
    return [re.sub(re.escape(str(cache_folder())), "", short)]
