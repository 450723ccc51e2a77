"""Checksums of files: every byte that changed is found, and the tensor that it lies in is named."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

import dynq
from dynq.cli import cli
from dynq.core import container


def model() -> dynq.Model:
    rng = np.random.default_rng(0)
    graph = dynq.Graph()
    x = graph.input("x", ("batch", 32), "float32")
    hidden = graph.linear(x, rng.standard_normal((64, 32)).astype(np.float32), name="first")
    graph.output(graph.linear(hidden, rng.standard_normal((16, 64)).astype(np.float32), name="second"), "y")
    return graph.build(first_layer="int8")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    model().save(tmp_path / "m.dynq")
    return tmp_path / "m.dynq"


def entries(path: Path) -> dict[str, Any]:
    data = path.read_bytes()
    return json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])


def without_checksums(path: Path, *notes: str) -> None:
    """Write the file as older versions did: without these notes."""
    data = path.read_bytes()
    end = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:end])
    for note in notes:
        del header["__metadata__"][note]
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-(len(text) + 8) % 64)
    path.write_bytes(len(text).to_bytes(8, "little") + text + data[end:])


def test_each_tensor_has_its_checksum(file: Path) -> None:
    data = file.read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    header = entries(file)
    notes = header.pop("__metadata__")
    expected = [zlib.crc32(data[slice(*(start + at for at in entry["data_offsets"]))]) for entry in header.values()]
    assert [int(text, 16) for text in notes["crc32_tensors"].split(" ")] == expected


def test_verify_counts_the_tensors(file: Path) -> None:
    assert dynq.verify(file) == sum(not name.startswith(("pad.", "__")) for name in entries(file))


def test_every_byte_that_changes_is_found(tmp_path: Path) -> None:
    """All bytes of a small weight, header and all, and a sample of those of a model."""
    small, large = tmp_path / "w.dynq", tmp_path / "m.dynq"
    dynq.quantize_weight(np.eye(5, dtype=np.float32)).save(small)
    model().save(large)
    rng = np.random.default_rng(0)
    for path, count in ((small, None), (large, 600)):
        data = bytearray(path.read_bytes())
        places = range(len(data)) if count is None else rng.integers(0, len(data), count)
        for at in map(int, places):
            flip = 1 << int(rng.integers(8))
            data[at] ^= flip
            path.write_bytes(data)
            with pytest.raises(dynq.FileFormatError):
                dynq.verify(path)
            data[at] ^= flip
        path.write_bytes(data)
        dynq.verify(path)


def test_the_damaged_tensor_is_named(file: Path) -> None:
    data = bytearray(file.read_bytes())
    start = 8 + int.from_bytes(data[:8], "little")
    names = [name for name in entries(file) if name.endswith((".data", ".scale"))]
    for name in names:
        data[start + entries(file)[name]["data_offsets"][0]] ^= 1
    bad = file.with_name("bad.dynq")
    bad.write_bytes(data)
    dynq.load(bad)  # opening does not look at weights
    with pytest.raises(dynq.FileFormatError, match="is damaged: the checksums of these tensors differ") as caught:
        dynq.verify(bad)
    assert len(names) == 4 and all(repr(name) in str(caught.value) for name in names)


def test_files_of_older_versions_have_one_checksum(file: Path) -> None:
    without_checksums(file, "crc32_tensors", "crc32_header")
    assert dynq.verify(file) > 0 and dynq.load(file).nodes
    data = bytearray(file.read_bytes())
    data[-100] ^= 1
    file.write_bytes(data)
    with pytest.raises(dynq.FileFormatError, match="the checksum of its data is"):
        dynq.verify(file)


def test_a_file_without_a_checksum_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "w.dynq"
    dynq.quantize_weight(np.eye(5, dtype=np.float32)).save(path)
    without_checksums(path, "crc32_tensors", "crc32_header")
    assert dynq.QuantizedWeight.load(path).shape == (5, 5)
    with pytest.raises(dynq.FileFormatError, match="has no checksum"):
        dynq.verify(path)


def test_what_is_no_file_of_dynq_is_refused(tmp_path: Path) -> None:
    for content in (b"", b"x" * 7, b"x" * 100, b"\2\0\0\0\0\0\0\0{}"):
        (tmp_path / "x").write_bytes(content)
        with pytest.raises(dynq.FileFormatError):
            dynq.verify(tmp_path / "x")
    with pytest.raises(FileNotFoundError):
        dynq.verify(tmp_path / "missing")


def test_tensors_without_elements(tmp_path: Path) -> None:
    container.write(tmp_path / "empty", {"none": np.empty((0, 3), np.float32)}, {"dynq": "x"})
    container.write(tmp_path / "nothing", {}, {"dynq": "x"})
    assert dynq.verify(tmp_path / "empty") == 1 and dynq.verify(tmp_path / "nothing") == 0


def test_the_command_says_what_it_found(file: Path) -> None:
    done = CliRunner().invoke(cli, ["verify", str(file)])
    assert done.exit_code == 0 and done.output.count("\n") == 1 and "all as saved" in done.output
    facts = json.loads(CliRunner().invoke(cli, ["verify", str(file), "--json"]).output)
    assert facts == {"bytes": file.stat().st_size, "tensors": dynq.verify(file)}
    data = bytearray(file.read_bytes())
    data[-100] ^= 1
    file.write_bytes(data)
    run = subprocess.run([sys.executable, "-m", "dynq", "verify", str(file)], capture_output=True, text=True)
    assert run.returncode == 1 and "is damaged" in run.stderr and run.stdout == ""


def test_a_file_that_is_read_may_be_cut_off(file: Path) -> None:
    """Mapped, the process would die."""
    x = np.ones((2, 32), np.float32)
    expected = dynq.load(file)(x)
    read = dynq.load(file, mapped=False)
    size = file.stat().st_size
    os.truncate(file, 100)
    assert np.array_equal(read(x), expected) and read.nbytes == size
    read.save(file)
    dynq.verify(file)
    assert np.array_equal(dynq.load(file, mapped=False)(x), expected)


def test_errors_of_a_file_that_is_read_name_it(file: Path, tmp_path: Path) -> None:
    os.truncate(file, 100)
    for mapped in (True, False):
        with pytest.raises(dynq.FileFormatError, match=r"m\.dynq"):
            dynq.load(file, mapped=mapped)
        with pytest.raises(FileNotFoundError):
            dynq.load(tmp_path / "missing", mapped=mapped)
        with pytest.raises(OSError):
            dynq.load(tmp_path, mapped=mapped)
