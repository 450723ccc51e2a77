"""dynq.from_torch, op by op: what a module gives, the model gives in float32."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import torch.nn.functional as F  # noqa: E402
from torch import nn  # noqa: E402

import dynq  # noqa: E402
from tests.python.references.op_cases import FUNCTIONS  # noqa: E402


class Functions(nn.Module):
    """Functions of the same inputs as one module."""

    def __init__(self, functions: dict[str, Callable[..., Any]]) -> None:
        super().__init__()
        self.functions = functions

    def forward(self, *inputs: Any) -> Any:
        return {name: function(*inputs) for name, function in self.functions.items()}


def floats(*shape: int, seed: int = 0) -> Any:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def integers(*shape: int, high: int = 5) -> Any:
    return torch.randint(0, high, shape, generator=torch.Generator().manual_seed(1))


def put(x: Any, places: Any, values: Any) -> Any:
    """Return a copy of x with values at some places."""
    result = x.clone()
    result[places] = values
    return result


def check(
    functions: dict[str, Callable[..., Any]],
    *inputs: Any,
    tolerance: float = 2e-6,
    dynamic: bool = False,
    other: Any = (),
) -> None:
    """A model of functions or modules gives what they do, for the inputs and for others of another batch."""
    module = Functions(functions).eval()
    for function in functions.values():
        if isinstance(function, nn.Module):
            function.eval()
    model = dynq.from_torch(module, inputs, quantize=False, dynamic_shapes="batch" if dynamic else None)
    for given in (inputs, other) if other else (inputs,):
        results = iter(model(*(tensor.numpy() for tensor in given)) if len(model.outputs) > 1 else [model(*given)])
        for name, function in functions.items():
            with torch.no_grad():
                expected = torch.utils._pytree.tree_leaves(function(*given))
            for tensor in expected:
                compare(name, next(results), tensor.numpy(), tolerance)


def compare(name: str, result: Any, expected: Any, tolerance: float) -> None:
    assert (name, result.shape, result.dtype) == (name, expected.shape, expected.dtype)
    if expected.dtype.kind == "f":
        np.testing.assert_allclose(result, expected, rtol=tolerance, atol=tolerance, err_msg=name)
    else:
        np.testing.assert_array_equal(result, expected, err_msg=name)


UNARY = {
    # Functions of the table of ops that torch has under their names.
    **{
        name: getattr(torch, name, None) or getattr(F, name)
        for name in (op.name.lower() for op in FUNCTIONS.values() if op.shape_rule == "SAME" and not op.attributes)
        if name not in ("not", "clip") and (hasattr(torch, name) or hasattr(F, name))
    },
    "selu": F.selu,
    "silu": F.silu,
    "hardsigmoid": F.hardsigmoid,
    "hardtanh": F.hardtanh,
    "relu6": F.relu6,
    "logsigmoid": F.logsigmoid,
    "elu": lambda x: F.elu(x, 0.7),
    "celu": lambda x: F.celu(x, 0.7),
    "leaky_relu": lambda x: F.leaky_relu(x, 0.2),
    "gelu": F.gelu,
    "gelu tanh": lambda x: F.gelu(x, approximate="tanh"),
    "glu": lambda x: F.glu(x, 1),
    "threshold": lambda x: F.threshold(x, 0.1, -2.0),
    "square": torch.square,
    "rsqrt": lambda x: torch.rsqrt(x.abs() + 1),
    "log2": lambda x: torch.log2(x.abs() + 1),
    "log10": lambda x: (x.abs() + 1).log10(),
    "power": lambda x: x**3,
    "root": lambda x: (x.abs() + 1) ** -0.5,
    "power of a number": lambda x: 10.0**x,
    "clamp": lambda x: x.clamp(-0.5, 1),
    "clamp min": lambda x: x.clamp(min=0.2),
    "clamp max": lambda x: x.clamp_max(0.2),
    "nan": lambda x: torch.isnan(torch.sqrt(x)),
    "in place": lambda x: x.clone().mul_(2).add_(1).relu_(),
    "lerp": lambda x: torch.lerp(x, x * 2, 0.3),
    "addcmul": lambda x: torch.addcmul(x, x, x, value=0.5),
    "softmax": lambda x: x.softmax(-1),
    "log softmax": lambda x: x.log_softmax(1),
    "dropout": lambda x: F.dropout(x, 0.5, False),
    "rsub": lambda x: 3 - x,
    "alpha": lambda x: torch.add(x, x * x, alpha=3),
    "div floor": lambda x: torch.div(x, 0.3, rounding_mode="floor"),
    "div trunc": lambda x: torch.div(x, 0.3, rounding_mode="trunc"),
    "remainder": lambda x: x % 0.7,
    "fmod": lambda x: torch.fmod(x, 0.7),
    "float64": lambda x: (x.double() * 2).float(),
    "half": lambda x: x * torch.tensor(0.5, dtype=torch.float16),
    "to bool": lambda x: (x > 0).float() * 2,
    "masked fill": lambda x: x.masked_fill(x > 0, -1e9),
    "where": lambda x: torch.where(x > 0, x, 0.5),
    "ne": lambda x: (x != 0) & ~(x < 1) | (x >= 0.5),
    "maximum": lambda x: torch.maximum(x, x.flip(0)),
    "logical": lambda x: torch.logical_xor(x > 0, x < 1),
}


def test_elements() -> None:
    check(UNARY, floats(3, 4, 6) * 2)


INTEGER = {
    "floor div": lambda a, b: a // b,
    "remainder": lambda a, b: a % b,
    "true div": lambda a, b: a / b,
    "compare": lambda a, b: (a > b) | (a == 2),
    "mixed": lambda a, b: a * 0.5 + b,
    "max": lambda a, b: torch.maximum(a, b),
    "sum": lambda a, b: (a + b).sum(1),
    "mean": lambda a, b: a.float().mean(),
    "abs": lambda a, b: (-a).abs() - b,
    "bool sum": lambda a, b: (a > b).sum(),
    "int32": lambda a, b: a.int() + b.int(),
    "any": lambda a, b: ((a > b).any(1), (a > -9).all()),
}


def test_whole_numbers() -> None:
    check(INTEGER, integers(4, 5, high=20) - 10, integers(4, 5, high=5) + 1)


MOVEMENT = {
    "view": lambda x: x.reshape(x.shape[0], -1),
    "flatten": lambda x: x.flatten(1),
    "unflatten": lambda x: x.unflatten(2, (2, 3)),
    "transpose": lambda x: x.transpose(0, 2),
    "permute": lambda x: x.permute(2, 0, 1),
    "mT": lambda x: x.mT,
    "movedim": lambda x: x.movedim(0, -1),
    "squeeze": lambda x: x[:, :1].squeeze(1),
    "squeeze all": lambda x: x[:, :1].squeeze(),
    "unsqueeze": lambda x: x.unsqueeze(-1),
    "expand": lambda x: x[:, :1].expand(-1, 7, -1),
    "expand as": lambda x: x[:, :1].expand_as(x),
    "repeat": lambda x: x.repeat(2, 1, 1, 2),
    "tile": lambda x: x.tile(2),
    "repeat interleave": lambda x: x.repeat_interleave(2, 1),
    "cat": lambda x: torch.cat([x, x * 2], 1),
    "stack": lambda x: torch.stack([x, x * 2], 2),
    "split": lambda x: x.split(4, -1),
    "chunk": lambda x: x.chunk(3, 1)[0],
    "unbind": lambda x: x.unbind(1)[2],
    "slice": lambda x: x[:, 1:-1, ::2],
    "select": lambda x: x[:, -1],
    "narrow": lambda x: x.narrow(2, 1, 3),
    "index": lambda x: x[:, torch.tensor([2, 0, 0])],
    "index apart": lambda x: x[torch.tensor([[1], [0]]), :, torch.tensor([2, 0, 0])],
    "indices": lambda x: x[torch.tensor([[1], [0]]), torch.tensor([0, 2])],
    "inner indices": lambda x: x[:, torch.tensor([1, 0]), torch.tensor([0, 2])],
    "index select": lambda x: x.index_select(1, torch.tensor([1, 1])),
    "gather": lambda x: x.gather(1, x.argsort(1)),
    "scatter": lambda x: x.scatter(1, torch.zeros(1, 2, 3, dtype=torch.int64) + 1, x * 2),
    "scatter a number": lambda x: x.scatter(-1, torch.zeros(1, 1, 2, dtype=torch.int64), 1.5),
    "index copy": lambda x: x.index_copy(1, torch.tensor([2, 0]), x[:, :2] + 1),
    "put at indices": lambda x: put(x, (slice(None), torch.tensor([2, 0])), 3.0),
    "put at inner indices": lambda x: put(
        x, (slice(None), torch.tensor([[1], [0]]), torch.tensor([0, 2])), x[:, :2, :2]
    ),
    "put at a mask": lambda x: put(x, x > 0, 7.0),
    "unfold": lambda x: x.unfold(2, 2, 1) * 1,
    "flip": lambda x: x.flip(1, 2),
    "roll": lambda x: x.roll(1, 1),
    "pad": lambda x: F.pad(x, (1, 2, 0, 1), value=3.0),
    "reflect": lambda x: F.pad(x, (2, 1), mode="reflect"),
    "replicate": lambda x: F.pad(x, (2, 1), mode="replicate"),
    "crop": lambda x: F.pad(x, (-1, 2)),
    "tril": lambda x: x.tril(1),
    "triu": lambda x: x.triu(-1),
    "where index": lambda x: torch.where(torch.arange(x.shape[2]) > 2, x, 0.0),
    "zeros": lambda x: torch.cat([x, torch.zeros(x.shape[0], 1, 6)], 1),
    "full like": lambda x: torch.full_like(x, 2.5) + x,
    "new ones": lambda x: x.new_ones(x.shape[1]) + x.sum(2),
    "arange": lambda x: x + torch.arange(x.shape[1]).view(1, -1, 1),
    "write a row": lambda x: _write(x),
    "shape": lambda x: x / x.shape[1],
}


def _write(x: Any) -> Any:
    y = x * 2
    y[:, 0] = 1
    y[:, 2:, 1:3] += 3
    return y


def test_elements_that_move() -> None:
    check(MOVEMENT, floats(3, 4, 6))


def test_elements_that_move_in_batches_of_any_size() -> None:
    # Rows 0 and 1 are in every batch of two, and one of one has another rank.
    static = ("indices", "index apart", "squeeze all")
    functions = {name: function for name, function in MOVEMENT.items() if name not in static}
    check(functions, floats(3, 4, 6), dynamic=True, other=(floats(1, 4, 6),))


REDUCTIONS = {
    "sum": lambda x: x.sum(),
    "sum of an axis": lambda x: x.sum(1, keepdim=True),
    "mean": lambda x: x.mean((0, -1)),
    "amax": lambda x: x.amax(1),
    "amin": lambda x: x.amin((1, 2)),
    "max": lambda x: x.max(),
    "max of an axis": lambda x: x.max(1),
    "min of an axis": lambda x: x.min(2, keepdim=True).values,
    "argmax": lambda x: x.argmax(-1),
    "argmin": lambda x: x.argmin(1, keepdim=True),
    "argmax of all": lambda x: x.argmax(),
    "var": lambda x: x.var(1),
    "std": lambda x: x.std((1, 2), correction=0),
    "var mean": lambda x: torch.var_mean(x, 2),
    "norm": lambda x: x.norm(dim=-1),
    "normalize": lambda x: F.normalize(x, dim=1),
    "l1": lambda x: torch.linalg.vector_norm(x, 1, dim=1),
    "logsumexp": lambda x: x.logsumexp(1),
    "cumsum": lambda x: x.cumsum(1),
    "topk": lambda x: x.topk(3, 1),
    "sort": lambda x: x.sort(2),
    "prod": lambda x: x.prod(1),
}


def test_reductions() -> None:
    check(REDUCTIONS, floats(3, 4, 6), tolerance=5e-6, dynamic=True, other=(floats(5, 4, 6, seed=3),))


PRODUCTS = {
    "linear": (nn.Linear(6, 5), floats(2, 3, 6)),
    "no bias": (nn.Linear(6, 5, bias=False), floats(6)),
    "matmul": (torch.matmul, floats(2, 3, 6), floats(6, 4)),
    "bmm": (torch.bmm, floats(2, 3, 6), floats(2, 6, 4)),
    "mm": (torch.mm, floats(3, 6), floats(6, 4)),
    "mv": (torch.mv, floats(3, 6), floats(6)),
    "addmm": (lambda a, b, c: torch.addmm(a, b, c, beta=0.5, alpha=2), floats(4), floats(3, 6), floats(6, 4)),
    "baddbmm": (torch.baddbmm, floats(2, 3, 4), floats(2, 3, 6), floats(2, 6, 4)),
    "einsum": (lambda a, b: torch.einsum("bik,bjk->bij", a, b), floats(2, 3, 6), floats(2, 4, 6)),
    "outer": (torch.outer, floats(3), floats(4)),
    "dot": (torch.dot, floats(5), floats(5)),
}


def test_products() -> None:
    check(*together(PRODUCTS))


def together(cases: dict[str, Any]) -> tuple[Any, ...]:
    """Functions of inputs of their own as functions of all of them, and all inputs."""
    functions: dict[str, Callable[..., Any]] = {}
    inputs: list[Any] = []
    for name, (function, *given) in cases.items():
        if isinstance(function, nn.Module):
            function.eval()
        at = slice(len(inputs), len(inputs) + len(given))
        functions[name] = lambda *every, f=function, at=at: f(*every[at])
        inputs += given
    return functions, *inputs


LAYERS = {
    "layer norm": (nn.LayerNorm(6), floats(2, 3, 6)),
    "layer norm of two": (nn.LayerNorm((3, 6)), floats(2, 3, 6)),
    "no affine": (nn.LayerNorm(6, elementwise_affine=False), floats(2, 6)),
    "rms norm": (nn.RMSNorm(6), floats(2, 3, 6)),
    "group norm": (nn.GroupNorm(2, 6), floats(2, 6, 5)),
    "instance norm": (nn.InstanceNorm1d(6), floats(2, 6, 5)),
    "batch norm": (nn.BatchNorm1d(6), floats(4, 6)),
    "batch norm 2d": (nn.BatchNorm2d(3), floats(2, 3, 4, 5)),
    "conv1d": (nn.Conv1d(3, 4, 3, stride=2, padding=1), floats(2, 3, 9)),
    "conv1d same": (nn.Conv1d(3, 4, 4, padding="same"), floats(2, 3, 9)),
    "one image": (nn.Conv2d(3, 4, 3), floats(3, 6, 7)),
    "conv2d": (nn.Conv2d(4, 6, (3, 2), dilation=2, groups=2, padding=(1, 2)), floats(2, 4, 8, 9)),
    "transposed 1d": (nn.ConvTranspose1d(3, 4, 4, stride=2, padding=1, output_padding=1), floats(2, 3, 5)),
    "transposed 2d": (nn.ConvTranspose2d(4, 6, 3, groups=2), floats(2, 4, 5, 4)),
    "max pool": (nn.MaxPool2d(2, ceil_mode=True), floats(2, 3, 5, 6)),
    "max pool 1d": (nn.MaxPool1d(3, 2, padding=1), floats(2, 3, 9)),
    "avg pool": (nn.AvgPool2d(3, 2, padding=1, count_include_pad=False), floats(2, 3, 7, 6)),
    "avg pool 1d": (nn.AvgPool1d(2), floats(2, 3, 8)),
    "adaptive": (nn.AdaptiveAvgPool2d(1), floats(2, 3, 5, 6)),
    "adaptive of parts": (nn.AdaptiveAvgPool1d(3), floats(2, 3, 6)),
    "adaptive max": (nn.AdaptiveMaxPool1d(1), floats(2, 3, 6)),
    "nearest": (nn.Upsample(scale_factor=2), floats(2, 3, 4, 5)),
    "bilinear": (nn.Upsample(scale_factor=2, mode="bilinear"), floats(2, 3, 4, 5)),
    "corners": (nn.Upsample(scale_factor=3, mode="bilinear", align_corners=True), floats(2, 3, 4, 5)),
    "pixel shuffle": (nn.PixelShuffle(2), floats(2, 8, 3, 4)),
    "prelu": (nn.PReLU(4), floats(2, 4, 3)),
    "embedding": (nn.Embedding(9, 5, padding_idx=0), integers(2, 7)),
    "weight norm": (nn.utils.parametrizations.weight_norm(nn.Linear(6, 5)), floats(2, 6)),
    "spectral norm": (nn.utils.parametrizations.spectral_norm(nn.Conv1d(3, 4, 3)), floats(2, 3, 7)),
}


def test_layers() -> None:
    torch.manual_seed(0)
    for module, *_ in LAYERS.values():
        for key, tensor in module.state_dict().items():
            if tensor.is_floating_point() and "parametrizations" not in key:
                tensor.copy_(torch.rand_like(tensor) + 0.5)
    check(*together(LAYERS), tolerance=1e-5)


@pytest.mark.parametrize("mode", ["nearest", "linear"])
@pytest.mark.parametrize("factor", [2, 3.0])
def test_open_sizes_are_enlarged_by_whole_factors(mode: str, factor: float) -> None:
    module = nn.Sequential(nn.AvgPool1d(3, 2, padding=1), nn.Upsample(scale_factor=factor, mode=mode)).eval()
    model = dynq.from_torch(module, (floats(2, 3, 8),), quantize=False, dynamic_shapes={0: "batch", 2: "time"})
    for x in (floats(2, 3, 8), floats(1, 3, 13)):
        compare(mode, model(x.numpy()), module(x).numpy(), 2e-6)
    half = nn.Upsample(scale_factor=1.5).eval()
    with pytest.raises(dynq.UnsupportedModelError, match="whole multiples"):
        dynq.from_torch(half, (floats(2, 3, 8),), dynamic_shapes={2: "time"})


def test_the_logarithm_of_a_number_next_to_one_has_all_digits() -> None:
    x = torch.tensor([0.0, 1e-30, -3e-8, 1e-8, 2e-4, -0.5, 0.7, 40.0, 1e30, float("inf"), -1.0])
    result = dynq.from_torch(Functions({"log1p": torch.log1p}).eval(), (x,), quantize=False)(x)
    np.testing.assert_allclose(result, torch.log1p(x), rtol=5e-7)


def test_outputs_that_are_numbers_are_kept_and_others_named() -> None:
    module = Functions(
        {"y": lambda x: x + 1, "size": lambda x: x.shape[0], "number": lambda x: 2.5, "text": lambda x: "a"}
    )
    x = floats(3, 2)
    with pytest.warns(UserWarning, match="output 'text' is of type str, no tensor: dropped"):
        model = dynq.from_torch(module.eval(), (x,), dynamic_shapes="batch", quantize=False)
    result = model.run({model.inputs[0].name: np.ones((5, 2), np.float32)})
    assert list(result) == ["y", "size", "number"] and result["size"] == 5 and result["number"] == 2.5
