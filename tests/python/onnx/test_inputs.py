"""Inputs of an ONNX model that are fixed when it is read: to a value or to a shape."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from click.testing import CliRunner, Result
from onnx import helper, numpy_helper

import dynq
from dynq.cli import cli
from tests.python.references.onnx_models import model, node, value
from tests.python.references.onnx_runtime import by_runtime, error

X = np.arange(6, dtype=np.float32).reshape(2, 3)


def by_rate() -> onnx.ModelProto:
    """x [n, k], sr int64 -> y: 2 x where sr is 16000, else -x; each in a branch of an If."""
    branches = {
        name: helper.make_graph(nodes, name, [], [value("b", None, None)])
        for name, nodes in {"then": [node("Add", "x x", "b")], "else": [node("Neg", "x", "b")]}.items()
    }
    choose = node("If", "is16", "y", "choose", then_branch=branches["then"], else_branch=branches["else"])
    inputs = {"x": ("float32", ["n", "k"]), "sr": ("int64", [])}
    return model([node("Equal", "sr rate", "is16"), choose], inputs, "y", {"rate": np.array(16000, np.int64)})


def by_width() -> onnx.ModelProto:
    """x [n, k] -> its rows squeezed where k is 1, else as they are."""
    branches = {
        "then": helper.make_graph([node("Squeeze", "x axes", "b")], "then", [], [value("b", None, None)]),
        "else": helper.make_graph([node("Neg", "x", "b")], "else", [], [value("b", None, None)]),
    }
    choose = node("If", "one", "y", "choose", then_branch=branches["then"], else_branch=branches["else"])
    nodes = [node("Shape", "x", "s"), node("Gather", "s last", "k"), node("Equal", "k unit", "one"), choose]
    constants = {"last": np.array(1), "unit": np.array(1), "axes": np.array([1])}
    return model(nodes, {"x": ("float32", ["n", "k"])}, "y", constants)


@pytest.mark.parametrize(("rate", "expected"), [(16000, 2 * X), (8000, -X)])
def test_if_on_an_input_of_a_fixed_value_becomes_its_branch(rate: int, expected: np.ndarray) -> None:
    fixed = dynq.from_onnx(by_rate(), inputs={"sr": rate})
    assert [i.name for i in fixed.inputs] == ["x"]
    assert np.array_equal(fixed(X), expected)


@pytest.mark.parametrize(("rate", "expected"), [(16000, 2 * X), (8000, -X)])
def test_if_on_an_input_that_is_not_fixed_takes_its_branch_in_each_run(rate: int, expected: np.ndarray) -> None:
    got = dynq.from_onnx(by_rate()).run({"x": X, "sr": np.array(rate)})
    assert np.array_equal(got["y"], expected)


@pytest.mark.parametrize("width", [1, 3])
def test_if_on_a_fixed_size_becomes_its_branch(width: int) -> None:
    fixed = dynq.from_onnx(by_width(), shapes={"x": (None, width)})
    assert fixed.inputs[0].shape == ("n", width)
    x = X[:, :width]
    assert np.array_equal(fixed(x), x[:, 0] if width == 1 else -x)
    with pytest.raises(ValueError, match="'x'"):
        fixed(np.ones((2, 2), np.float32))


def test_a_value_takes_the_place_of_a_default() -> None:
    proto = model([node("Mul", "x s", "y")], {"x": ("float32", [2, 3]), "s": ("float32", [1])}, "y")
    proto.graph.initializer.append(numpy_helper.from_array(np.array([5], np.float32), "s"))
    assert np.array_equal(dynq.from_onnx(proto)(X), 5 * X)
    assert np.array_equal(dynq.from_onnx(proto, inputs={"s": [3]})(X), 3 * X)


def test_a_value_of_a_float16_input_keeps_the_models_types() -> None:
    proto = model([node("Mul", "x s", "y")], {"x": ("float16", [2, 3]), "s": ("float16", [])}, "y")
    assert np.array_equal(dynq.from_onnx(proto, inputs={"s": 0.5})(X), 0.5 * X)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"inputs": {"rate": 16000}}, "inputs has 'rate', which is no input of the model; its inputs are 'x', 'sr'"),
        ({"shapes": {"z": (1,)}}, "shapes has 'z', which is no input"),
        ({"inputs": {"sr": 0.5}}, "the value of input 'sr' is of dtype float64; expected what int64 holds"),
        ({"inputs": {"sr": [16000]}}, r"the value of input 'sr' has shape \(1,\); the model has \(\)"),
        ({"inputs": {"sr": "16000"}}, "the value of input 'sr'"),
        ({"inputs": {"sr": 1}, "shapes": {"sr": ()}}, "input 'sr' has both a value and a shape"),
        ({"shapes": {"x": (1, 2, 3)}}, r"shapes has \(1, 2, 3\) for input 'x'; the model has \(n, k\)"),
        ({"shapes": {"x": (1, -2)}}, "expected sizes of 0 or more, or None"),
    ],
)
def test_what_does_not_fit_the_model_is_a_value_error_that_names_it(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        dynq.from_onnx(by_rate(), **arguments)
    assert not isinstance(caught.value, dynq.InvalidModelError)


def test_a_shape_that_contradicts_the_models_is_refused() -> None:
    proto = model([node("Neg", "x", "y")], {"x": ("float32", ["n", 3])}, "y")
    with pytest.raises(ValueError, match=r"shapes has \(2, 4\) for input 'x'; the model has \(n, 3\)"):
        dynq.from_onnx(proto, shapes={"x": (2, 4)})


def invoke(*arguments: Any) -> Result:
    return CliRunner(env={"COLUMNS": "120"}).invoke(cli, [str(argument) for argument in arguments])


def test_the_command_line_fixes_values_and_shapes(tmp_path: Path) -> None:
    source, made = tmp_path / "m.onnx", tmp_path / "m.dynq"
    onnx.save(by_rate(), source)
    done = invoke("quantize", source, "-o", made, "--input-value", "sr=8000", "--input-shape", "x=?x3")
    assert done.exit_code == 0, done.output
    fixed = dynq.load(made)
    assert [(i.name, i.shape) for i in fixed.inputs] == [("x", ("n", 3))]
    assert np.array_equal(fixed(X), -X)
    done = invoke("compare", source, made, "--shape", "x=2x3", "--input-value", "sr=8000", "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["outputs"]["y"]["max_error"] == 0


def test_compare_fixes_shapes_of_the_float_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    source, made = tmp_path / "m.onnx", tmp_path / "m.dynq"
    onnx.save(by_width(), source)
    assert invoke("quantize", source, "-o", made, "--input-shape", "x=?x3").exit_code == 0
    done = invoke("compare", source, made, "--shape", "x=2x3", "--input-shape", "x=?x3", "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["outputs"]["y"]["max_error"] == 0


@pytest.mark.parametrize("option", [("--input-value", "sr=fast"), ("--input-shape", "x=axb"), ("--input-value", "q=1")])
def test_wrong_values_on_the_command_line_are_errors_without_a_traceback(
    tmp_path: Path, option: tuple[str, str]
) -> None:
    onnx.save(by_rate(), tmp_path / "m.onnx")
    done = invoke("quantize", tmp_path / "m.onnx", "-o", tmp_path / "m.dynq", *option)
    assert done.exit_code != 0 and not (tmp_path / "m.dynq").exists()
    assert option[1].partition("=")[0] in done.output + str(done.exception)


@pytest.mark.parametrize("inside", [False, True])
def test_a_rank_that_open_sizes_hide_is_refused_with_the_way_to_fix_it(inside: bool) -> None:
    rng = np.random.default_rng(4)
    tensors = {"w": rng.standard_normal((16, 8, 3), np.float32)}
    layer = [node("Squeeze", "x", "s"), node("Conv", "s w", "c", "layer")]
    if inside:  # the input is captured there, under a name that no user knows
        other = helper.make_graph([node("Identity", "x", "d")], "other", [], [value("d", None, None)])
        branch = helper.make_graph(layer, "branch", [], [value("c", None, None)])
        nodes = [node("If", "q", "y", "choice", then_branch=branch, else_branch=other)]
    else:
        nodes = [*layer, node("Identity", "c", "y")]
    proto = model(nodes, {"x": ("float32", ["a", 2, 8, "time"]), "q": ("bool", [])}, "y", tensors)
    with pytest.raises(dynq.UnsupportedModelError) as failed:
        dynq.from_onnx(proto)
    text = str(failed.value)
    assert (
        "Conv of a tensor whose rank is not known; fix it by shapes={'x': ...} or --input-shape x=ax2x8xtime:" in text
    )
    assert "--input-value x" not in text  # values do not change the rank
    x = rng.standard_normal((1, 2, 8, 9), np.float32)
    got = dynq.from_onnx(proto, quantize=False, shapes={"x": x.shape}).run({"x": x, "q": np.array(True)})["y"]
    assert error(got, by_runtime(proto, {"x": x, "q": np.array(True)})[0]) < 1e-5
