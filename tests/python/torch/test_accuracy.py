"""dynq.accuracy on PyTorch models: names of modules, which from_torch and quantize_dynamic take back."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from click.testing import CliRunner  # noqa: E402

import dynq  # noqa: E402
import dynq.torch  # noqa: E402
from dynq.accuracy import analyze, find_culprits  # noqa: E402
from dynq.cli import cli  # noqa: E402


class Network(torch.nn.Module):  # type: ignore[misc]
    """Its second layer reads rows with one huge number."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = torch.nn.Linear(32, 32)
        self.body = torch.nn.Sequential(torch.nn.Linear(32, 32), torch.nn.ReLU(), torch.nn.Linear(32, 32))
        self.huge = torch.zeros(32)
        self.huge[3] = 3000
        with torch.no_grad():
            self.body[0].weight[:, 3] = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.body(self.first(x).sin() + self.huge).sin()


def test_culprits_have_names_that_importers_and_quantize_dynamic_take() -> None:
    module, x = Network().eval(), torch.randn(20, 32)

    def build(**options: object) -> dynq.Model:
        return dynq.from_torch(module, (x,), dynamic_shapes="batch", **options)

    samples = x.numpy()
    analysis = analyze(build, samples, repeat=1, first_layer="int8")
    assert {row.name for row in analysis.rows} == {"first", "body.0", "body.2"}
    assert analysis.worst[0].name == "body.0"
    found = find_culprits(build, samples, first_layer="int8", options="float")
    assert found.keep_float == ["body.0"]
    exact = module(x).detach().numpy()
    kept = build(first_layer="int8", keep_float=found.keep_float)(samples)
    eager = dynq.torch.quantize_dynamic(module, {torch.nn.Linear}, keep_float=found.keep_float)
    assert isinstance(eager.body[0], torch.nn.Linear) and not isinstance(eager.body[2], torch.nn.Linear)
    for y in (kept, eager(x).detach().numpy()):
        assert np.linalg.norm(y - exact) / np.linalg.norm(exact) < 0.05


def test_the_command_reads_exported_programs(tmp_path: Path) -> None:
    program = torch.export.export(Network().eval(), (torch.randn(20, 32),))
    torch.export.save(program, tmp_path / "m.pt2")
    done = CliRunner(env={"COLUMNS": "120"}).invoke(cli, ["analyze", str(tmp_path / "m.pt2"), "--culprits"])
    assert done.exit_code == 0, done.output
    assert "m.pt2" in done.output and "body.0" in done.output


def test_compare_reads_exported_programs(tmp_path: Path) -> None:
    program = torch.export.export(Network().eval(), (torch.randn(20, 32),))
    torch.export.save(program, tmp_path / "m.pt2")
    run, files = CliRunner(env={"COLUMNS": "120"}), [str(tmp_path / "m.pt2"), str(tmp_path / "m.dynq")]
    assert run.invoke(cli, ["quantize", files[0], "-o", files[1], "--no-quantize"]).exit_code == 0
    done = run.invoke(cli, ["compare", *files, "--repeat", "1", "--json"])
    assert done.exit_code == 0, done.output
    facts = json.loads(done.stdout)
    assert facts["float"] == "dynq in float32" and {row["max_error"] for row in facts["outputs"].values()} == {0.0}
    assert run.invoke(cli, ["quantize", *files[:1], "-o", files[1], "--first-layer", "int8"]).exit_code == 0
    done = run.invoke(cli, ["compare", *files, "--static", "--repeat", "1"])
    assert done.exit_code == 0, done.output
