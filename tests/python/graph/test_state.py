"""State: attention to what a session keeps, and the calls that change what it keeps."""

import threading

import numpy as np
import pytest

import dynq
from tests.python.references.cached_attention import attention

MOST = 200
CASES = {
    "plain": {},
    "grouped": {"heads": 6, "shared": 2},
    "one shared": {"heads": 5, "shared": 1, "size": 7, "width": 19},
    "window": {"window": 5},
    "wide window": {"heads": 4, "shared": 2, "window": 33},
    "softcap": {"softcap": 2.5, "scale": 0.7},
    "slopes": {"slopes": True},
    "sinks": {"sinks": True, "heads": 4, "shared": 1},
    "distances": {"distances": True, "heads": 6, "shared": 2},
    "all": {"distances": True, "slopes": True, "sinks": True, "softcap": 1.5, "window": 20, "heads": 4, "shared": 2},
}


def made(
    rng,
    heads=4,
    shared=4,
    size=16,
    width=16,
    slopes=False,
    sinks=False,
    distances=False,
    heads_first=False,
    **attributes,
):
    """Return a model of one attention, a function that makes its inputs, and the arguments of the reference."""
    g = dynq.Graph()
    widths = {"q": (heads, size), "k": (shared, size), "v": (shared, width)}
    shapes = {
        name: ("batch", count, "rows", each) if heads_first else ("batch", "rows", count * each)
        for name, (count, each) in widths.items()
    }
    q, k, v = (g.input(name, shape) for name, shape in shapes.items())
    lengths = g.input("lengths", ("batch",), "int64")
    states = [g.state("keys", (shared, MOST, size)), g.state("values", (shared, MOST, width))]
    more = {
        name: rng.normal(size=heads).astype(np.float32)
        for name, wanted in (("slopes", slopes), ("sinks", sinks))
        if wanted
    }
    if distances:
        more["distances"] = rng.normal(size=(heads, MOST + 3)).astype(np.float32)
    rest = [None, *(more.get(name) for name in ("slopes", "sinks", "distances"))]
    y = g.node("dynq.CachedAttention", [q, k, v, *states, lengths, *rest], heads=heads, **attributes)
    p = g.node("dynq.Positions", [q if not heads_first else g.node("Transpose", [q], perm=[0, 2, 1, 3]), lengths])
    g.output(y, "y")
    g.output(p, "positions")
    model = g.build()

    def inputs(batch, rows):
        return {
            name: rng.normal(size=(batch, rows, count * each)).astype(np.float32)
            for name, (count, each) in widths.items()
        }

    def given(values, lengths=None):
        batch, rows = values["q"].shape[:2]
        if heads_first:
            values = {
                name: values[name].reshape(batch, rows, count, each).transpose(0, 2, 1, 3)
                for name, (count, each) in widths.items()
            }
        return {**values, "lengths": np.full(batch, rows) if lengths is None else np.asarray(lengths)}

    return model, inputs, given, {"heads": heads, **attributes, **more}


def cut(values, begin, end):
    return {name: array[:, begin:end] for name, array in values.items()}


@pytest.mark.parametrize("name", CASES)
def test_attention_is_that_of_numpy_and_steps_have_the_bits_of_one_call(name):
    rng = np.random.default_rng(len(name))
    model, inputs, given, arguments = made(rng, **CASES[name])
    values = inputs(2, 150)
    whole = model.run(given(values))
    for b in range(2):
        expected = attention(values["q"][b], values["k"][b], values["v"][b], **arguments)
        np.testing.assert_allclose(whole["y"][b], expected, atol=3e-4 if "slopes" in arguments else 2e-5)
    np.testing.assert_array_equal(whole["positions"], np.tile(np.arange(150), (2, 1)))
    for sizes in ([1] * 150, [70, 1, 1, 1, 50, 27], [3, 61, 86]):
        state, at, parts = model.state(), 0, []
        for size in sizes:
            parts.append(state.run(given(cut(values, at, at + size)))["y"])
            at += size
        assert state.lengths == [150, 150]
        np.testing.assert_array_equal(np.concatenate(parts, 1), whole["y"])


@pytest.mark.parametrize("isa", dynq.isa.supported())
def test_every_instruction_set_and_number_of_threads_gives_the_same_bits(isa):
    rng = np.random.default_rng(5)
    model, inputs, given, _ = made(rng, **CASES["all"])
    values = inputs(3, 60)
    results = []
    before = dynq.get_num_threads()
    try:
        for use, threads in (("scalar", 1), (isa, 1), (isa, 3), (isa, 8)):
            with dynq.isa.use(use):
                dynq.set_num_threads(threads)
                state = model.state()
                parts = [state.run(given(cut(values, *part)))["y"] for part in ((0, 40), (40, 41), (41, 60))]
                results.append(np.concatenate(parts, 1))
    finally:
        dynq.set_num_threads(before)
    for result in results[1:]:
        np.testing.assert_array_equal(result, results[0])


def test_heads_of_rows_give_the_bits_of_rows_of_heads():
    model, inputs, given, _ = made(np.random.default_rng(1), heads=6, shared=3, size=8, width=24)
    other, _, given_other, _ = made(np.random.default_rng(1), heads=6, shared=3, size=8, width=24, heads_first=True)
    values = inputs(2, 37)
    np.testing.assert_array_equal(model.run(given(values))["y"], other.run(given_other(values))["y"])


def test_a_ragged_batch_has_the_bits_of_single_runs():
    rng = np.random.default_rng(2)
    model, inputs, given, _ = made(rng, heads=4, shared=2, window=9)
    lengths, more = [5, 31, 1, 18], [1, 0, 1, 1]
    values, step = inputs(4, 31), inputs(4, 1)
    state = model.state()
    first = state.run(given(values, lengths))
    second = state.run(given(step, more))
    assert state.lengths == [6, 31, 2, 19]
    for b, (length, one) in enumerate(zip(lengths, more, strict=True)):
        alone = model.state()
        whole = alone.run(given({name: array[b : b + 1, :length] for name, array in values.items()}))
        np.testing.assert_array_equal(first["y"][b, :length], whole["y"][0])
        assert not first["y"][b, length:].any()
        if one:
            np.testing.assert_array_equal(
                second["y"][b], alone.run(given({name: array[b : b + 1] for name, array in step.items()}))["y"][0]
            )
            assert second["positions"][b, 0] == length


@pytest.mark.parametrize("kind", ["float32", "bool", "not causal"])
def test_a_mask_is_added_to_what_the_positions_allow(kind):
    rng = np.random.default_rng(3)
    g = dynq.Graph()
    q, k, v = (g.input(name, ("batch", "rows", 8)) for name in "qkv")
    mask = g.input("mask", (1, 2, "rows", "positions"), "bool" if kind == "bool" else "float32")
    states = [g.state("keys", (2, MOST, 4)), g.state("values", (2, MOST, 4))]
    causal = int(kind != "not causal")
    g.output(g.node("dynq.CachedAttention", [q, k, v, *states, None, mask], heads=2, causal=causal), "y")
    model = g.build()
    values = {name: rng.normal(size=(1, 20, 8)).astype(np.float32) for name in "qkv"}
    bits = rng.random((1, 2, 20, 20)) < 0.7
    bits[..., np.arange(20), np.arange(20)] = True
    given = bits if kind == "bool" else rng.normal(size=bits.shape).astype(np.float32)
    added = np.where(bits, 0, -np.inf) if kind == "bool" else given
    whole = model.run({**values, "mask": given})["y"][0]
    expected = attention(*(values[name][0] for name in "qkv"), heads=2, causal=bool(causal), mask=added[0])
    np.testing.assert_allclose(whole, expected, atol=1e-5)
    if causal:
        state = model.state()
        for i in range(20):
            part = state.run({**cut(values, i, i + 1), "mask": given[:, :, i : i + 1, : i + 1].copy()})["y"]
            np.testing.assert_array_equal(part[0, 0], whole[i])
        with pytest.raises(ValueError, match="mask has 3 columns; sequence 0 has 21 positions"):
            state.run({**cut(values, 0, 1), "mask": given[:, :, :1, :3]})
        assert state.lengths == [20]


def test_rewinding_reordering_forking_and_saving_equal_fresh_runs():
    rng = np.random.default_rng(4)
    model, inputs, given, _ = made(rng, heads=4, shared=2)
    values, others = inputs(3, 70), inputs(3, 70)
    state = model.state()
    state.run(given(values, [70, 20, 33]))
    fork = state.fork()
    saved = state.to_bytes()
    expected = state.run(given(others))["y"]
    np.testing.assert_array_equal(fork.run(given(others))["y"], expected)
    restored = model.state()
    restored.run(given(cut(others, 0, 5)))
    restored.restore(saved)
    assert restored.lengths == [70, 20, 33]
    np.testing.assert_array_equal(restored.run(given(others))["y"], expected)
    assert model.state().to_bytes() != saved and state.fork().to_bytes() == state.to_bytes()
    state.truncate(70, 0)
    state.truncate(20, 1)
    state.truncate(33, 2)
    np.testing.assert_array_equal(state.run(given(others))["y"], expected)
    state.truncate(20)
    assert state.lengths == [20, 20, 20]
    state.reorder([2, 0, 0, 1])
    places = [2, 0, 0, 1]
    again = model.state()
    again.run(given({name: array[places, :20] for name, array in values.items()}))
    step = {name: array[places] for name, array in inputs(4, 3).items()}
    np.testing.assert_array_equal(state.run(given(step))["y"], again.run(given(step))["y"])
    state.reset()
    assert state.lengths == []
    np.testing.assert_array_equal(state.run(given(values))["y"], model.run(given(values))["y"])


def test_a_run_that_fails_leaves_the_state_as_it_was():
    rng = np.random.default_rng(6)
    model, inputs, given, _ = made(rng)
    state = model.state()
    values, step = inputs(2, 150), inputs(2, 60)
    state.run(given(values))
    before = state.to_bytes()
    for wrong, message in (
        (given(step), "sequence 0 has 150 positions, and the run brings 60 more; the model has 200"),
        (given(inputs(3, 1)), "the run brings 3 sequences; the session keeps 2"),
        (given(step, [1, 61]), r"lengths\[1\] is 61; the run brings 60 positions"),
        (given(step, [-1, 1]), r"lengths\[0\] is -1"),
    ):
        with pytest.raises(ValueError, match=message):
            state.run(wrong)
        assert state.lengths == [150, 150] and state.to_bytes() == before
    for call, message in (
        (lambda: state.truncate(3, 2), "sequence is 2; the session keeps 2"),
        (lambda: state.truncate(-1), "length is -1"),
        (lambda: state.reorder([0, 5]), "sequence is 5"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
    assert state.to_bytes() == before
    with pytest.raises(ValueError, match="it has no state"):
        _stateless().state()


def _stateless():
    g = dynq.Graph()
    return g.build(g.node("Relu", [g.input("x", (1,))]))


def test_damaged_states_and_those_of_other_models_are_refused():
    rng = np.random.default_rng(7)
    model, inputs, given, _ = made(rng)
    other, *_ = made(rng, slopes=True)
    state = model.state()
    state.run(given(inputs(2, 9), [9, 4]))
    data = state.to_bytes()
    for at in range(0, len(data), 61):
        damaged = bytearray(data)
        damaged[at] ^= 1 << at % 8
        with pytest.raises(dynq.FileFormatError):
            state.restore(bytes(damaged))
    for end in (0, 8, 31, 35, len(data) - 1):
        with pytest.raises(dynq.FileFormatError):
            state.restore(data[:end])
    with pytest.raises(dynq.FileFormatError, match="of another model"):
        other.state().restore(data)
    assert state.to_bytes() == data


def test_one_state_in_two_threads_is_an_error():
    model, inputs, given, _ = made(np.random.default_rng(8))
    state, values = model.state(), inputs(1, 1)
    with state._alone():
        thread_error = []

        def other():
            try:
                state.run(given(values))
            except RuntimeError as error:
                thread_error.append(str(error))

        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    assert "at work in another thread" in thread_error[0]
    state.run(given(values))


def test_memory_for_the_state_stays_within_the_limit():
    model, inputs, given, _ = made(np.random.default_rng(9))
    model.max_bytes = 90_000
    state = model.state()
    state.run(given(inputs(1, 10)))
    with pytest.raises(dynq.OutOfMemoryError, match="with its state it takes"):
        for _ in range(100):
            state.run(given(inputs(1, 1)))
            state.reorder([0] * 1)
            state.run(given(inputs(1, 40)))
    assert state.lengths[0] > 10


def test_a_saved_model_has_its_states(tmp_path):
    model, inputs, given, _ = made(np.random.default_rng(10))
    model.save(tmp_path / "m.dynq")
    again = dynq.load(tmp_path / "m.dynq")
    values = inputs(1, 12)
    np.testing.assert_array_equal(again.run(given(values))["y"], model.run(given(values))["y"])
    assert [value.shape for value in again.graph().states] == [(4, MOST, 16), (4, MOST, 16)]
    assert "# state" in str(again.graph()) and "cylinder" in again.graph().to_dot()


@pytest.mark.parametrize("interleaved", [False, True])
@pytest.mark.parametrize("turned", [16, 10])
def test_rotary_has_the_bits_of_its_parts(interleaved, turned):
    rng = np.random.default_rng(11)
    x = rng.normal(size=(2, 3, 5, 16)).astype(np.float32)
    c, s = (rng.normal(size=(2, 1, 5, turned)).astype(np.float32) for _ in range(2))
    g = dynq.Graph()
    values = [g.input("x", ("b", 3, "s", 16)), *(g.input(n, ("b", 1, "s", turned)) for n in ("cos", "sin"))]
    y = g.build(g.node("dynq.Rotary", values, interleaved=int(interleaved)))(x, c, s)
    part = x[..., :turned]
    half = np.empty_like(part)
    if interleaved:
        half[..., ::2], half[..., 1::2] = -part[..., 1::2], part[..., ::2]
    else:
        half[..., : turned // 2], half[..., turned // 2 :] = -part[..., turned // 2 :], part[..., : turned // 2]
    expected = np.concatenate([part * c + half * s, x[..., turned:]], -1)
    np.testing.assert_array_equal(y, expected)
