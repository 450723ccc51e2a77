"""Every allocation of the C library fails in turn, in calls from Python: each is an OutOfMemoryError and no more."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

# Takes the place of the one function by which the library takes memory.
SHIM = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdatomic.h>
#include <stddef.h>

_Atomic long memory_asked, memory_fails = -1;

int posix_memalign(void **p, size_t alignment, size_t bytes) {
  int (*real)(void **, size_t, size_t) = (int (*)(void **, size_t, size_t))dlsym(RTLD_NEXT, "posix_memalign");
  return atomic_fetch_add(&memory_asked, 1) == memory_fails ? ENOMEM : real(p, alignment, bytes);
}
"""

CODE = """
import ctypes, os, sys
import numpy as np
import dynq

folder, what = sys.argv[1], sys.argv[2]
shim = ctypes.CDLL(None)
asked, fails = (ctypes.c_long.in_dll(shim, name) for name in ("memory_asked", "memory_fails"))
rng = np.random.default_rng(0)
w, x = rng.standard_normal((96, 64), np.float32), rng.standard_normal((40, 64), np.float32)


def built():
    g = dynq.Graph()
    y = g.linear(g.input("x", ("rows", 64)), w)
    return g.build(g.node("Softmax", [y], axis=-1))


def imported():
    import onnx
    from onnx import helper, numpy_helper

    nodes = [helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("Relu", ["h"], ["y"])]
    value = lambda name, shape: helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)
    graph = helper.make_graph(nodes, "g", [value("x", ["n", 64])], [value("y", ["n", 96])],
                              [numpy_helper.from_array(w.T.copy(), "w")])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


model, path = built(), folder + "/m.dynq"
model.save(path)
qw = dynq.quantize_weight(w)
if what == "import":
    proto = imported()
    dynq.from_onnx(proto)  # starts the process of ONNX's own checks
g = dynq.Graph()
steps = g.input("x", (5, "rows", 16))
parts = [rng.standard_normal(shape, np.float32) for shape in ((1, 48, 16), (1, 48, 12))]
lstm = g.build(g.node("LSTM", [steps, *parts], outputs=["y"], hidden_size=12)[0])


def saved():
    model.save(folder + "/again.dynq")
    return np.fromfile(folder + "/again.dynq", np.uint8)


def packed():
    weight = dynq.quantize_weight(w)
    weight.save(folder + "/w.safetensors")
    return dynq.QuantizedWeight.load(folder + "/w.safetensors").dequantize()


calls = {
    "open": lambda: dynq.load(path)(x[:3]),
    "build": lambda: built()(x[:3]),
    "run": lambda: [dynq.Model.__call__(model, x[:n]) for n in (1, 7, 40)][-1],
    "linear": lambda: dynq.linear(x, qw) + dynq.matmul(x, w.T) + dynq.linear(x, dynq.quantize_weight(w)),
    "lstm": lambda: lstm(np.ones((5, 3, 16), np.float32)),
    "import": lambda: dynq.from_onnx(proto)(x),
    "save": saved,
    "weight": packed,
}
call = calls[what]
expected, failed = call(), 0
for n in range(2000):
    for each in (model, lstm):
        each.max_bytes = None  # drops the idle sessions, so that each call plans anew
    asked.value, fails.value = 0, n
    try:
        result = call()
    except dynq.OutOfMemoryError as error:
        assert "bytes" in str(error), error
        result, failed = None, failed + 1
    finally:
        fails.value = -1
    if result is not None:
        assert np.array_equal(result, expected), n
    if asked.value <= n:
        break
    assert np.array_equal(call(), expected), n
print(failed)
"""


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("cc")
    if compiler is None or not sys.platform.startswith("linux"):
        pytest.skip("no C compiler, or another way to load libraries")
    folder = tmp_path_factory.mktemp("shim")
    (folder / "shim.c").write_text(SHIM)
    subprocess.run(
        [compiler, "-shared", "-fPIC", "-o", folder / "shim.so", folder / "shim.c", "-ldl"], check=True, timeout=100
    )
    return folder / "shim.so"


@pytest.mark.parametrize(
    ("what", "least"),
    [("open", 4), ("build", 4), ("run", 3), ("linear", 2), ("lstm", 3), ("import", 4), ("save", 0), ("weight", 1)],
)
def test_each_allocation_fails_once(what: str, least: int, shim: Path, tmp_path: Path) -> None:
    if what == "import":
        pytest.importorskip("onnx")
    done = subprocess.run(
        [sys.executable, "-c", CODE, str(tmp_path), what],
        capture_output=True, text=True, timeout=300, env={**os.environ, "LD_PRELOAD": str(shim)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert int(done.stdout) >= least
