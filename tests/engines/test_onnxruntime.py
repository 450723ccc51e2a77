"""libdynq_ort.so, which programs without Python register: a process of its own runs it without dynq's Python.

.ci/engines.sh builds it and runs this. tests/python/onnx/test_export_dynq.py has the layers.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import dynq
from tests.engines.small_model import RNG, X, write

RUN = """
import sys, numpy as np, onnxruntime
library, model, inputs, outputs = sys.argv[1:]
options = onnxruntime.SessionOptions()
options.register_custom_ops_library(library)
np.save(outputs, onnxruntime.InferenceSession(model, options).run(None, dict(np.load(inputs)))[0])
assert "dynq" not in sys.modules
"""


def run(folder: Path, model: dynq.Model, feed: dict[str, np.ndarray]) -> np.ndarray:
    dynq.export_onnx(model, folder / "m.onnx", form="dynq")
    np.savez(folder / "in.npz", **feed)  # type: ignore[arg-type]
    paths = [os.environ["DYNQ_ORT_LIBRARY"], *(str(folder / name) for name in ("m.onnx", "in.npz", "out.npy"))]
    subprocess.run([sys.executable, "-c", RUN, *paths], check=True)
    return np.asarray(np.load(folder / "out.npy"))


@pytest.mark.skipif(
    "DYNQ_ORT_LIBRARY" not in os.environ, reason="DYNQ_ORT_LIBRARY does not say where libdynq_ort.so is"
)
def test_the_library_of_its_own_gives_dynqs_bits(tmp_path: Path) -> None:
    model = dynq.load(write(tmp_path / "m.dynq"))
    np.testing.assert_array_equal(run(tmp_path, model, {"x": X}), model(X))
    g = dynq.Graph()
    x = g.input("x", ("time", "batch", 16))
    y, *_ = g.lstm(x, RNG.standard_normal((1, 64, 16), np.float32), RNG.standard_normal((1, 64, 16), np.float32))
    model = g.build({"y": y}, default="int8", first_layer="int8")
    steps = X[:60].reshape(20, 3, 16)
    np.testing.assert_array_equal(run(tmp_path, model, {"x": steps}), model(steps))
