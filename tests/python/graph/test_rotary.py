"""Rotary embeddings that are written in parts become one op, with the same bits."""

import numpy as np
import pytest

import dynq


def halves(g, x, width, split):
    if split:
        a, b = g.node("Split", [x, np.array([width // 2, width // 2])], 2, axis=3)
    else:
        a, b = x[..., : width // 2], x[..., width // 2 :]
    return g.node("Concat", [-b, a], axis=-1)


def neighbours(g, x, width, split):
    odd, even = x[..., 1::2], x[..., ::2]
    stacked = g.node("Concat", [(-odd)[..., None], even[..., None]], axis=4)
    return g.node("Reshape", [stacked, np.array([0, 0, 0, width])])


@pytest.mark.parametrize("split", [False, True])
@pytest.mark.parametrize("turn", [halves, neighbours])
def test_rotary_in_parts_becomes_one_op(turn, split):
    rng = np.random.default_rng(0)
    g = dynq.Graph()
    x = g.input("x", ("b", 3, "s", 8))
    c, s = (g.input(name, ("b", 1, "s", 8)) for name in ("cos", "sin"))
    rotated = turn(g, x, 8, split)
    g.output(x * c + rotated * s, "y")
    g.output(rotated, "rotated")
    model = g.build()
    assert "dynq.Rotary" in [op for _, op in model.nodes]
    arrays = [rng.normal(size=shape).astype(np.float32) for shape in ((2, 3, 5, 8), (2, 1, 5, 8), (2, 1, 5, 8))]
    y, rotated = model(*arrays)
    np.testing.assert_array_equal(y, arrays[0] * arrays[1] + rotated * arrays[2])


@pytest.mark.parametrize("wrong", ["not negated", "other half", "other x", "narrow"])
def test_what_is_no_rotary_stays_as_it_is(wrong):
    g = dynq.Graph()
    x, other = (g.input(name, (1, 1, "s", 8)) for name in ("x", "other"))
    c, s = (g.input(name, (1, 1, "s", 1 if wrong == "narrow" else 8)) for name in ("cos", "sin"))
    a, b = x[..., :4], (other if wrong == "other x" else x)[..., 4:]
    parts = [b if wrong == "not negated" else -b, a]
    rotated = g.node("Concat", parts[::-1] if wrong == "other half" else parts, axis=-1)
    model = g.build(x * c + rotated * s)
    assert "dynq.Rotary" not in [op for _, op in model.nodes]


@pytest.mark.parametrize("interleaved", [0, 1])
def test_rotary_is_exported_in_parts(tmp_path, interleaved):
    pytest.importorskip("onnx")
    rng = np.random.default_rng(1)
    g = dynq.Graph()
    values = [g.input("x", (2, 3, 5, 8)), *(g.input(name, (2, 1, 5, 8)) for name in ("cos", "sin"))]
    model = g.build(g.node("dynq.Rotary", values, interleaved=interleaved))
    dynq.export_onnx(model, tmp_path / "m.onnx")
    arrays = [rng.normal(size=shape).astype(np.float32) for shape in ((2, 3, 5, 8), (2, 1, 5, 8), (2, 1, 5, 8))]
    again = dynq.from_onnx(tmp_path / "m.onnx")
    assert [op for _, op in again.nodes] == ["dynq.Rotary"]
    np.testing.assert_array_equal(again(*arrays), model(*arrays))


def test_models_with_state_are_not_exported(tmp_path):
    pytest.importorskip("onnx")
    g = dynq.Graph()
    q, k, v = (g.input(name, ("b", "s", 8)) for name in "qkv")
    states = [g.state(name, (1, 10, 8)) for name in ("keys", "values")]
    model = g.build(g.node("dynq.CachedAttention", [q, k, v, *states], heads=1))
    with pytest.raises(dynq.UnsupportedModelError, match="reads what a session keeps"):
        dynq.export_onnx(model, tmp_path / "m.onnx")
