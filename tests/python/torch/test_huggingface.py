"""Models of transformers keep their int8 in a folder, bit for bit, and are converted while they load."""

from __future__ import annotations

import json
import pickle
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import safetensors
import torch
from torch import Tensor, nn

transformers = pytest.importorskip("transformers")

import dynq.torch  # noqa: E402

IDS = torch.randint(0, 500, (2, 9), generator=torch.Generator().manual_seed(0))
BERT = transformers.BertConfig(
    hidden_size=64, num_hidden_layers=2, num_attention_heads=4, intermediate_size=128, vocab_size=500
)


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    before = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_error()
    with torch.inference_mode():
        yield
    transformers.logging.set_verbosity(before)


def make(kind: Any, config: Any = BERT) -> Any:
    torch.manual_seed(0)
    return kind(config).eval()


def same(a: Any, b: Any, ids: Tensor = IDS) -> bool:
    return torch.equal(a(ids)[0], b(ids)[0])


def int8_names(model: nn.Module) -> set[str]:
    return {row.node for row in dynq.torch.report(model).rows if row.quantized}


@pytest.mark.parametrize("kind", [transformers.BertModel, transformers.BertForMaskedLM])
def test_a_saved_model_loads_with_the_same_bits_and_can_be_saved_again(kind: Any, tmp_path: Path) -> None:
    model = make(kind)
    quantized = dynq.torch.quantize_dynamic(model)
    assert not hasattr(model.config, "quantization_config")  # the float one stays as it was
    quantized.save_pretrained(tmp_path / "1")
    once = kind.from_pretrained(tmp_path / "1")
    assert same(once, quantized) and int8_names(once) == int8_names(quantized)
    once.save_pretrained(tmp_path / "2")
    assert same(kind.from_pretrained(tmp_path / "2"), quantized)


def test_a_folder_is_small_and_its_tied_weight_one(tmp_path: Path) -> None:
    quantized = dynq.torch.quantize_dynamic(make(transformers.BertForMaskedLM))
    quantized.save_pretrained(tmp_path)
    loaded = transformers.BertForMaskedLM.from_pretrained(tmp_path)
    table, head = loaded.bert.embeddings.word_embeddings, loaded.cls.predictions.decoder
    assert table.packed.data_ptr() == head.packed.data_ptr()
    with safetensors.safe_open(tmp_path / "model.safetensors", "pt") as file:
        assert "cls.predictions.decoder.weight" not in file.keys()  # noqa: SIM118
    make(transformers.BertForMaskedLM).save_pretrained(tmp_path / "float")
    sizes = [(folder / "model.safetensors").stat().st_size for folder in (tmp_path, tmp_path / "float")]
    assert sizes[0] < 0.4 * sizes[1]


def test_a_float_folder_is_converted_while_it_loads(tmp_path: Path) -> None:
    model = make(transformers.BertModel)
    model.save_pretrained(tmp_path / "float")
    config = dynq.torch.DynqConfig(keep_float=["encoder.layer.0"])
    loaded = transformers.AutoModel.from_pretrained(tmp_path / "float", quantization_config=config)
    expected = dynq.torch.quantize_dynamic(model, keep_float=["encoder.layer.0"])
    assert same(loaded, expected) and int8_names(loaded) == int8_names(expected)
    loaded.save_pretrained(tmp_path / "int8")
    again = transformers.AutoModel.from_pretrained(tmp_path / "int8")
    assert same(again, expected) and int8_names(again) == int8_names(expected)


def test_the_base_of_a_model_loads_and_a_new_head_is_float(tmp_path: Path) -> None:
    quantized = dynq.torch.quantize_dynamic(make(transformers.BertForMaskedLM))
    quantized.save_pretrained(tmp_path)
    assert same(transformers.BertModel.from_pretrained(tmp_path, add_pooling_layer=False), quantized.bert)
    classifier = transformers.BertForSequenceClassification.from_pretrained(tmp_path)
    assert type(classifier.classifier) is nn.Linear and same(classifier.bert, quantized.bert)


def test_a_decoder_writes_the_same_text(tmp_path: Path) -> None:
    config = transformers.GPT2Config(
        n_embd=64, n_layer=2, n_head=4, vocab_size=500, bos_token_id=0, eos_token_id=0, pad_token_id=0
    )
    quantized = dynq.torch.quantize_dynamic(make(transformers.GPT2LMHeadModel, config))
    quantized.save_pretrained(tmp_path)
    loaded = transformers.AutoModelForCausalLM.from_pretrained(tmp_path)
    texts = [m.generate(IDS, max_new_tokens=5, do_sample=False).tolist() for m in (quantized, loaded)]
    assert texts[0] == texts[1]
    with pytest.raises(dynq.UnsupportedModelError, match=r"has int8 weights.*expected the folder that it was made of"):
        dynq.from_transformers(tmp_path)


class OwnConfig(transformers.PretrainedConfig):  # type: ignore[misc,unused-ignore]
    model_type = "dynq_test"


class Own(transformers.PreTrainedModel):  # type: ignore[misc,unused-ignore]
    """Layers of every kind that few models of transformers have."""

    config_class = OwnConfig

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.conv = nn.Conv1d(32, 64, 3, padding=1)
        self.attention = nn.MultiheadAttention(64, 4, batch_first=True)
        self.lstm = nn.LSTM(64, 64, num_layers=2, batch_first=True)
        self.gru = nn.GRU(64, 32, batch_first=True)
        self.norm = nn.LayerNorm(32)
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        """Leave PyTorch's numbers."""

    def forward(self, x: Tensor) -> tuple[Tensor]:
        x = self.conv(x).transpose(1, 2)
        x = self.attention(x, x, x)[0]
        return (self.norm(self.gru(self.lstm(x)[0])[0]),)


def test_recurrent_layers_attention_and_convolutions_load_with_their_float_weights(tmp_path: Path) -> None:
    quantized = dynq.torch.quantize_dynamic(
        make(Own, OwnConfig()), keep_float=["lstm.weight_hh_l1", "gru.weight_ih_l0"], first_layer="float"
    )
    quantized.save_pretrained(tmp_path)
    loaded = Own.from_pretrained(tmp_path)
    x = torch.randn(2, 32, 40)
    assert same(loaded, quantized, x) and int8_names(loaded) == int8_names(quantized) == {
        "conv", "attention", "attention.out_proj", "lstm", "gru"
    }  # fmt: skip
    assert json.loads((tmp_path / "config.json").read_text())["quantization_config"]["float_weights"] == [
        "lstm.weight_ih_l0", "lstm.weight_hh_l1", "gru.weight_ih_l0"
    ]  # fmt: skip


def test_another_dtype_stays_and_scales_are_not_rounded(tmp_path: Path) -> None:
    if int(transformers.__version__.split(".")[0]) < 5:
        pytest.skip("transformers 4 rounds scales, and dynq refuses it")
    quantized = dynq.torch.quantize_dynamic(make(transformers.BertModel).bfloat16())
    quantized.save_pretrained(tmp_path)
    loaded = transformers.BertModel.from_pretrained(tmp_path, dtype=torch.bfloat16)
    assert loaded(IDS)[0].dtype == torch.bfloat16 and same(loaded, quantized)


def test_a_folder_that_lacks_an_int8_weight_is_an_error(tmp_path: Path) -> None:
    quantized = dynq.torch.quantize_dynamic(make(transformers.BertModel))
    state = {k: v for k, v in quantized.state_dict().items() if "layer.1.output.dense" not in k}
    quantized.hf_quantizer.get_state_dict_and_metadata = lambda model, *_: (state, {})
    quantized.save_pretrained(tmp_path)
    with pytest.raises(dynq.Error, match=r"the folder lacks encoder\.layer\.1\.output\.dense\.weight as torch.int8"):
        transformers.BertModel.from_pretrained(tmp_path)


def test_other_devices_and_what_is_no_config_are_refused(tmp_path: Path) -> None:
    make(transformers.BertModel).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="device_map has 'cuda'; expected 'cpu' or None"):
        dynq.torch.huggingface.DynqQuantizer(dynq.torch.DynqConfig()).validate_environment(device_map={"": "cuda"})
    with pytest.raises(ValueError, match="no module is called 'nosuch'"):
        config = dynq.torch.DynqConfig(keep_float="nosuch")
        transformers.BertModel.from_pretrained(tmp_path, quantization_config=config)


def test_a_converted_model_pickles(tmp_path: Path) -> None:
    quantized = dynq.torch.quantize_dynamic(make(transformers.BertModel))
    again = pickle.loads(pickle.dumps(quantized))
    again.save_pretrained(tmp_path)
    assert same(transformers.BertModel.from_pretrained(tmp_path), quantized)


def test_the_example_of_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    page = (Path(__file__).parents[3] / "docs/pytorch.md").read_text(encoding="utf-8")
    code = re.findall(r"```python\n(.+?)```", page.partition("## Models of transformers\n")[2], re.DOTALL)[0]
    names: dict[str, Any] = {}
    exec(compile(code, "docs/pytorch.md", "exec"), names)
    assert same(names["again"], names["model"]) and type(names["again"].pooler.dense) is nn.Linear


def test_another_process_loads_a_folder_after_it_has_imported_dynqconfig(tmp_path: Path) -> None:
    quantized = dynq.torch.quantize_dynamic(make(transformers.BertModel))
    quantized.save_pretrained(tmp_path / "m")
    torch.save([IDS, quantized(IDS)[0]], tmp_path / "expected.pt")
    code = """if True:
        import sys, torch, dynq.torch
        assert "transformers" not in sys.modules  # it takes a second to import
        from dynq.torch import DynqConfig
        from transformers import BertModel
        ids, expected = torch.load("expected.pt")
        assert torch.equal(BertModel.from_pretrained("m")(ids)[0], expected)
    """
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path)
