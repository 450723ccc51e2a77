"""A model with external data is quantized a tensor at a time: the file is mapped and never held as a whole."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from tests.python.references.onnx_models import model, node

LAYERS, SIZE = 36, 2048  # 604 MB of float32
SCRIPT = """
import sys, onnx, onnx.reference, dynq
from dynq.importers.onnx import to_graph

def peak():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))

before = peak()
model = dynq.from_onnx(sys.argv[1], default="int8")
print(peak() - before, model.nbytes)
"""


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="the system does not tell a process's memory")
def test_the_peak_is_the_result_and_a_tensor(tmp_path: Path) -> None:
    nodes = [node("MatMul", f"h{i} w{i}", f"h{i + 1}") for i in range(LAYERS)]
    proto = model(nodes, {"h0": ("float32", ["n", SIZE])}, f"h{LAYERS}")
    tensor_bytes = SIZE * SIZE * 4
    for i in range(LAYERS):
        tensor = TensorProto(name=f"w{i}", data_type=TensorProto.FLOAT, dims=[SIZE, SIZE])
        tensor.data_location = TensorProto.EXTERNAL
        for key, text in (("location", "m.data"), ("offset", str(i * tensor_bytes)), ("length", str(tensor_bytes))):
            tensor.external_data.add(key=key, value=text)
        proto.graph.initializer.append(tensor)
    with open(tmp_path / "m.data", "wb") as data:
        for i in range(LAYERS):  # all but one number of each are zeros, which take no disk
            data.seek(i * tensor_bytes)
            data.write(np.float32(i + 1).tobytes())
        data.truncate(LAYERS * tensor_bytes)
    onnx.save(proto, tmp_path / "m.onnx")
    done = subprocess.run([sys.executable, "-c", SCRIPT, tmp_path / "m.onnx"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    peak, result = (int(number) for number in done.stdout.split())
    assert result < LAYERS * tensor_bytes / 3.9
    assert peak < 1.2 * result + tensor_bytes
