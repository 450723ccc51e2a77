"""What becomes int8, what stays float and why, and what is merged."""

import dataclasses
import inspect
import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dynq
from dynq.graph import Graph, Value
from dynq.ir.deferred import PackedLater
from dynq.quantization.options import BuildOptions, GivenOptions
from dynq.report import Report, Row, Smoothing
from dynq.weights import packed_arrays
from tests.python.references.quantized_graph import quantized

RNG = np.random.default_rng(3)


def normal(*shape: int) -> np.ndarray[Any, Any]:
    return RNG.standard_normal(shape, np.float32)


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


def test_a_table_with_an_infinity_stays_float_and_one_with_a_nan_is_an_error() -> None:
    g = Graph()
    ids = g.input("ids", ("batch",), "int64")
    table = normal(50, 8)
    table[3] = -np.inf  # as masks have it
    y = g.embedding(table, ids, name="table")
    model = g.build(y)
    assert [(row.became, row.why) for row in model.report().rows] == [
        ("float embedding", "its table holds an infinity")
    ]
    np.testing.assert_array_equal(model(np.arange(50)), table)
    table[4] = np.nan
    with pytest.raises(dynq.NonFiniteError, match="node 'damaged'"):
        g.build(g.embedding(table.copy(), ids, name="damaged"))


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
        monkeypatch.setattr("dynq.ir.deferred._PIECES", most)
        monkeypatch.setattr("dynq.ir.deferred._ELEMENTS_AT_ONCE", 1)
        pieces = list(PackedLater("a", parts).pieces())
        assert len(pieces) == count
        for expected, *got in zip(
            packed_arrays(whole)[:3], *(packed_arrays(piece)[:3] for piece in pieces), strict=True
        ):
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


def test_the_report_tells_why_a_product_with_a_constant_stays_float() -> None:
    g = Graph()
    x = g.input("x", ("batch", 4, 8))
    g.matmul(x, normal(4, 8, 8), name="deep")
    g.matmul(normal(2, 4), x, name="left")
    y = g.node("ConvTranspose", [x, normal(4, 6, 3)], name="up")
    for name in ("deep", "left"):
        g.output(next(value for node in g.nodes for value in node.outputs if value and value.name == name))
    _, rows = quantized(g, y)
    assert rows["deep"].why == "its constant operand has 3 dimensions; a weight has 2"
    assert "on the left and small" in rows["left"].why
    assert (rows["up"].became, rows["up"].why) == ("float conv transpose", "int8 has no transposed convolution")
    assert [rows[name].bytes_before for name in ("deep", "left", "up")] == [1024, 32, 288]
    assert [rows[name].macs for name in ("deep", "left", "up")] == [4 * 4 * 8 * 8, 2 * 8 * 4, 4 * 8 * 18]


def test_a_row_that_stays_float_is_shown_with_its_share() -> None:
    g = Graph()
    x = g.input("x", ("batch", 32, 8))
    y = g.linear(x, normal(96, 8), name="int8")
    g.output(g.node("ConvTranspose", [x, normal(32, 2, 4)], name="up"), "up")
    g.output(y)
    report = g.build(default="int8").report()
    up = next(row for row in report.rows if row.node == "up")
    assert report.float_share(up) == "25 % of the weights and 7.7 % of the multiply-adds"
    assert "25 % of the weights" in str(report)


@pytest.mark.parametrize("asked", [False, True])
def test_one_warning_sums_up_what_stays_float(asked: bool) -> None:
    g = Graph()
    x = g.input("x", ("batch", 64, 8))
    y = g.node("ConvTranspose", [g.linear(x, normal(8, 8)), normal(64, 640, 8)], name="up")
    g.output(y)
    options = {"keep_float": ["up"]} if asked else {}
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        g.build(default="int8", **options)
    texts = [str(warning.message) for warning in told]
    wanted = "100 % of the weights stay float (report says why): conv transpose 100 %"
    assert texts == ([] if asked else [wanted])


def test_a_weight_that_others_read_too_is_not_merged_with_its_siblings() -> None:
    g = Graph()
    x = g.input("x", ("batch", 8))
    shared, own = normal(8, 8), normal(8, 8)
    a = g.linear(x, shared, name="a")
    y = g.linear(a, shared, name="later")
    after, _ = quantized(g, y, g.linear(x, own, name="b"))
    assert {node.name for node in after.nodes} == {"a", "b", "later"}
    assert len(after.constants()) == 2


def through_a_file(model: dynq.Model, path: Path) -> dict[str, Row]:
    model.save(path)
    report = dynq.load(path).report()
    assert report == model.report() and str(report) == str(model.report())
    return {row.node: row for row in report.rows}


def test_merged_layers_come_back_by_their_names_though_these_have_commas(tmp_path: Path) -> None:
    g = Graph()
    x = g.input("x", ("batch", 8))
    names = ("q, k", "q", "k")
    model = g.build({name: g.linear(x, normal(8, 8), name=name) for name in names}, first_layer="int8")
    (row,) = (row for row in through_a_file(model, tmp_path / "m.dynq").values() if row.layer)
    assert row.merged == names and row.why == "its weight is constant; one product for q, k, q, k"


def test_a_name_that_reads_like_the_report_is_not_misread(tmp_path: Path) -> None:
    name = "a; one product for b, c; smoothed with alpha 0.5, in d"
    g = Graph()
    x = g.input("x", ("batch", 8))
    outputs = {"y": g.linear(x, normal(8, 8), name=name), "z": g.linear(g.relu(x), normal(8, 8), name="other")}
    rows = through_a_file(g.build(outputs, keep_float=[name]), tmp_path / "m.dynq")
    assert rows[name].why == f"keep_float has {name!r}" and not rows[name].quantized
    assert all(row.merged == () and row.smoothed is None for row in rows.values())


def test_the_report_has_fields_for_what_it_says(tmp_path: Path) -> None:
    g = Graph()
    h = g.linear(g.input("x", ("batch", 64)), normal(64, 64), name="wide")
    h = g.linear(h, normal(64, 64), name="grouped")
    g.output(g.linear(h, normal(8, 64), name="fixed"))
    options: dict[str, Any] = {"int16": "wide", "group_size": {"grouped": 32}, "ranges": {"fixed": (-1.5, 2.00001)}}
    rows = through_a_file(g.build(**options), tmp_path / "m.dynq")
    assert (rows["wide"].bits, rows["wide"].became) == (16, "int8 linear, 16-bit activations")
    assert (rows["grouped"].group, rows["grouped"].became) == (32, "int8 linear, scales of 32")
    assert rows["fixed"].fixed_range == (-1.5, float(np.float32(2.00001)))
    assert rows["fixed"].became == "int8 linear, fixed range -1.5 to 2"


@pytest.mark.parametrize(
    ("became", "why", "expected"),
    [
        ("Add", "", {"kind": "Add", "layer": False}),
        ("float conv transpose", "quantize=False", {"kind": "conv transpose", "quantized": False}),
        ("int8 linear, 16-bit activations, scales of 64", "its weight is int8", {"bits": 16, "group": 64}),
        ("int8 conv, fixed range -0.25 to 1e+04", "its weight is constant", {"fixed_range": (-0.25, 10000.0)}),
        (
            "int8 linear",
            "its weight is constant; smoothed with alpha 0.5, in norm; one product for a, b",
            {"reason": "its weight is constant", "smoothed": Smoothing(0.5, "norm"), "merged": ("a", "b")},
        ),
        ("int8 linear", "x; smoothed with alpha 1, by a Mul before it", {"smoothed": Smoothing(1.0, None)}),
    ],
)
def test_reports_of_texts_are_read(became: str, why: str, expected: dict[str, Any]) -> None:
    (row,) = Report.from_json(json.dumps([["n", became, why, 8, 2]])).rows
    assert (row.node, row.became, row.why, row.bytes_before, row.bytes_after) == ("n", became, why, 8, 2)
    assert {name: getattr(row, name) for name in expected} == expected
    assert Report.from_json(Report((row,)).to_json()).rows == (row,)


@pytest.mark.parametrize(
    "facts",
    [
        {"node": "a"},
        {"node": "a", "kind": 3},
        {"node": "a", "kind": "b", "quantized": 1},
        {"node": "a", "kind": "b", "merged": [1]},
        {"node": "a", "kind": "b", "merged": 5},
        {"node": "a", "kind": "b", "fixed_range": [1]},
        {"node": "a", "kind": "b", "group": "32"},
        {"node": "a", "kind": "b", "smoothed": {"alpha": 0.5}},
        {"node": "a", "kind": "b", "smoothed": {"alpha": "0.5", "node": None}},
        {"node": "a", "kind": "b", "unknown": 1},
    ],
)
def test_a_damaged_report_is_refused(facts: dict[str, Any]) -> None:
    with pytest.raises((TypeError, ValueError)):
        Report.from_json(json.dumps([facts]))


@pytest.mark.parametrize("function", [dynq.Graph.build, dynq.from_onnx, dynq.from_torch])
def test_signatures_and_docstrings_show_every_option(function: Callable[..., Any]) -> None:
    parameters = inspect.signature(function).parameters
    for field in dataclasses.fields(BuildOptions):
        assert parameters[field.name].default == field.default and f"\n    {field.name}: " in inspect.getdoc(function)
    assert not any(p.kind is p.VAR_KEYWORD for p in parameters.values())


def test_the_types_of_options_are_those_of_their_list() -> None:
    types = {name: given.__forward_arg__ for name, given in GivenOptions.__annotations__.items()}
    assert types == {field.name: field.type for field in dataclasses.fields(BuildOptions)}


def test_an_option_that_is_none_is_refused() -> None:
    g, y = two_layers()
    with pytest.raises(TypeError, match="unexpected keyword argument 'keep_floats'; the options are quantize, keep_fl"):
        g.build(y, keep_floats="a")
    with pytest.raises(TypeError, match="unexpected keyword argument 'keep_floats'"):
        dynq.from_onnx("no such file", keep_floats="a")
