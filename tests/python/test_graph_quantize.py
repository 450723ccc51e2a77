"""What becomes int8, what stays float and why, and what is merged."""

from typing import Any

import numpy as np
import pytest

import dynq
from dynq.graph import Graph, Value
from dynq.graph.deferred import PackedLater
from dynq.graph.passes import optimize
from dynq.graph.passes.quantize import Options, quantize_graph
from dynq.report import Row

RNG = np.random.default_rng(3)


def normal(*shape: int) -> np.ndarray[Any, Any]:
    return RNG.standard_normal(shape, np.float32)


def quantized(g: Graph, *outputs: Value, **options: Any) -> tuple[Graph, dict[str, Row]]:
    after = g.copy()
    names = {value.name: value for node in after.nodes for value in node.outputs if value is not None}
    for value in outputs:
        after.output(names[value.name])
    optimize(after)
    rows = quantize_graph(after, Options(**options))
    after.validate()
    assert [row.node for row in rows] == [node.name for node in after.nodes]
    return after, {row.node: row for row in rows}


def two_layers() -> tuple[Graph, Value]:
    g = Graph()
    x = g.input("x", ("batch", 4))
    h = g.linear(x, normal(20, 4), name="encoder.0.dense")
    return g, g.linear(h, normal(4, 20), name="encoder.1.dense")


def test_a_constant_weight_becomes_int8() -> None:
    g, y = two_layers()
    after, rows = quantized(g, y, scheme="symmetric", granularity="tensor")
    for node in after.nodes:
        assert isinstance(node.inputs[1].constant, PackedLater)  # type: ignore[union-attr]
        assert node.attributes == {"scheme": "symmetric", "granularity": "tensor"}
    row = rows["encoder.0.dense"]
    assert (row.became, row.bytes_before, row.bytes_after) == ("int8 linear", 320, 32 * 4 + 32 * 8)


@pytest.mark.parametrize("keep", [["encoder.0.dense"], ["encoder.0.*"], ["*.0.*", "encoder.0.dense"]])
def test_keep_float_takes_names_and_patterns(keep: list[str]) -> None:
    g, y = two_layers()
    after, rows = quantized(g, y, keep_float=tuple(keep))
    assert [node.op for node in after.nodes] == ["dynq.LinearFloat", "dynq.Linear"]
    assert after.nodes[0].inputs[1].shape == (4, 20)  # type: ignore[union-attr]
    row = rows["encoder.0.dense"]
    assert row.became == "float linear" and repr(keep[0]) in row.why and row.bytes_after == row.bytes_before


def test_without_quantization_all_stays_float_and_says_so() -> None:
    g = Graph()
    ids, x = g.input("ids", ("batch",), "int64"), g.input("x", ("batch", 8))
    e = g.embedding(normal(9, 8), ids, name="table")
    after, rows = quantized(
        g, g.linear(e, normal(8, 8), name="fc"), g.matmul(x, g.transpose(x), name="m"), quantize=False
    )
    assert [node.op for node in after.nodes] == ["Gather", "dynq.LinearFloat", "Transpose", "MatMul"]
    assert {rows[name].why for name in ("table", "fc", "m")} == {"quantize=False"}


def test_a_table_is_quantized_by_rows_unless_it_is_to_stay() -> None:
    g = Graph()
    ids = g.input("ids", ("batch",), "int64")
    table = normal(50, 8)
    table[3] = 0
    y = g.embedding(table, ids, name="table")
    after, rows = quantized(g, y)
    assert after.nodes[0].op == "dynq.Embedding" and rows["table"].became == "int8 embedding"
    for options in ({"embedding": False}, {"keep_float": ("table",)}):
        after, rows = quantized(g, y, **options)
        assert after.nodes[0].op == "Gather" and rows["table"].became == "float embedding"
    ids_ = np.arange(-50, 50)
    scale = np.abs(table).max(axis=1, keepdims=True) / np.float32(127)
    scale[3] = 1
    np.testing.assert_array_equal(g.build(y)(ids_), (np.rint(table / scale) * scale)[ids_])


def test_a_gather_of_no_rows_stays() -> None:
    g = Graph()
    ids = g.input("ids", ("batch",), "int64")
    other_axis = g.gather(normal(8, 9), ids, 1)
    integers = g.gather(np.ones((9, 8), np.int64), ids)
    vector = g.gather(normal(9), ids)
    after, _ = quantized(g, other_axis, integers, vector)
    assert [node.op for node in after.nodes] == ["Gather"] * 3


def test_two_layers_with_one_weight_keep_it_once() -> None:
    g = Graph()
    x = g.input("x", ("batch", 8))
    w = normal(8, 8)
    after, _ = quantized(g, g.linear(g.linear(x, w), w))
    assert after.nodes[0].inputs[1] is after.nodes[1].inputs[1]


def test_products_of_computed_values_are_quantized_where_asked_for() -> None:
    g = Graph()
    x = g.input("x", ("batch", 3, 8))
    y = g.matmul(x, g.transpose(x, [0, 2, 1]), name="m")
    z = g.attention(x, x, x, 2, name="a")
    after, rows = quantized(g, y, z)
    assert [node.op for node in after.nodes] == ["Transpose", "MatMul", "dynq.Attention"]
    assert rows["m"].why == rows["a"].why == "attention='float'"
    after, rows = quantized(g, y, z, attention=True, keep_float=("m",))
    assert [node.op for node in after.nodes] == ["Transpose", "MatMul", "dynq.Attention"]
    assert after.nodes[2].attributes["quantize"] == 1
    after, _ = quantized(g, y, z, attention=True)
    assert after.nodes[1].op == "dynq.MatMulDynamic"


def siblings() -> tuple[Graph, list[Value]]:
    g = Graph()
    x = g.input("x", ("batch", 8))
    return g, [
        g.linear(x, normal(20, 8), normal(20), name="q"),
        g.linear(x, normal(5, 8), name="k"),
        g.linear(x, normal(16, 8), normal(16), name="v"),
        g.linear(x, normal(16, 8), normal(16), activation="relu", name="other"),
    ]


def test_layers_on_one_input_become_one_and_are_split() -> None:
    g, outputs = siblings()
    after, rows = quantized(g, *outputs)
    assert [node.op for node in after.nodes] == ["dynq.Linear", "Split", "dynq.Linear"]
    assert [value.name for value in after.nodes[1].outputs if value] == ["q", "k", "v"]
    assert after.nodes[1].inputs[1].array.tolist() == [20, 5, 16]  # type: ignore[union-attr]
    assert rows["q"].why.endswith("one product for q, k, v") and rows["q"].bytes_before == 41 * 8 * 4


def test_a_layer_that_stays_float_is_not_merged() -> None:
    g, outputs = siblings()
    after, _ = quantized(g, *outputs, keep_float=("k", "v"))
    assert [node.op for node in after.nodes] == ["dynq.Linear", "dynq.LinearFloat", "dynq.LinearFloat", "dynq.Linear"]


def test_a_weight_that_came_as_int8_stays_as_it_is() -> None:
    g = Graph()
    x = g.input("x", ("batch", 8))
    qw = dynq.QuantizedWeight.from_integers(
        RNG.integers(0, 256, (6, 8)).astype(np.uint8), np.float32(0.1), np.arange(6) + 100
    )
    y = g.linear(x, qw, normal(6), name="fc")
    data = normal(3, 8)
    bias = y.producer.inputs[2].array  # type: ignore[union-attr]
    np.testing.assert_array_equal(g.build(y)(data), dynq.linear(data, qw, bias))


def test_attention_reads_what_one_layer_computes_where_it_lies() -> None:
    g = Graph()
    x, z = g.input("x", ("batch", "time", 8)), g.input("z", ("batch", "time", 8))
    mask = g.input("mask", ("batch", 1, 1, "time"))
    v, k, q = (g.linear(x, normal(8, 8), name=name) for name in "vkq")  # in another order than attention has
    other = [g.linear(x, normal(8, 8), name=f"{name}_2") for name in "qkv"]
    y = g.attention(q, k, v, 2, mask, name="a") + g.attention(*other, 2, name="b")
    after, rows = quantized(g, y)
    assert [node.op for node in after.nodes] == [
        "dynq.Linear",
        "dynq.Linear",
        "dynq.Attention",
        "dynq.Attention",
        "Add",
    ]
    assert rows["q"].why.endswith("one product for q, k, v")
    first, second = after.nodes[2:4]
    assert first.inputs[1:3] == [None, None] and first.inputs[3] is mask_of(after) and len(second.inputs) == 1
    mixed = g.attention(g.linear(x, normal(8, 8)), g.linear(z, normal(8, 8)), g.linear(z, normal(8, 8)), 2)
    after, _ = quantized(g, mixed)
    assert [node.op for node in after.nodes] == ["dynq.Linear", "dynq.Linear", "Split", "dynq.Attention"]


def test_merged_layers_give_the_bits_of_each() -> None:
    g, outputs = siblings()
    data = normal(3, 8)
    results = g.build({value.name: value for value in outputs}).run({"x": data})
    for value in outputs:
        node = value.producer
        assert node is not None
        weight, bias = node.inputs[1], node.input(2)
        expected = dynq.linear(
            data,
            dynq.quantize_weight(weight.array),  # type: ignore[union-attr]
            None if bias is None else bias.array,
            activation=node.attributes.get("activation"),  # type: ignore[arg-type]
        )
        np.testing.assert_array_equal(results[value.name], expected)


def mask_of(g: Graph) -> Value:
    return next(value for value in g.inputs if value.name == "mask")


def test_a_weight_packed_in_pieces_is_the_weight_packed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = [normal(n, 6) for n in (24, 40, 3, 1, 300)]
    whole = dynq.quantize_weight(np.concatenate(parts))
    for most, count in ((1, 1), (3, 3), (1000, 23)):
        monkeypatch.setattr("dynq.graph.deferred._PIECES", most)
        monkeypatch.setattr("dynq.graph.deferred._ELEMENTS_AT_ONCE", 1)
        pieces = list(PackedLater("a", parts).pieces())
        assert len(pieces) == count
        for expected, *got in zip(whole._arrays()[:3], *(piece._arrays()[:3] for piece in pieces), strict=True):
            assert np.array_equal(np.concatenate(got), expected)


def test_the_report_tells_of_a_weight_that_is_kept_in_two_forms() -> None:
    table = normal(16, 8)
    g = Graph()
    h = g.embedding(table, g.input("ids", ("time",), "int64"), name="words")
    _, rows = quantized(g, g.linear(h, table, name="logits"))
    assert rows["logits"].why == "its weight is constant; an embedding has it too, in another form"
    g = Graph()
    h = g.linear(g.input("x", ("time", 8)), table, name="logits")
    y = g.embedding(g.constant(table), g.input("ids", ("time",), "int64"), name="words")
    _, rows = quantized(g, h, y)
    assert rows["words"].why == "its table is constant; a linear layer has it too, in another form"


def test_a_table_that_was_written_again_transposed_is_found() -> None:
    table = normal(16, 8)
    g = Graph()
    h = g.embedding(table, g.input("ids", ("time",), "int64"), name="words")
    _, rows = quantized(g, g.matmul(h, np.ascontiguousarray(table.T), name="logits"))
    assert rows["logits"].why == "its weight is constant; an embedding has it too, in another form"


def test_the_report_tells_why_a_gemm_stays_float() -> None:
    g = Graph()
    y = g.node("Gemm", [g.input("x", (3, 4)), g.input("w", (4, 8))], name="gemm")
    _, rows = quantized(g, y)
    assert (rows["gemm"].became, rows["gemm"].why) == ("float matmul", "a Gemm whose second operand is computed")


def test_a_weight_that_others_read_too_is_not_merged_with_its_siblings() -> None:
    g = Graph()
    x = g.input("x", ("batch", 8))
    shared, own = normal(8, 8), normal(8, 8)
    a = g.linear(x, shared, name="a")
    y = g.linear(a, shared, name="later")
    after, _ = quantized(g, y, g.linear(x, own, name="b"))
    assert {node.name for node in after.nodes} == {"a", "b", "later"}
    assert len(after.constants()) == 2
