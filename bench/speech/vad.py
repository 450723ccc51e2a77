"""Silero VAD on five voices: F1 of frames, with pink noise at 10 and 0 dB and an input gain of 1 and 0.02."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import pairwise

import numpy as np
import onnx
from audio import RATE, Array, decibels, pink_noise, read
from packages import LANGUAGES, recordings, wheel
from peers import onnx_sessions

import dynq

__all__ = ["GOAL", "data", "runtimes", "score"]

# inputs [frames, 576], state h, state c -> speech probability of each frame, h, c
Run = Callable[[Array, Array, Array], tuple[Array, Array, Array]]

FRAME, CONTEXT = 512, 64  # samples at 16 kHz
GOAL = 0.005  # of F1, from float32
CALIBRATION = 4  # recordings of each voice, of which static ranges are taken
CONDITIONS = [(snr, gain) for snr in (10, 0) for gain in (1.0, 0.02)]


LOUD = 40  # dB
_BLOCK = 512  # frames a call
_PAUSE = 32  # frames of silence between recordings


def data(clips: int = 20, seed: int = 0) -> list[tuple[Array, Array]]:
    """For each voice: recordings of a second or more with silence between, and whether each frame is speech.

    It is where its energy is within LOUD dB of the loudest of its recording, before noise is added; gaps of up to 3
    frames count as speech too.
    """
    result = []
    for language in LANGUAGES:
        paths = recordings(language)
        audio, labels = [], []
        for i in np.random.default_rng(seed).permutation(len(paths)):
            clip = read(paths[i])
            if len(clip) < RATE or len(audio) == clips:
                continue
            clip = np.pad(clip, (_PAUSE * FRAME // 2, _PAUSE * FRAME // 2 + -len(clip) % FRAME))
            energy = decibels(clip, FRAME)
            audio.append(clip)
            labels.append(_close(energy > energy.max() - LOUD, 3))
        result.append((np.concatenate(audio), np.concatenate(labels)))
    return result


def _close(speech: Array, gap: int) -> Array:
    """Short pauses inside speech are speech."""
    result = speech.copy()
    where = np.flatnonzero(speech)
    for before, after in pairwise(where):
        if after - before - 1 <= gap:
            result[before:after] = True
    return result


def hear(run: Run, audio: Array) -> Array:
    """Probabilities of all frames; each sees the last samples of the one before."""
    frames = audio[: len(audio) // FRAME * FRAME].reshape(-1, FRAME)
    context = np.concatenate([np.zeros((1, CONTEXT), np.float32), frames[:-1, -CONTEXT:]])
    inputs = np.concatenate([context, frames], axis=1).astype(np.float32)
    h, c = np.zeros((2, 1, 1, 128), np.float32)
    result = []
    for start in range(0, len(inputs), _BLOCK):
        probabilities, h, c = run(inputs[start : start + _BLOCK], h, c)
        result.append(np.asarray(probabilities).reshape(-1))
    return np.concatenate(result)


def distorted(audio: Array, labels: Array, voice: int, snr: float, gain: float) -> Array:
    """With pink noise, ``snr`` dB below the frames that are speech, and the gain."""
    noise = pink_noise(len(audio), np.random.default_rng(voice))
    power = (audio.reshape(-1, FRAME)[labels].astype(np.float64) ** 2).mean()
    noisy = (audio + noise * np.sqrt(power / 10 ** (snr / 10))) * gain
    result: Array = noisy.astype(np.float32)
    return result


def score(run: Run, tracks: list[tuple[Array, Array]]) -> dict[str, float]:
    """F1 of each condition, over the frames of all voices."""
    result = {}
    for snr, gain in CONDITIONS:
        hits = misses = alarms = 0
        for voice, (audio, labels) in enumerate(tracks):
            speech = hear(run, distorted(audio, labels, voice, snr, gain)) > 0.5
            hits += int((speech & labels).sum())
            misses += int((~speech & labels).sum())
            alarms += int((speech & ~labels).sum())
        result[f"{snr} dB, gain {gain:g}"] = 2 * hits / (2 * hits + misses + alarms)
    return result


def runtimes() -> dict[str, Callable[[], Run]]:
    path = wheel("silero_vad") / "data" / "silero_vad_16k_sequence.onnx"

    def peer(make: Callable[[], Callable[[dict[str, Array]], list[Array]]]) -> Run:
        session = make()
        return lambda x, h, c: tuple(session({"input": x, "h": h, "c": c}))  # type: ignore[return-value]

    def ours(model: dynq.Model) -> Run:
        def run(x: Array, h: Array, c: Array) -> tuple[Array, Array, Array]:
            result = model.run({"input": x, "h": h, "c": c})
            return result["speech_probs"], result["hn"], result["cn"]

        return run

    def static(method: str, gain: float) -> Run:
        """Fixed ranges, of the same recordings at one gain."""
        model = dynq.from_onnx(path)
        runs: list[dict[str, Array]] = []

        def record(x: Array, h: Array, c: Array) -> tuple[Array, Array, Array]:
            runs.append({"input": x, "h": h, "c": c})
            result = model.run(runs[-1])
            return result["speech_probs"], result["hn"], result["cn"]

        for voice, (audio, labels) in enumerate(data(CALIBRATION)):
            hear(record, distorted(audio, labels, voice, 10, gain))
        return ours(dynq.calibrate(model, runs, method))

    result = {name: partial(peer, make) for name, make in onnx_sessions(onnx.load(path)).items()}
    return result | {
        "dynq float32": lambda: ours(dynq.from_onnx(path, quantize=False)),
        "dynq": lambda: ours(dynq.from_onnx(path)),
        "dynq static, minmax at gain 1": partial(static, "minmax", 1.0),
        "dynq static, mse at gain 1": partial(static, "mse", 1.0),
        "dynq static, minmax at gain 0.02": partial(static, "minmax", 0.02),
    }
