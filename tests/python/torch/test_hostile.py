"""Files of torch.export.save from strangers: none runs code when dynq reads it, and common ones are read as ever."""

from __future__ import annotations

import io
import json
import os
import pickle
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from click.testing import CliRunner  # noqa: E402

import dynq  # noqa: E402
from dynq.cli import cli  # noqa: E402
from dynq.importers.torch.archive import _is_guard, _is_size, check_archive  # noqa: E402


class Layers(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(8, 4)
        self.register_buffer("offset", torch.ones(4))

    def forward(self, x: Any, more: Any) -> Any:
        y = torch.relu(self.linear(x)) + self.offset
        return {"y": y, "size": y.sum(0) * more["scale"] * (x.shape[0] // 2 + 1)}


class Evil:
    """Run code when it is unpickled: make a file."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.mark),)


def save(module: Any, inputs: Any, shapes: Any, path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.export.save(torch.export.export(module.eval(), inputs, dynamic_shapes=shapes), path)


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pt2") / "good.pt2"
    inputs = (torch.ones(4, 8), {"scale": torch.ones(4)})
    save(Layers(), inputs, ({0: torch.export.Dim.AUTO}, {"scale": None}), path)
    return path


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    return tmp_path / "code-ran"


def changed(good: Path, bad: Path, change: Callable[[str, bytes], bytes | None], **more: bytes) -> Path:
    """Write the archive anew with other contents; None leaves an entry out."""
    with zipfile.ZipFile(good) as source, zipfile.ZipFile(bad, "w") as target:
        folder = source.namelist()[0].split("/")[0]
        for name in source.namelist():
            content = change(name.partition("/")[2], source.read(name))
            if content is not None:
                target.writestr(name, content)
        for name, content in more.items():
            target.writestr(f"{folder}/{name}", content)
    return bad


def in_json(good: Path, bad: Path, entry: str, edit: Callable[[Any], None]) -> Path:
    def change(name: str, content: bytes) -> bytes:
        if not name.endswith(entry):
            return content
        parsed = json.loads(content)
        edit(parsed)
        return json.dumps(parsed).encode()

    return changed(good, bad, change)


def everywhere(key: str, value: Any) -> Callable[[Any], None]:
    """Set a field wherever it is."""

    def edit(here: Any) -> None:
        for inner in here.values() if isinstance(here, dict) else here if isinstance(here, list) else ():
            edit(inner)
        if isinstance(here, dict) and key in here:
            here[key] = value

    return edit


def refuses(path: Path, mark: Path, message: str) -> None:
    with pytest.raises(dynq.InvalidModelError, match=message):
        dynq.from_torch(path)
    done = CliRunner().invoke(cli, ["quantize", str(path), "-o", str(path) + ".dynq"])
    assert isinstance(done.exception, dynq.InvalidModelError) and not mark.exists()


def test_a_common_file_is_read(good: Path) -> None:
    assert len(dynq.from_torch(good).outputs) == 2
    assert len(dynq.from_torch(good, trust=True).outputs) == 2


def test_sample_inputs_that_run_code_are_refused(good: Path, tmp_path: Path, mark: Path) -> None:
    buffer = io.BytesIO()
    torch.save(Evil(mark), buffer)
    for content in (buffer.getvalue(), pickle.dumps(Evil(mark))):
        bad = changed(good, tmp_path / "b.pt2", lambda n, c, new=content: new if n.endswith("inputs/model.pt") else c)
        refuses(bad, mark, "holds pickled objects")


def test_with_trust_the_code_runs(good: Path, tmp_path: Path, mark: Path) -> None:
    """The test tests what it says: without the check the file is run."""
    buffer = io.BytesIO()
    torch.save(Evil(mark), buffer)
    bad = changed(good, tmp_path / "b.pt2", lambda n, c: buffer.getvalue() if n.endswith("inputs/model.pt") else c)
    refuses(bad, mark, "trust=True")
    CliRunner().invoke(cli, ["quantize", "--trust", str(bad), "-o", str(tmp_path / "x.dynq")])
    assert mark.exists()


@pytest.mark.parametrize("entry", ["weights_config.json", "constants_config.json"])
@pytest.mark.parametrize("name", ["weight_0", "custom_obj_0", "opaque_obj_0", "tensor_0"])
def test_pickled_weights_are_refused(entry: str, name: str, good: Path, tmp_path: Path, mark: Path) -> None:
    def edit(parsed: Any) -> None:
        parsed["config"]["x"] = {"path_name": name, "use_pickle": True, "is_param": False, "tensor_meta": None}

    bad = in_json(good, tmp_path / "b.pt2", entry, edit)
    with zipfile.ZipFile(bad, "a") as archive:
        folder = archive.namelist()[0].split("/")[0]
        archive.writestr(f"{folder}/data/constants/{name}", pickle.dumps(Evil(mark)))
    refuses(bad, mark, "holds pickled objects")


@pytest.mark.parametrize("name", ["data/weights/model.pt", "data/constants/model.pt"])
def test_weights_of_the_older_format_are_read_without_code(name: str, good: Path, tmp_path: Path, mark: Path) -> None:
    buffer = io.BytesIO()
    torch.save({"x": Evil(mark)}, buffer)
    refuses(
        changed(good, tmp_path / "b.pt2", lambda n, c: c, **{name: buffer.getvalue()}), mark, "holds pickled objects"
    )


def test_compiled_code_is_refused(good: Path, tmp_path: Path, mark: Path) -> None:
    for name in ("data/aotinductor/model/x.so", "data/aotinductor/model/x.json"):
        refuses(changed(good, tmp_path / "b.pt2", lambda n, c: c, **{name: b"{}"}), mark, "holds compiled code")


@pytest.mark.parametrize(
    "target",
    [
        "torch.serialization.os.system", "torch.ops.load_library", "torch.hub.load", "_operator.methodcaller",
        "_operator.attrgetter", "math.__loader__.load_module", "#x:y", "torch.ops.aten.__class__.__mro__",
        "torch.ops.mylib.run.default", "torch.ops.aten.add.Tensor.__class__", "os.system", "eval",
    ],
)  # fmt: skip
def test_functions_that_are_no_operators_are_refused(target: str, good: Path, tmp_path: Path, mark: Path) -> None:
    refuses(
        in_json(good, tmp_path / "b.pt2", "model.json", everywhere("target", target)), mark, "no operator of a model"
    )


def test_sizes_that_are_code_are_refused(good: Path, tmp_path: Path, mark: Path) -> None:
    code = f"__import__('os').mkdir({str(mark)!r})"
    bad = in_json(good, tmp_path / "b.pt2", "model.json", everywhere("expr_str", code))
    refuses(bad, mark, "more than arithmetic")
    CliRunner().invoke(cli, ["quantize", "--trust", str(bad), "-o", str(tmp_path / "x.dynq")])
    assert mark.exists()  # PyTorch does run it


def test_guards_and_nestings_that_are_code_are_refused(good: Path, tmp_path: Path, mark: Path) -> None:
    edit = everywhere("guards_code", [f"__import__('os').mkdir({str(mark)!r})"])
    refuses(in_json(good, tmp_path / "b.pt2", "model.json", edit), mark, "more than comparisons")
    tree = json.dumps([1, {"type": "collections.defaultdict", "context": '["os", "x"]', "children_spec": []}])
    refuses(
        in_json(good, tmp_path / "c.pt2", "model.json", everywhere("in_spec", tree)), mark, "inputs or outputs in a"
    )


def test_an_entry_that_is_there_twice_is_looked_at_twice(good: Path, tmp_path: Path, mark: Path) -> None:
    buffer = io.BytesIO()
    torch.save(Evil(mark), buffer)
    bad = tmp_path / "b.pt2"
    bad.write_bytes(good.read_bytes())
    with zipfile.ZipFile(bad, "a") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        name = next(name for name in archive.namelist() if name.endswith("inputs/model.pt"))
        archive.writestr(name, buffer.getvalue())
    refuses(bad, mark, "holds pickled objects|no program of torch")


def test_an_archive_that_grows_is_refused(tmp_path: Path, mark: Path) -> None:
    with zipfile.ZipFile(tmp_path / "b.pt2", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("m/models/model.json", b"[" * 50_000_000)
    refuses(tmp_path / "b.pt2", mark, "grows when it is unpacked")


def test_noise_is_refused(tmp_path: Path, mark: Path) -> None:
    for content in (b"", b"PK", os.urandom(1000), b"PK\5\6" + bytes(18)):
        (tmp_path / "b.pt2").write_bytes(content)
        refuses(tmp_path / "b.pt2", mark, "no program of torch.export")


def test_sizes_as_pytorch_writes_them_are_arithmetic() -> None:
    for text in (
        "Symbol('s77', positive=True, integer=True)", "s0", "Integer(3)", "u0 + 1", "2*s0 - 1",
        "Add(Integer(1), Mul(Integer(2), Symbol('s0', integer=True)))", "Float('1.5', precision=53)",
        "FloorDiv(Symbol('s0'), Integer(2))", "Max(1, u0)", "-Integer(1)", "oo", "Eq(s0, 3)",
    ):  # fmt: skip
        assert _is_size(text), text
    for text in (
        "__import__('os')", "Symbol('__import__(0)')", "Integer('eval(1)')", "S('x')", "(lambda: 1)()", "s0.name",
        "Symbol('s0').__class__", "[x for x in s0]", "open('x')", "Add('1', 2)", "f'{s0}'", "s0 if s0 else 1", "(", "",
    ):  # fmt: skip
        assert not _is_size(text), text


def test_guards_as_pytorch_writes_them_are_comparisons() -> None:
    for text in ("L['x'].size()[0] >= 2", "2 <= L['args'][0].size()[0] and L['x'].size()[1] == 8", "s0 % 2 == 0"):
        assert _is_guard(text), text
    for text in ("__import__('os').system('x')", "L['x'].__class__", "open('x')", "(lambda: 1)()", "L.x.tofile('y')"):
        assert not _is_guard(text), text


def test_the_check_lets_programs_of_the_tests_pass(tmp_path: Path) -> None:
    auto = torch.export.Dim.AUTO
    for module, inputs, shapes in (
        (torch.nn.LSTM(4, 3, batch_first=True), (torch.ones(2, 5, 4),), ({0: auto, 1: auto},)),
        (torch.nn.TransformerEncoderLayer(16, 2, 32, batch_first=True), (torch.ones(2, 5, 16),), ({0: auto},)),
        (torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4)), (torch.ones(2, 3, 8, 8),), None),
    ):
        save(module, inputs, shapes, tmp_path / "m.pt2")
        check_archive((tmp_path / "m.pt2").read_bytes(), "m.pt2")
