"""FakeQuantize gives dynq's numbers in PyTorch; a model that was trained with it loses less when it is quantized."""

from __future__ import annotations

import copy
import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402

import dynq  # noqa: E402
import dynq.torch  # noqa: E402
from tests.python.references import reference  # noqa: E402

F = np.float32
SHAPES = [(1, 1), (7, 33), (3, 5, 129), (2, 1, 1, 16), (40,), (3, 0), (0, 8)]


@pytest.fixture(autouse=True)
def one_thread() -> Any:
    """Small tensors: threads would wait for each other."""
    count = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(count)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def bits(x: Any) -> np.ndarray:
    return np.ascontiguousarray(x, F).view(np.uint32)


def inputs(rng: np.random.Generator, shape: tuple[int, ...]) -> list[np.ndarray]:
    """Of many sizes: zero rows, one sign, denormals, near the largest number, ties."""
    x = rng.standard_normal(shape).astype(F)
    large = np.clip(x, -3, 3) * F(1e38)
    some = [x, np.abs(x), -np.abs(x), x * F(1e-42), large, np.zeros_like(x), -np.zeros_like(x)]
    return [*some, np.rint(x * 20) / 2, np.where(rng.random(shape) < 0.5, x * 1000, x).astype(F)]


@pytest.mark.parametrize("granularity", ["row", "tensor"])
@pytest.mark.parametrize("scheme", ["asymmetric", "symmetric"])
@pytest.mark.parametrize("shape", SHAPES)
def test_the_values_are_those_of_quantize_and_dequantize(
    rng: np.random.Generator, shape: tuple[int, ...], scheme: str, granularity: str
) -> None:
    fake = dynq.torch.FakeQuantize(scheme, granularity)
    for x in inputs(rng, shape):
        got = fake(torch.from_numpy(x)).numpy()
        q, scale, zero_point = dynq.quantize(x, scheme=scheme, granularity=granularity)
        assert np.array_equal(bits(got), bits(dynq.dequantize(q, scale, zero_point)))
        if granularity == "row" and x.size:
            for row, of_row in zip(x.reshape(-1, x.shape[-1]), got.reshape(-1, x.shape[-1]), strict=True):
                q, scale, zero = reference.quantize_block(row, scheme)
                assert np.array_equal(bits(of_row), bits(reference.dequantize(q, scale, zero)))


def test_weights_are_those_of_quantize_weight(rng: np.random.Generator) -> None:
    fake = dynq.torch.FakeQuantize("symmetric", "channel")
    for w in inputs(rng, (19, 70)):
        assert np.array_equal(bits(fake(torch.from_numpy(w))), bits(dynq.quantize_weight(w).dequantize()))
    w = rng.standard_normal((6, 4, 3, 3)).astype(F)  # of a convolution
    want = dynq.quantize_weight(w.reshape(6, -1)).dequantize().reshape(w.shape)
    assert np.array_equal(bits(fake(torch.from_numpy(w))), bits(want))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("scheme", ["asymmetric", "symmetric"])
def test_what_is_not_finite_makes_its_row_nan_and_no_other(rng: np.random.Generator, scheme: str, bad: float) -> None:
    x = rng.standard_normal((3, 8)).astype(F)
    x[1, 2] = bad
    got = dynq.torch.FakeQuantize(scheme)(torch.from_numpy(x)).numpy()
    assert np.isnan(got[1]).all() and np.isfinite(got[[0, 2]]).all()
    assert np.isnan(dynq.torch.FakeQuantize(scheme, "tensor")(torch.from_numpy(x)).numpy()).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_halves_are_computed_as_floats(rng: np.random.Generator, dtype: Any) -> None:
    x = torch.from_numpy(rng.standard_normal((5, 40)).astype(F)).to(dtype)
    fake = dynq.torch.FakeQuantize()
    got = fake(x)
    assert got.dtype == dtype and torch.equal(got, fake(x.float()).to(dtype))


@pytest.mark.parametrize("granularity", ["row", "tensor", "channel"])
def test_the_gradient_goes_straight_through(rng: np.random.Generator, granularity: str) -> None:
    x = torch.from_numpy(rng.standard_normal((4, 9)).astype(F)).requires_grad_()
    up = torch.from_numpy(rng.standard_normal((4, 9)).astype(F))
    dynq.torch.FakeQuantize("symmetric", granularity)(x).backward(up)
    assert torch.equal(x.grad, up)


def test_wrong_inputs_and_arguments_are_named() -> None:
    with pytest.raises(TypeError, match=r"torch\.float64"):
        dynq.torch.FakeQuantize()(torch.zeros(2, dtype=torch.float64))
    with pytest.raises(TypeError, match="type list"):
        dynq.torch.FakeQuantize()([1.0])
    with pytest.raises(ValueError, match="scheme is 'int4'"):
        dynq.torch.FakeQuantize("int4")
    with pytest.raises(ValueError, match="granularity is 'group'"):
        dynq.torch.FakeQuantize(granularity="group")
    layer = nn.Linear(3, 3)
    with pytest.raises(ValueError, match="granularity is 'channel'"):
        dynq.torch.prepare_qat(layer, granularity="channel")
    with pytest.raises(TypeError, match="type int"):
        dynq.torch.prepare_qat(3)
    with pytest.raises(ValueError, match="no module is called 'head'"):
        dynq.torch.prepare_qat(layer, keep_float=["head"])
    with pytest.raises(TypeError, match="keep_float has 3"):
        dynq.torch.prepare_qat(layer, keep_float=[3])
    with pytest.raises(ValueError, match=r"no nn\.Linear"):
        dynq.torch.prepare_qat(nn.Conv1d(3, 3, 3))
    with pytest.raises(ValueError, match="prepared already"):
        dynq.torch.prepare_qat(dynq.torch.prepare_qat(layer))
    with pytest.raises(ValueError, match="no layer that prepare_qat"):
        dynq.torch.finish_qat(layer)


@pytest.mark.parametrize("granularity", ["row", "tensor"])
def test_a_prepared_layer_computes_what_dynq_linear_does(rng: np.random.Generator, granularity: str) -> None:
    layer = nn.Linear(70, 19)
    prepared = dynq.torch.prepare_qat(layer, granularity=granularity)
    x = torch.from_numpy(rng.standard_normal((5, 3, 70)).astype(F))
    qw = dynq.quantize_weight(layer.weight.detach().numpy())
    want = dynq.linear(x.numpy(), qw, layer.bias.detach().numpy(), granularity=granularity)
    for got in (prepared(x), prepared(input=x)):
        np.testing.assert_allclose(got.detach().numpy(), want, rtol=0, atol=2e-6)
    assert np.abs(layer(x).detach().numpy() - want).max() > 1e-4  # float32 differs by far more


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(2, 24), nn.ReLU(), nn.Linear(24, 24), nn.ReLU(), nn.Linear(24, 3))


def test_a_prepared_model_is_copied_saved_and_finished(rng: np.random.Generator) -> None:
    model, x = network(), torch.from_numpy(rng.standard_normal((9, 2)).astype(F))
    before = copy.deepcopy(model.state_dict())
    prepared = dynq.torch.prepare_qat(model, keep_float=["4"])
    assert type(model[0]) is nn.Linear and type(prepared[4]) is nn.Linear
    assert torch.equal(model(x), network()(x))  # is as it was
    again = copy.deepcopy(prepared)
    again.load_state_dict(prepared.state_dict())
    assert torch.equal(again(x), prepared(x)) and not torch.equal(prepared(x), model(x))
    prepared(x).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in prepared.parameters())
    plain = dynq.torch.finish_qat(prepared)
    assert plain.state_dict().keys() == before.keys()
    assert all(torch.equal(plain.state_dict()[name], before[name]) for name in before)
    assert torch.equal(pickle.loads(pickle.dumps(plain))(x), model(x))
    assert dynq.torch.finish_qat(prepared, inplace=True) is prepared and type(prepared[0]) is nn.Linear


def test_tied_weights_stay_tied() -> None:
    model = nn.Sequential(nn.Linear(8, 8, bias=False), nn.Linear(8, 8, bias=False))
    model[1].weight = model[0].weight
    prepared = dynq.torch.prepare_qat(model)
    assert len(list(prepared.parameters())) == 1
    finished = dynq.torch.finish_qat(prepared)
    assert finished[0].weight is finished[1].weight


def test_the_layers_of_a_transformer_are_prepared_but_for_its_attention() -> None:
    torch.manual_seed(0)
    model = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, batch_first=True)
    prepared = dynq.torch.prepare_qat(model)
    assert [name for name, m in prepared.named_modules() if hasattr(m, "fake_input")] == ["linear1", "linear2"]
    x = torch.randn(2, 3, 16)
    with torch.no_grad():  # evaluation has a kernel that would pass by the layers
        trains, evaluates = prepared.train()(x), prepared.eval()(x)
        assert torch.allclose(trains, evaluates, atol=1e-5)
        assert (evaluates - model.eval()(x)).abs().max() > 1e-3
        assert torch.equal(dynq.torch.finish_qat(prepared)(x), model(x))


def test_subclasses_of_linear_are_named() -> None:
    model = nn.Sequential(nn.Linear(3, 3), torch.nn.utils.parametrizations.weight_norm(nn.Linear(3, 3)))
    with pytest.raises(ValueError, match=r"'1' is a ParametrizedLinear.*keep_float"):
        dynq.torch.prepare_qat(model)
    dynq.torch.prepare_qat(model, keep_float="1")


@pytest.mark.parametrize("autocast", [False, True])
def test_a_prepared_layer_computes_in_float32_and_gives_halves_back(rng: np.random.Generator, autocast: bool) -> None:
    layer, x = nn.Linear(70, 19), torch.from_numpy(rng.standard_normal((5, 70)).astype(F))
    int8 = dynq.torch.quantize_dynamic(layer.eval(), {nn.Linear})
    if autocast:
        with torch.autocast("cpu", torch.bfloat16):
            got = dynq.torch.prepare_qat(layer)(x)
        want = int8(x)
    else:
        got = dynq.torch.prepare_qat(layer).bfloat16()(x.bfloat16())
        want = dynq.torch.quantize_dynamic(copy.deepcopy(layer).bfloat16())(x.bfloat16())
    assert got.dtype == want.dtype
    assert torch.allclose(got, want, rtol=0 if autocast else 1e-2, atol=2e-6)


def test_training_with_it_makes_up_for_a_loss_by_quantization(rng: np.random.Generator) -> None:
    """A model with one unit a thousand times as large as the others: float training does not see what that does."""

    def data(count: int) -> tuple[Any, Any]:
        x = rng.standard_normal((count, 8)).astype(F)
        return torch.from_numpy(x), torch.from_numpy((np.hypot(x[:, 0], x[:, 1]) > 1.1).astype(np.int64))

    (x, y), (test_x, test_y) = data(1000), data(1000)

    def train(model: nn.Module, steps: int, rate: float) -> nn.Module:
        optimizer = torch.optim.Adam(model.parameters(), rate)
        for _ in range(steps):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()
        return model.eval()

    def accuracy(model: nn.Module) -> float:
        with torch.inference_mode():
            return float((model(test_x).argmax(1) == test_y).float().mean())

    torch.manual_seed(1)
    start = train(nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 2)), 200, 0.02)
    with torch.no_grad():
        start[0].weight[0] *= 1000
        start[0].bias[0] *= 1000
        start[2].weight[:, 0] /= 1000
    assert accuracy(start) > 0.9
    without = train(copy.deepcopy(start), 100, 0.01)
    prepared = train(dynq.torch.prepare_qat(start), 100, 0.01)
    quantized = dynq.torch.quantize_dynamic(dynq.torch.finish_qat(prepared))
    assert abs(accuracy(quantized) - accuracy(prepared)) < 0.005  # what training saw
    assert accuracy(quantized) > accuracy(dynq.torch.quantize_dynamic(without)) + 0.05


def test_the_example_of_the_page_runs() -> None:
    page = (Path(__file__).parents[3] / "docs/pytorch.md").read_text(encoding="utf-8")
    section = page.partition("## Quantization-aware training\n")[2].partition("\n## ")[0]
    names: dict[str, Any] = {"dynq": dynq, "torch": torch, "nn": nn}
    for code in re.findall(r"```python\n(.+?)```", section, re.DOTALL):
        exec(compile(code, "docs/pytorch.md", "exec"), names)
    assert [type(names["trained"][i]) for i in (0, 2)] == [nn.Linear] * 2
    assert type(names["int8"][0]) is dynq.torch.Linear
