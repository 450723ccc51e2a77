"""``dynq bench`` measures what was asked for and says so; speeds are not looked at."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import dynq
from dynq import figure
from dynq.bench import program
from dynq.bench.program import find_program, measure

SHORT = ("isa", "--quick", "--level", "L1")


def run(*arguments: str, columns: int = 80) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "dynq", "bench", *arguments],
        env={**os.environ, "COLUMNS": str(columns)},
        capture_output=True,
        text=True,
    )


@pytest.fixture(scope="module")
def everything() -> dict[str, Any]:
    done = run(*SHORT, "--json")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    facts: dict[str, Any] = json.loads(done.stdout)
    return facts


def rows(facts: dict[str, Any], kernel: str) -> list[dict[str, Any]]:
    return [row for row in facts["results"] if row["kernel"] == kernel]


def test_every_instruction_set_has_its_gemm_measured_and_every_kernel_is_there(everything: dict[str, Any]) -> None:
    vector = ["range", "quantize", "dequantize", "epilogue", "relu", "sigmoid", "tanh", "silu", "gelu", "gelu_tanh"]
    vector += ["exp", "erf", "sum", "softmax", "layer_norm", "rms_norm"]
    for kernel in ("gemm_tile", "gemv"):
        assert [row["isa"] for row in rows(everything, kernel)] == dynq.isa.supported()
    for kernel in vector:
        isas = [row["isa"] for row in rows(everything, kernel)]
        assert isas[-1] == "scalar" and set(isas) <= set(dynq.isa.supported())
    machine = everything["machine"]
    assert machine["lines"] == sum(len(rows(everything, kernel)) for kernel in ("gemm_tile", "gemv", *vector))
    assert machine["dynq"] == dynq.__version__ and machine["l1"] >= 8192 and machine["cpu"]


@pytest.mark.parametrize(
    ("kernel", "size"), [("range", 4), ("quantize", 5), ("dequantize", 5), ("gelu", 8), ("sum", 4), ("softmax", 8)]
)
def test_time_and_bytes_of_a_vector_kernel_agree(everything: dict[str, Any], kernel: str, size: int) -> None:
    for row in rows(everything, kernel):
        assert row["gb_per_s"] * row["ns_per_1000"] == pytest.approx(1000 * size, rel=1e-4)
        assert row["unit"] == "element" and row["bound"] == "bandwidth"
        assert row["of_bound"] > 0 and row["peak_per_cycle"] is None


def test_the_gemm_is_counted_in_multiply_adds_and_its_peak_is_known_but_of_scalar(everything: dict[str, Any]) -> None:
    for row in rows(everything, "gemv"):  # one row: a byte of weights for each multiply-add
        assert row["gb_per_s"] * row["ns_per_1000"] == pytest.approx(1000, rel=1e-4)
    for row in rows(everything, "gemm_tile") + rows(everything, "gemv"):
        assert row["unit"] == "MAC" and row["level"] == "L1" and row["bytes"] % 8192 == 0
        assert (row["of_bound"] is None) == (row["peak_per_cycle"] is None) == (row["isa"] == "scalar")


def test_scalar_is_what_the_others_are_compared_with(everything: dict[str, Any]) -> None:
    assert {row["x_scalar"] for row in everything["results"] if row["isa"] == "scalar"} == {1}
    assert all(row["x_scalar"] > 0 for row in everything["results"])


@pytest.mark.parametrize("columns", [80, 120])
def test_the_table_holds_what_was_asked_for_and_fits_the_terminal(columns: int) -> None:
    done = run("isa", "--quick", "--level", "L2", "--kernel", "gelu", "--isa", "scalar", columns=columns)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert max(map(len, lines)) <= columns
    assert [line.split()[:2] for line in lines if "scalar " in line and "x scalar" not in line] == [["L2", "scalar"]]
    assert "gelu: 4 bytes read, 4 written an element" in done.stdout
    assert "level   isa             ns/1000  per cycle    GB/s  x scalar     of bound" in lines


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--isa", "mmx"), "unknown instruction set 'mmx'"),
        (("--kernel", "fft"), "--kernel is 'fft'; known: range"),
        (("--level", "L9"), "--level is 'L9'; known: L1 L2 L3 memory"),
        (("--rounds", "0"), "--rounds is '0'; expected a number from 1 to 101"),
        (("--plot", "no/such/x.png"), "--plot is 'no/such/x.png', which cannot be written to: No such file or dir"),
        (("--plot", "x.txt"), "--plot is 'x.txt'; expected a name that ends in one of"),
    ],
)
def test_what_cannot_be_measured_is_one_line_and_status_1(arguments: tuple[str, ...], message: str) -> None:
    done = run("isa", *arguments)
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.strip().splitlines()[-1].startswith(f"dynq: {message}")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(("suffix", "begins"), [("png", b"\x89PNG"), ("svg", b"<?xml")], ids=["png", "svg"])
def test_the_plot_is_drawn(tmp_path: Path, suffix: str, begins: bytes) -> None:
    picture = tmp_path / f"isa.{suffix}"
    done = run(*SHORT, "--kernel", "gemm_tile", "--kernel", "range", "--plot", str(picture))
    assert done.returncode == 0, done.stderr
    assert picture.read_bytes().startswith(begins)
    if suffix == "svg":
        assert all(f"<!-- {text} -->" in picture.read_text("utf-8") for text in ("gemm_tile", "MAC/cycle", "scalar"))


def test_a_plot_through_a_link_into_nowhere_is_refused_before_measuring(tmp_path: Path) -> None:
    link = tmp_path / "x.png"
    link.symlink_to(tmp_path / "nowhere" / "x.png")
    with pytest.raises(dynq.Error, match=r"x\.png', which cannot be written to: No such file or directory"):
        figure.check(str(link))


def test_looking_whether_a_plot_can_be_drawn_changes_no_file(tmp_path: Path) -> None:
    old, new = tmp_path / "old.png", tmp_path / "new.png"
    old.write_bytes(b"old")
    figure.check(str(old))
    figure.check(str(new))
    assert old.read_bytes() == b"old" and not new.exists()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no /dev/full")
def test_a_disk_that_is_full_when_the_plot_is_written_is_one_line(tmp_path: Path) -> None:
    link = tmp_path / "x.png"
    link.symlink_to("/dev/full")
    done = run(*SHORT, "--kernel", "range", "--plot", str(link))
    assert done.returncode == 1 and "range" in done.stdout
    assert done.stderr.splitlines() == [
        f"dynq: --plot is '{link}', which cannot be written to: No space left on device"
    ]


@pytest.mark.parametrize(
    ("mode", "reason"), [(0o644, "Permission denied"), (0o755, "Exec format error")], ids=["mode", "format"]
)
def test_a_program_that_cannot_be_started_is_named_with_the_reason(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, mode: int, reason: str
) -> None:
    broken = tmp_path / "dynq-bench"
    broken.write_bytes(b"\0no program")
    broken.chmod(mode)
    monkeypatch.setattr(program, "find_program", lambda: broken)
    with pytest.raises(dynq.Error, match=f"{broken} cannot be started: {reason}"):
        measure([*SHORT], lambda done, total: None)


def test_the_table_is_printed_where_the_locale_is_ascii(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    done = run(*SHORT, "--kernel", "range", "--isa", "scalar")
    assert done.returncode == 0 and done.stderr == "" and "scalar" in done.stdout and done.stdout.isascii()


def test_a_reader_that_has_gone_ends_it_quietly() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "dynq", "bench", *SHORT, "--kernel", "range", "--isa", "scalar"]
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True)
    os.close(writing)
    assert done.stderr == "" and done.returncode == 1


def test_without_matplotlib_the_error_names_the_extra(tmp_path: Path) -> None:
    (tmp_path / "matplotlib.py").write_text("raise ImportError('not here')\n", "utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "dynq", "bench", *SHORT, "--plot", str(tmp_path / "x.png")],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1 and "pip install 'dynq[plot]'" in done.stderr


def test_only_the_instruction_set_that_was_asked_for_is_shown_and_still_compared_with_scalar() -> None:
    best = dynq.isa.supported()[0]
    machine, (row,) = measure([*SHORT, "--kernel", "gemm_tile", "--isa", best], lambda done, total: None)
    assert machine["lines"] == 1 and row["isa"] == best and (row["x_scalar"] == 1) == (best == "scalar")


def test_progress_counts_up_to_what_was_announced() -> None:
    seen: list[tuple[int, int]] = []
    machine, results = measure([*SHORT, "--kernel", "range"], lambda done, total: seen.append((done, total)))
    assert seen == [(i, machine["lines"]) for i in range(len(results) + 1)]


def test_the_program_of_the_package_runs_alone() -> None:
    shape = ("linear", "--quick", "--threads", "1", "--shape", "4x64x32", "--json")
    lines = subprocess.check_output([str(find_program()), *shape], text=True).splitlines()
    records = [json.loads(line) for line in lines]
    assert [r["record"] for r in records] == ["machine", "progress", "progress", "progress", "linear"]
    machine, *_, result = records
    assert machine["lines"] == 1 and machine["steps"] == 3
    assert (result["m"], result["n"], result["k"], result["threads"]) == (4, 64, 32, 1)
    assert result["isa"] == dynq.isa.selected() and result["us"] > 0
