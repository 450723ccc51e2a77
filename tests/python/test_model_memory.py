"""Memory while a model is made of mapped weights: one tensor at a time."""

import subprocess
import sys
from pathlib import Path

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
    x = g.linear(x, weights[i])
before = resident()
with open("/proc/self/clear_refs", "w") as file:
    file.write("5")  # the peak starts anew
model = g.build(x)
with open("/proc/self/status") as file:
    peak = 1024 * next(int(line.split()[1]) for line in file if line.startswith("VmHWM"))
print(peak - before, model.nbytes, 4 * SIZE * SIZE)
"""


def test_a_model_of_mapped_weights_takes_its_own_size_and_a_tensor_at_a_time(tmp_path: Path) -> None:
    """The pages of a weight count until it is packed; what is packed is copied into the image, then let go."""
    output = subprocess.run([sys.executable, "-c", CODE, str(tmp_path)], check=True, capture_output=True, text=True)
    taken, size, largest = map(int, output.stdout.split())
    assert taken <= 1.1 * size + 2.5 * largest, (taken, size, largest)
