"""What a call of a model may take: bytes, and time that Ctrl-C ends."""

from __future__ import annotations

import copy
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import dynq


def _tiles(count: int) -> dynq.Model:
    g = dynq.Graph()
    return g.build(g.node("Tile", [g.input("x", [1]), np.array([count])], name="many"))


def test_small_file_cannot_take_all_memory() -> None:
    with pytest.raises(dynq.OutOfMemoryError, match=r"node 'many' \(Tile\): takes \d+ bytes; .* raise max_bytes"):
        _tiles(800 << 20)(np.ones(1, np.float32))


def test_max_bytes(tmp_path: Path) -> None:
    model, x = _tiles(1000), np.ones(1, np.float32)
    assert model.max_bytes is None
    assert model(x).shape == (1000,)
    model.max_bytes = 3000
    with pytest.raises(dynq.OutOfMemoryError, match="the session's limit is 3000"):
        model(x)
    assert copy.copy(model).max_bytes == pickle.loads(pickle.dumps(model)).max_bytes == 3000
    model.max_bytes = 2**100  # any number
    assert model(x).shape == (1000,)
    model.save(tmp_path / "m.dynq")
    limited = dynq.load(tmp_path / "m.dynq", max_bytes=3000)
    with pytest.raises(dynq.OutOfMemoryError):
        limited(x)
    limited.max_bytes = None
    assert limited(x).shape == (1000,)
    for wrong in (0, -1, 1.5):
        with pytest.raises(ValueError, match="max_bytes is"):
            model.max_bytes = wrong  # type: ignore[assignment]


def test_idle_sessions_are_few() -> None:
    model, x = _tiles(1000), np.ones(1, np.float32)
    start = threading.Barrier(64)

    def work() -> None:
        start.wait()
        for _ in range(5):
            model(x)

    threads = [threading.Thread(target=work) for _ in range(64)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    cpus = os.cpu_count() or 1
    assert len(model._sessions) <= max(16, 4 * cpus)
    time.sleep(1.1)
    model(x)
    assert len(model._sessions) <= cpus


CHILD = """
import os, signal, sys, threading, time
import numpy as np
import dynq

dynq.isa.select("scalar")
dynq.set_num_threads(int(sys.argv[2]))
g = dynq.Graph()
x = g.input("x", ["rows", 1500])
model = g.build(x @ np.ones((1500, 1500), np.float32), quantize=sys.argv[1] == "int8")
small, large = np.ones((1, 1500), np.float32), np.ones((30000, 1500), np.float32)
before = model(small)
sent = []

def interrupt():
    time.sleep(0.15)
    sent.append(time.perf_counter())
    os.kill(os.getpid(), signal.SIGINT)

if sys.argv[3] == "alarm":
    class Late(Exception):
        pass

    def handler(number, frame):
        raise Late("late")

    signal.signal(signal.SIGINT, handler)
    expected = Late
else:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    expected = KeyboardInterrupt
worker = threading.Thread(target=interrupt)
worker.start()
try:
    model(large)
    print("it was not interrupted")
except expected as error:
    took = time.perf_counter() - sent[0]
    worker.join()
    print("interrupted", took, np.array_equal(model(small), before))
"""


@pytest.mark.parametrize(
    "arguments", [("int8", "1", "plain"), ("int8", "3", "plain"), ("float", "2", "plain"), ("int8", "1", "alarm")]
)
def test_interrupt(arguments: tuple[str, ...]) -> None:
    times = []
    while len(times) < 3 and min(times, default=1.0) >= 0.5:  # the machine may be busy with others
        done = subprocess.run([sys.executable, "-c", CHILD, *arguments], capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        word, took, same = done.stdout.split()
        assert (word, same) == ("interrupted", "True")
        times.append(float(took))
    assert min(times) < 0.5, times


def test_interrupts_come_to_the_main_thread_alone() -> None:
    """A long run of another thread goes on; the main thread has the exception."""
    dynq.isa.select("scalar")
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        g = dynq.Graph()
        model = g.build(g.input("x", ["rows", 500]) @ np.ones((500, 500), np.float32))
        x = np.ones((4000, 500), np.float32)
        result = []
        worker = threading.Thread(target=lambda: result.append(model(x)))
        worker.start()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(5)
        worker.join()
        assert np.array_equal(result[0], model(x))
    finally:
        signal.signal(signal.SIGINT, before)
        dynq.isa.select(None)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_interrupt_in_a_forked_child() -> None:
    code = CHILD.replace(
        "worker = threading.Thread",
        "if os.fork():\n    os._exit(os.waitstatus_to_exitcode(os.wait()[1]))\nworker = threading.Thread",
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "int8", "1", "plain"], capture_output=True, text=True, timeout=120
    )
    assert done.stdout.split()[0] == "interrupted", done.stderr


ARRAYS = """
import os, signal, sys, threading, time
import numpy as np
import dynq

dynq.isa.select("scalar")
dynq.set_num_threads(int(sys.argv[2]))
wide, tall = np.ones((1500, 1500), np.float32), np.ones((20000, 1500), np.float32)
many = np.ones((1, 120_000_000), np.float32)
weight = dynq.quantize_weight(wide)
call = {
    "linear": lambda: dynq.linear(tall, weight),
    "linear, unusual": lambda: dynq.linear(tall, weight, clamp=(-1, 1)),
    "gemm_s32": lambda: dynq.gemm_s32(np.ones(tall.shape, np.uint8), 0, weight),
    "matmul": lambda: dynq.matmul(tall, wide),
    "quantize": lambda: dynq.quantize(many),
    "minmax": lambda: [dynq.minmax(many) for _ in range(20)],
    "quantize_weight": lambda: [dynq.quantize_weight(tall) for _ in range(10)],
}[sys.argv[1]]
signal.signal(signal.SIGINT, signal.default_int_handler)
sent = []

def interrupt():
    time.sleep(0.1)
    sent.append(time.perf_counter())
    os.kill(os.getpid(), signal.SIGINT)

worker = threading.Thread(target=interrupt)
worker.start()
try:
    call()
    worker.join()
    print("it was not interrupted")
except KeyboardInterrupt:
    took = time.perf_counter() - sent[0]
    worker.join()
    print("interrupted", took, np.array_equal(dynq.linear(tall[:2], weight), dynq.linear(tall[2:4], weight)))
"""


@pytest.mark.parametrize(
    "what",
    ["linear", "linear, unusual", "gemm_s32", "matmul", "quantize", "minmax", "quantize_weight"],
)
def test_interrupt_of_calls_on_arrays(what: str) -> None:
    times = []
    while len(times) < 3 and min(times, default=1.0) >= 0.5:  # the machine may be busy with others
        done = subprocess.run([sys.executable, "-c", ARRAYS, what, "1"], capture_output=True, text=True, timeout=200)
        assert done.returncode == 0, done.stderr
        word, took, same = done.stdout.split()
        assert (word, same) == ("interrupted", "True")
        times.append(float(took))
    assert min(times) < 0.5, times
