"""Decoders of transformers: a model or its folder to a model with state, which generates text."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ..conversion import InvalidModelError, UnsupportedModelError
from ..errors import MissingPackageError
from ..generation.settings import NOTE, TOKENIZER
from ..graph.build import build
from ..ir import ops as table
from ..model import Model
from ..quantization.options import BuildOptions, GivenOptions, takes_options

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["from_transformers"]

_TASKS = ("text-generation", "text2text-generation", "automatic-speech-recognition")
_POSITIONS = ("max_target_positions", "max_position_embeddings", "n_positions", "max_sequence_length", "seq_length")
_SOURCE_POSITIONS = "max_source_positions"
_NOTED = (
    "eos_token_id", "pad_token_id", "bos_token_id", "decoder_start_token_id", "forced_bos_token_id",
    "forced_eos_token_id", "suppress_tokens", "begin_suppress_tokens", "is_multilingual",
)  # fmt: skip
_SAMPLES, _ROWS = 2, 64


@takes_options
def from_transformers(
    model: Any, *, task: str | None = None, max_length: int | None = None, **options: Unpack[GivenOptions]
) -> Model:
    """Make a model with state of a decoder of transformers. Needs ``pip install 'dynq[torch]' transformers``.

    ``model.generate`` then writes text. Nothing is downloaded, and the model that is given stays as it is.

    Args:
        model: a model for causal language modelling; or a folder with its config.json, weights and perhaps
            tokenizer.json; or a GGUF file, which transformers reads with its packages gguf and accelerate.
        task: "text-generation", or of models with an encoder "text2text-generation" or "automatic-speech-recognition";
            None: that of the model.
        max_length: the most positions of a sequence; None: what the model's configuration says.
        options: those of BuildOptions.

    Raises:
        FileNotFoundError: there is no such folder.
        InvalidModelError: transformers cannot read the folder.
        UnsupportedModelError: its attention goes another way than transformers' table, or dynq lacks one of its ops; or
            the folder is of a model that dynq.torch converted.
        TypeError, ValueError: the arguments do not fit.
    """
    if task is not None and task not in _TASKS:
        raise ValueError(f"task is {task!r}; expected {', '.join(map(repr, _TASKS))} or None")
    chosen = BuildOptions.of(options)
    try:
        import torch  # noqa: F401
        import transformers
    except ImportError as error:
        raise MissingPackageError(
            f"{error.name} is missing; install it: pip install 'dynq[torch]' transformers"
        ) from error
    if not hasattr(transformers, "AttentionMaskInterface"):
        raise MissingPackageError(
            f"this is transformers {transformers.__version__}, which has no table of masks: pip install --upgrade "
            "transformers"
        )
    notes: dict[str, str] = {}
    if isinstance(model, (str, os.PathLike)):
        model, notes = _read(transformers, os.fspath(model))
    if not isinstance(model, transformers.PreTrainedModel):
        raise TypeError(f"model is of type {type(model).__name__}; expected a model of transformers or its folder")
    if task not in (None, _task(model)):
        raise ValueError(f"task is {task!r}; {type(model).__name__} is for {_task(model)!r}")
    if getattr(model, "_is_stateful", False):  # as transformers marks what its generate cannot rewind
        raise UnsupportedModelError(
            f"{type(model).__name__} is recurrent: it keeps a state of its own, and dynq keeps keys and values alone",
            {},
        )
    most = _positions(model.config, max_length)
    graph = _graph(model, most)
    notes[NOTE] = json.dumps(_settings(model))
    if chosen.samples is None:
        chosen = dataclasses.replace(chosen, samples=_samples(graph, model.config.get_text_config().vocab_size))
    return build(graph, (), chosen, notes=notes)


def _read(transformers: Any, path: str) -> tuple[Any, dict[str, str]]:
    """Read a folder or a GGUF file, from this machine alone."""
    os.stat(path)  # raises FileNotFoundError
    folder, file = (path, None) if os.path.isdir(path) else os.path.split(path)
    if file is not None and not file.endswith(".gguf"):
        raise InvalidModelError(f"{path}: expected a folder with config.json, or a GGUF file")
    if file is None and _is_int8(path):
        raise UnsupportedModelError(
            f"{path} has int8 weights, as a model that dynq.torch converted was saved; expected the folder that it was "
            "made of",
            {},
        )
    more = {} if file is None else {"gguf_file": file}
    try:
        given = {"local_files_only": True, "trust_remote_code": False, **more}
        config = transformers.AutoConfig.from_pretrained(folder or ".", **given)
        model = _auto(transformers, config).from_pretrained(folder or ".", dtype="float32", **given)
    except Exception as error:  # of many types: whatever its readers raise
        raise InvalidModelError(f"transformers cannot read {path}: {error}") from error
    return model.eval(), _tokenizer(transformers, folder or ".", more)


def _is_int8(folder: str) -> bool:
    """Tell whether save_pretrained of a model that dynq.torch converted wrote the folder."""
    try:
        with open(os.path.join(folder, "config.json"), encoding="utf-8") as file:
            return bool(json.load(file)["quantization_config"]["quant_method"] == "dynq")
    except (OSError, ValueError, TypeError, KeyError):
        return False  # transformers says what is wrong with it


def _auto(transformers: Any, config: Any) -> Any:
    """Return the class that reads models of this configuration."""
    if not config.is_encoder_decoder:
        return transformers.AutoModelForCausalLM
    speech = transformers.AutoModelForSpeechSeq2Seq
    return speech if type(config) in speech._model_mapping else transformers.AutoModelForSeq2SeqLM


def _task(model: Any) -> str:
    """Return the task that a model is for."""
    if not model.config.is_encoder_decoder:
        return _TASKS[0]
    return _TASKS[1] if model.main_input_name == "input_ids" else _TASKS[2]


def _tokenizer(transformers: Any, folder: str, more: Mapping[str, Any]) -> dict[str, str]:
    """Return the text of tokenizer.json, as a note, if the folder has one or transformers makes one."""
    try:
        with open(os.path.join(folder, "tokenizer.json"), encoding="utf-8") as file:
            return {TOKENIZER: file.read()}
    except OSError:
        pass
    try:
        made = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True, **more)
        return {TOKENIZER: made.backend_tokenizer.to_str()}
    except Exception:  # of many types; a folder may have none
        return {}


def _positions(config: Any, max_length: int | None) -> int:
    sizes = [getattr(config.get_text_config(), name, None) for name in _POSITIONS]
    known = next((size for size in sizes if isinstance(size, int) and size > 0), None)
    if max_length is None and known is None:
        raise ValueError("max_length is missing: the model's configuration does not say how many positions it has")
    if max_length is not None and (not isinstance(max_length, int) or max_length < 1 or max_length > (known or 2**31)):
        raise ValueError(f"max_length is {max_length!r}; expected 1 to {known or 2**31}")
    return int(max_length or known or 0)


def _graph(model: Any, most: int) -> Any:

    from .torch import ops  # noqa: F401
    from .torch.call import can_convert
    from .torch.convert import convert
    from .torch.decoder import Decoder, attention_of_dynq
    from .torch.encoder_decoder import EncoderDecoder
    from .torch.program import export

    training = model.training
    model.eval()
    try:
        kind: Any = Decoder
        more: tuple[int, ...] = ()
        if model.config.is_encoder_decoder:
            kind, more = EncoderDecoder, (getattr(model.config, _SOURCE_POSITIONS, most),)
        decoder = type(type(model).__name__, (kind,), {})(model, most, *more)  # errors name the model's class
        inputs = decoder.inputs()
        examples, shapes = zip(*inputs.values(), strict=True)
        with attention_of_dynq(decoder):
            program = export(decoder, examples, None, {"inputs": shapes} if more else shapes, can_convert)
        graph = convert(program, tuple(inputs), ("logits",), table.names())
    finally:
        model.train(training)
    if not graph.states:
        raise UnsupportedModelError(f"{type(model).__name__} does not attend by transformers' table of functions", {})
    return graph


def _settings(model: Any) -> dict[str, Any]:
    """Return what ``generate`` takes from the model: how sequences end, and what fills short ones."""
    given = getattr(model, "generation_config", None)
    config = model.config.get_text_config()
    result = {}
    for name in _NOTED:
        value = getattr(given, name, None)
        result[name] = getattr(config, name, None) if value is None else value
    return {**result, "vocab_size": int(config.vocab_size)}


def _samples(graph: Any, words: int) -> list[dict[str, Any]]:
    """Return runs by which the forms of layers are chosen: one sequence of random ids, or of random features."""
    rng = np.random.Generator(np.random.PCG64(0))
    rows = min(_ROWS, *(state.shape[1] for state in graph.states))
    lengths = {"lengths": np.array([rows]), "source_lengths": np.array([rows]), "logits_at": np.arange(rows)[None]}
    samples = []
    for _ in range(_SAMPLES):
        sample: dict[str, Any] = {}
        for value in graph.inputs:
            if value.dtype == "float32":
                sample[value.name] = rng.standard_normal((1, *value.shape[1:]), np.float32)
            else:
                sample[value.name] = lengths.get(value.name, rng.integers(0, words, (1, rows)))
        samples.append(sample)
    return samples
