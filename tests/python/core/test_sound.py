"""Sound: files that are read, rates that are changed, features by their formula."""

import wave
from pathlib import Path

import numpy as np
import pytest
from scipy.signal import resample_poly

import dynq
from dynq.speech import log_mel, read_wav, resample


def written(path: Path, data: bytes, width: int, channels: int, rate: int = 16000) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setparams((channels, width, rate, 0, "NONE", ""))
        file.writeframes(data)
    return path


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("width", [1, 2, 3, 4])
def test_integers_of_each_width_become_numbers_to_one(tmp_path, width, channels):
    rng = np.random.default_rng(width)
    top = 2 ** (8 * width - 1)
    samples = rng.integers(-top, top, (50, channels))
    samples[0], samples[1] = -top, top - 1
    stored = samples + 128 if width == 1 else samples
    data = b"".join(int(v).to_bytes(width, "little", signed=width > 1) for v in stored.ravel())
    sound, rate = read_wav(written(tmp_path / "a.wav", data, width, channels, 8000))
    assert rate == 8000 and sound.dtype == np.float32
    np.testing.assert_allclose(sound, (samples / top).mean(1), rtol=0, atol=1e-7)
    assert sound[0] == -1


@pytest.mark.parametrize("content", [b"", b"RIFF", b"no sound at all, but long enough to be read as one" * 9])
def test_other_files_are_refused_with_the_way_out(tmp_path, content):
    path = tmp_path / "a.mp3"
    path.write_bytes(content)
    with pytest.raises(dynq.SoundFileError, match=r"a\.mp3: it is no WAV file .*; make one: ffmpeg"):
        read_wav(path)
    with pytest.raises(FileNotFoundError):
        read_wav(tmp_path / "none.wav")


def test_a_file_of_floats_is_refused(tmp_path):
    path = written(tmp_path / "a.wav", bytes(64), 4, 1)
    data = bytearray(path.read_bytes())
    data[20] = 3  # the format: IEEE floats
    path.write_bytes(data)
    with pytest.raises(dynq.SoundFileError, match="integer samples"):
        read_wav(path)


@pytest.mark.parametrize(
    ("rate", "new"), [(8000, 16000), (44100, 16000), (48000, 16000), (22050, 16000), (16000, 11025)]
)
@pytest.mark.parametrize("count", [1, 7, 2000])
def test_resampling_is_that_of_scipy(rate, new, count):
    sound = np.random.default_rng(count).standard_normal(count).astype(np.float32)
    common = np.gcd(rate, new)
    expected = resample_poly(sound.astype(np.float64), new // common, rate // common)
    np.testing.assert_allclose(resample(sound, rate, new), expected, rtol=0, atol=1e-6)


def test_resampling_keeps_what_need_not_change():
    sound = np.arange(5, dtype=np.float32)
    np.testing.assert_array_equal(resample(sound, 16000, 16000), sound)
    assert resample(sound[:0], 8000, 16000).shape == (0,)
    with pytest.raises(ValueError, match="the rates are 0 and 16000 Hz"):
        resample(sound, 0, 16000)


def by_formula(sound, bins):
    """Return log-mel features in plain sums, a frame and a band at a time."""
    n, frames = np.arange(400), len(sound) // 160
    padded = np.concatenate([sound[200:0:-1], sound, sound[-2:-202:-1]])
    window = np.sin(np.pi * n / 400) ** 2
    waves = np.exp(-2j * np.pi * np.outer(np.arange(201), n) / 400)
    powers = np.array([np.abs(waves @ (window * padded[160 * t : 160 * t + 400])) ** 2 for t in range(frames)])
    last = 15 + 27 * np.log(8) / np.log(6.4)
    mels = np.arange(bins + 2) * last / (bins + 1)
    hertz = [200 * mel / 3 if mel < 15 else 1000 * 6.4 ** ((mel - 15) / 27) for mel in mels]
    bands = []
    for low, middle, high in zip(hertz, hertz[1:], hertz[2:], strict=False):
        weights = np.interp(40 * np.arange(201), [low, middle, high], [0, 2 / (high - low), 0], left=0, right=0)
        bands.append(powers @ weights)
    logs = np.log10(np.maximum(bands, 1e-10))
    return (np.maximum(logs, logs.max() - 8) + 4) / 4


@pytest.mark.parametrize("bins", [8, 80, 128])
def test_features_are_those_of_the_formula(bins):
    rng = np.random.default_rng(bins)
    sound = (rng.standard_normal(3200) * np.linspace(0, 1, 3200) ** 4).astype(np.float32)
    ours = log_mel(sound, bins)
    assert ours.shape == (bins, 20) and ours.dtype == np.float32 and ours.flags.c_contiguous
    np.testing.assert_allclose(ours, by_formula(sound.astype(np.float64), bins), rtol=0, atol=2e-6)


def test_frames_cut_sound_or_fill_it_with_silence():
    sound = np.random.default_rng(0).standard_normal(1600).astype(np.float32)
    np.testing.assert_array_equal(log_mel(sound, 8, 25), log_mel(np.pad(sound, (0, 2400)), 8))
    np.testing.assert_array_equal(log_mel(sound, 8, 6), log_mel(sound[:960], 8))
    for wrong in (sound[None], sound[:100]):
        with pytest.raises(ValueError, match=r"sound has shape \(1, 1600\)|log_mel of 0 frames"):
            log_mel(wrong, 8)
