"""ONNX files of strangers: each gives an error that says why, or a model, soon and in little memory; none ends dynq."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402

import dynq  # noqa: E402
from dynq.importers.onnx import bounded  # noqa: E402
from dynq.importers.onnx.bounded import Calls, Refused, Stopped  # noqa: E402
from tests.python.references.onnx_models import model, node, small_bert, two_layers  # noqa: E402

SECONDS, MEGABYTES = 2.0, 1024
BIG = 1 << 62

# Runs an import as the only thing of a process: what it took and gave.
ALONE = """
import re, resource, sys, time
import numpy, onnx, dynq
from dynq.importers.onnx import to_graph
start = time.process_time()
try:
    print("model", dynq.from_onnx(sys.argv[1]))
except dynq.Error as error:
    print(type(error).__name__, error)
# Its own ru_maxrss would be that of the process that started it, if that is larger.
own = int(re.search("VmHWM:\\s*(\\d+) kB", open("/proc/self/status").read())[1])
children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
print(time.process_time() - start, max(own, children) // 1024)
"""


def alone(path: Path) -> str:
    """Import a file in a process of its own; what it printed, if it kept to its limits."""
    done = subprocess.run(
        [sys.executable, "-c", ALONE, str(path)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, (done.returncode, done.stderr[-2000:])
    told, numbers = done.stdout.rstrip("\n").rsplit("\n", 1)
    seconds, megabytes = map(float, numbers.split())
    assert seconds < SECONDS and megabytes < MEGABYTES, numbers
    return told


def saved(proto: Any, path: Path) -> Path:
    path.write_bytes(proto if isinstance(proto, bytes) else proto.SerializeToString())
    return path


def eye_like() -> Any:
    """Crash shape inference: its only input is left out."""
    return model([node("EyeLike", "-", "y", dtype=11)], {"x": ("float64", (3, 4))}, "y", opset=22)


def rotary() -> Any:
    """Keep shape inference busy for ever: it makes a list of as many sizes as an input has elements."""
    rotary = node("RotaryEmbedding", "x c s p", "y", rotary_embedding_dim=4)
    shapes = {"x": ("float32", (2, 4, 3, 8)), "c": ("float32", (BIG,)), "s": ("float32", (50, 2)), "p": ("int64", (2,))}
    return model([rotary], shapes, "y", opset=23)


def long_vector(size: int) -> Any:
    """Take that many sizes in a list."""
    return model([node("Mul", "x y", "z")], {"x": ("float32", (1,)), "y": ("float32", (size,))}, "z", opset=14)


def doubled(times: int) -> Any:
    """Reach 2**times elements of a vector by concatenation, which no size of the file tells."""
    nodes = [node("Concat", f"v{i} v{i}", f"v{i + 1}", axis=0) for i in range(times)]
    return model([*nodes, node("Mul", f"v{times} v{times}", "y")], {"v0": ("float32", (2,))}, "y")


def laughs(depth: int) -> Any:
    """Call functions that call two others each: 2**depth nodes once they are written out."""
    functions = []
    for i in range(depth + 1):
        op, domain = (f"F{i + 1}", "own") if i < depth else ("Neg", "")
        nodes = [helper.make_node(op, [a], [b], domain=domain) for a, b in (("x", "h"), ("h", "y"))]
        imports = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
        functions.append(helper.make_function("own", f"F{i}", ["x"], ["y"], nodes, imports))
    proto = model([helper.make_node("F0", ["x"], ["y"], domain="own")], {"x": ("float32", (2,))}, "y", opset=17)
    proto.opset_import.append(helper.make_opsetid("own", 1))
    proto.functions.extend(functions)
    return proto


def constants(op: str, *arrays: Any, **attributes: Any) -> Any:
    """An op of constants alone, whose result a Reshape asks for while it is imported."""
    names = [f"c{i}" for i in range(len(arrays))]
    nodes = [node(op, " ".join(names), "made", **attributes), node("ReduceSum", "made", "sum", keepdims=0)]
    nodes += [node("Cast", "sum", "one", to=7), node("Unsqueeze", "one zero", "shape"), node("Reshape", "x shape", "y")]
    arrays = (*arrays, np.array([0], np.int64))
    return model(nodes, {"x": ("float32", (4,))}, "y", dict(zip([*names, "zero"], arrays, strict=True)))


def branch(inner: Any) -> Any:
    return helper.make_graph([inner], "branch", [], [onnx.ValueInfoProto(name=inner.output[0])])


def grouped(groups: int) -> Any:
    weight = {"w": np.ones((8, 2, 3, 3), np.float32)}
    return model([node("Conv", "x w", "y", group=groups)], {"x": ("float32", (1, 6, 5, 5))}, "y", weight)


INT = np.int64
MANY = np.array([1 << 34], INT)
HOSTILE = {
    "no required input": eye_like(),
    "no input at all": model([helper.make_node("Relu", [], ["y"])], {"x": ("float32", (2,))}, "y"),
    "too many inputs": model([node("Relu", "x x x", "y")], {"x": ("float32", (2,))}, "y"),
    "no required attribute": model([node("Cast", "x", "y")], {"x": ("float32", (2,))}, "y"),
    "no required attribute of a branch": model(
        [node("If", "c", "y", then_branch=branch(node("Cast", "x", "z")), else_branch=branch(node("Neg", "x", "w")))],
        {"x": ("float32", (2,)), "c": ("bool", ())}, "y",
    ),
    "a list of sizes that never ends": rotary(),
    "a shape too large for any memory": long_vector(BIG),
    "a shape whose product overflows": model(
        [node("Relu", "x", "y")], {"x": ("float32", (1 << 31, 1 << 31, 4))}, "y"
    ),
    "a shape below 0": model([node("Relu", "x", "y")], {"x": ("float32", (-5,))}, "y"),
    "a vector of 2**33": long_vector(1 << 33),
    "a vector of 2**26": long_vector(1 << 26),
    "a vector doubled 55 times": doubled(55),
    "functions of 2**40 nodes": laughs(40),
    "an initializer without data": model(
        [node("Add", "x w", "y")], {"x": ("float32", (2,))}, "y", {"w": np.zeros(0, np.float32)}
    ),
    "a range of 2**34": constants("Range", np.array(0, INT), np.array(1 << 34, INT), np.array(1, INT)),
    "a constant of 2**34": constants("ConstantOfShape", MANY),
    "an Expand to 2**34": constants("Expand", np.zeros(1, INT), MANY),
    "a Tile to 2**34": constants("Tile", np.zeros(1, INT), MANY),
    "a pad of 2**34": constants("Pad", np.zeros(1, INT), np.array([0, 1 << 34], INT)),
    "a OneHot of 2**34": constants("OneHot", np.zeros(1, INT), np.array(1 << 34, INT), np.array([0, 1], INT)),
    "a sum of 10**10": constants("Add", np.zeros((100_000, 1), INT), np.zeros((1, 100_000), INT)),
    "a choice of 10**10": constants(
        "Where", np.zeros((100_000, 1), bool), np.zeros((1, 100_000), INT), np.zeros(1, INT)
    ),
    "a Gather of 10**10": constants("Gather", np.zeros((1, 100_000), INT), np.zeros(100_000, INT)),
    "a MatMul of 10**10": constants("MatMul", np.zeros((100_000, 1), INT), np.zeros((1, 100_000), INT)),
    "groups that do not share outputs": grouped(3),
    "no group at all": grouped(0),
    "nothing": b"",
    "noise": np.random.default_rng(0).bytes(1000),
    "a file of another kind": b"PK\3\4" + bytes(100),
}  # fmt: skip
HOSTILE["an initializer without data"].graph.initializer[0].dims[:] = [1 << 40]


@pytest.mark.parametrize("what", HOSTILE)
def test_each_hostile_file_gives_an_error_or_a_model(what: str, tmp_path: Path) -> None:
    told = alone(saved(HOSTILE[what], tmp_path / "m.onnx"))
    assert told.startswith(("model", "InvalidModelError", "UnsupportedModelError")), told
    assert len(told) > 30 and "Traceback" not in told


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("no required input", r"node 'EyeLike_0' \(EyeLike\) has no input 0, 'input'"),
        ("no input at all", r"node 'Relu_0' \(Relu\) has no input 0, 'X'"),
        ("too many inputs", r"node 'Relu_0' \(Relu\) has 3 inputs; expected 1 at most"),
        ("no required attribute", r"node 'Cast_0' \(Cast\) has no attribute 'to'"),
        ("no required attribute of a branch", r"node 'Cast_0' \(Cast\) has no attribute 'to'"),
        ("a list of sizes that never ends", "input 'c' has shape .*, too large for any memory"),
        ("a shape whose product overflows", "input 'x' has shape .*, too large for any memory"),
        ("a shape below 0", "input 'x': dimension 0 is -5; expected 0 or more"),
        ("functions of 2**40 nodes", "cannot be inlined: its calls become more than 100000 nodes"),
        ("an initializer without data", "initializer 'w'"),
        ("groups that do not share outputs", "its weight has 8 outputs, which 3 groups do not share evenly"),
        ("no group at all", "its weight has 8 outputs, which 0 groups do not share evenly"),
        ("nothing", "not an ONNX model, or an empty one"),
        ("noise", "not an ONNX model"),
    ],
)
def test_errors_say_what_is_wrong(what: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(dynq.InvalidModelError, match=message):
        dynq.from_onnx(saved(HOSTILE[what], tmp_path / "m.onnx"))


def test_a_long_vector_is_no_reason_to_refuse_a_model() -> None:
    """Sizes that are computed from values are given up first."""
    made = dynq.from_onnx(long_vector(1 << 26), quantize=False)
    assert made.inputs[1].shape == (1 << 26,)


def test_the_command_gives_one_line(tmp_path: Path) -> None:
    for what in ("no required input", "a list of sizes that never ends", "noise"):
        path = saved(HOSTILE[what], tmp_path / "m.onnx")
        done = subprocess.run(
            [sys.executable, "-m", "dynq", "quantize", str(path), "-o", str(tmp_path / "m.dynq")],
            capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert done.returncode == 1 and done.stderr.startswith("dynq: ") and "Traceback" not in done.stderr
    assert os.listdir(tmp_path) == ["m.onnx"]


@pytest.mark.parametrize("suffix", [".json", ".textproto", ".onnxtxt", ".prototxt", ""])
def test_the_name_chooses_no_other_parser(suffix: str, tmp_path: Path) -> None:
    assert dynq.from_onnx(saved(two_layers(), tmp_path / f"m{suffix}")).inputs
    with pytest.raises(dynq.InvalidModelError):
        dynq.from_onnx(saved(b'{"irVersion": "8", "graph": {}}', tmp_path / f"text{suffix}"))


def test_a_device_is_no_model() -> None:
    with pytest.raises(dynq.InvalidModelError, match="a device"):
        dynq.from_onnx("/dev/zero")


class TestCalls:
    """The child process."""

    def test_a_crash_is_an_error_and_the_next_call_works(self) -> None:
        good = two_layers().SerializeToString()
        with Calls() as calls:
            for _ in range(3):
                with pytest.raises(Stopped, match=r"crashes \(SIGSEGV\)"):
                    calls.call("shape_inference.infer_shapes", eye_like().SerializeToString(), False, False, True)
                assert calls.call("shape_inference.infer_shapes", good, True, True, True)

    def test_time_and_memory_are_limited(self, monkeypatch: pytest.MonkeyPatch) -> None:
        endless = long_vector(1 << 50).SerializeToString()
        with Calls() as calls:
            monkeypatch.setenv("DYNQ_IMPORT_SECONDS", "0.2")
            monkeypatch.setenv("DYNQ_IMPORT_BYTES", str(4 << 30))
            with pytest.raises(Stopped, match=r"takes more than 0\.2 s; .*DYNQ_IMPORT_SECONDS"):
                calls.call("shape_inference.infer_shapes", endless, True, True, True)
            monkeypatch.setenv("DYNQ_IMPORT_SECONDS", "20")
            monkeypatch.setenv("DYNQ_IMPORT_BYTES", str(200 << 20))
            with pytest.raises(Stopped, match=r"takes more than 209,715,200 bytes .*DYNQ_IMPORT_BYTES"):
                calls.call("shape_inference.infer_shapes", endless, True, True, True)

    def test_a_limit_that_is_no_number_is_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for text in ("x", "-1", "nan", "1e30"):
            monkeypatch.setenv("DYNQ_IMPORT_SECONDS", text)
            with pytest.raises(dynq.Error, match="DYNQ_IMPORT_SECONDS is"):
                dynq.from_onnx(two_layers())

    def test_what_onnx_refuses_is_told(self) -> None:
        proto = model([node("Add", "x y", "z")], {"x": ("float32", (2,)), "y": ("float32", (3,))}, "z")
        with Calls() as calls, pytest.raises(Refused, match="Incompatible dimensions"):
            calls.call("shape_inference.infer_shapes", proto.SerializeToString(), True, True, True)

    def test_a_child_that_has_gone_is_replaced(self) -> None:
        with Calls() as calls:
            assert calls._child is not None
            calls._child._process.kill()
            calls._child._process.wait()
            assert calls.call("shape_inference.infer_shapes", two_layers().SerializeToString(), True, True, True)

    def test_a_model_of_many_bytes_comes_back_whole(self) -> None:
        proto = model([node("Relu", "x", "y")], {"x": ("float32", (2,))}, "y")
        proto.doc_string = "x" * 5_000_000
        with Calls() as calls:
            result = calls.call("shape_inference.infer_shapes", proto.SerializeToString(), True, True, True)
        assert onnx.ModelProto.FromString(result).doc_string == proto.doc_string

    def test_one_child_serves_many_imports_and_ends_with_the_process(self) -> None:
        code = (
            "import dynq\nfrom tests.python.references import onnx_models\nfrom dynq.importers.onnx import bounded\n"
            "seen = set()\n"
            "for _ in range(20):\n"
            "    dynq.from_onnx(onnx_models.two_layers())\n"
            "    seen.add(bounded._idle[0]._process.pid)\n"
            "print(len(seen), *seen)"
        )
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=60,
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[3]), *sys.path])},
        )  # fmt: skip
        assert done.returncode == 0 and done.stderr == "", done.stderr
        count, pid = done.stdout.split()
        assert count == "1" and not Path(f"/proc/{pid}").exists()

    def test_threads_import_at_the_same_time(self) -> None:
        wrong: list[BaseException] = []

        def work() -> None:
            try:
                for _ in range(5):
                    assert len(dynq.from_onnx(two_layers()).nodes) > 1
                    with pytest.raises(dynq.InvalidModelError):
                        dynq.from_onnx(eye_like())
            except BaseException as error:
                wrong.append(error)

        threads = [threading.Thread(target=work) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not wrong, wrong[:2]
        assert len(bounded._idle) <= 1

    @pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
    def test_a_fork_has_a_child_of_its_own(self) -> None:
        dynq.from_onnx(two_layers())
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                dynq.from_onnx(two_layers())
                bounded._end_all()
                status = 0
            finally:
                os._exit(status)
        assert os.waitpid(pid, 0)[1] == 0
        dynq.from_onnx(two_layers())

    def test_a_child_that_cannot_be_started_is_an_error(self, monkeypatch: pytest.MonkeyPatch) -> None:
        bounded._end_all()
        before = len(os.listdir("/proc/self/fd"))
        for program in ("/nonexistent/python", "/bin/false"):
            monkeypatch.setattr(sys, "executable", program)
            with pytest.raises(dynq.Error, match="child process for ONNX's C\\+\\+ part"):
                dynq.from_onnx(two_layers())
            bounded._end_all()
        assert len(os.listdir("/proc/self/fd")) == before

    def test_no_descriptor_stays_open(self) -> None:
        dynq.from_onnx(two_layers())
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(5):
            dynq.from_onnx(two_layers())
            with pytest.raises(dynq.InvalidModelError):
                dynq.from_onnx(eye_like())
        assert len(os.listdir("/proc/self/fd")) == before

    def test_an_interrupt_ends_the_call(self, request: pytest.FixtureRequest) -> None:
        # A shell that starts a program in the background lets it ignore interrupts.
        request.addfinalizer(partial(signal.signal, signal.SIGINT, signal.getsignal(signal.SIGINT)))
        signal.signal(signal.SIGINT, signal.default_int_handler)

        def interrupt() -> None:  # in this other thread, so the main one's wait for an answer goes on
            signal.pthread_kill(threading.get_ident(), signal.SIGINT)

        timer = threading.Timer(0.1, interrupt)
        start = time.monotonic()
        with Calls() as calls:
            assert calls._child is not None
            calls._child._process.send_signal(signal.SIGSTOP)  # no answer comes
            timer.start()
            with pytest.raises(KeyboardInterrupt):
                calls.call("shape_inference.infer_shapes", two_layers().SerializeToString(), True, True, True)
        assert time.monotonic() - start < 10
        assert dynq.from_onnx(two_layers()).inputs  # the answer that nobody waited for is not taken for this one's

    def test_without_an_interpreter_it_is_called_here(self, monkeypatch: pytest.MonkeyPatch) -> None:
        expected = [name for name, _ in dynq.from_onnx(small_bert(17)).nodes]
        monkeypatch.setattr(sys, "executable", "")
        assert [name for name, _ in dynq.from_onnx(small_bert(17)).nodes] == expected
        with pytest.raises(dynq.InvalidModelError):
            dynq.from_onnx(model([node("Add", "x y", "z")], {"x": ("float32", (2,)), "y": ("float32", (3,))}, "z"))


class TestExternalData:
    def external(self, folder: Path) -> Path:
        onnx.save(two_layers(), folder / "m.onnx", save_as_external_data=True, location="m.data", size_threshold=0)
        return folder / "m.onnx"

    def test_a_hard_link_is_refused(self, tmp_path: Path) -> None:
        path = self.external(tmp_path)
        os.rename(tmp_path / "m.data", tmp_path / "secret")
        os.link(tmp_path / "secret", tmp_path / "m.data")
        with pytest.raises(dynq.InvalidModelError, match=r"'m\.data', which has 2 names \(hard links\); copy the file"):
            dynq.from_onnx(path)
        os.unlink(tmp_path / "secret")
        assert dynq.from_onnx(path).inputs

    def test_a_link_within_the_folder_is_read(self, tmp_path: Path) -> None:
        path = self.external(tmp_path)
        os.rename(tmp_path / "m.data", tmp_path / "blob")
        (tmp_path / "m.data").symlink_to("blob")
        assert dynq.from_onnx(path).inputs

    @pytest.mark.parametrize("kind", ["pipe", "folder", "device", "loop"])
    def test_what_is_no_file_is_refused_at_once(self, kind: str, tmp_path: Path) -> None:
        path = self.external(tmp_path)
        data = tmp_path / "m.data"
        data.unlink()
        if kind == "pipe":
            os.mkfifo(data)
        elif kind == "folder":
            data.mkdir()
        elif kind == "loop":
            data.symlink_to("m.data")
        else:
            data.symlink_to("/dev/zero")
        with pytest.raises(dynq.InvalidModelError, match=r"has its data in 'm\.data'"):
            dynq.from_onnx(path)

    def test_a_tensor_that_nothing_reads_may_lie_anywhere(self, tmp_path: Path) -> None:
        """Neither opens the import it, nor does the command look at it for the size of the model."""
        path = self.external(tmp_path)
        proto = onnx.load_model(path, load_external_data=False)
        tensor = numpy_helper.from_array(np.zeros(4, np.float32), "unread")
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.append(onnx.StringStringEntryProto(key="location", value="../nothing"))
        proto.graph.initializer.append(tensor)
        saved(proto, path)
        done = subprocess.run(
            [sys.executable, "-m", "dynq", "quantize", str(path), "-o", str(tmp_path / "m.dynq")],
            capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr


def test_many_nodes_of_one_name_take_no_longer_than_others() -> None:
    seconds = []
    for name in ("n{}", "same"):
        nodes = [node("Relu", f"v{i}", f"v{i + 1}", name.format(i)) for i in range(4000)]
        proto = model(nodes, {"v0": ("float32", (2,))}, "v4000")
        start = time.process_time()
        from dynq.importers.onnx import to_graph

        assert len(to_graph(proto).nodes) == 4000
        seconds.append(time.process_time() - start)
    assert seconds[1] < 3 * seconds[0] + 0.5
