"""Run one runtime with a decoder in a process of its own, which process.py starts: ``main`` answers jobs.

A job is a line of JSON with ``do``, ``source`` (a folder of transformers or a GGUF file), ``folder`` for files, and
``positions``, which all jobs together need. ``do`` is one of these:

- ``prepare`` writes the files that the runtime opens.
- ``float`` writes the logits behind prompts of ``lengths`` ids, of which the model has ``words``.
- ``prompt`` measures the milliseconds from ``length`` ids to the token behind them.
- ``step`` measures the milliseconds of a token behind ``length`` others: each is the likeliest after the one before.

The last two also answer with the cosine of the prompt's last logits to those that ``float`` wrote.
"""

from __future__ import annotations

import inspect
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

import dynq

from .model_peer import cosine
from .peer import Job, serve
from .torch_forms import in_form

Array = NDArray[Any]
FLOAT = "transformers float32"


class Text(Protocol):
    """A text that a runtime goes on with. Logits are those behind the last token, (words,)."""

    def prompt(self, ids: Array) -> Array:
        """Begin anew with ids (length,)."""

    def step(self, token: int) -> Array:
        """Go on with one token."""

    def rewind(self, length: int) -> None:
        """Forget the tokens from ``length`` on."""


class Runtime(NamedTuple):
    packages: tuple[str, ...]
    prepare: Callable[[Path, Path], None] | None  # source, folder
    open: Callable[[Path, Path, int, int], Text]  # source, folder, threads, positions
    reads: Callable[[Path], bool]  # whether it can read the source


def ids_of(length: int, words: int) -> Array:
    """Return the ids of a prompt, the same for every runtime."""
    return np.random.default_rng(length).integers(0, words, length)


# ---- dynq


def _prepare_dynq(source: Path, folder: Path) -> None:
    dynq.from_transformers(source).save(folder / "model.dynq")


class _Dynq:
    def __init__(self, source: Path, folder: Path, threads: int, positions: int) -> None:
        dynq.set_num_threads(threads)
        self._state = dynq.load(folder / "model.dynq").state()

    def prompt(self, ids: Array) -> Array:
        self._state.reset()
        return self._run(ids[None])

    def step(self, token: int) -> Array:
        return self._run(np.array([[token]]))

    def rewind(self, length: int) -> None:
        self._state.truncate(length)

    def _run(self, ids: Array) -> Array:
        rows = ids.shape[1]
        given = {"input_ids": ids, "lengths": np.array([rows]), "logits_at": np.array([[rows - 1]])}
        return np.asarray(self._state.run(given)["logits"][0, 0])


# ---- transformers, in PyTorch's eager mode


def _from(source: Path) -> dict[str, Any]:
    """Return what transformers' readers need to read a source, from this machine alone."""
    where, more = (source, {}) if source.is_dir() else (source.parent, {"gguf_file": source.name})
    return {"pretrained_model_name_or_path": where, "local_files_only": True, **more}


def config_of(source: Path) -> Any:
    """Return the configuration of the text model."""
    from transformers import AutoConfig

    return AutoConfig.from_pretrained(**_from(source)).get_text_config()


def _load(source: Path) -> Any:
    """Return the model of transformers in float32."""
    from transformers import AutoModelForCausalLM

    model: Any = AutoModelForCausalLM.from_pretrained(**_from(source), dtype="float32")
    return model.eval()


def _open_torch(form: str) -> Callable[[Path, Path, int, int], Text]:
    """Return a function that opens the model: its linear layers stay float, or become int8 by PyTorch or by dynq."""

    def open_model(source: Path, folder: Path, threads: int, positions: int) -> Text:
        import torch

        torch.set_num_threads(threads)
        model = in_form(_load(source), form)
        return _Transformers(model)

    return open_model


class _Transformers:
    def __init__(self, model: Any) -> None:
        taken = inspect.signature(model.forward).parameters
        self._model = model
        self._name = "cache" if "cache" in taken else "past_key_values"  # the older name
        self._cache: Any = None

    def prompt(self, ids: Array) -> Array:
        from transformers import DynamicCache

        self._cache = DynamicCache(config=self._model.config)
        return self._run(ids[None])

    def step(self, token: int) -> Array:
        return self._run(np.array([[token]]))

    def rewind(self, length: int) -> None:
        if more := self._cache.get_seq_length() - length:
            self._cache.crop(-more)  # of a positive number, its meaning depends on the version

    def _run(self, ids: Array) -> Array:
        import torch

        with torch.inference_mode():
            given = {self._name: self._cache, "use_cache": True, "logits_to_keep": 1}
            logits = self._model(input_ids=torch.from_numpy(ids), **given).logits
        return np.asarray(logits[0, -1].numpy())


# ---- llama.cpp


def _prepare_q8(source: Path, folder: Path) -> None:
    import llama_cpp

    given = llama_cpp.llama_model_quantize_default_params()
    given.ftype = llama_cpp.LLAMA_FTYPE_MOSTLY_Q8_0
    given.allow_requantize = True
    target = str(folder / "q8_0.gguf").encode()
    if llama_cpp.llama_model_quantize(str(source).encode(), target, given) != 0:
        raise dynq.Error(f"llama.cpp cannot make {source} a file of Q8_0")


class _Llama:
    """llama.cpp with its own defaults, but for threads and positions."""

    def __init__(self, file: Path, threads: int, positions: int) -> None:
        from llama_cpp import Llama

        self._model = Llama(str(file), n_ctx=positions, n_threads=threads, n_threads_batch=threads, verbose=False)

    def prompt(self, ids: Array) -> Array:
        self._model.reset()
        return self._run(ids.tolist())

    def step(self, token: int) -> Array:
        return self._run([token])

    def rewind(self, length: int) -> None:
        self._model.n_tokens = length  # what eval begins with, and drops what is behind

    def _run(self, ids: list[int]) -> Array:
        import llama_cpp

        self._model.eval(ids)
        logits = llama_cpp.llama_get_logits_ith(self._model.ctx, -1)
        return np.ctypeslib.as_array(logits, (self._model.n_vocab(),)).copy()


def _open_q8(source: Path, folder: Path, threads: int, positions: int) -> Text:
    return _Llama(folder / "q8_0.gguf", threads, positions)


def _open_gguf(source: Path, folder: Path, threads: int, positions: int) -> Text:
    return _Llama(source, threads, positions)


def _any(source: Path) -> bool:
    return True


def _gguf(source: Path) -> bool:
    return source.is_file()


OF_TORCH = ("transformers", "torch")
OF_LLAMA = ("llama-cpp-python",)
RUNTIMES: dict[str, Runtime] = {
    "dynq": Runtime(("dynq", *OF_TORCH), _prepare_dynq, _Dynq, _any),
    "dynq.torch": Runtime(OF_TORCH, None, _open_torch("dynq"), _any),
    FLOAT: Runtime(OF_TORCH, None, _open_torch("float"), _any),
    "torch int8": Runtime(OF_TORCH, None, _open_torch("torch"), _any),
    "llama.cpp": Runtime(OF_LLAMA, None, _open_gguf, _gguf),
    "llama.cpp Q8_0": Runtime(OF_LLAMA, _prepare_q8, _open_q8, _gguf),
}


# ---- Jobs


def main(name: str, threads: int) -> None:
    runtime = RUNTIMES[name]
    text: Text | None = None
    begun: tuple[int, Array] | None = None  # the length of the prompt, and its logits

    def handle(job: Job) -> dict[str, Any]:
        nonlocal text, begun
        source, folder = Path(job["source"]), Path(job["folder"])
        if job["do"] == "prepare":
            if runtime.prepare is not None:
                runtime.prepare(source, folder)
            return {}
        text = text or runtime.open(source, folder, threads, job["positions"])
        if job["do"] == "float":
            for length in job["lengths"]:
                np.save(folder / f"logits-{length}.npy", text.prompt(ids_of(length, job["words"])))
            return {}
        length, ids = job["length"], ids_of(job["length"], job["words"])
        if begun is None or begun[0] != length:
            begun = length, text.prompt(ids)
        right = np.load(folder / f"logits-{length}.npy")
        words = min(right.size, begun[1].size)  # some pad their output layer
        facts = {"what": job["what"], "cosine": cosine(begun[1][None, :words], right[None, :words])}
        if job["do"] == "prompt":
            return {**facts, "ms": 1e3 * _prompt_seconds(text, ids, job)}
        return {**facts, "ms": 1e3 * _step_seconds(text, length, int(begun[1].argmax()), job)}

    serve(handle)


def _prompt_seconds(text: Text, ids: Array, job: Job) -> float:
    times: list[float] = []
    for _ in range(job["samples"]):
        start = time.perf_counter()
        text.prompt(ids).argmax()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def _step_seconds(text: Text, length: int, token: int, job: Job) -> float:
    """Return the median time of a token, over ``samples`` times ``tokens`` of them."""
    times: list[float] = []
    for _ in range(job["samples"]):
        text.rewind(length)
        following = token
        start = time.perf_counter()
        for _ in range(job["tokens"]):
            following = int(text.step(following).argmax())
        times.append((time.perf_counter() - start) / job["tokens"])
    text.rewind(length)
    return statistics.median(times)
