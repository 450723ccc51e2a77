"""``dynq-bench model``: one call of a model's file, timed in C."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest

import dynq
from dynq.bench.program import find_program


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(find_program()), "model", *arguments], capture_output=True, text=True, check=False)


def save(path: Path, shape: tuple[int | str, ...]) -> str:
    graph = dynq.Graph()
    x = graph.input("x", shape)
    weight = np.ones((1, 64, 16), np.float32)
    y, h, c = graph.lstm(x, weight, weight)
    graph.build({"y": y, "h": h, "c": c}, first_layer="int8").save(path)
    return str(path)


def test_a_call_takes_time_and_its_nodes_most_of_it(tmp_path: Path) -> None:
    path = save(tmp_path / "lstm.dynq", (50, 1, 16))
    result = run("--file", path, "--quick", "--json")
    record = json.loads(result.stdout)
    assert (record["record"], record["file"], record["threads"]) == ("model", path, 1)
    assert 0 < record["nodes_us"] < 2 * record["us"]
    assert " us a call, " in run("--file", path, "--quick", "--threads", "2").stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "--file is missing"),
        (("--file", "nowhere.dynq"), "nowhere.dynq: cannot open"),
        (("--shape", "1x1x1"), "--shape is no option of model"),
    ],
)
def test_what_cannot_be_timed_is_one_line(arguments: tuple[str, ...], message: str) -> None:
    result = run(*arguments)
    assert result.returncode == 2
    assert message in result.stderr
    assert result.stderr.count("\n") == 1


def test_an_input_of_any_size_is_refused_by_its_name(tmp_path: Path) -> None:
    result = run("--file", save(tmp_path / "lstm.dynq", ("steps", 1, 16)))
    assert "input 'x': expected a fixed shape" in result.stderr
