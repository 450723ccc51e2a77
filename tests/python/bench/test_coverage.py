"""bench/coverage: its measures, its runner, its page, and one architecture and one file from end to end."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dynq

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from bench.coverage import page, runner  # noqa: E402
from bench.coverage.files import same_run  # noqa: E402
from bench.coverage.measure import agreement, closeness, feeds_for, session  # noqa: E402
from tests.python.references.onnx_models import two_layers  # noqa: E402

F = np.float32


def test_agreement_is_relative_and_sees_shapes_nan_and_integers() -> None:
    x = np.array([[1, -8], [2, 4]], F)
    assert agreement([x], [x]) == 0
    assert agreement([x + F(0.8)], [x]) == pytest.approx(0.1)
    assert agreement([x], [x, x]) == agreement([x[0]], [x]) == agreement([x * np.nan], [x]) == math.inf
    assert agreement([np.array([np.nan, np.inf], F)], [np.array([np.nan, np.inf], F)]) == 0
    assert agreement([np.array([-np.inf, 1], F)], [np.array([np.finfo(F).min, 1], F)]) == 0  # two ways to mask
    assert agreement([np.array([1, 2, 3, 5])], [np.array([1, 2, 3, 4])]) == 0.25
    assert agreement([np.array([2e-7], F)], [np.array([1e-7], F)]) < 1e-3  # next to nothing


def test_closeness_is_that_of_the_worst_output() -> None:
    x, y = np.array([3, 4], F), np.array([1, 0], F)
    assert closeness([x, y], [x, y]) == {"cosine": 1.0, "snr": 100.0}
    found = closeness([x, np.array([0.6, 0.8], F)], [x, y])
    assert found["cosine"] == pytest.approx(0.6) and found["snr"] == pytest.approx(10 * math.log10(1 / 0.8), abs=0.1)


def test_steps_go_on_after_one_that_ends_the_process_and_results_are_kept(tmp_path: Path) -> None:
    done = tmp_path / "done"

    def case(record: runner.Record) -> None:
        def count(row: dict[str, Any]) -> None:
            with done.open("a") as file:
                file.write("x")
            row["value"] = 1

        record.step("first", count)
        record.step("crash", lambda row: os._exit(3))
        record.step("error", lambda row: {}["missing"])
        record.step("long", lambda row: sum(iter(int, 1)))
        record.step("last", count)

    def run(**options: Any) -> dict[str, Any]:
        runner.run_cases({"a/b": case}, tmp_path, seconds=1, megabytes=64000, jobs=2, tell=lambda line: None, **options)
        results: dict[str, Any] = page.read_results(tmp_path)["a/b"]
        return results

    steps = run()
    assert steps["first"]["value"] == steps["last"]["value"] == 1
    assert steps["crash"]["error"] == "the process ended with 3"
    assert steps["error"]["error"] == "KeyError: 'missing'"
    assert steps["long"]["error"] == "over the limit of 1 s"
    assert run() == steps and done.read_text() == "xx"
    run(again="failed")
    assert done.read_text() == "xx"
    run(again="all", wanted=["first"])
    assert done.read_text() == "xxx" and list(page.read_results(tmp_path)["a/b"]) == ["first"]


def test_a_file_is_compared_in_float_and_int8(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(two_layers(), path)
    record = runner.Record(tmp_path / "results.json")
    row = record.step("as it is", lambda row: same_run(record, row, path, lambda: feeds_for(session(path), {}), {}))
    assert not row["wrong"] and row["agreement"] < 1e-5 and row["snr"] > 20 and row["int8_share"] > 0.9, row

    def refuse(*given: Any) -> None:
        raise dynq.UnsupportedModelError("op Nope", {})

    monkeypatch.setattr("dynq.importers.onnx.to_graph", refuse)
    row = record.step("refused", lambda row: same_run(record, row, path, lambda: feeds_for(session(path), {}), {}))
    assert row["stage"] == "load" and "op Nope" in row["error"], row


def test_a_file_of_float16_is_compared_in_float32(tmp_path: Path) -> None:
    proto = two_layers()
    x, y = proto.graph.input[0].name, proto.graph.output[0].name
    for tensor in proto.graph.initializer:
        tensor.CopyFrom(
            onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor).astype(np.float16), tensor.name)
        )
    for node in proto.graph.node:
        node.input[:] = ["x16" if name == x else name for name in node.input]
        node.output[:] = ["y16" if name == y else name for name in node.output]
    proto.graph.node.insert(0, onnx.helper.make_node("Cast", [x], ["x16"], to=10))
    proto.graph.node.append(onnx.helper.make_node("Cast", ["y16"], [y], to=1))
    path = tmp_path / "half.onnx"
    onnx.save(proto, path)
    record = runner.Record(tmp_path / "results.json")
    row = record.step("as it is", lambda row: same_run(record, row, path, lambda: feeds_for(session(path), {}), {}))
    assert row["half"] and not row.get("wrong", True) and row["agreement"] < 1e-6, dict(row)  # roundings would be 1e-3


def test_one_architecture_by_every_way(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    from bench.coverage.paths import case

    record = runner.Record(tmp_path / "electra.json", ["model", "from_torch dynamic", "legacy", "eager"])
    case("electra", record)
    assert list(record.steps) == ["model", "from_torch dynamic", "legacy", "eager"]
    for name, row in record.steps.items():
        assert "error" not in row and "ort_error" not in row and "tool_error" not in row, (name, row)
        assert name == "model" or (row["cosine"] > 0.999 and not row.get("wrong")), (name, row)


def test_the_page_has_counts_tables_and_failures(tmp_path: Path) -> None:
    right = {
        "agreement": 1e-7,
        "wrong": False,
        "cosine": 0.9991,
        "snr": 30,
        "int8_share": 0.97,
        "softmax": 0,
        "attention": 2,
    }
    wrong = {**right, "agreement": 0.5, "wrong": True}
    refused = {
        "error": "UnsupportedModelError: m.onnx holds what dynq does not support:\n  op Nope (opset 18): 'a', 'b'"
    }
    write(tmp_path / "transformers", "one", {"model": {"parameters": 9}, "from_torch dynamic": right, "legacy": right})
    write(
        tmp_path / "transformers", "two", {"model": {"parameters": 9}, "from_torch dynamic": wrong, "legacy": refused}
    )
    write(tmp_path / "transformers", "three", {"model": {"error": "ValueError: no small settings: why"}})
    write(tmp_path / "transformers", "four", {"model": {"parameters": 9}, "legacy": {"tool_error": "RuntimeError: no"}})
    random = {**wrong, "ort_agreement": 0.4}
    ended = {"stage": "make", "error": "the process ended"}
    write(tmp_path / "transformers", "five", {"model": {"parameters": 9}, "legacy": random, "dynamo": right})
    write(tmp_path / "files", "pack 2/b.onnx", {"as it is": {"ort_error": "Fail: what it says"}, "onnxsim": ended})
    write(
        tmp_path / "files", "pack 1/a.onnx", {"as it is": {**right, "bytes": 9e6, "int8_bytes": 3e6}, "int4": refused}
    )
    far = {**right, "quantized": True, "agreement": 1.1, "float_cosine": 0.5}
    write(tmp_path / "files", "pack 3/c.onnx", {"as it is": far})
    text = page.page(tmp_path)
    assert "| ONNX, dynamo=False | 4 | 2 | 1 | 1 | 0 | 50.0% | 0.9991 | 0.9991 | 0.97 |" in text
    assert "- files: 1 of 1\n- variants of files: 0 of 1\n- exports of architectures: 2 of 3\n" in text
    assert "among the right ones: 1.0e-07" in text
    assert "Of 1 files and variants that are quantized already, 1 load. 0 of these agree to 1e-04." in text
    assert "For 1 the cosine is below 0.99" in text
    assert "| 1 | ONNX Runtime's outputs are not those of PyTorch | five (ONNX, dynamo=False) |" in text
    assert "| 1 | Fail: what it says | pack 2/b.onnx |" in text and "the process ended" not in text
    assert "| from_torch, open sizes | 2 | 0 | 2 | 1 | 1 | 50.0% |" in text
    assert "| pack 1/a.onnx | right | 1.0e-07 | 30 | 97% | 9.00 | 3.00 |" in text
    assert "**wrong: 5e-01**" in text and "not exported" in text
    assert "| 1 | op Nope (opset 18) | two |" in text and "| 1 | op Nope (opset 18) | pack 1/a.onnx (int4) |" in text
    assert "no small settings: why | three |" in text and "5 architectures were tried; for 4 of them" in text
    assert text.index("### Wrong numbers") < text.index("op Nope")


def write(folder: Path, name: str, steps: dict[str, Any]) -> None:
    folder.mkdir(exist_ok=True)
    (folder / f"{name.replace('/', '__')}.json").write_text(json.dumps(steps))
