"""Files that dynq writes: complete or not there, whatever happens meanwhile, with the mode of those they replace."""

from __future__ import annotations

import os
import resource
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dynq
from dynq.core import files

SECONDS = 120  # that no child takes


def model_of(value: float, size: int = 16) -> dynq.Model:
    graph = dynq.Graph()
    x = graph.input("x", (1, size), "float32")
    graph.output(
        graph.node("Add", [x, graph.constant(np.full((1, size), value, np.float32), "w")], ["y"], "add")[0], "y"
    )
    return graph.build()


def value_of(path: Path) -> float:
    model = dynq.load(path)
    return float(model(np.zeros((1, model.inputs[0].shape[1]), np.float32))[0, 0])


def write_model(path: Path) -> None:
    model_of(2.0).save(path)


def write_weight(path: Path) -> None:
    dynq.quantize_weight(np.ones((8, 8), np.float32)).save(path)


def write_onnx(path: Path) -> None:
    pytest.importorskip("onnx")
    dynq.export_onnx(model_of(2.0), path)


def write_page(path: Path) -> None:
    graph = dynq.Graph()
    x = graph.input("x", (1, 16), "float32")
    graph.output(graph.linear(x, np.eye(16, dtype=np.float32)), "y")
    dynq.accuracy.analyze(graph).to_html(path)


def write_arrays(path: Path) -> None:
    from dynq.cli.models import _save

    _save(path, {"y": np.ones(3, np.float32)})


def write_plot(path: Path) -> None:
    figure = pytest.importorskip("matplotlib.figure").Figure()
    from dynq.figure import save

    save(figure, str(path))


WRITERS: list[Callable[[Path], None]] = [write_model, write_weight, write_onnx, write_page, write_arrays, write_plot]
writers = pytest.mark.parametrize("write", WRITERS, ids=lambda writer: writer.__name__)


def suffix(write: Callable[[Path], None]) -> str:
    return ".png" if write is write_plot else ".file"


def left_over(folder: Path) -> list[str]:
    return sorted(name for name in os.listdir(folder) if name.startswith("."))


@pytest.fixture
def umask() -> Iterator[None]:
    before = os.umask(0o027)
    yield
    os.umask(before)


@writers
def test_a_new_file_has_the_mode_that_the_umask_leaves(write: Any, tmp_path: Path, umask: None) -> None:
    path = tmp_path / f"new{suffix(write)}"
    write(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert os.listdir(tmp_path) == [path.name]


@writers
@pytest.mark.parametrize("mode", [0o600, 0o664, 0o755])
def test_a_file_keeps_its_mode(write: Any, mode: int, tmp_path: Path) -> None:
    path = tmp_path / f"old{suffix(write)}"
    path.write_bytes(b"old")
    path.chmod(mode)
    write(path)
    assert stat.S_IMODE(path.stat().st_mode) == mode
    assert path.read_bytes() != b"old"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_a_file_keeps_its_owner(tmp_path: Path) -> None:
    path = tmp_path / "old.dynq"
    path.write_bytes(b"old")
    os.chown(path, 12345, 23456)
    path.chmod(0o640)
    write_model(path)
    found = path.stat()
    assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (12345, 23456, 0o640)


def test_a_group_that_cannot_be_kept_gets_no_more_than_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "old.dynq"
    path.write_bytes(b"old")
    path.chmod(0o664)
    real = os.stat

    def of_another_group(name: Any, **kwargs: Any) -> os.stat_result:
        found = list(real(name, **kwargs))
        if name == str(path):
            found[5] += 1
        return os.stat_result(found)

    def refuses(*_: Any) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "stat", of_another_group)
    monkeypatch.setattr(os, "fchown", refuses)
    files.write(path, [b"new"])
    monkeypatch.undo()
    assert path.read_bytes() == b"new" and stat.S_IMODE(path.stat().st_mode) == 0o644


@writers
def test_the_file_that_a_link_leads_to_is_replaced(write: Any, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    target, link, second = tmp_path / "real/target", tmp_path / f"link{suffix(write)}", tmp_path / "middle"
    target.write_bytes(b"old")
    second.symlink_to("real/target")
    link.symlink_to("middle")
    write(link)
    assert link.is_symlink() and second.is_symlink() and not target.is_symlink()
    assert target.read_bytes() != b"old"
    assert left_over(tmp_path) == left_over(tmp_path / "real") == []


def test_a_link_to_nothing_gets_its_file(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("nothing")
    write_model(tmp_path / "link")
    assert (tmp_path / "link").is_symlink() and value_of(tmp_path / "nothing") == 2.0


def test_links_that_go_round_are_an_error(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(OSError, match="symbolic links"):
        write_model(tmp_path / "a")


def test_a_link_planted_at_the_name_of_the_new_file_is_not_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    guesses = iter(["0" * 16, "1" * 16, "2" * 16])
    monkeypatch.setattr("secrets.token_hex", lambda size: next(guesses))
    victim, path = tmp_path / "victim", tmp_path / "model.dynq"
    victim.write_bytes(b"precious")
    planted = tmp_path / f".model.dynq.{os.getpid()}-{files._boot()}-{'0' * 16}.dynq-part"
    planted.symlink_to(victim)
    hard = tmp_path / f".model.dynq.{os.getpid()}-{files._boot()}-{'1' * 16}.dynq-part"
    lock = files._create(str(tmp_path), ".other.", 0o600)  # a file of a live writer
    os.rename(lock[1], hard)
    write_model(path)
    os.close(lock[0])
    assert victim.read_bytes() == b"precious" and planted.is_symlink() and hard.read_bytes() == b""
    assert value_of(path) == 2.0 and not path.is_symlink()


def test_the_old_name_of_new_files_is_not_followed(tmp_path: Path) -> None:
    victim, path = tmp_path / "victim", tmp_path / "model.dynq"
    victim.write_bytes(b"precious")
    (tmp_path / f"model.dynq.{os.getpid()}.part").symlink_to(victim)
    write_model(path)
    assert victim.read_bytes() == b"precious" and not path.is_symlink()


def device(path: Path, name: str) -> Path:
    """Make a device like /dev/null or /dev/full; who may not make one cannot replace those either."""
    try:
        os.mknod(path, 0o666 | stat.S_IFCHR, os.stat(f"/dev/{name}").st_rdev)
        with open(path, "wb"):
            pass
    except PermissionError:
        if os.geteuid() == 0:
            pytest.skip("devices cannot be made here, and a fault would replace that of the system")
        return Path(f"/dev/{name}")
    return path


@writers
@pytest.mark.parametrize("linked", [False, True])
def test_a_device_stays_a_device(write: Any, linked: bool, tmp_path: Path) -> None:
    path = null = device(tmp_path / f"null{suffix(write)}", "null")
    if linked:
        path = tmp_path / f"link{suffix(write)}"
        path.symlink_to(null)
    elif not path.suffix and write is write_plot:
        pytest.skip("a plot asks for a suffix")
    write(path)
    assert stat.S_ISCHR(null.stat().st_mode) and path.is_symlink() == linked


@writers
def test_a_device_that_is_full_stays_and_says_so(write: Any, tmp_path: Path) -> None:
    full = device(tmp_path / "full", "full")
    link = tmp_path / f"link{suffix(write)}"
    link.symlink_to(full)
    with pytest.raises((OSError, dynq.Error), match="No space left"):
        write(link)
    assert link.is_symlink() and stat.S_ISCHR(full.stat().st_mode)


def test_a_pipe_is_written_to(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    got: list[bytes] = []
    reader = threading.Thread(target=lambda: got.append(path.read_bytes()))
    reader.start()
    write_model(path)
    reader.join(SECONDS)
    write_model(tmp_path / "file")
    assert got == [(tmp_path / "file").read_bytes()] and stat.S_ISFIFO(path.stat().st_mode)


CODE = "import dynq, numpy, sys; dynq.quantize_weight(numpy.ones((8, 8), numpy.float32)).save(sys.argv[1])"


@pytest.mark.parametrize("name", ["link", "/dev/fd/1", "/proc/self/fd/1"])
def test_the_standard_output_is_written_to(name: str, tmp_path: Path) -> None:
    if name == "link":  # as /dev/stdout is one, which a fault would replace
        name = str(tmp_path / "link")
        os.symlink("/proc/self/fd/1", name)
    write_weight(tmp_path / "file")
    expected = (tmp_path / "file").read_bytes()
    done = subprocess.run([sys.executable, "-c", CODE, name], stdout=subprocess.PIPE, check=True, timeout=SECONDS)
    assert done.stdout == expected
    with open(tmp_path / "redirected", "wb") as file:
        before = os.fstat(file.fileno()).st_ino
        subprocess.run([sys.executable, "-c", CODE, name], stdout=file, check=True, timeout=SECONDS)
    assert (tmp_path / "redirected").read_bytes() == expected
    assert (tmp_path / "redirected").stat().st_ino == before


def test_what_cannot_be_written_is_named_as_the_caller_named_it(tmp_path: Path) -> None:
    for name, kind in (
        (tmp_path / "no" / "model.dynq", FileNotFoundError),
        (tmp_path, IsADirectoryError),
        (f"{tmp_path}/new/", IsADirectoryError),
        ("", FileNotFoundError),
        (tmp_path / ("x" * 300), OSError),
    ):
        with pytest.raises(kind) as caught:
            files.write(name, [b"x"])
        assert caught.value.filename == os.fspath(name)
    assert os.listdir(tmp_path) == []


def test_names_as_long_as_they_may_be(tmp_path: Path) -> None:
    for name in ("x" * 255, "ü" * 127, "a\nb", os.fsdecode(b"\xff\xfe" * 60)):
        files.write(tmp_path / name, [b"old"])
        files.write(os.fsencode(tmp_path / name).decode("utf-8", "surrogateescape"), [b"new"])
        assert (tmp_path / name).read_bytes() == b"new"
    assert len(os.listdir(tmp_path)) == 4


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_file_that_is_read_only_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "old"
    path.write_bytes(b"old")
    path.chmod(0o444)
    with pytest.raises(PermissionError):
        write_model(path)
    assert path.read_bytes() == b"old"


def test_a_file_that_is_read_only_is_not_replaced_whoever_asks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "old"
    path.write_bytes(b"old")
    monkeypatch.setattr(os, "access", lambda name, mode: False)
    with pytest.raises(PermissionError, match="old"):
        files.write(path, [b"new"])
    assert path.read_bytes() == b"old"


def fail_at(count: int) -> Iterator[bytes]:
    for _ in range(count):
        yield b"x" * 10_000
    raise KeyboardInterrupt


@pytest.mark.parametrize("count", [0, 1, 10])
def test_an_interrupt_leaves_the_old_file(count: int, tmp_path: Path) -> None:
    path = tmp_path / "old"
    path.write_bytes(b"old")
    with pytest.raises(KeyboardInterrupt):
        files.write(path, fail_at(count))
    assert path.read_bytes() == b"old" and os.listdir(tmp_path) == ["old"]


@pytest.mark.parametrize("function", ["fsync", "replace", "fchmod", "open"])
def test_a_call_that_fails_leaves_the_old_file(function: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "old"
    path.write_bytes(b"old")

    def fails(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device", f"{tmp_path}/.old.1-0-0.dynq-part")

    monkeypatch.setattr(os, function, fails)
    with pytest.raises(OSError, match="No space left") as caught:
        files.write(path, [b"new"])
    monkeypatch.undo()
    assert caught.value.filename == str(path)
    assert path.read_bytes() == b"old" and os.listdir(tmp_path) == ["old"]


LIMITED = """
import os, resource, sys
import numpy, dynq
from dynq.core import files
path, size = sys.argv[1], int(sys.argv[2])
big = dynq.quantize_weight(numpy.ones((512, 512), numpy.float32))
resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
try:
    big.save(path)
except OSError as error:
    print(type(error).__name__, error.errno, error.strerror)
"""


@pytest.mark.parametrize("size", [0, 10, 4096, 100_000])
def test_a_file_that_grows_too_large_leaves_the_old_one(size: int, tmp_path: Path) -> None:
    path = tmp_path / "old"
    write_weight(path)
    before = path.read_bytes()
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(path), str(size)], capture_output=True, text=True, timeout=SECONDS
    )
    assert "File too large" in done.stdout, done.stdout + done.stderr
    assert path.read_bytes() == before and os.listdir(tmp_path) == ["old"]


def test_a_full_disk_leaves_the_old_file(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(disk)], capture_output=True)
    if mounted.returncode:
        pytest.skip("mounting a small disk is not allowed here")
    try:
        path = disk / "old"
        write_weight(path)
        before = path.read_bytes()
        with pytest.raises(OSError, match="No space left"):
            dynq.quantize_weight(np.ones((512, 512), np.float32)).save(path)
        assert path.read_bytes() == before and os.listdir(disk) == ["old"]
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_threads_save_to_one_path_while_others_open_it(tmp_path: Path) -> None:
    path = tmp_path / "model.dynq"
    models = [model_of(float(i), size=20_000) for i in range(8)]
    models[0].save(path)
    wrong: list[BaseException] = []
    done = threading.Event()
    opened = 0

    def save(model: dynq.Model) -> None:
        for _ in range(100):
            try:
                model.save(path)
            except BaseException as error:
                wrong.append(error)

    def read() -> None:
        nonlocal opened
        while not done.is_set():
            try:
                assert value_of(path) in range(8)
                opened += 1
            except BaseException as error:
                wrong.append(error)

    savers = [threading.Thread(target=save, args=(model,)) for model in models]
    readers = [threading.Thread(target=read) for _ in range(3)]
    for thread in (*savers, *readers):
        thread.start()
    for thread in savers:
        thread.join()
    done.set()
    for thread in readers:
        thread.join()
    assert not wrong, wrong[:3]
    assert opened > 10 and os.listdir(tmp_path) == ["model.dynq"]


KILLING = """
import os, random, signal, sys, time
import numpy as np
import dynq
from dynq.core import container
folder, kills = sys.argv[1], int(sys.argv[2])
path = os.path.join(folder, "weight.dynq")
weights = [dynq.quantize_weight(np.full((n, 512), n, np.float32)) for n in (64, 128)]
weights[0].save(path)
stale = 0
rng = random.Random(0)

def save_forever():
    while True:
        for weight in weights:
            weight.save(path)

for _ in range(kills // 2):
    children = []
    for _ in range(2):
        child = os.fork()
        if child == 0:
            save_forever()
        children.append(child)
    for child in children:
        time.sleep(rng.uniform(0, 0.02))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    tensors, notes = container.read(path)
    n = int(notes["shape"].split()[0])
    got = dynq.QuantizedWeight.load(path).dequantize()
    assert n in (64, 128) and got.shape == (n, 512) and abs(got - n).max() < 1, got
    stale += len(os.listdir(folder)) - 1
    weights[0].save(path)
    assert os.listdir(folder) == ["weight.dynq"], os.listdir(folder)
print(stale)
"""


def test_what_is_killed_at_any_moment_leaves_a_whole_file(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", KILLING, str(tmp_path), "200"], capture_output=True, text=True, timeout=SECONDS
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 0  # some died while they wrote, and the next save cleaned up


def test_the_new_file_of_a_live_writer_stays(tmp_path: Path) -> None:
    path = tmp_path / "model"
    with files.replacing(path) as first:
        first.write(b"first")
        files.write(path, [b"second"])
        assert path.read_bytes() == b"second" and len(left_over(tmp_path)) == 1
    assert path.read_bytes() == b"first" and left_over(tmp_path) == []


def test_only_what_dynq_left_of_this_file_is_removed(tmp_path: Path) -> None:
    boot = files._boot()
    keep = [
        f".other.1-{boot}-{'0' * 16}.dynq-part",
        f".model.x.1-{boot}-{'0' * 16}.dynq-part",
        f".model.1-{boot}-{'0' * 15}.dynq-part",
        f".model.1-{'0' * 8}-{'0' * 16}.dynq-part",  # perhaps of another machine, and alive
        ".model.part",
        ".model",
    ]
    drop = [f".model.1-{boot}-{'0' * 16}.dynq-part", f".model.99999999-{boot}-{'1' * 16}.dynq-part"]
    old = f".model.2-{'1' * 8}-{'0' * 16}.dynq-part"
    for name in (*keep, *drop, old):
        (tmp_path / name).write_bytes(b"x")
    os.utime(tmp_path / old, (0, 0))
    os.mkfifo(tmp_path / f".model.3-{boot}-{'0' * 16}.dynq-part")
    (tmp_path / f".model.4-{boot}-{'0' * 16}.dynq-part").symlink_to("other")
    files.write(tmp_path / "model", [b"x"])
    kept = [*keep, f".model.3-{boot}-{'0' * 16}.dynq-part", f".model.4-{boot}-{'0' * 16}.dynq-part", "model"]
    assert sorted(os.listdir(tmp_path)) == sorted(kept)


def test_file_and_folder_are_on_the_disk_before_save_returns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    fsync, replace = os.fsync, os.replace

    def noted(descriptor: int) -> None:
        calls.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
        fsync(descriptor)

    def renamed(*args: Any) -> None:
        calls.append("rename")
        replace(*args)

    monkeypatch.setattr(os, "fsync", noted)
    monkeypatch.setattr(os, "replace", renamed)
    write_model(tmp_path / "model.dynq")
    assert calls == ["file", "rename", "folder"]


def test_no_descriptor_stays_open(tmp_path: Path) -> None:
    full = device(tmp_path / "full", "full")
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        write_model(tmp_path / "model.dynq")
        with pytest.raises(KeyboardInterrupt):
            files.write(tmp_path / "model.dynq", fail_at(1))
        with pytest.raises(OSError):
            files.write(full, [b"x"])
    assert len(os.listdir("/proc/self/fd")) == before
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] > before
