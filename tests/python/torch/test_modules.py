"""dynq.torch.quantize_dynamic: modules that stand in for torch.nn's, with the bits of dynq.linear, in any model."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest

import dynq

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402
from torch.nn.utils import parametrizations, parametrize  # noqa: E402

import dynq.torch as dt  # noqa: E402


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def linear(n: int = 24, k: int = 40, bias: bool = True) -> Any:
    return nn.Linear(k, n, bias=bias).eval()


def expected(module: Any, x: Any) -> np.ndarray[Any, Any]:
    """What dynq.linear, tested elsewhere, gives."""
    bias = None if module.bias is None else module.bias.detach().numpy()
    return dynq.linear(x.detach().numpy(), dynq.quantize_weight(module.weight.detach().numpy()), bias)


class Tied(nn.Module):
    """A table that is the last layer's weight, too."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(50, 20)
        self.body = nn.Linear(20, 20)
        self.head = nn.Linear(20, 50, bias=False)
        self.head.weight = self.table.weight

    def forward(self, index: Any) -> Any:
        return self.head(torch.relu(self.body(self.table(index))))


# ---- Linear


@pytest.mark.parametrize("shape", [(40,), (1, 40), (3, 40), (2, 3, 40), (0, 40), (2, 0, 40)])
@pytest.mark.parametrize("bias", [True, False])
def test_a_linear_has_the_bits_of_dynq_linear(shape: tuple[int, ...], bias: bool) -> None:
    module = linear(bias=bias)
    x = torch.randn(shape)
    y = dt.quantize_dynamic(module)(x)
    assert np.array_equal(y.numpy(), expected(module, x.reshape(-1, 40)).reshape(y.shape)) and y.shape == (
        *shape[:-1],
        24,
    )


def test_strided_and_half_inputs_are_computed_in_float32() -> None:
    module = linear()
    quantized = dt.quantize_dynamic(module)
    x = torch.randn(40, 6)
    assert torch.equal(quantized(x.t()), quantized(x.t().contiguous()))
    for dtype in (torch.bfloat16, torch.float16):
        y = quantized(x.t().to(dtype))
        assert y.dtype == dtype and torch.equal(y, quantized(x.t().to(dtype).float()).to(dtype))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert torch.equal(quantized(x.t()), quantized(x.t().contiguous()))
    halved = dt.quantize_dynamic(linear().half())
    assert halved(x.t().half()).dtype == torch.float16
    assert torch.equal(copy.deepcopy(quantized).bfloat16()(x.t()).isfinite().all(), torch.tensor(True))


def test_a_negated_view_is_not_read_as_it_lies() -> None:
    quantized, x = dt.quantize_dynamic(linear()), torch.randn(3, 40)
    assert torch.equal(quantized(torch._neg_view(x)), quantized(-x))


@pytest.mark.parametrize("needs", [True, False])
def test_attention_is_in_float32_under_autocast(needs: bool) -> None:
    quantized = dt.quantize_dynamic(nn.MultiheadAttention(32, 4, batch_first=True).eval())
    x = torch.randn(2, 5, 32)
    want = quantized(x, x, x, need_weights=needs)[0]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(quantized(x, x, x, need_weights=needs)[0], want)


def test_names_of_attributes_stay() -> None:
    quantized = dt.quantize_dynamic(linear())
    assert (quantized.in_features, quantized.out_features) == (40, 24)
    assert quantized.weight.shape == (24, 40) and quantized.weight.dtype == torch.float32
    assert (quantized.weight - linear().weight).abs().max() < 1  # another weight: only the shape is compared
    assert quantized.bias.shape == (24,) and "int8" in repr(quantized)


def test_the_weight_is_what_is_computed_with() -> None:
    module = linear()
    weight = dynq.quantize_weight(module.weight.detach().numpy())
    quantized = dt.quantize_dynamic(module)
    assert np.array_equal(quantized.weight.numpy(), weight.dequantize())
    assert np.array_equal(quantized.weight_scale.numpy(), weight.scale)


@pytest.mark.parametrize("n", [1, 2])
def test_results_do_not_depend_on_torchs_threads(n: int) -> None:
    module = linear(512, 512)
    x = torch.randn(64, 512)
    before = torch.get_num_threads()
    torch.set_num_threads(n)
    try:
        assert np.array_equal(dt.quantize_dynamic(module)(x).numpy(), expected(module, x))
    finally:
        torch.set_num_threads(before)


def test_results_have_no_gradient_and_no_warning() -> None:
    quantized = dt.quantize_dynamic(nn.Sequential(nn.LayerNorm(40), linear()).eval())
    y = quantized(torch.randn(3, 40, requires_grad=True))
    assert not y.requires_grad
    with torch.inference_mode():
        assert quantized(torch.randn(3, 40)).is_inference()


def test_a_nan_stays_in_its_row() -> None:
    x = torch.randn(3, 40)
    x[1, 7] = float("nan")
    y = dt.quantize_dynamic(linear())(x)
    assert y[1].isnan().all() and y[[0, 2]].isfinite().all()


@pytest.mark.parametrize(
    ("x", "error", "text"),
    [
        (lambda: torch.zeros(2, 39), ValueError, r"shape \(2, 39\); expected \(..., 40\)"),
        (lambda: torch.tensor(1.0), ValueError, r"shape \(\)"),
        (lambda: torch.zeros(2, 40, dtype=torch.float64), TypeError, r"float64; .*\.float\(\)"),
        (lambda: torch.zeros(2, 40, dtype=torch.int64), TypeError, "int64"),
        (lambda: torch.zeros(2, 40, device="meta"), ValueError, "meta; dynq runs on the CPU"),
        (lambda: np.zeros((2, 40), np.float32), TypeError, "ndarray"),
    ],
)
def test_a_wrong_input_is_named(x: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        dt.quantize_dynamic(linear())(x())


def test_training_mode_is_refused() -> None:
    with pytest.raises(ValueError, match=r"training mode.*eval\(\)"):
        dt.quantize_dynamic(nn.Linear(4, 4))
    with pytest.raises(dynq.Error, match=r"training mode.*eval\(\)"):
        dt.quantize_dynamic(linear()).train()(torch.zeros(1, 40))
    with pytest.raises(ValueError, match=r"module '0\.1' is in training mode"):
        dt.quantize_dynamic(nn.Sequential(nn.Sequential(nn.ReLU(), nn.Dropout())))


def test_a_wrapper_in_training_mode_is_taken_if_what_it_holds_is_not() -> None:
    wrapper = nn.Sequential(nn.Linear(4, 4).eval())
    assert wrapper.training and isinstance(dt.quantize_dynamic(wrapper)[0], dt.Linear)


# ---- Embedding


@pytest.mark.parametrize("padding", [None, 3])
def test_an_embedding_gives_rows_of_the_quantized_table(padding: int | None) -> None:
    module = nn.Embedding(50, 20, padding_idx=padding).eval()
    quantized = dt.quantize_dynamic(module)
    table = dynq.quantize_weight(module.weight.detach().numpy()).dequantize()
    index = torch.tensor([[0, 3, 49], [7, 7, 16]])
    assert np.array_equal(quantized(index).numpy(), table[index.numpy()])
    assert np.array_equal(quantized(index.int()).numpy(), table[index.numpy()])
    assert np.array_equal(quantized.weight.numpy(), table)
    with pytest.raises(IndexError):
        quantized(torch.tensor([50]))


@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
@pytest.mark.parametrize("padding", [None, 3])
def test_an_embedding_bag_is_torchs_on_the_quantized_table(mode: str, padding: int | None) -> None:
    module = nn.EmbeddingBag(50, 20, mode=mode, padding_idx=padding).eval()
    quantized = dt.quantize_dynamic(module)
    reference = copy.deepcopy(module)
    reference.weight.data = quantized.weight
    index = torch.tensor([[0, 3, 49], [3, 7, 16]])
    assert torch.equal(quantized(index), reference(index))
    flat, offsets = torch.tensor([0, 3, 49, 3, 7]), torch.tensor([0, 2, 2])
    assert torch.equal(quantized(flat, offsets), reference(flat, offsets))
    if mode == "sum":
        weights = torch.rand(2, 3)
        assert torch.equal(quantized(index, per_sample_weights=weights), reference(index, per_sample_weights=weights))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("tied", [False, True])
def test_tables_give_the_dtype_of_the_float_ones(dtype: Any, tied: bool) -> None:
    model = nn.Sequential(nn.Embedding(50, 24), nn.LayerNorm(24), nn.Linear(24, 50))
    if tied:
        model[2].weight = model[0].weight
    halves = dt.quantize_dynamic(copy.deepcopy(model).to(dtype).eval())
    index = torch.tensor([[0, 3, 49]])
    assert halves(index).dtype == dtype
    assert torch.equal(halves[0](index), halves[0].weight[index].to(dtype))
    floats = dt.quantize_dynamic(model.eval())
    rows = floats[0](index)
    for made in (copy.deepcopy(floats).to(dtype), pickle.loads(pickle.dumps(copy.deepcopy(floats).to(dtype)))):
        assert made(index).dtype == dtype and torch.equal(made[0](index), rows.to(dtype))
    assert torch.equal(copy.deepcopy(floats).to(dtype).float()[0](index), rows)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_bag_of_halves_gives_halves(dtype: Any) -> None:
    bag = dt.quantize_dynamic(nn.EmbeddingBag(50, 20, mode="sum").to(dtype).eval())
    index, weights = torch.tensor([[0, 3, 49]]), torch.rand(1, 3).to(dtype)
    want = (bag.weight[index] * weights.float()[..., None]).sum(1)
    y = bag(index, per_sample_weights=weights)
    assert y.dtype == dtype and torch.allclose(y.float(), want, rtol=1e-2, atol=1e-2)


def test_a_table_that_is_a_layers_weight_stays_one() -> None:
    model = Tied().eval()
    quantized = dt.quantize_dynamic(model)
    assert quantized.table.packed.data_ptr() == quantized.head.packed.data_ptr()
    index = torch.tensor([[0, 49], [17, 3]])
    table = dynq.quantize_weight(model.table.weight.detach().numpy()).dequantize()
    assert np.array_equal(quantized.table(index).numpy(), table[index.numpy()])
    with pytest.raises(IndexError):
        quantized.table(torch.tensor([50]))
    with pytest.raises((IndexError, RuntimeError)):
        quantized.table(torch.tensor([-1]))
    for copied in (copy.deepcopy(quantized), pickle.loads(pickle.dumps(quantized))):
        assert copied.table.packed.data_ptr() == copied.head.packed.data_ptr()
        assert torch.equal(copied(index), quantized(index))
    quantized.load_state_dict(dt.quantize_dynamic(Tied().eval()).state_dict())
    assert quantized.table.packed.data_ptr() == quantized.head.packed.data_ptr()


def test_modules_and_tables_that_are_shared_stay_so() -> None:
    shared, one, two = linear(8, 8), nn.Embedding(9, 8), nn.Embedding(9, 8)
    two.weight = one.weight
    model = nn.ModuleDict({"a": shared, "b": nn.Sequential(shared), "c": one, "d": two}).eval()
    for inplace in (False, True):
        quantized = dt.quantize_dynamic(model, inplace=inplace)
        assert quantized["a"] is quantized["b"][0]
        assert quantized["c"].rows.data_ptr() == quantized["d"].rows.data_ptr()


# ---- MultiheadAttention and nn.Transformer


def relative(y: Any, right: Any) -> float:
    return float((y - right).detach().norm() / right.detach().norm())


@pytest.mark.parametrize("width", [32, 24])
@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize(
    "options", [{}, {"bias": False}, {"add_bias_kv": True}, {"add_zero_attn": True}, {"kdim": 20, "vdim": 12}]
)
def test_attention_follows_torchs(width: int, batch_first: bool, options: dict[str, Any]) -> None:
    module = nn.MultiheadAttention(width, 4, batch_first=batch_first, **options).eval()
    quantized = dt.quantize_dynamic(module)
    q, k, v = (torch.randn(2, 5, n) for n in (width, module.kdim, module.vdim))
    k, v = torch.cat([k, k], 1), torch.cat([v, v], 1)
    if not batch_first:
        q, k, v = (x.transpose(0, 1) for x in (q, k, v))
    padding = torch.zeros(2, 10, dtype=torch.bool)
    padding[0, 7:] = True
    masks = [None, torch.rand(5, 10) > 0.7, torch.randn(8, 5, 10)]
    for mask in masks:
        for needs in (True, False):
            y, w = quantized(q, k, v, key_padding_mask=padding, need_weights=needs, attn_mask=mask)
            right, right_w = module(
                q,
                k,
                v,
                key_padding_mask=padding
                if mask is None or mask.dtype == torch.bool
                else torch.zeros(2, 10).masked_fill(padding, -torch.inf),
                need_weights=needs,
                attn_mask=mask,
            )
            assert relative(y, right) < 0.02 and y.shape == right.shape
            assert (w is None) == (right_w is None) and (w is None or relative(w, right_w) < 0.02)
    if "kdim" not in options:
        single = q[0] if batch_first else q[:, 0]
        y, w = quantized(single, single, single, average_attn_weights=False)
        right, right_w = module(single, single, single, average_attn_weights=False)
        assert relative(y, right) < 0.02 and w.shape == right_w.shape
    if not options or "bias" in options:  # with a key more, torch's kernel for the hint leaves that one out
        causal = nn.Transformer.generate_square_subsequent_mask(5)
        y, _ = quantized(q, q, q, attn_mask=causal, is_causal=True, need_weights=False)
        assert relative(y, module(q, q, q, attn_mask=causal, is_causal=True, need_weights=False)[0]) < 0.02
        with pytest.raises(ValueError, match="is_causal"):
            quantized(q, q, q, is_causal=True)
    with pytest.raises(ValueError, match="attn_mask"):
        quantized(q, k, v, attn_mask=torch.zeros(3, 3))


@pytest.mark.filterwarnings("ignore:enable_nested_tensor is True:UserWarning")
@pytest.mark.parametrize("norm_first", [True, False])
@pytest.mark.parametrize("spec", [None, {nn.Linear}, {nn.TransformerEncoderLayer, nn.TransformerDecoderLayer}])
def test_a_transformer_runs_through_its_int8_modules(norm_first: bool, spec: Any) -> None:
    model = nn.Transformer(32, 4, 2, 2, 64, batch_first=True, norm_first=norm_first).eval()
    quantized = dt.quantize_dynamic(model, spec)
    src, tgt = torch.randn(2, 6, 32), torch.randn(2, 5, 32)
    padding = torch.zeros(2, 6, dtype=torch.bool)
    padding[1, 4:] = True
    calls = []
    for m in quantized.modules():
        if isinstance(m, dt.Linear):
            m.register_forward_hook(lambda *_: calls.append(1))
    inputs = {"src_key_padding_mask": padding, "memory_key_padding_mask": padding}
    torch.backends.mha.set_fastpath_enabled(False)  # which leaves padding out of the float model's output
    try:
        right = model(src, tgt, **inputs)
    finally:
        torch.backends.mha.set_fastpath_enabled(True)
    with torch.inference_mode():
        y = quantized(src, tgt, **inputs)
    assert 0 < relative(y, right) < 0.02
    assert len(calls) == (8 if spec == {nn.Linear} else 14)


# ---- What is converted


def test_the_line_of_pytorch_works_as_it_is() -> None:
    model = nn.Sequential(nn.Embedding(9, 8), linear(8, 8)).eval()
    quantized = dt.quantize_dynamic(model, {nn.Linear}, dtype=torch.qint8)
    assert type(quantized[0]) is nn.Embedding and type(quantized[1]) is dt.Linear
    assert type(model[1]) is nn.Linear and quantized[0].weight is not model[0].weight
    assert dt.quantize_dynamic(model, {nn.Linear}, inplace=True) is model and type(model[1]) is dt.Linear


def test_qconfig_spec_has_types_names_and_nones() -> None:
    def build() -> Any:
        return nn.ModuleDict({"a": linear(), "b": nn.Sequential(linear(), linear()), "c": nn.Embedding(9, 8)}).eval()

    def converted(spec: Any, **options: Any) -> list[str]:
        quantized = dt.quantize_dynamic(build(), spec, **options)
        return [name for name, m in quantized.named_modules() if isinstance(m, dt.Linear | dt.Embedding)]

    assert converted(None) == ["a", "b.0", "b.1", "c"]
    assert converted({"b"}) == ["b.0", "b.1"]
    assert converted({"b.1", nn.Embedding}) == ["b.1", "c"]
    assert converted({nn.Linear: torch.ao.quantization.default_dynamic_qconfig, "b.0": None}) == ["a", "b.1"]
    assert converted({nn.Sequential}) == ["b.0", "b.1"]
    assert converted(None, keep_float="b") == ["a", "c"]
    assert converted(None, keep_float=["b.*", "c"]) == ["a"]
    with pytest.raises(ValueError, match="no module is called 'nothing'"):
        converted(None, keep_float=["nothing"])
    with pytest.raises(ValueError, match="no module is called 'd'"):
        converted({"d"})
    with pytest.raises(ValueError, match="float16"):
        converted({nn.Linear: torch.ao.quantization.float16_dynamic_qconfig})


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"dtype": torch.float16}, ValueError, "dtype is torch.float16; expected torch.qint8"),
        ({"mapping": {}}, ValueError, "mapping"),
        ({"qconfig_spec": nn.Linear}, TypeError, "qconfig_spec"),
        ({"qconfig_spec": {3}}, TypeError, "qconfig_spec has 3"),
        ({"qconfig_spec": {int}}, TypeError, "qconfig_spec has"),
        ({"qconfig_spec": {nn.Linear: 3}}, TypeError, "QConfig"),
        ({"keep_float": [3]}, TypeError, "keep_float has 3"),
        ({"first_layer": "half"}, ValueError, "first_layer"),
    ],
)
def test_a_wrong_argument_is_named(arguments: dict[str, Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        dt.quantize_dynamic(linear(), **arguments)
    with pytest.raises(TypeError, match="module is of type int"):
        dt.quantize_dynamic(3)


class Own(nn.Linear):
    def forward(self, x: Any) -> Any:
        return super().forward(x) + 1


def test_what_cannot_be_converted_is_told_in_one_message() -> None:
    model = nn.ModuleDict(
        {
            "good": linear(),
            "own": Own(4, 4),
            "wide": nn.Linear(4, 4, dtype=torch.float64),
            "far": nn.Linear(4, 4, device="meta"),
            "lazy": nn.LazyLinear(4),
            "norm": nn.Embedding(4, 4, max_norm=1.0),
            "nan": nn.Linear(4, 4),
        }
    ).eval()
    model["nan"].weight.data[0, 0] = torch.nan
    with pytest.warns(dt.NotConvertedWarning) as told:
        quantized = dt.quantize_dynamic(model)
    assert len(told) == 1
    text = str(told[0].message)
    reasons = {"own": "forward of its own", "wide": "float64", "far": "meta", "lazy": "lazy", "norm": "max_norm"}
    for name, reason in {**reasons, "nan": "NaN"}.items():
        assert any(name in line and reason in line for line in text.splitlines()), text
    assert type(quantized["good"]) is dt.Linear and type(quantized["own"]) is Own
    became = {row.node: row for row in dt.report(quantized).rows}
    assert became["good"].became == "int8 Linear" and became["own"].became == "float Own"
    assert "forward of its own" in became["own"].why and "NaN" in became["nan"].why
    with pytest.raises(dynq.UnsupportedModelError, match="own: Own is a subclass") as raised:
        dt.quantize_dynamic(model, strict=True, inplace=True)
    assert sorted(name for names in raised.value.problems.values() for name in names) == sorted(reasons)
    assert type(model["good"]) is nn.Linear


@pytest.mark.parametrize("inplace", [True, False])
def test_strict_converts_nothing_where_a_late_weight_is_not_finite(inplace: bool) -> None:
    model = nn.Sequential(linear(), linear(8, 24)).eval()
    with torch.no_grad():
        model[1].weight[0, 0] = torch.nan
    with pytest.raises(dynq.UnsupportedModelError, match="1: its weight holds a NaN"):
        dt.quantize_dynamic(model, strict=True, inplace=inplace)
    assert all(type(part) is nn.Linear for part in model)
    with torch.no_grad():
        model[1].weight[0, 0] = 0
    assert type(dt.quantize_dynamic(model, strict=True, inplace=inplace)[1]) is dt.Linear


def test_nothing_to_convert_is_told() -> None:
    with pytest.warns(dt.NotConvertedWarning, match="no module was converted"):
        dt.quantize_dynamic(nn.Sequential(nn.LayerNorm(4)).eval())


def test_the_report_names_what_stays_float_and_bytes() -> None:
    model = nn.Sequential(linear(32, 64), nn.LayerNorm(32), linear(16, 32)).eval()
    rows = {row.node: row for row in dt.report(dt.quantize_dynamic(model, keep_float="2")).rows}
    assert rows["0"].bytes_before == 4 * 32 * 64 and rows["0"].bytes_after == 32 * 64 + 8 * 32
    assert rows["2"].became == "float Linear" and "keep_float" in rows["2"].why
    assert rows["1"].became == "float LayerNorm"


def test_parametrized_weights_are_computed_and_keep_sharing() -> None:
    class Doubled(nn.Module):
        def __init__(self, by: float) -> None:
            super().__init__()
            self.by = by

        def forward(self, w: Any) -> Any:
            return self.by * w

    normed, old = parametrizations.weight_norm(linear()), linear()
    with pytest.warns(FutureWarning, match="weight_norm"):
        nn.utils.weight_norm(old)
    a, b, c = (linear(8, 8) for _ in range(3))
    b.weight = c.weight = a.weight
    for module, by in ((a, 2.0), (b, 2.0), (c, 3.0)):
        parametrize.register_parametrization(module, "weight", Doubled(by))
    model = nn.ModuleList([normed, old, a, b, c]).eval()
    old.weight_g.data.mul_(2)  # which its hook brings into the weight before a forward
    quantized = dt.quantize_dynamic(model)
    x = torch.randn(3, 40)
    for i in (0, 1):
        right = model[i](x)
        assert relative(quantized[i](x), right) < 0.02
        assert type(quantized[i]) is dt.Linear
    assert quantized[2].packed.data_ptr() == quantized[3].packed.data_ptr() != quantized[4].packed.data_ptr()
    assert relative(quantized[4].weight, 3 * a.parametrizations.weight.original) < 0.02


def test_hooks_of_users_stay() -> None:
    module, seen = linear(), []
    module.register_forward_hook(lambda m, x, y: seen.append(y.shape))
    dt.quantize_dynamic(nn.Sequential(module).eval())(torch.zeros(2, 40))
    assert seen == [(2, 24)]
