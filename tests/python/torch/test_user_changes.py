"""What a user does to a converted model takes effect or is an error: nothing is lost without a word."""

from __future__ import annotations

import copy
import pickle
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from torch import Tensor, nn  # noqa: E402

import dynq  # noqa: E402
import dynq.torch as dt  # noqa: E402


def convert(module: nn.Module, **options: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return dt.quantize_dynamic(module.eval(), **options)


def relative(got: Tensor, want: Tensor) -> float:
    return float((got.detach() - want.detach()).abs().max() / want.detach().abs().max().clamp_min(1e-6))


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


# Layers with the names of their weights, and what to call them with.
LAYERS: dict[str, tuple[Callable[[], nn.Module], list[str], Callable[[], tuple[Tensor, ...]]]] = {
    "Linear": (lambda: nn.Linear(32, 16), ["weight", "bias"], lambda: (torch.randn(3, 32),)),
    "Conv1d": (lambda: nn.Conv1d(16, 24, 3), ["weight", "bias"], lambda: (torch.randn(2, 16, 9),)),
    "Conv2d": (lambda: nn.Conv2d(16, 24, 3), ["weight", "bias"], lambda: (torch.randn(2, 16, 5, 5),)),
    "Embedding": (lambda: nn.Embedding(20, 16), ["weight"], lambda: (torch.arange(20).view(4, 5),)),
    "EmbeddingBag": (lambda: nn.EmbeddingBag(20, 16), ["weight"], lambda: (torch.arange(20).view(4, 5),)),
    "LSTM": (
        lambda: nn.LSTM(16, 16, bidirectional=True), ["weight_ih_l0", "weight_hh_l0_reverse", "bias_ih_l0"],
        lambda: (torch.randn(5, 2, 16),),
    ),
    "GRUCell": (lambda: nn.GRUCell(16, 16), ["weight_hh", "bias_hh"], lambda: (torch.randn(2, 16),)),
    "MultiheadAttention": (
        lambda: nn.MultiheadAttention(32, 4), ["in_proj_weight", "in_proj_bias"], lambda: (torch.randn(5, 2, 32),) * 3,
    ),
    "of other widths": (
        lambda: nn.MultiheadAttention(32, 4, kdim=16, vdim=24), ["q_proj_weight", "k_proj_weight", "v_proj_weight"],
        lambda: (torch.randn(5, 2, 32), torch.randn(5, 2, 16), torch.randn(5, 2, 24)),
    ),
}  # fmt: skip
EACH = [(layer, name) for layer, (_, names, _) in LAYERS.items() for name in names]


def first(result: Any) -> Tensor:
    return result[0] if isinstance(result, tuple) else result


def scale_data(layer: nn.Module, name: str) -> None:
    getattr(layer, name).data.mul_(-2)


def scale(layer: nn.Module, name: str) -> None:
    getattr(layer, name).mul_(-2)


def scale_rows(layer: nn.Module, name: str) -> None:
    for row in getattr(layer, name):
        row *= -2


def copy_into(layer: nn.Module, name: str) -> None:
    getattr(layer, name).copy_(-2 * getattr(layer, name))


def set_items(layer: nn.Module, name: str) -> None:
    weight = getattr(layer, name)
    weight[...] = -2 * weight


def set_data(layer: nn.Module, name: str) -> None:
    getattr(layer, name).data = -2 * getattr(layer, name)


def assign_parameter(layer: nn.Module, name: str) -> None:
    setattr(layer, name, nn.Parameter(-2 * getattr(layer, name)))


def assign_tensor(layer: nn.Module, name: str) -> None:
    setattr(layer, name, -2 * getattr(layer, name))


def write_out(layer: nn.Module, name: str) -> None:
    torch.mul(getattr(layer, name).clone(), -2, out=getattr(layer, name))


def write_each(layer: nn.Module, name: str) -> None:
    torch._foreach_mul_([getattr(layer, name)], -2)


WRITES = [
    scale_data, scale, scale_rows, copy_into, set_items, set_data, assign_parameter, assign_tensor, write_out,
    write_each,
]  # fmt: skip


@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize(("kind", "name"), EACH)
def test_a_write_to_a_weight_takes_effect(kind: str, name: str, write: Callable[[nn.Module, str], None]) -> None:
    make, _, inputs = LAYERS[kind]
    module, x = make(), inputs()
    for p in module.parameters():
        if p.dim() == 1:
            nn.init.normal_(p)  # biases of attention are 0 at first
    quantized = convert(nn.ModuleDict({"m": module}))["m"]
    with torch.no_grad():
        write(quantized, name)
        (assign_parameter if write is assign_tensor else write)(module, name)  # torch takes no tensor there
        assert relative(getattr(quantized, name), getattr(module, name)) < 0.01
        assert relative(first(quantized(*x)), first(module(*x))) < 0.06


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_initialisers_and_views_write_to_the_weight(mode: Any) -> None:
    layer = convert(nn.Sequential(nn.Linear(32, 16)))[0]
    with mode():
        nn.init.ones_(layer.weight)
        layer.weight.t()[0] = 3  # of a view of a view
        layer.weight.chunk(2)[1].flatten()[5] = -2
        want = torch.ones(16, 32)
        want[:, 0], want[8, 5] = 3, -2
        assert relative(layer.weight, want) < 0.01
        assert relative(layer(torch.eye(32)) - layer.bias, want.T) < 0.01


def test_an_adapter_that_is_merged_into_its_base_layer_counts() -> None:
    base, down, up = nn.Linear(32, 16), torch.randn(4, 32) / 4, torch.randn(16, 4) / 4
    layer, x = convert(nn.Sequential(base))[0], torch.randn(5, 32)
    layer.weight.data += up @ down
    assert relative(layer(x), base(x) + x @ down.T @ up.T) < 0.03
    layer.weight.data -= up @ down
    assert relative(layer(x), base(x)) < 0.1  # quantized three times


@pytest.mark.parametrize("kind", ["Linear", "Conv2d", "Embedding"])
def test_weights_that_were_written_are_saved_and_copied(kind: str) -> None:
    make, _, inputs = LAYERS[kind]
    layer, x = convert(nn.Sequential(make()))[0], inputs()
    layer.weight.data[0] = 5
    want = layer(*x)
    for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert torch.equal(other(*x), want)
    again = convert(nn.Sequential(make()))[0]
    again.load_state_dict(layer.state_dict())
    assert torch.equal(again(*x), want)


def test_layers_that_share_a_weight_share_what_is_written() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table, self.head = nn.Embedding(20, 16), nn.Linear(16, 20, bias=False)
            self.head.weight = self.table.weight

    tied = convert(Tied())
    tied.table.weight.data.fill_(3)
    assert relative(tied.head(torch.ones(1, 16)), torch.full((1, 20), 48.0)) < 0.01
    tied.head.weight = tied.table.weight  # ties what is tied
    assert tied.head.packed is tied.table.packed


def test_a_weight_that_is_given_another_layers_is_tied_to_it() -> None:
    a, b = convert(nn.Sequential(nn.Linear(32, 16), nn.Linear(32, 16)))
    b.weight = a.weight
    assert torch.equal(a.weight, b.weight)
    a.weight.data.zero_()
    assert not b.weight.any()


def test_a_layer_of_another_layout_takes_the_integers() -> None:
    linear, table = convert(nn.Sequential(nn.Linear(16, 20), nn.Embedding(20, 16)))
    table.weight = linear.weight
    assert torch.equal(table.state_dict()["weight"], linear.state_dict()["weight"])
    linear.weight = table.weight[:, :].t().clone().t()  # a part or a copy is quantized anew
    assert relative(linear.weight, table.weight) < 0.01


def test_what_is_computed_from_a_weight_is_a_plain_tensor_of_its_own() -> None:
    layer = convert(nn.Sequential(nn.Linear(32, 16)))[0]
    before = layer.weight.clone()
    for other in (layer.weight.clone(), layer.weight + 0, copy.deepcopy(layer.weight), layer.weight.double()):
        assert type(other) is Tensor
        other.zero_()
    assert torch.equal(layer.weight, before)
    assert isinstance(layer.weight, nn.Parameter)  # as code that looks for weights expects
    assert not list(layer.parameters())
    assert torch.equal(pickle.loads(pickle.dumps(layer.weight)), before)


@pytest.mark.parametrize(
    ("write", "error", "text"),
    [
        (lambda m: setattr(m, "weight", torch.ones(3, 3)), ValueError, r"has shape \(3, 3\); expected \(16, 32\)"),
        (lambda m: setattr(m, "weight", torch.ones(16, 32, dtype=torch.float64)), ValueError, "expected float32"),
        (lambda m: setattr(m, "weight", None), TypeError, "weight of dynq.torch.Linear is set to a NoneType"),
        (lambda m: setattr(m, "bias", nn.Parameter(torch.ones(3))), ValueError, r"expected \(16,\)"),
        (lambda m: setattr(m.weight, "data", torch.ones(3, 3)), ValueError, r"expected \(16, 32\)"),
        (lambda m: setattr(m.weight[0], "data", torch.ones(32)), RuntimeError, "a part of weight"),
        (lambda m: m.weight.data.fill_(float("nan")), dynq.NonFiniteError, "NaN"),
        (lambda m: m.weight.set_(torch.ones(16, 32)), RuntimeError, r"copy_\(\) writes to it"),
        (lambda m: m.weight.numpy().fill(0), ValueError, "read-only"),
        (lambda m: np.asarray(m.weight).fill(0), ValueError, "read-only"),
    ],
)
def test_a_write_that_cannot_take_effect_is_an_error(write: Any, error: type[Exception], text: str) -> None:
    layer = convert(nn.Sequential(nn.Linear(32, 16)))[0]
    x = torch.randn(3, 32)
    before = layer(x)
    with torch.no_grad(), pytest.raises(error, match=text):
        write(layer)
    assert torch.equal(layer(x), before)
