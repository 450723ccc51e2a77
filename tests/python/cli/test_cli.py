"""The command line tells the truth about the machine, and its errors are one line."""

import json
import os
import subprocess
import sys

import pytest

import dynq


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "dynq", *arguments],
        env={**os.environ, "COLUMNS": "80", **environment},
        capture_output=True,
        text=True,
    )


def test_info_names_every_instruction_set_and_says_why() -> None:
    done = run("info")
    assert done.returncode == 0, done.stderr
    words = " ".join(done.stdout.replace("│", " ").split())  # a long reason is wrapped
    for name in dynq.isa.names():
        assert f" {name} {dynq.isa.explain(name)} " in words
    assert dynq.__version__ in done.stdout


def test_info_as_json_holds_the_same() -> None:
    facts = json.loads(run("info", "--json", DYNQ_NUM_THREADS="3", DYNQ_ISA="scalar").stdout)
    assert facts["isas"] == {
        name: "selected" if name == "scalar" else "supported" if name in dynq.isa.supported() else facts["isas"][name]
        for name in dynq.isa.names()
    }
    assert facts["isa"] == "scalar" and facts["isa_from"] == "DYNQ_ISA=scalar"
    assert facts["threads"] == 3 and facts["threads_from"] == "DYNQ_NUM_THREADS=3"
    facts = json.loads(run("info", "--json", DYNQ_NUM_THREADS="", OMP_NUM_THREADS="4,2").stdout)
    assert facts["threads"] == 4 and facts["threads_from"] == "OMP_NUM_THREADS=4,2"
    facts = json.loads(run("info", "--json", DYNQ_NUM_THREADS="", OMP_NUM_THREADS="none").stdout)
    assert "affinity" in facts["threads_from"] or "cgroup" in facts["threads_from"]
    assert facts["dynq"] == facts["library"] == dynq.__version__
    assert facts["cpu"] and facts["architecture"]


@pytest.mark.parametrize("command", ["info", "demo"])
def test_a_wrong_dynq_isa_is_one_line_and_status_1(command: str) -> None:
    done = run(command, DYNQ_ISA="avx1024")
    assert done.returncode == 1
    known = " ".join(dynq.isa.names())
    expected = f"dynq: DYNQ_ISA: unknown instruction set 'avx1024'; known: {known}"
    assert done.stderr.strip().splitlines() == [expected]


@pytest.mark.parametrize("command", ["info", "demo"])
def test_a_wrong_number_of_threads_is_one_line_and_status_1(command: str) -> None:
    done = run(command, DYNQ_NUM_THREADS="many")
    assert done.returncode == 1
    assert done.stderr.strip().splitlines() == ["dynq: DYNQ_NUM_THREADS is 'many'; expected a number from 1 to 512"]


def test_json_is_understood_before_and_after_the_name_of_the_demo() -> None:
    for arguments in (("--json", "digits"), ("digits", "--json")):
        assert json.loads(run("demo", *arguments).stdout)["samples"] == 450


def test_the_sentence_demo_prints_json() -> None:
    assert json.loads(run("demo", "minilm", "--json").stdout)["mean_cosine"] >= 0.995


def test_version_and_help() -> None:
    assert run("--version").stdout.strip() == f"dynq, version {dynq.__version__}"
    assert "demo" in run("--help").stdout and "info" in run("--help").stdout
    assert run("nothing").returncode == 2
    assert "No such command 'nothing'" in run("nothing").stderr


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="the system has no /dev/full")
@pytest.mark.parametrize("arguments", [("info",), ("info", "--json"), ("--help",)], ids=" ".join)
def test_output_that_cannot_be_written_is_one_line_and_status_1(arguments: tuple[str, ...]) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "dynq", *arguments], stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert done.stderr.splitlines() == ["dynq: the output cannot be written: No space left on device"]
    assert done.returncode == 1


@pytest.mark.parametrize("arguments", [("info",), ("info", "--json"), ("--help",)], ids=" ".join)
def test_a_reader_that_has_gone_is_no_error_to_tell(arguments: tuple[str, ...]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run([sys.executable, "-m", "dynq", *arguments], stdout=writing, stderr=subprocess.PIPE, text=True)
    os.close(writing)
    assert done.stderr == "" and done.returncode == 1


def test_the_demo_is_printed_where_the_locale_is_ascii() -> None:
    done = run("demo", PYTHONIOENCODING="ascii")
    assert done.returncode == 0 and done.stderr == ""
    assert "time per sample" in done.stdout and done.stdout.isascii()


def test_demo_prints_its_table_and_json() -> None:
    done = run("demo")
    assert done.returncode == 0, done.stderr
    assert all(text in done.stdout for text in ("accuracy", "weights", "time per sample", "same prediction"))
    assert max(len(line) for line in done.stdout.splitlines()) <= 80
    facts = json.loads(run("demo", "--json").stdout)
    assert facts["samples"] == 450 and facts["isa"] == dynq.isa.selected()
