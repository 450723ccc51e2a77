"""What it costs in C to give an LSTM one frame a call, states in and out: ``frame_overhead.py PATH/TO/dynq-bench``.

The smallest layer's kernels take almost nothing, so that its call is what every call costs.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

import dynq

SIZES = ((16, 16), (64, 128), (128, 256), (256, 512))


def model(inputs: int, hidden: int) -> dynq.Model:
    rng = np.random.default_rng(0)
    w, r = (rng.standard_normal((1, 4 * hidden, k), np.float32) * hidden**-0.5 for k in (inputs, hidden))
    graph = dynq.Graph()
    x = graph.input("x", (1, 1, inputs))
    h, c = (graph.input(name, (1, 1, hidden)) for name in ("h", "c"))
    y, h_out, c_out = graph.lstm(x, w, r, initial_h=h, initial_c=c)
    return graph.build({"y": y, "h_out": h_out, "c_out": c_out}, first_layer="int8")


def main(program: str) -> None:
    for inputs, hidden in SIZES:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "lstm.dynq"
            model(inputs, hidden).save(path)
            arguments = [program, "model", "--file", str(path), "--json"]
            line = subprocess.run(arguments, check=True, capture_output=True, text=True).stdout
        record = json.loads(line)
        print(f"LSTM, {inputs} to {hidden}: {record['us']:.2f} us a frame, {record['nodes_us']:.2f} us in nodes")


if __name__ == "__main__":
    main(sys.argv[1])
