"""`dynq compare --static`: dynamic and static quantization on data like the samples and on other data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from click.testing import CliRunner, Result

import dynq
from dynq.accuracy import compare_static
from dynq.cli import cli
from tests.python.references.onnx_models import two_layers


def invoke(*arguments: Any) -> Result:
    return CliRunner(env={"COLUMNS": "140"}).invoke(cli, [str(argument) for argument in arguments])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """With m.onnx, m.dynq and samples.npz: six runs of 400 rows."""
    onnx.save(two_layers(), tmp_path / "m.onnx")
    assert invoke("quantize", tmp_path / "m.onnx", "-o", tmp_path / "m.dynq").exit_code == 0
    (value,) = dynq.load(tmp_path / "m.dynq").inputs
    rng = np.random.default_rng(0)
    width = (value.shape or ())[-1]
    np.savez(
        tmp_path / "samples.npz", **{value.name: rng.standard_normal((6, 400, int(width or 0))).astype(np.float32)}
    )
    np.savez(tmp_path / "other.npz", **{value.name: np.full((1, 5, int(width or 0)), 1000, np.float32)})
    return tmp_path


def compare(folder: Path, *arguments: Any) -> Result:
    return invoke("compare", folder / "m.onnx", folder / "m.dynq", "--static", "--repeat", "2", *arguments)


def facts(folder: Path, *arguments: Any) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    done = compare(folder, "--json", *arguments)
    assert done.exit_code == 0, done.output
    result = json.loads(done.stdout)
    return result, {f"{row['kind']} {row['amount']}".strip(): row for row in result["rows"]}


def test_static_keeps_up_on_its_samples_and_collapses_where_the_gain_changes(folder: Path) -> None:
    result, rows = facts(folder, "--samples", folder / "samples.npz", "--other", folder / "other.npz")
    assert (result["method"], result["samples"], result["tested"]) == ("minmax", 3, 3)
    assert list(rows) == ["samples", "gain 0.01", "gain 0.1", "gain 10.0", "gain 100.0",
                          "noise 0.3", "noise 1.0", "other other"]  # fmt: skip
    assert rows["samples"]["static_sqnr"] > 30
    for shifted in ("gain 100.0", "other other"):
        assert rows[shifted]["static_sqnr"] < 10 < 35 < rows[shifted]["dynamic_sqnr"]
    assert min(result[key] for key in ("float_seconds", "dynamic_seconds", "static_seconds")) > 0


def test_the_table_and_the_picture(folder: Path) -> None:
    pytest.importorskip("matplotlib")
    for arguments in ([], ["--other", folder / "other.npz"]):
        path = folder / "plot.png"
        done = compare(folder, "--samples", folder / "samples.npz", "--method", "mse", "--gain", "0.5",
                       "--noise", "0.2", "--plot", path, *arguments)  # fmt: skip
        assert done.exit_code == 0, done.output
        for text in ("ranges by mse of 3 runs", "like the samples", "gain 0.5", "noise of 0.2", "static takes"):
            assert text in done.output
        assert path.read_bytes()[:4] == b"\x89PNG" and path.stat().st_size > 10000
        path.unlink()


def test_without_samples_they_are_random(folder: Path) -> None:
    result, _ = facts(folder, "--shape", "5x64")
    assert (result["samples"], result["tested"]) == (4, 4)


def test_a_model_without_float_inputs_is_compared_on_other_inputs_alone(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    g = dynq.Graph()
    h = g.embedding(rng.standard_normal((50, 32), np.float32), g.input("ids", ("n",), "int64"))
    y = g.linear(h, rng.standard_normal((16, 32), np.float32))
    runs = [{"ids": rng.integers(0, 50, 8)} for _ in range(2)]
    result = compare_static(g.build(y, quantize=False), g.build(y), runs, others={"another": runs})
    assert [row.label for row in result.rows] == ["like the samples", "another"]
    assert result.rows[0].static_sqnr > 15 and "static takes" in str(result)


def test_wrong_arguments_are_refused(folder: Path) -> None:
    floating, model = dynq.from_onnx(folder / "m.onnx", quantize=False), dynq.load(folder / "m.dynq")
    runs = [np.ones((2, 64), np.float32)]
    for options, words in (
        ({"gains": [0]}, "gains has 0"), ({"noises": [-1]}, "noises has -1"), ({"repeat": 0}, "repeat is 0"),
        ({"method": "best"}, "method is 'best'"), ({"test": []}, "samples is empty"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=words):
            compare_static(floating, model, runs, **options)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="samples is empty"):
        compare_static(floating, model, [])
    for arguments, words in ((["--gain", "-1"], "gains has -1"), (["--plot", folder / "p.xyz"], "expected a name")):
        done = compare(folder, "--samples", folder / "samples.npz", *arguments)
        assert done.exit_code == 1 and words in str(done.exception)
    done = invoke("compare", folder / "m.onnx", folder / "m.dynq", "--gain", "2", "--shape", "5x64")
    assert done.exit_code == 2 and "--gain goes with --static" in done.output
    done = invoke("compare", folder / "m.onnx", folder / "m.dynq", "--method", "mse", "--shape", "5x64")
    assert done.exit_code == 2 and "--method goes with --static" in done.output
    done = compare(folder, "--samples", folder / "samples.npz", "--shape", "5x64")
    assert done.exit_code == 2 and "--shape gives other inputs than --samples" in done.output
    done = compare(folder, "--samples", folder)
    assert done.exit_code == 2 and "is a directory" in done.output


def test_quantize_takes_16_bits_groups_and_samples_to_smooth(folder: Path) -> None:
    path = folder / "q.dynq"
    done = invoke("quantize", folder / "m.onnx", "-o", path, "--int16", "second", "--group-size", "32",
                  "--smooth", folder / "samples.npz")  # fmt: skip
    assert done.exit_code == 0, done.output
    assert "int8 linear, 16-bit activations, scales of 32" in {row.became for row in dynq.load(path).report().rows}
    done = invoke("quantize", folder / "m.onnx", "-o", path, "--group-size", "33")
    assert done.exit_code == 1 and "group_size is 33" in str(done.exception)
