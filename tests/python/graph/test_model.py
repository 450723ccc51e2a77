"""dynq.Model: inputs and outputs, errors, threads, copies."""

import copy
import pickle
import threading
from collections import UserDict
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from rich.console import Console

import dynq
from dynq.graph import Graph

RNG = np.random.default_rng(11)
W1, B1 = RNG.standard_normal((24, 8), np.float32), RNG.standard_normal(24, np.float32)
W2 = RNG.standard_normal((8, 24), np.float32)
TABLE = RNG.standard_normal((50, 8), np.float32)
X = RNG.standard_normal((3, 8), np.float32)
IDS = np.array([4, 0, -1])


@pytest.fixture(scope="module")
def model() -> dynq.Model:
    g = Graph()
    x, ids = g.input("x", ("batch", 8)), g.input("ids", ("batch",), "int64")
    h = g.linear(x, W1, B1, activation="gelu", name="fc1")
    return g.build({"y": g.linear(h, W2, residual=g.embedding(TABLE, ids), name="fc2")})


def test_a_model_gives_the_bits_of_the_functions(model: dynq.Model, isa: str) -> None:
    scale = np.abs(TABLE).max(axis=1, keepdims=True) / np.float32(127)
    rows = (np.rint(TABLE / scale) * scale)[IDS]
    h = dynq.linear(X, dynq.quantize_weight(W1), B1, activation="gelu")
    np.testing.assert_array_equal(model(X, IDS), dynq.linear(h, dynq.quantize_weight(W2), residual=rows))


def test_inputs_and_outputs_are_described(model: dynq.Model) -> None:
    assert [(v.name, v.dtype, v.shape) for v in model.inputs] == [
        ("x", "float32", ("batch", 8)), ("ids", "int64", ("batch",))
    ]  # fmt: skip
    assert [(v.name, v.dtype, v.shape) for v in model.outputs] == [("y", "float32", ("batch", 8))]
    assert [op for _, op in model.nodes] == ["dynq.Linear", "dynq.Embedding", "dynq.Linear"]
    assert repr(model).startswith("Model(x, ids -> y; 3 nodes")


def test_by_name_and_by_place_are_the_same(model: dynq.Model) -> None:
    np.testing.assert_array_equal(model.run({"ids": IDS, "x": X})["y"], model(X, IDS))


def test_several_outputs_are_a_tuple() -> None:
    g = Graph()
    x = g.input("x", (2,))
    a, b = g.build(g.reshape(x, (2, 1)), g.reshape(x, (1, 2)))(np.float32([1, 2]))
    assert a.shape == (2, 1) and b.shape == (1, 2)


def test_outputs_of_a_run_stay_when_the_next_one_comes(model: dynq.Model) -> None:
    first = model(X, IDS)
    kept = first.copy()
    model(X + 1, IDS)
    np.testing.assert_array_equal(first, kept)


@pytest.mark.parametrize("shape", [(1, 8), (0, 8), (17, 8)])
def test_each_shape_is_planned_anew(model: dynq.Model, shape: tuple[int, int]) -> None:
    x, ids = np.ones(shape, np.float32), np.zeros(shape[0], np.int64)
    one = model(np.ones((1, 8), np.float32), np.zeros(1, np.int64))
    np.testing.assert_array_equal(model(x, ids), np.repeat(one, shape[0], axis=0))


def test_inputs_may_be_of_other_floats_and_have_any_strides(model: dynq.Model) -> None:
    half = X.astype(np.float16)
    expected = model(half.astype(np.float32), IDS)
    np.testing.assert_array_equal(model(half, IDS), expected)
    b16 = X.astype(ml_dtypes.bfloat16)
    np.testing.assert_array_equal(model(b16, IDS), model(b16.astype(np.float32), IDS))
    np.testing.assert_array_equal(model(np.asfortranarray(half.astype(">f4")), IDS), expected)
    np.testing.assert_array_equal(model(half, IDS.astype(np.int32)), expected)
    np.testing.assert_array_equal(model(half, IDS.tolist()), expected)
    np.testing.assert_array_equal(model(half, np.repeat(IDS, 2)[::2]), expected)


@pytest.mark.parametrize(
    ("inputs", "error", "message"),
    [
        ({"x": X}, ValueError, "input 'ids' is missing"),
        ({"x": X, "ids": IDS, "z": X}, ValueError, "no input is called z; expected x, ids"),
        ([X, IDS], TypeError, "inputs is of type list; expected a dict"),
        ({"x": X.astype(np.float64), "ids": IDS}, TypeError, "input 'x' has dtype float64; expected float32"),
        ({"x": X, "ids": IDS.astype(np.float32)}, TypeError, "input 'ids' has dtype float32; expected int64"),
        ({"x": X, "ids": [0.5, 1, 2]}, TypeError, "input 'ids' has dtype float64; expected int64"),
        ({"x": X, "ids": [["a"], [1, 2]]}, ValueError, "input 'ids' is not an array"),
        ({"x": X[0], "ids": IDS}, ValueError, r"input 'x' has shape \(8,\); expected \(batch, 8\)"),
        ({"x": X[:, :5], "ids": IDS}, ValueError, r"input 'x' .*\(3, 5\).*\(batch, 8\)"),
        ({"x": X, "ids": IDS[:2]}, ValueError, "'batch' is 2"),
        ({"x": X, "ids": IDS + 50}, ValueError, "index 54"),
    ],
)
def test_wrong_inputs_are_named(model: dynq.Model, inputs: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        model.run(inputs)


def test_the_number_of_inputs_is_checked(model: dynq.Model) -> None:
    with pytest.raises(ValueError, match="input 'ids' is missing; the model takes x, ids"):
        model(X)
    with pytest.raises(ValueError, match="inputs 'x', 'ids' are missing"):
        model()
    with pytest.raises(ValueError, match="3 inputs came; expected 2: x, ids"):
        model(X, IDS, X)


def test_a_call_takes_inputs_by_name_and_as_mappings(model: dynq.Model) -> None:
    expected = model(X, IDS)
    np.testing.assert_array_equal(model(ids=IDS, x=X), expected)
    np.testing.assert_array_equal(model(X, ids=IDS), expected)
    np.testing.assert_array_equal(model({"ids": IDS, "x": X}), expected)
    np.testing.assert_array_equal(model({"ids": IDS}, x=X), expected)
    np.testing.assert_array_equal(model(UserDict(ids=IDS, x=X)), expected)  # a BatchEncoding is one
    np.testing.assert_array_equal(model.run(UserDict(ids=IDS, x=X))["y"], expected)
    with pytest.raises(TypeError, match="input 'x' came twice"):
        model(X, x=X, ids=IDS)
    with pytest.raises(ValueError, match="no input is called z; expected x, ids"):
        model(X, IDS, z=X)


def test_an_input_may_be_called_self() -> None:
    g = dynq.Graph()
    x = g.input("self", ("batch", 3))
    np.testing.assert_array_equal(g.build(g.relu(x))(self=-np.ones((1, 3), np.float32)), np.zeros((1, 3)))


def test_a_nan_is_passed_on_or_raised(model: dynq.Model) -> None:
    bad = X.copy()
    bad[1, 2] = np.nan
    y = model(bad, IDS)
    assert np.isnan(y[1]).all() and np.isfinite(y[[0, 2]]).all()
    with pytest.raises(dynq.NonFiniteError):
        model.run({"x": bad, "ids": IDS}, nonfinite="raise")
    with pytest.raises(ValueError, match="nonfinite"):
        model.run({"x": X, "ids": IDS}, nonfinite="no")


def test_saved_loaded_pickled_and_copied_models_are_the_same(model: dynq.Model, tmp_path: Path) -> None:
    model.save(tmp_path / "m.dynq")
    expected = model(X, IDS)
    loaded = dynq.load(tmp_path / "m.dynq")
    for other in (loaded, pickle.loads(pickle.dumps(loaded)), copy.deepcopy(model), copy.copy(model)):
        np.testing.assert_array_equal(other(X, IDS), expected)
        assert other.report() == model.report() and other.inputs == model.inputs and other.outputs == model.outputs
    loaded.save(tmp_path / "m.dynq")  # over the file that is mapped
    np.testing.assert_array_equal(loaded(X, IDS), expected)
    assert (tmp_path / "m.dynq").read_bytes() == pickle.loads(pickle.dumps(model))._image.tobytes()
    assert [path.name for path in tmp_path.iterdir()] == ["m.dynq"]


def test_a_file_that_is_none_is_refused(tmp_path: Path, model: dynq.Model) -> None:
    with pytest.raises(FileNotFoundError):
        dynq.load(tmp_path / "none.dynq")
    model.save(tmp_path / "m.dynq")
    data = (tmp_path / "m.dynq").read_bytes()
    (tmp_path / "short.dynq").write_bytes(data[:-64])
    with pytest.raises(dynq.FileFormatError):
        dynq.load(tmp_path / "short.dynq")
    with pytest.raises(TypeError, match=r"dynq\.load"):
        dynq.Model()


def test_one_model_runs_in_many_threads(model: dynq.Model) -> None:
    expected = [model(X + i, IDS) for i in range(8)]
    failures: list[Any] = []

    def work(i: int) -> None:
        for _ in range(50):
            if not np.array_equal(model(X + i, IDS), expected[i]):
                failures.append(i)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_any_tensor_can_be_looked_at(model: dynq.Model) -> None:
    tensors = model.tensors({"x": X, "ids": IDS})
    h = dynq.linear(X, dynq.quantize_weight(W1), B1, activation="gelu")
    np.testing.assert_array_equal(tensors["fc1"], h)
    assert set(model.tensors({"x": X, "ids": IDS}, ["fc1.bias"])) == {"fc1.bias"}
    with pytest.raises(ValueError, match="nope"):
        model.tensors({"x": X, "ids": IDS}, ["nope"])


def test_each_node_is_timed(model: dynq.Model) -> None:
    times = model.profile({"x": X, "ids": IDS}, repeat=3)
    assert [(t.name, t.op) for t in times] == list(model.nodes)
    assert all(0 <= t.seconds < 1 for t in times)


def test_the_report_tells_what_each_node_became() -> None:
    g = Graph()
    x, ids = g.input("x", ("batch", 8)), g.input("ids", ("batch",), "int64")
    h = g.linear(x, W1, B1, activation="gelu", name="layer.0")
    y = g.linear(h, W2, residual=g.embedding(TABLE, ids, name="table"), name="layer.1")
    report = g.build(y).report()
    assert [(row.node, row.became, row.bytes_before) for row in report.rows] == [
        ("layer.0", "int8 linear", W1.nbytes), ("table", "int8 embedding", TABLE.nbytes),
        ("layer.1", "int8 linear", W2.nbytes),
    ]  # fmt: skip
    assert report.rows[1].bytes_after == 50 * 8 + 50 * 4
    assert not report.kept_float
    console = Console(width=120)
    with console.capture() as capture:
        console.print(report)
    assert "int8 embedding" in capture.get() and "int8 embedding" in str(report)
