"""Run files of TensorFlow Lite that dynq exports in LiteRT, for the benchmarks of peers."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import dynq

from .timing import median_seconds

__all__ = ["Litert", "fastest", "litert_call"]

Array = NDArray[Any]
Call = Callable[[], Array]
_SIGNATURE = 0  # the only one of the files that dynq writes


class Litert:
    """A file that LiteRT has opened, by both of its interfaces.

    CompiledModel is the newer one. Interpreter takes less time for small models, but in version 2.3 it runs XNNPACK on
    one thread whatever ``num_threads`` is.
    """

    def __init__(self, path: Path, threads: int) -> None:
        from ai_edge_litert.interpreter import Interpreter

        self._interpreter = Interpreter(str(path), num_threads=threads)
        self._interpreter.allocate_tensors()
        self._compiled: Any = None
        if threads > 1:
            from ai_edge_litert.compiled_model import CompiledModel, CpuOptions, Options

            options = Options(cpu_options=CpuOptions(num_threads=threads))
            self._compiled = CompiledModel.from_file(str(path), options=options)

    def calls(self, feed: Mapping[str, Array]) -> dict[str, Call]:
        """Return a call for each interface that computes the first output of these inputs.

        LiteRT reads no arrays of its caller: each call begins by copying them.
        """
        calls = {"Interpreter": self._by_interpreter(feed)}
        if self._compiled is not None:
            shape = calls["Interpreter"]().shape
            calls["CompiledModel"] = self._by_compiled(feed, shape)
        return calls

    def _by_interpreter(self, feed: Mapping[str, Array]) -> Call:
        """Return a call whose result is a view of the output, which is let go before the next call."""
        interpreter = self._interpreter
        (signature,) = interpreter.get_signature_list()
        at = {name: detail["index"] for name, detail in _details(interpreter, signature).items()}
        for name, array in feed.items():
            interpreter.resize_tensor_input(at[name], array.shape)
        interpreter.allocate_tensors()
        view = interpreter.tensor(interpreter.get_output_details()[0]["index"])

        def call() -> Array:
            for name, array in feed.items():
                interpreter.set_tensor(at[name], array)
            interpreter.invoke()
            return np.asarray(view())

        return call

    def _by_compiled(self, feed: Mapping[str, Array], shape: tuple[int, ...]) -> Call:
        model = self._compiled
        names = model.get_signature_by_index(_SIGNATURE)["inputs"]
        for i, name in enumerate(names):
            model.resize_input_tensor(i, list(feed[name].shape), _SIGNATURE)
        inputs, outputs = model.create_input_buffers(_SIGNATURE), model.create_output_buffers(_SIGNATURE)
        count = int(np.prod(shape))
        arrays = [feed[name] for name in names]

        def call() -> Array:
            for buffer, array in zip(inputs, arrays, strict=True):
                buffer.write(array)
            model.run_by_index(_SIGNATURE, inputs, outputs)
            return np.asarray(outputs[0].read(count, np.float32)).reshape(shape)

        return call


def _details(interpreter: Any, signature: str) -> dict[str, Any]:
    details: dict[str, Any] = interpreter.get_signature_runner(signature).get_input_details()
    return details


def litert_call(model: dynq.Model | dynq.Graph, feed: Mapping[str, Array], threads: int) -> tuple[Call, str]:
    """Return the call of a model that is exported, by the interface that takes less time, and the interface's name."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.tflite"
        dynq.export_tflite(model, path)
        return fastest(Litert(path, threads).calls(feed))


def fastest(calls: Mapping[str, Call]) -> tuple[Call, str]:
    """Return the call that takes least time, and its name."""
    name = min(calls, key=lambda name: median_seconds(calls[name], 1e-3, 3) if len(calls) > 1 else 0)
    return calls[name], name
