"""dynq.from_torch of torch.cond: branches become graphs of their own in the model, quantized like the rest."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

import dynq  # noqa: E402


def floats(*shape: int, seed: int = 0) -> Any:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


class Choice(nn.Module):
    """torch.cond between two layers, by the sum of x; the second branch reads a second input, a buffer and a size."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(8, 8), nn.Linear(8, 8)
        self.register_buffer("offset", torch.arange(8.0))
        self.eval()

    def forward(self, x: Any, y: Any) -> Any:
        def positive(x: Any, y: Any) -> Any:
            return self.first(x).relu(), x.sum()

        def negative(x: Any, y: Any) -> Any:
            return self.second(x) + self.offset, x.mean() * y.sum() + x.shape[0]

        rows, number = torch.cond(x.sum() > 0, positive, negative, (x, y))
        return rows @ self.first.weight, number


class Function(nn.Module):
    """A function of one tensor as a module."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function
        self.register_buffer("yes", torch.tensor(True))
        self.eval()

    def forward(self, x: Any) -> Any:
        return self.function(self, x)


def run(model: Any, *inputs: Any) -> list[Any]:
    return list(model.run({i.name: x.numpy() for i, x in zip(model.inputs, inputs, strict=True)}).values())


def check(module: Any, model: Any, *inputs: Any, tolerance: float = 1e-5) -> None:
    wanted = module(*inputs)
    wanted = wanted if isinstance(wanted, tuple) else (wanted,)
    for got, want in zip(run(model, *inputs), wanted, strict=True):
        np.testing.assert_allclose(got, want.detach().numpy(), rtol=tolerance, atol=tolerance)


def test_each_branch_gives_what_pytorch_gives_at_every_batch() -> None:
    module = Choice()
    model = dynq.from_torch(module, (floats(3, 8), floats(3, 8)), dynamic_shapes="batch", quantize=False)
    assert [op for _, op in model.nodes].count("dynq.If") == 1
    for batch in (3, 5):
        for sign in (1, -1):
            check(module, model, sign * floats(batch, 8).abs(), floats(batch, 8, seed=1))


def test_weights_in_branches_are_int8_under_the_names_of_their_modules() -> None:
    module = Choice()
    model = dynq.from_torch(module, (floats(3, 8), floats(3, 8)))
    assert {row.node for row in model.report().rows if row.quantized} >= {"first", "second"}
    for sign in (1, -1):
        check(module, model, sign * floats(3, 8).abs(), floats(3, 8, seed=1), tolerance=0.3)


def test_a_condition_of_sizes_chooses_when_the_model_runs() -> None:
    def function(module: Any, x: Any) -> Any:
        return torch.cond(x.shape[0] != 4, lambda x: x + x.shape[0], lambda x: x.flip(0), (x,))

    module = Function(function)
    model = dynq.from_torch(module, (floats(3, 5),), dynamic_shapes="batch", quantize=False)
    for batch in (3, 4, 6):
        check(module, model, floats(batch, 5))


def test_a_cond_in_a_branch_of_another_one() -> None:
    def inner(x: Any) -> Any:
        return torch.cond(x.max() > 2, lambda x: x * 3, lambda x: x * x.shape[0], (x,))

    module = Function(lambda module, x: torch.cond(x.sum() > 0, inner, lambda x: x - 1, (x,)))
    model = dynq.from_torch(module, (floats(3, 5),), dynamic_shapes="batch", quantize=False)
    for x in (floats(3, 5).abs() + 3, floats(4, 5).abs() % 1, -floats(2, 5).abs()):
        check(module, model, x)


def test_a_condition_that_is_a_buffer_leaves_only_its_branch() -> None:
    module = Function(lambda module, x: torch.cond(module.yes, lambda x: x.exp(), lambda x: x - 1, (x,)))
    model = dynq.from_torch(module, (floats(3, 5),), quantize=False)
    assert [op for _, op in model.nodes] == ["Exp"]
    check(module, model, floats(3, 5))


def test_what_a_branch_holds_and_dynq_does_not_is_named() -> None:
    module = Function(lambda module, x: torch.cond(x.sum() > 0, lambda x: torch.special.zeta(x, x), torch.sin, (x,)))
    with pytest.raises(dynq.UnsupportedModelError, match="zeta"):
        dynq.from_torch(module, (floats(3, 5),))
