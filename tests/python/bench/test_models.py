"""``dynq bench models``: every runtime computes the same encoder, figures agree, errors are of one line."""

import io
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from rich.console import Console

import dynq
from dynq.bench import compare, models, process
from dynq.bench.models import Size
from dynq.cli import cli

# CI names the runtimes that must be there; a missing one then fails.
EXPECTED = os.environ.get("DYNQ_EXPECTED_RUNTIMES")
PRESENT = EXPECTED.split(",") if EXPECTED is not None else process.choose((), models.NEEDED)[0]
# The least mean cosine to float32: that of the tokens of few texts is worse than that of many.
COSINE = {"dynq": 0.998, "torch int8": 0.85, "onnxruntime int8": 0.9}

QUICK = ("--quick", "--rounds", "1", "--threads", "1", "--shape", "2x16")


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["bench", *arguments], env={"COLUMNS": "80"})


@pytest.fixture(scope="module")
def facts() -> dict[str, Any]:
    done = run("models", "--peer", "onnxruntime float32", *QUICK, "--json")
    assert done.exit_code == 0, done.output
    result: dict[str, Any] = json.loads(done.stdout)
    return result


@pytest.mark.parametrize("name", [name for name in PRESENT if name != "dynq"])
def test_every_runtime_that_is_installed_computes_the_encoder(name: str, tmp_path: Path) -> None:
    assert name in process.choose((name,), models.NEEDED)[0]
    sizes = [Size(2, 16), Size(1, 8)]
    results, opened = models.measure(["dynq", name], [1], sizes, 1, True, tmp_path, lambda done, total: None)
    assert [(r["peer"], models._size(r)) for r in results] == [(p, s) for s in sizes for p in ("dynq", name)]
    for r in results:
        assert COSINE.get(r["peer"], 0.99999 if "float32" in name else 0.98) < r["cosine"] < 1.000001 and r["ms"] > 0
    assert [r["peer"] for r in opened] == ["dynq", name]
    for r in opened:
        assert 0 < r["open_ms"] < r["first_ms"] and r["file_mb"] > 20


def test_runtimes_are_compared_with_dynq(facts: dict[str, Any]) -> None:
    own, other = facts["results"]
    assert own["peer"] == "dynq" and own["x_dynq"] == 1
    assert other["x_dynq"] == pytest.approx(other["ms"] / own["ms"])
    assert facts["machine"]["versions"].keys() == {"dynq", "onnxruntime"} and facts["missing"] == {}


def test_dynq_opens_at_once_and_takes_the_memory_of_its_file_and_little_more(facts: dict[str, Any]) -> None:
    own = facts["opened"][0]
    assert own["open_ms"] < 10
    assert own["resident_mb"] is None or own["resident_mb"] <= own["file_mb"] + 30


def test_the_tables_fit_the_terminal_and_have_a_row_for_each_runtime(facts: dict[str, Any]) -> None:
    out = Console(width=80, file=io.StringIO())
    rows = [{**r, "batch": size.batch, "length": size.length} for size in models.SIZES for r in facts["results"]]
    for table in models.tables(rows, facts["opened"], out.width):
        assert out.measure(table).maximum <= 80
        out.print(table)
    text = out.file.getvalue()  # type: ignore[attr-defined]
    assert text.count("onnxruntime float32 ") == 2 and "the best / dynq" in text and "…" not in text
    assert "ctranslate2 int8 (no ctranslate2)" in models.heading(facts["machine"], {"ctranslate2 int8": "ctranslate2"})


def test_medians_of_times_count_and_the_best_of_opening(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    times = {"dynq": iter([3.0, 2.0, 4.0]), "torch int8": iter([9.0, 8.0, 6.0])}
    opening = iter([5.0, 7.0, 4.0, 6.0, 9.0, 8.0])
    started = []

    class Replaced:
        def __init__(self, module: str, name: str, threads: int) -> None:
            self.name = name

        def ask(self, job: Mapping[str, Any]) -> dict[str, Any]:
            started.append((job["do"], self.name))
            if job["do"] == "prepare":
                Path(job["folder"], "model.dynq").write_bytes(bytes(1000))
                return {}
            if job["do"] == "open":
                return {"open_ms": next(opening), "first_ms": 9.0, "resident": 2**30}
            return {"batch": 1, "length": 8, "ms": next(times[self.name]), "cosine": 0.5}

        def close(self) -> None:
            pass

    monkeypatch.setattr(process, "Peer", Replaced)
    monkeypatch.setattr(models, "_write_inputs", lambda *arguments: None)
    (a, b), opened = models.measure(list(times), [1], [Size(1, 8)], 3, True, tmp_path, lambda done, total: None)
    assert (a["ms"], b["ms"], b["x_dynq"], b["cosine"]) == (3.0, 8.0, 3.0, 0.5)
    assert [r["open_ms"] for r in opened] == [4.0, 6.0] and opened[0]["file_mb"] == 1e-3
    assert started[2:4] == [("open", "dynq"), ("open", "torch int8")]
    assert started[8:12] == [("time", "dynq"), ("time", "torch int8"), ("time", "torch int8"), ("time", "dynq")]


def test_progress_reaches_its_end(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    models.measure(["dynq"], [1], [Size(1, 8)], 1, True, tmp_path, lambda done, total: seen.append((done, total)))
    assert [done for done, _ in seen] == list(range(len(seen))) and seen[-1][0] == seen[-1][1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--shape", "12"), "--shape is '12'; expected BATCHxLENGTH, such as 8x128, with a length of at most 512"),
        (("--shape", "1x513"), "--shape is '1x513'; expected BATCHxLENGTH"),
        (("--shape", "0x8"), "--shape is '0x8'; expected BATCHxLENGTH"),
        (("--peer", "abacus"), "--peer is 'abacus'; known: dynq, dynq.torch, onnxruntime float32"),
    ],
)
def test_what_cannot_be_done_is_refused(arguments: tuple[str, ...], message: str) -> None:
    done = run("models", *arguments)
    assert isinstance(done.exception, dynq.Error) and str(done.exception).startswith(message)


def test_a_runtime_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "installed", lambda package: package in ("dynq", "torch"))
    present, missing = process.choose((), models.NEEDED)
    assert present == ["dynq", "dynq.torch", "torch float32", "torch int8"]
    assert missing["openvino int8"] == "openvino onnx" and missing["ctranslate2 int8"] == "ctranslate2 transformers"
    with pytest.raises(dynq.Error, match=r"openvino int8 needs openvino onnx: pip install 'dynq\[peers\]'"):
        process.choose(("openvino int8",), models.NEEDED)


def test_two_runs_are_compared(facts: dict[str, Any], tmp_path: Path) -> None:
    a, b = tmp_path / "a.json", tmp_path / "b.json"
    a.write_text(json.dumps(facts), "utf-8")
    b.write_text(json.dumps({**facts, "results": [{**r, "ms": r["ms"] / 2} for r in facts["results"]]}), "utf-8")
    rows = compare.compare(compare.load(str(a)), compare.load(str(b)))
    assert [row["ratio"] for row in rows] == pytest.approx([2, 2])
    assert "batch x length" in run("compare", str(a), str(b)).stdout
