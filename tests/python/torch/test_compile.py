"""torch.compile without a graph break, torch.export with open sizes, torch.library's own checks of the operators."""

from __future__ import annotations

import io
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402
from torch.export import Dim  # noqa: E402

import dynq.torch as dt  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def encoder() -> Any:
    layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True)
    return nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)


MODELS = {
    "linear": (lambda: nn.Sequential(nn.Linear(32, 16), nn.ReLU(), nn.Linear(16, 8)), (2, 5, 32)),
    "encoder": (encoder, (2, 5, 32)),
    "lstm": (lambda: nn.LSTM(32, 16, 2, batch_first=True), (2, 5, 32)),
    "gru": (lambda: nn.GRU(32, 16, bidirectional=True), (2, 5, 32)),
    "rnn": (lambda: nn.RNN(32, 16), (2, 5, 32)),
    "conv": (lambda: nn.Sequential(nn.Conv1d(32, 16, 3, padding=1), nn.ReLU()), (2, 32, 7)),
}


def flat(outputs: Any) -> list[Any]:
    return [outputs] if isinstance(outputs, torch.Tensor) else [t for o in outputs for t in flat(o)]


def same(a: Any, b: Any) -> bool:
    return all(torch.allclose(x, y, atol=1e-6) for x, y in zip(flat(a), flat(b), strict=True))


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("grad", [False, True])
def test_compiled_models_are_one_graph(name: str, grad: bool) -> None:
    build, shape = MODELS[name]
    quantized = dt.quantize_dynamic(build().eval())
    torch.compiler.reset()
    compiled = torch.compile(quantized, fullgraph=True, backend="aot_eager")
    with torch.set_grad_enabled(grad):
        x = torch.randn(shape)
        assert same(compiled(x), quantized(x))
        wider = torch.randn(3, *shape[1:])
        assert same(compiled(wider), quantized(wider))


@pytest.mark.parametrize("name", MODELS)
def test_exported_models_have_open_sizes_and_can_be_saved(name: str) -> None:
    build, shape = MODELS[name]
    quantized = dt.quantize_dynamic(build().eval())
    second = Dim("second", min=2, max=64)
    sizes = {0: Dim("first", min=2, max=64), (2 if name == "conv" else 1): second}
    program = torch.export.export(quantized, (torch.randn(shape),), dynamic_shapes=(sizes,))
    file = io.BytesIO()
    torch.export.save(program, file)
    file.seek(0)
    x = torch.randn(3, 32, 9) if name == "conv" else torch.randn(3, 9, 32)
    for exported in (program, torch.export.load(file)):
        assert same(exported.module()(x), quantized(x))
    assert any("dynq" in str(node.target) for node in program.graph.nodes)


@pytest.mark.parametrize("kind", [nn.Embedding, nn.EmbeddingBag])
def test_compiled_tables_are_one_graph(kind: Any) -> None:
    quantized = dt.quantize_dynamic(kind(20, 16).eval())
    torch.compiler.reset()
    index = torch.tensor([[1, 2], [3, 19]])
    assert same(torch.compile(quantized, fullgraph=True, backend="aot_eager")(index), quantized(index))


def test_operators_pass_the_checks_of_torch_library() -> None:
    quantized = dt.quantize_dynamic(nn.Linear(40, 24).eval())
    for grad in (False, True):
        x = torch.randn(3, 40, requires_grad=grad)
        torch.library.opcheck(torch.ops.dynq.linear.default, (x, quantized.packed, quantized.bias, 24))
        torch.library.opcheck(torch.ops.dynq.linear.default, (x, quantized.packed, None, 24, 16, 8))
    for kind in (nn.LSTM, nn.GRU, nn.RNN):
        layer, x, state = dt.quantize_dynamic(kind(24, 32, 2).eval()), torch.randn(4, 2, 24), torch.zeros(2, 2, 32)
        states = (state, state) if kind is nn.LSTM else (state,)
        operator = getattr(torch.ops.dynq, kind.__name__.lower()).default
        torch.library.opcheck(operator, (x, *states, None, layer.image, 1))
    conv = dt.quantize_dynamic(nn.Conv1d(16, 24, 3).eval())
    arguments = (torch.randn(2, 16, 9), conv.image, 24, [3], [2], [1, 0], [2])
    fake = torch._subclasses.FakeTensorMode()
    with fake:
        shape = torch.ops.dynq.conv(
            *(fake.from_tensor(a) if isinstance(a, torch.Tensor) else a for a in arguments)
        ).shape
    assert (
        shape
        == nn.functional.conv1d(nn.functional.pad(arguments[0], (1, 0)), torch.zeros(24, 16, 3), None, 2, 0, 2).shape
    )
    torch.library.opcheck(torch.ops.dynq.conv.default, (torch.randn(2, 16, 9), conv.image, 24, [3], [1], [0, 0], [1]))


def test_linear_writes_to_a_tensor_that_is_given() -> None:
    quantized = dt.quantize_dynamic(nn.Linear(40, 24).eval())
    x, out = torch.randn(3, 40), torch.empty(3, 24)
    result = torch.ops.dynq.linear.out(x, quantized.packed, quantized.bias, 24, out=out)
    assert result is out and torch.equal(out, quantized(x))
    with pytest.raises(ValueError, match=r"out is torch\.float32"):
        torch.ops.dynq.linear.out(x, quantized.packed, quantized.bias, 24, out=torch.empty(3, 25))
    with pytest.raises(ValueError, match=r"packed is torch\.uint8"):
        torch.ops.dynq.linear(x, quantized.packed, quantized.bias, 40)


def test_linear_takes_a_bias_for_each_channel_wherever_it_lies() -> None:
    quantized = dt.quantize_dynamic(nn.Linear(40, 24, bias=False).eval())
    x, bias = torch.randn(3, 40), torch.arange(48.0)[::2]
    y = torch.ops.dynq.linear(x, quantized.packed, bias, 24)
    assert torch.equal(y, torch.ops.dynq.linear(x, quantized.packed, None, 24) + bias)
    for wrong in (bias[:1], torch.zeros(25), torch.zeros(1, 24)):
        with pytest.raises(ValueError, match=r"bias has shape .*; expected \(24,\)"):
            torch.ops.dynq.linear(x, quantized.packed, wrong, 24)


def test_a_counter_of_operations_sees_the_operator() -> None:
    quantized, seen = dt.quantize_dynamic(nn.Linear(40, 24).eval()), []

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):  # type: ignore[misc]
        def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            seen.append(str(function))
            return function(*args, **(kwargs or {}))

    x = torch.randn(3, 40)
    with Watch():
        quantized(x)
    assert seen == ["dynq.linear.default"]
