"""Converted modules within torch.vmap, jit and fx, and with weights and inputs that lie in unusual memory."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
from torch import Tensor, nn  # noqa: E402

import dynq  # noqa: E402
import dynq.torch as dt  # noqa: E402

MODULES: dict[str, tuple[Callable[[], nn.Module], Callable[[], Tensor]]] = {
    "Linear": (lambda: nn.Linear(32, 48), lambda: torch.randn(3, 4, 32)),
    "Conv1d": (lambda: nn.Conv1d(16, 24, 3), lambda: torch.randn(3, 2, 16, 9)),
    "Conv2d": (lambda: nn.Conv2d(16, 24, 3), lambda: torch.randn(3, 2, 16, 5, 5)),
    "LSTM": (lambda: nn.LSTM(16, 24), lambda: torch.randn(3, 5, 2, 16)),
    "GRU": (lambda: nn.GRU(16, 24), lambda: torch.randn(3, 5, 2, 16)),
    "RNNCell": (lambda: nn.RNNCell(16, 24), lambda: torch.randn(3, 2, 16)),
    "Embedding": (lambda: nn.Embedding(20, 16), lambda: torch.arange(6).view(3, 2)),
    "EmbeddingBag": (lambda: nn.EmbeddingBag(20, 16), lambda: torch.arange(12).view(3, 2, 2)),
    "MultiheadAttention": (lambda: nn.MultiheadAttention(32, 4), lambda: torch.randn(3, 5, 2, 32)),
}
each_module = pytest.mark.parametrize("kind", MODULES)


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def module_and_input(kind: str) -> tuple[Any, Callable[[Tensor], Tensor], Tensor]:
    """A converted module, a function that calls it, and an input with a dimension more than it takes."""
    make, inputs = MODULES[kind]
    module = dt.quantize_dynamic(nn.Sequential(make()).eval())[0]

    def call(x: Tensor) -> Tensor:
        y = module(x, x, x) if kind == "MultiheadAttention" else module(x)
        result: Tensor = y[0] if isinstance(y, tuple) else y
        return result

    return module, call, inputs()


@each_module
@pytest.mark.filterwarnings("ignore:There is a performance drop")  # torch's own embedding_bag
@pytest.mark.parametrize("dim", [0, 1])
def test_vmap_gives_the_bits_of_each_call_alone(kind: str, dim: int) -> None:
    _, call, x = module_and_input(kind)
    got = torch.vmap(call, in_dims=dim)(x.movedim(0, dim).contiguous())
    assert torch.equal(got, torch.stack([call(part) for part in x]))


def test_vmap_over_weights_and_biases() -> None:
    a, b = (dt.quantize_dynamic(nn.Linear(32, 16).eval()) for _ in range(2))
    x, packed, bias = torch.randn(4, 32), torch.stack([a.packed, b.packed]), torch.stack([a.bias, b.bias])
    got = torch.vmap(lambda p, c: torch.ops.dynq.linear(x, p, c, 16))(packed, bias)
    assert torch.equal(got, torch.stack([a(x), b(x)]))


@each_module
@pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")
def test_script_and_fx_say_what_to_do(kind: str) -> None:
    module, _, _ = module_and_input(kind)
    name = type(module).__name__
    with pytest.raises(dynq.Error, match=rf"cannot compile dynq.torch.{name}; torch.jit.trace, torch.export and"):
        torch.jit.script(nn.Sequential(module))
    with pytest.raises(TypeError, match=rf"cannot go into dynq.torch.{name}; give it a Tracer whose is_leaf_module"):
        torch.fx.symbolic_trace(module if kind == "MultiheadAttention" else nn.Sequential(module))


def test_fx_takes_a_model_whose_converted_modules_are_leaves() -> None:
    class Tracer(torch.fx.Tracer):  # type: ignore[misc]
        def is_leaf_module(self, m: nn.Module, name: str) -> bool:
            return type(m).__module__.startswith("dynq.") or super().is_leaf_module(m, name)

    model = dt.quantize_dynamic(nn.Sequential(nn.Linear(32, 16), nn.ReLU()).eval())
    x = torch.randn(2, 32)
    assert torch.equal(torch.fx.GraphModule(model, Tracer().trace(model))(x), model(x))


@each_module
@pytest.mark.filterwarnings("ignore")
def test_jit_trace_takes_converted_modules(kind: str) -> None:
    module, call, x = module_and_input(kind)
    arguments = (x[0],) * (3 if kind == "MultiheadAttention" else 1)
    y = torch.jit.trace(module, arguments)(*arguments)
    assert torch.equal(y[0] if isinstance(y, tuple) else y, call(x[0]))


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda x: x.to_sparse(), r"torch.sparse_coo; expected a dense tensor: to_dense\(\)"),
        (lambda x: x.to_sparse_csr(), r"torch.sparse_csr; expected a dense tensor: to_dense\(\)"),
        (lambda x: x.to_mkldnn(), r"torch._mkldnn; expected a dense tensor: to_dense\(\)"),
        (lambda x: torch.nested.nested_tensor([x, x[:1]]), r"nested; expected a dense tensor: to_padded_tensor\(\)"),
    ],
)
def test_an_input_that_is_not_dense_is_named(make: Any, text: str) -> None:
    layer = dt.quantize_dynamic(nn.Linear(32, 16).eval())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        x = make(torch.randn(4, 32))
    with pytest.raises(TypeError, match=f"the input of dynq.torch.Linear is {text}"):
        layer(x)


def move(module: nn.Module, offset: int) -> None:
    """Put each buffer ``offset`` bytes behind where weights are aligned."""
    for part in module.modules():
        for name, old in part._buffers.items():
            if old is None or offset % old.element_size():
                continue
            size = old.numel() * old.element_size()
            memory = torch.empty(size + 128, dtype=torch.uint8)
            begin = -memory.data_ptr() % 64 + offset
            part._buffers[name] = memory[begin : begin + size].view(old.dtype).view(old.shape).copy_(old)


@each_module
@pytest.mark.parametrize("offset", [1, 4, 16, 32])
def test_weights_may_lie_anywhere(kind: str, offset: int) -> None:
    module, call, x = module_and_input(kind)
    want = call(x[0])
    state = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    move(module, offset)
    for _ in range(2):
        assert torch.equal(call(x[0]), want)
    assert all(torch.equal(tensor, state[name]) for name, tensor in module.state_dict().items())


def test_a_weight_that_lies_anywhere_and_changes_is_read_anew() -> None:
    layer, x = dt.quantize_dynamic(nn.Linear(32, 16).eval()), torch.randn(2, 32)
    move(layer, 8)
    layer(x)
    layer.weight.data.zero_()
    assert torch.equal(layer(x), layer.bias.expand(2, 16))
    for _ in range(20):  # others that come to lie where this one lay
        layer = dt.quantize_dynamic(nn.Linear(32, 16).eval())
        want = layer(x)
        move(layer, 8)
        assert torch.equal(layer(x), want)


@each_module
def test_a_mapped_file_gives_the_same(kind: str, tmp_path: Path) -> None:
    module, call, x = module_and_input(kind)
    want = call(x[0])
    torch.save(module, tmp_path / "module.pt")
    loaded = torch.load(tmp_path / "module.pt", mmap=True, weights_only=False)
    arguments = (x[0],) * (3 if kind == "MultiheadAttention" else 1)
    y = loaded(*arguments)
    assert torch.equal(y[0] if isinstance(y, tuple) else y, want)
