"""Models of transformers with an encoder: the tokens that transformers writes in float, and what generate promises."""

import json

import numpy as np
import pytest
from click.testing import CliRunner

import dynq
from dynq.cli import cli
from tests.python.references.decoders import WITH_ENCODERS, WORDS, tiny

pytest.importorskip("transformers")
import torch
import transformers

NEW = 200
FRAMES = 80
TEXTS = [name for name in WITH_ENCODERS if name != "Whisper"]


@pytest.fixture(scope="module")
def networks():
    return {name: tiny(name) for name in WITH_ENCODERS}


@pytest.fixture(scope="module")
def models(networks):
    return {name: dynq.from_transformers(network, quantize=False, max_length=256) for name, network in networks.items()}


def sources(name, count=2, length=9, seed=0):
    rng = np.random.default_rng(seed)
    if name == "Whisper":
        return rng.standard_normal((count, 8, FRAMES), dtype=np.float32)
    return rng.integers(3, WORDS, (count, length))


def theirs(network, source, **settings):
    """Return what transformers writes; Whisper too by the function that all models share."""
    given = {"max_new_tokens": NEW, "do_sample": False, "pad_token_id": 1, **settings}
    tensor = torch.tensor(source)
    if source.dtype.kind == "i":
        given["attention_mask"] = torch.ones_like(tensor)
    start = torch.full((len(source), 1), network.config.decoder_start_token_id)
    given.setdefault("decoder_input_ids", start)
    return transformers.GenerationMixin.generate(network, tensor, **given).numpy()


@pytest.mark.parametrize("name", WITH_ENCODERS)
def test_greedy_tokens_are_those_of_transformers(name, networks, models):
    source, settings = sources(name), {"suppress_tokens": [0, 1]}  # no padding within a text
    expected = theirs(networks[name], source, **settings)
    ours = models[name].generate(source, max_new_tokens=NEW, pad_token_id=1, **settings)
    np.testing.assert_array_equal(ours, expected)
    assert len(np.unique(expected[:, :40])) > 3 and (expected[0] != expected[1]).any()
    ops = [op for _, op in models[name].nodes]
    assert ops.count("dynq.CachedAttention") == ops.count("dynq.CrossAttention") == 2


@pytest.mark.parametrize("name", TEXTS)
def test_sources_of_any_lengths_give_what_each_gives_alone(name, models):
    rows = [sources(name, 1, n, n)[0].tolist() for n in (3, 17, 1, 9)]
    together = models[name].generate(rows, max_new_tokens=25)
    for row, result in zip(rows, together, strict=True):
        np.testing.assert_array_equal(result, models[name].generate([row], max_new_tokens=25)[0])


@pytest.mark.parametrize(
    "settings",
    [
        {"num_beams": 3},
        {"num_beams": 2, "eos_token_id": [5, 9, 30, 44], "length_penalty": 0.6},
        {"repetition_penalty": 1.7},
        {"forced_bos_token_id": 17, "forced_eos_token_id": 3},
        {"suppress_tokens": list(range(10, 80)), "begin_suppress_tokens": [81, 82, 83, 84, 85]},
        {"forced_bos_token_id": 20, "begin_suppress_tokens": list(range(50)), "num_beams": 2},
    ],
)
@pytest.mark.parametrize("name", ["Marian", "Whisper"])
def test_ways_to_choose_are_those_of_transformers(name, settings, networks, models):
    source = sources(name, 3, seed=2)
    expected = theirs(networks[name], source, max_new_tokens=20, **settings)
    np.testing.assert_array_equal(
        models[name].generate(source, max_new_tokens=20, pad_token_id=1, **settings), expected
    )


def test_a_text_begins_as_it_is_told(networks, models):
    source = sources("Bart")
    begin = np.array([[2, 30, 41], [2, 7, 55]])
    expected = theirs(networks["Bart"], source, max_new_tokens=30, decoder_input_ids=torch.tensor(begin))
    ours = models["Bart"]
    np.testing.assert_array_equal(ours.generate(source, decoder_input_ids=begin, max_new_tokens=30), expected)
    alike = ours.generate(source, decoder_input_ids=[2, 30, 41], max_new_tokens=5)
    np.testing.assert_array_equal(alike[0], expected[0, :8])


def given(ids, source=None):
    """Return the inputs of a run of one new token for each sequence."""
    first = source is not None
    return {
        "input_ids": source if first else np.zeros((0, 1), np.int64),
        "source_lengths": np.full(len(source) if first else 0, 9),
        "decoder_input_ids": np.asarray(ids)[:, None],
        "lengths": np.ones(len(ids), np.int64),
        "logits_at": np.zeros((len(ids), 1), np.int64),
    }


def test_the_source_stays_with_its_text(models):
    state = models["T5"].state()
    both = sources("T5")
    first = state.run(given([0, 0], both))["logits"]
    second = state.run(given([5, 6]))["logits"]
    third = state.run(given([7, 8]))["logits"]
    assert state.lengths == [3, 3]
    other, saved = state.fork(), state.to_bytes()
    again = models["T5"].state()
    again.restore(saved)
    other.reorder([1, 0, 1])
    for kept, places in ((state, [0, 1]), (other, [1, 0, 1]), (again, [0, 1])):
        kept.truncate(1)
        np.testing.assert_array_equal(kept.run(given(np.array([5, 6])[places]))["logits"], second[places])
        np.testing.assert_array_equal(kept.run(given(np.array([7, 8])[places]))["logits"], third[places])
    state.truncate(0)
    np.testing.assert_array_equal(state.run(given([0, 0]))["logits"], first)
    state.reset()
    with pytest.raises(ValueError, match="sequence 0 has no source: the first run brings it"):
        state.run(given([0, 0]))
    np.testing.assert_array_equal(state.run(given([0, 0], both))["logits"], first)


def test_states_of_sources_that_are_damaged_or_of_others_are_refused(models):
    state = models["T5"].state()
    state.run(given([0, 0], sources("T5")))
    saved = state.to_bytes()
    with pytest.raises(dynq.FileFormatError, match="of another model"):
        models["Bart"].state().restore(saved)
    rng = np.random.default_rng(0)
    for at in rng.integers(0, len(saved), 50):
        damaged = bytearray(saved)
        damaged[at] ^= 0x55
        with pytest.raises(dynq.FileFormatError):
            models["T5"].state().restore(bytes(damaged))


def test_quantized_steps_have_the_bits_of_every_instruction_set(networks):
    model = dynq.from_transformers(networks["Bart"], default="int8")
    source = sources("Bart")
    first = model.generate(source, max_new_tokens=20)
    with dynq.isa.use("scalar"):
        np.testing.assert_array_equal(model.generate(source, max_new_tokens=20), first)


@pytest.mark.parametrize(
    ("name", "ids", "settings", "message"),
    [
        ("Bart", [[]], {}, "empty prompt"),
        ("Bart", [[WORDS]], {}, f"ids has {WORDS}; expected 0 to {WORDS - 1}"),
        ("Bart", [[5]], {"decoder_input_ids": [[2], [3]]}, "decoder_input_ids has 2 rows; expected 1 or 1"),
        ("Bart", [[5]], {"max_new_tokens": 300}, "take 300 positions; the model has 256"),
        ("Bart", [[5] * 300], {}, "ids has a source of 300 tokens; the model reads 256"),
        ("Bart", [[5]], {"suppress_tokens": "x"}, "a token id is 'x'"),
        ("Whisper", [[5]], {}, "expected float features"),
        ("Whisper", np.zeros((1, 8, 10), np.float32), {}, "frames|expected|80"),
    ],
)
def test_bad_input_is_named(models, name, ids, settings, message):
    with pytest.raises((ValueError, TypeError), match=message):
        models[name].generate(ids, **settings)


def test_tasks_are_those_of_the_model(networks):
    with pytest.raises(ValueError, match="for 'text2text-generation'"):
        dynq.from_transformers(networks["Bart"], task="text-generation")
    with pytest.raises(ValueError, match="for 'automatic-speech-recognition'"):
        dynq.from_transformers(networks["Whisper"], task="text-generation")


def test_a_folder_with_an_encoder_goes_through_the_commands(tmp_path, networks, models):
    tokenizers = pytest.importorskip("tokenizers")
    words = tokenizers.models.WordLevel({f"w{i}": i for i in range(WORDS)}, unk_token="w0")
    tokenizer = tokenizers.Tokenizer(words)
    setattr(tokenizer, "pre_tokenizer", tokenizers.pre_tokenizers.Whitespace())  # noqa: B010
    folder, file = tmp_path / "folder", str(tmp_path / "m.dynq")
    networks["Bart"].save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    made = CliRunner().invoke(cli, ["quantize", str(folder), "-o", file, "--no-quantize"], catch_exceptions=False)
    assert made.exit_code == 0 and "kept" in made.output
    expected = models["Bart"].generate([5, 6, 7], max_new_tokens=8)[0, 1:].tolist()
    arguments = ["generate", file, "--prompt", "w5 w6 w7", "--max-new-tokens", "8"]
    shown = CliRunner().invoke(cli, arguments, catch_exceptions=False)
    assert shown.output.split() == [f"w{token}" for token in expected]
    facts = json.loads(CliRunner().invoke(cli, [*arguments, "--json"], catch_exceptions=False).output)
    assert facts["tokens"] == expected and dynq.load(file).has_encoder
