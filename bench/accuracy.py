"""How much of a sentence encoder's accuracy each int8 runtime keeps, on labelled sentences of four domains.

all-MiniLM-L6-v2 embeds the sentences of vaderSentiment's data (Hutto and Gilbert, 2014; ratings of people, positive or
negative). A logistic regression is fitted on float32 embeddings of tweets and classifies 800 held-out sentences of each
domain by embeddings of each runtime. Also: the cosine of the token outputs to float32, mean over all tokens.

    python bench/accuracy.py                  # fetches the model (80 MB) and the data (2 MB) with pip
    python bench/accuracy.py --sentences 200  # quicker

Needs onnxruntime, safetensors, tokenizers, scikit-learn.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterable
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from onnxruntime.quantization import QuantType, quantize_dynamic
from rich.console import Console
from rich.table import Table
from sklearn.linear_model import LogisticRegression
from tokenizers import Tokenizer

import dynq
from dynq.demo.bert_onnx import export_bert
from dynq.demo.minilm import find_model

Array = np.ndarray[Any, Any]
Run = Callable[[dict[str, Array]], Array]

DOMAINS = {"tweets": "tweets", "movies": "movieReviewSnippets", "Amazon": "amazonReviewSnippets",
           "NYT": "nytEditorialSnippets"}  # fmt: skip
DATA = "vaderSentiment==3.3.2"
NEUTRAL = 0.5  # ratings from -4 to 4 that are nearer to 0 say neither
FITTED = 1200  # tweets
BATCH = 16


def fetch_data(cache: Path) -> Path:
    """The folder with the sentences, from the source distribution, which pip fetches."""
    folder = cache / "hutto_ICWSM_2014"
    if not folder.exists():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as partial:
            command = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-binary", ":all:", "-d", partial]
            subprocess.run([*command, DATA], check=True, stdout=subprocess.DEVNULL)
            for name in ("vaderSentiment*.tar.gz", "*/additional_resources/hutto_ICWSM_2014.tar.gz"):
                with tarfile.open(next(Path(partial).glob(name))) as archive:
                    archive.extractall(partial, filter="data")
            (Path(partial) / "hutto_ICWSM_2014").rename(folder)
    return folder


def sentences(folder: Path, domain: str, count: int, seed: int = 0) -> tuple[list[str], Array]:
    """Random sentences of a domain and whether people found them positive; neutral ones are left out."""
    texts, labels = [], []
    for line in (folder / f"{DOMAINS[domain]}_GroundTruth.txt").read_text("utf-8", "replace").splitlines():
        _, rating, text = line.split("\t", 2)
        if abs(float(rating)) > NEUTRAL:
            texts.append(text)
            labels.append(float(rating) > 0)
    order = np.random.default_rng(seed).permutation(len(texts))[:count]
    return [texts[i] for i in order], np.array(labels)[order]


def batches(tokenizer: Tokenizer, texts: list[str]) -> list[tuple[Array, dict[str, Array]]]:
    """Places and inputs, BATCH sentences of similar length at a time."""
    ids = [encoding.ids for encoding in tokenizer.encode_batch(texts)]
    order = np.argsort([len(i) for i in ids], kind="stable")
    result = []
    for start in range(0, len(order), BATCH):
        at = order[start : start + BATCH]
        width = max(len(ids[i]) for i in at)
        tokens, mask = np.zeros((2, len(at), width), np.int64)
        for row, i in enumerate(at):
            tokens[row, : len(ids[i])] = ids[i]
            mask[row, : len(ids[i])] = 1
        feed = {"input_ids": tokens, "attention_mask": mask, "token_type_ids": np.zeros_like(tokens)}
        result.append((at, feed))
    return result


def embed(run: Run, parts: list[tuple[Array, dict[str, Array]]]) -> tuple[Array, list[Array], float]:
    """Embeddings in the order of the sentences, the token outputs of each batch, seconds."""
    count = sum(len(at) for at, _ in parts)
    embeddings, tokens, seconds = np.empty((count, 384), np.float32), [], 0.0
    for at, feed in parts:
        start = time.perf_counter()
        hidden = run(feed)
        seconds += time.perf_counter() - start
        seen = feed["attention_mask"] == 1
        mean = (hidden * seen[..., None]).sum(1) / seen.sum(1)[:, None]
        embeddings[at] = mean / np.linalg.norm(mean, axis=1, keepdims=True)
        tokens.append(hidden[seen])
    return embeddings, tokens, seconds


def cosine(a: Iterable[Array], b: Iterable[Array]) -> float:
    """Mean over all tokens."""
    x, y = np.concatenate(list(a)).astype(np.float64), np.concatenate(list(b)).astype(np.float64)
    return float(((x * y).sum(1) / np.linalg.norm(x, axis=1) / np.linalg.norm(y, axis=1)).mean())


def onnx_runtime(path: Path, threads: int) -> Run:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda feed: session.run(None, feed)[0]


def of_dynq(model: dynq.Model) -> Run:
    return lambda feed: model.run(feed)["last_hidden_state"]


def runtimes(path: Path, threads: int, floats: bool) -> dict[str, Run]:
    """Float32 first. ``path`` is the float32 ONNX file."""
    folder = path.parent
    quantize_dynamic(path, folder / "default.onnx", weight_type=QuantType.QInt8)
    quantize_dynamic(path, folder / "channel.onnx", weight_type=QuantType.QInt8, per_channel=True)
    result = {
        "ONNX Runtime float32": onnx_runtime(path, threads),
        "ONNX Runtime int8": onnx_runtime(folder / "default.onnx", threads),
        "ONNX Runtime int8 per channel": onnx_runtime(folder / "channel.onnx", threads),
    }
    if floats:
        result["dynq float32"] = of_dynq(dynq.from_onnx(path, quantize=False))
    result["dynq int8"] = of_dynq(dynq.from_onnx(path))
    result["dynq int8, attention too"] = of_dynq(dynq.from_onnx(path, attention="int8"))
    return result


def measure(count: int, threads: int, floats: bool = False) -> list[dict[str, Any]]:
    """A row for each runtime: accuracy in percent by domain, cosine of tokens, milliseconds a sentence."""
    dynq.set_num_threads(threads)
    cache = find_model().parents[2]
    data = fetch_data(cache.parent / "vader")
    tokenizer = Tokenizer.from_file(str(find_model() / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(128)
    fit_texts, fit_labels = sentences(data, "tweets", FITTED + count)
    held_out = {"tweets": (fit_texts[FITTED:], fit_labels[FITTED:])}
    held_out |= {domain: sentences(data, domain, count) for domain in DOMAINS if domain != "tweets"}
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "minilm.onnx"
        export_bert(find_model(), path)
        runs = runtimes(path, threads, floats)
        reference = next(iter(runs.values()))
        fitted, _, _ = embed(reference, batches(tokenizer, fit_texts[:FITTED]))
        classifier = LogisticRegression(max_iter=1000).fit(fitted, fit_labels[:FITTED])
        parts = {domain: batches(tokenizer, texts) for domain, (texts, _) in held_out.items()}
        floats_of: dict[str, list[Array]] = {}
        for name, run in runs.items():
            row: dict[str, Any] = {"runtime": name}
            tokens_of, seconds = {}, 0.0
            for domain, (_, labels) in held_out.items():
                embeddings, tokens_of[domain], took = embed(run, parts[domain])
                row[domain] = float((classifier.predict(embeddings) == labels).mean() * 100)
                seconds += took
            floats_of = floats_of or tokens_of
            row["cosine"] = cosine(chain(*tokens_of.values()), chain(*floats_of.values()))
            row["ms"] = seconds / (4 * count) * 1e3
            rows.append(row)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sentences", type=int, default=800, help="of each domain")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    rows = measure(arguments.sentences, arguments.threads)
    if arguments.json:
        print(json.dumps(rows, indent=2))
        return
    table = Table("", *DOMAINS, "cosine", "ms", title=f"accuracy, %, {arguments.sentences} sentences of each domain")
    for row in rows:
        numbers = [f"{row[domain]:.1f}" for domain in DOMAINS]
        table.add_row(row["runtime"], *numbers, f"{row['cosine']:.4f}", f"{row['ms']:.2f}")
    Console().print(table)


if __name__ == "__main__":
    main()
