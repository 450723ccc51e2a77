"""The fuzzer of the imports, for some seconds."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

FUZZER = Path(__file__).parents[2] / "fuzz/run_import.py"


@pytest.mark.parametrize(("kind", "package"), [("onnx", "onnx"), ("tflite", "tflite"), ("pt2", "torch")])
def test_the_fuzzer_finds_nothing_in_some_seconds(kind: str, package: str, tmp_path: Path) -> None:
    pytest.importorskip(package)
    arguments = ["--kind", kind, "--seconds", "8", "--seed", "7", "--out", str(tmp_path / "found")]
    done = subprocess.run([sys.executable, str(FUZZER), *arguments], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
    assert "models from case 0" in done.stdout and " model" in done.stdout


def test_a_file_is_tried_alone(tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    (tmp_path / "x.onnx").write_bytes(b"noise")
    done = subprocess.run(
        [sys.executable, str(FUZZER), "--file", str(tmp_path / "x.onnx")], capture_output=True, text=True
    )
    assert done.returncode == 0 and done.stdout == "InvalidModelError\n"
