"""Measure each engine of dynq.distributed that is installed: rows a second of two workers, with moving the rows.

python -m bench.engines [--rows 20000]
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from bench.scaling import write_model
from dynq import distributed

WORKERS = 2
BATCH = 512


def rate(rows: int, run: Callable[[], Any]) -> float:
    """Return rows a second of the second of two runs: in the first, most engines start workers."""
    run()
    start = time.perf_counter()
    run()
    return rows / (time.perf_counter() - start)


def plain(x: Any, path: str) -> float:
    """One process, all threads, and no engine."""
    mapped = distributed.MapBatches(path)
    return rate(len(x), lambda: [mapped({"x": x[i : i + BATCH]}) for i in range(0, len(x), BATCH)])


def ray(x: Any, path: str) -> float:
    import ray

    ray.init(num_cpus=WORKERS, include_dashboard=False, log_to_driver=False)
    try:
        data = ray.data.from_numpy(np.array_split(x, 4 * WORKERS)).rename_columns({"data": "x"}).materialize()
        options: Any = {"batch_size": BATCH, "workers": WORKERS}
        return rate(len(x), lambda: distributed.map_batches(data, path, **options).materialize())
    finally:
        ray.shutdown()


def dask(x: Any, path: str) -> float:
    import dask
    import pandas
    from dask import dataframe
    from dask.distributed import Client, wait

    text = dask.config.set({"dataframe.convert-string": False})
    with text, Client(n_workers=WORKERS, threads_per_worker=1, dashboard_address=None) as client:
        frame = pandas.DataFrame({"x": list(x)})
        data = client.persist(dataframe.from_pandas(frame, npartitions=4 * WORKERS))
        wait(data)

        return rate(len(x), lambda: distributed.map_partitions(data, path).map_partitions(len).compute())


def spark(x: Any, path: str) -> float:
    import pandas
    from pyspark.sql import SparkSession

    session = SparkSession.builder.master(f"local[{WORKERS}]").config("spark.ui.enabled", "false").getOrCreate()
    session.sparkContext.setLogLevel("ERROR")
    try:
        frame = pandas.DataFrame({"x": [row.tolist() for row in x]})
        data = session.createDataFrame(frame, "x array<float>").repartition(4 * WORKERS).cache()
        data.count()

        def run() -> None:
            found = distributed.map_in_pandas(data, path, "x array<float>, y array<float>")
            found.write.format("noop").mode("overwrite").save()

        return rate(len(x), run)
    finally:
        session.stop()


def datasets(x: Any, path: str) -> float:
    from datasets import Dataset, disable_caching, disable_progress_bars

    disable_caching()
    disable_progress_bars()
    data = Dataset.from_dict({"x": x}).with_format("numpy")
    return rate(len(x), lambda: distributed.map_dataset(data, path, batch_size=BATCH, num_proc=WORKERS))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=20000)
    rows = parser.parse_args().rows
    x = np.random.default_rng(0).standard_normal((rows, 384), np.float32)
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "m.dynq")
        write_model(Path(path))
        for measure in (plain, ray, dask, spark, datasets, plain):
            try:
                print(f"{measure.__name__:10} {measure(x, path):8.0f} rows/s", flush=True)
            except ImportError as error:
                print(f"{measure.__name__:10} is not installed ({error})", flush=True)


if __name__ == "__main__":
    main()
