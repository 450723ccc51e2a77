"""Which modules of a user's model become int8, and what is said of those that do not."""

from __future__ import annotations

import warnings
from typing import Any

import pytest

torch = pytest.importorskip("torch")
from torch import Tensor, nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402
from torch.nn.utils import prune  # noqa: E402

import dynq  # noqa: E402
import dynq.torch as dt  # noqa: E402


def convert(module: nn.Module, *arguments: Any, **options: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("error", dt.NotConvertedWarning)
        return dt.quantize_dynamic(module.eval(), *arguments, **options)


def relative(got: Tensor, want: Tensor) -> float:
    return float((got.detach() - want.detach()).abs().max() / want.detach().abs().max().clamp_min(1e-6))


def first(result: Any) -> Tensor:
    while isinstance(result, tuple):
        result = result[0]
    return result


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


# ---- Pruning


PRUNED: list[tuple[Any, str, tuple[Tensor, ...]]] = [
    (lambda: nn.Linear(64, 48), "weight", (torch.ones(3, 64),)),
    (lambda: nn.Linear(64, 48), "bias", (torch.ones(3, 64),)),
    (lambda: nn.Conv1d(32, 48, 3), "weight", (torch.ones(2, 32, 9),)),
    (lambda: nn.Conv2d(32, 48, 3), "bias", (torch.ones(2, 32, 9, 9),)),
    (lambda: nn.Embedding(20, 16), "weight", (torch.arange(20),)),
    (lambda: nn.EmbeddingBag(20, 16), "weight", (torch.arange(20).view(4, 5),)),
    (lambda: nn.LSTM(16, 24), "weight_hh_l0", (torch.ones(5, 2, 16),)),
    (lambda: nn.GRUCell(16, 24), "weight_ih", (torch.ones(2, 16),)),
    (lambda: nn.MultiheadAttention(32, 4), "in_proj_weight", (torch.rand(5, 2, 32),) * 3),
]


@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize(("make", "name", "x"), PRUNED)
def test_a_pruned_module_computes_with_the_masked_weight(make: Any, name: str, x: Any, inplace: bool) -> None:
    net = nn.ModuleDict({"m": make()}).eval()
    prune.random_unstructured(net["m"], name, amount=0.6)
    with torch.no_grad():
        getattr(net["m"], f"{name}_orig").mul_(2)  # which the mask's hook brings into the weight before a call
        want = first(net["m"](*x))
        got = convert(net, inplace=inplace)["m"]
    assert type(got).__module__.startswith("dynq.")
    assert relative(first(got(*x)), want) < 0.04
    assert int((getattr(got, name) == 0).sum()) >= 0.6 * getattr(got, name).numel() - 1


def test_a_pruned_module_is_left_as_it_was() -> None:
    layer = nn.Linear(8, 8)
    prune.l1_unstructured(layer, "weight", amount=0.5)
    weight, hooks = layer.weight, dict(layer._forward_pre_hooks)
    convert(nn.Sequential(layer))
    assert layer.weight is weight and dict(layer._forward_pre_hooks) == hooks


def test_masks_of_one_weight_keep_their_modules_apart() -> None:
    a, b = nn.Linear(16, 16), nn.Linear(16, 16)
    b.weight = a.weight
    prune.random_unstructured(a, "weight", amount=0.5)
    prune.random_unstructured(b, "weight", amount=0.9)
    x = torch.ones(2, 16)
    for float_layer, layer in zip((a, b), convert(nn.Sequential(a, b)), strict=True):
        assert relative(layer(x), float_layer.eval()(x)) < 0.04


def test_keep_float_names_a_weight_that_is_pruned() -> None:
    net = nn.ModuleDict({"lstm": nn.LSTM(32, 16)})
    prune.l1_unstructured(net["lstm"], "weight_hh_l0", amount=0.5)
    converted = convert(net, keep_float="lstm.weight_hh_l0")["lstm"]
    assert converted.state_dict()["weight_hh_l0"].dtype == torch.float32


# ---- Hooks


@pytest.mark.parametrize("kind", ["hook", "pre_hook"])
@pytest.mark.parametrize("options", [{}, {"with_kwargs": True}, {"prepend": True}])
def test_a_handle_removes_its_hook_after_a_conversion_in_place(kind: str, options: dict[str, bool]) -> None:
    net, seen = nn.Sequential(nn.Linear(8, 8)).eval(), []
    handle = getattr(net[0], f"register_forward_{kind}")(lambda *_: seen.append(1), **options)
    convert(net, inplace=True)
    net(torch.ones(1, 8))
    assert seen == [1]
    handle.remove()
    net(torch.ones(1, 8))
    assert seen == [1]


def test_a_hook_of_a_copy_is_not_that_of_the_model() -> None:
    net, seen = nn.Sequential(nn.Linear(8, 8)).eval(), []
    handle = net[0].register_forward_hook(lambda *_: seen.append(1))
    converted = convert(net)
    handle.remove()
    net(torch.ones(1, 8))
    assert seen == []
    converted(torch.ones(1, 8))
    assert seen == [1]


# ---- Copies


class Remembers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 8)
        self.last: Any = None

    def forward(self, x: Tensor) -> Tensor:
        self.last = {"y": [self.layer(x)]}
        result: Tensor = self.last["y"][0]
        return result


@pytest.mark.parametrize("by", [dt.quantize_dynamic, dt.prepare_qat, lambda m: dt.finish_qat(dt.prepare_qat(m))])
def test_a_model_that_keeps_what_it_computed_with_a_gradient_is_copied(by: Any) -> None:
    net, x = Remembers().eval(), torch.rand(2, 8)
    want = net(x)
    made = by(net)
    assert torch.equal(made.last["y"][0], want) and not made.last["y"][0].requires_grad
    assert relative(made(x), want) < 0.04
    assert net.last["y"][0] is want and want.requires_grad


def test_an_old_weight_norm_after_a_call_with_a_gradient() -> None:
    with pytest.warns(FutureWarning, match="weight_norm"):
        up = nn.utils.weight_norm(nn.ConvTranspose1d(16, 8, 4))
    net, x = nn.Sequential(nn.Linear(20, 20), up).eval(), torch.rand(1, 16, 20)
    want = net(x)
    assert relative(dt.quantize_dynamic(net, {nn.Linear})(x), want) < 0.04


def test_a_model_that_cannot_be_copied_can_be_converted_in_place() -> None:
    net = nn.Sequential(nn.Linear(8, 8)).eval()
    net.generator = (i for i in range(3))
    with pytest.raises(dynq.Error, match=r"cannot be copied \(.*generator.*\); inplace=True converts it"):
        convert(net)
    assert type(net[0]) is nn.Linear
    assert type(convert(net, inplace=True)[0]) is dt.Linear


@pytest.fixture
def one_process() -> Any:
    distributed = pytest.importorskip("torch.distributed")
    store = distributed.HashStore()
    distributed.init_process_group("gloo", rank=0, world_size=1, store=store)
    yield
    distributed.destroy_process_group()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("wrap", [nn.parallel.DistributedDataParallel, nn.DataParallel])
@pytest.mark.parametrize("inplace", [False, True])
def test_a_data_parallel_model_becomes_the_model_in_it(one_process: None, wrap: Any, inplace: bool) -> None:
    net = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8))
    wrapped, x = wrap(net).eval(), torch.rand(2, 8)
    want = net(x)
    assert relative(convert(wrapped)(x), want) < 0.04
    assert [type(m) for m in convert(wrapped, keep_float="module.0")] == [nn.Linear, dt.Linear]
    assert [type(m) for m in convert(wrapped, {"1"})] == [nn.Linear, dt.Linear]
    assert relative(convert(wrapped, inplace=inplace)(x), want) < 0.04


# ---- Keywords


KEYWORDS: list[tuple[Any, dict[str, Any]]] = [
    (lambda: nn.Linear(16, 8), {"input": torch.ones(2, 16)}),
    (lambda: nn.Conv1d(16, 24, 3), {"input": torch.ones(2, 16, 9)}),
    (lambda: nn.Conv2d(16, 24, 3), {"input": torch.ones(2, 16, 9, 9)}),
    (lambda: nn.Embedding(9, 16), {"input": torch.arange(9)}),
    (lambda: nn.EmbeddingBag(9, 16), {"input": torch.arange(9), "offsets": torch.tensor([0, 4])}),
    (lambda: nn.LSTM(16, 16), {"input": torch.ones(5, 2, 16), "hx": (torch.zeros(1, 2, 16), torch.zeros(1, 2, 16))}),
    (lambda: nn.GRU(16, 16), {"input": torch.ones(5, 2, 16), "hx": torch.zeros(1, 2, 16)}),
    (lambda: nn.RNN(16, 16), {"input": torch.ones(5, 2, 16)}),
    (lambda: nn.GRUCell(16, 16), {"input": torch.ones(2, 16), "hx": torch.zeros(2, 16)}),
    (lambda: nn.MultiheadAttention(16, 2), {name: torch.ones(5, 2, 16) for name in ("query", "key", "value")}),
]


@pytest.mark.parametrize(("make", "inputs"), KEYWORDS)
def test_modules_take_the_keywords_of_those_that_they_stand_for(make: Any, inputs: dict[str, Any]) -> None:
    module = make().eval()
    converted = convert(nn.ModuleDict({"m": module}))["m"]
    assert relative(first(converted(**inputs)), first(module(**inputs))) < 0.05


# ---- Subclasses


class Named(nn.Linear):
    """Without a forward of its own."""


class Falcons(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        """What counts is what it does, not how arguments are called."""
        y = x @ self.weight.T
        if self.bias is None:
            return y
        return y + self.bias


class Functional(nn.Linear):
    def forward(self, values: Tensor) -> Tensor:
        return F.linear(values, self.weight, self.bias)


class Other(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + 1


class NotFunctional(nn.Linear):
    def forward(self, values: Tensor) -> Tensor:
        return F.linear(values, self.bias, self.weight)


class Scaled(nn.Embedding):
    def __init__(self, scale: Any) -> None:
        super().__init__(20, 16)
        self.embed_scale = scale

    def forward(self, ids: Tensor) -> Tensor:
        return super().forward(ids) * self.embed_scale


class ScaledByTensor(nn.Embedding):
    def __init__(self, scale: float) -> None:
        super().__init__(20, 16)
        self.register_buffer("embed_scale", torch.tensor(scale), persistent=False)

    def forward(self, ids: Tensor) -> Tensor:
        return super().forward(ids) * self.embed_scale.to(self.weight.dtype)


class ScaledTwice(Scaled):
    def forward(self, ids: Tensor) -> Tensor:
        return super().forward(ids) * self.embed_scale


@pytest.mark.parametrize("kind", [Named, Falcons, Functional])
@pytest.mark.parametrize("bias", [False, True])
def test_a_subclass_of_linear_whose_forward_is_known_becomes_int8(kind: Any, bias: bool) -> None:
    net, x = nn.Sequential(kind(16, 24, bias=bias)).eval(), torch.rand(2, 16)
    converted = convert(net)
    assert type(converted[0]) is dt.Linear and relative(converted(x), net(x)) < 0.04


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("make", [lambda: Scaled(8.0), lambda: Scaled(3), lambda: ScaledByTensor(8.0)])
def test_a_scaled_embedding_keeps_its_scale(make: Any, dtype: torch.dtype) -> None:
    net, ids = nn.Sequential(make()).to(dtype).eval(), torch.arange(20)
    converted = convert(net)
    assert type(converted[0]) is dt.ScaledEmbedding and converted(ids).dtype == dtype
    assert relative(converted(ids).float(), net(ids).float()) < 0.02
    converted[0].embed_scale *= 2
    assert relative(converted(ids).float(), 2 * net(ids).float()) < 0.02


def test_a_scaled_embedding_shares_its_table_with_the_head() -> None:
    table, head = Scaled(4.0), nn.Linear(16, 20, bias=False)
    head.weight = table.weight
    converted = convert(nn.Sequential(table, head))
    assert converted[0].packed is converted[1].packed
    assert relative(converted(torch.arange(20)), head(table(torch.arange(20)))) < 0.04


@pytest.mark.parametrize("kind", [Other, NotFunctional, lambda n, k: ScaledTwice(2.0), lambda n, k: Scaled("?")])
def test_a_subclass_whose_forward_is_not_known_stays_float(kind: Any) -> None:
    net = nn.Sequential(kind(16, 16)).eval()
    with pytest.warns(dt.NotConvertedWarning, match="0: .*(forward of its own|its embed_scale is no number)"):
        assert type(dt.quantize_dynamic(net)[0]) is type(net[0])


def test_a_module_whose_forward_was_replaced_stays_float() -> None:
    net = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8)).eval()
    own = net[0].forward
    net[0].forward = lambda x: own(x) + 1  # as accelerate does
    with pytest.warns(dt.NotConvertedWarning, match="0: its forward was replaced"):
        assert type(dt.quantize_dynamic(net)[0]) is nn.Linear


# ---- transformers' Conv1D


def conv1d(inputs: int, outputs: int) -> Any:
    return pytest.importorskip("transformers.pytorch_utils").Conv1D(outputs, inputs)


def test_gpt2s_linear_layers_become_int8() -> None:
    net, x = nn.Sequential(conv1d(16, 24), conv1d(24, 8)).eval(), torch.rand(2, 5, 16)
    nn.init.normal_(net[0].bias)
    converted = convert(net)
    assert [type(m) for m in converted] == [dt.TransposedLinear] * 2
    assert converted[0].weight.shape == (16, 24) and (converted[0].nx, converted[0].nf) == (16, 24)
    assert relative(converted(x), net(x)) < 0.04
    assert relative(converted[0](x=x), net[0](x)) < 0.04
    state = converted.state_dict()
    assert state["0.weight"].dtype == torch.int8 and state["0.weight"].shape == (16, 24)
    assert state["0.weight_scale"].shape == (24,)


def test_gpt2s_layers_load_int8_and_float_states() -> None:
    a, b = (nn.Sequential(conv1d(16, 24)).eval() for _ in range(2))
    x = torch.rand(2, 16)
    for state in (b.state_dict(), convert(b).state_dict()):
        converted = convert(a)
        converted.load_state_dict(state)
        assert torch.equal(converted(x), convert(b)(x))
    converted[0].weight = nn.Parameter(torch.ones(16, 24))
    assert relative(converted(x) - converted[0].bias, x.sum(1, keepdim=True).expand(2, 24)) < 0.01


def test_square_layers_of_two_layouts_do_not_share_what_is_turned() -> None:
    turned, straight = convert(nn.Sequential(conv1d(16, 16), nn.Linear(16, 16)))
    straight.weight = turned.weight
    assert relative(straight.weight, turned.weight) < 0.01
    both, head = conv1d(16, 16), nn.Linear(16, 16)
    head.weight = both.weight
    x = torch.rand(2, 16)
    assert relative(convert(nn.Sequential(both, head))(x), head(both(x))) < 0.04


# ---- What is said of the rest


class Experts(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Parameter(torch.rand(4, 8, 16)), nn.Parameter(torch.rand(4, 16, 8))

    def forward(self, x: Tensor) -> Tensor:
        return ((x @ self.up).relu() @ self.down).sum(0)


def mixture() -> nn.Module:
    parts = {"a": nn.Linear(32, 32), "experts": Experts(), "volume": nn.Conv3d(4, 4, 2), "norm": nn.LayerNorm(8)}
    return nn.ModuleDict(parts).eval()


def test_one_warning_sums_up_what_stays_float() -> None:
    net = mixture()
    net["own"] = Other(16, 16)
    with pytest.warns(dt.NotConvertedWarning) as told:
        converted = dt.quantize_dynamic(net)
    assert len(told) == 1
    lines = str(told[0].message).splitlines()
    assert lines[1] == "  own: Other is a subclass of Linear with a forward of its own"
    kinds = "Experts.up 20 %, Experts.down 20 %, Other 10 %, Conv3d 5.1 %"
    assert lines[2] == f"56 % of the weights stay float (report says why): {kinds}"
    rows = {row.node: row for row in dt.report(converted).rows}
    assert rows["experts"].why == "dynq has no module for it; 41 % of the weights"
    assert "forward of its own; 11 % of the weights" in rows["own"].why
    assert rows["norm"].why == "" and rows["a"].became == "int8 Linear"


@pytest.mark.parametrize("options", [{"keep_float": ["experts", "volume"]}, {"qconfig_spec": {nn.Linear}}])
def test_what_stays_float_because_the_user_says_so_is_no_warning(options: dict[str, Any]) -> None:
    convert(mixture(), **options)
    convert(mixture(), strict=True, **options)


def test_a_little_that_stays_float_is_no_warning() -> None:
    convert(
        nn.ModuleDict({"a": nn.Linear(64, 64), "volume": nn.Conv3d(4, 4, 2), "norm": nn.LayerNorm(64)}), strict=True
    )


def test_strict_raises_and_leaves_the_model_alone() -> None:
    net = mixture()
    with pytest.raises(dynq.UnsupportedModelError, match=r"52 % of the weights stay float .*Experts\.up 23 %"):
        dt.quantize_dynamic(net, strict=True, inplace=True)
    assert type(net["a"]) is nn.Linear


@pytest.mark.parametrize("inplace", [False, True])
def test_a_module_that_contradicts_itself_is_named_and_the_rest_is_converted(inplace: bool) -> None:
    net = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8)).eval()
    net[0].weight = nn.Parameter(torch.rand(8))
    net[0].register_forward_hook(lambda *_: None)
    with pytest.warns(dt.NotConvertedWarning, match="0: .*Error"):
        converted = dt.quantize_dynamic(net, inplace=inplace)
    assert type(converted[0]) is nn.Linear and type(converted[1]) is dt.Linear
    assert len(converted[0]._forward_hooks) == 1 and (inplace or type(net[1]) is nn.Linear)


def test_a_lookalike_of_another_package_is_not_taken_for_a_kind() -> None:
    class Conv1D(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.rand(8, 8))

    with pytest.warns(dt.NotConvertedWarning, match="Conv1D 100 %"):
        dt.quantize_dynamic(nn.Sequential(Conv1D()).eval())
