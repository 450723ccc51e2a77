"""from_torch of modules that quantize_dynamic converted: the file keeps their numbers."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import dynq
import dynq.torch


class Texts(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(50, 32)
        self.fc = nn.Linear(32, 64)

    def forward(self, ids: torch.Tensor) -> Any:
        return self.fc(self.table(ids))


class Tied(Texts):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(32, 50)
        self.fc.weight = self.table.weight


def converted(module: nn.Module) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return dynq.torch.quantize_dynamic(module.eval())


CASES = {
    "linear": (
        lambda: nn.Sequential(nn.Linear(32, 48), nn.ReLU(), nn.Linear(48, 8, bias=False)),
        (4, 32),
        "dynq.Linear",
    ),
    "embedding": (Texts, None, "dynq.Linear"),
    "tied embedding": (Tied, None, "dynq.Linear"),
    "lstm": (lambda: nn.LSTM(32, 64, 2, bidirectional=True, batch_first=True), (2, 5, 32), "LSTM"),
    "gru": (lambda: nn.GRU(32, 64), (5, 2, 32), "GRU"),
    "attention": (lambda: nn.TransformerEncoderLayer(32, 4, 64, batch_first=True), (2, 5, 32), "dynq.Linear"),
}


@pytest.mark.parametrize("name", CASES)
def test_a_converted_module_becomes_a_file_with_its_numbers(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    make, shape, op = CASES[name]
    module = converted(make())
    x = torch.randint(0, 50, (2, 5)) if shape is None else torch.randn(*shape)
    model = dynq.from_torch(module, (x,))
    model.save(tmp_path / "m.dynq")
    assert any(kind.startswith((op, f"dynq.{op}")) for _, kind in model.nodes)
    got, expected = dynq.load(tmp_path / "m.dynq")(x), module(x)
    first = got[0] if isinstance(got, tuple) else got
    wanted = expected[0] if isinstance(expected, tuple) else expected
    np.testing.assert_allclose(first, wanted.detach().numpy(), rtol=1e-5, atol=1e-5)


def test_an_open_batch_stays_open() -> None:
    torch.manual_seed(0)
    module = converted(nn.Linear(32, 48))
    model = dynq.from_torch(module, (torch.randn(4, 32),), dynamic_shapes="batch")
    x = torch.randn(7, 32)
    np.testing.assert_array_equal(model(x), module(x).detach().numpy())


@pytest.mark.parametrize("bias", [True, False])
def test_converted_convolutions_keep_their_bits(bias: bool, tmp_path: Path) -> None:
    torch.manual_seed(0)
    flat = nn.Conv1d(32, 48, 5, padding=2, padding_mode="reflect", bias=bias)
    deep = nn.Sequential(nn.Conv2d(16, 32, 3, stride=2, padding=(1, 0), bias=bias), nn.ReLU(), nn.Conv2d(32, 20, 1))
    for module, shape in ((flat, (2, 32, 21)), (deep, (2, 16, 9, 12)), (nn.Conv2d(8, 16, 3, dilation=2), (1, 8, 9, 9))):
        quantized, x = converted(module), torch.randn(shape)
        model = dynq.from_torch(quantized, (x,))
        model.save(tmp_path / "m.dynq")
        np.testing.assert_array_equal(dynq.load(tmp_path / "m.dynq")(x), quantized(x).detach().numpy())
        assert any(row.became == "int8 conv" and row.reason == "its weight is int8" for row in model.report().rows)
