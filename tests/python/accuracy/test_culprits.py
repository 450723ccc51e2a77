"""dynq.accuracy.find_culprits: it finds the layers that cost the accuracy, with few evaluations, and says what went
wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from click.testing import CliRunner

import dynq
from dynq.accuracy import Culprits, MetricError, find_culprits
from dynq.cli import cli
from tests.python.references.onnx_models import two_layers

F = np.float32


def weight(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape, np.float32) / F(np.sqrt(shape[-1]))


def speaker(layers: int = 3) -> tuple[dynq.Graph, np.ndarray]:
    """Layers of an LSTM and a linear one on powers of 40 bands whose first is 10 000 times the others, which tell
    all: what mel power does to Resemblyzer.
    """
    rng = np.random.default_rng(0)
    g = dynq.Graph("speaker")
    y: Any = g.input("mels", ("batch", 12, 40))
    for layer in range(layers):
        w, r = weight(rng, 1, 4 * 32, 40 if layer == 0 else 32), weight(rng, 1, 4 * 32, 32)
        if layer == 0:
            w[:, :, 0] *= 1e-5
        y, h, _ = g.lstm(y, w, r, batch_first=True, name=f"lstm{layer}")
        y = y[:, :, 0]
    g.output(g.linear(h[:, 0], weight(rng, 16, 32), name="linear"), "embedding")
    mels = np.exp(rng.standard_normal((6, 12, 40), np.float32))
    mels[:, :, 0] *= 10000
    return g, mels


def chain(wild: tuple[int, ...], layers: int = 8) -> tuple[dynq.Graph, np.ndarray]:
    """Linear layers of one width; those of ``wild`` read rows with one huge number that they ignore."""
    rng = np.random.default_rng(1)
    g = dynq.Graph("chain")
    x = g.input("x", ("n", 32))
    y: Any = x
    for i in range(layers):
        w = weight(rng, 32, 32)
        if i in wild:
            huge = np.zeros(32, np.float32)
            huge[3], w[:, 3] = 3000, 0
            y = y + huge
        y = g.node("Sin", [g.linear(y, w, name=f"layer{i}")])
    g.output(y, "y")
    return g, rng.standard_normal((40, 32), np.float32)


def test_the_input_projection_of_an_lstm_on_a_huge_range_is_found() -> None:
    graph, mels = speaker()
    found = find_culprits(graph, mels, default="int8", options="float")
    assert found.keep_float == ["lstm0.projection"] and found.int16 == []
    assert found.base_score < 10 < 20 <= found.score and found.reached
    assert len(found.trials) <= 2 + 2 * 3  # 7 layers: 3 halvings
    assert 0 < found.cost < 0.3
    assert graph.build(default="int8", keep_float=found.keep_float).report().kept_float[0].node == "lstm0.projection"


def test_a_metric_of_the_users_is_restored_nine_tenths_of_the_way() -> None:
    graph, mels = speaker()
    exact = graph.build(quantize=False)(mels)
    seen: list[dynq.Model] = []

    def minus_error(model: dynq.Model) -> float:
        seen.append(model)
        return -float(np.abs(model(mels) - exact).max())

    found = find_culprits(graph, metric=minus_error, default="int8", options="float")
    assert found.keep_float == ["lstm0.projection"] and found.metric == "minus_error" and found.float_score == 0
    assert found.target == pytest.approx(0.1 * found.base_score)
    assert len(seen) == len(found.trials) and found.trials[0].score == found.base_score
    assert minus_error(graph.build(default="int8", keep_float=found.keep_float)) == found.score


@pytest.mark.parametrize("name", ["SQNR", "SQNR_of_my_data", "loss"])
def test_what_a_metric_is_called_changes_nothing_but_its_name(name: str) -> None:
    graph, mels = speaker()
    exact = graph.build(quantize=False)(mels)

    def metric(model: dynq.Model) -> float:
        return 100 - float(np.abs(model(mels) - exact).max())

    metric.__name__ = name
    found = find_culprits(graph, metric=metric, default="int8", options="float")
    assert found.metric == name and found.keep_float == ["lstm0.projection"]
    assert found.target == pytest.approx(found.base_score + 0.9 * (100 - found.base_score))


@pytest.mark.parametrize("wild", [(0,), (5,), (7,), (2, 6), (1, 2, 3)])
def test_culprits_that_hide_each_other_are_found_and_nothing_else(wild: tuple[int, ...]) -> None:
    graph, x = chain(wild)
    found = find_culprits(graph, x, default="int8", options="float")
    assert sorted(found.keep_float) == [f"layer{i}" for i in wild]
    assert found.reached and len(found.trials) <= 2 + 8 * len(wild) + len(wild) - 1
    model = graph.build(default="int8", keep_float=found.keep_float)
    assert find_culprits(lambda **o: model if not o else graph.build(**o), x).keep_float == []


def test_sixteen_bits_are_taken_where_they_restore_as_much() -> None:
    graph, x = chain((2, 6))
    found = find_culprits(graph, x, default="int8")
    assert sorted(found.int16) == ["layer2", "layer6"] and found.keep_float == [] and found.reached
    model = graph.build(default="int8", int16=found.int16, keep_float=found.keep_float)
    assert "16-bit" in "".join(row.became for row in model.report().rows)
    only = find_culprits(graph, x, default="int8", options=["int16"])
    assert sorted(only.int16) == ["layer2", "layer6"]
    # the error of these weights is what costs: more bits for the input do not help
    rng = np.random.default_rng(3)
    g = dynq.Graph("weights")
    w = weight(rng, 32, 32)
    w[:, 5] = 300
    y = g.linear(
        g.node("Sin", [g.input("x", ("n", 32)) * np.array([0 if i == 5 else 1 for i in range(32)], F)]), w, name="a"
    )
    g.output(g.linear(g.node("Sin", [y]), weight(rng, 16, 32), name="b"), "y")
    found = find_culprits(g, x, default="int8")
    assert found.keep_float == ["a"] and found.int16 == []


def test_what_is_good_enough_needs_nothing() -> None:
    graph, x = chain(())
    found = find_culprits(graph, x, default="int8")
    assert (found.keep_float, found.int16, found.cost) == ([], [], 0) and found.reached and len(found.trials) == 2
    assert "is reached as it is" in str(found)


def test_the_search_begins_with_what_the_options_keep() -> None:
    graph, x = chain((2, 6))
    found = find_culprits(graph, x, default="int8", keep_float=["layer2"], options="float")
    assert found.keep_float == ["layer6"]


def test_a_search_that_runs_out_of_evaluations_says_so() -> None:
    graph, x = chain((2, 6))
    found = find_culprits(graph, x, default="int8", options="float", max_evaluations=9)
    assert not found.reached and found.keep_float in (["layer2"], ["layer6"]) and len(found.trials) == 9
    assert "not reached" in str(found)


def raises(model: dynq.Model) -> float:
    raise KeyError("label 7")


@pytest.mark.parametrize(
    ("metric", "message"),
    [
        (raises, "the metric raised KeyError on the quantized model: 'label 7'"),
        (lambda model: float("nan"), "the metric returned nan for the quantized model; expected a finite number"),
        (lambda model: "good", "the metric returned a str for the quantized model; expected a number"),
        (lambda model: np.ones(3), "the metric returned a ndarray for the quantized model; expected a number"),
    ],
)
def test_a_metric_that_fails_is_told_with_its_error(metric: Any, message: str) -> None:
    graph, x = chain((2,))
    with pytest.raises(MetricError) as caught:
        find_culprits(graph, x, metric=metric, default="int8")
    assert message in str(caught.value) and isinstance(caught.value, dynq.Error)
    if metric is raises:
        assert isinstance(caught.value.__cause__, KeyError)


def test_a_metric_that_fails_on_one_model_names_its_layers() -> None:
    graph, x = chain((2,))
    calls = iter([0.0, 1.0])
    with pytest.raises(MetricError, match=r"StopIteration on the model with layer0, layer1 and 2 more float"):
        find_culprits(graph, x, metric=lambda model: next(calls), default="int8")


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"options": "int4"}, ValueError, "options is 'int4'; expected 'int16', 'float' or both"),
        ({"options": ()}, ValueError, "options is"),
        ({"metric": 3}, TypeError, "metric is of type int"),
        ({"max_evaluations": 1}, ValueError, "max_evaluations is 1"),
        ({"target": 500}, ValueError, "target is 500; the float model itself reaches 200"),
        ({"target": float("nan")}, ValueError, "target is nan; expected a finite number"),
        ({"samples": []}, ValueError, "samples is empty"),
        ({"quantize": False}, ValueError, "quantize is False"),
        ({"keep_float": ["layer*"]}, ValueError, "chain has no quantized layer"),
        ({"keep_float": ["other"]}, ValueError, "keep_float has 'other'"),
    ],
)
def test_wrong_arguments_are_refused(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    graph, x = chain((2,))
    with pytest.raises(error, match=message):
        find_culprits(graph, **{"samples": x, "first_layer": "int8", **arguments})


def test_a_pair_of_models_cannot_be_searched() -> None:
    graph, x = chain((2,))
    with pytest.raises(TypeError, match="source is a tuple"):
        find_culprits((graph.build(quantize=False), graph.build()), x)


def test_a_result_prints_and_goes_to_json() -> None:
    graph, x = chain((2,))
    found = find_culprits(graph, x, default="int8")
    assert isinstance(found, Culprits) and "int16=['layer2']" in str(found) and "is reached" in str(found)
    facts = json.loads(found.to_json())
    assert facts["int16"] == ["layer2"] and facts["reached"] is True
    assert facts["trials"][0] == {
        "keep_float": [], "int16": [], "score": found.base_score, "what": "the quantized model"
    }  # fmt: skip


def test_the_command_finds_them(tmp_path: Path) -> None:
    source = two_layers()
    onnx.save(source, tmp_path / "m.onnx")
    x = np.random.default_rng(0).standard_normal((30, 64)).astype(np.float32)
    x[:, 5] = 2000
    np.savez(tmp_path / "x.npz", x=x)
    arguments = ["analyze", str(tmp_path / "m.onnx"), "--samples", str(tmp_path / "x.npz"), "--culprits"]
    done = CliRunner(env={"COLUMNS": "100"}).invoke(cli, [*arguments, "--target", "45"])
    assert done.exit_code == 0, done.output
    assert "tried" in done.output and "The target of 45 is reached" in done.output
    facts = json.loads(CliRunner().invoke(cli, [*arguments, "--target", "45", "--json"]).stdout)
    assert facts["culprits"]["reached"] and facts["rows"][0]["name"] == "first"
    done = CliRunner().invoke(cli, [*arguments, "--target", "900"])
    assert isinstance(done.exception, dynq.Error) and "target is 900" in str(done.exception)


def test_an_error_that_is_spread_over_many_layers_is_told_by_their_harm() -> None:
    graph, x = chain((), layers=16)
    base = find_culprits(graph, x, default="int8", target=1.0).base_score
    found = find_culprits(graph, x, default="int8", options="float", target=base + 8)
    assert found.reached and 8 <= len(found.keep_float) <= 14  # 8 dB are 84 % of the noise
    assert len(found.trials) < 48
    fewer = found.keep_float[1:]
    assert find_culprits(graph, x, default="int8", keep_float=fewer, target=1.0).base_score < base + 8
