"""Each engine gives every row the bits that it gets alone, in two workers that share the file's pages.

.ci/engines.sh installs the engines and runs this.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dynq
from dynq import distributed
from tests.engines.small_model import ROWS, X, write

pandas = pytest.importorskip("pandas")


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("model") / "m.dynq")


def frame() -> Any:
    return pandas.DataFrame({"id": np.arange(ROWS), "x": [row.tolist() for row in X]})


def check(found: Any, path: Path) -> None:
    """``found`` has columns id and y."""
    order = np.argsort(np.asarray(found["id"]))
    got = np.stack([np.asarray(row, np.float32) for row in found["y"]])[order]
    np.testing.assert_array_equal(got, dynq.load(path)(X))


def test_ray(path: Path) -> None:
    ray = pytest.importorskip("ray")
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    try:
        data = ray.data.from_items([{"id": i, "x": row} for i, row in enumerate(X)]).repartition(4)
        found = distributed.map_batches(data, path, batch_size=64, workers=2).to_pandas()
        check(found, path)

        @ray.remote(num_cpus=1)
        def threads() -> tuple[int, str]:
            from dynq.threads import num_threads_from

            return dynq.get_num_threads(), num_threads_from()

        assert ray.get(threads.remote()) == (1, "OMP_NUM_THREADS")
        again = ray.get(ray.remote(lambda model: model.nbytes).remote(dynq.load(path)))
        assert again == path.stat().st_size
    finally:
        ray.shutdown()


def test_dask(path: Path) -> None:
    pytest.importorskip("dask.dataframe")
    import dask
    from dask import dataframe
    from dask.distributed import Client

    with pytest.raises(TypeError, match=r"column .x. is text.*convert-string"):
        distributed.map_partitions(dataframe.from_pandas(frame(), npartitions=1), path)
    text = dask.config.set({"dataframe.convert-string": False})
    with text, Client(n_workers=2, threads_per_worker=1, dashboard_address=None) as client:
        data = dataframe.from_pandas(frame(), npartitions=4)
        result = distributed.map_partitions(data, path)
        assert list(result.columns) == ["id", "x", "y"]
        check(result.compute(), path)
        assert set(client.run(dynq.get_num_threads).values()) == {1}


def test_spark(path: Path) -> None:
    sql = pytest.importorskip("pyspark.sql")
    spark = sql.SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false").getOrCreate()
    try:
        data = spark.createDataFrame(frame(), "id long, x array<float>").repartition(4)
        found = distributed.map_in_pandas(data, path, "id long, x array<float>, y array<float>")
        check(found.toPandas(), path)
        function = distributed.predict_batch_udf(
            spark, path, return_type="array<float>", input_tensor_shapes=[[16]], batch_size=50
        )
        check(data.withColumn("y", function("x")).toPandas(), path)
        g = dynq.Graph()
        g.build({"difference": g.input("a", ("batch",)) - g.input("b", ("batch",))}).save(path.with_name("two.dynq"))
        function = distributed.predict_batch_udf(spark, path.with_name("two.dynq"), return_type="float")
        two = spark.createDataFrame([(3.0, 1.0), (2.0, 4.0)], "p float, q float")
        assert [row.d for row in two.select(function("p", "q").alias("d")).collect()] == [2.0, -2.0]
    finally:
        spark.stop()


def test_datasets(path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    data = datasets.Dataset.from_pandas(frame())
    found = distributed.map_dataset(data, path, batch_size=50, num_proc=2)
    check(found.to_pandas(), path)


def test_processes_share_the_pages_of_the_file(path: Path) -> None:
    """What /proc/self/smaps says of the mapping: its pages are shared, not private copies."""
    model = dynq.load(path)
    model(X)
    text = Path("/proc/self/smaps").read_text()
    lines = text[text.index(os.fspath(path)) :].splitlines()
    private = [line for line in lines if line.startswith("Private_Dirty:")]
    assert private[0].split()[1] == "0"
