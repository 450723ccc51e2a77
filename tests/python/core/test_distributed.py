"""Batches of columns, without an engine: every row gets the bits that it gets alone."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections import UserDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dynq
from dynq.distributed import MapBatches, map_dataset

RNG = np.random.default_rng(7)
W = RNG.standard_normal((16, 8), np.float32)
TABLE = RNG.standard_normal((30, 8), np.float32)
LENGTHS = [3, 9, 1, 3, 9, 9, 2, 3, 5]
IDS = [RNG.integers(1, 30, n) for n in LENGTHS]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    g = dynq.Graph()
    x = g.input("x", ("batch", 8))
    g.build({"y": g.linear(x, W), "total": g.reduce_sum(x, [1], keepdims=False)}).save(folder / "rows.dynq")
    g = dynq.Graph()
    ids, mask = (g.input(name, ("batch", "length"), "int64") for name in ("ids", "mask"))
    tokens = g.linear(g.embedding(TABLE, ids), W, activation="gelu")
    weights = g.unsqueeze(g.cast(mask, "float32"), [2])
    g.build({"tokens": tokens, "pooled": g.reduce_sum(g.mul(tokens, weights), [1], keepdims=False)}).save(
        folder / "texts.dynq"
    )
    return folder


def alone(folder: Path) -> list[tuple[Any, Any]]:
    model = dynq.load(folder / "texts.dynq")
    return [tuple(part[0] for part in model(ids[None], np.ones_like(ids)[None])) for ids in IDS]


def test_rows_of_one_shape_go_in_runs(folder: Path) -> None:
    x = RNG.standard_normal((10, 8), np.float32)
    model = dynq.load(folder / "rows.dynq")
    batch = {"x": x, "id": np.arange(10)}
    for most in (1, 3, 10, 64):
        found = MapBatches(folder / "rows.dynq", batch_rows=most)(batch)
        assert list(found) == ["x", "id", "y", "total"] and found["id"] is batch["id"]
        np.testing.assert_array_equal(found["y"], model(x)[0])
        np.testing.assert_array_equal(found["total"], model(x)[1])
    assert list(MapBatches(folder / "rows.dynq", keep=False)(batch)) == ["y", "total"]


def test_columns_become_inputs_and_outputs_columns(folder: Path) -> None:
    x = RNG.standard_normal((5, 8))
    expected = dynq.load(folder / "rows.dynq")(x.astype(np.float32))[0]
    options = {"outputs": {"y": "scores"}, "keep": False}
    found = MapBatches(folder / "rows.dynq", columns={"x": "features"}, **options)({"features": x.tolist()})
    assert list(found) == ["scores", "total"]
    np.testing.assert_array_equal(found["scores"], expected)
    single = {f"f{i}": x[:, i] for i in range(8)}
    found = MapBatches(folder / "rows.dynq", columns={"x": list(single)}, **options)(UserDict(single))
    np.testing.assert_array_equal(found["scores"], expected)


@pytest.mark.parametrize("most", [1, 2, 64])
@pytest.mark.parametrize("pad", [None, 0, {"ids": 0, "mask": 0}])
def test_rows_of_several_lengths_get_the_bits_that_they_get_alone(folder: Path, most: int, pad: Any) -> None:
    mapped = MapBatches(folder / "texts.dynq", batch_by_length=True, pad=pad, batch_rows=most, keep=False)
    found = mapped({"ids": [ids.tolist() for ids in IDS], "mask": [np.ones_like(ids) for ids in IDS]})
    for i, (tokens, pooled) in enumerate(alone(folder)):
        np.testing.assert_array_equal(found["tokens"][i], tokens)
        np.testing.assert_array_equal(found["pooled"][i], pooled)
    assert found["pooled"].shape == (9, 16) and found["tokens"].dtype == object


def test_rows_that_a_tokenizer_padded_are_cut_by_their_mask(folder: Path) -> None:
    ids, mask = np.zeros((9, 12), np.int64), np.zeros((9, 12), np.int64)
    for i, row in enumerate(IDS):
        ids[i, : len(row)], mask[i, : len(row)] = row, 1
    found = MapBatches(folder / "texts.dynq", batch_by_length="mask", pad=0)({"ids": ids, "mask": mask})
    for i, (tokens, pooled) in enumerate(alone(folder)):
        np.testing.assert_array_equal(found["tokens"][i], tokens)
        np.testing.assert_array_equal(found["pooled"][i], pooled)


def test_outputs_along_the_length_are_named_or_declared(folder: Path) -> None:
    batch = {"ids": IDS, "mask": [np.ones_like(ids) for ids in IDS]}
    found = MapBatches(folder / "texts.dynq", batch_by_length=True, pad=0, along=[])(batch)
    assert {row.shape for row in found["tokens"]} == {(9, 16)}


def test_frames_of_pandas_come_back_as_frames(folder: Path) -> None:
    pandas = pytest.importorskip("pandas")
    x = RNG.standard_normal((4, 8))
    frame = pandas.DataFrame({"id": range(4), "x": list(x)}, index=[3, 1, 2, 0])
    found = MapBatches(folder / "rows.dynq")(frame)
    assert list(found.columns) == ["id", "x", "y", "total"] and list(found.index) == [3, 1, 2, 0]
    expected = dynq.load(folder / "rows.dynq")(x.astype(np.float32))
    np.testing.assert_array_equal(np.stack(found["y"]), expected[0])
    np.testing.assert_array_equal(found["total"].to_numpy(), expected[1])


def test_an_empty_batch_has_empty_columns(folder: Path) -> None:
    found = MapBatches(folder / "rows.dynq")({"x": []})
    assert len(found["y"]) == len(found["total"]) == 0 and found["total"].dtype == np.float32


def test_the_callable_pickles_as_the_name_of_its_file_and_opens_it_once(folder: Path) -> None:
    mapped = MapBatches(folder / "rows.dynq")
    x = np.ones((2, 8), np.float32)
    expected = mapped({"x": x})["y"]
    data = pickle.dumps(mapped)
    assert len(data) < 1000
    others = [pickle.loads(data) for _ in range(2)]
    for other in others:
        np.testing.assert_array_equal(other({"x": x})["y"], expected)
    assert others[0].runner()._model is others[1].runner()._model is mapped.runner()._model
    with_model = pickle.loads(pickle.dumps(MapBatches(dynq.load(folder / "rows.dynq"))))
    np.testing.assert_array_equal(with_model({"x": x})["y"], expected)


@pytest.mark.parametrize(
    ("options", "batch", "error", "message"),
    [
        ({}, {"y": np.ones((2, 8))}, ValueError, "column 'x' of input 'x' is missing; the batch has y"),
        ({}, {"x": [[1.0] * 8, [1.0] * 7]}, ValueError, "have different shapes; batch_by_length=True"),
        ({"batch_by_length": True}, {"x": [[1.0] * 8, 1.0]}, ValueError, "row 1 of 'x' is a number"),
        ({}, {"x": [[1.0, None]]}, TypeError, "column 'x' holds .*None.*; expected numbers"),
        ({}, {"x": ["abc"]}, TypeError, "column 'x' holds 'abc'"),
        ({}, [1, 2], TypeError, "a batch is of type list; expected a mapping"),
        ({"columns": {"z": "x"}}, {}, ValueError, "columns has 'z'; expected names among x"),
        ({"outputs": {"z": "x"}}, {}, ValueError, "outputs has 'z'; expected names among y, total"),
        ({"pad": {"z": 0}}, {}, ValueError, "pad has 'z'"),
        ({"batch_by_length": "z"}, {}, ValueError, "batch_by_length has 'z'"),
        ({"batch_rows": 0}, {}, ValueError, "batch_rows is 0"),
    ],
)
def test_wrong_batches_name_the_column(
    folder: Path, options: dict[str, Any], batch: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        MapBatches(folder / "rows.dynq", **options)(batch)


def test_wrong_rows_of_texts_name_the_column(folder: Path) -> None:
    mapped = MapBatches(folder / "texts.dynq", batch_by_length=True, pad={"ids": 0})
    ones = [np.ones_like(ids) for ids in IDS]
    for batch, message in (
        ({"ids": IDS, "mask": ones}, "pad has no number for 'mask'"),
        ({"ids": IDS, "mask": ones[:3]}, "different numbers of rows"),
        ({"ids": IDS, "mask": ones[::-1]}, "other lengths than those of other columns"),
        ({"ids": [[2**70]], "mask": [[1]]}, "column 'ids' holds"),
        ({"ids": [[0.5]], "mask": [[1]]}, "column 'ids' has dtype float64; expected int64"),
    ):
        with pytest.raises((ValueError, TypeError), match=message):
            mapped(batch)


def test_a_model_with_a_fixed_batch_is_refused() -> None:
    g = dynq.Graph()
    x = g.input("x", (1, 8))
    with pytest.raises(ValueError, match="its first size has to be open"):
        MapBatches(g.build(g.linear(x, W)))({"x": np.ones((1, 8), np.float32)})


class FakeDataset:
    """What datasets.Dataset does with the function that it is given, in one process."""

    def map(self, function: Any, *, batched: bool, batch_size: int, num_proc: int | None) -> Any:
        assert batched
        parts = [function({"x": [[float(i)] * 8]}) for i in range(batch_size)]
        return num_proc, parts


def test_processes_of_datasets_share_the_threads(folder: Path) -> None:
    before = dynq.get_num_threads()
    try:
        dynq.set_num_threads(8)
        workers, parts = map_dataset(FakeDataset(), folder / "rows.dynq", batch_size=2, num_proc=4)
        assert workers == 4 and dynq.get_num_threads() == 2
        assert [part["total"].tolist() for part in parts] == [[0.0], [8.0]]
    finally:
        dynq.set_num_threads(before)


def test_dynq_alone_imports_no_engine() -> None:
    engines = {"ray", "dask", "pyspark", "pandas", "datasets"}
    code = f"import sys, dynq.distributed; assert not {engines} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
