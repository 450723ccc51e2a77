"""Caches that are inputs and outputs become state by one option, with the results of the caches."""

import numpy as np
import pytest

import dynq

HEADS, SHARED, SIZE, WORDS = 4, 2, 8, 50


def decoder(rng, layers=2, name="past_key_values.{}.{}", result="present.{}.{}", spoil=None):
    """Return a graph as exporters write decoders: caches, a mask of them and of attention_mask, grouped heads."""
    g = dynq.Graph()

    def weights(*shape):
        return (rng.normal(size=shape) / np.sqrt(shape[0])).astype(np.float32)

    ids = g.input("input_ids", ("batch", "rows"), "int64")
    known = g.input("attention_mask", ("batch", "all"), "int64")
    cache = ("batch", SHARED, "past", SIZE)
    pasts = [[g.input(name.format(i, kind), cache) for kind in ("key", "value")] for i in range(layers)]
    rows = g.node("Gather", [g.node("Shape", [ids]), np.int64(1)])
    past = g.node("Gather", [g.node("Shape", [pasts[0][0]]), np.int64(2)])
    total = past + rows
    at = g.node("Range", [past, total, np.int64(1)])
    positions = g.node("Range", [np.int64(0), total, np.int64(1)])
    seen = g.node("LessOrEqual", [positions[None], at[:, None]])
    padded = g.node(
        "Cast",
        [
            known,
        ],
        to=9,
    )[:, None, None]
    mask = g.node("Where", [g.node("And", [seen, padded]), np.float32(0), np.float32(-1e9)])
    x = g.node("Gather", [weights(WORDS, HEADS * SIZE), ids]) + g.node("Gather", [weights(200, HEADS * SIZE), at])
    for i in range(layers):
        parts = []
        for count in (HEADS, SHARED, SHARED):
            y = g.linear(x, weights(HEADS * SIZE, count * SIZE).T)
            y = g.node("Reshape", [y, np.array([0, 0, count, SIZE])])
            parts.append(g.node("Transpose", [y], perm=[0, 2, 1, 3]))
        q, *new = parts
        kept = [
            g.node("Concat", [a, b] if spoil != "order" else [b, a], axis=2) for a, b in zip(pasts[i], new, strict=True)
        ]
        for kind, value in zip(("key", "value"), kept, strict=True):
            g.output(value * 2.0 if spoil == "scaled" else value, result.format(i, kind))
        sizes = [g.node("Shape", [kept[0]])[axis] for axis in (0, 2)]
        wide = []
        for value in kept:
            shape = [sizes[0][None], np.array([SHARED]), np.array([HEADS // SHARED]), sizes[1][None], np.array([SIZE])]
            shape = g.node("Concat", shape, axis=0)
            y = g.node("Expand", [value[:, :, None], shape])
            wide.append(g.node("Reshape", [y, np.array([0, HEADS, -1, SIZE])]))
        scores = g.node("MatMul", [q, g.node("Transpose", [wide[0]], perm=[0, 1, 3, 2])]) * np.float32(SIZE**-0.5)
        y = g.node("MatMul", [g.node("Softmax", [scores + mask], axis=-1), wide[1]])
        y = g.node("Reshape", [g.node("Transpose", [y], perm=[0, 2, 1, 3]), np.array([0, 0, HEADS * SIZE])])
        x = x + g.linear(y, weights(HEADS * SIZE, HEADS * SIZE).T)
    g.output(g.linear(x, weights(HEADS * SIZE, WORDS).T), "logits")
    return g


def test_steps_with_state_are_steps_with_caches():
    rng = np.random.default_rng(0)
    graph = decoder(rng)
    plain = graph.build(quantize=False)
    kept = graph.build(quantize=False, state="past_key_values")
    assert [value.name for value in kept.inputs] == ["input_ids", "attention_mask"]
    assert [value.name for value in kept.outputs] == ["logits"]
    assert sum(op == "dynq.CachedAttention" for _, op in kept.nodes) == 2
    state = kept.state()
    caches = {value.name: np.zeros((2, SHARED, 0, SIZE), np.float32) for value in plain.inputs[2:]}
    mask = np.ones((2, 0), np.int64)
    for rows in (7, 1, 1, 30, 1, 40, 1):
        new = np.ones((2, rows), np.int64)
        new[0, 0] = rows != 7  # the first sequence is padded on the left
        mask = np.concatenate([mask, new], 1)
        ids = rng.integers(0, WORDS, (2, rows))
        expected = plain.run({"input_ids": ids, "attention_mask": mask, **caches})
        got = state.run({"input_ids": ids, "attention_mask": mask})
        np.testing.assert_allclose(got["logits"], expected["logits"], atol=2e-5)
        caches = {name: expected[name.replace("past_key_values", "present")] for name in caches}
    assert state.lengths == [81, 81]


def test_an_onnx_file_with_caches_becomes_a_model_with_state(tmp_path):
    pytest.importorskip("onnx")
    rng = np.random.default_rng(3)
    graph = decoder(rng, 1)
    plain = graph.build(quantize=False)
    dynq.export_onnx(plain, tmp_path / "m.onnx")
    model = dynq.from_onnx(tmp_path / "m.onnx", quantize=False, state="past_key_values", max_positions=50)
    ids, mask = rng.integers(0, WORDS, (1, 9)), np.ones((1, 9), np.int64)
    caches = {value.name: np.zeros((1, SHARED, 0, SIZE), np.float32) for value in plain.inputs[2:]}
    expected = plain.run({"input_ids": ids, "attention_mask": mask, **caches})["logits"]
    state = model.state()
    for i in range(9):
        got = state.run({"input_ids": ids[:, i : i + 1], "attention_mask": mask[:, : i + 1]})["logits"]
        np.testing.assert_allclose(got[:, 0], expected[:, i], atol=2e-5)


def test_pairs_can_be_named():
    graph = decoder(np.random.default_rng(1), 1, name="in {} {}", result="out of {} {}")
    pairs = {"in 0 key": "out of 0 key", "in 0 value": "out of 0 value"}
    model = graph.build(state=pairs, max_positions=10)
    assert [value.shape[1] for value in model.graph().states] == [10, 10]
    with pytest.raises(ValueError, match="no input 'in 1 key'"):
        graph.build(state={"in 1 key": "out of 0 key"})
    with pytest.raises(ValueError, match="no input begins with 'past'"):
        graph.build(state="past")
    with pytest.raises(ValueError, match="expected one attention"):
        graph.build(state={"in 0 key": "out of 0 key"})
    with pytest.raises(ValueError, match="max_positions is 0"):
        graph.build(state=pairs, max_positions=0)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [("order", "with new positions behind"), ("scaled", "with new positions behind")],
)
def test_what_is_no_cache_is_refused(spoil, message):
    with pytest.raises(ValueError, match=message):
        decoder(np.random.default_rng(2), 1, spoil=spoil).build(quantize=False, state="past_key_values")
