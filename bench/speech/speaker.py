"""Resemblyzer's speaker encoder on five voices: identification accuracy and equal error rate, in percent."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from audio import RATE, Array, read
from packages import LANGUAGES, recordings, wheel
from peers import Session, onnx_model, onnx_sessions, torch_int8, torch_weights

import dynq

__all__ = ["GOAL", "data", "graph", "runtimes", "score", "weights_of", "write_onnx"]

Run = Callable[[Array], Array]  # mels [batch, 160, 40] -> embeddings [batch, 256], before or after normalization

GOAL = 0.5  # points from float32
CLIPS, ENROLLED = 130, 20  # of each voice
FRAMES, MELS = 160, 40  # of a partial utterance
_WINDOW, _HOP = 400, 160  # samples
_LOUDNESS = 10 ** (-30 / 20)  # root mean square that quieter clips are raised to
_SPEECH = 40.0  # dB under the loudest frame: what is quieter is cut away


def data(count: int = CLIPS, seed: int = 0) -> list[list[Array]]:
    """For each voice, ``count`` clips of at least a second; each is the mels of its partial utterances."""
    bank = mel_filters()
    result = []
    for language in LANGUAGES:
        paths = recordings(language)
        voice: list[Array] = []
        for i in np.random.default_rng(seed).permutation(len(paths)):
            audio = read(paths[i])
            if len(audio) >= RATE and len(voice) < count:
                voice.append(partials(prepare(audio), bank))
        if len(voice) < count:
            raise SystemExit(f"voice {language} has {len(voice)} clips of a second or more; {count} are wanted")
        result.append(voice)
    return result


def prepare(audio: Array) -> Array:
    """Raise the volume of quiet clips and cut silence away."""
    loudness = np.sqrt((audio.astype(np.float64) ** 2).mean())
    audio = audio * np.float32(max(1.0, _LOUDNESS / max(loudness, 1e-9)))
    window = RATE * 30 // 1000
    frames = audio[: len(audio) // window * window].reshape(-1, window)
    energy = 10 * np.log10((frames.astype(np.float64) ** 2).mean(axis=1) + 1e-10)
    loud = energy > energy.max() - _SPEECH
    near = np.convolve(loud, np.ones(7))[3:-3] > 0  # 90 ms around speech stay
    return frames[near].reshape(-1)


def mel_filters() -> Array:
    """Triangles on Slaney's mel scale, each of area 1, [40, 201]."""

    def mel(hertz: Array) -> Array:
        return np.where(hertz < 1000, hertz * 3 / 200, 15 + 27 * np.log(np.maximum(hertz, 1) / 1000) / np.log(6.4))

    def hertz(mel: Array) -> Array:
        return np.where(mel < 15, mel * 200 / 3, 1000 * np.exp((mel - 15) * np.log(6.4) / 27))

    edges = hertz(np.linspace(0, mel(np.array(RATE / 2.0)), MELS + 2))
    bins = np.linspace(0, RATE / 2, _WINDOW // 2 + 1)
    rising = (bins - edges[:-2, None]) / np.diff(edges)[:-1, None]
    falling = (edges[2:, None] - bins) / np.diff(edges)[1:, None]
    return np.maximum(0, np.minimum(rising, falling)) * (2 / (edges[2:] - edges[:-2]))[:, None]


def partials(audio: Array, bank: Array, rate: float = 1.3, coverage: float = 0.75) -> Array:
    """Mel power (not its logarithm) of pieces of 1.6 s, [pieces, 160, 40]; the last is padded with silence."""
    step = round(RATE / rate / _HOP)
    frames = -(-(len(audio) + 1) // _HOP)
    starts = list(range(0, max(1, frames - FRAMES + step + 1), step))
    if len(starts) > 1 and (len(audio) - starts[-1] * _HOP) / (FRAMES * _HOP) < coverage:
        starts.pop()
    audio = np.pad(audio, (_WINDOW // 2, max(0, (starts[-1] + FRAMES) * _HOP - len(audio)) + _WINDOW // 2))
    windows = np.lib.stride_tricks.sliding_window_view(audio, _WINDOW)[::_HOP]
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(_WINDOW) / _WINDOW)
    power = np.abs(np.fft.rfft(windows * hann)) ** 2
    mels = (power @ bank.T).astype(np.float32)
    return np.stack([mels[start : start + FRAMES] for start in starts])


def embed(run: Run, pieces: list[Array]) -> Array:
    """A unit vector for each clip: the mean of those of its pieces."""
    each = np.concatenate(pieces)
    raw = np.concatenate([run(each[i : i + 64]) for i in range(0, len(each), 64)]).astype(np.float64)
    units = raw / np.maximum(np.linalg.norm(raw, axis=1, keepdims=True), 1e-12)
    ends = np.cumsum([len(piece) for piece in pieces])
    means = np.stack([units[end - len(piece) : end].mean(axis=0) for end, piece in zip(ends, pieces, strict=True)])
    return means / np.maximum(np.linalg.norm(means, axis=1, keepdims=True), 1e-12)


def score(run: Run, voices: list[list[Array]], enrolled: int = ENROLLED) -> dict[str, float]:
    """Each voice is the mean of its enrolled clips; the others are identified, and verified against all voices."""
    embedded = [embed(run, voice) for voice in voices]
    models = np.stack([each[:enrolled].mean(axis=0) for each in embedded])
    models /= np.maximum(np.linalg.norm(models, axis=1, keepdims=True), 1e-12)
    tested = np.concatenate([each[enrolled:] for each in embedded])
    labels = np.repeat(np.arange(len(voices)), [len(each) - enrolled for each in embedded])
    similar = tested @ models.T
    own = labels[:, None] == np.arange(len(voices))
    return {"accuracy": float((similar.argmax(axis=1) == labels).mean() * 100),
            "EER": equal_error_rate(similar[own], similar[~own]) * 100}  # fmt: skip


def equal_error_rate(same: Array, other: Array) -> float:
    """Where as many of the same voice are refused as of others accepted."""
    thresholds = np.sort(np.concatenate([same, other]))
    refused = np.searchsorted(np.sort(same), thresholds) / len(same)
    accepted = 1 - np.searchsorted(np.sort(other), thresholds) / len(other)
    at = int(np.abs(refused - accepted).argmin())
    return float((refused[at] + accepted[at]) / 2)


def runtimes() -> dict[str, Callable[[], Run]]:
    weights = weights_of()
    result = {
        "PyTorch float32": partial(_torch, weights, "float"),
        "PyTorch int8": partial(_torch, weights, "torch"),
    }
    for name, make in onnx_sessions(_onnx(weights)).items():
        result[name] = partial(_session, make)
    return result | {
        "dynq float32": partial(_dynq, weights, quantize=False),
        "dynq, first layer int8": partial(_dynq, weights, first_layer="int8"),
        "dynq.torch": partial(_torch, weights, "dynq"),
        "dynq": partial(_dynq, weights),
    }


def weights_of() -> dict[str, Array]:
    return torch_weights(wheel("resemblyzer") / "pretrained.pt", "model_state")


def write_onnx(path: Path) -> None:
    """The model as an ONNX file."""
    onnx.save(_onnx(weights_of()), path)


def _layer(weights: dict[str, Array], layer: int) -> tuple[Array, Array, Array]:
    """w, r and b of an LSTM as ONNX has them: gates in the order i o f c, PyTorch's are i f c o."""

    def gates(name: str) -> Array:
        i, f, c, o = np.split(weights[f"lstm.{name}_l{layer}"], 4)
        return np.concatenate([i, o, f, c])

    b = np.concatenate([gates("bias_ih"), gates("bias_hh")])
    return gates("weight_ih")[None], gates("weight_hh")[None], b[None]


def _dynq(weights: dict[str, Array], **options: Any) -> Run:
    return graph(weights).build(**options)


def graph(weights: dict[str, Array]) -> dynq.Graph:
    g = dynq.Graph("resemblyzer")
    y = g.input("mels", ("batch", FRAMES, MELS))
    for layer in range(3):
        w, r, b = _layer(weights, layer)
        y, h, _ = g.lstm(y, w, r, b, batch_first=True, name=f"lstm{layer}")
        y = y[:, :, 0]
    embedding = g.linear(h[:, 0], weights["linear.weight"], weights["linear.bias"], activation="relu", name="linear")
    g.output(embedding)
    return g


def _onnx(weights: dict[str, Array]) -> onnx.ModelProto:
    nodes: list[tuple[str, str, str, dict[str, Any]]] = [("Transpose", "mels", "y0", {"perm": [1, 0, 2]})]
    tensors = {"axis": np.array([1]), "first": np.array([0])}
    for i in range(3):
        tensors |= dict(zip((f"w{i}", f"r{i}", f"b{i}"), _layer(weights, i), strict=True))
        nodes.append(("LSTM", f"y{i} w{i} r{i} b{i}", f"d{i} h{i}", {"hidden_size": 256}))
        nodes.append(("Squeeze", f"d{i} axis", f"y{i + 1}", {}))
    tensors |= {"w": weights["linear.weight"].T, "b": weights["linear.bias"]}
    nodes += [
        ("Squeeze", "h2 first", "h", {}),
        ("MatMul", "h w", "p", {}),
        ("Add", "p b", "s", {}),
        ("Relu", "s", "e", {}),
    ]
    return onnx_model(nodes, tensors, {"mels": ["batch", FRAMES, MELS]}, ["e"])


def _session(make: Callable[[], Session]) -> Run:
    session = make()
    return lambda mels: session({"mels": mels})[0]


def _torch(weights: dict[str, Array], form: str) -> Run:
    """As it is ("float"), or int8 by PyTorch's quantize_dynamic ("torch") or by dynq.torch's ("dynq")."""
    import torch

    module = torch.nn.ModuleDict(
        {"lstm": torch.nn.LSTM(MELS, 256, 3, batch_first=True), "linear": torch.nn.Linear(256, 256)}
    )
    module.load_state_dict({name: torch.from_numpy(weights[name]) for name in module.state_dict()})
    if form == "dynq":
        import dynq.torch

        module = dynq.torch.quantize_dynamic(module.eval())
    elif form == "torch":
        module = torch_int8(module, torch.nn.LSTM, torch.nn.Linear)

    def run(mels: Array) -> Array:
        with torch.no_grad():
            _, (hidden, _) = module["lstm"](torch.from_numpy(mels))
            return module["linear"](hidden[-1]).relu().numpy()

    return run
