"""Recurrent and convolutional modules of dynq.torch: torch.nn's shapes and answers, the bits of dynq's own graphs."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest

import dynq

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402
from torch.nn.utils.rnn import pack_padded_sequence  # noqa: E402

import dynq.torch as dt  # noqa: E402

LAYERS = [nn.LSTM, nn.GRU, nn.RNN]
CELLS = [nn.LSTMCell, nn.GRUCell, nn.RNNCell]


@pytest.fixture(autouse=True)
def _seed() -> Any:
    torch.manual_seed(0)
    with torch.no_grad():
        yield


def close(y: Any, right: Any) -> bool:
    return y.shape == right.shape and float((y - right).norm() / right.norm()) < 0.03


def states(module: Any, batch: int) -> Any:
    """Of a layer, random; and the same as a list."""
    shape = (module.num_layers * (2 if module.bidirectional else 1), batch, module.hidden_size)
    all_ = [torch.randn(shape) for _ in range(2 if isinstance(module, nn.LSTM) else 1)]
    return (tuple(all_) if len(all_) == 2 else all_[0]), all_


def listed(state: Any) -> list[Any]:
    return list(state) if isinstance(state, tuple) else [state]


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("batch_first", [False, True])
def test_layers_follow_torchs(kind: Any, layers: int, bidirectional: bool, batch_first: bool) -> None:
    for bias in (True, False):
        module = kind(24, 32, layers, bias=bias, batch_first=batch_first, bidirectional=bidirectional).eval()
        quantized = dt.quantize_dynamic(module)
        x = torch.randn(5, 7, 24)
        state, _ = states(module, 5 if batch_first else 7)
        for given in (None, state):
            (y, last), (right, right_last) = quantized(x, given), module(x, given)
            assert close(y, right)
            assert all(close(a, b) for a, b in zip(listed(last), listed(right_last), strict=True))
        assert close(quantized(x[0])[0], module(x[0])[0])
        for name, weight in module.named_parameters():
            assert close(getattr(quantized, name), weight)


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("enforce_sorted", [False, True])
def test_packed_sequences_follow_torchs(kind: Any, enforce_sorted: bool) -> None:
    module = kind(24, 32, 2, bidirectional=True, batch_first=True).eval()
    quantized = dt.quantize_dynamic(module)
    lengths = [7, 5, 3, 2, 1] if enforce_sorted else [2, 7, 1, 5, 3]
    packed = pack_padded_sequence(torch.randn(5, 7, 24), lengths, True, enforce_sorted=enforce_sorted)
    state, _ = states(module, 5)
    (y, last), (right, right_last) = quantized(packed, state), module(packed, state)
    assert close(y.data, right.data) and torch.equal(y.batch_sizes, right.batch_sizes)
    assert all(close(a, b) for a, b in zip(listed(last), listed(right_last), strict=True))


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("first_layer", ["float", "int8"])
def test_layers_have_the_bits_of_a_graph(kind: Any, first_layer: str) -> None:
    """What Graph.build makes of the same layer, the first projection kept float or not."""
    module = kind(8, 64, bidirectional=True).eval()
    order = {nn.LSTM: [0, 3, 1, 2], nn.GRU: [1, 0, 2], nn.RNN: [0]}[kind]

    def weight(name: str) -> Any:
        both = [getattr(module, f"{name}_l0{end}").detach().numpy() for end in ("", "_reverse")]
        return np.stack([w.reshape(len(order), 64, *w.shape[1:])[order].reshape(w.shape) for w in both])

    g = dynq.Graph()
    x = g.input("x", ("t", "b", 8))
    bias = np.concatenate([weight("bias_ih"), weight("bias_hh")], 1)
    make = getattr(g, kind.__name__.lower())
    y, *_ = make(x, weight("weight_ih"), weight("weight_hh"), bias, direction="bidirectional", name="layer")
    keep = ["layer.projection"] if first_layer == "float" else []
    model = g.build(y, keep_float=keep, first_layer="int8")
    quantized = dt.quantize_dynamic(module, first_layer=first_layer)
    data = torch.randn(5, 3, 8)
    right = np.moveaxis(model(data.numpy()), 1, 2).reshape(5, 3, 128)
    assert np.array_equal(quantized(data)[0].numpy(), right)
    assert ("weight_ih_l0 " in quantized.why.replace(",", " ")) == (first_layer == "float")


@pytest.mark.parametrize("kind", CELLS)
def test_cells_follow_torchs(kind: Any) -> None:
    for options in ({}, {"bias": False}, *([{"nonlinearity": "relu"}] if kind is nn.RNNCell else [])):
        module = kind(24, 32, **options).eval()
        quantized = dt.quantize_dynamic(module)
        x, h = torch.randn(3, 24), torch.randn(3, 32)
        state = (h, torch.randn(3, 32)) if kind is nn.LSTMCell else h
        for given in (None, state):
            outputs = zip(listed(quantized(x, given)), listed(module(x, given)), strict=True)
            assert all(close(a, b) for a, b in outputs)
        assert all(close(a, b) for a, b in zip(listed(quantized(x[0])), listed(module(x[0])), strict=True))
        second = dt.quantize_dynamic(kind(24, 32, **options).eval())
        second.load_state_dict(quantized.state_dict())
        assert all(torch.equal(a, b) for a, b in zip(listed(second(x)), listed(quantized(x)), strict=True))


@pytest.mark.parametrize("kind", [*CELLS, *LAYERS])
def test_no_sequences_give_empty_outputs(kind: Any) -> None:
    """A server's batch may run empty. A layer of no sequences gives outputs and states of none."""
    module = kind(24, 32).eval()
    x = torch.randn(0, 24) if kind in CELLS else torch.randn(5, 0, 24)
    outputs = zip(flat(dt.quantize_dynamic(module)(x)), flat(module(x)), strict=True)
    assert all(a.shape == b.shape and a.dtype == b.dtype for a, b in outputs)


def flat(outputs: Any) -> list[Any]:
    """Return all tensors in tuples of tuples."""
    return [outputs] if isinstance(outputs, torch.Tensor) else [x for part in outputs for x in flat(part)]


@pytest.mark.parametrize("kind", LAYERS)
def test_a_state_dict_is_plain_int8_and_loads_bit_for_bit(kind: Any) -> None:
    build = [kind(8, 32, 2, bidirectional=True).eval() for _ in range(2)]
    quantized, second = (dt.quantize_dynamic(module, first_layer="float") for module in build)
    state = quantized.state_dict()
    weight = dynq.quantize_weight(build[0].weight_hh_l1_reverse.numpy())
    assert np.array_equal(state["weight_hh_l1_reverse"].numpy(), weight.integers())
    assert np.array_equal(state["weight_hh_l1_reverse_scale"].numpy(), weight.scale)
    assert torch.equal(state["weight_ih_l0_reverse"], build[0].weight_ih_l0_reverse)
    assert torch.equal(state["bias_hh_l0"], build[0].bias_hh_l0)
    second.load_state_dict(state)
    x = torch.randn(5, 3, 8)
    right = quantized(x)[0]
    assert torch.equal(second(x)[0], right)
    for copied in (copy.deepcopy(quantized), pickle.loads(pickle.dumps(quantized))):
        assert torch.equal(copied(x)[0], right)
    second.load_state_dict(build[0].state_dict())  # float: is quantized
    assert torch.equal(second(x)[0], right)
    with pytest.raises(RuntimeError, match=r"weight_hh_l1 has shape \(1, 2\)"):
        second.load_state_dict({**state, "weight_hh_l1": torch.zeros(1, 2, dtype=torch.int8)})


def test_keep_float_names_weights_of_recurrent_modules() -> None:
    model = nn.ModuleDict({"lstm": nn.LSTM(24, 32, 2)}).eval()
    quantized = dt.quantize_dynamic(model, keep_float=["lstm.weight_*_l1"])["lstm"]
    assert torch.equal(quantized.weight_ih_l1, model["lstm"].weight_ih_l1)
    assert torch.equal(quantized.weight_hh_l1, model["lstm"].weight_hh_l1)
    assert not torch.equal(quantized.weight_ih_l0, model["lstm"].weight_ih_l0)
    assert "keep_float has weight_hh_l1, weight_ih_l1" in quantized.why
    assert close(quantized(torch.randn(5, 3, 24))[0], model["lstm"](torch.randn(5, 3, 24))[0]) is False
    x = torch.randn(5, 3, 24)
    assert close(quantized(x)[0], model["lstm"](x)[0])


def test_frames_one_by_one_give_the_bits_of_all_at_once() -> None:
    quantized = dt.quantize_dynamic(nn.LSTM(24, 32, 2, batch_first=True).eval())
    x = torch.randn(1, 6, 24)
    state, frames = None, []
    for i in range(6):
        y, state = quantized(x[:, i : i + 1], state)
        frames.append(y)
    assert torch.equal(torch.cat(frames, 1), quantized(x)[0])


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda m: m(torch.zeros(3, 2, 23)), ValueError, r"shape \(3, 2, 23\)"),
        (lambda m: m(torch.zeros(24)), ValueError, r"shape \(24,\)"),
        (lambda m: m(torch.zeros(3, 2, 24), torch.zeros(1)), TypeError, "hx"),
        (
            lambda m: m(torch.zeros(3, 2, 24), (torch.zeros(1, 2, 31), torch.zeros(1, 2, 32))),
            ValueError,
            "h_0 has shape",
        ),
        (
            lambda m: m(torch.zeros(3, 2, 24), (torch.zeros(1, 2, 32), torch.zeros(1, 3, 32))),
            ValueError,
            "c_0 has shape",
        ),
        (lambda m: m(torch.zeros(3, 2, 24, dtype=torch.float64)), TypeError, "float64"),
        (lambda m: m.train()(torch.zeros(3, 2, 24)), dynq.Error, "training mode"),
    ],
)
def test_a_wrong_input_is_named(call: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        call(dt.quantize_dynamic(nn.LSTM(24, 32).eval()))


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("batch_first", [False, True])
def test_projected_states_follow_torchs(bias: bool, bidirectional: bool, batch_first: bool) -> None:
    """Sizes and values are PyTorch's; the bits are those of dynq.lstm and of from_torch."""
    options = {"batch_first": batch_first, "bidirectional": bidirectional, "proj_size": 20}
    module, other = (nn.LSTM(24, 48, 2, bias, **options).eval() for _ in range(2))
    quantized = dt.quantize_dynamic(module, first_layer="int8")
    x, count, batch = torch.randn(5, 7, 24), 2 + 2 * bidirectional, 5 if batch_first else 7
    state = torch.randn(count, batch, 20) / 4, torch.randn(count, batch, 48)
    packed = pack_padded_sequence(x, [1 + i % 5 for i in range(batch)], batch_first, enforce_sorted=False)
    single = x[0], tuple(part[:, 0] for part in state)
    for given in ((x,), (x, state), (packed, state), single):
        (y, last), (right, right_last) = quantized(*given), module(*given)
        assert close(y.data, right.data)
        assert all(close(a, b) for a, b in zip(last, right_last, strict=True))
    got = [y.numpy() for y in (quantized(x, state)[0], *quantized(x, state)[1])]
    arrays = [part.numpy() for part in (x, *state)]
    weights = dynq.lstm_weights(module.state_dict(), batch_first=batch_first, first_layer="int8")
    y, last = dynq.lstm(arrays[0], weights, tuple(arrays[1:]))
    model = dynq.from_torch(module, (x, state), first_layer="int8")
    for one, two, three in zip(got, (y, *last), model(*arrays), strict=True):
        assert np.array_equal(one, two) and np.array_equal(one, three)
    assert (quantized.proj_size, "proj_size=20" in repr(quantized)) == (20, True)
    assert all(close(getattr(quantized, name), weight) for name, weight in module.named_parameters())
    second = dt.quantize_dynamic(other, first_layer="int8")
    for tensors in (quantized.state_dict(), module.state_dict()):
        second.load_state_dict(dt.quantize_dynamic(other, first_layer="int8").state_dict())
        second.load_state_dict(tensors)
        assert torch.equal(second(x, state)[0], quantized(x, state)[0])
    assert torch.equal(pickle.loads(pickle.dumps(quantized))(x)[0], quantized(x)[0])
    with pytest.raises(ValueError, match=rf"h_0 has shape \({count}, {batch}, 48\); expected \({count}, {batch}, 20\)"):
        quantized(x, (state[1], state[1]))


def test_keep_float_of_a_projection_keeps_all_that_a_state_goes_through() -> None:
    module = nn.LSTM(24, 32, 2, proj_size=8).eval()
    quantized = dt.quantize_dynamic(module, keep_float=["weight_hr_l1"])
    assert torch.equal(quantized.weight_hr_l1, module.weight_hr_l1)
    assert torch.equal(quantized.weight_hh_l1, module.weight_hh_l1)
    assert not torch.equal(quantized.weight_hr_l0, module.weight_hr_l0)
    assert "keep_float has weight_hh_l1, weight_hr_l1" in quantized.why


@pytest.mark.parametrize("kind", [*LAYERS, *CELLS])
def test_a_batch_may_be_empty(kind: Any) -> None:
    module, x = kind(24, 32).eval(), torch.zeros(3, 0, 24)
    x = x[0] if kind in CELLS else x
    got, right = (listed(one(x)) for one in (dt.quantize_dynamic(module), module))
    for a, b in zip(got, right, strict=True):
        assert [y.shape for y in listed(a)] == [y.shape for y in listed(b)]


def test_modules_with_the_same_weights_share_them() -> None:
    one, two = nn.GRU(24, 32).eval(), nn.GRU(24, 32).eval()
    for name, weight in one.named_parameters():
        setattr(two, name, weight)
    quantized = dt.quantize_dynamic(nn.ModuleList([one, two]).eval())
    assert quantized[0].image.data_ptr() == quantized[1].image.data_ptr()


# ---- Convolutions


@pytest.mark.filterwarnings("ignore:Using padding='same':UserWarning")
@pytest.mark.parametrize("mode", ["zeros", "reflect", "replicate", "circular"])
@pytest.mark.parametrize(
    ("spatial", "options"),
    [
        (1, {"kernel_size": 3}),
        (1, {"kernel_size": 5, "stride": 2, "padding": 3, "dilation": 2, "bias": False}),
        (2, {"kernel_size": (3, 4), "padding": "same"}),
        (2, {"kernel_size": (3, 4), "padding": "valid"}),
        (2, {"kernel_size": (3, 4), "padding": (1, 2), "stride": (2, 1), "dilation": (1, 2)}),
    ],
)
def test_convolutions_follow_torchs(mode: str, spatial: int, options: dict[str, Any]) -> None:
    kind = nn.Conv1d if spatial == 1 else nn.Conv2d
    module, other = (kind(16, 24, padding_mode=mode, **options).eval() for _ in range(2))
    quantized, second = dt.quantize_dynamic(module), dt.quantize_dynamic(other)
    assert type(quantized) is getattr(dt, kind.__name__)
    x = torch.randn(2, 16, *(20, 13)[:spatial])
    assert close(quantized(x), module(x)) and close(quantized(x[0]), module(x[0]))
    assert close(quantized.weight, module.weight)
    second.load_state_dict(quantized.state_dict())
    assert torch.equal(second(x), quantized(x))
    assert torch.equal(pickle.loads(pickle.dumps(quantized))(x), quantized(x))
    with pytest.raises(ValueError, match="shape"):
        quantized(x[:, :15])


@pytest.mark.parametrize("kind", [*LAYERS, *CELLS])
def test_recurrent_modules_take_inputs_and_states_that_require_a_gradient(kind: Any) -> None:
    module = dt.quantize_dynamic(kind(24, 32).eval())
    x, state = torch.randn(3, 24), torch.randn(3, 32)
    if kind in LAYERS:
        x, state = x[None], state[None]
    both = kind in (nn.LSTM, nn.LSTMCell)
    want, *_ = module(x, (state, state) if both else state)
    with torch.enable_grad():
        x, state = nn.Parameter(x) * 1, nn.Parameter(state)
        y, *_ = module(x, (state, state) if both else state)
        if kind in LAYERS:
            packed, _ = module(pack_padded_sequence(x, [1, 1, 1]), (state, state) if both else state)
            assert torch.equal(packed.data, want[0]) and not packed.data.requires_grad
    assert torch.equal(y, want) and not y.requires_grad


def test_convolutions_take_inputs_that_require_a_gradient() -> None:
    module = dt.quantize_dynamic(nn.Conv1d(16, 24, 3).eval())
    x = torch.randn(2, 16, 9)
    with torch.enable_grad():
        y = module(nn.Parameter(x) * 1)
    assert torch.equal(y, module(x)) and not y.requires_grad


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_the_default_dtype_does_not_matter(dtype: Any) -> None:
    modules = [kind(24, 32).eval() for kind in (*LAYERS, *CELLS)]
    attention, table = nn.MultiheadAttention(24, 2).eval(), nn.Embedding(10, 24).eval()
    x, index, padding = torch.randn(1, 3, 24), torch.arange(10), torch.tensor([[False]] * 3)

    def run() -> list[Any]:
        recurrent = [dt.quantize_dynamic(m)(x if isinstance(m, nn.RNNBase) else x[0]) for m in modules]
        first = [y[0] if isinstance(y, tuple) else y for y in recurrent]
        attended = dt.quantize_dynamic(attention)(x, x, x, key_padding_mask=padding)
        return [*first, *attended, dt.quantize_dynamic(table)(index)]

    want, before = run(), torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        got = run()
    finally:
        torch.set_default_dtype(before)
    assert all(a.dtype == torch.float32 and torch.equal(a, b) for a, b in zip(got, want, strict=True))


def test_a_convolution_has_the_bits_of_a_graph() -> None:
    module = nn.Conv1d(16, 24, 3, stride=2, padding=1).eval()
    g = dynq.Graph()
    weight, bias = module.weight.detach().numpy(), module.bias.detach().numpy()
    model = g.build(g.conv(g.input("x", ("b", 16, "t")), weight, bias, strides=2, pads=1), first_layer="int8")
    x = torch.randn(2, 16, 21)
    assert np.array_equal(dt.quantize_dynamic(module)(x).numpy(), model(x.numpy()))


def test_convolutions_that_lose_most_stay_float_and_say_so() -> None:
    model = nn.Sequential(nn.Conv1d(16, 24, 3), nn.Conv1d(24, 24, 3, groups=24), nn.Conv1d(24, 8, 3)).eval()
    with pytest.warns(dt.NotConvertedWarning, match="^35 % of the weights stay float .*: Conv1d 35 %$"):
        rows = dt.report(dt.quantize_dynamic(model)).rows
    assert [row.became for row in rows] == ["int8 Conv1d", "float Conv1d", "float Conv1d"]
    assert "groups" in rows[1].why and "8 outputs" in rows[2].why


def test_the_model_of_a_tensor_that_changed_or_went_is_not_used() -> None:
    x = torch.randn(2, 16, 9)
    for _ in range(20):  # images that come to lie where others lay
        module = nn.Conv1d(16, 24, 3).eval()
        assert close(dt.quantize_dynamic(module)(x), module(x))
    quantized, other = dt.quantize_dynamic(module), nn.Conv1d(16, 24, 3).eval()
    address = quantized.image.data_ptr()
    quantized(x)
    quantized.load_state_dict(other.state_dict())
    assert quantized.image.data_ptr() == address and close(quantized(x), other(x))
    quantized.image.share_memory_()
    assert quantized.image.data_ptr() != address and close(quantized(x), other(x))
