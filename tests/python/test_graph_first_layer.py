"""A small layer that is alone in reading an input stays float by default, says so, and can be overruled."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import dynq

RNG = np.random.default_rng(0)


def weight(n: int, k: int) -> np.ndarray:
    return RNG.standard_normal((n, k), np.float32) / np.float32(np.sqrt(k))


def network(width: int = 8, readers: int = 1, between: str = "") -> tuple[dynq.Graph, Any]:
    """x (n, width) -> ``readers`` layers of 8 channels, their sum -> two layers of 64 channels."""
    g = dynq.Graph("network")
    x: Any = g.input("x", ("n", width))
    if between == "layer norm":
        x = g.layer_norm(x, np.ones(8, np.float32), np.zeros(8, np.float32))
    elif between == "movement":
        x = g.node("Reshape", [x, np.array([-1, 8])]) * np.float32(3) - np.ones(8, np.float32)
    h = g.linear(x, weight(8, width), name="first")
    for i in range(1, readers):
        h = h + g.linear(x, weight(8, width), name=f"first{i}")
    h = g.linear(g.node("Tanh", [h]), weight(64, 8), name="second")
    return g, g.linear(g.node("Tanh", [h]), weight(64, 64), name="third")


def kept(g: dynq.Graph, y: Any, **options: Any) -> dict[str, str]:
    return {row.node: row.why for row in g.build(y, **options).report().kept_float}


@pytest.mark.parametrize("between", ["", "movement"])
def test_a_small_first_layer_stays_float_and_the_report_says_why(between: str) -> None:
    floats = kept(*network(between=between))
    assert list(floats) == ["first"]
    assert "first_layer='float'" in floats["first"] and "'x'" in floats["first"] and "1.4%" in floats["first"]


def test_it_can_be_overruled() -> None:
    assert kept(*network(), first_layer="int8") == {}
    with pytest.raises(ValueError, match="first_layer"):
        kept(*network(), first_layer="none")


def test_keep_float_and_quantize_false_come_first() -> None:
    assert kept(*network(), keep_float=["first"])["first"] == "keep_float has 'first'"
    assert set(kept(*network(), quantize=False).values()) == {"quantize=False"}


@pytest.mark.parametrize(
    "options",
    [{"width": 256}, {"readers": 3}, {"between": "layer norm"}],
    ids=["a large one", "several that read the input", "one behind a norm"],
)
def test_other_layers_are_quantized(options: dict[str, Any]) -> None:
    assert kept(*network(**options)) == {}


def test_a_layer_behind_an_embedding_is_quantized() -> None:
    g = dynq.Graph("words")
    h = g.embedding(weight(100, 8), g.input("ids", ("n",), "int64"), name="table")
    h = g.node("Tanh", [g.linear(h, weight(8, 8), name="first")])
    assert kept(g, g.linear(h, weight(256, 8), name="second")) == {}


def test_inputs_of_a_huge_range_keep_their_small_numbers() -> None:
    """What the rule is for: one number of a row is a thousand times the others, which tell the answer."""
    g = dynq.Graph("power")
    w = weight(16, 8)
    w[:, 0] = 0
    h = g.linear(g.input("x", ("n", 8)), w, name="first")
    y = g.linear(g.node("Tanh", [h]), weight(64, 16), name="second")
    x = RNG.standard_normal((50, 8), np.float32)
    x[:, 0] = 1000
    expected = g.build(y, quantize=False)(x)
    error = {o: np.abs(g.build(y, first_layer=o)(x) - expected).max() for o in ("float", "int8")}
    assert error["float"] < 0.05 < 0.5 < error["int8"]
