"""Real models in PyTorch with dynq's modules, and what README.md and docs/pytorch.md say of them."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any

import pytest

import dynq
from dynq.demo.minilm import SENTENCES, Encoder, find_model

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

import dynq.torch as dt  # noqa: E402

ROOT = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def _one_thread() -> Any:
    """Small steps, in which threads that share a busy processor wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def minilm() -> Any:
    """all-MiniLM-L6-v2 as transformers builds it, and sentences."""
    transformers = pytest.importorskip("transformers")
    from safetensors.torch import load_file

    source = find_model()
    model = transformers.BertModel(transformers.BertConfig.from_json_file(str(source / "config.json")))
    missing, _ = model.load_state_dict(load_file(source / "model.safetensors"), strict=False)
    assert not missing
    encoder = Encoder(source)
    return model.eval(), [torch.from_numpy(encoder.tokens(sentence))[None].long() for sentence in SENTENCES[:4]]


def hidden(model: Any, ids: Any) -> Any:
    with torch.inference_mode():
        return model(ids, attention_mask=torch.ones_like(ids)).last_hidden_state


@pytest.mark.parametrize("spec", [{nn.Linear}, None])
def test_a_sentence_encoder_keeps_its_outputs(minilm: Any, spec: Any) -> None:
    model, sentences = minilm
    quantized = dt.quantize_dynamic(model, spec, dtype=torch.qint8, strict=True)
    cosines = [nn.functional.cosine_similarity(hidden(quantized, ids), hidden(model, ids), dim=-1) for ids in sentences]
    assert torch.cat([c.reshape(-1) for c in cosines]).mean() > 0.998
    became = [row.became for row in dt.report(quantized).rows]
    assert became.count("int8 Linear") == 37 and became.count("int8 Embedding") == (0 if spec else 3)
    copied = copy.deepcopy(quantized)
    copied.load_state_dict(model.state_dict() if spec is None else quantized.state_dict())
    assert torch.equal(hidden(copied, sentences[0]), hidden(quantized, sentences[0]))


def test_rows_do_not_depend_on_their_batch(minilm: Any) -> None:
    """Of the linear layers, to the bit: what PyTorch does between them is left out."""
    model, sentences = minilm
    dense = dt.quantize_dynamic(model.encoder.layer[0].intermediate.dense)
    x = model.embeddings(sentences[0]).detach()
    assert torch.equal(dense(x)[:, 3:4], dense(x[:, 3:4]))


def test_the_line_of_the_readme_is_all_that_changes(minilm: Any) -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8").partition("## PyTorch models")[2]
    block = re.findall(r"```diff\n(.+?)```", text, re.DOTALL)[0].splitlines()
    old, new = (next(line[1:] for line in block if line.startswith(sign)) for sign in "-+")
    assert old.replace("torch.ao.quantization.", "dynq.torch.") == new
    names: dict[str, Any] = {"model": minilm[0], "nn": nn, "torch": torch, "dynq": dynq}
    exec(new, names)
    assert any(isinstance(m, dt.Linear) for m in names["quantized"].modules())


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_the_examples_of_int8_modules_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.chdir(tmp_path)
    torch.compiler.reset()
    section = (
        (ROOT / "docs/pytorch.md").read_text(encoding="utf-8").partition("## Int8 modules\n")[2].partition("\n## ")[0]
    )
    names: dict[str, Any] = {}
    for code in re.findall(r"```python\n(.+?)```", section, re.DOTALL):
        exec(compile(code, "docs/pytorch.md", "exec"), names)
    assert names["tags"].shape == (2, 12) and names["same"]
    assert type(names["quantized"].lstm) is dt.LSTM and type(names["quantized"].embed) is nn.Embedding
    assert "int8 LSTM" in capsys.readouterr().out
    assert names["compact"].lstm.state_dict()["weight_ih_l0_reverse"].dtype == torch.float32
