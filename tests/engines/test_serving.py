"""The example of docs/serving.md: the bits of a single run, shared runs, and status 503 for what comes too fast."""

from __future__ import annotations

import asyncio
import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dynq
from tests.engines.small_model import X, write

pytest.importorskip("fastapi")


@pytest.fixture
def example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("DYNQ_MODEL", str(write(tmp_path / "m.dynq")))
    path = Path(__file__).parents[2] / "examples/python/serve.py"
    spec = importlib.util.spec_from_file_location("serve", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(__import__("sys").modules, "serve", module)
    spec.loader.exec_module(module)
    return module


def test_requests_get_what_a_run_gives(example: Any, tmp_path: Path) -> None:
    from fastapi.testclient import TestClient

    with TestClient(example.app) as client:
        reply = client.post("/predict", json={"x": X[0].tolist()})
        expected = dynq.load(tmp_path / "m.dynq")(X[:1])[0]
        np.testing.assert_array_equal(np.array(reply.json()["y"], np.float32), expected)
        reply = client.post("/predict", json={"x": [1.0]})
        assert reply.status_code == 422 and "expected 16" in reply.text


def test_requests_share_runs_and_too_many_are_refused(example: Any, tmp_path: Path) -> None:
    model = dynq.load(tmp_path / "m.dynq")
    expected = model(X)

    async def many() -> tuple[list[Any], list[int]]:
        batcher = example.Batcher(model)
        calls = [asyncio.create_task(batcher(row)) for row in X[:100]]
        await asyncio.sleep(0)
        task = asyncio.create_task(batcher.serve())
        results = await asyncio.gather(*calls, return_exceptions=True)
        task.cancel()
        return results, batcher.sizes

    results, sizes = asyncio.run(many())
    assert sizes == [16, 16, 16, 16]
    np.testing.assert_array_equal(np.stack(results[:64]), expected[:64])
    assert all(isinstance(result, example.Busy) for result in results[64:])
