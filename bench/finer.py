"""What 16-bit inputs, scales of groups, smoothing and static ranges do to a sentence encoder: accuracy and time.

all-MiniLM-L6-v2 on the demo's sentences, half of them samples, half measured: the ratio of signal to quantization noise
and the cosine of the token outputs to float32, and the time of a run beside that of the dynamic model, 1 thread.

    python bench/finer.py --seconds 10    # of timing for each shape

Needs the extra dynq[demo] and onnx.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from tokenizers import Tokenizer

import dynq
from dynq.accuracy.measure import Difference
from dynq.demo.bert_onnx import export_bert
from dynq.demo.minilm import SENTENCES, find_model

Array = np.ndarray[Any, Any]
Sample = dict[str, Array]

BATCH = 4
SHAPES = ((1, 16), (1, 128), (8, 64))  # sentences, tokens


def samples(tokenizer: Tokenizer) -> list[Sample]:
    result = []
    for start in range(0, len(SENTENCES), BATCH):
        rows = [tokenizer.encode(sentence).ids for sentence in SENTENCES[start : start + BATCH]]
        ids = np.zeros((len(rows), max(map(len, rows))), np.int64)
        mask = np.zeros_like(ids)
        for i, row in enumerate(rows):
            ids[i, : len(row)], mask[i, : len(row)] = row, 1
        result.append({"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)})
    return result


def models(path: Path, given: list[Sample]) -> dict[str, dynq.Model]:
    dynamic = dynq.from_onnx(path)
    smooth = dynq.from_onnx(path, smooth=given)
    result = {
        "dynamic": dynamic,
        "int16": dynq.from_onnx(path, int16=["*"]),
        **{f"group_size={size}": dynq.from_onnx(path, group_size=size) for size in (32, 64, 128)},
        "smooth": smooth,
        **{f"static, {method}": dynq.calibrate(dynamic, given, method)
           for method in ("minmax", "percentile", "entropy", "mse")},
        "static, mse, of smooth": dynq.calibrate(smooth, given, "mse"),
    }  # fmt: skip
    return result


def accuracy(model: dynq.Model, floating: dynq.Model, tested: list[Sample]) -> Difference:
    difference, (output,) = Difference(), floating.outputs
    for sample in tested:
        tokens = sample["attention_mask"].astype(bool)
        difference.add(model.run(sample)[output.name][tokens], floating.run(sample)[output.name][tokens])
    return difference


def times(runs: dict[str, dynq.Model], shape: tuple[int, int], seconds: float) -> dict[str, float]:
    """The median of each model's time over that of the dynamic model; they take turns."""
    ids = np.random.default_rng(0).integers(1000, 20000, shape)
    sample = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
    spent: dict[str, list[float]] = {name: [] for name in runs}
    for model in runs.values():
        model.run(sample)
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        for name, model in runs.items():
            start = time.perf_counter()
            model.run(sample)
            spent[name].append(time.perf_counter() - start)
    return {name: float(np.median(t) / np.median(spent["dynamic"])) for name, t in spent.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=10, help="of timing for each shape; 0: none")
    arguments = parser.parse_args()
    dynq.set_num_threads(1)
    folder = find_model()
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    runs = samples(tokenizer)
    given, tested = runs[: len(runs) // 2], runs[len(runs) // 2 :]
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary) / "minilm.onnx"
        export_bert(folder, path)
        floating, made = dynq.from_onnx(path, quantize=False), models(path, given)
    timed = [times(made, shape, arguments.seconds) for shape in SHAPES] if arguments.seconds else []
    table = Table("", "SQNR, dB", "cosine", *(f"time, {b} x {t}" for b, t in SHAPES[: len(timed)]))
    for name, model in made.items():
        near = accuracy(model, floating, tested)
        table.add_row(name, f"{near.sqnr:.1f}", f"{near.cosine:.5f}", *(f"{ratio[name]:.2f}" for ratio in timed))
    Console().print(table)


if __name__ == "__main__":
    main()
