"""Decoders of transformers: the tokens that transformers writes in float, and what generate promises."""

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

import dynq
from dynq.generation.sampling import exp, log
from tests.python.references.decoders import CONFIGS, WORDS, tiny

pytest.importorskip("transformers")
import torch
import transformers

ROOT = Path(__file__).parents[3]
NEW = 40


@pytest.fixture(scope="module")
def llama():
    return tiny("Llama")


@pytest.fixture(scope="module")
def model(llama):
    return dynq.from_transformers(llama, quantize=False)


def prompts(batch, length, seed=0):
    return np.random.default_rng(seed).integers(2, WORDS, (batch, length))


def theirs(model, ids, **settings):
    ids = torch.tensor(np.asarray(ids))
    given = {"max_new_tokens": NEW, "do_sample": False, "pad_token_id": 0, **settings}
    return model.generate(ids, attention_mask=torch.ones_like(ids), **given).numpy()


@pytest.mark.parametrize("name", [name for name in CONFIGS if name != "Llama"])
def test_greedy_tokens_are_those_of_transformers(name, llama, model):
    network = tiny(name)
    before = network.config._attn_implementation
    made = dynq.from_transformers(network, quantize=False)
    assert network.config._attn_implementation == before
    ids = prompts(2, 6)
    for ours, other in ((made, network), (model, llama)):
        np.testing.assert_array_equal(ours.generate(ids, max_new_tokens=NEW), theirs(other, ids))
    assert sum(op == "dynq.CachedAttention" for _, op in made.nodes) == 2


def test_ragged_prompts_give_what_each_gives_alone(model):
    rng = np.random.default_rng(1)
    rows = [rng.integers(2, WORDS, n).tolist() for n in (3, 17, 1, 9)]
    together = model.generate(rows, max_new_tokens=25)
    for row, result in zip(rows, together, strict=True):
        np.testing.assert_array_equal(result, model.generate([row], max_new_tokens=25)[0])
    state, alone = model.state(), model.state()
    ids = np.zeros((2, 17), np.int64)
    ids[0, :3], ids[1] = rows[0], rows[1]
    given = {"input_ids": ids, "lengths": np.array([3, 17]), "logits_at": np.array([[2], [16]])}
    single = {"input_ids": ids[:1, :3], "lengths": np.array([3]), "logits_at": np.array([[2]])}
    np.testing.assert_array_equal(state.run(given)["logits"][0], alone.run(single)["logits"][0])


def test_quantized_steps_have_the_bits_of_one_run(llama):
    made = dynq.from_transformers(llama, default="int8")
    assert any(op == "dynq.Linear" for _, op in made.nodes)
    ids = prompts(1, 12)
    places = {"lengths": np.array([12]), "logits_at": np.arange(12)[None]}
    whole = made.run({"input_ids": ids, **places})["logits"]
    state = made.state()
    for i in range(12):
        one = {"input_ids": ids[:, i : i + 1], "lengths": np.array([1]), "logits_at": np.array([[0]])}
        np.testing.assert_array_equal(state.run(one)["logits"][0, 0], whole[0, i])


@pytest.mark.parametrize(
    "settings",
    [
        {"repetition_penalty": 1.7},
        {"num_beams": 3},
        {"num_beams": 4, "eos_token_id": 7, "length_penalty": 0.6},
        {"num_beams": 2, "eos_token_id": [5, 9, 30], "early_stopping": True},
        {"eos_token_id": [5, 9, 30, 41]},
        {"eos_token_id": list(range(40)), "min_new_tokens": 6},
    ],
)
def test_ways_to_choose_are_those_of_transformers(llama, model, settings):
    ids = prompts(3, 5, seed=2)
    ours = model.generate(ids, max_new_tokens=20, pad_token_id=1, **settings)
    expected = theirs(llama, ids, max_new_tokens=20, pad_token_id=1, **settings)
    np.testing.assert_array_equal(ours, expected)


def test_sampling_is_the_same_everywhere_and_follows_the_probabilities(model):
    settings = {"max_new_tokens": 30, "do_sample": True, "temperature": 0.8, "top_k": 20, "top_p": 0.9, "min_p": 0.01}
    ids = prompts(2, 4)
    first = model.generate(ids, seed=3, **settings)
    with dynq.isa.use("scalar"):
        np.testing.assert_array_equal(model.generate(ids, seed=3, **settings), first)
    assert (model.generate(ids, seed=4, **settings) != first).any()
    np.testing.assert_array_equal(model.generate(ids[:1], seed=3, **settings)[0], first[0])
    many = model.generate(np.repeat(ids[:1], 1500, 0), max_new_tokens=1, do_sample=True, seed=1)[:, -1]
    logits = model.run({"input_ids": ids[:1], "lengths": np.array([4]), "logits_at": np.array([[3]])})["logits"][0, 0]
    expected = np.exp(logits - logits.max())
    counts = np.bincount(many, minlength=WORDS) / 1500
    assert np.abs(counts - expected / expected.sum()).max() < 0.05
    only = model.generate(ids, max_new_tokens=5, do_sample=True, top_k=1)
    np.testing.assert_array_equal(only, model.generate(ids, max_new_tokens=5))


def test_exp_and_log_are_right():
    x = -np.concatenate([np.linspace(0, 50, 5001), np.linspace(50, 720, 500)])
    np.testing.assert_allclose(exp(x)[x > -700], np.exp(x)[x > -700], rtol=4e-16)
    for value in (1.0, 1e-300, 0.7, 0.71, 1.5, 3e5, 1e300):
        assert abs(log(value) - np.log(value)) <= 4e-16 * max(abs(np.log(value)), 1)


def test_stop_and_streamer(model):
    ids = prompts(1, 4)
    whole = model.generate(ids, max_new_tokens=12)[0, 4:].tolist()
    stopped = model.generate(ids, max_new_tokens=12, stop=[whole[4:6]])[0, 4:].tolist()
    end = next(i for i in range(2, 13) if whole[i - 2 : i] == whole[4:6])
    assert stopped == whole[:end]
    seen = []
    model.generate(ids, max_new_tokens=12, streamer=lambda tokens: seen.extend(tokens.tolist()))
    assert seen == whole


@pytest.mark.parametrize(
    ("ids", "settings", "message"),
    [
        ([], {}, "empty prompt"),
        ([[1], []], {}, "empty prompt"),
        ([[1, WORDS]], {}, f"ids has {WORDS}; expected 0 to {WORDS - 1}"),
        ([[-1]], {}, "ids has -1"),
        ([[1] * 250], {"max_new_tokens": 20}, "take 269 positions; the model has 256"),
        ("text", {}, "a tokenizer makes them"),
        ([[0.5]], {}, "a row of integers"),
        ([[1]], {"temperature": 0.0}, "temperature is 0.0; expected a number over 0"),
        ([[1]], {"temperature": float("nan")}, "temperature is nan"),
        ([[1]], {"top_p": 1.5}, "top_p is 1.5; expected 0 to 1"),
        ([[1]], {"top_k": -1}, "top_k is -1"),
        ([[1]], {"min_p": -0.1}, "min_p is -0.1"),
        ([[1]], {"repetition_penalty": 0.0}, "repetition_penalty is 0.0"),
        ([[1]], {"num_beams": 0}, "num_beams is 0"),
        ([[1]], {"num_beams": 2, "do_sample": True}, "beams are searched without sampling"),
        ([[1]], {"max_new_tokens": 0}, "max_new_tokens is 0"),
        ([[1]], {"seed": -1}, "seed is -1"),
        ([[1]], {"tempreature": 1.0}, "no argument 'tempreature'"),
        ([[1]], {"stop": "x"}, "stop is 'x'"),
    ],
)
def test_bad_input_is_named(model, ids, settings, message):
    with pytest.raises((ValueError, TypeError), match=message):
        model.generate(ids, **settings)


@pytest.mark.parametrize("kind", ["Mamba", "Rwkv"])
def test_recurrent_decoders_are_refused_as_such(kind):
    model_class = getattr(transformers, f"{kind}ForCausalLM")
    network = model_class(model_class.config_class(vocab_size=WORDS, hidden_size=16, num_hidden_layers=2))
    with pytest.raises(dynq.UnsupportedModelError, match=f"{kind}ForCausalLM is recurrent: it keeps a state"):
        dynq.from_transformers(network)


def test_models_that_cannot_become_decoders_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError):
        dynq.from_transformers(tmp_path / "none")
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(dynq.InvalidModelError, match="transformers cannot read"):
        dynq.from_transformers(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "none of theirs"}))
    with pytest.raises(dynq.InvalidModelError, match="transformers cannot read"):
        dynq.from_transformers(tmp_path)
    with pytest.raises(TypeError, match="model is of type Linear"):
        dynq.from_transformers(torch.nn.Linear(2, 2))
    with pytest.raises(ValueError, match="task is 'speech'"):
        dynq.from_transformers(tiny("Llama"), task="speech")
    with pytest.raises(ValueError, match="max_length is 1000; expected 1 to 256"):
        dynq.from_transformers(tiny("Llama"), max_length=1000)


def test_a_folder_goes_through_the_commands(tmp_path, llama, model):
    tokenizers = pytest.importorskip("tokenizers")
    from click.testing import CliRunner

    from dynq.cli import cli

    words = {f"w{i}": i for i in range(WORDS)}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="w0"))
    setattr(tokenizer, "pre_tokenizer", tokenizers.pre_tokenizers.Whitespace())  # noqa: B010
    folder = tmp_path / "folder"
    llama.save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    file = str(tmp_path / "m.dynq")
    made = CliRunner().invoke(cli, ["quantize", str(folder), "-o", file, "--no-quantize"], catch_exceptions=False)
    assert made.exit_code == 0 and "kept" in made.output
    arguments = ["generate", file, "--prompt", "w5 w6 w7", "--max-new-tokens", "8"]
    expected = model.generate([5, 6, 7], max_new_tokens=8)[0].tolist()
    shown = CliRunner().invoke(cli, arguments, catch_exceptions=False)
    assert shown.output.split() == [f"w{token}" for token in expected]
    facts = json.loads(CliRunner().invoke(cli, [*arguments, "--json"], catch_exceptions=False).output)
    assert facts["tokens"] == expected[3:]


def test_the_c_example_writes_what_python_writes(tmp_path, model):
    compiler = shutil.which("cc")
    libraries = sorted(ROOT.glob("build*/**/libdynq.a"), key=lambda path: path.stat().st_mtime)
    if compiler is None or not libraries:
        pytest.skip("no compiler, or no static library of this tree")
    program = tmp_path / "generate"
    source, headers = ROOT / "examples/c/generate.c", ROOT / "native/include"
    command = [compiler, "-std=c11", "-Wall", "-Wextra", "-Werror", f"-I{headers}", str(source), str(libraries[-1])]
    subprocess.run([*command, "-o", str(program), "-lm", "-lpthread"], check=True, timeout=120)
    model.save(tmp_path / "m.dynq")
    ids = prompts(1, 5)[0]
    run = subprocess.run(
        [program, tmp_path / "m.dynq", "30", *map(str, ids)], check=True, capture_output=True, text=True, timeout=60
    )
    assert [int(line) for line in run.stdout.split()] == model.generate([ids], max_new_tokens=30)[0, 5:].tolist()
    wrong = subprocess.run([program, tmp_path / "m.dynq", "3", "9999"], capture_output=True, text=True, timeout=60)
    assert wrong.returncode == 1 and "9999" in wrong.stderr
