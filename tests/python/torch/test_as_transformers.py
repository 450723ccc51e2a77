"""``dynq.torch.as_transformers``: transformers' own generate and pipelines write with dynq what they write without."""

import numpy as np
import pytest

import dynq
from tests.python.references.decoders import WORDS, tiny

pytest.importorskip("transformers")
import torch
import transformers

import dynq.torch


@pytest.fixture(scope="module")
def networks():
    return {name: tiny(name) for name in ("Llama", "Bart", "Whisper")}


@pytest.fixture(scope="module")
def models(networks):
    return {name: dynq.from_transformers(network, quantize=False) for name, network in networks.items()}


def written(model, ids, **settings):
    torch.manual_seed(3)
    given = {"max_new_tokens": 25, "do_sample": False, "pad_token_id": 1, **settings}
    return transformers.GenerationMixin.generate(model, ids, **given).numpy()


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"num_beams": 3, "num_return_sequences": 2},
        {"do_sample": True, "top_k": 9},
        {"repetition_penalty": 1.4, "no_repeat_ngram_size": 3},
        {"eos_token_id": [5, 9, 30]},
    ],
)
@pytest.mark.parametrize("side", ["left", "right"])
def test_generate_of_transformers_writes_the_same(side, settings, networks, models):
    ids = torch.tensor(np.random.default_rng(0).integers(2, WORDS, (3, 8)))
    mask = torch.ones_like(ids)
    if side == "left":
        mask[0, :3], mask[1, :1] = 0, 0
    ours = dynq.torch.as_transformers(models["Llama"])
    expected = written(networks["Llama"], ids, attention_mask=mask, **settings)
    np.testing.assert_array_equal(written(ours, ids, attention_mask=mask, **settings), expected)


@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize("name", ["Bart", "Whisper"])
def test_models_with_an_encoder_write_the_same(name, beams, networks, models):
    rng = np.random.default_rng(1)
    source = rng.standard_normal((2, 8, 80), np.float32) if name == "Whisper" else rng.integers(3, WORDS, (2, 9))
    settings = {"num_beams": beams, "decoder_input_ids": torch.full((2, 1), 2)}
    if name == "Bart":
        settings["attention_mask"] = torch.tensor([[1] * 9, [1] * 6 + [0] * 3])
    expected = written(networks[name], torch.tensor(source), **settings)
    ours = dynq.torch.as_transformers(models[name])
    np.testing.assert_array_equal(written(ours, torch.tensor(source), **settings), expected)
    if name == "Bart":
        settings["attention_mask"] = settings["attention_mask"].flip(1)
        with pytest.raises(ValueError, match="expected it behind: padding_side='right'"):
            written(ours, torch.tensor(source), **settings)


def test_logits_are_those_of_transformers_for_all_columns(networks, models):
    ids = torch.tensor(np.random.default_rng(2).integers(2, WORDS, (2, 7)))
    with torch.no_grad():
        expected = networks["Llama"](ids).logits.numpy()
    ours = dynq.torch.as_transformers(models["Llama"])
    np.testing.assert_allclose(ours(ids).logits.numpy(), expected, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(ours(ids, logits_to_keep=2).logits.numpy(), expected[:, -2:], rtol=1e-3, atol=1e-4)


def test_a_pipeline_runs_on_it(networks, models):
    tokenizers = pytest.importorskip("tokenizers")
    words = {f"w{i}": i for i in range(WORDS)}
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="w0"))
    setattr(made, "pre_tokenizer", tokenizers.pre_tokenizers.Whitespace())  # noqa: B010
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=made, pad_token="w1", unk_token="w0")
    texts = ["w5 w6 w7", "w9"]
    results = []
    for model in (networks["Llama"], dynq.torch.as_transformers(models["Llama"])):
        pipeline = transformers.pipeline("text-generation", model=model, tokenizer=tokenizer, device="cpu")
        results.append(pipeline(texts, max_new_tokens=9, do_sample=False, batch_size=1))
    assert results[0] == results[1]
    assert results[1][0][0]["generated_text"].count("w") == 3 + 9


def test_what_does_not_generate_is_refused():
    graph = dynq.Graph()
    x = graph.input("x", (2, 3))
    graph.output(graph.node("Relu", [x]), "y")
    with pytest.raises(ValueError, match="the model does not generate"):
        dynq.torch.as_transformers(graph.build())
