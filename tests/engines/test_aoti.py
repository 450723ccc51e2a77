"""torch.ops.dynq in packages of AOTInductor, which a C++ compiler builds and C++ code runs: in Python, and without.

.ci/engines.sh builds libdynq_torch.so and examples/torch, and runs this.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402

import dynq.torch as dt  # noqa: E402

OPERATORS = ("linear", "lstm", "gru", "rnn", "conv")
needs_library = pytest.mark.skipif(
    "DYNQ_TORCH_LIBRARY" not in os.environ, reason="DYNQ_TORCH_LIBRARY does not say where libdynq_torch.so is"
)


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


class Everything(nn.Module):
    """A module of each operator, on (B, 32, T)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(32, 64, 3, padding=1)
        self.lstm = nn.LSTM(64, 32, batch_first=True, bidirectional=True)
        self.gru = nn.GRU(64, 32)
        self.rnn = nn.RNN(32, 32)
        self.head = nn.Linear(32, 9)

    def forward(self, x: Any) -> Any:
        y, _ = self.lstm(self.conv(x).transpose(1, 2))
        y, _ = self.gru(y.transpose(0, 1))
        return self.head(self.rnn(y)[0])


@needs_library
def test_a_program_of_cpp_runs_a_package_with_every_operator(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = dt.quantize_dynamic(Everything().eval(), first_layer="int8")
    x = torch.randn(3, 32, 10)
    with torch.no_grad():
        program = torch.export.export(model, (x,))
    called = {str(node.target) for node in program.graph.nodes if "dynq" in str(node.target)}
    assert called == {f"dynq.{name}.default" for name in OPERATORS}
    path = torch._inductor.aoti_compile_and_package(program, package_path=str(tmp_path / "m.pt2"))
    x.numpy().tofile(tmp_path / "x.bin")
    command = [os.environ["DYNQ_RUN_PACKAGE"], path, str(tmp_path / "x.bin"), *map(str, x.shape)]
    done = subprocess.run(command, capture_output=True, check=True)
    with torch.no_grad():
        expected = model(x).numpy()
    np.testing.assert_array_equal(np.frombuffer(done.stdout, np.float32).reshape(expected.shape), expected)


CALLS = """
import sys, torch
torch.ops.load_library(sys.argv[1])
assert "dynq" not in sys.modules
print(*(getattr(torch.ops.dynq, name).default._schema for name in sys.argv[3:]), sep="\\n")
given = torch.load(sys.argv[2])
x, packed, bias = given["x"], given["packed"], given["bias"]
room = torch.empty(packed.numel() + 64, dtype=torch.uint8)
for shift in range(0, 64, 16):  # wherever the weight lies, and where another one has been
    place = room[shift : shift + packed.numel()]
    place.fill_(1)
    torch.ops.dynq.linear(x, place, bias, 40)
    place.copy_(packed)
    assert torch.equal(torch.ops.dynq.linear(x, place, bias, 40), given["y"])
assert torch.equal(torch.ops.dynq.linear(x[:, ::1].t().contiguous().t(), packed, bias, 40), given["y"])
assert torch.equal(torch.ops.dynq.linear(x, packed, bias[16:32].clone(), 40, 16, 16), given["y"][:, 16:32])
out = torch.empty_like(given["y"])
torch.ops.dynq.linear.out(x, packed, bias, 40, out=out)
assert torch.equal(out, given["y"]) and torch.ops.dynq.linear(x[:0], packed, None, 40).shape == (0, 40)
for wrong in ((x.double(), packed, bias, 40), (x, packed[:-1], bias, 40), (x, packed, bias[:3], 40),
              (x, packed, None, 41), (x, packed, None, 40, 8, 16), (x, packed.char(), None, 40)):
    try:
        torch.ops.dynq.linear(*wrong)
    except RuntimeError as error:
        assert "dynq: " in str(error), error
    else:
        raise AssertionError(wrong)
"""


@needs_library
def test_the_operators_of_cpp_are_those_of_python(tmp_path: Path) -> None:
    torch.manual_seed(0)
    layer = dt.quantize_dynamic(nn.Sequential(nn.Linear(30, 40)).eval())[0]
    x, bias = torch.randn(5, 30), torch.randn(40)
    given = {"x": x, "packed": layer.packed, "bias": bias}
    torch.save({**given, "y": torch.ops.dynq.linear(x, layer.packed, bias, 40)}, tmp_path / "given.pt")
    arguments = (os.environ["DYNQ_TORCH_LIBRARY"], str(tmp_path / "given.pt"), *OPERATORS)
    done = subprocess.run([sys.executable, "-c", CALLS, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [str(getattr(torch.ops.dynq, name).default._schema) for name in OPERATORS]
