"""What a call of ``dynq.linear`` costs over the C function alone: ``call_overhead.py PATH/TO/dynq-bench``.

C and Python are timed in turn, several rounds, one thread; the figures are medians.
"""

import json
import statistics
import subprocess
import sys
import timeit

import numpy as np

import dynq

ROUNDS = 9
CALLS = 20_000


def c_microseconds(program: str, m: int, n: int, k: int) -> float:
    arguments = [program, "linear", "--threads", "1", "--shape", f"{m}x{n}x{k}", "--rounds", "5", "--json"]
    output = subprocess.run(arguments, check=True, capture_output=True, text=True).stdout
    return float(json.loads(output.splitlines()[-1])["us"])


def main(program: str) -> None:
    dynq.set_num_threads(1)
    rng = np.random.default_rng(0)
    m, n, k = 1, 64, 64
    x = rng.standard_normal((m, k), np.float32)
    qw = dynq.quantize_weight(rng.standard_normal((n, k), np.float32))
    bias = rng.standard_normal(n).astype(np.float32)
    calls = {
        "linear(x, qw)": lambda: dynq.linear(x, qw),
        "linear(x, qw, bias, activation='relu')": lambda: dynq.linear(x, qw, bias, activation="relu"),
    }
    nothing = timeit.timeit(lambda: None, number=CALLS) / CALLS  # what the lambda itself costs
    in_c: list[float] = []
    in_python: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(ROUNDS):
        in_c.append(c_microseconds(program, m, n, k))
        for name, call in calls.items():
            in_python[name].append(1e6 * (timeit.timeit(call, number=CALLS) / CALLS - nothing))
    c = statistics.median(in_c)
    print(f"{m} x {n} x {k}, {dynq.isa.selected()}: dynq_linear_f32 takes {c:.2f} us in C")
    for name, times in in_python.items():
        total = statistics.median(times)
        print(f"  {name:40} {total:.2f} us, overhead {total - c:.2f} us")


if __name__ == "__main__":
    main(sys.argv[1])
