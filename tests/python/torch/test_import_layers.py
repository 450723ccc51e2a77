"""dynq.from_torch: recurrent layers and attention stay whole, alone and in real models."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

import dynq  # noqa: E402
from dynq.demo import minilm  # noqa: E402
from tests.python.references.torch_models import check, cosine, expected, floats, ops, results  # noqa: E402

OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "both": {"num_layers": 2, "bidirectional": True, "batch_first": True},
    "unbiased": {"bias": False, "batch_first": True},
    "three": {"num_layers": 3, "dropout": 0.5},
}


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
def test_recurrent_layers_stay_whole(kind: str) -> None:
    torch.manual_seed(0)
    layers = nn.ModuleDict({name: getattr(nn, kind)(32, 16, **options) for name, options in OPTIONS.items()})
    for parameter in layers.parameters():
        nn.init.normal_(parameter, std=0.2)

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = layers

        def forward(self, x: Any) -> Any:
            return {name: layer(x) for name, layer in self.layers.items()}

    model = check(Model(), floats(3, 7, 32), shapes={0: "a", 1: "b"}, others=[(floats(2, 4, 32),)])
    assert [name for name, op in model.nodes if op == f"dynq.{kind}"] == [
        f"layers.{name}.l{i}" for name, options in OPTIONS.items() for i in range(options.get("num_layers", 1))
    ]


def test_a_recurrent_layer_with_states_runs_frame_by_frame() -> None:
    torch.manual_seed(0)
    module = nn.LSTM(8, 16, 2, batch_first=True).eval()
    states = (floats(2, 3, 16), floats(2, 3, 16) * 2)
    shapes = {"input": {0: "batch", 1: "time"}, "hx": ({1: "batch"}, {1: "batch"})}
    model = dynq.from_torch(module, (floats(3, 7, 8), states), dynamic_shapes=shapes)
    whole = results(model, floats(3, 7, 8), states)
    h, c = (state.numpy() for state in states)
    for step in range(7):
        y, h, c = results(model, floats(3, 7, 8)[:, step : step + 1], h, c)
        np.testing.assert_array_equal(y[:, 0], whole[0][:, step])
    np.testing.assert_array_equal(h, whole[1])
    relu = nn.RNN(8, 16, nonlinearity="relu").eval()
    check(relu, floats(3, 2, 8))


LAYER = {"d_model": 64, "nhead": 4, "dim_feedforward": 96}


@pytest.fixture
def parts() -> Iterator[None]:
    """torch itself runs the parts of a layer, not its own whole one with tensors of another kind."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    yield
    torch.backends.mha.set_fastpath_enabled(fast)


@pytest.mark.parametrize("batch_first", [False, True])
def test_transformer_encoders_become_linear_layers_attention_and_norms(batch_first: bool) -> None:
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(**LAYER, batch_first=batch_first, activation="gelu")
    model = check(
        nn.TransformerEncoder(layer, 2, enable_nested_tensor=False),
        floats(3, 5, 64),
        shapes={0: "a", 1: "b"},
        others=[(floats(2, 7, 64),)],
    )
    transposes = {} if batch_first else {"Transpose": 4}  # before and behind the two attentions
    assert ops(model) == {"dynq.Linear": 8, "dynq.Attention": 2, "LayerNormalization": 4, **transposes}
    names = [name for name, op in model.nodes if op == "dynq.Linear"]
    assert names[:4] == [
        f"layers.0.{name}" for name in ("self_attn.in_proj", "self_attn.out_proj", "linear1", "linear2")
    ]


def test_a_transformer_with_masks_is_imported(parts: None) -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Transformer(**LAYER, num_encoder_layers=1, num_decoder_layers=1, batch_first=True)

        def forward(self, source: Any, target: Any, padding: Any) -> Any:
            causal = nn.Transformer.generate_square_subsequent_mask(target.shape[1])
            masks = {"src_key_padding_mask": padding, "memory_key_padding_mask": padding}
            return self.inner(source, target, tgt_mask=causal, tgt_is_causal=True, **masks)

    torch.manual_seed(0)
    shapes = {"source": {0: "n", 1: "s"}, "target": {0: "n", 1: "t"}, "padding": {0: "n", 1: "s"}}

    def given(n: int, s: int, t: int) -> tuple[Any, ...]:
        padding = torch.zeros(n, s, dtype=torch.bool)
        padding[0, s - 2 :] = True
        return floats(n, s, 64), floats(n, t, 64), padding

    model = check(Model(), *given(3, 5, 4), shapes=shapes, others=[given(2, 7, 9)])
    assert ops(model)["dynq.Attention"] == 3


@pytest.mark.parametrize("batch_first", [False, True])
def test_multi_head_attention_is_found(batch_first: bool) -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = nn.MultiheadAttention(64, 4, batch_first=batch_first)
            self.plain = nn.MultiheadAttention(64, 4, bias=False, batch_first=batch_first)

        def forward(self, x: Any, y: Any) -> Any:
            return [
                layer(x, z, z, need_weights=weights)[0]
                for layer in (self.attention, self.plain)
                for z in (x, y)
                for weights in (False, True)
            ]

    torch.manual_seed(0)
    axis, other = (0, 1) if batch_first else (1, 0)
    shapes = {"x": {axis: "n", other: "t"}, "y": {axis: "n", other: "s"}}

    def given(n: int, t: int, s: int) -> tuple[Any, Any]:
        return (floats(n, t, 64), floats(n, s, 64)) if batch_first else (floats(t, n, 64), floats(s, n, 64))

    model = check(Model(), *given(3, 5, 4), shapes=shapes, others=[given(2, 7, 9)])
    # With and without weights, which nothing reads, the same is computed: once.
    assert ops(model)["dynq.Attention"] == 4 and "Softmax" not in ops(model)


def test_attention_of_which_the_weights_are_read_is_imported_too() -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = nn.MultiheadAttention(64, 4)

        def forward(self, x: Any) -> Any:
            return self.attention(x, x, x)

    check(Model(), floats(5, 3, 64), shapes={0: "t", 1: "n"}, others=[(floats(2, 1, 64),)])


def test_scaled_dot_product_attention_in_all_its_forms() -> None:
    def attend(*args: Any, **kwargs: Any) -> Any:
        return nn.functional.scaled_dot_product_attention(*args, **kwargs)

    class Model(nn.Module):
        def forward(self, q: Any, k: Any, v: Any, few: Any, mask: Any) -> Any:
            time = q.shape[2]
            return {
                "plain": attend(q, k, v),
                "scale": attend(q, k, v, scale=0.3),
                "added": attend(q, k, v, attn_mask=mask.float()),
                "hidden": attend(q, k, v, attn_mask=mask),
                "causal": attend(q, k[:, :, :time], v[:, :, :time], is_causal=True),
                "few heads": attend(q, few, few, enable_gqa=True),
                "three": attend(q[:, 0], k[:, 0], v[:, 0]),
            }

    def given(n: int, t: int, s: int) -> tuple[Any, ...]:
        mask = torch.rand(n, 1, t, s, generator=torch.Generator().manual_seed(0)) > 0.5
        mask[0, 0, 0] = False
        return floats(n, 4, t, 8), floats(n, 4, s, 8), floats(n, 4, s, 8) * 2, floats(n, 2, s, 8), mask

    names = {"q": {0: "n", 2: "t"}, "mask": {0: "n", 2: "t", 3: "s"}}
    shapes = {**names, **{name: {0: "n", 2: "s"} for name in ("k", "v", "few")}}
    check(Model(), *given(3, 4, 6), shapes=shapes, others=[given(2, 5, 7)])


def test_a_sentence_encoder_of_transformers() -> None:
    """all-MiniLM-L6-v2 on sentences, by its token outputs."""
    transformers = pytest.importorskip("transformers")
    tokenizer = tokenizers.Tokenizer.from_file(str(minilm.find_model() / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.enable_padding()
    module = transformers.BertModel.from_pretrained(minilm.find_model()).eval()

    def tokens(count: int) -> dict[str, Any]:
        encoded = tokenizer.encode_batch(list(minilm.SENTENCES[:count]))
        ids, mask = ([getattr(e, name) for e in encoded] for name in ("ids", "attention_mask"))
        return {"input_ids": torch.tensor(ids), "attention_mask": torch.tensor(mask)}

    model = dynq.from_torch(module, kwargs=tokens(2), dynamic_shapes={0: "batch", 1: "sequence"})
    assert [value.name for value in model.outputs] == ["last_hidden_state", "pooler_output"]
    counts = ops(model)
    assert (counts["dynq.Linear"], counts["dynq.Attention"], counts["LayerNormalization"]) == (25, 6, 13)
    assert "Softmax" not in counts and "Erf" not in counts and "Transpose" not in counts
    assert "And" not in counts and "Where" not in counts  # a mask of keys alone, which attention adds once for all rows
    for count in (1, 16):
        given = tokens(count)
        seen = given["attention_mask"].numpy().astype(bool)
        wanted, pooled = expected(module, **given)
        result, rough = results(model, *given.values())
        assert cosine(result[seen], wanted[seen]) > 0.998
        assert cosine(rough, pooled) > 0.998
    exact = dynq.from_torch(module, kwargs=tokens(2), dynamic_shapes={0: "batch", 1: "sequence"}, quantize=False)
    np.testing.assert_allclose(results(exact, *given.values())[0][seen], wanted[seen], atol=2e-5)


class VoiceEncoder(nn.Module):
    """Resemblyzer's: mels (batch, 160, 40) to embeddings of length 1."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(40, 256, 3, batch_first=True)
        self.linear = nn.Linear(256, 256)
        self.relu = nn.ReLU()

    def forward(self, mels: Any) -> Any:
        _, (hidden, _) = self.lstm(mels)
        raw = self.relu(self.linear(hidden[-1]))
        return raw / torch.norm(raw, dim=1, keepdim=True)


def test_a_voice_encoder(monkeypatch: pytest.MonkeyPatch) -> None:
    """Resemblyzer's weights on noise of the range of mels: the first projection stays float by itself."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[3] / "bench/speech"))
    path = __import__("packages").wheel("resemblyzer") / "pretrained.pt"
    weights = torch.load(path, map_location="cpu", weights_only=True)["model_state"]
    module = VoiceEncoder()
    module.load_state_dict({name: tensor for name, tensor in weights.items() if name in module.state_dict()})
    mels = floats(4, 160, 40).abs() ** 4 / 50
    model = check(module, mels, shapes="batch", others=[(mels[:1],)], least=0.999)
    became = {row.node: row.became for row in model.report().rows}
    assert became["lstm.l0.projection"] == "float linear"
    assert became["lstm.l0"] == became["lstm.l2"] == "int8 LSTM"
    assert became["linear"] == "int8 linear"
