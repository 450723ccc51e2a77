"""torch.ops.dynq in packages of AOTInductor, which a C++ compiler builds and C++ code runs."""

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402

import dynq.torch as dt  # noqa: E402


def test_a_package_of_a_converted_model_gives_the_same_numbers(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = dt.quantize_dynamic(nn.Sequential(nn.Linear(32, 48), nn.GELU(), nn.Linear(48, 8)).eval())
    batch = {0: torch.export.Dim("batch", min=1, max=64)}
    with torch.no_grad():
        program = torch.export.export(model, (torch.randn(4, 32),), dynamic_shapes=(batch,))
    path = torch._inductor.aoti_compile_and_package(program, package_path=str(tmp_path / "m.pt2"))
    package = torch._inductor.aoti_load_package(path)
    for grad in (torch.enable_grad, torch.no_grad, torch.inference_mode):
        for rows in (1, 7):
            x = torch.randn(rows, 32)
            with grad():
                torch.testing.assert_close(package(x), model(x), rtol=0, atol=1e-6)
