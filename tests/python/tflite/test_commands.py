"""The commands take .tflite files: quantize, compare with LiteRT as the reference, analyze."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

import dynq
from dynq.cli import cli
from tests.python.references.tflite_models import Graph, Op, T, constant, write

pytest.importorskip("tflite")


def invoke(*arguments: Any) -> Result:
    return CliRunner(env={"COLUMNS": "120"}).invoke(cli, [str(argument) for argument in arguments])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """With m.tflite, whose batch is open, and m.dynq."""
    rng = np.random.default_rng(0)
    tensors = {
        "x": T((1, 64), signature=(-1, 64)),
        "w": constant(rng.standard_normal((48, 64), np.float32)),
        "v": constant(rng.standard_normal((32, 48), np.float32)),
        "h": T(()),
        "y": T(()),
    }
    options = "FullyConnectedOptions"
    ops = [
        Op("FULLY_CONNECTED", "x w -", "h", options, {"FusedActivationFunction": 1}),
        Op("FULLY_CONNECTED", "h v -", "y", options),
    ]
    signature = ("serve", 0, {"given": "x"}, {"result": "y"})
    (tmp_path / "m.tflite").write_bytes(write(Graph(tensors, ops, "x", "y"), signatures=[signature]))
    done = invoke("quantize", tmp_path / "m.tflite", "-o", tmp_path / "m.dynq", "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["bytes_before"] == (tmp_path / "m.tflite").stat().st_size
    return tmp_path


def test_quantize_writes_what_from_tflite_gives(folder: Path) -> None:
    x = np.ones((2, 64), np.float32)
    assert np.array_equal(dynq.load(folder / "m.dynq")(x), dynq.from_tflite(folder / "m.tflite")(x))


def test_inspect_reads_the_file_and_load_says_what_to_type(folder: Path) -> None:
    other = folder / "model.bin"  # known by what it holds, too
    other.write_bytes((folder / "m.tflite").read_bytes())
    facts = json.loads(invoke("inspect", folder / "m.tflite", "--json").stdout)
    assert facts["bytes"] == other.stat().st_size and facts["ops"]["dynq.LinearFloat"] == 2
    with pytest.raises(dynq.FileFormatError, match=r"a TensorFlow Lite file, .*: dynq quantize .*model\.dynq, or dynq"):
        dynq.load(other)


def test_compare_runs_litert_beside(folder: Path) -> None:
    pytest.importorskip("ai_edge_litert")
    done = invoke("compare", folder / "m.tflite", folder / "m.dynq", "--shape", "3x64", "--json", "--repeat", "1")
    assert done.exit_code == 0, done.output
    facts = json.loads(done.stdout)
    assert facts["float"] == "LiteRT" and facts["outputs"]["result"]["cosine"] > 0.999


def test_compare_without_litert_runs_dynq_in_float(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", None)
    done = invoke("compare", folder / "m.tflite", folder / "m.dynq", "--shape", "3x64", "--json", "--repeat", "1")
    assert done.exit_code == 0, done.output
    facts = json.loads(done.stdout)
    assert facts["float"] == "dynq in float32 (ai-edge-litert is not installed)"
    assert facts["outputs"]["result"]["cosine"] > 0.999


def test_values_of_inputs_are_for_onnx(folder: Path) -> None:
    done = invoke("quantize", folder / "m.tflite", "-o", folder / "n.dynq", "--input-value", "x=1")
    assert done.exit_code == 2 and "a .tflite file has its inputs" in done.output


def test_a_damaged_file_is_an_error(folder: Path) -> None:
    (folder / "d.tflite").write_bytes((folder / "m.tflite").read_bytes()[:900])
    done = invoke("quantize", folder / "d.tflite", "-o", folder / "n.dynq")
    assert isinstance(done.exception, dynq.InvalidModelError) and "d.tflite is damaged" in str(done.exception)
    assert not (folder / "n.dynq").exists()
