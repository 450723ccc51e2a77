"""Attention and normalizations of ONNX Runtime give what ONNX Runtime gives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

import dynq
from tests.python.references.onnx_models import model, node
from tests.python.references.onnx_runtime import agrees, by_runtime, error

RNG = np.random.default_rng(0)
B, S, T, HEADS, WIDTH = 2, 5, 7, 4, 32


def floats(*shape: int) -> np.ndarray:
    return (RNG.standard_normal(shape) * 0.7).astype(np.float32)


def one(
    op: str, names: str, outputs: str, feeds: dict[str, np.ndarray], constants: dict[str, np.ndarray], **attributes: Any
) -> onnx.ModelProto:
    """A model of one node; the batch and the lengths are open."""
    layer = node(op, names, outputs, "layer", domain="com.microsoft", **attributes)
    inputs: dict[str, Any] = {}
    for name, x in feeds.items():
        symbols = {B: "b", S: "s", T: "t", S + T: "all"}
        inputs[name] = (
            x.dtype.name,
            [symbols.get(size, size) if x.ndim > 1 or size == B else size for size in x.shape],
        )
    return model([layer], inputs, outputs.replace("- ", ""), constants, 17, microsoft=True)


def masks(kind: str, keys: int) -> np.ndarray | None:
    if kind == "rows":
        return np.array([[1] * keys, [1, 0, 1] + [0] * (keys - 3)], np.int32)
    if kind == "all rows":
        return (RNG.random((B, S, keys)) < 0.6).astype(np.int32)
    if kind == "lengths":
        return np.array([keys, 3], np.int32)
    if kind == "ends and starts":
        return np.array([keys, 3, 1, 0], np.int32)
    return None


@given(
    mask=st.sampled_from(["none", "rows", "all rows", "lengths", "ends and starts"]),
    causal=st.booleans(), bias=st.booleans(), added=st.booleans(), scale=st.sampled_from([0.0, 0.2]),
    wide=st.booleans(), past=st.booleans(),
)  # fmt: skip
def test_attention_of_one_weight(
    mask: str, causal: bool, bias: bool, added: bool, scale: float, wide: bool, past: bool
) -> None:  # fmt: skip
    added = added and not past  # ONNX Runtime has not both
    sizes = [WIDTH, WIDTH, 2 * WIDTH] if wide and not past else [WIDTH] * 3
    feeds = {"x": floats(B, S, 24)}
    constants = {"w": floats(24, sum(sizes)) * np.float32(0.3), "b": floats(sum(sizes))}
    keys = S + T if past else S
    given_mask = masks(mask, keys)
    if given_mask is not None:
        feeds["m"] = given_mask
    if past:
        feeds["p"] = floats(2, B, HEADS, T, WIDTH // HEADS)
    if added:
        feeds["a"] = floats(1, HEADS, S, keys)
    attributes: dict[str, Any] = {"num_heads": HEADS, "unidirectional": int(causal)}
    if scale:
        attributes["scale"] = scale
    if sizes[2] != WIDTH:
        attributes["qkv_hidden_sizes"] = sizes
    names = f"x w {'b' if bias else '-'} {'m' if 'm' in feeds else '-'} {'p' if past else '-'} {'a' if added else '-'}"
    proto = one("Attention", names.rstrip(" -"), "y present" if past else "y", feeds, constants, **attributes)
    if mask == "ends and starts":  # whether a mask is that its size tells
        for value in proto.graph.input:
            for dim in value.type.tensor_type.shape.dim:
                if dim.dim_param == "b":
                    dim.dim_value = B
    built = agrees(proto, feeds, 1e-3 if mask == "all rows" else 5e-5)  # near -10000 scores have steps of 0.001
    assert "dynq.Attention" in {op for _, op in built.nodes}


@given(
    form=st.sampled_from(["three", "of another", "joined"]),
    mask=st.sampled_from(["none", "rows", "all rows", "lengths"]),
    causal=st.booleans(), bias=st.booleans(), added=st.booleans(), past=st.booleans(), present=st.booleans(),
)  # fmt: skip
def test_multi_head_attention(
    form: str, mask: str, causal: bool, bias: bool, added: bool, past: bool, present: bool
) -> None:  # fmt: skip
    past, present = past and form == "three", present and form == "three"
    causal = causal and form == "three"
    keys = S + T if past else S if form == "three" else T
    feeds = {"q": floats(B, S, WIDTH)}
    constants: dict[str, np.ndarray] = {}
    if form == "joined":
        feeds |= {name: floats(B, HEADS, T, WIDTH // HEADS) for name in "kv"}
        bias = False
    else:
        feeds |= {name: floats(B, S if form == "three" else T, WIDTH) for name in "kv"}
    given_mask = masks(mask, keys)
    if given_mask is not None:
        feeds["m"] = given_mask
    if past:
        feeds |= {name: floats(B, HEADS, T, WIDTH // HEADS) for name in ("pk", "pv")}
    if added:
        feeds["a"] = floats(B, HEADS, S, keys)
    if bias:
        constants["b"] = floats(3 * WIDTH)
    optional = [name if name in feeds or name in constants else "-" for name in ("b", "m", "a", "pk", "pv")]
    names = " ".join(["q k v", *optional]).rstrip(" -")
    outputs = "y pk2 pv2" if past or present else "y"
    proto = one("MultiHeadAttention", names, outputs, feeds, constants, num_heads=HEADS, unidirectional=int(causal))
    built = agrees(proto, feeds, 1e-3 if mask == "all rows" else 5e-5)  # near -10000 scores have steps of 0.001
    assert "dynq.Attention" in {op for _, op in built.nodes}


def test_packed_queries_keys_and_values_are_cut() -> None:
    size = WIDTH // HEADS
    x, kv, q = floats(B, S, HEADS, 3, size), floats(B, T, HEADS, 2, size), floats(B, S, WIDTH)
    plain = {"q": q, "k": kv[:, :, :, 0].reshape(B, T, WIDTH), "v": kv[:, :, :, 1].reshape(B, T, WIDTH)}
    want = by_runtime(one("MultiHeadAttention", "q k v", "y", plain, {}, num_heads=HEADS), plain)[0]
    proto = one("MultiHeadAttention", "q kv", "y", {"q": q, "kv": kv}, {}, num_heads=HEADS)
    assert error(dynq.from_onnx(proto).run({"q": q, "kv": kv})["y"], want) < 2e-5
    plain = {name: x[:, :, :, i].reshape(B, S, WIDTH) for i, name in enumerate("qkv")}
    want = by_runtime(one("MultiHeadAttention", "q k v", "y", plain, {}, num_heads=HEADS), plain)[0]
    proto = one("MultiHeadAttention", "x", "y", {"x": x}, {}, num_heads=HEADS)
    assert error(dynq.from_onnx(proto).run({"x": x})["y"], want) < 2e-5


@pytest.mark.parametrize("mask", ["none", "rows", "lengths"])
@pytest.mark.parametrize("channels", [False, True])
def test_attention_on_integers(channels: bool, mask: str) -> None:
    x = RNG.integers(0, 256, (B, S, 24)).astype(np.uint8)
    scale = RNG.uniform(0.004, 0.008, 3 * WIDTH if channels else ()).astype(np.float32)
    constants = {
        "w": RNG.integers(-127, 128, (24, 3 * WIDTH)).astype(np.int8), "b": floats(3 * WIDTH),
        "xs": np.float32(0.01).reshape(()), "xz": np.array(100, np.uint8), "ws": scale,
        "wz": np.zeros_like(scale).astype(np.int8),
    }  # fmt: skip
    feeds: dict[str, np.ndarray] = {"x": x}
    given_mask = masks(mask, S)
    if given_mask is not None:
        feeds["m"] = given_mask
    names = f"x w b xs ws {'m' if 'm' in feeds else '-'} xz wz"
    agrees(one("QAttention", names, "y", feeds, constants, num_heads=HEADS), feeds, 5e-5, 5e-5)


@pytest.mark.parametrize(
    ("op", "names", "attributes", "message"),
    [
        ("Attention", "x w", {"num_heads": 4, "do_rotary": 1}, "attribute com.microsoft.Attention.do_rotary = 1"),
        ("Attention", "x w - - - - n", {"num_heads": 4}, "Attention with past_sequence_length"),
        ("Attention", "x w - n", {"num_heads": 4}, "mask of one dimension whose size is not that of the batch"),
        ("MultiHeadAttention", "x x x - - - - - n", {"num_heads": 4}, "past_sequence_length"),
    ],
)
def test_what_is_not_exact_is_refused(op: str, names: str, attributes: dict[str, Any], message: str) -> None:
    feeds = {"x": floats(B, S, 32), "n": np.array([3], np.int32)}
    with pytest.raises(dynq.UnsupportedModelError, match=message):
        dynq.from_onnx(one(op, names, "y", feeds, {"w": floats(32, 96)}, **attributes))


@given(
    interleaved=st.booleans(), first=st.booleans(), heads=st.booleans(), part=st.booleans(), parted=st.booleans()
)  # fmt: skip
def test_rotary_embedding(interleaved: bool, first: bool, heads: bool, part: bool, parted: bool) -> None:
    size = 8
    turned = 4 if part else size
    x = floats(B, HEADS, S, size) if parted else floats(B, S, HEADS * size)
    places = np.array([3]) if first else RNG.integers(0, 20, (B, S))
    constants = {"cos": floats(20, turned // 2), "sin": floats(20, turned // 2)}
    attributes = {"interleaved": int(interleaved)}
    if heads or part:
        attributes["num_heads"] = HEADS
    if part:
        attributes["rotary_embedding_dim"] = turned
    feeds = {"x": x, "i": places}
    agrees(one("RotaryEmbedding", "x i cos sin", "y", feeds, constants, **attributes), feeds, 1e-6, 1e-6)


@pytest.mark.parametrize("bias", [False, True])
def test_a_norm_of_a_sum_without_the_mean(bias: bool) -> None:
    feeds = {"x": floats(B, S, 24), "k": floats(B, S, 24)}
    names = "x k g b" if bias else "x k g"
    constants = {"g": floats(24), "b": floats(24)}
    op = "SkipSimplifiedLayerNormalization"
    agrees(one(op, names, "y - - sum", feeds, constants, epsilon=1e-3), feeds)
    with pytest.raises(dynq.UnsupportedModelError, match=f"output 2 of {op}"):
        dynq.from_onnx(one(op, names, "y - inverse", feeds, constants))


@pytest.mark.parametrize("opset", [11, 16, 17])
@pytest.mark.parametrize(("op", "names"), [("LayerNormalization", "x g b"), ("SimplifiedLayerNormalization", "x g")])
def test_norms_in_the_domain_of_onnx(op: str, names: str, opset: int) -> None:
    constants = {"g": floats(24), "b": floats(24)}
    layer = node(op, names, "n", "norm", axis=-1, epsilon=1e-3)
    proto = model([layer, node("Relu", "n", "y")], {"x": ("float32", ["b", 5, 24])}, "y", constants, opset)
    built = agrees(proto, {"x": floats(3, 5, 24)})
    assert "norm" in dict(built.nodes)


@pytest.mark.parametrize("segments", [False, True])
@pytest.mark.parametrize("mask", [False, True])
@pytest.mark.parametrize("places", [False, True])
def test_embeddings_and_their_norm(segments: bool, mask: bool, places: bool) -> None:
    ids = RNG.integers(0, 50, (B, S)).astype(np.int32)
    feeds = {"ids": ids}
    if segments:
        feeds["seg"] = RNG.integers(0, 2, (B, S)).astype(np.int32)
    if mask:
        feeds["m"] = np.array([[1, 1, 1, 1, 0], [1, 1, 0, 0, 0]], np.int32)
    if places:
        feeds["pos"] = RNG.integers(0, 16, (B, S)).astype(np.int32)
    constants = {"we": floats(50, 24), "pe": floats(16, 24), "g": floats(24), "b": floats(24)}
    if segments:
        constants["se"] = floats(2, 24)
    names = "ids {} we pe {} g b {} {}".format(
        *(("seg", "se") if segments else ("-", "-")), "m" if mask else "-", "pos" if places else "-"
    )
    proto = one("EmbedLayerNormalization", names.rstrip(" -"), "y count sum", feeds, constants, epsilon=1e-5)
    want = by_runtime(proto, feeds)
    for options, limit in (({"embedding": "float"}, 1e-5), ({}, 0.02)):
        got = dynq.from_onnx(proto, **options).run(feeds)
        assert error(got["y"], want[0]) < limit and error(got["sum"], want[2]) < limit
        assert np.array_equal(got["count"], want[1]) and got["count"].dtype == np.int32


@pytest.mark.parametrize("segments", [False, True])
def test_embeddings_of_integers(segments: bool) -> None:
    sizes = {"we": (50, 24), "pe": (16, 24), "se": (2, 24), "g": (24,), "b": (24,)}
    constants = {name: RNG.integers(0, 256, size).astype(np.uint8) for name, size in sizes.items()}
    constants |= {f"{name}s": np.array(RNG.uniform(0.01, 0.02), np.float32) for name in sizes}
    constants |= {f"{name}z": np.array(RNG.integers(100, 150), np.uint8) for name in sizes}
    feeds = {"ids": RNG.integers(0, 50, (B, S)).astype(np.int32), "m": np.ones((B, S), np.int32)}
    if segments:
        feeds["seg"] = RNG.integers(0, 2, (B, S)).astype(np.int32)
    names = "ids seg we pe se g b m wes pes ses gs bs wez pez sez gz bz"
    if not segments:
        names = "ids - we pe - g b m wes pes - gs bs wez pez - gz bz"
    used = {name: array for name, array in constants.items() if name in names.split()}
    proto = one("QEmbedLayerNormalization", names, "y count", feeds, used, epsilon=1e-5)
    want = by_runtime(proto, feeds)
    for options, limit in (({"embedding": "float"}, 1e-5), ({}, 0.02)):
        got = dynq.from_onnx(proto, **options).run(feeds)
        assert error(got["y"], want[0]) < limit and np.array_equal(got["count"], want[1])


def optimized_encoder() -> onnx.ModelProto:
    """A layer of an encoder as ONNX Runtime's optimizer for transformers writes it."""
    sizes = {"we": (50, WIDTH), "pe": (16, WIDTH), "se": (2, WIDTH), "w": (WIDTH, 3 * WIDTH), "b": (3 * WIDTH,)}
    sizes |= {"o": (WIDTH, WIDTH), "i": (WIDTH, 64), "ib": (64,), "d": (64, WIDTH), "db": (WIDTH,)}
    constants = {name: floats(*size) * np.float32(0.4) for name, size in sizes.items()}
    for name in ("n0", "n1", "n2"):
        constants |= {f"{name}g": 1 + floats(WIDTH) * np.float32(0.1), f"{name}b": floats(WIDTH)}

    def own(op: str, names: str, outputs: str, **attributes: Any) -> onnx.NodeProto:
        return node(op, names, outputs, outputs.split()[0], domain="com.microsoft", **attributes)

    nodes = [
        own("EmbedLayerNormalization", "ids seg we pe se n0g n0b mask", "e lengths", epsilon=1e-6),
        own("Attention", "e w b lengths", "a", num_heads=HEADS), node("MatMul", "a o", "p"),
        own("SkipLayerNormalization", "p e n1g n1b", "s", epsilon=1e-6), node("MatMul", "s i", "h"),
        own("BiasGelu", "h ib", "g"), node("MatMul", "g d", "f"),
        own("SkipLayerNormalization", "f s n2g n2b db", "y", epsilon=1e-6),
    ]  # fmt: skip
    inputs: dict[str, Any] = {name: ("int32", ["b", "s"]) for name in ("ids", "seg", "mask")}
    proto = model(nodes, inputs, "y", constants, 17, microsoft=True)
    proto.graph.output[0].type.tensor_type.elem_type = onnx.TensorProto.FLOAT
    return proto


def test_an_optimized_encoder_and_what_quantize_dynamic_makes_of_it(tmp_path: Path) -> None:
    quantization = pytest.importorskip("onnxruntime.quantization")
    proto = optimized_encoder()
    ids = RNG.integers(0, 50, (2, 6)).astype(np.int32)
    mask = np.array([[1] * 6, [1, 1, 1, 0, 0, 0]], np.int32)
    feeds = {"ids": ids, "seg": (ids % 2).astype(np.int32), "mask": mask}
    built = agrees(proto, feeds)
    ops = [op for _, op in built.nodes]
    assert ops.count("dynq.Linear") == 4 and ops.count("dynq.Attention") == 1 and "Split" not in ops
    onnx.save(proto, tmp_path / "m.onnx")
    quantization.quantize_dynamic(tmp_path / "m.onnx", tmp_path / "q.onnx", extra_options={"DefaultTensorType": 1})
    quantized = onnx.load(tmp_path / "q.onnx")
    assert {"QAttention", "QEmbedLayerNormalization"} <= {n.op_type for n in quantized.graph.node}
    got = dynq.from_onnx(quantized).run(feeds)["y"]
    assert error(got, by_runtime(proto, feeds)[0]) < 0.1 and error(got, by_runtime(quantized, feeds)[0]) < 0.1
