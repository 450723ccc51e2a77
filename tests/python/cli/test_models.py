"""The commands about whole models: from an ONNX file to a .dynq file, a look at it, a run, a comparison."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from click.testing import CliRunner, Result

import dynq
from dynq.cli import cli
from tests.python.references.onnx_models import model, node, two_layers


def invoke(*arguments: Any) -> Result:
    return CliRunner(env={"COLUMNS": "120"}).invoke(cli, [str(argument) for argument in arguments])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """With m.onnx and m.dynq."""
    onnx.save(two_layers(), tmp_path / "m.onnx")
    assert invoke("quantize", tmp_path / "m.onnx", "-o", tmp_path / "m.dynq").exit_code == 0
    return tmp_path


def test_quantize_writes_what_from_onnx_gives(folder: Path) -> None:
    x = np.ones((2, 64), np.float32)
    assert np.array_equal(dynq.load(folder / "m.dynq")(x), dynq.from_onnx(folder / "m.onnx")(x))


def test_quantize_tells_sizes_ops_and_what_stayed_float(folder: Path) -> None:
    done = invoke("quantize", folder / "m.onnx", "-o", folder / "k.dynq", "--keep-float", "second")
    assert done.exit_code == 0, done.output
    for text in ("before", "after", "smaller", "dynq.Linear", "dynq.LinearFloat", "stayed float", "second"):
        assert text in done.output
    done = invoke("quantize", folder / "m.onnx", "-o", folder / "k.dynq", "--keep-float", "second", "--json")
    facts = json.loads(done.stdout)
    assert facts["bytes_after"] == (folder / "k.dynq").stat().st_size
    assert facts["bytes_before"] == (folder / "m.onnx").stat().st_size
    kept = {"node": "second", "became": "float linear", "why": "keep_float has 'second'"}
    assert facts["kept_float"] == [kept]


def test_quantize_is_told_what_first_layers_become(tmp_path: Path) -> None:
    weights = {"w": np.ones((4, 8), np.float32), "v": np.ones((8, 64), np.float32)}
    nodes = [node("MatMul", "x w", "h", "first"), node("Tanh", "h", "t"), node("MatMul", "t v", "y", "second")]
    onnx.save(model(nodes, {"x": ("float32", ["n", 4])}, "y", weights), tmp_path / "m.onnx")
    for option, kept in ("float", ["first"]), ("int8", []):
        arguments = ("quantize", tmp_path / "m.onnx", "-o", tmp_path / "m.dynq", "--first-layer", option, "--json")
        assert [row["node"] for row in json.loads(invoke(*arguments).stdout)["kept_float"]] == kept


def test_quantize_explains_its_choices(folder: Path) -> None:
    done = invoke("quantize", folder / "m.onnx", "-o", folder / "e.dynq", "--explain")
    assert done.exit_code == 0 and "own dB as int8" in done.output and "first" in done.output
    facts = json.loads(invoke("quantize", folder / "m.onnx", "-o", folder / "e.dynq", "--explain", "--json").stdout)
    assert {choice["node"] for choice in facts["choices"]} == {"first", "second"}
    arguments = ("quantize", folder / "m.onnx", "-o", folder / "e.dynq", "--explain", "--json", "--default", "int8")
    assert json.loads(invoke(*arguments).stdout)["choices"] == []


def test_names_of_nodes_are_shown_whole(tmp_path: Path) -> None:
    name = "/model/encoder/layer.0/attention/self/query/MatMul" * 2
    nodes = [node("MatMul", "x w", "y", name)]
    onnx.save(
        model(nodes, {"x": ("float32", ["n", 64])}, "y", {"w": np.ones((64, 8), np.float32)}), tmp_path / "m.onnx"
    )
    done = invoke("quantize", tmp_path / "m.onnx", "-o", tmp_path / "m.dynq", "--no-quantize")
    shown = done.output + invoke("inspect", tmp_path / "m.dynq").output
    assert shown.count(name[:20]) >= 2 and "…" not in shown


def test_the_size_before_counts_external_data(folder: Path) -> None:
    onnx.save(two_layers(), folder / "e.onnx", save_as_external_data=True, location="e.data", size_threshold=0)
    facts = json.loads(invoke("quantize", folder / "e.onnx", "-o", folder / "e.dynq", "--json").stdout)
    assert facts["bytes_before"] == (folder / "e.onnx").stat().st_size + (folder / "e.data").stat().st_size


def test_no_quantize_leaves_everything_float(folder: Path) -> None:
    assert invoke("quantize", folder / "m.onnx", "-o", folder / "f.dynq", "--no-quantize").exit_code == 0
    assert "dynq.Linear" not in [op for _, op in dynq.load(folder / "f.dynq").nodes]


def test_quantize_of_what_is_not_supported_is_an_error_and_writes_nothing(folder: Path) -> None:
    onnx.save(model([node("Multinomial", "x", "y", "d")], {"x": ("float32", [2, 2])}, "y"), folder / "bad.onnx")
    done = invoke("quantize", folder / "bad.onnx", "-o", folder / "bad.dynq")
    assert isinstance(done.exception, dynq.UnsupportedModelError)
    assert not (folder / "bad.dynq").exists()


def test_inspect_lists_inputs_ops_and_the_report(folder: Path) -> None:
    done = invoke("inspect", folder / "m.dynq")
    assert done.exit_code == 0, done.output
    for text in ("n x 64", "dynq.Linear", "second", "its weight is constant"):
        assert text in done.output
    facts = json.loads(invoke("inspect", folder / "m.dynq", "--json").stdout)
    assert facts["inputs"] == [{"name": "x", "dtype": "float32", "shape": ["n", 64]}]
    assert facts["ops"]["dynq.Linear"] == 2


def test_inspect_verify_finds_a_flipped_bit_of_a_weight(folder: Path) -> None:
    assert "right" in invoke("inspect", folder / "m.dynq", "--verify").output
    image = bytearray((folder / "m.dynq").read_bytes())
    image[-100] ^= 1
    (folder / "bad.dynq").write_bytes(image)
    done = invoke("inspect", folder / "bad.dynq", "--verify")
    assert isinstance(done.exception, dynq.FileFormatError) and "checksum" in str(done.exception)


def test_run_takes_arrays_and_saves_the_outputs(folder: Path) -> None:
    x = np.random.default_rng(1).standard_normal((3, 64), np.float32)
    np.save(folder / "x.npy", x)
    done = invoke("run", folder / "m.dynq", "--input", f"x={folder / 'x.npy'}", "--output", folder / "y.npz")
    assert done.exit_code == 0, done.output
    with np.load(folder / "y.npz") as saved:
        assert np.array_equal(saved["y"], dynq.load(folder / "m.dynq")(x))


def test_run_makes_random_inputs_of_a_shape(folder: Path) -> None:
    facts = [
        json.loads(invoke("run", folder / "m.dynq", "--shape", shape, "--repeat", "3", "--json").stdout)["outputs"]
        for shape in ("x=5x64", "5x64")
    ]
    assert facts[0] == facts[1] and facts[0]["y"]["shape"] == [5, 8]
    assert "median of 3" in invoke("run", folder / "m.dynq", "--shape", "x=5x64", "--repeat", "3").output


def test_run_gives_equal_names_equal_sizes_and_indices_that_are_in_the_table(tmp_path: Path) -> None:
    table = np.random.default_rng(0).standard_normal((50, 16), np.float32)
    nodes = [node("Gather", "table ids", "e"), node("Cast", "mask", "m", to=1), node("Mul", "e m", "y")]
    inputs = {"ids": ("int64", ["n"]), "mask": ("int64", ["n", 1])}
    onnx.save(model(nodes, inputs, "y", {"table": table}), tmp_path / "m.onnx")
    assert invoke("quantize", tmp_path / "m.onnx", "-o", tmp_path / "m.dynq").exit_code == 0
    done = invoke("run", tmp_path / "m.dynq", "--shape", "ids=2000", "--json")
    assert json.loads(done.stdout)["outputs"]["y"]["shape"] == [2000, 16]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give --input or --shape x="),
        (["--shape", "x=3x"], "expected sizes like 1x128"),
        (["--shape", "z=3x64"], "NAME one of x"),
        (["--shape", "x=3x63"], "expected float32 (n, 64)"),
        (["--shape", "x=64"], "input 'x' has shape 64; expected n x 64"),
        (["--input", "x=nothing.npy"], "there is no file 'nothing.npy'"),
        (["--shape", "x=99999999999x64"], "cannot be made"),
    ],
)
def test_wrong_arguments_of_run_are_errors_without_a_traceback(
    folder: Path, arguments: list[str], message: str
) -> None:  # fmt: skip
    done = invoke("run", folder / "m.dynq", *arguments)
    assert done.exit_code != 0
    assert isinstance(done.exception, (SystemExit, dynq.Error))
    assert message in done.output + str(done.exception)


def test_compare_tells_cosine_error_and_times(folder: Path) -> None:
    pytest.importorskip("onnxruntime")
    done = invoke("compare", folder / "m.onnx", folder / "m.dynq", "--shape", "x=4x64", "--json")
    facts = json.loads(done.stdout)
    assert facts["float"] == "ONNX Runtime" and facts["seconds"] > 0 and facts["float_seconds"] > 0
    assert 0.999 < facts["outputs"]["y"]["cosine"] < 1 and facts["outputs"]["y"]["max_error"] > 0
    assert "cosine" in invoke("compare", folder / "m.onnx", folder / "m.dynq", "--shape", "x=4x64").output


def test_compare_takes_dynq_in_float_where_onnx_runtime_is_missing(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    done = invoke("compare", folder / "m.onnx", folder / "m.dynq", "--shape", "x=4x64", "--json")
    assert "dynq in float32" in json.loads(done.stdout)["float"]


def test_an_npz_file_is_no_input(folder: Path) -> None:
    np.savez(folder / "x.npz", x=np.ones((2, 64), np.float32))
    for command in (["run"], ["compare", folder / "m.onnx"]):
        done = invoke(*command, folder / "m.dynq", "--input", f"x={folder / 'x.npz'}")
        assert done.exit_code == 1 and "x.npz is an .npz file; expected one array" in str(done.exception)


@pytest.mark.parametrize("form", ["dynamic", "qdq"])
def test_export_writes_an_onnx_file(folder: Path, form: str) -> None:
    done = invoke("export", folder / "m.dynq", "-o", folder / "e.onnx", "--form", form)
    assert done.exit_code == 0 and "m.dynq -> e.onnx, " in done.output
    x = np.ones((2, 64), np.float32)
    np.testing.assert_allclose(dynq.from_onnx(folder / "e.onnx")(x), dynq.load(folder / "m.dynq")(x), rtol=1e-5)
    done = invoke("export", folder / "m.dynq", "-o", folder / "e.onnx", "--external-data")
    assert done.exit_code == 0 and "e.onnx.data" in done.output and (folder / "e.onnx.data").exists()


def test_export_tells_what_it_refuses(folder: Path) -> None:
    done = invoke("export", folder / "m.dynq", "-o", folder / "e.onnx", "--form", "qdq", "--granularity", "tensor")
    assert done.exit_code == 1 and "form 'dynamic' alone" in str(done.exception)
    done = invoke("export", folder / "m.dynq", "-o", folder / "nowhere" / "e.onnx")
    assert done.exit_code == 1 and "cannot be written" in str(done.exception)


def test_info_lists_the_ops() -> None:
    names = invoke("info", "--ops").output.split()
    assert {"dynq.Linear", "MatMul", "Reshape"} <= set(names) and names == sorted(names)
    assert json.loads(invoke("info", "--ops", "--json").stdout)["ops"] == names
