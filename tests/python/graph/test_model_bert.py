"""A small BERT encoder with random weights: near NumPy, and the same bits however it is run."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dynq
from dynq.demo.bert import bert_graph
from tests.python.references.evaluate import evaluate

HIDDEN, LAYERS, VOCABULARY = 48, 2, 60
CONFIG = {"num_attention_heads": 4, "layer_norm_eps": 1e-12, "num_hidden_layers": LAYERS, "hidden_act": "gelu"}
LENGTHS = (11, 4, 1, 7)


def weights() -> dict[str, Any]:
    rng = np.random.default_rng(2)
    tensors: dict[str, Any] = {}

    def dense(name: str, n: int, k: int) -> None:
        tensors[f"{name}.weight"] = rng.standard_normal((n, k), np.float32) / np.float32(np.sqrt(k))
        tensors[f"{name}.bias"] = rng.standard_normal(n, np.float32) / 4

    def norm(name: str) -> None:
        tensors[f"{name}.weight"] = rng.uniform(0.5, 1.5, HIDDEN).astype(np.float32)
        tensors[f"{name}.bias"] = rng.standard_normal(HIDDEN, np.float32) / 4

    for name, rows in (("word", VOCABULARY), ("position", 32), ("token_type", 2)):
        tensors[f"embeddings.{name}_embeddings.weight"] = rng.standard_normal((rows, HIDDEN), np.float32)
    norm("embeddings.LayerNorm")
    for i in range(LAYERS):
        layer = f"encoder.layer.{i}"
        for name in ("attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"):
            dense(f"{layer}.{name}", HIDDEN, HIDDEN)
        dense(f"{layer}.intermediate.dense", 4 * HIDDEN, HIDDEN)
        dense(f"{layer}.output.dense", HIDDEN, 4 * HIDDEN)
        norm(f"{layer}.attention.output.LayerNorm")
        norm(f"{layer}.output.LayerNorm")
    return tensors


GRAPH = bert_graph(weights(), CONFIG)
RNG = np.random.default_rng(4)
IDS = [RNG.integers(0, VOCABULARY, length) for length in LENGTHS]


def padded() -> dict[str, Any]:
    ids = np.zeros((len(LENGTHS), max(LENGTHS)), np.int64)
    mask = np.zeros_like(ids)
    for row, sentence in enumerate(IDS):
        ids[row, : len(sentence)], mask[row, : len(sentence)] = sentence, 1
    return {"input_ids": ids, "attention_mask": mask}


def alone(sentence: Any) -> dict[str, Any]:
    return {"input_ids": sentence[None], "attention_mask": np.ones((1, len(sentence)), np.int64)}


@pytest.fixture(scope="module")
def model() -> dynq.Model:
    return GRAPH.build()


@pytest.fixture(scope="module")
def reference() -> dict[str, Any]:
    return evaluate(GRAPH, padded())


@pytest.mark.parametrize("length", LENGTHS)
def test_float_is_near_numpy(length: int) -> None:
    inputs = alone(IDS[LENGTHS.index(length)])
    result = GRAPH.build(quantize=False).run(inputs)
    for name, expected in evaluate(GRAPH, inputs).items():
        np.testing.assert_allclose(result[name], expected, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize(
    "options", [{}, {"attention": "int8"}, {"embedding": "float"}, {"scheme": "symmetric"}, {"keep_float": ["*.0.*"]}]
)
def test_int8_is_close_to_float(options: dict[str, Any], reference: dict[str, Any]) -> None:
    result = GRAPH.build(**options).run(padded())["sentence_embedding"]
    cosine = (result * reference["sentence_embedding"]).sum(axis=1)
    assert cosine.min() > 0.995


def test_layers_are_merged_and_fused(model: dynq.Model) -> None:
    ops = [op for _, op in model.nodes]
    assert ops.count("dynq.Linear") == 4 * LAYERS and ops.count("dynq.Attention") == LAYERS and "Split" not in ops
    assert ops.count("LayerNormalization") == 2 * LAYERS + 1 and "Gelu" not in ops
    assert ops.count("Add") == 1  # of the embeddings


@pytest.mark.parametrize("attention", ["float", "int8"])
def test_every_instruction_set_gives_the_same_bits(isa: str, attention: str) -> None:
    model = GRAPH.build(attention=attention)
    result = model.run(padded())
    with dynq.isa.use("scalar"):
        expected = model.run(padded())
    for name in expected:
        np.testing.assert_array_equal(result[name], expected[name])


@pytest.mark.parametrize("threads", [2, 3, 8])
def test_every_number_of_threads_gives_the_same_bits(model: dynq.Model, threads: int) -> None:
    dynq.set_num_threads(1)
    expected = model.run(padded())
    dynq.set_num_threads(threads)
    result = model.run(padded())
    for name in expected:
        np.testing.assert_array_equal(result[name], expected[name])


def test_a_sentence_gives_the_same_alone_and_among_others(model: dynq.Model) -> None:
    together = model.run(padded())
    for row, sentence in enumerate(IDS):
        by_itself = model.run(alone(sentence))
        hidden = by_itself["last_hidden_state"][0]
        np.testing.assert_array_equal(together["last_hidden_state"][row, : len(sentence)], hidden)


def test_the_file_runs_as_the_model_does(model: dynq.Model, tmp_path: Path) -> None:
    model.save(tmp_path / "bert.dynq")
    loaded = dynq.load(tmp_path / "bert.dynq")
    np.testing.assert_array_equal(loaded.run(padded())["last_hidden_state"], model.run(padded())["last_hidden_state"])
    assert loaded.report() == model.report()


def test_the_report_counts_all_weights(model: dynq.Model) -> None:
    matrices = [w for name, w in weights().items() if "dense.weight" in name or ("self" in name and w.ndim == 2)]
    word = weights()["embeddings.word_embeddings.weight"]
    assert model.report().bytes_before == sum(w.nbytes for w in matrices) + word.nbytes
