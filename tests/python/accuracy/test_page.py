"""dynq analyze: the command, its page and its table; the page asks nothing of any other place."""

from __future__ import annotations

import dataclasses
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from click.testing import CliRunner, Result

import dynq
from dynq.accuracy import LayerRow, analyze
from dynq.accuracy import page as pages
from dynq.cli import cli
from tests.python.references.onnx_models import model, node, small_bert, two_layers


def invoke(*arguments: Any, columns: int = 120) -> Result:
    return CliRunner(env={"COLUMNS": str(columns)}).invoke(cli, [str(argument) for argument in arguments])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """With m.onnx, m.dynq and samples x.npz."""
    onnx.save(two_layers(), tmp_path / "m.onnx")
    dynq.from_onnx(tmp_path / "m.onnx").save(tmp_path / "m.dynq")
    np.savez(tmp_path / "x.npz", x=np.random.default_rng(1).standard_normal((9, 64), np.float32))
    return tmp_path


class _Page(HTMLParser):
    """What a page says and what it loads; raises where a tag is not closed as it should."""

    EMPTY = frozenset({"meta", "wbr", "rect", "line", "circle"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.words: list[str] = []
        self.loaded: list[str] = []
        self.rows: list[list[str]] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.loaded += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href", "data", "action")]
        if tag not in self.EMPTY:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.EMPTY:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)
        if self.rows and ("td" in self.open or "th" in self.open):
            self.rows[-1][-1] += data


def test_the_page_is_self_contained_and_names_every_layer(tmp_path: Path) -> None:
    analysis = analyze(small_bert(17), repeat=1)
    analysis.to_html(tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    page = _Page(text)
    assert page.loaded == [] and "//" not in re.sub(r"^\s*//.*$", "", text, flags=re.MULTILINE)
    assert "url(" not in text and "@import" not in text and "fetch" not in text
    heads, *rows = page.rows
    assert heads[0].strip() == "layer" and len(rows) == len(analysis.rows)
    assert [row[0] for row in rows][: len(analysis.worst)] == [row.name for row in analysis.worst]
    assert {row[0] for row in rows} == {row.name for row in analysis.rows}
    first = analysis.worst[0]
    assert rows[0][2] == f"{first.output_sqnr_db:.1f}" and rows[0][3] == f"{first.sqnr_db:.1f}"
    assert text.count('class="track"') >= len(analysis.rows) and "<svg" in text and "<circle" in text
    assert "prefers-color-scheme: dark" in text and 'name="viewport"' in text


def test_names_are_text_in_the_page(tmp_path: Path) -> None:
    nodes = [node("Tanh", "x", "t"), node("MatMul", "t w", "y", "<script>alert(1)</script>&\"'")]
    source = model(nodes, {"x": ("float32", ["n", 64])}, "y", {"w": np.eye(64, 16, dtype=np.float32)})
    analyze(source, repeat=1).to_html(tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "<script>alert" not in text and _Page(text).rows[1][0] == "<script>alert(1)</script>&\"'"


def test_a_page_that_cannot_be_written_is_an_error(folder: Path) -> None:
    done = invoke("analyze", folder / "m.onnx", "--html", folder / "none" / "page.html")
    assert isinstance(done.exception, dynq.Error) and "page.html cannot be written" in str(done.exception)
    assert "second" in done.output  # the table is not lost


def test_the_command_shows_layers_outputs_and_what_was_run(folder: Path) -> None:
    done = invoke("analyze", folder / "m.onnx", "--samples", folder / "x.npz", "--threads", "1")
    assert done.exit_code == 0, done.output
    for text in ("m.onnx", "first", "second", "int8 linear", "cosine", "1 sample", "1 thread:"):
        assert text in done.output
    done = invoke("analyze", folder / "m.onnx")
    assert done.exit_code == 0 and "1 random sample" in done.output


@pytest.mark.parametrize("columns", [60, 80, 120, 200])
def test_the_table_fits_the_terminal_and_shows_names_whole(tmp_path: Path, columns: int) -> None:
    name = "/model/encoder/layer.0/attention/self/query/MatMul" * 2
    nodes = [node("Tanh", "x", "t"), node("MatMul", "t w", "y", name)]
    source = model(nodes, {"x": ("float32", ["n", 64])}, "y", {"w": np.eye(64, 8, dtype=np.float32)})
    onnx.save(source, tmp_path / "m.onnx")
    lines = invoke("analyze", tmp_path / "m.onnx", columns=columns).output.splitlines()
    assert max(map(len, lines)) <= columns
    begin = next(i for i, line in enumerate(lines) if line.startswith("/model"))
    column = [line.split(" ")[0] for line in lines[begin : lines.index("", begin) if "" in lines else None]]
    assert "".join(column).startswith(name) and "…" not in "".join(lines)


def test_json_has_rows_and_outputs(folder: Path) -> None:
    facts = json.loads(invoke("analyze", folder / "m.onnx", "--samples", folder / "x.npz", "--json").stdout)
    assert [row["name"] for row in facts["rows"]] == ["first", "second"]
    assert facts["outputs"][0]["name"] == "y" and not facts["random"]


def test_a_file_can_be_compared_with_its_original(folder: Path) -> None:
    options = ("--samples", folder / "x.npz", "--json")
    made = json.loads(invoke("analyze", folder / "m.onnx", *options).stdout)
    file = json.loads(invoke("analyze", folder / "m.onnx", folder / "m.dynq", *options).stdout)
    assert [row["sqnr_db"] for row in made["rows"]] == [row["sqnr_db"] for row in file["rows"]]
    done = invoke("analyze", folder / "m.onnx", folder / "m.dynq", "--keep-float", "first")
    assert done.exit_code == 2 and "--keep-float is for a model that is quantized here" in done.output


def test_samples_may_have_an_axis_of_runs(folder: Path) -> None:
    x = np.random.default_rng(1).standard_normal((3, 4, 64)).astype(np.float32)
    np.savez(folder / "runs.npz", x=x)
    facts = json.loads(invoke("analyze", folder / "m.onnx", "--samples", folder / "runs.npz", "--json").stdout)
    assert facts["samples"] == 3 and facts["rows"][0]["macs"] == 4 * 64 * 32
    facts = json.loads(invoke("analyze", folder / "m.onnx", "--shape", "x=5x64", "--json").stdout)
    assert facts["rows"][0]["macs"] == 5 * 64 * 32


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"z": np.ones((2, 64), np.float32)}, "no input is called z; expected x"),
        ({"x": np.ones((2, 63), np.float32)}, r"sample 0: input 'x' has shape (2, 63); expected (n, 64)"),
        ({"x": np.ones((2, 64))}, "dtype float64"),
        ({"x": np.full((2, 64), np.inf, np.float32)}, "holds a NaN or an infinity"),
        ({"x": np.ones((0, 2, 64), np.float32)}, "samples is empty"),
        ({}, "input 'x' is missing"),
    ],
)
def test_wrong_samples_are_one_line_that_names_the_file(
    folder: Path, arrays: dict[str, np.ndarray], message: str
) -> None:  # fmt: skip
    np.savez(folder / "wrong.npz", **arrays)
    done = invoke("analyze", folder / "m.onnx", "--samples", folder / "wrong.npz")
    assert isinstance(done.exception, dynq.Error) and message in str(done.exception)
    assert "wrong.npz" in str(done.exception)


def test_other_wrong_arguments_are_told(folder: Path) -> None:
    (folder / "text.npz").write_text("text")
    done = invoke("analyze", folder / "m.onnx", "--samples", folder / "text.npz")
    assert isinstance(done.exception, dynq.Error) and "is not an .npz file" in str(done.exception)
    np.save(folder / "x.npy", np.ones(3))
    done = invoke("analyze", folder / "m.onnx", "--samples", folder / "x.npy")
    assert "is one array; expected an .npz file" in str(done.exception)
    for arguments, text in (
        (("--target", "3"), "--target goes with --culprits"),
        (("--shape", "x=2x64", "--samples", folder / "x.npz"), "--shape is of random inputs"),
        ((folder / "m.dynq", "--culprits"), "leave MODEL.dynq out"),
    ):
        done = invoke("analyze", folder / "m.onnx", *arguments)
        assert done.exit_code == 2 and text in done.output
    done = invoke("analyze", folder / "m.onnx", "--shape", "z=2x64")
    assert done.exit_code == 2 and "--shape z=2x64: expected NAME=..., NAME one of x" in done.output
    floating = dynq.from_onnx(folder / "m.onnx", quantize=False)
    floating.save(folder / "f.dynq")
    done = invoke("analyze", folder / "m.onnx", folder / "f.dynq")
    assert isinstance(done.exception, dynq.Error) and "has no quantized layer" in str(done.exception)


def test_options_of_quantization_are_those_of_quantize(folder: Path) -> None:
    samples = ["--samples", folder / "x.npz"]
    options = ["--int16", "second", "--group-size", "32", "--smooth", folder / "x.npz"]
    facts = json.loads(invoke("analyze", folder / "m.onnx", *samples, *options, "--json").stdout)
    became = {row["name"]: row["became"] for row in facts["rows"]}
    assert became["second"] == "int8 linear, 16-bit activations, scales of 32"
    plain = json.loads(invoke("analyze", folder / "m.onnx", *samples, "--json").stdout)
    assert facts["outputs"][0]["sqnr_db"] > plain["outputs"][0]["sqnr_db"]
    facts = json.loads(invoke("analyze", folder / "m.onnx", "--keep-float", "second", "--json").stdout)
    assert [row["quantized"] for row in facts["rows"]] == [True, False]
    done = invoke("analyze", folder / "m.onnx", folder / "m.dynq", "--int16", "second")
    assert done.exit_code == 2 and "--int16 is for a model that is quantized here" in done.output


def test_shapes_of_random_inputs_are_given_as_to_run(folder: Path) -> None:
    facts = json.loads(invoke("analyze", folder / "m.onnx", "--shape", "5x64", "--json").stdout)
    assert facts["rows"][0]["macs"] == 5 * 64 * 32
    done = invoke("analyze", folder / "m.onnx", "--shape", "x=5xab")
    assert done.exit_code == 2 and "--shape x=5xab: expected sizes like 1x128" in done.output


def test_numbers_of_the_scatter_plot_overlap_neither_points_nor_one_another() -> None:
    """Many points in one spot, some at the edges."""
    rest = dict.fromkeys(field.name for field in dataclasses.fields(LayerRow))
    places = [(0.05 + 0.0004 * i, 18 + 0.1 * i) for i in range(8)] + [(0.12, 17.0), (0.0, 16.9), (0.119, 17.1)]
    rows = [LayerRow(**{**rest, "name": "l", "time_share": x, "output_sqnr_db": y}) for x, y in places]
    plot = pages._scatter(rows)
    points = [(float(x), float(y)) for x, y in re.findall(r'<circle cx="([\d.]+)" cy="([\d.]+)"', plot)]
    numbers = [(float(x), float(y) - 4) for x, y in re.findall(r'class="number" x="([\d.]+)" y="([\d.]+)"', plot)]
    assert len(points) == len(rows) and len(numbers) == 5
    for i, (x, y) in enumerate(numbers):
        assert 40 < x < 420 and 0 < y < 264
        assert not any(abs(x - a) < 8 and abs(y - b) < 9 for a, b in points), "on a point"
        assert not any(abs(x - a) < 9 and abs(y - b) < 11 for a, b in numbers[:i]), "on another number"
