"""Speech to text: transformers' features, its segments from a tiny Whisper of random weights, and the command."""

import dataclasses
import json
import wave

import numpy as np
import pytest
from click.testing import CliRunner

import dynq
from dynq.cli import cli
from dynq.speech import log_mel
from dynq.speech.tokens import Marks, allowed
from tests.python.references.decoders import tiny

pytest.importorskip("transformers")
import tokenizers
import torch
import transformers

WORDS, POSITIONS = 60, 40
FRAMES = 2 * POSITIONS
MARKS = [
    "endoftext", "startoftranscript", "en", "de", "translate", "transcribe", "startofprev", "nospeech", "notimestamps"
]  # fmt: skip
IDS = {name: WORDS + i for i, name in enumerate(MARKS)}
TIME = WORDS + len(MARKS)  # the token of 0 seconds
FIRST = Marks(
    IDS["startoftranscript"], IDS["endoftext"], {}, {}, IDS["nospeech"], IDS["notimestamps"]
)  # what the rules need


def made_tokenizer():
    words = {f"w{i}": i for i in range(WORDS)}
    model = tokenizers.models.WordLevel({**words, **{f"<|{name}|>": i for name, i in IDS.items()}}, unk_token="w0")
    return tokenizers.Tokenizer(model)


@pytest.fixture(scope="module")
def network():
    result = tiny(
        "Whisper", vocab_size=TIME + POSITIONS + 1, max_source_positions=POSITIONS, eos_token_id=IDS["endoftext"],
        decoder_start_token_id=IDS["startoftranscript"],
    )  # fmt: skip
    with torch.no_grad():
        result.proj_out.weight[TIME:] *= 1.3  # so that there are times
    result.generation_config = transformers.GenerationConfig(
        eos_token_id=IDS["endoftext"], pad_token_id=IDS["endoftext"], max_length=256,
        decoder_start_token_id=IDS["startoftranscript"], no_timestamps_token_id=IDS["notimestamps"],
        prev_sot_token_id=IDS["startofprev"], is_multilingual=True, max_initial_timestamp_index=50,
        lang_to_id={f"<|{code}|>": IDS[code] for code in ("en", "de")},
        task_to_id={task: IDS[task] for task in ("translate", "transcribe")},
    )  # fmt: skip
    return result


@pytest.fixture(scope="module")
def file(network, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whisper")
    network.save_pretrained(folder)
    made_tokenizer().save(str(folder / "tokenizer.json"))
    path = folder / "m.dynq"
    dynq.from_transformers(folder, quantize=False).save(path)
    return path


@pytest.fixture(scope="module")
def model(file):
    return dynq.load(file)


def sound(seconds, seed=0):
    """Return noise whose pitch and loudness change."""
    rng = np.random.default_rng(seed)
    count = int(seconds * 16000)
    loud = np.repeat(rng.uniform(0.001, 0.3, count // 1600 + 1), 1600)[:count]
    pitch = np.cumsum(np.repeat(rng.uniform(0.05, 2.5, count // 1600 + 1), 1600)[:count])
    return (loud * (np.sin(pitch) + 0.1 * rng.standard_normal(count))).astype(np.float32)


def theirs(network, samples, task="transcribe", language="de"):
    """Return the segments that transformers writes: start, end, words."""
    features = torch.tensor(log_mel(samples, 8, len(samples) // 160 + FRAMES))[None]
    mask = torch.zeros(1, features.shape[2], dtype=torch.int64)
    mask[:, : len(samples) // 160] = 1
    result = network.generate(
        features, attention_mask=mask, return_timestamps=True, return_segments=True, task=task, language=language,
        max_new_tokens=100, do_sample=False, num_beams=1,
    )  # fmt: skip
    return [
        (float(part["start"]), float(part["end"]), [t for t in part["tokens"].tolist() if t < WORDS])
        for part in result["segments"][0]
    ]


@pytest.mark.parametrize("bins", [80, 128])
def test_features_are_those_of_transformers(bins):
    extractor = transformers.WhisperFeatureExtractor(feature_size=bins)
    samples = sound(4)
    padded = np.pad(samples, (0, 480000 - len(samples)))[None]
    expected = extractor._np_extract_fbank_features(padded, "cpu")[0]
    np.testing.assert_allclose(log_mel(samples, bins, 3000), expected, rtol=0, atol=1e-6)
    by_torch = extractor(samples, sampling_rate=16000)["input_features"][0]  # float32 throughout
    np.testing.assert_allclose(log_mel(samples, bins, 3000), by_torch, rtol=0, atol=2e-4)


@pytest.mark.parametrize(("task", "language"), [("transcribe", "de"), ("translate", "en")])
def test_segments_of_long_sound_are_those_of_transformers(task, language, network, model):
    samples = sound(4.0, seed=len(task))
    expected = theirs(network, samples, task, language)
    ours = dynq.transcribe(model, samples, task=task, language=language, temperature=0.0)
    whole = [part for part in expected if part[0] < (len(samples) // 160 - FRAMES) / 100 and part[2]]
    found = [(part.start, part.end, list(part.tokens)) for part in ours.segments][: len(whole)]
    assert len(whole) >= 4 and len({start for start, _, _ in whole}) > 3
    for (begin, end, words), (start, stop, tokens) in zip(found, whole, strict=True):
        np.testing.assert_allclose([begin, end], [start, stop], rtol=0, atol=1e-6)
        assert words == tokens
    assert ours.language == language and ours.segments[-1].end <= 4.0 + FRAMES / 100


def test_the_language_is_the_likeliest_of_the_first_window(network, model):
    found = set()
    for seed in range(6):
        samples = sound(0.8, seed)
        features = torch.tensor(log_mel(samples, 8, FRAMES))[None]
        expected = int(network.detect_language(features)[0])
        assert IDS[dynq.transcribe(model, samples, temperature=0.0).language] == expected
        found.add(expected)
    assert found


def test_windows_without_times_follow_each_other(model):
    ours = dynq.transcribe(model, sound(2.0), language="en", timestamps=False, temperature=0.0)
    assert [(part.start, part.end) for part in ours.segments] == [(0.0, 0.8), (0.8, 1.6), (1.6, 2.0)]
    assert ours.text == "".join(part.text for part in ours.segments).strip()


def test_unlikely_texts_are_written_again_alike_for_a_seed(model):
    samples = sound(0.8)
    plain, one, same, other = (
        [part.tokens for part in dynq.speech.segments(model, samples, language="en", **more)]
        for more in ({"temperature": 0.0}, {"seed": 1}, {"seed": 1}, {"seed": 2})
    )
    assert one == same and one != other and one != plain
    with dynq.isa.use("scalar"):
        assert [part.tokens for part in dynq.speech.segments(model, samples, language="en", seed=1)] == one


def test_no_sound_has_no_text(model):
    assert dynq.transcribe(model, np.zeros(100, np.float32)) == dynq.speech.Transcript("", None, ())


def rules(new, likely=()):
    """Return which tokens may follow, in scores that favour some."""
    scores = np.zeros(TIME + POSITIONS + 1)
    scores[list(likely)] = 20.0
    return set(np.flatnonzero(np.isfinite(allowed(scores, new, FIRST, True))).tolist())


def test_times_come_in_pairs_and_never_go_back():
    words, end, times = set(range(WORDS)), {IDS["endoftext"]}, set(range(TIME, TIME + POSITIONS + 1))
    assert rules([]) == times
    assert rules([TIME + 3], likely=[5]) == words | end
    assert rules([TIME + 3, 5], likely=[5]) == words | end | {t for t in times if t > TIME + 3}
    assert rules([TIME + 3, 5]) == {t for t in times if t > TIME + 3}  # together they are likelier than each word
    assert rules([TIME + 3, 5, TIME + 9], likely=end) == end | {t for t in times if t >= TIME + 9}
    assert rules([TIME + 3, 5, TIME + 9, TIME + 9], likely=[7]) == words | end


def test_the_command_writes_each_format(file, model, tmp_path):
    path = tmp_path / "a.wav"
    samples = sound(1.0)
    with wave.open(str(path), "wb") as written:
        written.setparams((1, 2, 16000, 0, "NONE", ""))
        written.writeframes((samples * 32768).astype("<i2").tobytes())
    arguments = ["transcribe", str(file), str(path), "--language", "de"]

    def shown(*more):
        result = CliRunner().invoke(cli, [*arguments, *more], catch_exceptions=False)
        assert result.exit_code == 0
        return result.output

    facts = json.loads(shown("--json"))
    expected = dynq.transcribe(model, path, language="de")
    assert facts["segments"] == json.loads(json.dumps([dataclasses.asdict(part) for part in expected.segments]))
    first = expected.segments[0]
    assert first.text and shown("--format", "text").splitlines()[0] == first.text.strip()
    times = [f"00:00:0{t:.3f}" for t in (first.start, first.end)]
    assert shown().splitlines()[0] == f"[{times[0]} --> {times[1]}] {first.text.strip()}"
    assert shown("--format", "vtt").startswith(f"WEBVTT\n\n{times[0]} --> {times[1]}\n{first.text.strip()}\n\n")
    assert shown("--format", "srt").startswith(f"1\n{times[0]} --> {times[1]}\n".replace(".", ","))


@pytest.mark.parametrize(
    ("sound", "options", "message"),
    [
        ([1, 2, 3], {}, r"sound has int64 of shape \(3,\); expected float samples"),
        (np.zeros((2, 9)), {}, r"sound has float64 of shape \(2, 9\)"),
        (np.full(9, np.nan), {}, "sound has a NaN"),
        (np.zeros(9), {"language": "fr"}, "language is 'fr'; expected one of de, en"),
        (np.zeros(9), {"task": "sing"}, "task is 'sing'; expected 'transcribe' or 'translate'"),
        (np.zeros(9), {"sampling_rate": 0}, "sampling_rate is 0"),
        (np.zeros(9), {"temperature": -1}, "temperature has -1"),
        (np.zeros(9), {"temperature": ()}, "temperature is empty"),
        (np.zeros(9), {"timestamps": 1}, "timestamps is 1; expected True or False"),
    ],
)
def test_bad_input_is_named(model, sound, options, message):
    with pytest.raises((ValueError, TypeError), match=message):
        dynq.transcribe(model, sound, **options)


def test_other_models_are_refused(network):
    with pytest.raises(dynq.UnsupportedModelError, match="only a Whisper model of from_transformers hears"):
        dynq.transcribe(dynq.from_transformers(tiny("Bart"), quantize=False), np.zeros(9))
    with pytest.raises(dynq.Error, match="has no tokenizer"):
        dynq.transcribe(dynq.from_transformers(network, quantize=False), np.zeros(9))
