"""Calls from many threads and from forked children at once give the same bits and go on."""

import os
import signal
import threading
import time
import warnings
from pathlib import Path

import numpy as np

import dynq

F = np.float32


def problems(count: int) -> list[tuple[np.ndarray, dynq.QuantizedWeight, bytes]]:
    rng = np.random.default_rng(0)
    made = []
    for i in range(count):
        x = rng.standard_normal((1 + 40 * (i % 3), 500)).astype(F)
        qw = dynq.quantize_weight(rng.standard_normal((700 + i, 500)).astype(F))
        made.append((x, qw, dynq.linear(x, qw, activation="tanh").tobytes()))
    return made


def test_threads_call_at_once_while_settings_change() -> None:
    work = problems(8)
    stop, wrong = threading.Event(), []

    def call(i: int) -> None:
        x, qw, expected = work[i]
        while not stop.is_set():
            if dynq.linear(x, qw, activation="tanh").tobytes() != expected:
                wrong.append(i)

    threads = [threading.Thread(target=call, args=(i,)) for i in range(len(work))]
    for thread in threads:
        thread.start()
    end = time.monotonic() + 2
    names = [name for name in dynq.isa.supported() if name != "scalar"] or ["scalar"]
    while time.monotonic() < end:
        for count in (1, 2, 5):
            dynq.set_num_threads(count)
            dynq.isa.select(names[count % len(names)])
            time.sleep(0.001)
    stop.set()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
    assert not wrong


def test_one_weight_serves_threads_with_different_epilogues() -> None:
    rng = np.random.default_rng(0)
    x, qw = rng.standard_normal((4, 64)).astype(F), dynq.quantize_weight(rng.standard_normal((32, 64)).astype(F))
    kinds = [None, "relu", "tanh", "gelu"]
    biases = [None, rng.standard_normal(32).astype(F), rng.standard_normal(32).astype(F)]
    expected = {(i, a): dynq.linear(x, qw, b, activation=a).tobytes() for i, b in enumerate(biases) for a in kinds}
    wrong = []

    def call(seed: int) -> None:
        local = np.random.default_rng(seed)
        for _ in range(3000):
            i, a = int(local.integers(3)), kinds[int(local.integers(4))]
            if dynq.linear(x, qw, biases[i], activation=a).tobytes() != expected[i, a]:
                wrong.append((i, a))

    threads = [threading.Thread(target=call, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not wrong


def test_forked_children_work_after_the_pool_has_started() -> None:
    work = problems(3)
    dynq.set_num_threads(4)
    for x, qw, expected in work:
        assert dynq.linear(x, qw, activation="tanh").tobytes() == expected
    children = []
    for _ in range(4):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 warns of fork beside threads
            child = os.fork()
        if child == 0:
            signal.alarm(30)
            good = all(dynq.linear(x, qw, activation="tanh").tobytes() == y for x, qw, y in work for _ in range(5))
            os._exit(0 if good else 1)
        children.append(child)
    for x, qw, expected in work:
        assert dynq.linear(x, qw, activation="tanh").tobytes() == expected
    assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0] * 4


def test_children_that_are_forked_while_threads_call_work_and_so_does_the_parent() -> None:
    work = problems(4)
    dynq.set_num_threads(3)
    stop, wrong = threading.Event(), []

    def call(i: int) -> None:
        x, qw, expected = work[i]
        while not stop.is_set():
            if dynq.linear(x, qw, activation="tanh").tobytes() != expected:
                wrong.append(i)

    threads = [threading.Thread(target=call, args=(i,)) for i in range(2)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(12):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 warns of fork beside threads
                child = os.fork()
            if child == 0:
                signal.alarm(30)
                good = False
                try:
                    good = all(dynq.linear(x, qw, activation="tanh").tobytes() == y for x, qw, y in work)
                    dynq.set_num_threads(2)
                    packed = dynq.quantize_weight(np.ones((900, 700), F))
                    good = good and bool((packed.integers() == 127).all())
                    good = good and len(os.listdir("/proc/self/task")) > 1  # a pool of the child's own
                finally:  # whatever happens, the child does not go on with the tests
                    os._exit(0 if good else 1)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    finally:
        stop.set()
        for thread in threads:
            thread.join(30)
    assert not any(thread.is_alive() for thread in threads)
    assert not wrong


def test_each_thread_gets_the_message_of_its_own_error() -> None:
    wrong = []

    def call(place: int) -> None:
        scale = np.ones(16, F)
        scale[place] = -1 - place
        for _ in range(300):
            try:
                dynq.QuantizedWeight.from_integers(np.ones((16, 4), np.int8), scale)
            except ValueError as error:
                if f"scale[{place}] is {-1 - place};" not in str(error):
                    wrong.append(str(error))
            else:
                wrong.append("no error")

    threads = [threading.Thread(target=call, args=(i,)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not wrong


def test_threads_pack_load_and_drop_weights_at_once(tmp_path: Path) -> None:
    w = np.random.default_rng(0).standard_normal((200, 300)).astype(F)
    x = np.random.default_rng(1).standard_normal((5, 300)).astype(F)
    first = dynq.quantize_weight(w)
    first.save(tmp_path / "w.dynq")
    expected, wrong = dynq.linear(x, first).tobytes(), []

    def call(i: int) -> None:
        for _ in range(40):
            qw = dynq.quantize_weight(w) if i % 2 else dynq.QuantizedWeight.load(tmp_path / "w.dynq")
            if dynq.linear(x, qw).tobytes() != expected:
                wrong.append(i)

    threads = [threading.Thread(target=call, args=(i,)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    assert not wrong


def test_other_threads_run_while_c_works() -> None:
    rng = np.random.default_rng(0)
    x, qw = (
        rng.standard_normal((2000, 1500)).astype(F),
        dynq.quantize_weight(rng.standard_normal((1500, 1500)).astype(F)),
    )
    dynq.set_num_threads(1)
    inside = threading.Event()
    ticks_inside = 0

    def call() -> None:
        inside.set()
        with dynq.isa.use("scalar"):  # slow: one call takes a second
            dynq.linear(x, qw)
        inside.clear()

    worker = threading.Thread(target=call)
    worker.start()
    inside.wait()
    while inside.is_set():
        ticks_inside += 1
        time.sleep(0.001)
    worker.join()
    assert ticks_inside > 20
