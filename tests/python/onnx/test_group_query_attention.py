"""GroupQueryAttention gives what ONNX Runtime gives, from the first run on and where rows have different lengths."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper

import dynq
from tests.python.references.onnx_models import model, node
from tests.python.references.onnx_runtime import by_runtime, error

RNG = np.random.default_rng(0)
HEADS, GROUPS, SIZE = 4, 2, 16


def floats(*shape: int) -> np.ndarray:
    return (RNG.standard_normal(shape) * 0.7).astype(np.float32)


def decoder(feeds: dict[str, np.ndarray], **attributes: Any) -> onnx.ModelProto:
    there = [name if name in feeds else "-" for name in ("q", "k", "v", "pk", "pv", "ends", "total")]
    there += ["cos", "sin"] if attributes.get("do_rotary") else ["-", "-"]
    there += ["places" if "places" in feeds else "-", "a" if "a" in feeds else "-"]
    symbols: dict[str, list[Any]] = {
        **{name: ["b", "s", feeds[name].shape[2]] for name in "qkv" if name in feeds},
        **{name: ["b", GROUPS, "past", SIZE] for name in ("pk", "pv")},
        "ends": ["b"], "total": [], "places": ["b", "s"], "a": [1, 1, "s", "all"],
    }  # fmt: skip
    inputs = {name: (x.dtype.name, symbols[name]) for name, x in feeds.items()}
    tables = {"cos": floats(40, SIZE // 2), "sin": floats(40, SIZE // 2)} if attributes.get("do_rotary") else {}
    layer = node(
        "GroupQueryAttention", " ".join(there).rstrip(" -"), "y keys values", "layer", domain="com.microsoft",
        num_heads=HEADS, kv_num_heads=GROUPS, **attributes,
    )  # fmt: skip
    return model([layer], inputs, "y keys values", tables, 17, microsoft=True)


def inputs(length: int, past: int | None, ends: list[int], packed: bool) -> dict[str, np.ndarray]:
    """``ends``: how many keys each row has."""
    batch = len(ends)
    feeds = {"q": floats(batch, length, (HEADS + 2 * GROUPS if packed else HEADS) * SIZE)}
    if not packed:
        feeds |= {name: floats(batch, length, GROUPS * SIZE) for name in "kv"}
    if past is not None:
        feeds |= {name: floats(batch, GROUPS, past, SIZE) for name in ("pk", "pv")}
    feeds |= {"ends": np.array(ends, np.int32) - 1, "total": np.array((past or 0) + length, np.int32)}
    return feeds


@given(
    runs=st.sampled_from([(5, None, [5, 5]), (5, 0, [5, 5]), (1, 6, [7, 7]), (1, 6, [7, 4]), (3, 4, [7])]),
    packed=st.booleans(), rotary=st.sampled_from([None, 0, 1]), places=st.booleans(), bias=st.booleans(),
    scale=st.sampled_from([0.0, 0.3]), window=st.sampled_from([-1, 2, 4]),
)  # fmt: skip
def test_a_run(
    runs: tuple[int, int | None, list[int]], packed: bool, rotary: int | None, places: bool, bias: bool, scale: float,
    window: int,
) -> None:  # fmt: skip
    length, past, ends = runs
    feeds = inputs(length, past, ends, packed)
    attributes: dict[str, Any] = {"local_window_size": window}
    if rotary is not None:
        attributes |= {"do_rotary": 1, "rotary_interleaved": rotary}
        if places:
            feeds["places"] = RNG.integers(0, 30, (len(ends), length))
    if bias:
        feeds["a"] = floats(1, 1, length, (past or 0) + length)
    if scale:
        attributes["scale"] = scale
    proto = decoder(feeds, **attributes)
    y, *present = by_runtime(proto, feeds)
    got = dynq.from_onnx(proto).run(feeds)
    assert error(got["y"], y) < 2e-5
    for name, want in zip(("keys", "values"), present, strict=True):
        for row, end in enumerate(ends):  # what lies behind means nothing
            assert error(got[name][row, :, :end], want[row, :, :end]) < 1e-6
        assert got[name].shape == want.shape


def test_rows_of_different_lengths_are_continued() -> None:
    """A prompt that is padded at its end, and then a key for each row."""
    prompt = inputs(5, 0, [5, 3], False)
    proto = decoder(prompt, do_rotary=1)
    built = dynq.from_onnx(proto)
    first, want = built.run(prompt), by_runtime(proto, prompt)
    for row, end in enumerate((5, 3)):
        assert error(first["y"][row, :end], want[0][row, :end]) < 2e-5
    step = inputs(1, 5, [6, 4], False) | {"pk": first["keys"], "pv": first["values"]}
    want = by_runtime(proto, step | {"pk": want[1], "pv": want[2]})
    assert error(built.run(step)["y"], want[0]) < 2e-5


def test_what_is_not_exact_is_refused() -> None:
    feeds = inputs(1, 6, [7, 7], False)
    for attributes, message in (
        ({"softcap": 5.0}, "GroupQueryAttention.softcap = 5.0"),
        ({"smooth_softmax": 1}, "GroupQueryAttention.smooth_softmax = 1"),
    ):
        with pytest.raises(dynq.UnsupportedModelError, match=message):
            dynq.from_onnx(decoder(feeds, **attributes))
    proto = decoder(feeds)
    shared = helper.make_tensor_value_info("keys", onnx.TensorProto.FLOAT, ["b", GROUPS, "past", SIZE])
    proto.graph.output[1].CopyFrom(shared)
    with pytest.raises(dynq.UnsupportedModelError, match="whose past and present are one buffer: 'layer'"):
        dynq.from_onnx(proto)


def a_layer(name: str, x: str, columns: int, rows: int, constants: dict[str, np.ndarray]) -> onnx.NodeProto:
    """A product with a weight of 4 bits."""
    constants[f"{name}.q"] = RNG.integers(0, 256, (rows, columns // 32, 16)).astype(np.uint8)
    constants[f"{name}.s"] = RNG.uniform(0.005, 0.01, rows * columns // 32).astype(np.float32)
    attributes = {"K": columns, "N": rows, "bits": 4, "block_size": 32}
    return node("MatMulNBits", f"{x} {name}.q {name}.s", name, name, domain="com.microsoft", **attributes)


def small_decoder() -> onnx.ModelProto:
    """Two layers as exporters for ONNX Runtime's generation write them; keys and values are inputs and outputs."""
    width, wide = HEADS * SIZE, 96
    constants: dict[str, np.ndarray] = {
        "table": floats(50, width), "cos": floats(40, SIZE // 2), "sin": floats(40, SIZE // 2),
        "one": np.array([1], np.int64), "at": np.array(1),
    }  # fmt: skip
    nodes = [
        node("ReduceSum", "mask one", "count", keepdims=0), node("Sub", "count one", "last"),
        node("Cast", "last", "ends", to=6), node("Shape", "mask", "sizes"), node("Gather", "sizes at", "all"),
        node("Cast", "all", "total", to=6), node("Gather", "table ids", "h"),
        node("SimplifiedLayerNormalization", "h n0", "x0", "norm", axis=-1, epsilon=1e-6),
    ]  # fmt: skip
    constants["n0"] = floats(width) + 1
    past: dict[str, Any] = {}
    outputs = ["logits"]
    state, x = "h", "x0"
    for i in range(2):
        for name in ("a", "b"):
            constants[f"n{name}{i}"] = floats(width) + 1
        past |= {f"{what}{i}": ("float32", ["b", GROUPS, "past", SIZE]) for what in ("pk", "pv")}
        outputs += [f"k{i}", f"v{i}"]
        nodes += [
            a_layer(f"qkv{i}", x, width, (HEADS + 2 * GROUPS) * SIZE, constants),
            node(
                "GroupQueryAttention", f"qkv{i} - - pk{i} pv{i} ends total cos sin", f"y{i} k{i} v{i}", f"attention{i}",
                domain="com.microsoft", num_heads=HEADS, kv_num_heads=GROUPS, do_rotary=1,
            ),
            a_layer(f"out{i}", f"y{i}", width, width, constants),
            node(
                "SkipSimplifiedLayerNormalization", f"{state} out{i} na{i}", f"m{i} - - s{i}", domain="com.microsoft",
                epsilon=1e-6,
            ),
            a_layer(f"gate{i}", f"m{i}", width, wide, constants), a_layer(f"up{i}", f"m{i}", width, wide, constants),
            node("Sigmoid", f"gate{i}", f"sigmoid{i}"), node("Mul", f"gate{i} sigmoid{i}", f"swish{i}"),
            node("Mul", f"swish{i} up{i}", f"wide{i}"), a_layer(f"down{i}", f"wide{i}", wide, width, constants),
            node(
                "SkipSimplifiedLayerNormalization", f"s{i} down{i} nb{i}", f"e{i} - - t{i}" if i == 0 else f"e{i}",
                domain="com.microsoft", epsilon=1e-6,
            ),
        ]  # fmt: skip
        state, x = f"t{i}", f"e{i}"
    nodes.append(a_layer("logits", x, width, 50, constants))
    inputs: dict[str, Any] = {"ids": ("int64", ["b", "s"]), "mask": ("int64", ["b", "all"]), **past}
    return model(nodes, inputs, " ".join(outputs), constants, 17, microsoft=True)


def test_a_small_decoder_goes_on_from_what_it_knows() -> None:
    proto = small_decoder()
    plain, built = dynq.from_onnx(proto, quantize=False), dynq.from_onnx(proto, first_layer="int8")
    assert [row.became for row in built.report().rows].count("int8 linear") >= 11
    names = [output.name for output in proto.graph.output]
    none = np.zeros((2, GROUPS, 0, SIZE), np.float32)
    states = [{f"{what}{i}": none for i in range(2) for what in ("pk", "pv")}] * 3
    for length, seen in ((6, 6), (1, 7), (1, 8)):
        ids = RNG.integers(0, 50, (2, length))
        mask = np.ones((2, seen), np.int64)
        results: list[dict[str, np.ndarray]] = []
        for state, run in zip(states, (None, plain, built), strict=True):
            feeds = {"ids": ids, "mask": mask, **state}
            values = by_runtime(proto, feeds) if run is None else list(run.run(feeds).values())
            results.append(dict(zip(names, values, strict=True)))
        states = [{f"p{what}{i}": result[f"{what}{i}"] for i in range(2) for what in "kv"} for result in results]
        want, exact, rough = (result["logits"] for result in results)
        assert error(exact, want) < 1e-3 and error(rough, want) < 0.1
