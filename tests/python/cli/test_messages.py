"""What a person types and reads: each message says what is wrong in the user's words, and what to type."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import dynq
from dynq.core import files
from dynq.core.names import near
from tests.python.cli.test_models import folder as folder
from tests.python.cli.test_models import invoke
from tests.python.references.onnx_models import two_layers


def message_of(*arguments: Any) -> str:
    done = invoke(*arguments)
    assert done.exit_code != 0 and isinstance(done.exception, (SystemExit, dynq.Error)), done.output
    return done.output + str(done.exception)


def test_an_onnx_file_in_place_of_a_dynq_file_says_what_to_type(folder: Path) -> None:
    source = folder / "m.onnx"
    for command in (["run", source], ["export", source, "-o", folder / "e.onnx"], ["compare", source, source]):
        message = message_of(*command)
        assert f"an ONNX file, not a .dynq file; make one: dynq quantize {source} -o {folder / 'm.dynq'}" in message
    with pytest.raises(dynq.FileFormatError, match="an ONNX file"):
        dynq.load(source, mapped=False)


def test_a_zip_file_in_place_of_a_dynq_file_says_what_to_type(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "m.pt2", "w") as archive:
        archive.writestr("x", b"y")
    assert "make one of a program of torch.export.save: dynq quantize" in message_of("run", tmp_path / "m.pt2")


def test_other_files_are_damaged_as_before(tmp_path: Path) -> None:
    (tmp_path / "text.dynq").write_text("hello, world, how are you?")
    assert "not a .dynq file: expected a JSON header" in message_of("run", tmp_path / "text.dynq")


def test_a_dynq_file_in_place_of_an_onnx_file_is_called_that(folder: Path) -> None:
    for command in (["quantize", folder / "m.dynq", "-o", folder / "n.dynq"], ["analyze", folder / "m.dynq"]):
        assert "a .dynq file, which is made already: dynq run and dynq.load take it" in message_of(*command)


def test_kinds_of_files_are_told_by_their_first_bytes(folder: Path) -> None:
    assert files.kind(folder / "m.onnx") == "onnx" and files.kind(folder / "m.dynq") == "dynq"
    (folder / "empty").write_bytes(b"")
    assert files.kind(folder / "empty") == files.kind(folder / "nowhere") == ""


def test_patterns_that_name_no_node_show_names_like_them(folder: Path) -> None:
    for option in ("--keep-float", "--int16"):
        message = message_of("quantize", folder / "m.onnx", "-o", folder / "n.dynq", option, "secnd")
        assert "'secnd', which is no node that is left after the passes; did you mean 'second'?" in message
    message = message_of("quantize", folder / "m.onnx", "-o", folder / "n.dynq", "--keep-float", "qqqqqq")
    assert "dynq inspect and report() list them" in message


def test_near_names_are_few_and_hold_what_was_typed() -> None:
    names = [f"encoder.layer.{i}.query" for i in range(12)]
    assert near("query", names).count(" or ") == 2 and near("zzz", names) == near("", names) == ""
    assert near("layer.11", names) == "; did you mean 'encoder.layer.11.query'?"


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("x", "--input x: expected x=FILE.npy"),
        ("x=", "--input x=: expected x=FILE.npy"),
        ("gone.npy", "there is no file 'gone.npy'"),
        ("xs=a.npy", "NAME one of x; did you mean 'x'?"),
    ],
)
def test_run_says_what_an_input_looks_like(folder: Path, value: str, message: str) -> None:
    assert message in message_of("run", folder / "m.dynq", "--input", value)


def test_a_folder_in_place_of_an_output_says_which_name_to_give(folder: Path) -> None:
    for name in (f"{folder / 'new'}/", str(folder)):
        message = message_of("quantize", folder / "m.onnx", "-o", name)
        assert f"{name!r} is a folder; expected the name of a file" in message and "MODEL.dynq" in message
    assert not (folder / "new").exists()


def test_a_wrong_dynq_isa_lists_those_that_there_are() -> None:
    code = "import sys; from dynq.cli import main; sys.argv = ['dynq', 'info']; main()"
    environment = {**os.environ, "DYNQ_ISA": "foo"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    known = " ".join(dynq.isa.names())
    assert done.stderr.splitlines() == [f"dynq: DYNQ_ISA: unknown instruction set 'foo'; known: {known}"]


def test_a_damaged_program_is_one_line_without_pytorchs_log(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    torch = pytest.importorskip("torch")
    torch.export.save(torch.export.export(torch.nn.Linear(8, 8), (torch.zeros(2, 8),)), tmp_path / "m.pt2")
    with zipfile.ZipFile(tmp_path / "m.pt2") as whole, zipfile.ZipFile(tmp_path / "bad.pt2", "w") as bad:
        for name in whole.namelist():
            bad.writestr(name, whole.read(name)[: 3 if name.endswith("weight_0") else None])
    capfd.readouterr()
    message = message_of("quantize", tmp_path / "bad.pt2", "-o", tmp_path / "m.dynq")
    assert "bad.pt2 is no program of torch.export: " in message and "check the warnings above" not in message
    assert capfd.readouterr().err == "" and not logging.getLogger("torch.export").filters  # what comes later is shown


def test_inspect_lists_the_nodes_of_a_model_before_it_is_quantized(folder: Path) -> None:
    done = invoke("inspect", folder / "m.onnx")
    assert done.exit_code == 0 and "second" in done.output and "dynq.LinearFloat" in done.output
    facts = json.loads(invoke("inspect", folder / "m.onnx", "--json").stdout)
    assert facts["bytes"] == (folder / "m.onnx").stat().st_size
    names = [node["name"] for node in facts["nodes"]]
    kept = invoke("quantize", folder / "m.onnx", "-o", folder / "k.dynq", *(f"--keep-float={name}" for name in names))
    assert kept.exit_code == 0
    assert "--verify is for .dynq files" in message_of("inspect", folder / "m.onnx", "--verify")
    assert "a .dynq file has its inputs" in message_of("inspect", folder / "m.dynq", "--input-shape", "x=1x64")


def test_scheme_and_granularity_reach_the_layers(folder: Path) -> None:
    arguments = ("quantize", folder / "m.onnx", "-o", folder / "s.dynq", "--scheme", "symmetric")
    assert invoke(*arguments, "--granularity", "tensor", "--default", "int8").exit_code == 0
    x = np.random.default_rng(0).standard_normal((3, 64), np.float32)
    expected = dynq.from_onnx(folder / "m.onnx", scheme="symmetric", granularity="tensor", default="int8")
    np.testing.assert_array_equal(dynq.load(folder / "s.dynq")(x), expected(x))
    assert invoke("analyze", folder / "m.onnx", "--scheme", "symmetric", "--json").exit_code == 0
    assert "'column' is not one of" in message_of(*arguments, "--granularity", "column")


@pytest.mark.parametrize("command", ["run", "compare"])
def test_threads_are_set(folder: Path, command: str) -> None:
    before = dynq.get_num_threads()
    try:
        source = [folder / "m.onnx"] if command == "compare" else []
        arguments = (command, *source, folder / "m.dynq", "--shape", "2x64")
        assert invoke(*arguments, "--threads", "3").exit_code == 0 and dynq.get_num_threads() == 3
        assert invoke(*arguments).exit_code == 0 and dynq.get_num_threads() == 3
        assert "not in the range 1<=x<=512" in message_of(*arguments, "--threads", "0")
    finally:
        dynq.set_num_threads(before)


def test_long_commands_tell_how_far_they_are(tmp_path: Path) -> None:
    onnx.save(two_layers(), tmp_path / "m.onnx")
    x = np.ones((4, 64), np.float32)
    told: list[tuple[int, int]] = []
    dynq.accuracy.analyze(tmp_path / "m.onnx", x, progress=lambda *done: told.append(done))
    assert told == [(1, 3), (2, 3), (3, 3)]
    told.clear()
    models = dynq.from_onnx(tmp_path / "m.onnx", quantize=False), dynq.from_onnx(tmp_path / "m.onnx")
    dynq.accuracy.compare_static(*models, x, gains=[2.0], noises=[], repeat=1, progress=lambda *done: told.append(done))
    assert told == [(1, 2), (2, 2)]
    told.clear()
    dynq.accuracy.find_culprits(tmp_path / "m.onnx", x, max_evaluations=9, progress=lambda *done: told.append(done))
    assert told[:2] == [(1, 9), (2, 9)]


def test_the_shell_completes_commands_options_and_files() -> None:
    code = "import sys; from dynq.cli import main; sys.argv = ['dynq']; main()"
    for words, expected in (("dynq qu", "plain,quantize"), ("dynq quantize --sch", "plain,--scheme")):
        given = {"_DYNQ_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
        done = subprocess.run([sys.executable, "-c", code], env=os.environ | given, capture_output=True, text=True)
        assert expected in done.stdout.split(), done.stderr
