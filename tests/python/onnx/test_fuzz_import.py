"""The fuzzer of the ONNX import, for some seconds."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("onnx")

FUZZER = Path(__file__).parents[2] / "fuzz/run_import.py"


def test_the_fuzzer_finds_nothing_in_some_seconds(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(FUZZER), "--seconds", "8", "--seed", "7", "--out", str(tmp_path / "found")],
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
    assert "models from case 0" in done.stdout and " model" in done.stdout


def test_a_file_is_tried_alone(tmp_path: Path) -> None:
    (tmp_path / "x.onnx").write_bytes(b"noise")
    done = subprocess.run(
        [sys.executable, str(FUZZER), "--file", str(tmp_path / "x.onnx")], capture_output=True, text=True
    )
    assert done.returncode == 0 and done.stdout == "InvalidModelError\n"
