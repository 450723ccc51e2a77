"""LSTM in an ``If`` of ONNX, and what is wrong with recurrent layers and convolutions: an error that names the node."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

import dynq
from tests.python.references import reference as rule
from tests.python.references.onnx_models import model, node
from tests.python.references.recurrent_reference import Array, Layer

LSTM = Layer("LSTM", np.random.default_rng(0))
GIVEN = {"W": LSTM.w, "R": LSTM.r, "B": LSTM.b}


def in_a_branch(condition: bool | None) -> onnx.ModelProto:
    """x, h, c -> y, last: an LSTM of outer weights where the condition holds, else one with other activations.

    None: the condition is an input of the model.
    """
    branches = {}
    for name, attributes in (("then", {}), ("else", {"activations": ["Sigmoid", "Relu", "Relu"]})):
        nodes = [
            node("LSTM", "x W R B - h c", f"{name}_y - {name}_c", f"{name}_lstm", hidden_size=20, **attributes),
            node("Identity", f"{name}_y", f"{name}_out"),
        ]
        outputs = [onnx.ValueInfoProto(name=f"{name}_{what}") for what in ("out", "c")]
        branches[f"{name}_branch"] = helper.make_graph(nodes, name, [], outputs)
    constant = {} if condition is None else {"flag": np.array(condition)}
    asked: dict[str, tuple[str, Any]] = {"flag": ("bool", [])} if condition is None else {}
    state = ("float32", [1, "b", 20])
    return model(
        [node("If", "flag", "y last", "choose", **branches)],
        {"x": ("float32", ["t", "b", 7]), "h": state, "c": state, **asked},
        "y last",
        {**GIVEN, **constant},
    )


@pytest.mark.parametrize("condition", [True, False])
@pytest.mark.parametrize("fixed", [False, True])
def test_an_lstm_in_an_if_with_a_constant_condition_is_that_of_its_branch(condition: bool, fixed: bool) -> None:
    source = in_a_branch(None if fixed else condition)
    options: dict[str, Any] = {"inputs": {"flag": condition}} if fixed else {}
    imported = dynq.from_onnx(source, first_layer="int8", **options)
    rows = {row.node: row.became for row in imported.report().rows}
    name = "choose/then_lstm" if condition else "choose/else_lstm"
    assert rows[name] == "int8 LSTM" and rows[f"{name}.projection"] == "int8 linear"
    assert not any(("else" if condition else "then") in row for row in rows)
    got = imported.run({"x": LSTM.x, "h": LSTM.h, "c": LSTM.c})
    graph = dynq.Graph()
    x = graph.input("x", ("t", "b", 7))
    extra = {} if condition else {"activations": "Sigmoid,Relu,Relu"}
    y, _, c = graph.lstm(x, LSTM.w, LSTM.r, LSTM.b, initial_h=LSTM.h, initial_c=LSTM.c, **extra)
    expected = graph.build(y, c, first_layer="int8")(LSTM.x)
    for one, other in zip(got.values(), expected, strict=True):
        np.testing.assert_array_equal(rule.bits(one), rule.bits(other))
    if condition:
        np.testing.assert_array_equal(rule.bits(got["y"]), rule.bits(LSTM.expected(True)[0]))


def test_an_lstm_in_an_if_on_an_input_is_that_of_the_branch_that_runs() -> None:
    chosen = dynq.from_onnx(in_a_branch(None), first_layer="int8")
    feeds = {"x": LSTM.x, "h": LSTM.h, "c": LSTM.c}
    for condition in (True, False):
        expected = dynq.from_onnx(in_a_branch(condition), first_layer="int8").run(feeds)
        got = chosen.run({**feeds, "flag": np.array(condition)})
        for name, want in expected.items():
            np.testing.assert_array_equal(rule.bits(got[name]), rule.bits(want))


def ask(op: str, x: Array, inputs: str, arrays: dict[str, Array], **attributes: Any) -> None:
    shape = ["t", "b", *x.shape[2:]] if op == "LSTM" else ["n", *x.shape[1:-1], "w"]
    made = model([node(op, inputs, "y", "layer", **attributes)], {"x": ("float32", shape)}, "y", arrays)
    dynq.from_onnx(made)(x)


@pytest.mark.parametrize(
    ("changed", "attributes", "text"),
    [
        ({"W": LSTM.w[:, 1:]}, {}, r"W is float32 \(1, 79, 7\); expected float32 \(1, 80, 7\)"),
        ({"R": LSTM.r[:, 1:]}, {}, r"R is float32 \(1, 79, 20\); expected float32 \(1, 80, 20\)"),
        ({"B": LSTM.b[:, 1:]}, {}, r"B is float32 \(1, 159\); expected float32 \(1, 160\)"),
        ({"W": LSTM.w[:, :0], "R": LSTM.r[:, :0, :0], "B": LSTM.b[:, :0]}, {}, "hidden_size is 0 and R's 0; .* more"),
        ({"h": LSTM.h[:, :2]}, {}, r"initial_h is float32 \(1, 2, 20\); expected float32 \(1, 3, 20\)"),
        ({"h": LSTM.h[0]}, {}, r"initial_h is float32 \(3, 20\); expected"),
        ({"c": LSTM.h[..., :9]}, {}, r"initial_c is float32 \(1, 3, 9\); expected"),
        ({"P": LSTM.h[0, :1]}, {}, r"P is float32 \(1, 20\); expected float32 \(1, 60\)"),
        ({"l": np.array([1, 6, 1], np.int32)}, {}, r"sequence_lens\[1\] is 6; expected 0 to 5"),
        ({"l": np.array([1, 5, -2], np.int32)}, {}, r"sequence_lens\[2\] is -2; expected 0 to 5"),
        ({"l": np.array([1, 5], np.int32)}, {}, r"sequence_lens is int32 \(2\); expected int32 \(3\)"),
        ({}, {"hidden_size": 19}, "hidden_size is 19 and R's 20"),
        ({}, {"direction": "bidirectional"}, r"W is float32 \(1, 80, 7\); expected float32 \(2, 80, 7\)"),
        ({}, {"activations": ["Sigmoid", "Tanh"]}, "activations: 2 names; expected 3"),
        ({}, {"activation_alpha": [1.0]}, "activation_alpha has 1 values"),
        ({}, {"clip": -1.0}, "clip is -1; expected more than 0"),
        ({}, {"activations": ["Sigmoid", "Cosh", "Tanh"]}, "activation 'Cosh' of LSTM"),
        ({}, {"direction": "both"}, "attribute LSTM.direction = 'both'"),
        ({}, {"layout": 2}, "attribute LSTM.layout = 2"),
        ({}, {"dropout": 1}, "attribute LSTM.dropout"),
    ],
)
def test_what_is_wrong_with_an_lstm_names_the_node(
    changed: dict[str, Array], attributes: dict[str, Any], text: str
) -> None:
    names = " ".join(name if name in GIVEN or name in changed else "-" for name in ("W", "R", "B", "l", "h", "c", "P"))
    with pytest.raises((ValueError, dynq.Error), match=text) as caught:
        ask("LSTM", LSTM.x, f"x {names}", {**GIVEN, **changed}, **attributes)
    assert "'layer'" in str(caught.value)


X, MUCH = np.zeros((1, 16, 8), np.float32), 2**31 - 1


@pytest.mark.parametrize(
    ("op", "x", "w", "attributes", "text"),
    [
        ("Conv", X[..., :3], (32, 16, 5), {}, "a window of 5 places does not fit into 3, pads included"),
        ("Conv", X[..., :1], (32, 16, 5), {"pads": [1, 2]}, "a window of 5 places does not fit into 4, pads included"),
        ("Conv", X, (32, 16, 5), {"dilations": [4]}, "a window of 17 places does not fit into 8"),
        ("Conv", X[:, :4, :3], (8, 4, 5), {}, "a window of 5 places does not fit into 3"),
        ("Conv", X[..., :0], (32, 16, 5), {}, "a window of 5 places does not fit into 0"),
        ("Conv", X[..., None], (32, 16, 5, 1), {"pads": [MUCH] * 4}, "output 0 exceeds the address space"),
        ("Conv", X, (32, 15, 5), {}, "x has 16 channels"),
        ("ConvTranspose", X[..., :0], (16, 16, 5), {}, "an axis of size 0 and a kernel of 5"),
        ("ConvTranspose", X, (16, 16, 5), {"strides": [1024], "output_padding": [MUCH]}, "would have size 2147490820"),
        ("ConvTranspose", X[..., :2], (16, 16, 3), {"pads": [8, 8]}, "an axis of the output would have size -12"),
    ],
)
def test_what_is_wrong_with_a_convolution_names_the_node(
    op: str, x: Array, w: tuple[int, ...], attributes: dict[str, Any], text: str
) -> None:
    with pytest.raises((ValueError, dynq.Error), match=text) as caught:
        ask(op, x, "x W", {"W": np.ones(w, np.float32)}, **attributes)
    assert "'layer'" in str(caught.value)


def test_a_convolution_whose_output_no_memory_holds_is_an_error() -> None:
    with pytest.raises(dynq.OutOfMemoryError):
        ask("Conv", X, "x W", {"W": np.ones((32, 16, 5), np.float32)}, pads=[MUCH - 8, MUCH - 8])


@pytest.mark.parametrize("groups", [0, -1, 3])
def test_groups_that_do_not_share_the_outputs_are_named(groups: int) -> None:
    graph = dynq.Graph()
    y = graph.conv(graph.input("x", (1, 12, 8)), np.ones((32, 4, 5), np.float32), group=groups, name="layer")
    with pytest.raises(ValueError, match=f"node 'layer': its weight has 32 outputs, which {groups} groups do not"):
        graph.build(y)
