"""Models of sentence_transformers: converted when they are new, while they load, and kept in a folder.

.ci/engines.sh installs the package and runs this.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("sentence_transformers")
import transformers
from sentence_transformers import SentenceTransformer

import dynq.torch
from dynq.torch import DynqConfig

SENTENCES = ["hello world", "a world of a", "b"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a small encoder of sentences with made-up weights."""
    folder = tmp_path_factory.mktemp("encoder")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "hello", "world", "a", "of", "b"]
    config = transformers.BertConfig(
        hidden_size=64, num_hidden_layers=2, num_attention_heads=4, intermediate_size=128, vocab_size=len(words)
    )
    transformers.BertModel(config).save_pretrained(folder / "bert")
    (folder / "vocab.txt").write_text("\n".join(words))
    transformers.BertTokenizerFast(str(folder / "vocab.txt")).save_pretrained(folder / "bert")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # newer versions have the modules elsewhere
        from sentence_transformers.models import Pooling, Transformer
    new = SentenceTransformer(modules=[Transformer(str(folder / "bert")), Pooling(64)], device="cpu")
    new.save(str(folder / "float"))
    return folder


def load(path: Path, **options: Any) -> Any:
    return SentenceTransformer(str(path), device="cpu", **options)


def is_int8(encoder: Any) -> bool:
    return sum(row.quantized for row in dynq.torch.report(encoder).rows) > 12


def test_a_new_model_is_converted_and_its_folder_keeps_int8(folder: Path) -> None:
    plain = load(folder / "float")
    small = dynq.torch.quantize_dynamic(load(folder / "float"), inplace=True)
    vectors = small.encode(SENTENCES)
    assert is_int8(small) and not np.array_equal(vectors, plain.encode(SENTENCES))
    np.testing.assert_allclose(vectors, plain.encode(SENTENCES), atol=0.1)
    small.save(str(folder / "int8"))
    again = load(folder / "int8")
    assert is_int8(again)
    np.testing.assert_array_equal(again.encode(SENTENCES), vectors)


def test_it_is_converted_while_it_loads(folder: Path) -> None:
    small = load(folder / "float", model_kwargs={"quantization_config": DynqConfig()})
    assert is_int8(small)
    expected = dynq.torch.quantize_dynamic(load(folder / "float"), inplace=True)
    np.testing.assert_array_equal(small.encode(SENTENCES), expected.encode(SENTENCES))
