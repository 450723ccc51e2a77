"""Models of sentence_transformers: converted when they are new, while they load, kept in a folder, or a .dynq file.

.ci/engines.sh installs the package and runs this.
"""

from __future__ import annotations

import re
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


def dynq_file(folder: Path) -> Path:
    """Return the file of the network, as docs/pytorch.md makes it."""
    text = (Path(__file__).parents[2] / "docs/pytorch.md").read_text(encoding="utf-8")
    (code,) = (c for c in re.findall(r"```python\n(.+?)```", text, re.DOTALL) if "as_sentence_transformer" in c)
    names: dict[str, Any] = {"SentenceTransformer": SentenceTransformer, "dynq": dynq, "folder": str(folder / "float")}
    exec(compile(code, "docs/pytorch.md", "exec"), names)
    return folder / "encoder.dynq"


def test_a_dynq_file_is_the_network(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    model = dynq.load(dynq_file(folder))
    fast, plain = dynq.torch.as_sentence_transformer(model, folder / "float"), load(folder / "float")
    assert not list(fast.parameters())
    vectors = fast.encode(SENTENCES)
    np.testing.assert_allclose(vectors, plain.encode(SENTENCES), atol=0.1)
    tokens = plain[0].tokenizer(SENTENCES, padding=True, return_tensors="pt")
    hidden, mask = model.run(tokens)["last_hidden_state"], tokens["attention_mask"].numpy()[..., None]
    np.testing.assert_allclose(vectors, (hidden * mask).sum(1) / mask.sum(1), atol=1e-6)
    np.testing.assert_array_equal(fast.encode(SENTENCES, convert_to_tensor=True).numpy(), vectors)
    with pytest.raises(dynq.Error, match=r"model\.save writes its \.dynq file"):
        fast.save(str(folder / "again"))


def test_a_model_without_the_output_is_refused(folder: Path) -> None:
    g = dynq.Graph()
    model = g.build({"y": g.relu(g.input("input_ids", ("batch", 4)))})
    with pytest.raises(ValueError, match=r"has the outputs \['y'\]; expected last_hidden_state"):
        dynq.torch.as_sentence_transformer(model, folder / "float")
