"""``dynq bench conv``: every runtime computes the same convolutions, and figures agree with each other."""

import io
import json
import os
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from rich.console import Console

import dynq
from dynq.bench import compare, conv, process
from dynq.bench.conv_peer import data, expected
from dynq.cli import cli

# CI names the peers that must be there; a missing one then fails.
EXPECTED = os.environ.get("DYNQ_EXPECTED_PEERS")
PRESENT = (
    process.choose((), conv.NEEDED)[0]
    if EXPECTED is None
    else [
        *process.choose(("dynq float32",), conv.NEEDED)[0],
        *(name for name in EXPECTED.split(",") if name in conv.NEEDED and name != "dynq"),
    ]
)
SHAPES: list[dict[str, Any]] = [
    {"layer": "one axis", "x": [2, 8, 20], "w": [16, 8, 5], "strides": [2], "pads": [1, 2], "group": 1},
    {"layer": "two axes", "x": [1, 6, 9, 8], "w": [32, 6, 3, 2], "strides": [2, 1], "pads": [1, 0, 1, 0], "group": 1},
    {"layer": "depthwise", "x": [1, 12, 7, 6], "w": [12, 1, 3, 3], "strides": [1, 1], "pads": [1] * 4, "group": 12},
]
QUICK = ("conv", "--quick", "--rounds", "1", "--threads", "1", "--layer", "MobileNet 14")


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["bench", *arguments], env={"COLUMNS": "80"})


@pytest.fixture(scope="module")
def facts() -> dict[str, Any]:
    done = run(*QUICK, "--peer", "dynq float32", "--json")
    assert done.exit_code == 0, done.output
    result: dict[str, Any] = json.loads(done.stdout)
    return result


@pytest.mark.parametrize("name", PRESENT)
def test_every_peer_that_is_installed_computes_the_layers(name: str) -> None:
    results = conv.measure(list(dict.fromkeys(["dynq", name])), [1], SHAPES, 1, True, lambda done, total: None)
    own = [r for r in results if r["peer"] == name]
    assert [r["layer"] for r in own] == [shape["layer"] for shape in SHAPES]
    for r in own:
        assert 0 < r["error"] < (1e-6 if "float32" in name else 0.03) and r["us"] > 0


def test_the_reference_is_the_sum_over_every_window() -> None:
    layer = data(SHAPES[1])
    x = np.pad(layer.x.astype(np.float64), [(0, 0), (0, 0), (1, 1), (0, 0)])
    y = expected(layer)
    assert y.shape == layer.y == (1, 32, 5, 7)
    for m, i, j in ((0, 0, 0), (31, 4, 6), (7, 2, 3)):
        window = x[0, :, 2 * i : 2 * i + 3, j : j + 2]
        assert y[0, m, i, j] == pytest.approx((window * layer.w[m]).sum() + layer.bias[m], rel=1e-12)


def test_the_layers_of_the_benchmark_are_what_they_say() -> None:
    names = [shape["layer"] for shape in conv.load()]
    assert len(set(names)) == len(names)
    for shape in conv.load():
        axes = len(shape["x"]) - 2
        assert len(shape["w"]) == axes + 2 and len(shape["strides"]) == axes and len(shape["pads"]) == 2 * axes
        assert shape["w"][1] * shape["group"] == shape["x"][1] and shape["w"][0] % shape["group"] == 0


def test_peers_are_compared_with_dynq_which_says_what_became_of_the_layer(facts: dict[str, Any]) -> None:
    became = {(r["layer"], r["peer"]): r["became"].split()[0] for r in facts["results"]}
    assert became == {
        ("MobileNet 14, dw", "dynq"): "int8",
        ("MobileNet 14, dw", "dynq float32"): "float",
        ("MobileNet 14, 1x1", "dynq"): "int8",
        ("MobileNet 14, 1x1", "dynq float32"): "float",
    }
    for own, other in zip(facts["results"][::2], facts["results"][1::2], strict=True):
        assert own["x_dynq"] == 1 and other["x_dynq"] == pytest.approx(other["us"] / own["us"])
    assert facts["machine"]["versions"].keys() == {"dynq"}


def test_the_table_fits_the_terminal(facts: dict[str, Any]) -> None:
    out = Console(width=80, file=io.StringIO())
    rows = [{**r, "peer": name} for r in facts["results"][::2] for name in conv.NEEDED]
    (table,) = conv.tables(rows, list(conv.NEEDED))
    assert out.measure(table).maximum <= 80
    assert run(*QUICK, "--peer", "dynq float32").stdout.count("MobileNet 14") == 2


def test_a_layer_or_a_peer_that_is_not_known_is_refused() -> None:
    for option, known in (("--layer", "CREPE tiny 1; "), ("--peer", "dynq, dynq float32, ")):
        done = run("conv", option, "abacus")
        assert isinstance(done.exception, dynq.Error)
        assert str(done.exception).startswith(f"{option} is 'abacus'; known: {known}")


def test_a_peer_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "installed", lambda package: package in ("dynq", "onnxruntime"))
    present, missing = process.choose((), conv.NEEDED)
    assert present == ["dynq", "dynq float32"]
    assert missing["onnxruntime int8"] == "onnx" and missing["openvino int8"] == "openvino"


def test_two_runs_are_compared(facts: dict[str, Any], tmp_path: Any) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps(facts), "utf-8")
    rows = compare.compare(compare.load(str(path)), compare.load(str(path)))
    assert len(rows) == 4 and all(row["ratio"] == 1 for row in rows)
    assert "MobileNet 14, dw" in run("compare", str(path), str(path)).stdout
