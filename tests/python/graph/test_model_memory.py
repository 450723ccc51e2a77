"""Memory while a model is made of mapped weights: one tensor at a time."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

CODE = """
import resource, sys
import numpy as np
import dynq

folder = sys.argv[1]
LAYERS, SIZE = 8, 2048
np.lib.format.open_memmap(folder + "/w.npy", "w+", np.float32, (LAYERS, SIZE, SIZE))[:] = \\
    np.random.default_rng(0).standard_normal((1, SIZE, SIZE), np.float32)
for i in range(LAYERS):  # each is another one
    np.load(folder + "/w.npy", mmap_mode="r+")[i, 0, 0] = i
weights = np.load(folder + "/w.npy", mmap_mode="r")

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()

g = dynq.Graph()
g.build(g.linear(g.input("x", (64,)), np.ones((64, 64), np.float32)))  # imports what a build takes
g = dynq.Graph()
x = g.input("x", ("batch", SIZE))
for i in range(LAYERS):
    x = {
        "rows": lambda: g.linear(x, weights[i]),
        "columns": lambda: x @ weights[i],
        "siblings": lambda: g.linear(x, weights[i]) + g.linear(x, weights[i - 1]) if i % 2 else x,
        "tables": lambda: x + g.embedding(weights[i], g.input(f"i{i}", ("batch",), "int64")),
    }[sys.argv[2]]()
before = resident()
with open("/proc/self/clear_refs", "w") as file:
    file.write("5")  # the peak starts anew
model = g.build(x, default="int8")  # measuring the layers takes the float weights, too
with open("/proc/self/status") as file:
    peak = 1024 * next(int(line.split()[1]) for line in file if line.startswith("VmHWM"))
print(peak - before, model.nbytes, 4 * SIZE * SIZE)
"""


@pytest.mark.parametrize("kind", ["rows", "columns", "siblings", "tables"])
def test_a_model_of_mapped_weights_takes_its_own_size_and_a_tensor_at_a_time(tmp_path: Path, kind: str) -> None:
    """Pages of a weight count until it is packed, which happens in pieces: no second copy of one is ever there.

    That holds where the layers are not measured.
    """
    command = [sys.executable, "-c", CODE, str(tmp_path), kind]
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "262144"}  # what is freed goes back to the system at once
    output = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    taken, size, largest = map(int, output.stdout.split())
    assert taken < 1.2 * size + largest, (taken, size, largest)
