"""State of a decoder that looks at a source: its keys and values are computed once, and it has lengths of its own."""

import numpy as np
import pytest

import dynq
from tests.python.references.cached_attention import attention, cross_attention

MOST, MOST_OF_SOURCE = 100, 150
CASES = {
    "plain": {},
    "grouped": {"heads": 6, "shared": 2, "size": 8, "width": 24},
    "scaled": {"scale": 0.3, "softcap": 1.5, "heads": 3, "shared": 1},
}


def made(heads=4, shared=4, size=16, width=16, both=True, **attributes):
    """Return a model that looks at a source, and at its own text if ``both``; and a function that makes its inputs."""
    g = dynq.Graph()
    widths = {"q": heads * size, "k": shared * size, "v": shared * width, "sk": shared * size, "sv": shared * width}
    values = {
        name: g.input(name, ("batch", "source_rows" if name[0] == "s" else "rows", wide))
        for name, wide in widths.items()
        if both or name not in ("k", "v")
    }
    lengths, source_lengths = (
        g.input(name, (size,), "int64") for name, size in (("lengths", "batch"), ("sl", "sources"))
    )
    if both:
        states = [g.state("keys", (shared, MOST, size)), g.state("values", (shared, MOST, width))]
        operands = [values["q"], values["k"], values["v"], *states, lengths]
        g.output(g.node("dynq.CachedAttention", operands, heads=heads), "text")
    states = [
        g.state("source_keys", (shared, MOST_OF_SOURCE, size)),
        g.state("source_values", (shared, MOST_OF_SOURCE, width)),
    ]
    operands = [values["q"], values["sk"], values["sv"], *states, source_lengths]
    g.output(g.node("dynq.CrossAttention", operands, heads=heads, **attributes), "source")
    model = g.build()

    def inputs(rng, batch, rows, source_rows):
        shapes = {name: (batch, source_rows if name[0] == "s" else rows, wide) for name, wide in widths.items()}
        return {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}

    return model, inputs, {"heads": heads, **attributes}


def part(values, begin, end, source=None, lengths=None):
    """Return the inputs of a run: rows of the text, and the source with its lengths, or none."""
    count = len(values["q"])
    result = {name: values[name][:, begin:end] for name in "qkv"}
    result["lengths"] = np.full(count, end - begin) if lengths is None else np.asarray(lengths)
    for name in ("sk", "sv"):
        result[name] = values[name] if source is not None else values[name][:, :0]
    result["sl"] = np.asarray(source if source is not None else [], np.int64)
    return result


@pytest.mark.parametrize("name", CASES)
def test_each_row_looks_at_the_whole_source_and_steps_have_the_bits_of_one_call(name):
    model, inputs, arguments = made(**CASES[name])
    values = inputs(np.random.default_rng(len(name)), 3, 70, 130)
    source = [130, 17, 64]
    whole = model.run(part(values, 0, 70, source))
    for b, length in enumerate(source):
        of_one = [values[key][b] for key in ("q", "sk", "sv")]
        expected = cross_attention(of_one[0], of_one[1][:length], of_one[2][:length], **arguments)
        np.testing.assert_allclose(whole["source"][b], expected, atol=2e-5)
        text = attention(*(values[key][b] for key in "qkv"), heads=arguments["heads"])
        np.testing.assert_allclose(whole["text"][b], text, atol=2e-5)
    state, parts = model.state(), []
    for begin, end in ((0, 1), (1, 2), (2, 40), (40, 41), (41, 70)):
        parts.append(state.run(part(values, begin, end, source if begin == 0 else None)))
    assert state.lengths == [70, 70, 70]
    for key in ("text", "source"):
        np.testing.assert_array_equal(np.concatenate([one[key] for one in parts], 1), whole[key])


@pytest.mark.parametrize("isa", dynq.isa.supported())
def test_every_instruction_set_and_number_of_threads_gives_the_same_bits(isa):
    model, inputs, _ = made(**CASES["grouped"])
    values = inputs(np.random.default_rng(5), 2, 30, 90)
    results, before = [], dynq.get_num_threads()
    try:
        for use, threads in (("scalar", 1), (isa, 1), (isa, 5)):
            with dynq.isa.use(use):
                dynq.set_num_threads(threads)
                results.append(model.run(part(values, 0, 30, [90, 33]))["source"])
    finally:
        dynq.set_num_threads(before)
    for result in results[1:]:
        np.testing.assert_array_equal(result, results[0])


def test_sources_grow_are_kept_and_go_with_their_sequences():
    model, inputs, _ = made()
    values = inputs(np.random.default_rng(1), 2, 20, 60)
    state = model.state()
    first = state.run(part(values, 0, 1, [60, 5]))
    second = state.run(part(values, 1, 2))
    copies = {
        "fork": (state.fork(), [0, 1]),
        "restored": (model.state(), [0, 1]),
        "reordered": (state.fork(), [1, 1, 0]),
    }
    copies["restored"][0].restore(state.to_bytes())
    copies["reordered"][0].reorder([1, 1, 0])
    for other, places in copies.values():
        other.truncate(1)
        again = other.run(part({name: value[places] for name, value in values.items()}, 1, 2))
        for key in ("text", "source"):
            np.testing.assert_array_equal(again[key], second[key][places])
    state.truncate(0)
    np.testing.assert_array_equal(state.run(part(values, 0, 1))["source"], first["source"])
    more = state.run(part(values, 1, 2, [60, 60]))["source"]  # behind what there was
    twice = np.concatenate([values["sk"][0]] * 2), np.concatenate([values["sv"][0]] * 2)
    np.testing.assert_allclose(more[0], cross_attention(values["q"][0, 1:2], *twice, heads=4), atol=2e-5)


def test_a_model_of_a_source_alone_has_no_positions_of_its_own():
    model, inputs, _ = made(both=False)
    values = inputs(np.random.default_rng(1), 2, 3, 40)
    given = {name: value for name, value in part(values, 0, 3, [40, 40]).items() if name not in ("k", "v", "lengths")}
    with pytest.raises(ValueError, match="keeps nothing between runs"):
        model.state()
    expected = cross_attention(*(values[name][1] for name in ("q", "sk", "sv")), heads=4)
    lengths = {"lengths": np.array([3, 3])} if any(value.name == "lengths" for value in model.inputs) else {}
    np.testing.assert_allclose(model.run({**given, **lengths})["source"][1], expected, atol=2e-5)


def test_what_does_not_fit_is_refused_and_changes_nothing():
    model, inputs, _ = made()
    values = inputs(np.random.default_rng(2), 2, 20, 100)
    state = model.state()
    with pytest.raises(ValueError, match="sequence 0 has no source: the first run brings it"):
        state.run(part(values, 0, 1))
    with pytest.raises(ValueError, match="sequence 1 has no source"):
        state.run(part(values, 0, 1, [100, 0]))
    assert state.lengths == [0, 0]
    state.reset()
    first = state.run(part(values, 0, 1, [100, 70]))
    with pytest.raises(ValueError, match="100 positions of its source, and the run brings 100 more; the model has 150"):
        state.run(part(values, 1, 2, [100, 70]))
    with pytest.raises(ValueError, match=r"lengths\[1\] is 101"):
        state.run(part(values, 1, 2, [0, 101]))
    with pytest.raises(ValueError, match="expected int64, one for each of 2"):
        state.run({**part(values, 1, 2, [1, 1]), "sl": np.array([1])})
    three = {name: np.concatenate([value, value[:1]]) for name, value in values.items()}
    with pytest.raises(ValueError, match="the run brings 3 sequences; the session keeps 2"):
        state.run(part(three, 1, 2))
    assert state.lengths == [1, 1]
    state.truncate(0)
    np.testing.assert_array_equal(state.run(part(values, 0, 1))["source"], first["source"])


def test_states_of_sources_count_for_the_limit_of_memory():
    model, inputs, _ = made()
    values = inputs(np.random.default_rng(3), 2, 20, 100)
    model.max_bytes = 200_000
    with pytest.raises(dynq.OutOfMemoryError, match="with its state it takes"):
        model.state().run(part(values, 0, 1, [100, 100]))


def test_damaged_bytes_of_states_are_refused():
    model, inputs, _ = made(heads=1, shared=1)
    values = inputs(np.random.default_rng(4), 1, 3, 20)
    state = model.state()
    state.run(part(values, 0, 3, [20]))
    saved = state.to_bytes()
    for at in range(0, len(saved), 97):
        damaged = bytearray(saved)
        damaged[at] ^= 0x55
        with pytest.raises(dynq.FileFormatError):
            state.restore(bytes(damaged))
    for size in range(0, len(saved), 101):
        with pytest.raises(dynq.FileFormatError):
            state.restore(saved[:size])
    assert state.lengths == [3]
