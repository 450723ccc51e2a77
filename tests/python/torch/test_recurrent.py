"""``dynq.lstm``, ``gru`` and ``rnn`` with the weights of PyTorch's modules give what these give."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import dynq

torch = pytest.importorskip("torch")

KINDS = ["LSTM", "GRU", "RNN"]


def pair(kind: str, state: Any) -> Any:
    return tuple(part.numpy() for part in state) if kind == "LSTM" else state.numpy()


def close(kind: str, got: Any, expected: Any, atol: float) -> None:
    """y and the states of dynq and of PyTorch."""
    np.testing.assert_allclose(got[0], expected[0].numpy(), atol=atol)
    for one, other in zip(*(x[1] if kind == "LSTM" else x[1:] for x in (got, expected)), strict=True):
        np.testing.assert_allclose(one, other.numpy(), atol=atol)


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_modules_and_packed_sequences(kind: str, bidirectional: bool, batch_first: bool) -> None:
    torch.manual_seed(0)
    module = getattr(torch.nn, kind)(12, 40, 2, bidirectional=bidirectional, batch_first=batch_first).eval()
    run = getattr(dynq, kind.lower())
    x = torch.randn(3, 7, 12) if batch_first else torch.randn(7, 3, 12)
    state = torch.randn(2 + 2 * bidirectional, 3, 40).tanh()
    state = (state, torch.randn_like(state)) if kind == "LSTM" else state
    lengths = [4, 7, 2]
    packed = torch.nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=batch_first, enforce_sorted=False)
    with torch.inference_mode():
        whole, bare = module(x, state), module(x)
        short = module(packed, state)
        short = (torch.nn.utils.rnn.pad_packed_sequence(short[0], batch_first=batch_first)[0], short[1])
    for options, atol in (({"quantize": False}, 1e-5), ({}, 0.03)):
        weights = getattr(dynq, f"{kind.lower()}_weights")(module.state_dict(), batch_first=batch_first, **options)
        close(kind, run(x.numpy(), weights, pair(kind, state)), whole, atol)
        close(kind, run(x.numpy(), weights), bare, atol)
        close(kind, run(x.numpy(), weights, pair(kind, state), lengths=lengths), short, atol)


@pytest.mark.parametrize("kind", KINDS)
def test_cells(kind: str) -> None:
    torch.manual_seed(1)
    cell = getattr(torch.nn, f"{kind}Cell")(12, 24, bias=kind != "GRU")
    weights = getattr(dynq, f"{kind.lower()}_weights")(cell.state_dict(), quantize=False)
    x, h = torch.randn(5, 12), torch.randn(5, 24)
    with torch.inference_mode():
        expected = cell(x, (h, h) if kind == "LSTM" else h)
    state = (h[None].numpy(),) * 2 if kind == "LSTM" else h[None].numpy()
    y, last = getattr(dynq, kind.lower())(x[None].numpy(), weights, state)
    np.testing.assert_allclose(y[0], (expected[0] if kind == "LSTM" else expected).numpy(), atol=1e-5)
    if kind == "LSTM":
        np.testing.assert_allclose(last[1][0], expected[1].numpy(), atol=1e-5)


def test_relu() -> None:
    torch.manual_seed(2)
    module = torch.nn.RNN(6, 10, nonlinearity="relu", bidirectional=True)
    weights = dynq.rnn_weights(module.state_dict(), activations="Relu", quantize=False)
    x = torch.randn(4, 2, 6)
    with torch.inference_mode():
        close("RNN", dynq.rnn(x.numpy(), weights), module(x), 1e-5)


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
def test_projections(bidirectional: bool, batch_first: bool) -> None:
    torch.manual_seed(3)
    module = torch.nn.LSTM(12, 48, 2, proj_size=20, bidirectional=bidirectional, batch_first=batch_first).eval()
    x = torch.randn(3, 7, 12) if batch_first else torch.randn(7, 3, 12)
    count = 2 + 2 * bidirectional
    state = torch.randn(count, 3, 20) / 4, torch.randn(count, 3, 48)
    packed = torch.nn.utils.rnn.pack_padded_sequence(x, [4, 7, 2], batch_first=batch_first, enforce_sorted=False)
    with torch.inference_mode():
        whole, bare, short = module(x, state), module(x), module(packed, state)
        short = (torch.nn.utils.rnn.pad_packed_sequence(short[0], batch_first=batch_first)[0], short[1])
    for options, atol in (({"quantize": False}, 1e-5), ({}, 0.03)):
        weights = dynq.lstm_weights(module.state_dict(), batch_first=batch_first, **options)
        assert (weights.hidden_size, weights.proj_size) == (48, 20)
        close("LSTM", dynq.lstm(x.numpy(), weights, pair("LSTM", state)), whole, atol)
        close("LSTM", dynq.lstm(x.numpy(), weights), bare, atol)
        close("LSTM", dynq.lstm(x.numpy(), weights, pair("LSTM", state), lengths=[4, 7, 2]), short, atol)


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_a_module_with_a_projection_is_imported(bidirectional: bool, bias: bool) -> None:
    torch.manual_seed(4)
    module = torch.nn.LSTM(12, 48, 2, bias, batch_first=True, proj_size=20, bidirectional=bidirectional).eval()
    count = 2 + 2 * bidirectional
    x, state = torch.randn(3, 7, 12), (torch.randn(count, 3, 20) / 4, torch.randn(count, 3, 48))
    with torch.inference_mode():
        y, last = module(x, state)
    for options, atol in (({"quantize": False}, 1e-5), ({}, 0.03)):
        model = dynq.from_torch(module, (x, state), **options)
        for got, expected in zip(model(x.numpy(), *pair("LSTM", state)), (y, *last), strict=True):
            np.testing.assert_allclose(got, expected.numpy(), atol=atol)
